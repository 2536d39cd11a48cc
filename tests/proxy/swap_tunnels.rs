//! WebSockets on a version that a swap lets go.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;
use crate::support::{eventually, in_time};
use crate::swaps::{over, report, shop, swap, who_answers};

/// A close frame with the code 1001: the server goes away.
const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// Agrees to every upgrade and echoes; answers the rest with its name.
async fn echoing(name: &'static str) -> Backend {
    Backend::start(move |request| match request.field("upgrade") {
        Some(_) => Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        )
        .then(Step::Echo),
        None => Reply::ok(name),
    })
    .await
}

async fn websocket(proxy: &Proxy) -> Wire {
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    client
}

async fn echoes(client: &mut Wire) {
    client.send([0x81, 0x01, b'x']).await;
    assert_eq!(client.bytes(3).await, [0x81, 0x01, b'x']);
}

/// It is told to go, and goes.
async fn is_sent_away(mut client: Wire) {
    assert_eq!(in_time("a close frame", client.bytes(4)).await, GOING_AWAY);
    client.finish().await;
    client.rest().await;
}

#[tokio::test]
async fn kept_ones_work_on_and_are_named() {
    let (blue, green) = (echoing("blue").await, echoing("green").await);
    let keys = "watch = \"100ms\"\ntunnels = { drain = \"keep\" }";
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], keys)).await;
    let mut client = websocket(&proxy).await;
    let id = swap(&proxy, "green").await.unwrap();
    let report = over(&proxy, id).await;
    assert_eq!(report["drained"]["left"]["tunnels"], 1, "{}", report["text"]);
    assert_eq!(who_answers(&proxy).await, "green");
    echoes(&mut client).await;
}

#[tokio::test]
async fn those_that_are_to_be_closed_get_1001_and_are_all_counted() {
    let (blue, green) = (echoing("blue").await, echoing("green").await);
    let keys = "watch = \"100ms\"\ntunnels = { drain = \"close\", per_second = 50 }";
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], keys)).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(tokio::spawn(is_sent_away(websocket(&proxy).await)));
    }
    let id = swap(&proxy, "green").await.unwrap();
    let report = over(&proxy, id).await;
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(report["drained"]["at_first"]["tunnels"], 10, "{}", report["text"]);
    assert_eq!(report["drained"]["left"]["tunnels"], 0, "{}", report["text"]);
}

#[tokio::test]
async fn kept_ones_are_closed_at_their_deadline_which_nobody_waits_for() {
    let (blue, green) = (echoing("blue").await, echoing("green").await);
    let keys = "watch = \"100ms\"\ntunnels = { drain = \"keep\", deadline = \"2s\" }";
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], keys)).await;
    let client = websocket(&proxy).await;
    let id = swap(&proxy, "green").await.unwrap();
    over(&proxy, id).await;
    is_sent_away(client).await;
    let labels = ["pool=\"shop\"", "version=\"blue\""];
    eventually("none is left", async || proxy.metric("tidegate_tunnels", &labels) == 0.0).await;
    assert_eq!(report(&proxy, id)["outcome"], "undecided");
}
