//! Guarded swaps of a pool with two versions, as clients and backends see them.

mod gate;
mod reloads;
mod rollback;
mod shadow;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use tidegate::control::{SwapId, SwapOptions, SwapRefused};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;
use crate::support::{eventually, in_time};

/// A pool `shop` of a blue and a green version, blue active, with these keys of its swap.
pub fn shop(active: &str, blue: &[&Backend], green: &[&Backend], swap: &str) -> String {
    let list = |backends: &[&Backend]| {
        let all: Vec<String> = backends.iter().map(|b| format!("\"{}\"", b.address)).collect();
        all.join(", ")
    };
    format!(
        "[[routes]]\npool = \"shop\"\n[pools.shop]\nactive = \"{active}\"\n\
         versions.blue.backends = [{}]\nversions.green.backends = [{}]\n\
         [pools.shop.health]\npath = \"/health\"\ninterval = \"100ms\"\n\
         [pools.shop.swap]\n{swap}\n",
        list(blue),
        list(green)
    )
}

/// A watch that is soon over.
pub const SHORT: &str = "watch = \"500ms\"\ndrain_timeout = \"1s\"";
/// A watch that only a verdict ends.
pub const LONG: &str = "watch = \"10m\"\ndrain_timeout = \"1s\"";
/// A drain that lasts as long as what it waits for.
const DRAINING: &str = "watch = \"100ms\"\ndrain_timeout = \"10m\"";

fn by_hand() -> SwapOptions {
    SwapOptions { replace: false, asked_by: "a test".to_owned() }
}

pub async fn swap(proxy: &Proxy, version: &str) -> Result<SwapId, SwapRefused> {
    let handle = proxy.running().handle();
    in_time("asking for a swap", handle.swap("shop", version, by_hand())).await
}

pub fn report(proxy: &Proxy, id: SwapId) -> Value {
    proxy.running().handle().report(id).unwrap().json(|_| String::new())
}

/// Waits until a swap is over, and gives its report.
pub async fn over(proxy: &Proxy, id: SwapId) -> Value {
    eventually("over", async || report(proxy, id)["phase"] == "done").await;
    report(proxy, id)
}

pub async fn in_phase(proxy: &Proxy, id: SwapId, phase: &str) {
    eventually(phase, async || report(proxy, id)["phase"] == phase).await;
}

/// A swap from blue to green that has come to its drain, which a request holds up.
struct Drain {
    blue: Backend,
    green: Backend,
    proxy: Proxy,
    id: SwapId,
    _never: Wire,
}

impl Drain {
    async fn held_up() -> Drain {
        let blue = Backend::start(|request| match request.request_line().1 {
            "/never" => Reply::raw("").then(Step::Hold),
            _ => Reply::ok("blue"),
        })
        .await;
        let green = Backend::named("green").await;
        let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], DRAINING)).await;
        let mut never = proxy.connect().await;
        never.send("GET /never HTTP/1.1\r\nHost: test\r\n\r\n").await;
        eventually("it is there", async || proxy.in_flight(&blue) == 1).await;
        let id = swap(&proxy, "green").await.unwrap();
        in_phase(&proxy, id, "drain").await;
        Drain { blue, green, proxy, id, _never: never }
    }
}

pub fn status(proxy: &Proxy) -> Value {
    serde_json::to_value(proxy.running().handle().status()).unwrap()["pools"]["shop"].clone()
}

pub async fn who_answers(proxy: &Proxy) -> String {
    proxy.connect().await.get("/").await.text()
}

#[tokio::test]
async fn a_swap_by_hand_moves_all_requests_and_lets_the_old_version_go() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], SHORT)).await;
    assert_eq!(who_answers(&proxy).await, "blue");
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    assert_eq!(who_answers(&proxy).await, "green");
    let report = over(&proxy, id).await;
    assert_eq!(report["outcome"], "undecided", "{}", report["text"]);
    assert_eq!(report["drained"]["version"], "blue");
    assert_eq!(who_answers(&proxy).await, "green");
    let swaps = &status(&proxy)["swaps"];
    assert_eq!((&swaps["serving"], &swaps["wanted"]), (&"green".into(), &"blue".into()));
    assert!(swaps["override"]["words"].as_str().unwrap().contains("tidegate swap shop blue"));
    let undecided = &["result=\"undecided\""];
    assert_eq!(proxy.metric("tidegate_swaps_total", undecided), 1.0);
    assert_eq!(proxy.metric("tidegate_pool_active_override", &["pool=\"shop\""]), 1.0);
}

#[tokio::test]
async fn a_bad_version_is_rolled_back_and_the_old_one_serves_again() {
    let blue = Backend::named("blue").await;
    let green = Backend::start(|request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => Reply::status(500, "green"),
    })
    .await;
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], LONG)).await;
    let mut client = proxy.connect().await;
    for _ in 0..50 {
        client.get("/").await;
    }
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    while report(&proxy, id)["outcome"].is_null() {
        client.get("/").await;
    }
    assert_eq!(client.get("/").await.text(), "blue");
    let report = over(&proxy, id).await;
    assert_eq!(report["outcome"], "rolled_back", "{}", report["text"]);
    assert_eq!(report["drained"]["version"], "green");
    assert_eq!(proxy.metric("tidegate_swaps_total", &["result=\"rolled_back\""]), 1.0);
}

#[tokio::test]
async fn one_swap_at_a_time_unless_it_is_replaced() {
    let sick = Arc::new(AtomicU16::new(503));
    let blue = Backend::named("blue").await;
    let green = Backend::with_health("green", Arc::clone(&sick)).await;
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], LONG)).await;
    let first = swap(&proxy, "green").await.unwrap();
    let Err(SwapRefused::Running { id, state }) = swap(&proxy, "green").await else {
        panic!("a second swap began");
    };
    assert_eq!(id, first);
    assert!(state.contains("at its gate"), "{state}");
    let handle = proxy.running().handle();
    let replace = SwapOptions { replace: true, ..by_hand() };
    let second = handle.swap("shop", "green", replace).await.unwrap();
    assert_eq!(over(&proxy, first).await["outcome"], "cancelled");
    sick.store(200, Ordering::SeqCst);
    in_phase(&proxy, second, "watch").await;
}

#[tokio::test]
async fn what_cannot_be_swapped_is_refused_in_words() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], SHORT)).await;
    let handle = proxy.running().handle();
    let refused = |pool: &'static str, version: &'static str| {
        let handle = handle.clone();
        async move { handle.swap(pool, version, by_hand()).await.unwrap_err().to_string() }
    };
    assert_eq!(refused("shop", "blue").await, "blue serves pool `shop` already");
    assert!(refused("shop", "red").await.contains("it has: blue, green"));
    assert!(refused("shed", "red").await.contains("there are: shop"));
    let back = handle.rollback("shop", false, "a test").await.unwrap_err().to_string();
    assert!(back.contains("no version to go back to"), "{back}");
}

#[tokio::test]
async fn in_a_ramp_every_client_stays_on_its_side() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let ramp = format!("ramp = [\"40%\"]\nramp_step = \"10m\"\n{LONG}");
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], &ramp)).await;
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "ramp").await;
    let mut on_green = 0;
    for client in 1..=60 {
        let address = format!("127.0.1.{client}");
        let first = proxy.connect_from(&address).await.get("/").await.text();
        let again = proxy.connect_from(&address).await.get("/").await.text();
        assert_eq!(first, again, "{address}");
        on_green += usize::from(first == "green");
    }
    assert!((10..=40).contains(&on_green), "{on_green} of 60");
    let share = ["pool=\"shop\"", "version=\"green\""];
    assert_eq!(proxy.metric("tidegate_pool_version_share_ratio", &share), 0.4);
}

#[tokio::test]
async fn requests_that_take_too_long_are_cut_and_the_old_version_is_let_go() {
    let blue = Backend::start(|request| match request.request_line().1 {
        "/slow" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").then(Step::Hold),
        "/never" => Reply::raw("").then(Step::Hold),
        _ => Reply::ok("blue"),
    })
    .await;
    let green = Backend::named("green").await;
    let keys = "watch = \"100ms\"\ndrain_timeout = \"300ms\"";
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], keys)).await;
    let (mut slow, mut never) = (proxy.connect().await, proxy.connect().await);
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await;
    never.send("POST /never HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").await;
    eventually("both are there", async || proxy.in_flight(&blue) == 2).await;
    let id = swap(&proxy, "green").await.unwrap();
    let report = over(&proxy, id).await;
    assert_eq!(report["drained"]["requests_cut"], 2, "{}", report["text"]);
    assert_eq!(report["drained"]["left"]["requests"], 0, "{}", report["text"]);
    in_time("the end", slow.rest()).await;
    assert_eq!(in_time("an answer", never.response()).await.unwrap().status(), 504);
}

#[tokio::test]
async fn who_waits_for_a_drain_that_another_swap_cuts_short_is_told() {
    let Drain { proxy, id, .. } = Drain::held_up().await;
    proxy.running().handle().rollback("shop", false, "a test").await.unwrap();
    let report = over(&proxy, id).await;
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"undecided".into(), &6.into()));
    assert_eq!(report["cut_short"], "by hand, asked by a test: back to blue");
    let words = "undecided, and then left again\n";
    assert!(report["text"].as_str().unwrap().contains(words), "{}", report["text"]);
}
