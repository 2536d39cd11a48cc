//! Copies of live requests to a new version at its gate.

use std::time::{Duration, Instant};

use tidegate::control::SwapId;

use super::{SHORT, in_phase, over, report, shop, swap, who_answers};
use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::Proxy;
use crate::support::wire::Message;
use crate::support::{eventually, in_time};

/// Copies every GET to green for so long.
fn copying(lasts: &str, blue: &Backend, green: &Backend) -> String {
    let keys = format!("shadow = {{ share = \"100%\", lasts = \"{lasts}\" }}\n{SHORT}");
    shop("blue", &[blue], &[green], &keys)
}

/// Begins a swap to green, and waits until requests are copied.
async fn begin(proxy: &Proxy) -> SwapId {
    let id = swap(proxy, "green").await.unwrap();
    eventually("copying", async || report(proxy, id)["shadow"].is_object()).await;
    id
}

/// So many copies came to this.
fn copies(proxy: &Proxy, outcome: &str) -> f64 {
    let outcome = format!("outcome=\"{outcome}\"");
    proxy.metric("tidegate_pool_shadow_requests_total", &["pool=\"shop\"", &outcome])
}

async fn copied(proxy: &Proxy, outcome: &str, count: f64) {
    eventually("copies", async || copies(proxy, outcome) == count).await;
}

/// A version that answers its health check, and everything else with this.
async fn green_with(reply: Reply) -> Backend {
    Backend::start(move |request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => reply.clone(),
    })
    .await
}

/// What a backend was asked beside its health.
fn asked(backend: &Backend) -> Vec<(String, Option<String>, Option<String>)> {
    let requests = backend.requests();
    let others = requests.iter().filter(|request| request.request_line().1 != "/health");
    let field = |request: &Message, name: &str| request.field(name).map(str::to_owned);
    others
        .map(|request| {
            let (method, target) = request.request_line();
            let line = format!("{method} {target}");
            (line, field(request, "tidegate-shadow"), field(request, "x-request-id"))
        })
        .collect()
}

#[tokio::test]
async fn plain_gets_are_copied_and_marked_and_nothing_else_is() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&copying("10m", &blue, &green)).await;
    begin(&proxy).await;
    let mut client = proxy.connect().await;
    for request in [
        "GET /a?b HTTP/1.1\r\nHost: test\r\nTidegate-Shadow: 0\r\nX-Request-Id: one\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab",
        "GET /body HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab",
        "GET /events HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n",
        "GET /last HTTP/1.1\r\nHost: test\r\nX-Request-Id: two\r\n\r\n",
    ] {
        client.send(request).await;
        assert_eq!(in_time("an answer", client.response()).await.unwrap().text(), "blue");
    }
    copied(&proxy, "same", 2.0).await;
    let copy = |line: &str, id: &str| (line.to_owned(), Some("1".to_owned()), Some(id.to_owned()));
    assert_eq!(asked(&green), [copy("GET /a?b", "one"), copy("GET /last", "two")]);
    assert!(asked(&blue).iter().all(|(_, mark, _)| mark.is_none()));
}

#[tokio::test]
async fn nobody_waits_for_copies_that_hang_and_they_are_given_up_with_the_swap() {
    let (blue, green) = (Backend::named("blue").await, green_with(Reply(vec![Step::Hang])).await);
    let proxy = Proxy::start(&copying("10m", &blue, &green)).await;
    let id = begin(&proxy).await;
    let mut client = proxy.connect().await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.text(), "blue");
    }
    eventually("a copy hangs", async || !asked(&green).is_empty()).await;
    proxy.running().handle().rollback("shop", false, "a test").await.unwrap();
    assert_eq!(over(&proxy, id).await["outcome"], "cancelled");
    eventually("given up", async || proxy.in_flight(&green) == 0).await;
    client.get("/after").await;
    let copied = asked(&green).iter().any(|(line, ..)| line == "GET /after");
    assert!(!copied, "nothing is copied any more");
}

#[tokio::test]
async fn a_version_that_answers_otherwise_is_refused_and_told_by_how_much() {
    let (blue, green) = (Backend::named("blue").await, green_with(Reply::status(500, "")).await);
    let proxy = Proxy::start(&copying("10m", &blue, &green)).await;
    let id = begin(&proxy).await;
    let mut client = proxy.connect().await;
    while report(&proxy, id)["outcome"].is_null() {
        assert_eq!(client.get("/").await.text(), "blue");
    }
    let report = over(&proxy, id).await;
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"refused".into(), &4.into()));
    let (pairs, words) = (&report["shadow"]["compared"], report["reason"].as_str().unwrap());
    let expected = format!(
        "{pairs} of {pairs} copied requests got no answer or one of another class, 1% are accepted"
    );
    assert_eq!(words, expected);
    let text = report["text"].as_str().unwrap();
    assert!(text.contains("copied 100% of the GET requests for"), "{text}");
    assert_eq!(report["gate"][0]["passed"], true, "{text}");
    let counted = proxy.metric("tidegate_backend_requests_total", &["version=\"green\""]);
    assert_eq!(counted, 0.0, "copies are no requests");
    assert_eq!(who_answers(&proxy).await, "blue");
}

#[tokio::test]
async fn a_version_that_answers_alike_goes_on_and_holds_nothing() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&copying("1s", &blue, &green)).await;
    let began = Instant::now();
    let id = begin(&proxy).await;
    let mut client = proxy.connect().await;
    while report(&proxy, id)["phase"] == "gate" {
        client.get("/").await;
    }
    eventually("idle", async || proxy.in_flight(&green) == 0).await;
    let report = report(&proxy, id);
    // On a machine that sleeps for longer than a copy is waited for, even answers that are alike fail.
    if began.elapsed() < Duration::from_secs(10) {
        assert_eq!(report["shadow"]["differing"], 0, "{}", report["text"]);
    }
    assert!(report["shadow"]["compared"].as_u64().unwrap() > 0, "{}", report["text"]);
    assert_eq!(report["new"]["requests"], 0, "copies are no requests of the new version");
    assert_eq!(who_answers(&proxy).await, "green");
}

#[tokio::test]
async fn without_requests_nothing_speaks_against_it_and_that_is_said() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&copying("100ms", &blue, &green)).await;
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    let words = report(&proxy, id)["shadow"]["words"].to_string();
    assert!(words.contains("nothing to compare"), "{words}");
}

#[tokio::test]
async fn of_an_answer_to_a_copy_only_so_much_is_read() {
    let blue = Backend::named("blue").await;
    let endless = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
    let green = green_with(endless.then(Step::Pour(1 << 30))).await;
    let proxy = Proxy::start(&copying("10m", &blue, &green)).await;
    begin(&proxy).await;
    proxy.connect().await.get("/").await;
    copied(&proxy, "same", 1.0).await;
    eventually("closed", async || proxy.in_flight(&green) == 0).await;
    assert!(green.poured() < 1 << 28, "{}", green.poured());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_none() {
    let blue = Backend::named("blue").await;
    let half = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").then(Step::Close);
    let green = green_with(half).await;
    let proxy = Proxy::start(&copying("10m", &blue, &green)).await;
    begin(&proxy).await;
    proxy.connect().await.get("/").await;
    copied(&proxy, "different", 1.0).await;
}

#[tokio::test]
async fn what_the_client_does_not_wait_for_is_not_compared() {
    let blue = Backend::start(|request| match request.request_line().1 {
        "/never" => Reply(vec![Step::Hang]),
        _ => Reply::ok("blue"),
    })
    .await;
    let green = Backend::named("green").await;
    let proxy = Proxy::start(&copying("10m", &blue, &green)).await;
    begin(&proxy).await;
    let mut client = proxy.connect().await;
    client.send("GET /never HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the copy", async || asked(&green).len() == 1).await;
    drop(client);
    copied(&proxy, "not_compared", 1.0).await;
}

#[tokio::test]
async fn it_goes_on_over_a_reload_that_has_nothing_to_do_with_it() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let config = copying("10m", &blue, &green);
    let proxy = Proxy::start(&config).await;
    let id = begin(&proxy).await;
    let other = format!("{config}[pools.shop.retries]\nattempts = 2\n");
    proxy.reload(&other).await.unwrap();
    proxy.connect().await.get("/").await;
    copied(&proxy, "same", 1.0).await;
    let shorter = other.replace("10m", "100ms");
    proxy.reload(&shorter).await.unwrap();
    in_phase(&proxy, id, "watch").await;
    let report = report(&proxy, id);
    assert!(report["notes"].to_string().contains("the gate begins again"), "{}", report["text"]);
    assert_eq!(report["shadow"]["compared"], 0, "of before it is not told");
}
