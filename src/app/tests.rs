use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use super::*;
use crate::control::Readiness;
use crate::state::Mail;

/// A backend that answers every connection once, with its own port.
fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                let body = port.to_string();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    port
}

fn config(directory: &Path, backend: u16) -> PathBuf {
    let path = directory.join("tidegate.toml");
    let text = format!(
        "[server]\nworkers = 2\nstate_dir = \"state\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [listeners.http]\nbind = [\"127.0.0.1:0\", \"unix:front.sock\"]\n[[routes]]\npool = \"app\"\n\
         [pools.app]\nbackends = [\"127.0.0.1:{backend}\"]\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn start_at(config_path: PathBuf) -> Running {
    start(Options { config_path, ..Options::default() }).unwrap()
}

fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn serves_reloads_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (backend(), backend());
    let running = start_at(config(directory.path(), first));
    let address = running.listener_address("http").unwrap();
    let answer = get(address);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(&first.to_string()),
        "{answer}"
    );

    config(directory.path(), second);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let report = runtime.block_on(running.handle().reload()).unwrap();
    assert_eq!(report.generation, 2);
    assert_eq!(running.listener_address("http"), Some(address));
    assert!(get(address).ends_with(&second.to_string()));

    assert!(directory.path().join("front.sock").exists());
    let handle = running.handle();
    running.shutdown_blocking();
    assert_eq!(handle.readiness(), Readiness::NotReady("stopping".to_owned()));
    assert!(TcpStream::connect(address).is_err());
    assert!(!directory.path().join("front.sock").exists());
}

#[test]
fn a_second_process_on_the_same_state_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = config(directory.path(), 1);
    let _running = start_at(path.clone());
    let error = start(Options { config_path: path, ..Options::default() }).unwrap_err();
    assert!(matches!(error, StartError::StateDir(StateDirError::Locked(_))), "{error}");
}

#[test]
fn dropped_it_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let running = start_at(config(directory.path(), backend()));
    let address = running.listener_address("http").unwrap();
    let began = Instant::now();
    drop(running);
    while TcpStream::connect(address).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(5));
        std::thread::yield_now();
    }
}

#[test]
fn check_opens_no_socket_and_locks_no_state() {
    let directory = tempfile::tempdir().unwrap();
    let path = config(directory.path(), 1);
    let _running = start_at(path.clone());
    let (parsed, warnings) = check(&path).unwrap();
    assert_eq!(parsed.config.pools.len(), 1);
    assert!(warnings.is_empty());
}

#[test]
fn workers_that_panic_while_they_drain_have_drained() {
    let directory = tempfile::tempdir().unwrap();
    let running = start_at(config(directory.path(), backend()));
    let mut stream = TcpStream::connect(running.listener_address("http").unwrap()).unwrap();
    stream.write_all(b"GET / HT").unwrap();
    let connections = || {
        let workers = running.shared().workers.iter();
        workers.map(|w| w.connections.load(std::sync::atomic::Ordering::Relaxed)).sum::<usize>()
    };
    let began = Instant::now();
    let in_time = |what| {
        assert!(began.elapsed() < Duration::from_secs(8), "{what}");
        std::thread::yield_now();
    };
    while connections() == 0 {
        in_time("the connection is there");
    }
    // It waits for the rest of the head, for longer than this test has.
    running.drain(Duration::from_secs(60));
    running.shared().broadcast(|| Mail::Panic);
    while !running.has_drained() {
        in_time("the workers end");
    }
}

/// Waits until each worker was started once more.
fn all_come_back(running: &Running) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let restarted = |worker: &crate::state::shared::WorkerPort| {
        worker.restarts.load(std::sync::atomic::Ordering::Relaxed) == 1
    };
    while !running.shared().workers.iter().all(restarted) {
        assert!(Instant::now() < deadline, "a worker does not come back");
        std::thread::yield_now();
    }
}

#[test]
fn workers_that_panic_come_back_with_their_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let running = start_at(config(directory.path(), backend()));
    let address = running.listener_address("http").unwrap();
    running.shared().broadcast(|| Mail::Panic);
    // Asked while they are down: the kernel keeps the connections on the sockets.
    for _ in 0..8 {
        let answer = get(address);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    all_come_back(&running);
    running.shutdown_blocking();
}

#[test]
fn workers_come_back_when_a_task_panics_that_they_need() {
    let directory = tempfile::tempdir().unwrap();
    let running = start_at(config(directory.path(), backend()));
    running.shared().broadcast(|| Mail::PanicOnDuty);
    all_come_back(&running);
    let answer = get(running.listener_address("http").unwrap());
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    running.shutdown_blocking();
}

mod panics;
