//! What a new version has to pass before it gets a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;

use super::{LONG, SHORT, in_phase, over, report, shop, status, swap, who_answers};
use crate::support::backend::{Backend, Reply};
use crate::support::eventually;
use crate::support::proxy::Proxy;

#[tokio::test]
async fn a_version_that_does_not_pass_the_gate_gets_no_request() {
    let sick = Arc::new(AtomicU16::new(503));
    let blue = Backend::named("blue").await;
    let green = Backend::with_health("green", sick).await;
    let config = shop("blue", &[&blue], &[&green], "gate_timeout = \"500ms\"");
    let proxy = Proxy::start(&config).await;
    let id = swap(&proxy, "green").await.unwrap();
    while report(&proxy, id)["phase"] != "done" {
        assert_eq!(who_answers(&proxy).await, "blue");
    }
    let report = report(&proxy, id);
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"refused".into(), &4.into()));
    assert_eq!(report["gate"][0]["passed"], false);
    assert!(report["gate"][0]["last_error"].as_str().unwrap().contains("503"));
    assert!(green.requests().is_empty());
}

#[tokio::test]
async fn smoke_requests_and_the_version_are_asked_before_the_switch() {
    let blue = Backend::named("blue").await;
    let green = Backend::start(|request| match request.request_line() {
        ("POST", "/smoke") => Reply::status(201, "made it"),
        ("GET", "/version") => Reply::ok("{\"build\": {\"version\": 7}}"),
        _ => Reply::ok("green"),
    })
    .await;
    let smoke = "smoke = [{ path = \"/smoke\", method = \"POST\", expect_status = [\"201\"], \
                 expect_body = \"made\" }]\nwarm_up = { connections = 2, requests = 3 }";
    let version = |keys: &str| {
        let expect = format!("expect_version = {{ path = \"/version\", {keys} }}");
        shop("blue", &[&blue], &[&green], &format!("{smoke}\n{expect}\n{SHORT}"))
    };
    let proxy = Proxy::start(&version("json = \"build.version\", equals = \"8\"")).await;
    let id = swap(&proxy, "green").await.unwrap();
    let refused = over(&proxy, id).await;
    assert_eq!(refused["outcome"], "refused");
    let words = refused["reason"].as_str().unwrap();
    assert!(words.contains("it tells version \"7\", \"8\" is expected"), "{words}");
    proxy.reload(&version("json = \"build.version\", equals = \"7\"")).await.unwrap();
    let id = swap(&proxy, "green").await.unwrap();
    let report = over(&proxy, id).await;
    assert_eq!(report["outcome"], "undecided", "{}", report["text"]);
    let warmed = green.requests().iter().filter(|r| r.request_line() == ("GET", "/")).count();
    assert_eq!(warmed, 3);
}

/// A backend that passes its checks, and answers everything else with this status.
async fn answering(status: &Arc<AtomicU16>, name: &'static str) -> Backend {
    let status = Arc::clone(status);
    Backend::start(move |request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => Reply::status(status.load(Ordering::SeqCst), name),
    })
    .await
}

/// A pool whose ejections outlast the test, and gates do not.
fn strict(active: &str, blue: &[&Backend], green: &[&Backend], watch: &str) -> String {
    let swap = format!("{watch}\ngate_timeout = \"10s\"");
    let outliers = "[pools.shop.outliers]\nbase_ejection = \"5m\"\nmax_ejected = \"50%\"\n";
    format!("{}{outliers}", shop(active, blue, green, &swap))
}

fn state_in(proxy: &Proxy, version: &str, backend: &Backend) -> Value {
    status(proxy)["versions"][version]["backends"][backend.address.to_string()]["state"].clone()
}

async fn ask_until_ejected(proxy: &Proxy, version: &str, backend: &Backend) {
    eventually("ejected", async || {
        who_answers(proxy).await;
        state_in(proxy, version, backend) == "ejected"
    })
    .await;
}

#[tokio::test]
async fn a_version_that_was_mended_passes_its_gate_though_its_backends_were_ejected_before() {
    let health = Arc::new(AtomicU16::new(503));
    let blue = Backend::named("blue").await;
    let green = [answering(&health, "green").await, Backend::named("green").await];
    let proxy = Proxy::start(&strict("blue", &[&blue], &[&green[0], &green[1]], LONG)).await;
    let bad = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, bad, "watch").await;
    ask_until_ejected(&proxy, "green", &green[0]).await;
    proxy.running().handle().rollback("shop", false, "a test").await.unwrap();
    over(&proxy, bad).await;
    assert_eq!(state_in(&proxy, "green", &green[0]), "ejected", "nobody swaps to it");

    health.store(200, Ordering::SeqCst);
    let mended = swap(&proxy, "green").await.unwrap();
    assert_eq!(state_in(&proxy, "green", &green[0]), "healthy");
    in_phase(&proxy, mended, "watch").await;
    let gate = report(&proxy, mended)["gate"].clone();
    let failed = |row: &&Value| !row["last_error"].is_null();
    assert_eq!(gate.as_array().unwrap().iter().find(failed), None, "at once");
}

#[tokio::test]
async fn going_back_forgets_ejections_only_where_checks_are_made() {
    let health = Arc::new(AtomicU16::new(503));
    let blue = Backend::named("blue").await;
    let green = [answering(&health, "green").await, Backend::named("green").await];
    let proxy = Proxy::start(&strict("green", &[&blue], &[&green[0], &green[1]], SHORT)).await;
    ask_until_ejected(&proxy, "green", &green[0]).await;
    let handle = proxy.running().handle();
    for (force, state) in [(true, "ejected"), (false, "healthy")] {
        let away = swap(&proxy, "blue").await.unwrap();
        over(&proxy, away).await;
        let back = handle.rollback("shop", force, "a test").await.unwrap();
        over(&proxy, back).await;
        assert_eq!(state_in(&proxy, "green", &green[0]), state);
    }
}
