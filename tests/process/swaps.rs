//! Swaps of a process that is killed: what served serves again, and what ran goes on or is given up.

use rustix::process::Signal;
use serde_json::Value;

use crate::program::Program;
use crate::shop::{KEPT, LONG, Shop, command, in_phase, report, serving, share, swaps};
use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_the_gate_it_comes_back_on_the_old_version_and_at_the_gate() {
    let shop = Shop::open().await;
    shop.green.kill();
    let mut program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    assert_eq!(command(&program, &["swap", "shop", "green", "--no-wait"]).await, Some(0));
    in_phase(&program, "gate").await;
    program.kill();
    program.start_again().await;
    assert_eq!(serving(&program).await, "blue");
    assert_eq!(swaps(&program).await["running"]["phase"], "gate");
    assert!(program.log().contains("swap 1 goes on after the restart, in its gate"));
    shop.green.revive().await;
    in_phase(&program, "watch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_requests_are_copied_it_comes_back_on_the_old_version_and_copies_anew() {
    let shop = Shop::open().await;
    let config = shop.config("blue", "shadow = { share = \"100%\", lasts = \"10m\" }");
    let mut program = Program::start(KEPT, &config).await;
    assert_eq!(command(&program, &["swap", "shop", "green", "--no-wait"]).await, Some(0));
    let compared = async |program: &Program, count: u64| {
        report(program, 1).await["shadow"]["compared"] == count
    };
    eventually("copying", async || compared(&program, 0).await).await;
    serving(&program).await;
    eventually("a copy", async || compared(&program, 1).await).await;
    program.kill();
    program.start_again().await;
    eventually("copying again", async || compared(&program, 0).await).await;
    assert_eq!(serving(&program).await, "blue");
    eventually("a copy", async || compared(&program, 1).await).await;
    assert_eq!(swaps(&program).await["running"]["phase"], "gate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_watch_it_comes_back_on_the_new_version_and_watches_on() {
    let shop = Shop::open().await;
    let mut program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    assert_eq!(command(&program, &["swap", "shop", "green", "--no-wait"]).await, Some(0));
    in_phase(&program, "watch").await;
    program.kill();
    program.start_again().await;
    assert_eq!(serving(&program).await, "green");
    assert_eq!(swaps(&program).await["running"]["phase"], "watch");
    assert_eq!(command(&program, &["rollback", "shop"]).await, Some(0));
    assert_eq!(serving(&program).await, "blue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_watch_it_goes_back_where_the_file_wants_that_since() {
    let shop = Shop::open().await;
    let mut program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    program.configure(KEPT, &shop.config("green", LONG));
    assert_eq!(command(&program, &["reload"]).await, Some(0));
    in_phase(&program, "watch").await;
    program.kill();
    program.configure(KEPT, &shop.config("blue", LONG));
    program.start_again().await;
    assert_eq!(serving(&program).await, "blue");
    assert!(swaps(&program).await["running"].is_null());
    let words = "was in its watch when the process ended: the file wants blue since the restart";
    assert!(program.log().contains(words), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_ramp_it_comes_back_with_the_share_that_it_had() {
    let shop = Shop::open().await;
    let keys = format!("{LONG}\nramp = [\"30%\"]\nramp_step = \"10m\"");
    let mut program = Program::start(KEPT, &shop.config("blue", &keys)).await;
    assert_eq!(command(&program, &["swap", "shop", "green", "--no-wait"]).await, Some(0));
    in_phase(&program, "ramp").await;
    program.kill();
    program.start_again().await;
    assert_eq!(swaps(&program).await["running"]["phase"], "ramp");
    assert_eq!(share(&program, "green").await, 0.3);
    let gate = report(&program, 1).await["gate"].to_string();
    assert!(gate.contains(&shop.green.address.to_string()), "it is told as before: {gate}");
    assert_eq!(command(&program, &["rollback", "shop"]).await, Some(0));
    assert_eq!(share(&program, "green").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_drain_it_comes_back_on_the_new_version_and_the_swap_is_over() {
    let blue = Backend::start(|request| match request.request_line().1 {
        "/never" => Reply::raw("").then(Step::Hold),
        _ => Reply::ok("blue"),
    })
    .await;
    let shop = Shop { blue, ..Shop::open().await };
    let keys = "watch = \"100ms\"\ndrain_timeout = \"10m\"";
    let mut program = Program::start(KEPT, &shop.config("blue", keys)).await;
    let mut never = Wire::connect(program.http().await).await;
    never.send("GET /never HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("it is there", async || shop.blue.requests().len() == 1).await;
    assert_eq!(command(&program, &["swap", "shop", "green", "--no-wait"]).await, Some(0));
    in_phase(&program, "drain").await;
    program.kill();
    program.start_again().await;
    assert_eq!(serving(&program).await, "green");
    eventually("it is over", async || swaps(&program).await["running"].is_null()).await;
    let report = report(&program, 1).await;
    assert_eq!((&report["outcome"], &report["phase"]), (&"undecided".into(), &"done".into()));
    assert_eq!(report["drained"]["left"]["requests"], 0, "{}", report["text"]);
    // Who waits to be told when to stop it is told.
    assert!(program.log().contains("blue is safe to stop"), "{}", program.log());
    assert_eq!(command(&program, &["rollback", "shop"]).await, Some(0));
    assert_eq!(command(&program, &["rollback", "shop"]).await, Some(0), "again");
    assert_eq!(serving(&program).await, "blue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_was_rolled_back_is_not_tried_again_by_an_unchanged_file() {
    let shop = Shop::open().await;
    let mut program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    program.configure(KEPT, &shop.config("green", LONG));
    assert_eq!(command(&program, &["reload"]).await, Some(0));
    in_phase(&program, "watch").await;
    assert_eq!(command(&program, &["rollback", "shop"]).await, Some(0));
    program.restart(Signal::KILL).await;
    assert_eq!(serving(&program).await, "blue");
    let swaps = swaps(&program).await;
    assert_eq!((&swaps["wanted"], &swaps["serving"]), (&"green".into(), &"blue".into()));
    assert!(swaps["override"]["words"].as_str().unwrap().contains("rollback of report 1"));
    assert_eq!(report(&program, 1).await["outcome"], "rolled_back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changed_meanwhile_wins_and_the_swap_is_given_up() {
    let shop = Shop::open().await;
    let mut program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    assert_eq!(command(&program, &["swap", "shop", "green", "--no-wait"]).await, Some(0));
    in_phase(&program, "watch").await;
    program.kill();
    let without_blue = shop.config("green", LONG).replace("versions.blue", "versions.red");
    program.configure(KEPT, &without_blue);
    program.start_again().await;
    assert_eq!(serving(&program).await, "green");
    let swaps = swaps(&program).await;
    assert_eq!((&swaps["running"], &swaps["serving"]), (&Value::Null, &"green".into()));
    assert_eq!(report(&program, 1).await["outcome"], "cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_set_aside_and_no_reason_not_to_start() {
    let shop = Shop::open().await;
    let mut program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    program.kill();
    let file = program.config_path().with_file_name("state/swaps.json");
    std::fs::write(&file, "{\"format\": 1, \"na").unwrap();
    program.start_again().await;
    assert_eq!(serving(&program).await, "blue");
    assert!(file.with_file_name("swaps.json.damaged").exists());
    let words = "blue serves, as the file says; what served before is not known";
    assert!(program.log().contains(words), "{}", program.log());
}
