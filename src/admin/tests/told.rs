//! What can be read: readiness, metrics, status, the page, explanations.

use std::io::Read;

use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::house::{GOOD, House};
use crate::balance::Condition;

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
async fn the_page_allows_its_own_style_and_nothing_else() {
    let house = House::new(GOOD).await;
    let answer = house.get("/").await;
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(answer.body.contains("127.0.0.1:1"));
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
    let backends = house.state.shared.requests_in_flight();
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
async fn metrics_are_compressed_for_whom_takes_that() {
    let house = House::new(GOOD).await;
    // HTTP/1.0 has no chunks: what follows the head is the body.
    let head = "GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n";
    let (mut stream, mut answer) = (house.connect().await, Vec::new());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(head.contains("\r\ncontent-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&answer[end + 4..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("\ntidegate_backend_up{"), "{text}");
}
