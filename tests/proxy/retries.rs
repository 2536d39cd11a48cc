//! What happens to a request whose backend fails it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{HEALTH, Proxy, app};
use crate::support::wire::Message;

/// A backend whose checks pass and that treats each request as `reply` says.
async fn sick(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Backend {
    Backend::start(move |request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => reply(),
    })
    .await
}

fn reset() -> Reply {
    Reply::default().then(Step::Reset)
}

/// A proxy that asks the first of these first, and the second only if the first has failed.
///
/// Round robin takes its turns in the order of the file, and the first request has the first turn.
async fn in_order(backends: &[&Backend], sections: &str) -> Proxy {
    let sections = format!("{HEALTH}{sections}");
    let proxy = Proxy::start(&app(backends, "policy = \"round_robin\"", &sections)).await;
    proxy.all_serve(backends).await;
    proxy
}

/// The answer to a request with a body, on a connection of its own.
async fn send(proxy: &Proxy, method: &str, body: impl AsRef<[u8]>) -> Message {
    proxy.connect().await.ask(method, "/", &[], body).await
}

/// Sends requests of this method until one of them has met the sick backend; gives that answer.
async fn meet(proxy: &Proxy, sick: &Backend, method: &str, body: &[u8]) -> Message {
    for _ in 0..20 {
        let before = sick.requests().len();
        let answer = send(proxy, method, body).await;
        if sick.requests().len() > before {
            return answer;
        }
    }
    panic!("no request met the sick backend");
}

#[tokio::test]
async fn a_failed_connect_goes_elsewhere_whatever_the_method() {
    let (dead, well) = (Backend::named("dead").await, Backend::named("well").await);
    let slow = "[pools.app.health]\ntype = \"tcp\"\ninterval = \"60s\"\n";
    let proxy = Proxy::start(&app(&[&dead, &well], "policy = \"round_robin\"", slow)).await;
    proxy.all_serve(&[&dead, &well]).await;
    dead.kill();
    for method in ["POST", "GET", "PATCH"] {
        for _ in 0..2 {
            let answer = send(&proxy, method, "body").await;
            assert_eq!((answer.status(), answer.text()), (200, "well".to_owned()), "{method}");
        }
    }
    let bodies: Vec<String> = well.requests().iter().map(Message::text).collect();
    assert_eq!(bodies, vec!["body"; 6]);
}

#[tokio::test]
async fn a_get_that_met_a_reset_goes_elsewhere() {
    let (one, well) = (sick(reset).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    let answer = meet(&proxy, &one, "GET", b"").await;
    assert_eq!((answer.status(), answer.text()), (200, "well".to_owned()));
}

#[tokio::test]
async fn a_post_that_met_a_reset_is_not_sent_again() {
    let (one, well) = (sick(reset).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    let before = well.requests().len();
    let answer = send(&proxy, "POST", "pay").await;
    assert_eq!(answer.status(), 502);
    assert_eq!((one.requests().len(), well.requests().len()), (1, before));
}

#[tokio::test]
async fn a_put_with_a_small_body_is_sent_again_as_it_was() {
    let (one, well) = (sick(reset).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    let body: Vec<u8> = (0..64 * 1024).map(|i| (i % 251) as u8).collect();
    assert_eq!(meet(&proxy, &one, "PUT", &body).await.status(), 200);
    assert!(well.requests().iter().all(|request| request.body == body));
}

#[tokio::test]
async fn a_put_with_a_chunked_body_is_sent_again_as_it_was() {
    let (one, well) = (sick(reset).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    let mut client = proxy.connect().await;
    client.send("PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().status(), 200);
    assert_eq!(one.requests().len(), 1);
    assert_eq!(well.requests()[0].text(), "abcdefg");
}

#[tokio::test]
async fn a_put_with_a_body_too_large_to_keep_is_not_sent_again() {
    let (one, well) = (sick(reset).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    let body = vec![b'x'; 64 * 1024 + 1];
    assert_eq!(send(&proxy, "PUT", &body).await.status(), 502);
    assert_eq!((one.requests().len(), well.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_put_whose_trailers_were_read_is_not_sent_again() {
    let (sick, well) = (sick(|| Reply::status(503, "full")).await, Backend::named("well").await);
    let proxy = in_order(&[&sick, &well], "").await;
    let mut client = proxy.connect().await;
    let head =
        "PUT / HTTP/1.1\r\nHost: test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}0\r\nX-Sum: 42\r\n\r\n")).await;
    assert_eq!(client.response().await.unwrap().text(), "full");
    assert!(well.requests().iter().all(|request| request.request_line().0 != "PUT"));
}

#[tokio::test]
async fn a_503_for_a_get_is_asked_of_a_sibling() {
    let (one, well) = (sick(|| Reply::status(503, "")).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    assert_eq!(meet(&proxy, &one, "GET", b"").await.text(), "well");
}

#[tokio::test]
async fn a_503_for_a_post_is_the_answer() {
    let (one, well) = (sick(|| Reply::status(503, "busy")).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    let answer = send(&proxy, "POST", "pay").await;
    assert_eq!((answer.status(), answer.text()), (503, "busy".to_owned()));
    assert_eq!(well.requests().len(), 0);
}

#[tokio::test]
async fn a_500_for_a_get_is_asked_of_a_sibling_once() {
    let (one, well) = (sick(|| Reply::status(500, "")).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    assert_eq!(meet(&proxy, &one, "GET", b"").await.text(), "well");
    let backends = [
        sick(|| Reply::status(500, "a")).await,
        sick(|| Reply::status(500, "b")).await,
        sick(|| Reply::status(500, "c")).await,
    ];
    let proxy = in_order(&backends.each_ref(), "").await;
    assert_eq!(send(&proxy, "GET", "").await.status(), 500);
    let asked: usize = backends.iter().map(|backend| backend.requests().len()).sum();
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn a_500_for_other_methods_is_the_answer() {
    for method in ["PUT", "DELETE", "POST"] {
        let (one, well) = (sick(|| Reply::status(500, "no")).await, Backend::named("well").await);
        let proxy = in_order(&[&one, &well], "").await;
        let answer = meet(&proxy, &one, method, b"").await;
        assert_eq!((answer.status(), answer.text()), (500, "no".to_owned()), "{method}");
    }
}

#[tokio::test]
async fn a_500_is_hidden_within_the_budget() {
    let (one, well) = (sick(|| Reply::status(500, "no")).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], &budget(1)).await;
    assert_eq!(meet(&proxy, &one, "GET", b"").await.text(), "well");
    assert_eq!(meet(&proxy, &one, "GET", b"").await.text(), "no");
}

#[tokio::test]
async fn the_access_log_tells_of_attempts_and_their_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let (one, well) = (sick(|| Reply::status(503, "")).await, Backend::named("well").await);
    let log = format!("[log]\naccess = \"json\"\naccess_path = \"{}\"\n", path.display());
    let config = app(&[&one, &well], "policy = \"round_robin\"", HEALTH);
    let proxy = Proxy::start(&format!("{log}{config}")).await;
    proxy.all_serve(&[&one, &well]).await;
    meet(&proxy, &one, "GET", b"").await;
    eventually("it is logged", async || {
        let log = std::fs::read_to_string(&path).unwrap();
        log.lines().any(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            entry["attempts"] == 2 && entry["retry_reasons"] == "503" && entry["status"] == 200
        })
    })
    .await;
}

#[tokio::test]
async fn a_404_is_an_answer_like_any_other() {
    let (one, well) = (sick(|| Reply::status(404, "no")).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    assert_eq!(meet(&proxy, &one, "GET", b"").await.text(), "no");
}

#[tokio::test]
async fn when_the_siblings_say_503_too_the_client_gets_a_backends_answer() {
    let backends = [sick(|| Reply::status(503, "a")).await, sick(|| Reply::status(503, "b")).await];
    let proxy = in_order(&backends.each_ref(), "").await;
    let answer = send(&proxy, "GET", "").await;
    assert_eq!(answer.status(), 503);
    assert!(["a", "b"].contains(&answer.text().as_str()), "{}", answer.text());
}

#[tokio::test]
async fn attempts_are_bounded() {
    let count = Arc::new(AtomicUsize::new(0));
    let counting = || {
        let count = Arc::clone(&count);
        sick(move || {
            count.fetch_add(1, Ordering::SeqCst);
            reset()
        })
    };
    let backends = [counting().await, counting().await, counting().await, counting().await];
    let proxy = in_order(&backends.each_ref(), "[pools.app.retries]\nattempts = 3\n").await;
    assert_eq!(send(&proxy, "GET", "").await.status(), 502);
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn every_attempt_asks_another_backend() {
    let backends = [sick(reset).await, sick(reset).await, sick(reset).await];
    let proxy = in_order(&backends.each_ref(), "[pools.app.retries]\nattempts = 3\n").await;
    assert_eq!(send(&proxy, "GET", "").await.status(), 502);
    let asked = backends.each_ref().map(|backend| backend.requests().len());
    assert_eq!(asked, [1, 1, 1]);
}

#[tokio::test]
async fn one_attempt_means_no_retries() {
    let (one, well) = (sick(reset).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "[pools.app.retries]\nattempts = 1\n").await;
    assert_eq!(meet(&proxy, &one, "GET", b"").await.status(), 502);
}

#[tokio::test]
async fn what_is_not_named_is_not_retried() {
    let (one, well) = (sick(reset).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "[pools.app.retries]\non = [\"503\"]\n").await;
    assert_eq!(meet(&proxy, &one, "GET", b"").await.status(), 502);
}

/// A budget of exactly so many retries: ten seconds of the rate, and no time passes to earn more.
fn budget(retries: u32) -> String {
    format!("[pools.app.retries]\nbudget = \"0%\"\nbudget_floor = \"{}/h\"\n", retries * 360)
}

#[tokio::test]
async fn an_exhausted_budget_ends_retries() {
    let backends = [sick(reset).await, sick(reset).await];
    let proxy = in_order(&backends.each_ref(), &budget(4)).await;
    for _ in 0..10 {
        assert_eq!(send(&proxy, "GET", "").await.status(), 502);
    }
    let attempts: usize = backends.iter().map(|backend| backend.requests().len()).sum();
    assert_eq!(attempts, 10 + 4);
    assert!(proxy.metric("tidegate_pool_retry_budget_exhausted_total", &[]) >= 8.0);
}

#[tokio::test]
async fn a_retry_for_a_status_costs_one_of_the_budget() {
    let (one, well) = (sick(|| Reply::status(503, "busy")).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], &budget(2)).await;
    assert_eq!(meet(&proxy, &one, "GET", b"").await.text(), "well");
    assert_eq!(meet(&proxy, &one, "GET", b"").await.text(), "well");
    let last = meet(&proxy, &one, "GET", b"").await;
    assert_eq!((last.status(), last.text()), (503, "busy".to_owned()));
}

#[tokio::test]
async fn a_failed_connect_costs_nothing_of_the_budget() {
    let (dead, well) = (Backend::named("dead").await, Backend::named("well").await);
    let sections = format!(
        "[pools.app.health]\ntype = \"tcp\"\ninterval = \"60s\"\nfall = 1000\n{}",
        budget(0)
    );
    let proxy = Proxy::start(&app(&[&dead, &well], "policy = \"round_robin\"", &sections)).await;
    proxy.all_serve(&[&dead, &well]).await;
    dead.kill();
    for _ in 0..10 {
        assert_eq!(send(&proxy, "GET", "").await.text(), "well");
    }
}

const IMPATIENT: &str = "[pools.app.upstream]\nresponse_timeout = \"200ms\"\n";

fn hang() -> Reply {
    Reply::default().then(Step::Hang)
}

#[tokio::test]
async fn a_get_that_is_not_answered_in_time_goes_elsewhere() {
    let (slow, well) = (sick(hang).await, Backend::named("well").await);
    let proxy = in_order(&[&slow, &well], IMPATIENT).await;
    assert_eq!(meet(&proxy, &slow, "GET", b"").await.text(), "well");
}

#[tokio::test]
async fn a_post_that_is_not_answered_in_time_is_a_504() {
    let (slow, well) = (sick(hang).await, Backend::named("well").await);
    let proxy = in_order(&[&slow, &well], IMPATIENT).await;
    assert_eq!(send(&proxy, "POST", "pay").await.status(), 504);
    assert_eq!(well.requests().len(), 0);
}

#[tokio::test]
async fn when_nobody_answers_in_time_it_is_a_504() {
    let backends = [sick(hang).await, sick(hang).await];
    let proxy = in_order(&backends.each_ref(), IMPATIENT).await;
    assert_eq!(send(&proxy, "GET", "").await.status(), 504);
}

#[tokio::test]
async fn the_time_of_a_route_is_for_all_attempts() {
    let backends = [sick(hang).await, sick(hang).await];
    let pool = app(&backends.each_ref(), "", HEALTH);
    let proxy =
        Proxy::start(&pool.replacen("[[routes]]", "[[routes]]\ntimeout = \"300ms\"", 1)).await;
    assert_eq!(send(&proxy, "GET", "").await.status(), 504);
    assert_eq!(backends[0].requests().len() + backends[1].requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_asked_for_again() {
    let broken =
        || Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").then(Step::Reset);
    let (one, well) = (sick(broken).await, Backend::named("well").await);
    let proxy = in_order(&[&one, &well], "").await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(client.response().await.is_err());
    assert_eq!(well.requests().len(), 0);
}
