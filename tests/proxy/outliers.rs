//! Backends that are judged by their traffic: what takes them out, what does not, and what is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{HEALTH, Proxy, app};

/// A backend whose checks pass, and that treats requests as `reply` says while it is sick.
async fn sick_while(sick: &Arc<AtomicBool>, reply: fn() -> Reply) -> Backend {
    let sick = Arc::clone(sick);
    Backend::start(move |request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ if sick.load(Ordering::SeqCst) => reply(),
        _ => Reply::ok("well"),
    })
    .await
}

async fn sick(reply: fn() -> Reply) -> Backend {
    sick_while(&Arc::new(AtomicBool::new(true)), reply).await
}

/// A proxy that asks its backends in turn, with these keys of `[pools.app.outliers]`.
async fn proxy(backends: &[&Backend], outliers: &str) -> Proxy {
    let sections = format!("{HEALTH}[pools.app.outliers]\n{outliers}");
    let proxy = Proxy::start(&app(backends, "policy = \"round_robin\"", &sections)).await;
    proxy.all_serve(backends).await;
    proxy
}

fn ejections(proxy: &Proxy, backend: &Backend, reason: &str) -> f64 {
    let backend = format!("backend=\"{}\"", backend.address);
    let reason = format!("reason=\"{reason}\"");
    proxy.metric("tidegate_backend_ejections_total", &[&backend, &reason])
}

/// Sends requests until this backend is in this state; gives the statuses of the answers.
async fn ask_until(proxy: &Proxy, backend: &Backend, state: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    eventually(state, async || {
        let answer = proxy.connect().await.get("/").await;
        statuses.push(answer.status());
        proxy.state_of(backend) == state
    })
    .await;
    statuses
}

#[tokio::test]
async fn failures_in_a_row_eject_and_no_client_sees_them() {
    let (one, two) = (sick(|| Reply::status(503, "")).await, Backend::named("two").await);
    let proxy = proxy(&[&one, &two], "").await;
    let statuses = ask_until(&proxy, &one, "ejected").await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(ejections(&proxy, &one, "consecutive_failures"), 1.0);
    assert!(proxy.status_of(&one).reason.contains("5 requests in a row failed"));
}

#[tokio::test]
async fn a_backend_that_answers_500_is_ejected_and_no_client_sees_it() {
    let (one, two) = (sick(|| Reply::status(500, "")).await, Backend::named("two").await);
    let proxy = proxy(&[&one, &two], "min_requests = 5").await;
    let statuses = ask_until(&proxy, &one, "ejected").await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(ejections(&proxy, &one, "failure_rate"), 1.0);
}

#[tokio::test]
async fn a_bug_in_every_replica_ejects_nobody_and_is_not_multiplied() {
    let (one, two) = (sick(|| Reply::status(500, "")).await, sick(|| Reply::status(500, "")).await);
    let proxy = proxy(&[&one, &two], "min_requests = 5\nwindow = \"2s\"").await;
    // Once enough is known of both, a request is asked once.
    eventually("one attempt each", async || {
        let asked = || one.requests().len() + two.requests().len();
        let before = asked();
        for _ in 0..10 {
            assert_eq!(proxy.connect().await.get("/").await.status(), 500);
        }
        asked() - before == 10
    })
    .await;
    assert_eq!(proxy.state_of(&one), "healthy");
    assert_eq!(proxy.state_of(&two), "healthy");
}

#[tokio::test]
async fn responses_that_break_off_eject() {
    let half = || Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").then(Step::Close);
    let (one, two) = (sick(half).await, Backend::named("two").await);
    let proxy = proxy(&[&one, &two], "").await;
    eventually("ejected", async || {
        let mut client = proxy.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        client.rest().await;
        proxy.state_of(&one) == "ejected"
    })
    .await;
    assert_eq!(ejections(&proxy, &one, "broken_off"), 1.0);
}

#[tokio::test]
async fn a_backend_on_its_own_is_never_ejected() {
    let one = sick(|| Reply::status(503, "")).await;
    let proxy = proxy(&[&one], "").await;
    let withheld = || proxy.metric("tidegate_backend_findings_total", &["action=\"withheld\""]);
    eventually("a finding", async || {
        assert_eq!(proxy.connect().await.get("/").await.status(), 503);
        withheld() > 0.0
    })
    .await;
    assert_eq!(proxy.state_of(&one), "healthy");
}

#[tokio::test]
async fn in_observe_mode_it_is_only_told() {
    let (one, two) = (sick(|| Reply::status(503, "")).await, Backend::named("two").await);
    let proxy = proxy(&[&one, &two], "mode = \"observe\"").await;
    let observed = || proxy.metric("tidegate_backend_findings_total", &["action=\"observed\""]);
    eventually("a finding", async || {
        assert_eq!(proxy.connect().await.get("/").await.status(), 200);
        observed() > 0.0
    })
    .await;
    assert_eq!(proxy.state_of(&one), "healthy");
    let told = proxy.status_of(&one).finding.unwrap();
    assert!(told.starts_with("would be ejected: 5 requests in a row failed"), "{told}");
}

#[tokio::test]
async fn a_passing_check_does_not_cut_an_ejection_short_and_its_end_brings_it_back() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let one = sick_while(&is_sick, || Reply::status(503, "")).await;
    let two = Backend::named("two").await;
    let proxy = proxy(&[&one, &two], "base_ejection = \"1s\"").await;
    ask_until(&proxy, &one, "ejected").await;
    is_sick.store(false, Ordering::SeqCst);
    let checks = || {
        let backend = format!("backend=\"{}\"", one.address);
        let labels = [&*backend, "result=\"pass\""];
        proxy.metric("tidegate_backend_health_checks_total", &labels)
    };
    let before = checks();
    eventually("checks pass", async || checks() >= before + 3.0).await;
    assert_eq!(proxy.state_of(&one), "ejected");
    eventually("it is back", async || proxy.state_of(&one) == "healthy").await;
    assert!(proxy.status_of(&one).reason.contains("the time of its ejection is over"));
}

#[tokio::test]
async fn settings_change_with_a_reload() {
    let (one, two) = (sick(|| Reply::status(503, "")).await, Backend::named("two").await);
    let proxy = proxy(&[&one, &two], "mode = \"off\"\nmin_requests = 1000").await;
    for _ in 0..40 {
        assert_eq!(proxy.connect().await.get("/").await.status(), 200);
    }
    assert_eq!(proxy.state_of(&one), "healthy");
    let sections =
        format!("{HEALTH}[pools.app.outliers]\nconsecutive_failures = 3\nmin_requests = 1000\n");
    let config = app(&[&one, &two], "policy = \"round_robin\"", &sections);
    proxy.reload(&config).await.unwrap();
    ask_until(&proxy, &one, "ejected").await;
    // The workers may have counted to the old number for a moment.
    assert!(proxy.status_of(&one).reason.contains("requests in a row failed"));
}
