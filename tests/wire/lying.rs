//! Answers of a backend that does not keep to the rules: what the client gets of them, over both
//! versions of HTTP, and that the connection is not used again.

mod cases;
mod floods;
mod http2;
mod stories;

use std::sync::Arc;

use crate::kit::holds;
use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::{H2Client, request};
use crate::support::proxy::{HTTPS, Proxy, quiet_pool_of};
use crate::support::wire::Wire;

use http::Method;

/// What a backend says after a request, which clause (RFC number and section) speaks about it, and
/// what comes of it.
pub struct Case {
    name: &'static str,
    clause: &'static str,
    method: &'static str,
    bytes: &'static [u8],
    closes: bool,
    want: Want,
}

/// What comes of it.
#[derive(Clone, Copy)]
enum Want {
    /// The client gets this; the connection goes on.
    Passed(u16, &'static str),
    /// The client gets this; the connection is not used again.
    Last(u16, &'static str),
    /// The client gets this; what came behind it is dropped with the connection.
    Surplus(u16, &'static str),
    /// The client gets a 502 for what is malformed.
    Refused,
    /// The client gets a 502, or is told that the answer breaks off.
    Cut,
}

impl Case {
    const fn new(
        name: &'static str,
        clause: &'static str,
        bytes: &'static [u8],
        want: Want,
    ) -> Case {
        Case { name, clause, method: "GET", bytes, closes: false, want }
    }

    /// The backend closes the connection behind it.
    const fn closing(mut self) -> Case {
        self.closes = true;
        self
    }

    /// As the answer to a HEAD.
    const fn for_head(mut self) -> Case {
        self.method = "HEAD";
        self
    }
}

/// What a client made of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Answer(u16, String),
    BrokenOff,
}

/// A proxy of one worker, so that the connection to the backend is the one of the request before,
/// with a client of each version.
struct Clients {
    proxy: Proxy,
    h1: Wire,
    h2: H2Client,
}

impl Clients {
    async fn new(pool: &str) -> Clients {
        let base = crate::support::proxy::BASE.replace("workers = 2", "workers = 1");
        let proxy = Proxy::start_whole(&(base + pool + HTTPS)).await;
        let h1 = proxy.connect().await;
        let h2 = H2Client::connect(proxy.address("https")).await;
        Clients { proxy, h1, h2 }
    }

    async fn ask(&mut self, h2: bool, method: &str, path: &str) -> Seen {
        if h2 { self.ask_h2(method, path).await } else { self.ask_h1(method, path).await }
    }

    async fn ask_h1(&mut self, method: &str, path: &str) -> Seen {
        self.h1.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let answer = match method {
            "HEAD" => self.h1.head().await,
            _ => self.h1.response().await,
        };
        match answer {
            Ok(answer) => Seen::Answer(answer.status(), answer.text()),
            Err(_) => {
                // What is left is a part of the body, and the connection ends behind it.
                assert!(!self.h1.rest().await.ends_with(b"0\r\n\r\n"));
                self.h1 = self.proxy.connect().await;
                Seen::BrokenOff
            }
        }
    }

    async fn ask_h2(&mut self, method: &str, path: &str) -> Seen {
        let request = request(Method::from_bytes(method.as_bytes()).unwrap(), path);
        match self.h2.ask(request).await {
            Ok(answer) => Seen::Answer(answer.status.as_u16(), answer.text()),
            Err(error) => {
                assert!(error.is_reset(), "the stream is reset: {error}");
                Seen::BrokenOff
            }
        }
    }

    fn malformed(&self) -> f64 {
        self.proxy.metric("tidegate_backend_malformed_responses_total", &[])
    }
}

/// Clients of a backend that plays these cases.
struct Stage {
    backend: Backend,
    clients: Clients,
}

impl Stage {
    async fn new(cases: &'static [Case]) -> Stage {
        let backend = Backend::start(|request| answer(cases, request.request_line().1)).await;
        let clients = Clients::new(&quiet_pool_of(&[&backend])).await;
        Stage { backend, clients }
    }

    /// One case between two answers that are well.
    async fn play(&mut self, number: usize, case: &Case, h2: bool) {
        let name = format!("{} ({}), {}", case.name, case.clause, if h2 { "h2" } else { "h1" });
        let well = Seen::Answer(200, "well".to_owned());
        assert_eq!(self.clients.ask(h2, "GET", "/well").await, well, "{name}: before");
        let (connections, malformed) = (self.backend.connections(), self.clients.malformed());
        let seen = self.clients.ask(h2, case.method, &format!("/{number}")).await;
        let (fits, again, counted) = match case.want {
            Want::Passed(status, body) => (is(&seen, status, body), true, false),
            Want::Last(status, body) => (is(&seen, status, body), false, false),
            Want::Surplus(status, body) => (is(&seen, status, body), false, true),
            Want::Refused => (is_refused(&seen), false, true),
            Want::Cut => (seen == Seen::BrokenOff || is_refused(&seen), false, false),
        };
        assert!(fits, "{name}: {seen:?}");
        assert_eq!(self.clients.ask(h2, "GET", "/well").await, well, "{name}: after");
        assert_eq!(self.clients.malformed() - malformed, f64::from(counted), "{name}: counted");
        let reused = self.backend.connections() == connections;
        assert_eq!(reused, again, "{name}: the connection is used again");
    }
}

fn is(seen: &Seen, status: u16, body: &str) -> bool {
    *seen == Seen::Answer(status, body.to_owned())
}

fn is_refused(seen: &Seen) -> bool {
    matches!(seen, Seen::Answer(502, _))
}

fn answer(cases: &[Case], path: &str) -> Reply {
    let Some(case) = path[1..].parse::<usize>().ok().and_then(|number| cases.get(number)) else {
        return Reply::ok("well");
    };
    let reply = Reply::raw(case.bytes);
    if case.closes { reply.then(Step::Close) } else { reply }
}

async fn run(cases: &'static [Case]) {
    let mut stage = Stage::new(cases).await;
    let mut failed = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        for h2 in [false, true] {
            if !holds(stage.play(number, case, h2)).await {
                failed.push((case.name, case.clause, if h2 { "h2" } else { "h1" }));
                stage = Stage::new(cases).await;
            }
        }
    }
    assert!(failed.is_empty(), "{} cases failed: {failed:#?}", failed.len());
}

/// A backend that, on every connection, is this function's.
async fn raw<F>(
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + Sync + 'static,
) -> std::net::SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}
