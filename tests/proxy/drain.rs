//! Letting backends go: tunnels of every kind that are closed. And connections that are opened ahead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use http::Method;
use tidegate::state::{Backend as Known, CloseTunnels, Mail, Pace, WarmUp};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_backend::H2Backend;
use crate::support::h2_client::{H2Client, read, read_some, request};
use crate::support::proxy::{HTTPS, Proxy, app, pool_at, quiet_pool_of};
use crate::support::{eventually, in_time};

/// More bytes than all buffers on the way hold.
const LONG: usize = 8 * 1024 * 1024;

/// A WebSocket server that says back what it is told; how each connection ended is told too.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<Option<CloseFrame>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, ends) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(tcp).await else { return };
                let mut end = None;
                while let Some(Ok(message)) = socket.next().await {
                    match message {
                        Message::Close(frame) => end = frame,
                        Message::Text(text) if text.as_str() == "long" => {
                            drop(socket.send(Message::binary(vec![7; LONG])).await);
                        }
                        message => drop(socket.send(message).await),
                    }
                }
                let _ = told.send(end);
            });
        }
    });
    (address, ends)
}

async fn socket(proxy: &Proxy) -> WebSocketStream<TcpStream> {
    let tcp = TcpStream::connect(proxy.http()).await.unwrap();
    let uri = format!("ws://{}/socket", proxy.http());
    let mut socket = in_time("a handshake", client_async(uri, tcp)).await.unwrap().0;
    socket.send(Message::text("there?")).await.unwrap();
    let answer = in_time("an echo", socket.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::text("there?"));
    socket
}

/// The only backend of the pool `app`, as the planes know it.
fn known(proxy: &Proxy) -> Arc<Known> {
    let snapshot = proxy.running().shared().snapshot.load();
    let split = snapshot.pools["app"].state.split.load();
    Arc::clone(&split.shares[0].version.members[0].backend)
}

fn close_tunnels(proxy: &Proxy) {
    let order = CloseTunnels {
        backends: Arc::new([known(proxy).id]),
        pace: Arc::new(Pace::new(Instant::now(), 200)),
    };
    proxy.running().shared().broadcast(|| Mail::CloseTunnels(order.clone()));
}

#[tokio::test]
async fn web_sockets_are_closed_with_1001_on_both_sides() {
    let (address, mut ends) = echo().await;
    let proxy = Proxy::start(&pool_at(&[address])).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(socket(&proxy).await);
    }
    close_tunnels(&proxy);
    for mut client in clients {
        let last = in_time("a close frame", client.next()).await.unwrap().unwrap();
        let Message::Close(Some(frame)) = last else { panic!("{last:?}") };
        assert_eq!(frame.code, CloseCode::Away);
        assert!(in_time("the end", client.next()).await.is_none());
        let end = in_time("the backend's end", ends.recv()).await.unwrap();
        assert_eq!(end.map(|frame| frame.code), Some(CloseCode::Away));
    }
    eventually("no tunnel", async || proxy.metric("tidegate_tunnels", &[]) == 0.0).await;
    assert_eq!(proxy.in_flight_at(address), 0);
}

#[tokio::test]
async fn a_message_on_its_way_to_the_client_is_not_cut() {
    let (address, _ends) = echo().await;
    let proxy = Proxy::start(&pool_at(&[address])).await;
    let mut client = socket(&proxy).await;
    client.send(Message::text("long")).await.unwrap();
    in_time("its begin", client.get_ref().readable()).await.unwrap();
    close_tunnels(&proxy);
    let message = in_time("the whole message", client.next()).await.unwrap().unwrap();
    assert_eq!(message.len(), LONG);
    let last = in_time("a close frame", client.next()).await.unwrap().unwrap();
    assert!(last.is_close(), "{last:?}");
}

#[tokio::test]
async fn connections_are_opened_ahead_and_used() {
    let backend = Backend::named("b").await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let (reply, mut replies) = mpsc::unbounded_channel();
    let snapshot = proxy.running().shared().snapshot.load_full();
    let settings = Arc::clone(&snapshot.pools["app"].upstream);
    let order = WarmUp { backend: known(&proxy), settings, connections: 2, reply };
    proxy.running().shared().broadcast(|| Mail::WarmUp(order.clone()));
    for _ in 0..2 {
        let warmed = in_time("a reply", replies.recv()).await.unwrap();
        assert_eq!(warmed.outcome, Ok(2));
    }
    eventually("all open", async || backend.open_connections() == 4).await;
    assert_eq!(proxy.metric("tidegate_backend_connections", &["state=\"idle\""]), 4.0);
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    let reuses = proxy.metric("tidegate_backend_connection_reuses_total", &[]);
    assert_eq!(reuses, 3.0, "none was opened for a request");
}

#[tokio::test]
async fn a_backend_that_is_not_there_cannot_be_warmed_up() {
    // Bound, so that nobody else can have it, and not listening.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let proxy = Proxy::start(&pool_at(&[nobody.local_addr().unwrap()])).await;
    let (reply, mut replies) = mpsc::unbounded_channel();
    let snapshot = proxy.running().shared().snapshot.load_full();
    let settings = Arc::clone(&snapshot.pools["app"].upstream);
    let order = WarmUp { backend: known(&proxy), settings, connections: 1, reply };
    proxy.running().shared().broadcast(|| Mail::WarmUp(order.clone()));
    drop(order);
    for _ in 0..2 {
        assert!(in_time("a reply", replies.recv()).await.unwrap().outcome.is_err());
    }
    assert!(replies.recv().await.is_none());
}

/// Waits until a tunnel is counted.
async fn one_tunnel(proxy: &Proxy) {
    eventually("a tunnel", async || proxy.metric("tidegate_tunnels", &[]) == 1.0).await;
}

#[tokio::test]
async fn event_streams_come_to_an_end() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let backend =
        Backend::start(move |_| Reply::raw(format!("{head}data: 1\n\n")).then(Step::Hang)).await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    client.until("data: 1").await;
    one_tunnel(&proxy).await;
    close_tunnels(&proxy);
    assert!(client.until("0\r\n\r\n").await.ends_with("0\r\n\r\n"), "a whole answer");
    eventually("none", async || proxy.metric("tidegate_tunnels", &[]) == 0.0).await;
    eventually("nothing in flight", async || proxy.in_flight(&backend) == 0).await;
}

/// A gRPC stream through a pool with these upstream settings, silent after its first message.
async fn silent_stream(upstream: &str) -> (H2Backend, Proxy, H2Client, h2::RecvStream) {
    let server = H2Backend::start(|mut exchange| async move {
        let mut body = exchange.head(200, &[("content-type", "application/grpc")]);
        body.send_data(vec![0, 0, 0, 0, 0].into(), false).unwrap();
        exchange.hold().await;
    })
    .await;
    let pool = pool_at(&[server.address]);
    let config = format!("{HTTPS}{pool}[pools.app.upstream]\nprotocol = \"h2\"\n{upstream}");
    let proxy = Proxy::start(&config).await;
    let mut client = H2Client::connect(proxy.address("https")).await;
    let mut call = request(Method::POST, "/test.Echo/Stream");
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (response, _) = client.start(call, true).await;
    let mut body = in_time("a head", response).await.unwrap().into_body();
    read_some(&mut body, 5).await;
    (server, proxy, client, body)
}

#[tokio::test]
async fn grpc_streams_end_as_unavailable() {
    let (server, proxy, _client, mut body) = silent_stream("").await;
    one_tunnel(&proxy).await;
    close_tunnels(&proxy);
    let (_, trailers) = read(&mut body).await.unwrap();
    let trailers = trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "14");
    eventually("nothing in flight", async || proxy.in_flight_at(server.address) == 0).await;
}

#[tokio::test]
async fn silent_grpc_streams_end_as_unavailable_too() {
    let (server, proxy, _client, mut body) =
        silent_stream("tunnel_idle_timeout = \"200ms\"\n").await;
    let (_, trailers) = read(&mut body).await.unwrap();
    assert_eq!(trailers.unwrap()["grpc-status"], "14");
    eventually("nothing in flight", async || proxy.in_flight_at(server.address) == 0).await;
    let counted = || proxy.metric("tidegate_backend_timeouts_total", &["tunnel_idle_timeout"]);
    eventually("counted", async || counted() == 1.0).await;
}

#[tokio::test]
async fn so_many_connections_are_kept_open_and_something_is_asked_on_them() {
    let backend = Backend::named("b").await;
    let upstream = "[pools.app.upstream]\nmin_idle = 3\nkeepalive_request = \"/ping\"\n\
                    keepalive_interval = \"100ms\"\n";
    let proxy = Proxy::start(&app(&[&backend], "", upstream)).await;
    let idle = || proxy.metric("tidegate_backend_connections", &["state=\"idle\""]);
    eventually("three", async || idle() == 3.0).await;
    let pings = || backend.requests().iter().filter(|r| r.request_line().1 == "/ping").count();
    eventually("asked on them", async || pings() >= 3).await;
    eventually("and kept", async || idle() == 3.0).await;
    assert_eq!(proxy.metric("tidegate_backend_connection_reuses_total", &[]), 0.0, "no client was");
    // All three may be under way to be asked on just then, and the client gets one of its own.
    eventually("a client on one of them", async || {
        assert_eq!(proxy.connect().await.get("/").await.status(), 200);
        proxy.metric("tidegate_backend_connection_reuses_total", &[]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn what_a_backend_says_of_its_patience_is_heeded() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 200);
    let status = proxy.running().handle().backend_status("app", &backend.address.to_string());
    assert_eq!(status.unwrap().learned_keepalive_seconds, Some(4.5));
}

#[tokio::test]
async fn timeouts_are_counted_by_the_setting_that_says_so() {
    let backend = Backend::start(|_| Reply::default().then(Step::Hang)).await;
    let upstream = "[pools.app.upstream]\nresponse_timeout = \"100ms\"\n\
                    [pools.app.retries]\nattempts = 2\n";
    let proxy = Proxy::start(&app(&[&backend], "", upstream)).await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 504);
    let count = |timeout: &str| proxy.metric("tidegate_backend_timeouts_total", &[timeout]);
    assert_eq!(count("response_timeout"), 2.0, "each attempt");
    assert_eq!(count("route_timeout"), 0.0);
}
