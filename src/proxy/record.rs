//! What is to be said of a request: made before anything can fail, filled in by the steps, told
//! once when it is dropped. It is dropped with the last thing that serves the request (its body,
//! its tunnel, or the service's future if the client left), so nothing has to run after an await.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use tokio::time::Instant;

use super::body::{Upload, UploadFailure};
use super::breaker;
use super::connection::ConnectionState;
use super::error::{self, Failure};
use super::received::Received;
use crate::state::{Backend, Listener, Picked, Pool, Route};
use crate::telemetry::access::Entry;
use crate::upstream::Lane;

/// How a request ended, as far as the client is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client left, or was cut.
    Incomplete,
    /// Everything was handed to the client's connection.
    Complete,
    /// The backend broke its response off.
    BackendBrokeOff,
    /// The backend went on with something that is not to be passed on.
    BackendMalformed,
    /// The client did not bring its request to its end, which was being answered already.
    Upload(UploadFailure),
    /// The backend stopped sending.
    BackendStalled,
    /// The route's total time was over.
    Deadline,
    /// Nothing came through a tunnel for `tunnel_idle_timeout`.
    TunnelIdle,
    /// A tunnel, closed since its backend is let go.
    Drained,
}

impl End {
    fn label(self) -> &'static str {
        match self {
            End::Complete => "",
            End::Incomplete => "client_left",
            End::BackendBrokeOff => "backend_broke_off",
            End::BackendMalformed => "malformed_response",
            End::Upload(failure) => Failure::Upload(failure).reason(),
            End::BackendStalled => "backend_stalled",
            End::Deadline => "timeout",
            End::TunnelIdle => "tunnel_idle_timeout",
            End::Drained => "drained",
        }
    }
}

/// The record of one request.
#[derive(Debug)]
pub struct RequestRecord {
    /// The connection that it came on.
    pub connection: Rc<ConnectionState>,
    /// When its head had arrived.
    pub began: Instant,
    /// The pool that it was led to.
    pub pool: Option<Arc<Pool>>,
    /// The pool that it was led to at first, if its route's fallback took it.
    pub fallback_of: Option<Arc<Pool>>,
    /// How long it waited in line for a slot.
    pub queued: Duration,
    /// The lane to the backend of the latest attempt.
    lane: Option<Rc<Lane>>,
    /// Attempts made.
    pub attempts: u32,
    /// Why attempts were repeated.
    pub retry_reasons: smallvec::SmallVec<[&'static str; 2]>,
    /// Leave to pass the pool's circuit breaker; absent where there is none.
    pub pass: Option<breaker::Pass>,
    /// Its name in everybody's logs.
    pub request_id: Option<HeaderValue>,
    /// Why we made the answer ourselves; empty if a backend made it.
    pub reason: &'static str,
    /// When the response head came.
    pub head_at: Option<Instant>,
    /// The request body, once somebody may read it.
    pub upload: Option<Rc<Upload>>,
    http10: bool,
    admitted: bool,
    status: Option<StatusCode>,
    from_backend: bool,
    sent: u64,
    end: End,
    line: Option<Box<Line>>,
}

/// What only the access log needs; not kept where there is none.
#[derive(Debug)]
struct Line {
    time: SystemTime,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    /// The route that took it.
    route: Option<Arc<Route>>,
    /// The version that its backend serves.
    backend_version: Option<Arc<str>>,
}

impl RequestRecord {
    /// Begins the record of a request whose head has arrived. Boxed, since it goes from hand to hand.
    pub fn begin(connection: &Rc<ConnectionState>, received: &Received) -> Box<Self> {
        let worker = &connection.worker;
        worker.cells().requests_begun.add(1);
        connection.request_began();
        let parts = &received.parts;
        let field = |name: HeaderName| {
            let value = received.values(&name).next();
            value.and_then(|value| HeaderValue::from_bytes(value).ok())
        };
        let line = worker.access_log.is_on().then(|| {
            Box::new(Line {
                time: SystemTime::now(),
                method: parts.method.clone(),
                uri: parts.uri.clone(),
                version: parts.version,
                host: received.host.clone().or_else(|| field(HOST)),
                referer: field(REFERER),
                user_agent: field(USER_AGENT),
                route: None,
                backend_version: None,
            })
        });
        Box::new(RequestRecord {
            connection: Rc::clone(connection),
            began: worker.tick(),
            pool: None,
            fallback_of: None,
            queued: Duration::ZERO,
            lane: None,
            attempts: 0,
            retry_reasons: smallvec::SmallVec::new(),
            pass: None,
            request_id: None,
            reason: "",
            head_at: None,
            upload: None,
            admitted: false,
            http10: parts.version == Version::HTTP_10,
            status: None,
            from_backend: false,
            sent: 0,
            end: End::Incomplete,
            line,
        })
    }

    /// Counts it among the requests of the process, of which there may be `max` at a time. `false` if
    /// there are.
    pub fn admit(&mut self, max: usize) -> bool {
        if max == usize::MAX {
            return true;
        }
        let admitted = &self.connection.worker.shared.admitted;
        let one_more = |count: usize| (count < max).then(|| count + 1);
        let counted = admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        self.admitted = counted.is_ok();
        self.admitted
    }

    /// A route took it.
    pub fn routed(&mut self, route: &Arc<Route>) {
        if let Some(line) = &mut self.line {
            line.route = Some(Arc::clone(route));
        }
    }

    /// A backend is asked.
    pub fn picked(&mut self, picked: &Picked, lane: &Rc<Lane>) {
        self.attempts += 1;
        self.lane = Some(Rc::clone(lane));
        if let Some(line) = &mut self.line {
            line.backend_version = Some(Arc::clone(&picked.choice.version.name));
        }
    }

    /// The backend of the latest attempt.
    fn backend(&self) -> Option<&Arc<Backend>> {
        self.lane.as_deref().map(Lane::backend)
    }

    /// A backend answered.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.from_backend = true;
        self.head_at = Some(self.connection.worker.now());
    }

    /// We answered ourselves.
    pub fn answered_by_us(&mut self, status: StatusCode, reason: &'static str) {
        self.status = Some(status);
        self.from_backend = false;
        self.reason = reason;
        self.head_at = Some(self.connection.worker.tick());
    }

    /// Whether something of the request body may still come.
    pub fn is_upload_open(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.finished().is_none())
    }

    /// So many bytes of the body went to the client.
    pub fn add_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// How it ended; the first word counts.
    pub fn end(&mut self, end: End) {
        if self.end == End::Incomplete {
            self.end = end;
            self.count_timeout(end);
        }
    }

    fn count_timeout(&self, end: End) {
        let Some(backend) = self.backend() else { return };
        let timeouts = &backend.cells.cell(self.connection.worker.id).timeouts;
        match end {
            End::BackendStalled => timeouts.body_idle.add(1),
            End::TunnelIdle => timeouts.tunnel_idle.add(1),
            End::Deadline => timeouts.route.add(1),
            _ => {}
        }
    }

    /// What it says of the pool, if a backend has answered.
    fn success(&self, status: StatusCode) -> Option<bool> {
        let gateway_error = matches!(status.as_u16(), 502..=504);
        match self.end {
            _ if !self.from_backend => None,
            End::BackendBrokeOff | End::BackendMalformed | End::BackendStalled => Some(false),
            _ if gateway_error => Some(false),
            End::Complete => Some(true),
            End::Incomplete | End::Upload(_) | End::Deadline | End::TunnelIdle | End::Drained => {
                None
            }
        }
    }

    fn count(&self, status: StatusCode) {
        let worker = &self.connection.worker;
        self.connection.listener.borrow().state.cells.cell(worker.id).codes.count(status);
        if let Some(pool) = &self.pool {
            let cells = pool.state.cells.cell(worker.id);
            if self.from_backend {
                cells.from_backend.count(status);
            } else {
                cells.from_proxy.count(status);
            }
        }
    }

    fn log(&self, line: &Line, status: StatusCode) {
        let text = |value: &Option<HeaderValue>| {
            value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let target = line.uri.path_and_query().map_or("*", |target| target.as_str());
        let host = match line.uri.authority() {
            Some(authority) => authority.as_str().to_owned(),
            None => text(&line.host),
        };
        let reason = match self.end {
            _ if !self.reason.is_empty() => self.reason,
            End::Incomplete => self.connection.untaken().unwrap_or(self.end.label()),
            end => end.label(),
        };
        self.connection.worker.access_log.log(&Entry {
            time: line.time,
            client: self.connection.peer.ip(),
            method: line.method.as_str(),
            target,
            http_version: line.version,
            host: &host,
            status: status.as_u16(),
            bytes_sent: self.sent,
            bytes_received: self.upload.as_ref().map_or(0, |upload| upload.received()),
            duration: self.connection.worker.time_of_turn().saturating_duration_since(self.began),
            head: self.head_at.map(|at| at.saturating_duration_since(self.began)),
            queued: self.queued,
            request_id: &text(&self.request_id),
            referer: line.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: line.user_agent.as_ref().map(HeaderValue::as_bytes),
            listener: &self.connection.listener.borrow().name,
            route: line.route.as_ref().map_or("", |route| &route.name),
            pool: self.pool.as_ref().map_or("", |pool| &pool.name),
            fallback_of: self.fallback_of.as_ref().map_or("", |pool| &pool.name),
            version: line.backend_version.as_deref().unwrap_or_default(),
            backend: self.backend().map_or("", |backend| &backend.label),
            attempts: self.attempts,
            retry_reasons: &self.retry_reasons.join(","),
            reason,
            tls: self.connection.tls_version(),
        });
    }
}

/// Logs what did not parse and so never became a request.
pub fn log_malformed(
    connection: &ConnectionState,
    listener: &Listener,
    status: StatusCode,
    reason: &'static str,
) {
    connection.worker.access_log.log(&Entry {
        time: SystemTime::now(),
        client: connection.peer.ip(),
        method: "",
        target: "",
        http_version: if connection.is_h2() { Version::HTTP_2 } else { Version::HTTP_11 },
        host: "",
        status: status.as_u16(),
        bytes_sent: 0,
        bytes_received: 0,
        duration: Duration::ZERO,
        head: None,
        queued: Duration::ZERO,
        request_id: "",
        referer: None,
        user_agent: None,
        listener: &listener.name,
        route: "",
        pool: "",
        fallback_of: "",
        version: "",
        backend: "",
        attempts: 0,
        retry_reasons: "",
        reason,
        tls: connection.tls_version(),
    });
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let status = self.status.unwrap_or_else(error::client_left);
        self.count(status);
        if let Some(mut pass) = self.pass.take() {
            pass.success = pass.success.or_else(|| self.success(status));
        }
        if let Some(line) = &self.line {
            self.log(line, status);
        }
        let worker = &self.connection.worker;
        worker.cells().requests_ended.add(1);
        if self.admitted {
            worker.shared.admitted.fetch_sub(1, Ordering::Relaxed);
        }
        if std::thread::panicking() && self.connection.is_h2() {
            // It ends this stream only; where it ends a connection, the permit counts it.
            worker.shared.workers[worker.id.index()].cells.panics.add(1);
        }
        let broken = !matches!(self.end, End::Complete | End::Incomplete | End::Drained);
        if broken && self.http10 {
            self.connection.cut();
        }
        let open = self.is_upload_open();
        self.connection.request_ended(self.upload.take().filter(|_| open));
    }
}
