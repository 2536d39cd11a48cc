//! What a new version shows while it is watched, and what follows: the verdict on its failures and its
//! slowness, one bad backend of several, `observe`, and the share that `control` keeps back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::Proxy;
use crate::support::{eventually, every};
use crate::swaps::{LONG, in_phase, over, report, shop, status, swap, who_answers};

/// Asks for `/` on connections of their own, one request after another, until it is dropped.
struct Clients(Arc<AtomicBool>);

impl Clients {
    fn of(proxy: &Proxy, count: usize) -> Clients {
        let goes_on = Arc::new(AtomicBool::new(true));
        for _ in 0..count {
            let (address, goes_on) = (proxy.http(), Arc::clone(&goes_on));
            tokio::spawn(async move {
                let mut client = crate::support::wire::Wire::connect(address).await;
                while goes_on.load(Ordering::Relaxed) {
                    client.get("/").await;
                }
            });
        }
        Clients(goes_on)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Well at `/health`, and else as this says.
async fn failing(name: &'static str) -> Backend {
    Backend::start(move |request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => Reply::status(500, name),
    })
    .await
}

/// Enough of the old version to hold another beside it.
async fn before_the_swap(proxy: &Proxy) {
    let mut client = proxy.connect().await;
    for _ in 0..250 {
        client.get("/").await;
    }
}

#[tokio::test]
async fn a_version_that_is_much_slower_is_rolled_back() {
    let blue = Backend::named("blue").await;
    let green = Backend::start(|request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => Reply::ok("green").after(Step::Hold),
    })
    .await;
    let keys = format!("{LONG}\nrollback = {{ latency_floor = \"10ms\", grace = \"0s\" }}");
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], &keys)).await;
    before_the_swap(&proxy).await;
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    let clients = Clients::of(&proxy, 30);
    let mut beat = every(Duration::from_secs(2));
    let slowly = async {
        loop {
            beat.tick().await;
            green.release_held();
        }
    };
    let verdict = eventually("a verdict", async || !report(&proxy, id)["outcome"].is_null());
    tokio::select! { () = verdict => {} () = slowly => {} }
    green.release_held();
    assert_eq!(who_answers(&proxy).await, "blue");
    drop(clients);
    let report = report(&proxy, id);
    assert_eq!(report["outcome"], "rolled_back", "{}", report["text"]);
    assert!(report["reason"].as_str().unwrap().contains("took longer than"), "{}", report["text"]);
}

#[tokio::test]
async fn a_version_that_answers_nobody_is_not_called_good() {
    let blue = Backend::named("blue").await;
    let green = Backend::start(|request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => Reply::ok("green").after(Step::Hang),
    })
    .await;
    let keys = "watch = \"10s\"\ndrain_timeout = \"1s\"";
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], keys)).await;
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    let clients = Clients::of(&proxy, 10);
    let report = over(&proxy, id).await;
    drop(clients);
    assert_eq!(report["outcome"], "undecided", "{}", report["text"]);
    let words = "0 requests, 0 failed, 10 without an answer for more than 5 s";
    assert!(report["reason"].as_str().unwrap().ends_with(words), "{}", report["text"]);
}

#[tokio::test]
async fn one_bad_backend_of_three_is_ejected_and_named_and_the_version_stays() {
    let blue = Backend::named("blue").await;
    let greens = [Backend::named("green").await, Backend::named("green").await];
    let bad = failing("bad green").await;
    // The swap itself is to find it.
    let apart = "[pools.shop.outliers]\nmode = \"observe\"\n";
    let config = shop("blue", &[&blue], &[&greens[0], &bad, &greens[1]], LONG);
    let proxy = Proxy::start(&format!("{config}{apart}")).await;
    before_the_swap(&proxy).await;
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    let clients = Clients::of(&proxy, 6);
    eventually("it is named", async || report(&proxy, id)["blamed"][0].is_object()).await;
    drop(clients);
    let report = report(&proxy, id);
    let blamed = report["blamed"].as_array().unwrap();
    assert_eq!((blamed.len(), &blamed[0]["backend"]), (1, &bad.address.to_string().into()));
    assert_eq!(report["outcome"], serde_json::Value::Null, "{}", report["text"]);
    let versions = &status(&proxy)["versions"];
    assert_eq!(versions["green"]["share"], 1.0);
    let backend = &versions["green"]["backends"][bad.address.to_string()];
    assert_eq!(backend["state"], "ejected");
}

#[tokio::test]
async fn to_observe_is_to_say_what_would_have_been_done() {
    let (blue, green) = (Backend::named("blue").await, failing("green").await);
    let keys = format!("{LONG}\nrollback = {{ mode = \"observe\" }}");
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], &keys)).await;
    before_the_swap(&proxy).await;
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    let clients = Clients::of(&proxy, 6);
    let told = async || report(&proxy, id)["notes"].to_string().contains("would roll back");
    eventually("it is told", told).await;
    drop(clients);
    let report = report(&proxy, id);
    assert_eq!((&report["phase"], &report["outcome"]), (&"watch".into(), &().into()));
    assert_eq!(status(&proxy)["versions"]["green"]["share"], 1.0);
}

#[tokio::test]
async fn a_control_group_stays_on_the_old_version_for_as_long_as_is_watched() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let keys = format!("{LONG}\ncontrol = \"40%\"");
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], &keys)).await;
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    assert_eq!(status(&proxy)["versions"]["blue"]["share"], 0.4);
    let mut on_blue = 0;
    for client in 1..=60 {
        let address = format!("127.0.1.{client}");
        let first = proxy.connect_from(&address).await.get("/").await.text();
        let again = proxy.connect_from(&address).await.get("/").await.text();
        assert_eq!(first, again, "{address}");
        on_blue += usize::from(first == "blue");
    }
    assert!((10..=40).contains(&on_blue), "{on_blue} of 60");
    // Both sides are counted, each as what it is.
    eventually("all of green are counted", async || {
        report(&proxy, id)["new"]["requests"] == 2 * (60 - on_blue)
    })
    .await;
}

#[tokio::test]
async fn the_control_group_moves_too_when_the_watch_is_over() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let keys = "watch = \"300ms\"\ncontrol = \"50%\"";
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], keys)).await;
    let id = swap(&proxy, "green").await.unwrap();
    over(&proxy, id).await;
    assert_eq!(status(&proxy)["versions"]["green"]["share"], 1.0);
    assert_eq!(who_answers(&proxy).await, "green");
}
