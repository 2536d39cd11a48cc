//! The webhook: tells another program what swaps come to.
//!
//! A message is signed as the Standard Webhooks have it (<https://www.standardwebhooks.com>): an
//! HMAC-SHA256 over its number, the time and the body, so that libraries in most languages can
//! verify it. It is tried again with growing pauses, and the next one waits behind it: messages
//! arrive in their order. The queue is bounded, and nobody ever waits for it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{Handle, SwapId};
use crate::state::tls::ClientTls;
use crate::state::{Event, Happening, Shared, SwapEvent};
use crate::telemetry::date;

/// Messages that wait; further ones are lost, and the log says so.
const QUEUE: usize = 100;
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whom to tell, and how.
#[derive(Clone)]
pub struct Webhook {
    /// The address.
    pub url: Uri,
    /// What signs; none: not signed.
    pub secret: Option<Vec<u8>>,
    /// TLS, where the address asks for it.
    pub tls: Option<ClientTls>,
    /// For one try.
    pub timeout: Duration,
    /// Tries of a message.
    pub attempts: u32,
    /// The pause before the second try; it doubles from try to try, up to a minute.
    pub pause: Duration,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A message, ready to be sent as often as it takes.
struct Message {
    id: String,
    body: String,
}

/// Tells the webhook of the configuration in force what swaps come to, for as long as the process
/// runs. Needs the control runtime around it.
pub async fn run(shared: Arc<Shared>, handle: Handle) {
    let (since_start, mut live) = shared.feed.listen(0);
    let (queue, queued) = mpsc::channel(QUEUE);
    tokio::spawn(deliver_all(queued, handle.clone()));
    let offer = |event: &Event| {
        if let Happening::Swap(swap) = &event.what
            && handle.webhook().is_some()
            && queue.try_send(message(&shared, &handle, event, swap)).is_err()
        {
            let (swap, milestone) = (swap.id, swap.milestone);
            tracing::warn!(swap, milestone, "webhook: {QUEUE} messages wait, this one is lost");
        }
    };
    since_start.iter().for_each(|event| offer(event));
    loop {
        match live.recv().await {
            Ok(event) => offer(&event),
            Err(RecvError::Lagged(lost)) => {
                tracing::warn!("webhook: {lost} events came too fast and are not told");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn message(shared: &Shared, handle: &Handle, event: &Event, swap: &SwapEvent) -> Message {
    let report = handle.report(SwapId(swap.id)).map(|report| report.json(date));
    let body = json!({
        "type": format!("swap.{}", swap.milestone),
        "timestamp": date(since_epoch(event.at)),
        "data": {
            "id": swap.id,
            "pool": &*swap.pool,
            "from": &*swap.from,
            "to": &*swap.to,
            "asked_by": &*swap.asked_by,
            "milestone": swap.milestone,
            "words": swap.words,
            "report": report,
        },
    });
    Message { id: format!("msg_{}_{}", shared.instance, event.id), body: body.to_string() }
}

async fn deliver_all(mut queued: mpsc::Receiver<Message>, handle: Handle) {
    while let Some(message) = queued.recv().await {
        deliver(&message, &handle).await;
    }
}

/// Tries until it is taken, refused for good, or given up. A reload in between may name another
/// address.
async fn deliver(message: &Message, handle: &Handle) {
    let mut pause = Duration::ZERO;
    for attempt in 1.. {
        let Some(webhook) = handle.webhook() else { return };
        let problem = match timeout(webhook.timeout, send(&webhook, message)).await {
            Ok(Ok(status)) if status.is_success() => return,
            // Gone: nobody is to come again.
            Ok(Ok(status @ StatusCode::GONE)) => {
                tracing::warn!("webhook {} answers {status}: not told", webhook.url);
                return;
            }
            Ok(Ok(status)) => format!("it answers {status}"),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("no answer within {} s", webhook.timeout.as_secs_f64()),
        };
        if attempt >= webhook.attempts {
            tracing::error!("webhook {}: given up after {attempt} tries: {problem}", webhook.url);
            return;
        }
        tracing::warn!("webhook {}: {problem}; trying again", webhook.url);
        pause = (pause * 2).clamp(webhook.pause, LONGEST_PAUSE);
        sleep(pause.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
    }
}

async fn send(webhook: &Webhook, message: &Message) -> io::Result<StatusCode> {
    let host = webhook.url.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let default_port = if webhook.tls.is_some() { 443 } else { 80 };
    let port = webhook.url.port_u16().unwrap_or(default_port);
    let tcp = TcpStream::connect((bare, port)).await?;
    let Some(tls) = &webhook.tls else { return exchange(tcp, webhook, message).await };
    let name = tls.server_name_for(bare).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(&tls.config)).connect(name, tcp).await?;
    exchange(stream, webhook, message).await
}

async fn exchange<S>(stream: S, webhook: &Webhook, message: &Message) -> io::Result<StatusCode>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let authority = webhook.url.authority().map_or("", |authority| authority.as_str());
    let path = webhook.url.path_and_query().map_or("/", |path| path.as_str());
    let timestamp = since_epoch(SystemTime::now()).as_secs();
    let mut request = Request::post(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", timestamp);
    if let Some(secret) = &webhook.secret {
        request = request.header("webhook-signature", signature(secret, message, timestamp));
    }
    let body = Full::new(Bytes::from(message.body.clone()));
    let request = request.body(body).map_err(io::Error::other)?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(io::Error::other);
    // What it says beside its status is of no use to us.
    connection.abort();
    response.map(|response| response.status())
}

fn signature(secret: &[u8], message: &Message, timestamp: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signed = format!("{}.{timestamp}.{}", message.id, message.body);
    format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(&key, signed.as_bytes())))
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::control::compile::Generation;
    use crate::state::Snapshot;

    fn webhook(url: &str) -> Webhook {
        Webhook {
            url: url.parse().unwrap(),
            secret: Some(b"very secret text".to_vec()),
            tls: None,
            timeout: Duration::from_secs(60),
            attempts: 3,
            pause: Duration::from_millis(1),
        }
    }

    /// Takes one request whole, answers with this status, and gives the request.
    async fn answer(listener: &TcpListener, status: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut request, mut bytes) = (String::new(), [0; 4096]);
        while !request.ends_with('}') {
            let length = stream.read(&mut bytes).await.unwrap();
            request.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        request
    }

    fn field<'a>(request: &'a str, name: &str) -> &'a str {
        let mut lines = request.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    }

    #[tokio::test]
    async fn a_milestone_is_told_again_until_it_is_taken_and_signed_each_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?team=1", listener.local_addr().unwrap());
        let (shared, _ends) = Shared::new(1, "i".into(), Snapshot::empty(), u64::MAX);
        let (handle, _commands) = Handle::alone(Arc::clone(&shared));
        let mut generation = Generation::none();
        generation.webhook = Some(Arc::new(webhook(&url)));
        handle.set_generation(generation);
        for milestone in ["started", "switched"] {
            shared.feed.tell(Happening::Swap(SwapEvent {
                id: 12,
                pool: "shop".into(),
                from: "blue".into(),
                to: "green".into(),
                asked_by: "a test".into(),
                milestone,
                words: "in words".into(),
            }));
        }
        let running = tokio::spawn(run(Arc::clone(&shared), handle));

        let first = answer(&listener, "503 Service Unavailable").await;
        let again = answer(&listener, "200 OK").await;
        let next = answer(&listener, "204 No Content").await;
        running.abort();
        assert!(first.starts_with("POST /hook?team=1 HTTP/1.1\r\n"), "{first}");
        assert_eq!(field(&first, "webhook-id"), "msg_i_1");
        assert_eq!(field(&again, "webhook-id"), "msg_i_1", "so that the receiver can tell");
        assert_eq!(field(&next, "webhook-id"), "msg_i_2");
        for (request, kind) in [(&again, "swap.started"), (&next, "swap.switched")] {
            let body = request.split_once("\r\n\r\n").unwrap().1;
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!((&json["type"], &json["data"]["id"]), (&kind.into(), &12.into()));
            let message = Message { id: field(request, "webhook-id").into(), body: body.into() };
            let time = field(request, "webhook-timestamp").parse().unwrap();
            let expected = signature(b"very secret text", &message, time);
            assert_eq!(field(request, "webhook-signature"), expected);
        }
    }

    #[tokio::test]
    async fn who_is_gone_is_not_told_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (shared, _ends) = Shared::new(1, "i".into(), Snapshot::empty(), u64::MAX);
        let (handle, _commands) = Handle::alone(shared);
        let mut generation = Generation::none();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        generation.webhook = Some(Arc::new(webhook(&url)));
        handle.set_generation(generation);
        let message = Message { id: "m".into(), body: "{}".into() };
        let (_, request) = tokio::join!(deliver(&message, &handle), answer(&listener, "410 Gone"));
        assert!(request.contains("webhook-id: m\r\n"), "{request}");
    }

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // The example of the specification's reference implementations.
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let message = Message {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".into(),
            body: "{\"test\": 2432232314}".into(),
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature(&secret, &message, 1_614_265_330), expected);
    }

    #[test]
    fn a_webhook_does_not_show_its_secret() {
        assert!(!format!("{:?}", webhook("http://127.0.0.1/x")).contains("secret"));
    }
}
