//! The small app that every replica serves: a bit of everything that a load balancer carries.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, Request, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router, middleware};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{self, Interval};

const PAGE: &str = include_str!("page.html");

/// No answer is held back longer than this.
const SLOWEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Site {
    replica: Arc<str>,
    address: SocketAddr,
    requests: AtomicU64,
}

/// How well a replica does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quality {
    /// As it should.
    Good,
    /// Its health checks pass, and half of all else fails: what no check before a deploy shows.
    Bad,
}

/// The app of the replica of that name, which is reached at `address`.
pub(super) fn router(replica: Arc<str>, address: SocketAddr, quality: Quality) -> Router {
    let site = Arc::new(Site { replica, address, requests: AtomicU64::new(0) });
    Router::new()
        .route("/", get(page))
        .route("/api/whoami", get(whoami))
        .route("/events", get(events))
        .route("/ws", any(websocket))
        .route("/health/ready", get(healthy))
        .route("/health/live", get(healthy))
        .route("/slow", any(slow))
        .route("/status/{code}", any(status))
        .route("/upload", any(upload))
        .layer(middleware::from_fn_with_state(quality, fail_at_times))
        .layer(middleware::map_response_with_state(Arc::clone(&site), sign))
        .with_state(site)
}

/// Every answer names its replica, so that `curl -i` shows it.
async fn sign(State(site): State<Arc<Site>>, mut response: Response) -> Response {
    if let Ok(name) = HeaderValue::from_str(&site.replica) {
        response.headers_mut().insert("x-replica", name);
    }
    response
}

async fn fail_at_times(
    State(quality): State<Quality>,
    request: Request,
    next: middleware::Next,
) -> Response {
    let is_check = request.uri().path().starts_with("/health/");
    if quality == Quality::Bad && !is_check && fastrand::bool() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "this version is broken\n").into_response();
    }
    next.run(request).await
}

async fn page(State(site): State<Arc<Site>>, headers: HeaderMap) -> Html<String> {
    let facts = site.facts(&headers);
    let rows: String = ["host", "x_forwarded_for", "x_forwarded_proto", "x_request_id"]
        .iter()
        .map(|key| {
            let value = facts[*key].as_str().unwrap_or("(none)");
            format!("<tr><th>{}</th><td>{}</td></tr>\n", key.replace('_', "-"), escape(value))
        })
        .collect();
    Html(
        PAGE.replace("{{replica}}", &site.replica)
            .replace("{{address}}", &site.address.to_string())
            .replace("{{requests}}", &facts["requests"].to_string())
            .replace("{{rows}}", &rows),
    )
}

async fn whoami(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    // One line of its own in a loop of curls.
    let line = format!("{}\n", site.facts(&headers));
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], line).into_response()
}

async fn healthy() -> &'static str {
    "ok\n"
}

async fn slow(
    State(site): State<Arc<Site>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let Some(ms) = query.get("ms").and_then(|ms| ms.parse().ok()) else {
        return (StatusCode::BAD_REQUEST, "say how slow: /slow?ms=1500\n").into_response();
    };
    let wait = Duration::from_millis(ms).min(SLOWEST);
    time::sleep(wait).await;
    format!("{} took {} ms\n", site.replica, wait.as_millis()).into_response()
}

async fn status(State(site): State<Arc<Site>>, Path(code): Path<u16>) -> Response {
    match StatusCode::from_u16(code).ok().filter(|_| (200..=599).contains(&code)) {
        Some(status) => (status, format!("{} answers {status}\n", site.replica)).into_response(),
        None => (StatusCode::BAD_REQUEST, "a status is 200 to 599\n").into_response(),
    }
}

async fn upload(State(site): State<Arc<Site>>, request: Request) -> Response {
    let mut body = request.into_body();
    let mut bytes = 0u64;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Err(_) => return (StatusCode::BAD_REQUEST, "the upload broke off\n").into_response(),
        }
    }
    Json(json!({ "replica": &*site.replica, "bytes": bytes })).into_response()
}

async fn websocket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_))
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}

async fn events(State(site): State<Arc<Site>>) -> Response {
    let ticks = Ticks {
        replica: Arc::clone(&site.replica),
        interval: time::interval(Duration::from_secs(1)),
        count: 0,
    };
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, Body::new(ticks)).into_response()
}

/// Server-sent events, one a second, without end.
#[derive(Debug)]
struct Ticks {
    replica: Arc<str>,
    interval: Interval,
    count: u64,
}

impl http_body::Body for Ticks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.interval.poll_tick(context));
        self.count += 1;
        let event =
            format!("id: {}\ndata: tick {} from {}\n\n", self.count, self.count, self.replica);
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}

impl Site {
    fn facts(&self, headers: &HeaderMap) -> Value {
        let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        json!({
            "replica": &*self.replica,
            "address": self.address.to_string(),
            "requests": self.requests.fetch_add(1, Ordering::Relaxed) + 1,
            "host": field(HOST.as_str()),
            "x_forwarded_for": field("x-forwarded-for"),
            "x_forwarded_proto": field("x-forwarded-proto"),
            "x_request_id": field("x-request-id"),
        })
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
