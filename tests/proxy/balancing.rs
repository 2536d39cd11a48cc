//! Which of a pool's backends answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{BASE, HEALTH, Proxy, app};
use crate::support::wire::Wire;

/// A backend that answers with its name, and keeps requests for `/hold` until it is released.
async fn patient(name: &'static str) -> Backend {
    Backend::start(move |request| match request.request_line().1 {
        "/hold" => Reply::ok(name).after(Step::Hold),
        _ => Reply::ok(name),
    })
    .await
}

/// A client whose request for `/hold` is in flight.
async fn hold(proxy: &Proxy, backends: &[&Backend]) -> Wire {
    let in_flight = || backends.iter().map(|backend| proxy.in_flight(backend)).sum::<u32>();
    let before = in_flight();
    let mut client = proxy.connect().await;
    client.send("GET /hold HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("one more in flight", async || in_flight() == before + 1).await;
    client
}

/// Who answers so many requests in a row on one connection.
async fn answers(proxy: &Proxy, count: usize) -> Vec<String> {
    let mut client = proxy.connect().await;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(client.get("/").await.text());
    }
    names
}

fn tally(names: &[String]) -> BTreeMap<&str, usize> {
    names.iter().fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name.as_str()).or_default() += 1;
        counts
    })
}

#[tokio::test]
async fn least_connections_picks_the_idle_one() {
    let (one, two) = (patient("one").await, patient("two").await);
    let proxy = Proxy::before(&[&one, &two]).await;
    proxy.all_serve(&[&one, &two]).await;
    let _held = hold(&proxy, &[&one, &two]).await;
    let idle = if proxy.in_flight(&one) == 1 { "two" } else { "one" };
    assert_eq!(tally(&answers(&proxy, 40).await), BTreeMap::from([(idle, 40)]));
}

#[tokio::test]
async fn least_connections_counts_over_all_workers() {
    let (one, two) = (patient("one").await, patient("two").await);
    let proxy = Proxy::before(&[&one, &two]).await;
    proxy.all_serve(&[&one, &two]).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(hold(&proxy, &[&one, &two]).await);
    }
    assert_eq!((proxy.in_flight(&one), proxy.in_flight(&two)), (10, 10));
}

#[tokio::test]
async fn least_connections_goes_by_weight() {
    let (heavy, light) = (patient("heavy").await, patient("light").await);
    let pool = format!(
        "[[routes]]\npool = \"app\"\n[pools.app]\nbackends = \
         [{{ address = \"{}\", weight = 3 }}, \"{}\"]\n",
        heavy.address, light.address
    );
    let proxy = Proxy::start(&pool).await;
    proxy.all_serve(&[&heavy, &light]).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(hold(&proxy, &[&heavy, &light]).await);
    }
    assert_eq!((proxy.in_flight(&heavy), proxy.in_flight(&light)), (6, 2));
}

#[tokio::test]
async fn ties_are_broken_fairly() {
    let backends =
        [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await];
    let proxy = Proxy::before(&backends.each_ref()).await;
    proxy.all_serve(&backends.each_ref()).await;
    for (name, count) in tally(&answers(&proxy, 600).await) {
        // Six standard deviations of a fair draw are 69.
        assert!((131..=269).contains(&count), "{name} answered {count} of 600");
    }
}

#[tokio::test]
async fn round_robin_goes_strictly_in_turn() {
    let backends =
        [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await];
    let proxy = Proxy::start(&app(&backends.each_ref(), "policy = \"round_robin\"", "")).await;
    proxy.all_serve(&backends.each_ref()).await;
    // The turn is that of the whole process: it goes on over connections and workers.
    let mut names = Vec::new();
    for _ in 0..10 {
        names.extend(answers(&proxy, 3).await);
    }
    let first: BTreeSet<&String> = names[..3].iter().collect();
    assert_eq!(first.len(), 3);
    assert!(names.windows(4).all(|four| four[0] == four[3]), "{names:?}");
}

#[tokio::test]
async fn round_robin_goes_by_weight() {
    let (heavy, light) = (Backend::named("heavy").await, Backend::named("light").await);
    let pool = format!(
        "[[routes]]\npool = \"app\"\n[pools.app]\npolicy = \"round_robin\"\nbackends = \
         [{{ address = \"{}\", weight = 3 }}, \"{}\"]\n",
        heavy.address, light.address
    );
    let proxy = Proxy::start(&pool).await;
    proxy.all_serve(&[&heavy, &light]).await;
    assert_eq!(tally(&answers(&proxy, 40).await), BTreeMap::from([("heavy", 30), ("light", 10)]));
}

#[tokio::test]
async fn random_two_avoids_the_busy_one() {
    let backends = [patient("a").await, patient("b").await];
    let proxy = Proxy::start(&app(&backends.each_ref(), "policy = \"random_two\"", "")).await;
    proxy.all_serve(&backends.each_ref()).await;
    let _held = hold(&proxy, &backends.each_ref()).await;
    let idle = if proxy.in_flight(&backends[0]) == 1 { "b" } else { "a" };
    assert_eq!(tally(&answers(&proxy, 40).await), BTreeMap::from([(idle, 40)]));
}

#[tokio::test]
async fn random_two_uses_all() {
    let backends =
        [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await];
    let proxy = Proxy::start(&app(&backends.each_ref(), "policy = \"random_two\"", "")).await;
    proxy.all_serve(&backends.each_ref()).await;
    assert_eq!(tally(&answers(&proxy, 200).await).len(), 3);
}

/// Who answers a client that a proxy in front of us says has this address.
async fn answer_for(proxy: &Proxy, address: &str) -> String {
    let mut client = proxy.connect().await;
    client.ask("GET", "/", &[("X-Forwarded-For", address)], "").await.text()
}

#[tokio::test]
async fn ip_hash_knows_clients_behind_a_trusted_proxy() {
    let backends =
        [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await];
    let trusting = BASE.replace("[server]", "[server]\ntrusted_proxies = [\"127.0.0.1\"]");
    let pool = app(&backends.each_ref(), "policy = \"ip_hash\"", "");
    let proxy = Proxy::start_whole(&format!("{trusting}{pool}")).await;
    proxy.all_serve(&backends.each_ref()).await;
    let mut used = BTreeSet::new();
    for last in 0..30 {
        let address = format!("192.0.2.{last}");
        let first = answer_for(&proxy, &address).await;
        assert_eq!(answer_for(&proxy, &address).await, first, "{address}");
        used.insert(first);
    }
    assert_eq!(used.len(), 3);
}

#[tokio::test]
async fn ip_hash_does_not_believe_strangers() {
    let backends =
        [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await];
    let proxy = Proxy::start(&app(&backends.each_ref(), "policy = \"ip_hash\"", "")).await;
    proxy.all_serve(&backends.each_ref()).await;
    let mut used = BTreeSet::new();
    for last in 0..30 {
        used.insert(answer_for(&proxy, &format!("192.0.2.{last}")).await);
    }
    assert_eq!(used.len(), 1);
}

#[tokio::test]
async fn a_backup_serves_only_while_no_primary_can() {
    let (primary, backup) = (Backend::named("primary").await, Backend::named("backup").await);
    let pool = format!(
        "[[routes]]\npool = \"app\"\n[pools.app]\nbackends = \
         [\"{}\", {{ address = \"{}\", backup = true }}]\n\
         [pools.app.health]\ntype = \"tcp\"\ninterval = \"100ms\"\n",
        primary.address, backup.address
    );
    let proxy = Proxy::start(&pool).await;
    eventually("the backup is well", async || proxy.state_of(&backup) == "healthy").await;
    eventually("the primary is well", async || proxy.state_of(&primary) == "healthy").await;
    proxy.usable(1).await;
    assert_eq!(tally(&answers(&proxy, 30).await), BTreeMap::from([("primary", 30)]));
    primary.kill();
    eventually("the primary is out", async || proxy.state_of(&primary) == "unhealthy").await;
    let answered = async |name: &str| answers(&proxy, 1).await[0] == name;
    eventually("the backup serves", async || answered("backup").await).await;
    assert_eq!(tally(&answers(&proxy, 30).await), BTreeMap::from([("backup", 30)]));
    assert_eq!(served_from(&proxy), "backup");
    primary.revive().await;
    eventually("the primary serves", async || answered("primary").await).await;
    assert_eq!(tally(&answers(&proxy, 30).await), BTreeMap::from([("primary", 30)]));
}

/// A proxy before four backends of which three say that they are ill, though they answer.
async fn mostly_ill(keys: &str) -> (Proxy, Vec<Backend>) {
    let (well, ill) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
    let backends = vec![
        Backend::with_health("well", well).await,
        Backend::with_health("ill 1", Arc::clone(&ill)).await,
        Backend::with_health("ill 2", Arc::clone(&ill)).await,
        Backend::with_health("ill 3", Arc::clone(&ill)).await,
    ];
    let members: Vec<&Backend> = backends.iter().collect();
    let proxy = Proxy::start(&app(&members, keys, HEALTH)).await;
    ill.store(500, Ordering::SeqCst);
    for backend in &backends[1..] {
        eventually("ill", async || proxy.state_of(backend) == "unhealthy").await;
    }
    proxy.usable(if keys.contains("panic") { 4 } else { 1 }).await;
    (proxy, backends)
}

#[tokio::test]
async fn the_healthy_carry_all_by_default() {
    let (proxy, _backends) = mostly_ill("").await;
    assert_eq!(tally(&answers(&proxy, 40).await), BTreeMap::from([("well", 40)]));
}

#[tokio::test]
async fn below_the_panic_threshold_health_is_ignored() {
    let (proxy, _backends) = mostly_ill("panic_threshold = \"50%\"").await;
    assert_eq!(tally(&answers(&proxy, 200).await).len(), 4);
    assert_eq!(proxy.metric("tidegate_pool_panic", &["pool=\"app\""]), 1.0);
    assert_eq!(served_from(&proxy), "panic");
}

/// Why requests go to whom they go, as `status` has it.
fn served_from(proxy: &Proxy) -> String {
    let status = serde_json::to_value(proxy.running().handle().status()).unwrap();
    status["pools"]["app"]["versions"][""]["serves_from"].as_str().unwrap().to_owned()
}

/// A proxy before two backends that answer, though both say that they are ill.
async fn all_ill(all_down: &str) -> (Proxy, [Backend; 2], Arc<AtomicU16>) {
    let ill = Arc::new(AtomicU16::new(500));
    let backends = [
        Backend::with_health("one", Arc::clone(&ill)).await,
        Backend::with_health("two", Arc::clone(&ill)).await,
    ];
    let keys = format!("all_down = \"{all_down}\"");
    let proxy = Proxy::start(&app(&backends.each_ref(), &keys, HEALTH)).await;
    for backend in &backends {
        eventually("ill", async || proxy.state_of(backend) == "unhealthy").await;
    }
    proxy.usable(if all_down == "try" { 2 } else { 0 }).await;
    (proxy, backends, ill)
}

#[tokio::test]
async fn when_all_are_down_all_are_tried() {
    let (proxy, _backends, _) = all_ill("try").await;
    assert_eq!(tally(&answers(&proxy, 60).await).len(), 2);
    assert_eq!(proxy.metric("tidegate_pool_all_down", &["pool=\"app\""]), 1.0);
    assert_eq!(served_from(&proxy), "all_down");
}

#[tokio::test]
async fn that_all_are_down_is_told_and_that_it_is_over() {
    let (proxy, _backends, health) = all_ill("fail").await;
    let told = |words: &str| {
        let events = proxy.running().shared().feed.latest(50);
        events.iter().any(|event| event.what.words().contains(words))
    };
    let down = "pool app: no backend may be picked, so requests are refused";
    eventually("told", async || told(down)).await;
    health.store(200, Ordering::SeqCst);
    let up = "pool app: requests go to healthy backends again";
    eventually("told of the end", async || told(up)).await;
}

#[tokio::test]
async fn when_all_are_down_requests_can_be_refused() {
    let (proxy, backends, _) = all_ill("fail").await;
    let answer = proxy.connect().await.get("/").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert!(backends.iter().all(|backend| backend.requests().is_empty()));
}

#[tokio::test]
async fn few_long_connections_are_spread_over_the_workers() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = proxy.connect().await;
        assert_eq!(client.get("/").await.status(), 200);
        clients.push(client);
    }
    // The kernel alone may give all of them to one worker.
    for worker in ["0", "1"] {
        let label = format!("worker=\"{worker}\"");
        let connections = proxy.metric("tidegate_worker_connections", &[label.as_str()]);
        assert!(connections >= 4.0, "worker {worker} has {connections} of 12");
    }
}
