//! Which version serves: the rules of the file, of swaps and of restarts, one story each.

use rustix::process::Signal;
use serde_json::Value;

use crate::program::Program;
use crate::shop::{
    KEPT, LONG, SHORT, Shop, backend_state, command, in_phase, outcome, report, serving, swaps,
};
use crate::support::eventually;

/// Each pool has a *wanted* version, `active` of the file, and a *serving* one.
///
/// 1. A change of `active` between two loaded files asks for a swap; any other reload leaves serving
///    alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_a_change_of_active_asks_for_a_swap_and_nothing_else_does() {
    let shop = Shop::open().await;
    let program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    program.configure(KEPT, &shop.config("blue", SHORT));
    assert_eq!(outcome(&program, &["reload"]).await.0, Some(0));
    assert_eq!(swaps(&program).await["last"], Value::Null);
    program.configure(KEPT, &shop.config("green", LONG));
    assert_eq!(outcome(&program, &["reload"]).await.0, Some(0));
    in_phase(&program, "watch").await;
    assert_eq!(serving(&program).await, "green");
}

/// 2. `swap` and `rollback` change serving and leave an *override*, shown by `status`, `reload` and a
///    metric, until `active` changes in the file or equals serving.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_2_a_swap_by_hand_leaves_an_override_until_the_file_agrees() {
    let shop = Shop::open().await;
    let program = Program::start(KEPT, &shop.config("blue", SHORT)).await;
    let words = "file wants blue, green serves since the swap of report 1";
    assert_eq!(command(&program, &["swap", "shop", "green"]).await, Some(5));
    assert!(outcome(&program, &["status"]).await.1.contains(words));
    assert!(outcome(&program, &["reload"]).await.1.contains(words));
    assert!(is_overridden(&program).await);
    program.configure(KEPT, &shop.config("green", SHORT));
    let (code, told) = outcome(&program, &["reload"]).await;
    assert!(code == Some(0) && told.contains("green serves already"), "{told}");
    eventually("told by the log", async || program.log().contains("green serves already")).await;
    assert!(!is_overridden(&program).await);
    assert_eq!(serving(&program).await, "green");
}

async fn is_overridden(program: &Program) -> bool {
    let metrics = program.admin("/metrics").await.unwrap().text();
    metrics.contains("tidegate_pool_active_override{pool=\"shop\"} 1")
}

/// 3. A reload with an override in force says so and what to type, and exits with 0; one by SIGHUP
///    says it in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_3_a_reload_with_an_override_in_force_says_what_to_type() {
    let shop = Shop::open().await;
    let program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    program.configure(KEPT, &shop.config("green", LONG));
    assert_eq!(command(&program, &["reload"]).await, Some(0));
    in_phase(&program, "watch").await;
    assert_eq!(command(&program, &["rollback", "shop"]).await, Some(0));
    let words = "file wants green, blue serves since the rollback of report 1; `tidegate swap shop \
                 green` tries again";
    let (code, told) = outcome(&program, &["reload"]).await;
    assert!(code == Some(0) && told.contains(words), "{told}");
    let before = program.log().matches(words).count();
    program.signal(Signal::HUP);
    eventually("told by the log", async || program.log().matches(words).count() > before).await;
    assert_eq!(serving(&program).await, "blue");
}

/// 4. `tidegate reload` returns when the snapshot is in and lists the swaps that it started; `--wait`
///    waits for them with `swap`'s exit codes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_a_reload_lists_the_swaps_that_it_starts_and_may_wait_for_them() {
    let shop = Shop::open().await;
    shop.green.kill();
    let program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    program.configure(KEPT, &shop.config("green", LONG));
    let (code, told) = outcome(&program, &["reload"]).await;
    let begun = "pool shop: swap 1 from blue to green has begun";
    assert!(code == Some(0) && told.contains(begun), "{told}");
    assert_eq!(swaps(&program).await["running"]["phase"], "gate", "nobody waited for it");
    program.configure(KEPT, &shop.config("blue", LONG));
    assert_eq!(command(&program, &["reload"]).await, Some(0));
    program.configure(KEPT, &shop.config("green", "gate_timeout = \"300ms\""));
    assert_eq!(command(&program, &["reload", "--wait"]).await, Some(4));
}

/// 5. A reload during a swap: it goes on if the pool's versions and `[swap]` are as before; the gate
///    begins again if the candidate's backends changed; the swap is cancelled first (in the watch:
///    rolled back) if `active` changed or the candidate is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_5_a_reload_during_a_swap_goes_on_begins_again_or_ends_it() {
    let (shop, other) = (Shop::open().await, Shop::open().await);
    shop.green.kill();
    let program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    assert_eq!(command(&program, &["swap", "shop", "green", "--no-wait"]).await, Some(0));
    assert_eq!(command(&program, &["reload"]).await, Some(0));
    assert_eq!(swaps(&program).await["running"]["phase"], "gate", "it goes on");

    let moved = shop
        .config("blue", LONG)
        .replace(&shop.green.address.to_string(), &other.green.address.to_string());
    program.configure(KEPT, &moved);
    let (_, told) = outcome(&program, &["reload"]).await;
    assert!(told.contains("swap 1: the file changed: the gate begins again"), "{told}");
    in_phase(&program, "watch").await;

    program.configure(KEPT, &moved.replace("versions.green", "versions.red"));
    let (_, told) = outcome(&program, &["reload"]).await;
    assert!(told.contains("swap 1 is cancelled: green is not in the file any more"), "{told}");
    assert_eq!(serving(&program).await, "blue");

    program.configure(KEPT, &moved.replace("\"blue\"", "\"green\""));
    assert_eq!(command(&program, &["reload"]).await, Some(0));
    in_phase(&program, "watch").await;
    program.configure(KEPT, &moved);
    let (_, told) = outcome(&program, &["reload"]).await;
    assert!(told.contains("swap 2 is cancelled: the file wants blue now"), "{told}");
    assert_eq!(serving(&program).await, "blue");
}

/// 6. At start serving comes from `state_dir`; if `active` differs from what it was when that was
///    written, the file wins, unguarded, with a warning. `state_dir` is locked against a second
///    process, and versions without one are warned of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_6_what_served_serves_after_a_restart_unless_the_file_changed_its_mind() {
    let shop = Shop::open().await;
    let mut program = Program::start(KEPT, &shop.config("blue", SHORT)).await;
    assert_eq!(command(&program, &["swap", "shop", "green"]).await, Some(5));
    let config = program.config_path();
    let second = crate::program::run(&["run", "-c", config.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("state"), "{second:?}");
    program.restart(Signal::KILL).await;
    assert_eq!(serving(&program).await, "green");

    assert_eq!(command(&program, &["rollback", "shop"]).await, Some(0));
    eventually("it is over", async || swaps(&program).await["running"].is_null()).await;
    program.configure(KEPT, &shop.config("green", SHORT));
    program.restart(Signal::TERM).await;
    assert_eq!(serving(&program).await, "green");
    let words = "blue served before the restart, but the file wants green now";
    assert!(program.log().contains(words), "{}", program.log());
    // And that is where to go back to.
    assert_eq!(command(&program, &["rollback", "shop"]).await, Some(0));
    assert_eq!(serving(&program).await, "blue");

    program.configure("", &shop.config("green", SHORT));
    let (code, told) = outcome(&program, &["check"]).await;
    assert!(code == Some(0) && told.contains("a restart forgets which version"), "{told}");
}

/// 6, `versions` without a writable `state_dir` is a warning at `check`, said again at start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_6_a_place_that_cannot_be_written_is_warned_of_and_read_all_the_same() {
    let shop = Shop::open().await;
    let mut program = Program::start(KEPT, &shop.config("blue", SHORT)).await;
    assert_eq!(command(&program, &["swap", "shop", "green"]).await, Some(5));
    program.kill();
    // Nobody can write to that, whoever runs the tests.
    let lock = program.config_path().with_file_name("state/lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    program.start_again().await;
    assert_eq!(serving(&program).await, "green");
    let log = program.log();
    assert!(log.contains("cannot write to the state directory"), "{log}");

    program.configure("state_dir = \"state/swaps.json/state\"\n", &shop.config("blue", SHORT));
    let (code, told) = outcome(&program, &["check"]).await;
    let words = "a restart forgets what changes from now on";
    assert!(code == Some(0) && told.contains(words), "{told}");
    program.kill();
    program.start_again().await;
    assert_eq!(serving(&program).await, "blue");
    assert!(program.log().contains(words), "{}", program.log());
    let metrics = program.admin("/metrics").await.unwrap().text();
    assert!(metrics.contains("tidegate_state_saved{document=\"swaps\"} 0\n"), "{metrics}");
}

/// 7. What was drained or disabled by hand stays so through reload and restart; `status` shows since
///    when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_what_was_drained_or_disabled_by_hand_stays_so() {
    let (shop, other) = (Shop::open().await, Shop::open().await);
    let two = |list: &str, one: &str, another: &str| {
        list.replace(&format!("[\"{one}\"]"), &format!("[\"{one}\", \"{another}\"]"))
    };
    let [green, another] = [&shop, &other].map(|shop| shop.green.address.to_string());
    let config = two(&shop.config("blue", SHORT), &green, &another);
    let mut program = Program::start(KEPT, &config).await;
    assert_eq!(command(&program, &["drain", "shop", &another]).await, Some(0));
    program.configure(KEPT, &format!("{config}warm_up = {{ connections = 1 }}\n"));
    assert_eq!(command(&program, &["reload"]).await, Some(0));
    assert_eq!(backend_state(&program, "green", &another).await, "draining");
    program.restart(Signal::KILL).await;
    assert_eq!(backend_state(&program, "green", &another).await, "draining");
    let (_, told) = outcome(&program, &["status"]).await;
    assert!(told.contains("drained by hand") && told.contains("SINCE"), "{told}");

    assert_eq!(command(&program, &["swap", "shop", "green"]).await, Some(5));
    let gate = report(&program, 1).await["gate"].to_string();
    assert!(gate.contains(&green) && !gate.contains(&another), "{gate}");
    assert!(other.green.requests().is_empty());
}
