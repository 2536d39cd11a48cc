//! Probes, ejection and return, and what clients notice of it.

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::Proxy;

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
