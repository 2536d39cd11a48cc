use std::path::Path;
use std::sync::Arc;

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

fn in_watch() -> RunningSwap {
    RunningSwap {
        id: SwapId(4),
        from: "blue".into(),
        to: "green".into(),
        asked_by: "a test".into(),
        phase: "watch",
        share: 1.0,
        outcome: None,
        words: "swap 4 is in its watch".into(),
    }
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
    assert!(of("green", &board("blue", "blue", Some(in_watch()))).swaps.is_empty(), "on its way");
}

#[test]
fn a_swap_that_would_be_given_up_is_named() {
    let running = RunningSwap { to: "red".into(), ..in_watch() };
    let plan = of("green", &board("blue", "blue", Some(running)));
    assert_eq!(plan.swaps[0].cancels.as_deref(), Some("swap 4 is in its watch"));
}

#[test]
fn what_becomes_of_a_swap_that_runs_is_told() {
    let told = |change: &dyn Fn(&mut Pool), active: &str, phase| {
        let mut new = generation(active);
        change(Arc::make_mut(&mut new.config).pools.get_mut("shop").unwrap());
        let running = RunningSwap { phase, ..in_watch() };
        let board = board("green", "blue", Some(running));
        plan(&generation("green"), &new, &board, SystemTime::UNIX_EPOCH).running
    };
    let nothing: &dyn Fn(&mut Pool) = &|_| ();
    let slower: &dyn Fn(&mut Pool) = &|pool| pool.swap.watch += DAY;
    assert!(told(nothing, "green", "watch").is_empty());
    let back = "pool shop: swap 4 would be cancelled, since this file wants blue: blue would serve";
    assert_eq!(told(nothing, "blue", "watch"), [back]);
    let goes_on = "pool shop: [swap] changes; swap 4 would go on as it began";
    assert_eq!(told(slower, "green", "ramp"), [goes_on]);
    let again = "pool shop: the gate of swap 4 would begin again";
    assert_eq!(told(slower, "green", "gate"), [again]);
}

#[test]
fn a_version_that_serves_and_leaves_is_told_first() {
    let leaving = |text: &str, board: &Board| {
        let mut new = generation("blue");
        let shop = Arc::make_mut(&mut new.config).pools.get_mut("shop").unwrap();
        shop.versions.retain(|name, _| text.contains(name));
        plan(&generation("blue"), &new, board, SystemTime::UNIX_EPOCH)
    };
    let plan = leaving("blue", &board("blue", "green", None));
    let words = "pool shop: green serves and is not in this file: blue would serve, without a gate \
                 and a watch";
    assert_eq!(plan.leaving, [words]);
    assert_eq!(plan.render().lines().nth(1), Some(words));
    assert!(leaving("blue green", &board("blue", "green", None)).leaving.is_empty());
    assert!(leaving("blue", &board("blue", "blue", None)).leaving.is_empty(), "green is idle");
    let swap = |share| RunningSwap { share, ..in_watch() };
    let told = |text, share| leaving(text, &board("blue", "blue", Some(swap(share)))).leaving;
    assert!(told("blue green", 1.0).is_empty());
    let ends = ["pool shop: green is not in this file: swap 4 would end, blue would serve"];
    assert_eq!(told("blue", 1.0), ends);
    let stays = "pool shop: blue is not in this file: green would stay, without a way back";
    assert_eq!(told("green", 1.0), [stays]);
    assert!(told("green", 0.0)[0].starts_with("pool shop: blue serves and is not in this file"));
}

#[test]
fn a_certificate_without_a_name_is_told_as_such() {
    let told = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let mut plan = of("blue", &board("blue", "blue", None));
        let (listener, file) = ("https".into(), "certs/a.pem".into());
        plan.certificates = vec![ExpiringCertificate { listener, names, file, days: 4 }];
        plan.render()
    };
    let line = "certificate without a name in `certs/a.pem` (listener https) expires in 4 days\n";
    assert!(told(&[]).contains(line), "{}", told(&[]));
    assert!(told(&["a.test", "b.test"]).contains("certificate for a.test, b.test (listener"));
}

#[test]
fn days_are_whole_ones() {
    let now = SystemTime::UNIX_EPOCH + DAY * 100;
    assert_eq!(days_left(now + DAY * 3 / 2, now), 1);
    assert_eq!(days_left(now - DAY / 2, now), -1);
}
