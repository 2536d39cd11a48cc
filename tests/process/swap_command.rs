//! `tidegate swap`, `rollback`, `report` and `reload --wait`: what they print where, and their exit
//! codes.

use std::process::Output;

use serde_json::Value;

use crate::program::{Program, run};
use crate::support::backend::Backend;
use crate::support::{eventually, in_time};

/// Nobody listens there.
const DEAD: &str = "127.0.0.1:1";

/// A pool with a version that serves, another one that is well and one that is not.
fn pool(name: &str, active: &str, swap: &str, [blue, green]: [&Backend; 2]) -> String {
    format!(
        "[pools.{name}]\nactive = \"{active}\"\n\
         versions.blue.backends = [\"{}\"]\nversions.green.backends = [\"{}\"]\n\
         versions.dead.backends = [\"{DEAD}\"]\n\
         [pools.{name}.health]\ninterval = \"100ms\"\n\
         [pools.{name}.swap]\ngate_checks = 1\n{swap}\n",
        blue.address, green.address
    )
}

/// Pools whose swaps are watched for long, wait at the gate, are refused soon, or end by themselves.
fn config(active: &str, backends: [&Backend; 2]) -> String {
    let routes = "[[routes]]\npool = \"app\"\n[[routes]]\npath = \"/slow\"\npool = \"slow\"\n\
                  [[routes]]\npath = \"/quick\"\npool = \"quick\"\n\
                  [[routes]]\npath = \"/strict\"\npool = \"strict\"\n";
    let app = pool("app", "blue", "watch = \"1h\"", backends);
    let slow = pool("slow", "blue", "gate_timeout = \"1h\"", backends);
    let quick = pool("quick", active, "watch = \"300ms\"", backends);
    let strict = pool("strict", "blue", "gate_timeout = \"300ms\"", backends);
    format!("{routes}{app}{slow}{quick}{strict}")
}

/// Runs a command beside the test.
async fn command(program: &Program, arguments: &[&str]) -> Output {
    let config = program.config_path();
    let mut all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    all.extend(["-c".to_owned(), config.to_str().unwrap().to_owned()]);
    let running = tokio::task::spawn_blocking(move || {
        run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    });
    in_time("a command", running).await.unwrap()
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn phase(program: &Program, pool: &str) -> Option<String> {
    let status = program.admin("/api/status").await?;
    let status: Value = serde_json::from_slice(&status.body).ok()?;
    Some(status["pools"][pool]["swaps"]["running"]["phase"].as_str()?.to_owned())
}

/// Goes back once the swap of a pool is in a phase.
async fn roll_back_in(program: &Program, pool: &str, wanted: &str) -> Output {
    eventually(wanted, async || phase(program, pool).await.as_deref() == Some(wanted)).await;
    command(program, &["rollback", pool]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_of_a_swap_has_its_exit_code() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let backends = [&blue, &green];
    let program = Program::start("state_dir = \"state\"", &config("blue", backends)).await;

    let (code, report, _) = told(&command(&program, &["swap", "strict", "dead"]).await);
    assert_eq!(code, Some(4), "{report}");
    let row = report.lines().find(|line| line.contains(DEAD) && line.contains("health check"));
    assert!(row.is_some() && report.contains("backend") && report.contains("tries"), "{report}");

    let (code, report, progress) =
        told(&command(&program, &["swap", "app", "green", "--until", "switched"]).await);
    assert_eq!(code, Some(0), "{report}{progress}");
    assert!(progress.contains("app to green: watch"), "{progress}");
    let (code, out, error) = told(&command(&program, &["swap", "app", "dead"]).await);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
    assert!(error.contains("is in its watch") && error.contains("--replace"), "{error}");
    let (code, report, _) = told(&command(&program, &["rollback", "app"]).await);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("app from blue to green: rolled back"), "{report}");

    eventually("it is over", async || phase(&program, "app").await.is_none()).await;
    let (swap, _) = tokio::join!(
        command(&program, &["swap", "app", "green"]),
        roll_back_in(&program, "app", "watch")
    );
    assert_eq!(told(&swap).0, Some(3), "{swap:?}");

    let (swap, back) = tokio::join!(
        command(&program, &["swap", "slow", "dead"]),
        roll_back_in(&program, "slow", "gate")
    );
    assert_eq!((told(&swap).0, told(&back).0), (Some(6), Some(0)), "{swap:?} {back:?}");
    let late = command(&program, &["swap", "slow", "dead", "--timeout", "100ms"]).await;
    assert_eq!(told(&late).0, Some(7), "{late:?}");
    assert!(told(&late).2.contains("the swap goes on"), "{late:?}");

    let undecided = command(&program, &["swap", "quick", "green"]).await;
    assert_eq!(told(&undecided).0, Some(5), "{undecided:?}");
    let again = told(&command(&program, &["swap", "quick", "green"]).await);
    assert_eq!((again.0, again.1.as_str()), (Some(0), "green serves pool `quick` already\n"));

    let (code, list, _) = told(&command(&program, &["report"]).await);
    assert_eq!((code, list.lines().count()), (Some(0), 6), "{list}");
    assert!(
        list.lines().last().unwrap().starts_with("report 1: strict from blue to dead: refused")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_waits_for_the_swaps_that_it_starts() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let backends = [&blue, &green];
    let program = Program::start("state_dir = \"state\"", &config("blue", backends)).await;
    program.configure("state_dir = \"state\"", &config("green", backends));

    let path = program.config_path();
    let plan = command(&program, &["check", "--against-running", "--exit-code"]).await;
    let (code, plan, error) = told(&plan);
    assert_eq!(code, Some(2), "{plan}{error} of {}", path.display());
    assert!(plan.contains("swap of pool quick: blue to green, guarded"), "{plan}");

    let (code, out, error) = told(&command(&program, &["reload", "--wait"]).await);
    // Nobody asks for anything meanwhile.
    assert_eq!(code, Some(5), "{out}{error}");
    assert!(out.contains("pool quick: swap 1 from blue to green has begun"), "{out}");
    assert!(out.contains("report 1: quick from blue to green: undecided"), "{out}");
}
