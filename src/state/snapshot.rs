//! The immutable compiled runtime of one configuration generation.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, StatusCode};

use super::abuse::H2Abuse;
use super::counters::{CodeCounters, Counter, PerWorker};
use super::route::RouteTable;
use super::tls::ServerTls;
use super::trust::TrustedProxies;
use super::{Idleness, Places, Pool, SocketId};

/// All that requests need to know, compiled by `control::compile` and swapped as one.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the configurations that came into force, from 1; 0 is the empty one at start.
    pub generation: u64,
    /// By listener index, the index that the route table knows.
    pub listeners: Vec<Arc<Listener>>,
    /// From listener, host and path to the route.
    pub routes: RouteTable<Arc<Route>>,
    /// By name.
    pub pools: BTreeMap<Arc<str>, Arc<Pool>>,
    /// Whether backends get an RFC 7239 `Forwarded` field too.
    pub forwarded: bool,
    /// Peers whose `X-Forwarded-*` fields are believed.
    pub trusted_proxies: TrustedProxies,
    /// Client connections allowed at once.
    pub max_connections: usize,
    /// Requests allowed in flight at once; `usize::MAX` is no limit.
    pub max_requests: usize,
    /// What may be held for slow clients, in bytes; absent: as much as workers have by themselves.
    pub max_buffered: Option<usize>,
}

impl Snapshot {
    /// A snapshot without listeners, routes and pools, from which the first one is compiled.
    pub fn empty() -> Self {
        Snapshot {
            generation: 0,
            listeners: Vec::new(),
            routes: RouteTable::default(),
            pools: BTreeMap::new(),
            forwarded: false,
            trusted_proxies: TrustedProxies::default(),
            max_connections: usize::MAX,
            max_requests: usize::MAX,
            max_buffered: None,
        }
    }

    /// The listener that accepts on this socket, if the socket is still in use.
    pub fn listener_at(&self, socket: SocketId) -> Option<&Arc<Listener>> {
        self.listeners.iter().find(|listener| listener.sockets.contains(&socket))
    }

    /// The index under which this snapshot's routes know a listener. One that has left the
    /// configuration, with connections still open, has none that a route could name.
    pub fn index_of(&self, listener: &Arc<Listener>) -> u16 {
        let known = self.listeners.get(usize::from(listener.index));
        let is_same = known.is_some_and(|known| Arc::ptr_eq(known, listener));
        if is_same { listener.index } else { u16::MAX }
    }
}

/// A listener: where we accept, and how we treat who comes.
#[derive(Debug)]
pub struct Listener {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its index in [`Snapshot::listeners`] and in the route table.
    pub index: u16,
    /// The sockets that it accepts on.
    pub sockets: Vec<SocketId>,
    /// The addresses of these sockets as they were bound (a port 0 is the real port here).
    pub addresses: Vec<String>,
    /// The port that clients are told by `X-Forwarded-Port`; 0 on Unix sockets.
    pub port: u16,
    /// TLS, or plain text.
    pub tls: Option<ServerTls>,
    /// Whether plain-text clients may speak HTTP/2 from their first byte (RFC 9113 section 3.3).
    pub h2c: bool,
    /// What its clients may cost.
    pub limits: ListenerLimits,
    /// Counts, carried across reloads by name.
    pub state: Arc<ListenerState>,
}

/// `[listeners.X.limits]`. A `usize::MAX` stands for no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerLimits {
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first to the last byte of a head.
    pub header_timeout: Duration,
    /// Between two bytes of a request body.
    pub body_timeout: Duration,
    /// How long a client may take nothing of what we have for it.
    pub write_timeout: Duration,
    /// How long a client that has closed its sending side waits, without a byte, for its answers.
    pub half_close_timeout: Duration,
    /// Between two requests.
    pub keepalive_timeout: Duration,
    /// Age at which a connection is closed after its next answer; `None`: never for its age.
    pub keepalive_max_age: Option<Duration>,
    /// Size of a request head, in bytes.
    pub max_header_bytes: u32,
    /// Fields in a request head.
    pub max_headers: u16,
    /// Connections on this listener.
    pub max_connections: usize,
    /// Connections from one address.
    pub max_connections_per_address: usize,
    /// Concurrent HTTP/2 streams per connection.
    pub h2_streams: u32,
}

/// What a listener counts.
#[derive(Debug)]
pub struct ListenerState {
    /// Per worker.
    pub cells: PerWorker<ListenerCells>,
    /// Connections now, over all workers.
    pub connections: Places,
    /// Connections now by address; kept only under `max_connections_per_address`.
    pub by_address: Mutex<HashMap<IpAddr, usize, foldhash::fast::RandomState>>,
}

impl ListenerState {
    /// Nothing counted yet.
    pub fn new(workers: usize) -> Self {
        ListenerState {
            cells: PerWorker::new(workers),
            connections: Places::default(),
            by_address: Mutex::default(),
        }
    }
}

/// What one worker counts for one listener.
#[derive(Debug, Default)]
pub struct ListenerCells {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed.
    pub closed: Counter,
    /// Answers by status.
    pub codes: CodeCounters,
    /// Requests that did not parse.
    pub malformed: Counter,
    /// TLS handshakes that ran out of time.
    pub handshake_timeouts: Counter,
    /// TLS handshakes that the peer broke off.
    pub handshake_closed: Counter,
    /// TLS handshakes that failed on the protocol: versions, alerts, garbage.
    pub handshake_failed: Counter,
    /// Connections refused at the listener's limit.
    pub refused: Counter,
    /// Connections refused at the limit for their address.
    pub refused_address: Counter,
    /// Connections closed because nothing came on them in time.
    pub silent: Counter,
    /// Connections closed because their clients took nothing of what was to be written in time.
    pub untaken: Counter,
    /// Connections closed to make room for others; by [`Idleness::index`].
    pub made_room: [Counter; Idleness::ALL.len()],
    /// HTTP/2 connections closed, and streams reset, because of abuse; by [`H2Abuse::index`].
    pub h2_abuse: [Counter; H2Abuse::ALL.len()],
}

/// What is to be done with a request.
#[derive(Debug)]
pub struct Route {
    /// Its name, or what stands for it in logs: `routes[3]`.
    pub name: Arc<str>,
    /// What it takes, in words: hosts, path and listeners as the configuration has them.
    pub takes: Box<str>,
    /// Where it leads.
    pub target: Target,
    /// What answers when its pool has nobody to do it.
    pub fallback: Option<Fallback>,
    /// For all attempts together.
    pub timeout: Option<Duration>,
    /// Largest request body, in bytes.
    pub max_body: Option<u64>,
}

/// Where a route leads.
#[derive(Debug)]
pub enum Target {
    /// To a pool.
    Pool(Arc<Pool>),
    /// Back to the client with another address.
    Redirect(Redirect),
}

/// What answers in place of a pool that has nobody to do it.
#[derive(Debug)]
pub enum Fallback {
    /// Another pool.
    Pool(Arc<Pool>),
    /// Always the same.
    Static(StaticAnswer),
}

/// An answer that was read from a file.
#[derive(Clone, Debug)]
pub struct StaticAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its `Content-Type`.
    pub content_type: HeaderValue,
    /// Its body.
    pub body: Bytes,
}

/// A redirect: parts that are absent stay as the client asked.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Another scheme.
    pub scheme: Option<Scheme>,
    /// Another host.
    pub host: Option<String>,
    /// Another port; without one a change of scheme drops the port.
    pub port: Option<u16>,
    /// Another path in place of the whole path and query.
    pub path: Option<String>,
}
