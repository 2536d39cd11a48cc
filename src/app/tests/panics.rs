//! A panic within one request: what it takes along, and what it leaves alone.

use std::error::Error as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Running, backend, start_at};

/// A proxy with one worker, so that all connections are neighbours.
fn start(directory: &std::path::Path) -> Running {
    let path = directory.join("tidegate.toml");
    let text = format!(
        "[server]\nworkers = 1\nmax_requests = 10\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [listeners.http]\nbind = \"127.0.0.1:0\"\nh2c = true\n\
         [listeners.http.limits]\nmax_connections_per_address = 10\n\
         [[routes]]\npool = \"app\"\n[pools.app]\nbackends = [\"127.0.0.1:{}\"]\n",
        backend()
    );
    std::fs::write(&path, text).unwrap();
    start_at(path)
}

/// What is counted while something is under way.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    /// By worker, process, listener and address.
    connections: [usize; 4],
    /// In all, under `max_requests`, and on the backend.
    requests: [usize; 3],
    panics: u64,
}

impl Counts {
    fn of(running: &Running) -> Self {
        let shared = running.shared();
        let snapshot = shared.snapshot.load();
        let listener = &snapshot.listeners[0].state;
        let by_address = listener.by_address.lock().unwrap();
        let split = snapshot.pools["app"].state.split.load();
        let on_backend = split.shares[0].version.members[0].backend.in_flight();
        let worker = &shared.workers[0];
        Counts {
            connections: [
                worker.connections.load(Ordering::Relaxed),
                shared.files.clients.taken(),
                listener.connections.taken(),
                by_address.values().sum(),
            ],
            requests: [
                usize::try_from(shared.requests_in_flight()).unwrap(),
                shared.admitted.load(Ordering::Relaxed),
                usize::try_from(on_backend).unwrap(),
            ],
            panics: worker.cells.panics.get(),
        }
    }
}

/// Waits for these counts: of so many connections and no request.
fn settles(running: &Running, connections: usize, panics: u64) {
    let wanted = Counts { connections: [connections; 4], requests: [0; 3], panics };
    let deadline = Instant::now() + Duration::from_secs(8);
    loop {
        let counts = Counts::of(running);
        if counts == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{counts:?}, not {wanted:?}");
        std::thread::yield_now();
    }
}

/// An answer of a connection that goes on, in which the backend's port is all that follows the head.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: app.test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    head
}

#[test]
fn it_ends_its_connection_and_its_neighbours_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path());
    let connect = || TcpStream::connect(running.listener_address("http").unwrap()).unwrap();
    let (mut neighbour, mut hit) = (connect(), connect());
    for stream in [&mut neighbour, &mut hit] {
        assert!(ask(stream, "/").starts_with("http/1.1 200"));
    }
    settles(&running, 2, 0);
    assert_eq!(ask(&mut hit, "/panic"), "", "it is closed without an answer");
    settles(&running, 1, 1);
    assert!(ask(&mut neighbour, "/").starts_with("http/1.1 200"));
    drop(neighbour);
    settles(&running, 0, 1);
    assert_eq!(running.shared().workers[0].restarts.load(Ordering::Relaxed), 0);
}

#[test]
fn over_http2_it_ends_its_stream_and_the_others_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path());
    let address = running.listener_address("http").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        let driver = tokio::spawn(connection);
        let ask = |path: &str| {
            let mut sender = sender.clone();
            let uri = format!("http://app.test{path}");
            let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
            async move {
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                answer.into_body().collect().await.map(|_| status)
            }
        };
        let (before, hit, beside) = tokio::join!(ask("/"), ask("/panic"), ask("/"));
        assert_eq!((before.unwrap(), beside.unwrap()), (StatusCode::OK, StatusCode::OK));
        let error = hit.unwrap_err();
        let reset = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
        let reason = reset.filter(|reset| reset.is_reset()).and_then(h2::Error::reason);
        assert_eq!(reason, Some(h2::Reason::INTERNAL_ERROR), "{error:?}");
        assert_eq!(ask("/").await.unwrap(), StatusCode::OK);
        settles(&running, 1, 1);
        drop(sender);
        driver.await.unwrap().unwrap();
    });
    settles(&running, 0, 1);
}
