//! Slow start: who comes back gets its share bit by bit, but for a pool that is new as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{HEALTH, Proxy, app};

/// Two backends of which the second says at its health page what it is told.
async fn pair(health: u16) -> (Backend, Backend, Arc<AtomicU16>) {
    let health = Arc::new(AtomicU16::new(health));
    let one = Backend::named("one").await;
    let two = Backend::with_health("two", Arc::clone(&health)).await;
    (one, two, health)
}

fn ratio(proxy: &Proxy, backend: &Backend) -> f64 {
    let label = format!("backend=\"{}\"", backend.address);
    proxy.metric("tidegate_backend_weight_ratio", &[&label])
}

#[tokio::test]
async fn a_pool_that_is_new_as_a_whole_begins_at_once() {
    let (one, two, _) = pair(200).await;
    let proxy = Proxy::start(&app(&[&one, &two], "slow_start = \"1h\"", HEALTH)).await;
    proxy.all_serve(&[&one, &two]).await;
    assert_eq!((ratio(&proxy, &one), ratio(&proxy, &two)), (1.0, 1.0));
}

#[tokio::test]
async fn a_recovered_backend_gets_its_share_bit_by_bit() {
    let (one, two, health) = pair(503).await;
    let proxy = Proxy::start(&app(&[&one, &two], "slow_start = \"2s\"", HEALTH)).await;
    let since = || {
        let status = serde_json::to_value(proxy.running().handle().status()).unwrap();
        let backends = &status["pools"]["app"]["versions"][""]["backends"];
        backends[one.address.to_string()]["since_seconds"].as_f64().unwrap()
    };
    eventually("its sibling has served for so long", async || {
        proxy.state_of(&one) == "healthy" && since() > 2.5
    })
    .await;
    // On a machine that is too busy to look in time, once more.
    for _ in 0..5 {
        health.store(200, Ordering::SeqCst);
        eventually("in slow start", async || ratio(&proxy, &two) < 1.0).await;
        let mut client = proxy.connect().await;
        let mut answered = 0;
        for _ in 0..100 {
            answered += u32::from(client.get("/").await.text() == "two");
        }
        if ratio(&proxy, &two) < 0.5 {
            // A quarter at most, give or take 4; without slow start it would be a half.
            assert!(answered < 50, "{answered} of 100");
            eventually("at its full share", async || ratio(&proxy, &two) == 1.0).await;
            return;
        }
        health.store(503, Ordering::SeqCst);
        eventually("down again", async || proxy.state_of(&two) == "unhealthy").await;
    }
    panic!("never looked in time");
}
