//! Swaps of a process that is killed: what served serves again, and what ran goes on or is given up.

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Program, run};
use crate::support::backend::Backend;
use crate::support::wire::Wire;
use crate::support::{eventually, in_time};

const KEPT: &str = "state_dir = \"state\"";

/// Two versions of one backend each; green is not well where it is to wait at its gate.
struct Shop {
    blue: Backend,
    green: Backend,
}

impl Shop {
    async fn open() -> Shop {
        Shop { blue: Backend::named("blue").await, green: Backend::named("green").await }
    }

    fn config(&self, active: &str) -> String {
        let (blue, green) = (self.blue.address, self.green.address);
        format!(
            "[[routes]]\npool = \"shop\"\n[pools.shop]\nactive = \"{active}\"\n\
             versions.blue.backends = [\"{blue}\"]\nversions.green.backends = [\"{green}\"]\n\
             [pools.shop.health]\npath = \"/health\"\ninterval = \"100ms\"\n\
             [pools.shop.swap]\nwatch = \"10m\"\ndrain_timeout = \"1s\"\n"
        )
    }
}

/// Runs a command about the pool, beside the test.
async fn command(program: &Program, arguments: &[&str]) -> Option<i32> {
    let config = program.config_path();
    let mut all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    all.extend(["-c".to_owned(), config.to_str().unwrap().to_owned()]);
    let running = tokio::task::spawn_blocking(move || {
        run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    });
    in_time("a command", running).await.unwrap().status.code()
}

async fn swaps(program: &Program) -> Value {
    let status: Value =
        serde_json::from_slice(&program.admin("/api/status").await.unwrap().body).unwrap();
    status["pools"]["shop"]["swaps"].clone()
}

async fn report(program: &Program, id: u64) -> Value {
    let path = format!("/api/reports/{id}");
    serde_json::from_slice(&program.admin(&path).await.unwrap().body).unwrap()
}

async fn in_phase(program: &Program, phase: &str) {
    eventually(phase, async || swaps(program).await["running"]["phase"] == phase).await;
}

async fn serving(program: &Program) -> String {
    Wire::connect(program.http().await).await.get("/").await.text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_the_gate_it_comes_back_on_the_old_version_and_at_the_gate() {
    let shop = Shop::open().await;
    shop.green.kill();
    let mut program = Program::start(KEPT, &shop.config("blue")).await;
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
    let config = shop.config("blue");
    let config = format!("{config}shadow = {{ share = \"100%\", lasts = \"10m\" }}\n");
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
    let mut program = Program::start(KEPT, &shop.config("blue")).await;
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
async fn a_version_that_was_rolled_back_is_not_tried_again_by_an_unchanged_file() {
    let shop = Shop::open().await;
    let mut program = Program::start(KEPT, &shop.config("blue")).await;
    program.configure(KEPT, &shop.config("green"));
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
    let mut program = Program::start(KEPT, &shop.config("blue")).await;
    assert_eq!(command(&program, &["swap", "shop", "green", "--no-wait"]).await, Some(0));
    in_phase(&program, "watch").await;
    program.kill();
    let without_blue = shop.config("green").replace("versions.blue", "versions.red");
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
    let mut program = Program::start(KEPT, &shop.config("blue")).await;
    program.kill();
    let file = program.config_path().with_file_name("state/swaps.json");
    std::fs::write(&file, "{\"format\": 1, \"na").unwrap();
    program.start_again().await;
    assert_eq!(serving(&program).await, "blue");
    assert!(file.with_file_name("swaps.json.damaged").exists());
}
