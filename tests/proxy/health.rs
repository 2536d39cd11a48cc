//! Probes, ejection and return, and what clients notice of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{BASE, HEALTH, Proxy, app};
use crate::support::wire::Wire;

#[tokio::test]
async fn a_killed_backend_is_judged_down_and_comes_back() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let proxy = Proxy::before(&[&one, &two]).await;
    one.kill();
    eventually("one is down", async || proxy.state_of(&one) == "unhealthy").await;
    one.revive().await;
    eventually("one is back", async || proxy.state_of(&one) == "healthy").await;
}

#[tokio::test]
async fn no_get_fails_while_a_backend_dies() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let proxy = Proxy::before(&[&one, &two]).await;
    let mut client = proxy.connect().await;
    for round in 0..400 {
        if round == 100 {
            one.kill();
        }
        assert_eq!(client.get("/").await.status(), 200, "in round {round}");
    }
}

/// A backend whose checks wait until they are released and then answer with this status.
async fn controlled(name: &'static str, status: Arc<AtomicU16>) -> Backend {
    Backend::start(move |request| match request.request_line().1 {
        "/health" => Reply::status(status.load(Ordering::SeqCst), "").after(Step::Hold),
        _ => Reply::ok(name),
    })
    .await
}

/// Checks every 100 ms that may take as long as they like, and these thresholds.
fn patient(fall: u32, rise: u32) -> String {
    format!("{HEALTH}timeout = \"60s\"\nfall = {fall}\nrise = {rise}\n")
}

fn checks(proxy: &Proxy, backend: &Backend) -> f64 {
    let label = format!("backend=\"{}\"", backend.address);
    proxy.metric("tidegate_backend_health_checks_total", &[&label])
}

/// Lets one check be answered, and waits until that was taken in.
async fn one_check(proxy: &Proxy, backend: &Backend) {
    let before = checks(proxy, backend);
    backend.release();
    eventually("one more check", async || checks(proxy, backend) == before + 1.0).await;
}

#[tokio::test]
async fn at_the_start_a_backend_without_a_verdict_takes_traffic() {
    let backend = controlled("one", Arc::new(AtomicU16::new(200))).await;
    let config = app(&[&backend], "", &patient(2, 2));
    let proxy = Proxy::start_unready(&format!("{BASE}{config}")).await;
    assert_eq!(proxy.state_of(&backend), "checking");
    assert_eq!(proxy.connect().await.get("/").await.text(), "one");
    assert_eq!(proxy.state_of(&backend), "checking");
}

#[tokio::test]
async fn a_backend_without_a_verdict_waits_while_another_is_healthy() {
    let old = Backend::named("old").await;
    let proxy = Proxy::start(&app(&[&old], "", &patient(2, 2))).await;
    let new = controlled("new", Arc::new(AtomicU16::new(200))).await;
    proxy.reload(&app(&[&old, &new], "", &patient(2, 2))).await.unwrap();
    let mut client = proxy.connect().await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.text(), "old");
    }
    assert_eq!(proxy.state_of(&new), "checking");
    new.release();
    proxy.all_serve(&[&old, &new]).await;
    eventually("it takes its part", async || client.get("/").await.text() == "new").await;
}

#[tokio::test]
async fn so_many_failures_as_fall_says_take_a_backend_out() {
    let status = Arc::new(AtomicU16::new(200));
    let backend = controlled("one", Arc::clone(&status)).await;
    let config = app(&[&backend], "", &patient(3, 2));
    let proxy = Proxy::start_unready(&format!("{BASE}{config}")).await;
    one_check(&proxy, &backend).await;
    status.store(500, Ordering::SeqCst);
    // One probe may have asked for its answer already, and was told that all is well.
    let failed = || proxy.metric("tidegate_backend_health_checks_total", &["result=\"fail\""]);
    while failed() < 2.0 {
        assert_eq!(proxy.state_of(&backend), "healthy");
        one_check(&proxy, &backend).await;
    }
    assert_eq!(proxy.state_of(&backend), "healthy");
    one_check(&proxy, &backend).await;
    assert_eq!(proxy.state_of(&backend), "unhealthy");
}

#[tokio::test]
async fn so_many_passes_as_rise_says_bring_a_backend_back() {
    let status = Arc::new(AtomicU16::new(500));
    let backend = controlled("one", Arc::clone(&status)).await;
    let config = app(&[&backend], "", &patient(1, 3));
    let proxy = Proxy::start_unready(&format!("{BASE}{config}")).await;
    one_check(&proxy, &backend).await;
    status.store(200, Ordering::SeqCst);
    let passed = || proxy.metric("tidegate_backend_health_checks_total", &["result=\"pass\""]);
    while passed() < 2.0 {
        assert_eq!(proxy.state_of(&backend), "unhealthy");
        one_check(&proxy, &backend).await;
    }
    assert_eq!(proxy.state_of(&backend), "unhealthy");
    one_check(&proxy, &backend).await;
    assert_eq!(proxy.state_of(&backend), "healthy");
}

/// What becomes of a backend that answers its checks like this.
async fn judged(check: impl Fn() -> Reply + Send + Sync + 'static, health: &str) -> Judged {
    let backend = Backend::start(move |request| match request.request_line().1 {
        "/health" => check(),
        _ => Reply::ok("one"),
    })
    .await;
    let proxy = Proxy::start(&app(&[&backend], "", &format!("{HEALTH}{health}"))).await;
    let status = serde_json::to_value(proxy.running().handle().status()).unwrap();
    let backends = &status["pools"]["app"]["versions"][""]["backends"];
    let text = |key: &str| backends[backend.address.to_string()][key].as_str().unwrap().to_owned();
    Judged { state: text("state"), reason: text("reason"), asked: backend.requests().len() }
}

struct Judged {
    state: String,
    reason: String,
    /// Requests for anything but `/health`.
    asked: usize,
}

#[tokio::test]
async fn a_status_that_is_not_expected_is_a_failure() {
    let judged = judged(|| Reply::status(204, ""), "expect_status = [\"200\"]\n").await;
    assert_eq!(judged.state, "unhealthy");
    assert_eq!(judged.reason, "failed 2 checks in a row, the last: status 204, expected 200");
}

#[tokio::test]
async fn the_body_must_hold_the_text_that_is_expected() {
    let health = "expect_body = \"all is well\"\n";
    assert_eq!(judged(|| Reply::ok("yes, all is well."), health).await.state, "healthy");
    let other = judged(|| Reply::ok("all is lost"), health).await;
    assert_eq!(other.state, "unhealthy");
    assert!(other.reason.ends_with("body does not contain `all is well`"), "{}", other.reason);
}

fn moved() -> Reply {
    Reply::raw("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let judged = judged(moved, "").await;
    assert_eq!((judged.state.as_str(), judged.asked), ("healthy", 0));
}

#[tokio::test]
async fn a_redirect_that_is_not_expected_is_a_failure_and_is_not_followed() {
    let judged = judged(moved, "expect_status = [\"200\"]\n").await;
    assert_eq!((judged.state.as_str(), judged.asked), ("unhealthy", 0));
}

#[tokio::test]
async fn a_check_that_takes_too_long_is_a_failure() {
    let judged = judged(|| Reply::default().then(Step::Hang), "timeout = \"100ms\"\n").await;
    assert_eq!(judged.reason, "failed 2 checks in a row, the last: timed out after 100 ms");
}

#[tokio::test]
async fn a_check_that_is_cut_off_is_a_failure() {
    let judged = judged(|| Reply::default().then(Step::Close), "").await;
    assert_eq!(judged.state, "unhealthy");
}

#[tokio::test]
async fn fields_of_the_check_reach_the_backend() {
    let backend = Backend::start(|request| match request.field("x-probe") {
        Some("yes") if request.field("host") == Some("app.test") => Reply::ok(""),
        _ => Reply::status(500, ""),
    })
    .await;
    let health = format!("{HEALTH}headers = {{ Host = \"app.test\", X-Probe = \"yes\" }}\n");
    let proxy = Proxy::start(&app(&[&backend], "", &health)).await;
    assert_eq!(proxy.state_of(&backend), "healthy");
}

#[tokio::test]
async fn another_port_can_be_asked() {
    let status = Arc::new(AtomicU16::new(500));
    let (served, asked) = (Backend::named("one").await, Backend::with_health("", status).await);
    let health = format!("{HEALTH}port = {}\n", asked.address.port());
    let proxy = Proxy::start(&app(&[&served], "", &health)).await;
    assert_eq!(proxy.state_of(&served), "unhealthy");
    assert_eq!(proxy.connect().await.get("/").await.text(), "one");
}

#[tokio::test]
async fn a_backend_that_leaves_its_checks_waiting_delays_nobody_elses() {
    let slow = controlled("slow", Arc::new(AtomicU16::new(200))).await;
    let health = Arc::new(AtomicU16::new(200));
    let other = Backend::with_health("other", Arc::clone(&health)).await;
    let proxy = Proxy::start(&app(&[&slow, &other], "", &patient(2, 2))).await;
    for (status, state) in [(500, "unhealthy"), (200, "healthy"), (500, "unhealthy")] {
        health.store(status, Ordering::SeqCst);
        eventually(state, async || proxy.state_of(&other) == state).await;
    }
    assert_eq!(checks(&proxy, &slow), 0.0);
}

#[tokio::test]
async fn a_failed_connect_has_the_backend_judged_long_before_its_next_check() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let health = "[pools.app.health]\ntype = \"tcp\"\ninterval = \"1h\"\n";
    let proxy = Proxy::start(&app(&[&one, &two], "policy = \"round_robin\"", health)).await;
    proxy.all_serve(&[&one, &two]).await;
    one.kill();
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.text(), "two");
    }
    eventually("one is judged", async || proxy.state_of(&one) == "unhealthy").await;
}

#[tokio::test]
async fn a_backend_under_suspicion_that_turns_out_well_serves_on() {
    let flaky = Backend::start(|request| match request.request_line().1 {
        "/reset" => Reply::default().then(Step::Reset),
        _ => Reply::ok("flaky"),
    })
    .await;
    let other = Backend::named("other").await;
    let health = "[pools.app.health]\npath = \"/health\"\ninterval = \"1h\"\n";
    let proxy = Proxy::start(&app(&[&flaky, &other], "policy = \"round_robin\"", health)).await;
    proxy.all_serve(&[&flaky, &other]).await;
    let before = checks(&proxy, &flaky);
    let mut client = proxy.connect().await;
    while flaky.requests().is_empty() {
        client.ask("GET", "/reset", &[], "").await;
    }
    eventually("it is asked at once", async || checks(&proxy, &flaky) > before).await;
    eventually("it serves", async || client.get("/").await.text() == "flaky").await;
    assert_eq!(proxy.state_of(&flaky), "healthy");
}

/// As many clients as these ask for `/` until they are told to stop; gives how many were answered.
async fn under_load(proxy: &Proxy, clients: usize, during: impl Future<Output = ()>) -> usize {
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (address, stop) = (proxy.http(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut client = Wire::connect(address).await;
                let mut answered = 0;
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/").await.status(), 200, "after {answered}");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    during.await;
    stop.store(true, Ordering::SeqCst);
    let mut answered = 0;
    for task in tasks {
        answered += task.await.expect("no request failed");
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_get_of_many_fails_while_backends_die_and_come_back() {
    let backends =
        [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await];
    let proxy = Proxy::before(&backends.each_ref()).await;
    proxy.all_serve(&backends.each_ref()).await;
    let answered = under_load(&proxy, 32, async {
        for backend in [&backends[0], &backends[1], &backends[2], &backends[0]] {
            backend.kill();
            eventually("out", async || proxy.state_of(backend) == "unhealthy").await;
            backend.revive().await;
            proxy.all_serve(&backends.each_ref()).await;
        }
    })
    .await;
    assert!(answered > 0);
}
