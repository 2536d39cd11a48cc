//! What signals do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::program::{Program, run};
use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::pool_of;
use crate::support::wire::Wire;
use crate::support::{eventually, in_time};

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

async fn in_flight(program: &Program, backend: &Backend) -> Wire {
    let before = backend.requests().len();
    let mut client = Wire::connect(program.http().await).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || backend.requests().len() > before).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_request_and_exits_0() {
    let backend = Backend::named("one").await;
    let mut program = Program::start("shutdown_delay = \"500ms\"", &pool_of(&[&backend])).await;
    let address = program.http().await;
    let served = Arc::new(AtomicUsize::new(0));
    // One request to a connection, until nobody listens any more.
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                while let Ok(stream) = TcpStream::connect(address).await {
                    let answer = Wire::over(stream).get("/").await;
                    assert_eq!(answer.status(), 200);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    eventually("load", async || served.load(Ordering::SeqCst) > 200).await;
    program.signal(Signal::TERM);
    for client in clients {
        in_time("the last of a client", client).await.expect("no request was lost");
    }
    assert_eq!(program.exit_code().await, Some(0), "{}", program.log());
}

#[tokio::test]
async fn during_the_delay_it_is_not_ready_and_serves() {
    let backend = Backend::named("one").await;
    let delay = Duration::from_secs(3);
    let mut program = Program::start("shutdown_delay = \"3s\"", &pool_of(&[&backend])).await;
    let address = program.http().await;
    let began = Instant::now();
    program.signal(Signal::TERM);
    eventually("not ready", async || program.ready().await == Some(503)).await;
    let answer = Wire::connect(address).await.get("/").await;
    assert_eq!((answer.status(), answer.field("connection")), (200, None));
    assert!(began.elapsed() < delay, "too slow to tell");
    assert_eq!(program.exit_code().await, Some(0));
    assert!(began.elapsed() >= delay);
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn a_request_in_flight_is_finished() {
    let backend = patient().await;
    let mut program = Program::start("", &pool_of(&[&backend])).await;
    let address = program.http().await;
    let mut client = in_flight(&program, &backend).await;
    program.signal(Signal::TERM);
    let refused = async || TcpStream::connect(address).await.is_err();
    eventually("nobody listens", refused).await;
    backend.release();
    let answer = client.response().await.unwrap();
    assert_eq!((answer.text(), answer.field("connection")), ("done".into(), Some("close")));
    assert_eq!(program.exit_code().await, Some(0));
}

#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let backend = Backend::named("one").await;
    let mut program = Program::start("", &pool_of(&[&backend])).await;
    let mut client = Wire::connect(program.http().await).await;
    client.get("/").await;
    program.signal(Signal::INT);
    assert_eq!(client.rest().await, b"");
    assert_eq!(program.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_tunnel_is_cut_when_the_time_is_over() {
    let backend = patient().await;
    let mut program = Program::start("shutdown_timeout = \"3s\"", &pool_of(&[&backend])).await;
    let mut tunnel = Wire::connect(program.http().await).await;
    tunnel
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(tunnel.head().await.unwrap().status(), 101);
    // As a WebSocket would read it, a frame of which there is more to come: between two it would be
    // told to close at once.
    tunnel.send("a long message").await;
    assert_eq!(tunnel.bytes(14).await, b"a long message");
    let began = Instant::now();
    program.signal(Signal::TERM);
    eventually("stopping", async || program.log().contains("stopping on SIG")).await;
    tunnel.send("still here").await;
    assert_eq!(tunnel.bytes(10).await, b"still here");
    assert_eq!(tunnel.rest().await, b"");
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert_eq!(program.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let backend = patient().await;
        let mut program = Program::start("shutdown_timeout = \"1h\"", &pool_of(&[&backend])).await;
        let mut client = in_flight(&program, &backend).await;
        program.signal(signal);
        eventually("stopping", async || program.log().contains("stopping on SIG")).await;
        assert!(program.runs());
        program.signal(signal);
        assert_eq!(program.exit_code().await, Some(code));
        assert!(client.response().await.is_err());
    }
}

#[tokio::test]
async fn sighup_reloads() {
    let (old, new) = (Backend::named("old").await, Backend::named("new").await);
    let program = Program::start("", &pool_of(&[&old])).await;
    let mut client = Wire::connect(program.http().await).await;
    assert_eq!(client.get("/").await.text(), "old");
    program.configure("", &pool_of(&[&new]));
    program.signal(Signal::HUP);
    eventually("the new one answers", async || client.get("/").await.text() == "new").await;
}

#[tokio::test]
async fn sighup_with_a_bad_file_is_logged_and_changes_nothing() {
    let backend = Backend::named("one").await;
    let program = Program::start("", &pool_of(&[&backend])).await;
    program.configure("wrokers = 2", &pool_of(&[&backend]));
    program.signal(Signal::HUP);
    eventually("refused", async || program.log().contains("configuration refused")).await;
    assert!(program.log().contains("wrokers"), "{}", program.log());
    assert_eq!(Wire::connect(program.http().await).await.get("/").await.text(), "one");
}

#[tokio::test]
async fn the_reload_command_tells_the_outcome() {
    let (old, new) = (Backend::named("old").await, Backend::named("new").await);
    let program = Program::start("", &pool_of(&[&old])).await;
    let path = program.config_path();
    let reload = async || {
        let path = path.to_str().unwrap().to_owned();
        tokio::task::spawn_blocking(move || run(&["reload", "-c", &path])).await.unwrap()
    };
    program.configure("", &pool_of(&[&new]));
    let output = reload().await;
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(&new.address.to_string()), "{told}");
    // The admin section stays as it is, so the command still finds the program.
    program.configure("", "[[routes]]\npool = \"nowhere\"\n");
    let output = reload().await;
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("nowhere"), "{told}");
    assert_eq!(Wire::connect(program.http().await).await.get("/").await.text(), "new");
}
