//! Draining and disabling by hand, and what of it survives a restart.

use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Program, run};
use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::pool_of;
use crate::support::wire::Wire;
use crate::support::{eventually, in_time};

const KEPT: &str = "state_dir = \"state\"";

/// A backend that agrees to every upgrade and echoes; the rest waits until it is released.
async fn patient() -> Backend {
    Backend::start(|request| match request.field("upgrade") {
        Some(_) => Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        )
        .then(Step::Echo),
        None => Reply::ok("done").after(Step::Hold),
    })
    .await
}

/// Runs a command about a backend of the pool `app`, beside the test.
async fn command(program: &Program, command: &str, backend: &Backend, more: &[&str]) -> Output {
    let (config, address) = (program.config_path(), backend.address.to_string());
    let mut arguments: Vec<String> = vec![command.to_owned(), "app".to_owned(), address];
    arguments.extend(["-c".to_owned(), config.to_str().unwrap().to_owned()]);
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    let running = tokio::task::spawn_blocking(move || {
        run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    in_time("a command", running).await.unwrap()
}

fn text(output: &Output) -> String {
    let text = [output.stdout.as_slice(), b"|", output.stderr.as_slice()].concat();
    String::from_utf8(text).unwrap()
}

async fn get(program: &Program) -> (u16, String) {
    let answer = Wire::connect(program.http().await).await.get("/").await;
    (answer.status(), answer.text())
}

async fn status_of(program: &Program, backend: &Backend) -> Value {
    let path = format!("/api/pools/app/backends/{}", backend.address);
    serde_json::from_slice(&program.admin(&path).await.unwrap().body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_takes_nothing_new_and_waits_for_what_is_in_flight() {
    let (one, two) = (patient().await, Backend::named("two").await);
    let program = Program::start("", &pool_of(&[&one])).await;
    let mut client = Wire::connect(program.http().await).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || one.requests().len() == 1).await;
    program.configure("", &pool_of(&[&one, &two]));
    program.signal(Signal::HUP);
    eventually("both serve", async || program.state_of(two.address).await == "healthy").await;

    let late = command(&program, "drain", &one, &["--timeout", "100ms"]).await;
    assert_eq!(late.status.code(), Some(7), "{}", text(&late));
    assert!(text(&late).contains("1 request and 0 tunnels"), "{}", text(&late));
    assert_eq!(program.state_of(one.address).await, "draining", "the drain stays");
    for _ in 0..10 {
        assert_eq!(get(&program).await, (200, "two".to_owned()));
    }
    let draining = command(&program, "drain", &one, &[]);
    let released = async {
        eventually("it is drained", async || program.state_of(one.address).await == "draining")
            .await;
        one.release();
        client.response().await.unwrap()
    };
    let (drained, answer) = tokio::join!(draining, released);
    assert_eq!(answer.text(), "done");
    assert_eq!(drained.status.code(), Some(0), "{}", text(&drained));
    assert!(text(&drained).contains("safe to stop"), "{}", text(&drained));
    assert_eq!(one.requests().len(), 1);

    let back = command(&program, "undrain", &one, &[]).await;
    assert!(text(&back).contains("is healthy"), "{}", text(&back));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_are_kept_unless_they_are_to_be_closed() {
    let (one, two) = (patient().await, Backend::named("two").await);
    let program = Program::start("", &pool_of(&[&one])).await;
    let mut client = Wire::connect(program.http().await).await;
    client
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    program.configure("", &pool_of(&[&one, &two]));
    program.signal(Signal::HUP);
    eventually("both serve", async || program.state_of(two.address).await == "healthy").await;

    let kept = command(&program, "drain", &one, &[]).await;
    assert_eq!(kept.status.code(), Some(0), "{}", text(&kept));
    assert!(text(&kept).contains("1 tunnel is kept"), "{}", text(&kept));
    client.send([0x81, 0x01, b'x']).await;
    assert_eq!(client.bytes(3).await, [0x81, 0x01, b'x'], "it works on");

    let closing = command(&program, "drain", &one, &["--close-tunnels"]);
    let closed = async {
        assert_eq!(client.bytes(4).await, [0x88, 0x02, 0x03, 0xe9]);
        client.finish().await;
        client.rest().await
    };
    let (drained, _) = tokio::join!(closing, closed);
    assert_eq!(drained.status.code(), Some(0), "{}", text(&drained));
    assert!(text(&drained).contains("safe to stop"), "{}", text(&drained));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_by_hand_holds_through_reload_and_restart() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let config = pool_of(&[&one, &two]);
    let mut program = Program::start(KEPT, &config).await;
    let drained = command(&program, "drain", &one, &[]).await;
    assert_eq!(drained.status.code(), Some(0), "{}", text(&drained));
    program.configure(KEPT, &format!("{config}\n[pools.app.retries]\nattempts = 2\n"));
    program.signal(Signal::HUP);
    eventually("reloaded", async || program.log().contains("generation=2")).await;
    assert_eq!(program.state_of(one.address).await, "draining");
    let before = status_of(&program, &one).await["since_seconds"].as_f64().unwrap();
    for signal in [Signal::KILL, Signal::TERM] {
        program.restart(signal).await;
        let status = status_of(&program, &one).await;
        assert_eq!(status["state"], "draining");
        assert_eq!(status["reason"], "drained by hand");
        assert!(status["since_seconds"].as_f64().unwrap() > before, "since the decision");
        for _ in 0..6 {
            assert_eq!(get(&program).await, (200, "two".to_owned()));
        }
    }
    let back = command(&program, "undrain", &one, &[]).await;
    assert_eq!(back.status.code(), Some(0), "{}", text(&back));
    program.restart(Signal::KILL).await;
    eventually("healthy", async || program.state_of(one.address).await == "healthy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_disabled_is_not_probed() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let program = Program::start(KEPT, &pool_of(&[&one, &two])).await;
    let disabled = command(&program, "disable", &one, &[]).await;
    assert!(text(&disabled).contains("is disabled"), "{}", text(&disabled));
    let refused = command(&program, "undrain", &one, &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("`tidegate enable` ends it"), "{}", text(&refused));
    // A probe may have been under way. The other one goes on being probed, at the same interval.
    let (mine, others) = (one.connections() + 1, two.connections());
    eventually("probes of the other", async || two.connections() > others + 5).await;
    assert!(one.connections() <= mine, "nobody asks");
    let enabled = command(&program, "enable", &one, &[]).await;
    assert_eq!(enabled.status.code(), Some(0), "{}", text(&enabled));
    eventually("probed at once", async || program.state_of(one.address).await == "healthy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_one_may_be_drained_and_that_is_said() {
    let one = Backend::named("one").await;
    let program = Program::start("", &pool_of(&[&one])).await;
    let drained = command(&program, "drain", &one, &["--no-wait"]).await;
    assert_eq!(drained.status.code(), Some(0), "{}", text(&drained));
    for words in ["the last usable backend of pool app", "503", "no `server.state_dir`"] {
        assert!(text(&drained).contains(words), "{words}: {}", text(&drained));
    }
    assert_eq!(get(&program).await.0, 503);
    let back = command(&program, "undrain", &one, &[]).await;
    assert_eq!(back.status.code(), Some(0), "{}", text(&back));
    assert_eq!(get(&program).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_told_with_what_is() {
    let (one, other) = (Backend::named("one").await, Backend::named("other").await);
    let program = Program::start("", &pool_of(&[&one])).await;
    let refused = command(&program, "drain", &other, &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    let words = format!("pool app has no backend `{}`; it has {}", other.address, one.address);
    assert!(text(&refused).contains(&words), "{}", text(&refused));
    let usage = command(&program, "drain", &one, &["--timeout", "10"]).await;
    assert_eq!(usage.status.code(), Some(64));
    assert!(text(&usage).contains("10s"), "{}", text(&usage));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_verdicts_survive_a_restart_and_old_ones_do_not() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let config = pool_of(&[&one, &two]).replace("100ms", "1h");
    let mut program = Program::start(KEPT, &config).await;
    for backend in [&one, &two] {
        eventually("healthy", async || program.state_of(backend.address).await == "healthy").await;
    }
    program.restart(Signal::TERM).await;
    let log = || program.log();
    assert_eq!(log().matches("passed its checks before the restart").count(), 2, "{}", log());

    let document = program.config_path().with_file_name("state/health.json");
    let old = std::fs::read_to_string(&document).unwrap();
    let (before, after) = old.split_once("\"saved_at\": ").unwrap();
    let (saved_at, after) = after.split_once(',').unwrap();
    let long_ago = saved_at.parse::<u64>().unwrap() - 120_000;
    // Killed, it cannot write the document anew.
    program.signal(Signal::KILL);
    program.exit_code().await;
    std::fs::write(&document, format!("{before}\"saved_at\": {long_ago},{after}")).unwrap();
    program.start_again().await;
    assert!(!program.log().contains("before the restart"), "{}", program.log());
}
