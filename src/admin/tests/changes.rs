//! Reloads, what they would do, and swaps.

use std::fs;

use serde_json::Value;

use super::house::{Answer, GOOD, House, JSON};

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
