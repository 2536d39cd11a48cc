use std::path::Path;

use super::*;
use crate::control::swaps::PoolSwaps;
use crate::control::swaps::{RunningSwap, SwapId};

const DAY: Duration = Duration::from_secs(86_400);

fn generation(active: &str) -> Generation {
    let text = format!(
        "[listeners.http]\nbind = \"127.0.0.1:0\"\n[[routes]]\npool = \"shop\"\n\
         [pools.shop]\nactive = \"{active}\"\n\
         [pools.shop.versions.blue]\nbackends = [\"127.0.0.1:1\"]\n\
         [pools.shop.versions.green]\nbackends = [\"127.0.0.1:2\"]\n"
    );
    let parsed = crate::config::parse(&text, Path::new("test.toml"), &|_| None).unwrap();
    let mut generation = Generation::none();
    generation.config = parsed.config;
    generation
}

fn board(wanted: &str, serving: &str, running: Option<RunningSwap>) -> Board {
    let board = Board::default();
    let swaps = PoolSwaps {
        wanted: wanted.to_owned(),
        serving: serving.to_owned(),
        running,
        ..PoolSwaps::default()
    };
    board.set_pools(BTreeMap::from([("shop".into(), swaps)]));
    board
}

fn of(active: &str, board: &Board) -> ReloadPlan {
    plan(&generation("blue"), &generation(active), board, SystemTime::UNIX_EPOCH)
}

#[test]
fn another_active_version_would_begin_a_swap() {
    let plan = of("green", &board("blue", "blue", None));
    let swap =
        PlannedSwap { pool: "shop".into(), from: "blue".into(), to: "green".into(), cancels: None };
    assert_eq!(plan.swaps, [swap]);
    assert!(plan.render().contains("swap of pool shop: blue to green, guarded\n"));
}

#[test]
fn what_serves_already_or_was_rolled_back_begins_none() {
    assert!(of("green", &board("blue", "green", None)).swaps.is_empty());
    assert!(of("green", &board("green", "blue", None)).swaps.is_empty());
}

#[test]
fn a_swap_that_would_be_given_up_is_named() {
    let running = RunningSwap {
        id: SwapId(4),
        from: "blue".into(),
        to: "red".into(),
        asked_by: "a test".into(),
        phase: "watch",
        share: 1.0,
        outcome: None,
        words: "swap 4 is in its watch".into(),
    };
    let plan = of("green", &board("blue", "blue", Some(running)));
    assert_eq!(plan.swaps[0].cancels.as_deref(), Some("swap 4 is in its watch"));
}

#[test]
fn days_are_whole_ones() {
    let now = SystemTime::UNIX_EPOCH + DAY * 100;
    assert_eq!(days_left(now + DAY * 3 / 2, now), 1);
    assert_eq!(days_left(now - DAY / 2, now), -1);
}
