//! `GET /api/events`: what happens, as it happens, as server-sent events.
//!
//! Whoever comes gets the last events first, or those since the one that it names in
//! `Last-Event-ID`, as browsers do by themselves after a broken connection. A reader that does not
//! keep up is told so and let go, and may come again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};

use super::AdminState;
use super::routes::error;
use crate::state::{Event, Happening};
use crate::telemetry::date;

/// Streams at once: some connections are to be left for everything else.
const MAX_STREAMS: usize = 64;
/// Between two signs of life, for the proxies in between.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn stream(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let feed = &state.shared.feed;
    if feed.listeners() >= MAX_STREAMS {
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many listen to events already; close some of these streams",
        );
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let (missed, live) = feed.listen(last.unwrap_or(0));
    let source = Source { missed: missed.into_iter(), live: Some(live) };
    let events = stream::unfold(source, async |mut source| Some((source.next().await?, source)));
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// First what was missed, then what happens.
struct Source {
    missed: std::vec::IntoIter<Arc<Event>>,
    /// Absent once the reader was told that it is too slow.
    live: Option<broadcast::Receiver<Arc<Event>>>,
}

impl Source {
    async fn next(&mut self) -> Option<Result<sse::Event, Infallible>> {
        if let Some(event) = self.missed.next() {
            return Some(Ok(frame(&event)));
        }
        Some(Ok(match self.live.as_mut()?.recv().await {
            Ok(event) => frame(&event),
            Err(RecvError::Lagged(lost)) => {
                self.live = None;
                let words = format!("you read too slowly: {lost} events are lost to you");
                sse::Event::default().event("lost").data(json!({ "words": words }).to_string())
            }
            Err(RecvError::Closed) => return None,
        }))
    }
}

fn frame(event: &Event) -> sse::Event {
    // JSON has no line breaks of its own, so it is one line of data.
    let data = data(event).to_string();
    sse::Event::default().id(event.id.to_string()).event(event.what.kind()).data(data)
}

fn data(event: &Event) -> Value {
    let mut data = match &event.what {
        Happening::Transition { pool, backend, from, to, reason } => json!({
            "pool": &**pool, "backend": &**backend, "from": from, "to": to, "reason": reason,
        }),
        Happening::Reloaded { generation, changes } => {
            json!({ "generation": generation, "changes": changes })
        }
        Happening::ReloadRefused { error } => json!({ "error": error }),
        Happening::Swap(swap) => json!({
            "swap": swap.id, "pool": &*swap.pool, "from": &*swap.from, "to": &*swap.to,
            "asked_by": &*swap.asked_by, "milestone": swap.milestone,
        }),
        Happening::Note { pool, .. } => json!({ "pool": pool.as_deref() }),
    };
    data["at"] = date(event.at.duration_since(UNIX_EPOCH).unwrap_or_default()).into();
    data["words"] = event.what.words().into();
    data
}
