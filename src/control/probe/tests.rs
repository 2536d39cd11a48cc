use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::health::{FlapSettings, Health, StatusRanges};
use crate::state::pool::Protocol;

fn upstream(protocol: Protocol) -> Arc<UpstreamSettings> {
    Arc::new(UpstreamSettings {
        protocol,
        tls: None,
        connect_timeout: Duration::from_secs(1),
        response_timeout: None,
        body_idle_timeout: None,
        tunnel_idle_timeout: None,
        keepalive_timeout: Duration::from_secs(1),
        keepalive_connections: 1,
        min_idle: 0,
        keepalive_request: None,
        keepalive_interval: Duration::from_secs(30),
    })
}

fn check(question: Question) -> Check {
    Check {
        question,
        wish: DrainWish::default(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        port: None,
        upstream: upstream(Protocol::Http1),
        settings: settings(),
    }
}

fn settings() -> Settings {
    Settings {
        rise: 1,
        fall: 1,
        base_ejection: Duration::from_secs(1),
        max_ejection: Duration::from_secs(1),
        flaps: FlapSettings::default(),
    }
}

fn get(path: &str) -> HttpCheck {
    HttpCheck {
        method: Method::GET,
        path: path.parse().unwrap(),
        host: None,
        headers: HeaderMap::new(),
        expect: Expect::default(),
    }
}

fn backend(address: SocketAddr) -> Backend {
    let health = Health::new(settings(), Duration::ZERO);
    Backend::new("app".into(), Address::Ip(address), health, 1)
}

/// Answers one connection with `answer` and gives what was asked.
async fn server(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut asked).await.unwrap() == 0 {
                break;
            }
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (address, served)
}

async fn outcome(http: HttpCheck, answer: &'static str) -> Result<(), String> {
    wished(http, DrainWish::default(), answer).await.map(drop)
}

async fn wished(http: HttpCheck, wish: DrainWish, answer: &'static str) -> Result<bool, String> {
    let (address, _served) = server(answer).await;
    let check = Check { wish, ..check(Question::Http(Box::new(http))) };
    let answer = probe(&check, &backend(address)).await;
    answer.map(|answer| answer.leaving).map_err(|failure| failure.to_string())
}

#[tokio::test]
async fn a_wish_to_be_drained_is_no_failure() {
    let wish = DrainWish { header: Some("X-Drain".into()), body: Some("bye".into()) };
    let body = |body: &str| HttpCheck {
        expect: Expect { body: Some(body.into()), ..Expect::default() },
        ..get("/")
    };
    for (http, answer, expected) in [
        (get("/"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok(false)),
        (get("/"), "HTTP/1.1 200 OK\r\nx-drain: 1\r\nContent-Length: 0\r\n\r\n", Ok(true)),
        (get("/"), "HTTP/1.1 500 Oh\r\nX-Drain:\r\nContent-Length: 0\r\n\r\n", Ok(true)),
        (get("/"), "HTTP/1.1 503 No\r\nContent-Length: 8\r\n\r\ngood bye", Ok(true)),
        (body("ok"), "HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nbye", Ok(true)),
        (body("ok"), "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nok bye", Ok(false)),
        (
            get("/"),
            "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nok",
            Err("status 503, expected 200-399".to_owned()),
        ),
        (
            get("/"),
            "HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbye",
            Err("status 500, expected 200-399".to_owned()),
        ),
    ] {
        assert_eq!(wished(http, wish.clone(), answer).await, expected, "{answer}");
    }
}

#[tokio::test]
async fn asks_as_told() {
    let mut http = get("/health?deep=1");
    http.headers.insert("x-probe", HeaderValue::from_static("yes"));
    let (address, served) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
    let passed = probe(&check(Question::Http(Box::new(http))), &backend(address)).await;
    assert_eq!(passed, Ok(Answer::default()));
    let asked = served.await.unwrap();
    assert!(asked.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{asked}");
    let host = format!("host: {address}\r\n");
    for field in [&host, "user-agent: tidegate-probe\r\n", "x-probe: yes\r\n", "connection: close"]
    {
        assert!(asked.contains(field), "{field} in {asked}");
    }
}

#[tokio::test]
async fn a_host_of_its_own_replaces_the_address() {
    let mut http = get("/");
    http.host = Some(HeaderValue::from_static("app.test"));
    let (address, served) = server("HTTP/1.1 200 OK\r\n\r\n").await;
    probe(&check(Question::Http(Box::new(http))), &backend(address)).await.unwrap();
    let asked = served.await.unwrap();
    assert_eq!(asked.matches("host: ").count(), 1);
    assert!(asked.contains("host: app.test\r\n"), "{asked}");
}

#[tokio::test]
async fn judges_by_status_and_does_not_follow_redirects() {
    let table = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok(())),
        ("HTTP/1.1 302 Found\r\nlocation: /login\r\n\r\n", Ok(())),
        ("HTTP/1.1 503 Down\r\n\r\n", Err("status 503, expected 200-399")),
        ("", Err("connection closed before the answer was complete")),
    ];
    for (answer, expected) in table {
        assert_eq!(outcome(get("/"), answer).await, expected.map_err(str::to_owned), "{answer}");
    }
    let garbage = outcome(get("/"), "SSH-2.0-OpenSSH\r\n\r\n").await.unwrap_err();
    assert!(garbage.starts_with("not an HTTP answer"), "{garbage}");
}

#[tokio::test]
async fn judges_by_body() {
    let saying = |text: &str| HttpCheck {
        method: Method::GET,
        expect: Expect { status: StatusRanges::default(), body: Some(text.into()) },
        ..get("/")
    };
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nall is well";
    assert_eq!(outcome(saying("is well"), answer).await, Ok(()));
    let failed = outcome(saying("ready"), answer).await;
    assert_eq!(failed, Err("body does not contain `ready`".to_owned()));
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nready";
    let failed = outcome(saying("ready"), cut).await;
    assert_eq!(failed, Err("connection closed before the answer was complete".to_owned()));
}

#[tokio::test]
async fn a_silent_backend_costs_one_timeout() {
    // The kernel accepts; nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut check = check(Question::Http(Box::new(get("/"))));
    check.timeout = Duration::from_millis(30);
    let failure = probe(&check, &backend(listener.local_addr().unwrap())).await;
    assert_eq!(failure, Err(ProbeFailure::TimedOut(check.timeout)));
}

#[tokio::test]
async fn a_connection_is_enough_where_no_more_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let check = check(Question::Connect);
    assert_eq!(probe(&check, &backend(address)).await, Ok(Answer::default()));
    drop(listener);
    assert_eq!(probe(&check, &backend(address)).await, Err(ProbeFailure::Refused));
}

#[tokio::test]
async fn another_port_can_be_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut check = check(Question::Connect);
    check.port = Some(address.port());
    assert_eq!(
        probe(&check, &backend(SocketAddr::from(([127, 0, 0, 1], 1)))).await,
        Ok(Answer::default())
    );
}

#[tokio::test]
async fn a_backend_that_speaks_http2_only_is_asked_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        respond.send_response(::http::Response::new(()), true).unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        request.uri().to_string()
    });
    let mut check = check(Question::Http(Box::new(get("/up"))));
    check.upstream = upstream(Protocol::H2);
    assert_eq!(probe(&check, &backend(address)).await, Ok(Answer::default()));
    assert_eq!(served.await.unwrap(), format!("http://{address}/up"));
}
