//! The circuit breaker of a pool: when everything fails, failing at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{HEALTH, Proxy, app};

/// A backend that answers its health page well, and everything else with the status it is told; 0 is
/// a reset, 1 a body that breaks off.
async fn told(status: Arc<AtomicU16>) -> Backend {
    Backend::start(move |request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => match status.load(Ordering::SeqCst) {
            0 => Reply::default().then(Step::Reset),
            1 => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").then(Step::Close),
            status => Reply::status(status, "answered"),
        },
    })
    .await
}

/// A proxy before one such backend, with a breaker of these settings and without retries.
async fn guarded(breaker: &str) -> (Proxy, Backend, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(503));
    let backend = told(Arc::clone(&status)).await;
    let keys = format!("circuit_breaker = {breaker}");
    let sections = format!("{HEALTH}[pools.app.retries]\nattempts = 1\n");
    let proxy = Proxy::start(&app(&[&backend], &keys, &sections)).await;
    proxy.all_serve(&[&backend]).await;
    (proxy, backend, status)
}

async fn get(proxy: &Proxy) -> u16 {
    proxy.connect().await.get("/").await.status()
}

fn state(proxy: &Proxy) -> String {
    let status = serde_json::to_value(proxy.running().handle().status()).unwrap();
    status["pools"]["app"]["circuit_breaker"]["state"].as_str().unwrap_or("absent").to_owned()
}

fn is(proxy: &Proxy, state: &str) -> bool {
    proxy.metric("tidegate_pool_circuit_breaker_state", &[&format!("state=\"{state}\"")]) == 1.0
}

#[tokio::test]
async fn five_failures_in_a_row_open_it() {
    let (proxy, backend, _) = guarded("{}").await;
    for _ in 0..5 {
        assert_eq!(get(&proxy).await, 503);
    }
    eventually("open", async || state(&proxy) == "open" && is(&proxy, "open")).await;
    let refused = proxy.connect().await.get("/").await;
    let retry_after: u32 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&retry_after), "{retry_after}");
    assert_eq!(backend.requests().len(), 5, "nothing more reached it");
    assert_eq!(proxy.metric("tidegate_pool_circuit_breaker_rejected_total", &[]), 1.0);
}

#[tokio::test]
async fn what_counts_as_a_failure() {
    for (status, counts) in
        [(502, true), (504, true), (0, true), (1, true), (500, false), (404, false)]
    {
        let (proxy, _backend, told) = guarded("{ failures = 2 }").await;
        told.store(status, Ordering::SeqCst);
        for _ in 0..2 {
            let mut client = proxy.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
            client.rest().await;
        }
        eventually("both are recorded", async || proxy.recorded("http") == 2.0).await;
        assert_eq!(state(&proxy), if counts { "open" } else { "closed" }, "{status}");
    }
}

#[tokio::test]
async fn a_success_between_failures_keeps_it_closed() {
    let (proxy, _backend, status) = guarded("{ failures = 2 }").await;
    for answer in [503, 200, 503, 200] {
        status.store(answer, Ordering::SeqCst);
        assert_eq!(get(&proxy).await, answer);
    }
    assert_eq!(state(&proxy), "closed");
}

#[tokio::test]
async fn trials_close_it_again() {
    let (proxy, _backend, status) = guarded("{ failures = 1, open_for = \"100ms\" }").await;
    get(&proxy).await;
    status.store(200, Ordering::SeqCst);
    eventually("trials pass", async || get(&proxy).await == 200).await;
    eventually("closed", async || {
        get(&proxy).await;
        state(&proxy) == "closed"
    })
    .await;
    let to = |state| format!("to=\"{state}\"");
    let count =
        |state| proxy.metric("tidegate_pool_circuit_breaker_transitions_total", &[&to(state)]);
    assert_eq!((count("open"), count("half_open"), count("closed")), (1.0, 1.0, 1.0));
}

#[tokio::test]
async fn only_one_trial_at_a_time() {
    let status = Arc::new(AtomicU16::new(503));
    let answers = Arc::clone(&status);
    let backend = Backend::start(move |request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        "/trial" => Reply::ok("").after(Step::Hold),
        _ => Reply::status(answers.load(Ordering::SeqCst), ""),
    })
    .await;
    let keys = "circuit_breaker = { failures = 1, open_for = \"1s\" }";
    let proxy = Proxy::start(&app(&[&backend], keys, HEALTH)).await;
    proxy.all_serve(&[&backend]).await;
    get(&proxy).await;
    status.store(200, Ordering::SeqCst);
    eventually("half-open", async || state(&proxy) == "half_open").await;
    let mut trial = proxy.connect().await;
    trial.send("GET /trial HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the trial is on its way", async || proxy.in_flight(&backend) == 1).await;
    assert_eq!(get(&proxy).await, 503);
    backend.release();
    assert_eq!(trial.response().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_trial_whose_client_leaves_makes_room_for_another() {
    let (proxy, backend, status) = guarded("{ failures = 1, open_for = \"100ms\" }").await;
    get(&proxy).await;
    eventually("half-open", async || state(&proxy) == "half_open").await;
    let mut gone = proxy.connect().await;
    gone.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nhalf").await;
    eventually("the trial is on its way", async || proxy.in_flight(&backend) == 1).await;
    drop(gone);
    eventually("it is over", async || proxy.in_flight(&backend) == 0).await;
    status.store(200, Ordering::SeqCst);
    eventually("another trial passes", async || get(&proxy).await == 200).await;
}

#[tokio::test]
async fn a_backend_that_becomes_healthy_ends_it_early() {
    let health = Arc::new(AtomicU16::new(200));
    let sick = Backend::with_health("sick", Arc::clone(&health)).await;
    let keys = "circuit_breaker = { failures = 1, open_for = \"1h\" }\nall_down = \"try\"";
    let proxy = Proxy::start(&app(&[&sick], keys, HEALTH)).await;
    proxy.all_serve(&[&sick]).await;
    sick.kill();
    assert_eq!(get(&proxy).await, 502);
    eventually("down", async || proxy.state_of(&sick) == "unhealthy").await;
    eventually("open", async || state(&proxy) == "open").await;
    sick.revive().await;
    eventually("answered again", async || get(&proxy).await == 200).await;
}

#[tokio::test]
async fn without_settings_there_is_none() {
    let status = Arc::new(AtomicU16::new(503));
    let backend = told(status).await;
    let proxy = Proxy::start(&app(&[&backend], "", HEALTH)).await;
    proxy.all_serve(&[&backend]).await;
    for _ in 0..7 {
        assert_eq!(proxy.connect().await.get("/").await.text(), "answered");
    }
    assert_eq!(state(&proxy), "absent");
}

/// The circuit breaker of one backend, as `status` has it.
fn of_backend(proxy: &Proxy, backend: &Backend) -> String {
    let status = serde_json::to_value(proxy.running().handle().status()).unwrap();
    let backends = &status["pools"]["app"]["versions"][""]["backends"];
    backends[backend.address.to_string()]["circuit_breaker"].as_str().unwrap().to_owned()
}

/// Sends requests until the circuit breaker of a backend is in this state.
async fn ask_until(proxy: &Proxy, backend: &Backend, state: &str) {
    eventually(state, async || {
        get(proxy).await;
        of_backend(proxy, backend) == state
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_is_back_from_an_ejection_is_on_trial() {
    let status = Arc::new(AtomicU16::new(503));
    let (sick, well) = (told(Arc::clone(&status)).await, Backend::named("well").await);
    let outliers = "[pools.app.outliers]\nbase_ejection = \"1s\"\n";
    let sections = format!("{HEALTH}{outliers}");
    let keys = "policy = \"round_robin\"\nslow_start = \"0s\"";
    let proxy = Proxy::start(&app(&[&sick, &well], keys, &sections)).await;
    proxy.all_serve(&[&sick, &well]).await;
    ask_until(&proxy, &sick, "open").await;
    assert_eq!(proxy.state_of(&sick), "ejected");
    eventually("on trial", async || of_backend(&proxy, &sick) == "half_open").await;
    // One failure is enough now; a few more requests may come before that is known.
    let asked = sick.requests().len();
    ask_until(&proxy, &sick, "open").await;
    assert!(sick.requests().len() < asked + 5);
    status.store(200, Ordering::SeqCst);
    eventually("on trial again", async || of_backend(&proxy, &sick) == "half_open").await;
    ask_until(&proxy, &sick, "closed").await;
    assert_eq!(proxy.state_of(&sick), "healthy");
}
