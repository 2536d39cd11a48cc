//! The admin API over real sockets, in front of a real control plane.

use std::fs;
use std::io;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::balance::Condition;
use crate::balance::affinity::Key;
use crate::control::governor::{Setting, read_config};
use crate::control::{Governor, Store};

const GOOD: &str = r#"
    [listeners.http]
    bind = "127.0.0.1:0"
    [[routes]]
    pool = "app"
    [pools.app]
    backends = ["127.0.0.1:1"]
    [pools.app.health]
    interval = "1h"
"#;

/// A control plane with an admin API on a port of its own.
struct House {
    directory: TempDir,
    address: Address,
    state: AdminState,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<io::Result<()>>,
}

impl House {
    async fn new(config: &str) -> Self {
        Self::at(config, |_| Address::Tcp(([127, 0, 0, 1], 0).into())).await
    }

    async fn at(config: &str, address: impl Fn(&TempDir) -> Address) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidegate.toml");
        fs::write(directory.path().join("token"), "secret\n").unwrap();
        fs::write(&path, config).unwrap();
        let (shared, mailboxes) =
            Shared::new(1, "".into(), crate::state::Snapshot::empty(), u64::MAX);
        let affinity_key = Key::new(b"key");
        let parsed = read_config(&path).unwrap();
        let access_log = AccessLog::new().unwrap();
        let setting = Setting {
            path,
            workers: 1,
            affinity_key,
            open_files: 1024,
            log: None,
            access_log: access_log.clone(),
            store: Store::default(),
        };
        let mut governor = Governor::new(&shared, setting, mailboxes.notices);
        let state = AdminState { control: governor.handle(), shared, access_log };
        governor.begin(parsed).unwrap();
        tokio::spawn(governor.run());
        let socket = bind(&address(&directory)).unwrap();
        let address = socket.address().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(serve(socket, state.clone(), until));
        House { directory, address, state, stop: Some(stop), serving }
    }

    fn write_config(&self, config: &str) {
        fs::write(self.directory.path().join("tidegate.toml"), config).unwrap();
    }

    async fn connect(&self) -> TcpStream {
        let Address::Tcp(address) = self.address else { panic!("not a TCP socket") };
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends a request with the given further fields and body.
    async fn ask(&self, line: &str, fields: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\nContent-Length: {length}\r\n{fields}");
        exchange(self.connect().await, &format!("{head}Connection: close\r\n\r\n{body}")).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "Host: localhost\r\n", "").await
    }

    async fn reload(&self) -> Answer {
        self.ask("POST /api/reload", &format!("Host: localhost\r\n{JSON}"), "{}").await
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The status, once it is clear that the body tells the error as every error is told.
    fn refusal(&self) -> u16 {
        assert!(self.json()["error"].as_str().is_some_and(|words| !words.is_empty()));
        self.status
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.into(), body: body.into() }
}

#[tokio::test]
async fn it_is_alive_and_not_ready_until_there_is_a_verdict() {
    let house = House::new(GOOD).await;
    assert_eq!(house.get("/livez").await.status, 200);
    let snapshot = house.state.shared.snapshot.load_full();
    let split = snapshot.pools["app"].state.split.load_full();
    let backend = &split.shares[0].version.members[0].backend;
    backend.set_condition(Condition::Checking);
    let answer = house.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("app"), "{}", answer.body);
    backend.set_condition(Condition::Healthy);
    assert_eq!(house.get("/readyz").await.status, 200);
    house.state.shared.lifecycle.set_stopping();
    assert_eq!(house.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn metrics_come_in_the_format_of_prometheus() {
    let house = House::new(GOOD).await;
    let answer = house.get("/metrics").await;
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(answer.body.contains("_backend_up{pool=\"app\",version=\"\",backend=\"127.0.0.1:1\"}"));
}

#[tokio::test]
async fn the_status_is_json() {
    let house = House::new(GOOD).await;
    let answer = house.get("/api/status").await;
    assert_eq!(answer.field("content-type"), Some("application/json"));
    assert_eq!(answer.json()["pools"]["app"]["active"], "");
}

#[tokio::test]
async fn a_reload_tells_what_it_did() {
    let house = House::new(GOOD).await;
    let answer = house.reload().await;
    assert_eq!((answer.status, &answer.json()["generation"]), (200, &Value::from(2)));
}

async fn check(house: &House, body: &Value) -> Answer {
    let fields = format!("Host: localhost\r\n{JSON}");
    house.ask("POST /api/check", &fields, &body.to_string()).await
}

#[tokio::test]
async fn what_a_reload_would_do_is_told_and_nothing_is_done() {
    let house = House::new(GOOD).await;
    let plan = check(&house, &serde_json::json!({})).await.json();
    assert_eq!(plan["changes_anything"], false);
    assert_eq!(plan["listeners"]["kept"], serde_json::json!(["http"]));

    house.write_config(&GOOD.replace("127.0.0.1:1\"", "127.0.0.1:2\", \"127.0.0.1:3\""));
    let plan = check(&house, &serde_json::json!({})).await.json();
    assert_eq!(plan["changes_anything"], true);
    let backends = serde_json::json!({
        "added": ["127.0.0.1:2", "127.0.0.1:3"], "removed": ["127.0.0.1:1"], "kept": 0,
    });
    assert_eq!(plan["backends"]["app"], backends);
    assert_eq!(plan["reload_reads"], Value::Null);
    assert_eq!(house.state.shared.snapshot.load().generation, 1);
}

#[tokio::test]
async fn a_draft_is_checked_in_place_of_the_file() {
    let house = House::new(GOOD).await;
    let draft = |text: &str| serde_json::json!({ "text": text, "path": "/etc/new.toml" });
    let plan = check(&house, &draft(&GOOD.replace("[pools.app", "[pools.new"))).await;
    assert_eq!(plan.refusal(), 422);
    assert!(plan.json()["error"].as_str().unwrap().contains("/etc/new.toml:5"), "{}", plan.body);
    let text = GOOD.replace("\"app\"", "\"new\"").replace("[pools.app", "[pools.new");
    let plan = check(&house, &draft(&text)).await.json();
    assert_eq!(plan["pools"]["added"], serde_json::json!(["new"]));
    assert_eq!(plan["pools"]["removed"], serde_json::json!(["app"]));
    assert!(plan["reload_reads"].as_str().unwrap().ends_with("tidegate.toml"));
    let half = serde_json::json!({ "text": GOOD });
    assert_eq!(check(&house, &half).await.refusal(), 400);
}

#[tokio::test]
async fn the_way_of_a_request_is_told_as_it_would_be_taken() {
    let house =
        House::new(&format!("{GOOD}\n[[routes]]\npath = \"/old\"\nredirect = {{ path = \"/\" }}"))
            .await;
    let explain = async |query: &str| house.get(&format!("/api/explain?{query}")).await;
    let told = explain("url=http://any.test/x").await.json();
    assert_eq!((&told["listener"], &told["pool"]), (&"http".into(), &"app".into()));
    let version = &told["versions"][0];
    assert_eq!(version["share"], 1.0);
    assert_eq!(version["candidates"][0]["backend"], "127.0.0.1:1");
    assert_eq!(
        version["candidates"][0]["part"], 1.0,
        "the only one, though nobody knows it: {told}"
    );
    let backends = house.state.shared.requests.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        (backends, &version["candidates"][0]["in_flight"]),
        (0, &0.into()),
        "no slot is taken"
    );
    let told = explain("url=http://any.test/old/x").await.json();
    assert_eq!(
        (&told["answer"], &told["route"]),
        (&"308 Permanent Redirect".into(), &"routes[1]".into())
    );
    for wrong in
        ["", "url=x", "url=https://any.test/", "url=http://a/&client=me", "url=http://a/&header=x"]
    {
        assert_eq!(explain(wrong).await.refusal(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_backend_is_told_with_what_happened_to_it() {
    let house = House::new(GOOD).await;
    let told = house.get("/api/explain?backend=127.0.0.1:1").await.json();
    assert_eq!(told["backends"][0]["pool"], "app");
    assert!(told["text"].as_str().unwrap().starts_with("127.0.0.1:1 in pool app\n"));
    assert_eq!(house.get("/api/explain?backend=127.0.0.1:9").await.refusal(), 404);
}

#[tokio::test]
async fn a_refused_reload_tells_where_the_error_is_and_changes_nothing() {
    let house = House::new(GOOD).await;
    house.write_config(&GOOD.replace("[[routes]]", "[[roots]]"));
    let answer = house.reload().await;
    assert_eq!(answer.refusal(), 422);
    assert!(answer.json()["error"].as_str().unwrap().contains("tidegate.toml:4"));
    assert_eq!(house.state.shared.snapshot.load().generation, 1);
}

#[tokio::test]
async fn a_file_that_is_gone_is_another_kind_of_error() {
    let house = House::new(GOOD).await;
    fs::remove_file(house.directory.path().join("tidegate.toml")).unwrap();
    assert_eq!(house.reload().await.refusal(), 500);
}

#[tokio::test]
async fn a_change_needs_the_content_type_that_web_pages_cannot_send() {
    let house = House::new(GOOD).await;
    for fields in ["", "Content-Type: text/plain\r\n", "Content-Type: application/jsonp\r\n"] {
        let fields = format!("Host: localhost\r\n{fields}");
        assert_eq!(house.ask("POST /api/reload", &fields, "{}").await.refusal(), 415);
    }
    let fields = "Host: localhost\r\nContent-Type: Application/JSON; charset=utf-8\r\n";
    assert_eq!(house.ask("POST /api/reload", fields, "{}").await.status, 200);
}

#[tokio::test]
async fn other_hosts_are_not_answered_to() {
    let house = House::new(&format!("{GOOD}\n[admin]\nhosts = [\"ops.example.com\"]")).await;
    for fields in ["Host: evil.test\r\n", "", "Host: localhost\r\nHost: evil.test\r\n"] {
        assert_eq!(house.ask("GET /livez", fields, "").await.refusal(), 421, "{fields:?}");
    }
    let absolute = house.ask("GET http://evil.test/livez", "Host: localhost\r\n", "").await;
    assert_eq!(absolute.refusal(), 421);
    assert_eq!(house.ask("GET /livez", "Host: ops.example.com:80\r\n", "").await.status, 200);
}

#[tokio::test]
async fn the_token_opens_everything_and_probes_need_none() {
    let house = House::new(&format!("{GOOD}\n[admin]\ntoken_file = \"token\"")).await;
    for path in ["/", "/metrics", "/api/status", "/nowhere"] {
        let answer = house.get(path).await;
        assert_eq!(answer.refusal(), 401, "{path}");
        assert_eq!(answer.field("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(house.reload().await.refusal(), 401);
    assert_eq!(house.get("/livez").await.status, 200);
    let fields = "Host: localhost\r\nAuthorization: Bearer secret\r\n";
    assert_eq!(house.ask("GET /api/status", fields, "").await.status, 200);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_told_as_json() {
    let house = House::new(GOOD).await;
    for path in ["/nowhere", "/api/reports/1", "/api/status/"] {
        assert_eq!(house.get(path).await.refusal(), 404, "{path}");
    }
    let answer = house.get("/api/reload").await;
    assert_eq!((answer.refusal(), answer.field("allow")), (405, Some("POST")));
    let put = house.ask("PUT /api/reload", "Host: localhost\r\n", "{}").await;
    assert_eq!((put.refusal(), put.field("allow")), (405, Some("POST")));
    let options = house.ask("OPTIONS /api/reload", "Host: localhost\r\n", "").await;
    assert_eq!(options.refusal(), 405);
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_those_that_were_missed_first() {
    let house = House::new(GOOD).await;
    let mut stream = house.connect().await;
    let head = "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let told = read_until(&mut stream, "configuration 1 is in force").await;
    assert!(told.to_lowercase().contains("content-type: text/event-stream"), "{told}");
    assert_eq!(house.reload().await.status, 200);
    let told = read_until(&mut stream, "configuration 2 is in force").await;
    assert!(told.contains("event: reload\n") && told.contains("id: "), "{told}");
}

#[tokio::test]
async fn a_reader_that_was_told_before_is_told_what_followed() {
    let house = House::new(GOOD).await;
    assert_eq!(house.reload().await.status, 200);
    let mut stream = house.connect().await;
    let head = "GET /api/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 1\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let told = read_until(&mut stream, "configuration 2 is in force").await;
    assert!(!told.contains("configuration 1 is in force"), "{told}");
}

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut told = String::new();
    let mut bytes = [0; 4096];
    while !told.contains(wanted) {
        let length = stream.read(&mut bytes).await.unwrap();
        assert_ne!(length, 0, "the stream ended: {told}");
        told.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    told
}

#[tokio::test]
async fn swaps_that_cannot_be_are_refused_with_the_reason() {
    let house = House::new(GOOD).await;
    let fields = format!("Host: localhost\r\n{JSON}");
    let ask = async |path: &str, body: &str| {
        let answer = house.ask(&format!("POST /api/pools/{path}"), &fields, body).await;
        (answer.refusal(), answer.json()["error"].as_str().unwrap().to_owned())
    };
    for (path, body, status, words) in [
        ("app/swap", "{}", 400, "say which version"),
        ("app/swap", "[]", 400, "JSON object"),
        ("app/swap", "{\"version\": \"green\", \"force\": true}", 400, "`force`"),
        ("app/swap", "{\"version\": \"green\", \"replace\": 1}", 400, "`replace`"),
        ("app/swap", "{\"version\": \"green\"}", 409, "no versions"),
        ("ap/swap", "{\"version\": \"green\"}", 404, "no pool `ap`"),
        ("app/rollback", "{}", 409, "no versions"),
    ] {
        let (told, why) = ask(path, body).await;
        assert_eq!(told, status, "{path} {body}: {why}");
        assert!(why.contains(words), "{path} {body}: {why}");
    }
}

#[tokio::test]
async fn without_swaps_there_are_no_reports() {
    let house = House::new(GOOD).await;
    assert_eq!(house.get("/api/reports").await.json(), serde_json::json!({ "reports": [] }));
    assert_eq!(house.get("/api/reports/x").await.refusal(), 404);
}

#[tokio::test]
async fn a_large_body_is_refused() {
    let house = House::new(GOOD).await;
    let fields = format!("Host: localhost\r\n{JSON}");
    let answer = house.ask("POST /api/reload", &fields, &"x".repeat(20_000)).await;
    assert_eq!(answer.refusal(), 413);
}

#[tokio::test]
async fn a_unix_socket_answers_to_any_host() {
    let house =
        House::at(GOOD, |directory| Address::Unix(directory.path().join("admin.sock"))).await;
    let Address::Unix(path) = &house.address else { panic!("not a Unix socket") };
    let stream = UnixStream::connect(path).await.unwrap();
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(stream, request).await.status, 200);
}

#[tokio::test]
async fn the_page_allows_its_own_style_and_nothing_else() {
    let house = House::new(GOOD).await;
    let answer = house.get("/").await;
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(answer.body.contains("127.0.0.1:1"));
}

#[tokio::test]
async fn the_end_does_not_wait_for_idle_clients() {
    let mut house = House::new(GOOD).await;
    let mut idle = house.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // The answer shows that the connection is being served.
    assert_ne!(idle.read(&mut [0; 64]).await.unwrap(), 0);
    house.stop.take().unwrap().send(()).unwrap();
    house.serving.await.unwrap().unwrap();
    assert_ne!(idle.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_head_is_let_go() {
    let house = House::new(GOOD).await;
    let mut slow = house.connect().await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nHo").await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(60), slow.read_to_end(&mut answer)).await;
    end.expect("the connection ends before a minute is over").unwrap();
}
