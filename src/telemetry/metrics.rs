//! Every metric: its name, its labels, and what it means.
//!
//! Nothing is registered. A scrape walks the live snapshot, reads the cells that both planes count
//! in, and writes the text piece by piece, so that what is gone from the snapshot is gone from the
//! answer, and an idle metric costs nothing. Totals that must not fall when a backend goes are counted
//! by its pool too (`pool_requests_total`).

mod backends;
mod configuration;
mod listeners;
mod pools;
mod process;
mod text;
mod workers;

use crate::state::Shared;
use text::{Family, Text, counter, gauge, histogram};

/// The media type of what [`render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Gives `pass_on` all metrics of the process in the text format of Prometheus, piece by piece.
/// `log_dropped` counts the lines that the access log lost.
///
/// With thousands of backends it takes tens of milliseconds: for a thread that nobody waits for.
pub fn render(shared: &Shared, log_dropped: u64, pass_on: &mut dyn FnMut(&str)) {
    let snapshot = shared.snapshot.load_full();
    let mut text = Text::new(pass_on);
    backends::write(&snapshot, &mut text);
    pools::write(&snapshot, shared.uptime(), &mut text);
    listeners::write(&snapshot, &mut text);
    workers::write(shared, &snapshot, &mut text);
    configuration::write(shared, snapshot.generation, &mut text);
    text.family(&LOG_DROPPED).add(&[], log_dropped);
    text.family(&BUILD_INFO).add(&[env!("CARGO_PKG_VERSION")], true);
    process::write(&mut text);
    text.finish();
}

const BACKEND: &[&str] = &["pool", "version", "backend"];

const BACKEND_UP: Family = gauge(
    "tidegate_backend_up",
    BACKEND,
    "Whether the backend is healthy: its checks pass and its traffic goes well.",
);
const BACKEND_STATE: Family = gauge(
    "tidegate_backend_state",
    &["pool", "version", "backend", "state"],
    "What the backend is fit for: 1 for the state it is in, 0 for the others.",
);
const BACKEND_BREAKER: Family = gauge(
    "tidegate_backend_circuit_breaker_state",
    &["pool", "version", "backend", "state"],
    "The backend's circuit breaker: open while it is ejected, half_open while on trial after that.",
);
const BACKEND_WEIGHT_RATIO: Family = gauge(
    "tidegate_backend_weight_ratio",
    BACKEND,
    "Part of its weight that the backend is to get now, 0 to 1: less in slow start, and while slow.",
);
const BACKEND_REQUESTS: Family = counter(
    "tidegate_backend_requests_total",
    &["pool", "version", "backend", "code"],
    "Attempts on the backend by status; failed ones by the status that the failure became.",
);
const BACKEND_DURATION: Family = histogram(
    "tidegate_backend_request_duration_seconds",
    BACKEND,
    "Time from the pick of the backend to the last byte of its answer.",
);
const BACKEND_HEAD: Family = histogram(
    "tidegate_backend_response_head_seconds",
    BACKEND,
    "Time from the last byte of the request to the head of the answer.",
);
const BACKEND_IN_FLIGHT: Family = gauge(
    "tidegate_backend_requests_in_flight",
    BACKEND,
    "Requests that the backend works on now, tunnels included.",
);
const BACKEND_CONNECTIONS: Family = gauge(
    "tidegate_backend_connections",
    &["pool", "version", "backend", "state"],
    "Open connections to the backend: idle ones are kept for the next request.",
);
const BACKEND_CONNECTS: Family =
    counter("tidegate_backend_connects_total", BACKEND, "Connections opened to the backend.");
const BACKEND_CONNECT_ERRORS: Family = counter(
    "tidegate_backend_connect_errors_total",
    BACKEND,
    "Connections to the backend that could not be opened.",
);
const BACKEND_REUSES: Family = counter(
    "tidegate_backend_connection_reuses_total",
    BACKEND,
    "Requests of clients sent on a connection that was there before; none of our own making.",
);
const BACKEND_STALE: Family = counter(
    "tidegate_backend_stale_connections_total",
    BACKEND,
    "Kept connections that the backend turned out to have closed.",
);
const BACKEND_MALFORMED: Family = counter(
    "tidegate_backend_malformed_responses_total",
    BACKEND,
    "Connections closed because the backend sent what is no HTTP, or answers no request.",
);
const BACKEND_RETRIES: Family = counter(
    "tidegate_backend_retries_total",
    &["pool", "version", "backend", "reason"],
    "Attempts on this backend that followed a failed one, by what had failed.",
);
const BACKEND_CHECKS: Family = counter(
    "tidegate_backend_health_checks_total",
    &["pool", "version", "backend", "result"],
    "Health checks by result, pass or fail.",
);
const BACKEND_CHECK_DURATION: Family = histogram(
    "tidegate_backend_health_check_duration_seconds",
    BACKEND,
    "How long health checks took.",
);
const BACKEND_TRANSITIONS: Family = counter(
    "tidegate_backend_transitions_total",
    &["pool", "version", "backend", "from", "to", "reason"],
    "Changes of the backend's health.",
);
const BACKEND_EJECTIONS: Family = counter(
    "tidegate_backend_ejections_total",
    &["pool", "version", "backend", "reason"],
    "How often the backend was taken out for what its traffic showed.",
);
const BACKEND_FINDINGS: Family = counter(
    "tidegate_backend_findings_total",
    &["pool", "version", "backend", "action", "reason"],
    "How often the backend's traffic spoke against it without an ejection: withheld, observed only, or spared for being slow.",
);
const BACKEND_BYTES: Family = counter(
    "tidegate_backend_bytes_total",
    &["pool", "version", "backend", "direction"],
    "Body bytes received from the backend and sent to it.",
);
const TUNNELS: Family = gauge(
    "tidegate_tunnels",
    BACKEND,
    "Open tunnels to the backend: WebSockets and other upgraded connections, event streams, gRPC streams.",
);
const BACKEND_TIMEOUTS: Family = counter(
    "tidegate_backend_timeouts_total",
    &["pool", "version", "backend", "timeout"],
    "Times that the backend was waited for too long, by the setting that says so; retried ones too.",
);

const POOL_REQUESTS: Family = counter(
    "tidegate_pool_requests_total",
    &["pool", "code", "origin"],
    "Answers to clients by status and by who made them, a backend or the proxy itself.",
);
const POOL_ROUTED: Family =
    counter("tidegate_pool_routed_total", &["pool"], "Requests that a route led to the pool.");
const POOL_BACKENDS: Family = gauge(
    "tidegate_pool_backends",
    &["pool", "version", "state"],
    "Backends of the pool by what they are fit for.",
);
const POOL_USABLE: Family = gauge(
    "tidegate_pool_usable_backends",
    &["pool", "version"],
    "Backends that may be picked now.",
);
const POOL_PANIC: Family = gauge(
    "tidegate_pool_panic",
    &["pool", "version"],
    "Whether so few backends are healthy that health is ignored.",
);
const POOL_ALL_DOWN: Family = gauge(
    "tidegate_pool_all_down",
    &["pool", "version"],
    "Whether no backend is fit, so that unfit ones are tried or requests are refused.",
);
const POOL_BUDGET_EXHAUSTED: Family = counter(
    "tidegate_pool_retry_budget_exhausted_total",
    &["pool"],
    "Retries that the pool's budget did not allow.",
);
const POOL_QUEUE_LENGTH: Family = gauge(
    "tidegate_pool_queue_length",
    &["pool"],
    "Requests that wait now because every backend is at max_requests_per_backend.",
);
const POOL_QUEUED: Family =
    counter("tidegate_pool_queued_total", &["pool"], "Requests that had to wait for a backend.");
const POOL_QUEUE_WAIT: Family = histogram(
    "tidegate_pool_queue_wait_seconds",
    &["pool"],
    "Time that requests waited for a backend, those that gave up or whose client left among them. \
     Absent where max_requests_per_backend sets no limit.",
);
const POOL_QUEUE_REJECTED: Family = counter(
    "tidegate_pool_queue_rejected_total",
    &["pool", "reason"],
    "Requests answered 503 because the queue was full, or because they waited too long in it.",
);
const POOL_BREAKER_STATE: Family = gauge(
    "tidegate_pool_circuit_breaker_state",
    &["pool", "state"],
    "What the pool's circuit breaker does: 1 for its state, 0 for the others. Pools with one only.",
);
const POOL_BREAKER_TRANSITIONS: Family = counter(
    "tidegate_pool_circuit_breaker_transitions_total",
    &["pool", "from", "to", "reason"],
    "Changes of the pool's circuit breaker.",
);
const POOL_BREAKER_REFUSED: Family = counter(
    "tidegate_pool_circuit_breaker_rejected_total",
    &["pool"],
    "Requests refused because the pool's circuit breaker was open.",
);
const POOL_FALLBACKS: Family = counter(
    "tidegate_pool_fallbacks_total",
    &["pool"],
    "Requests that the fallback of their route answered, since the pool had nobody to do it.",
);
const POOL_ACTIVE_VERSION: Family = gauge(
    "tidegate_pool_active_version",
    &["pool", "version"],
    "1 for the version that takes most new requests, 0 for the others.",
);
const POOL_SHARE: Family = gauge(
    "tidegate_pool_version_share_ratio",
    &["pool", "version"],
    "Share of new requests that the version takes, 0 to 1.",
);

const LISTENER_CONNECTIONS: Family =
    gauge("tidegate_listener_connections", &["listener"], "Open client connections.");
const LISTENER_ACCEPTED: Family =
    counter("tidegate_listener_connections_total", &["listener"], "Client connections accepted.");
const LISTENER_REFUSED: Family = counter(
    "tidegate_listener_refused_connections_total",
    &["listener", "reason"],
    "Client connections closed: at a limit, for their silence, or because they took nothing in time.",
);
const LISTENER_MADE_ROOM: Family = counter(
    "tidegate_listener_reclaimed_connections_total",
    &["listener", "reason"],
    "Client connections closed to make room for others, by what they were waiting for; slow: for memory.",
);
const LISTENER_REQUESTS: Family = counter(
    "tidegate_listener_requests_total",
    &["listener", "code"],
    "Requests by the status of their answer; 499 if the client left before.",
);
const LISTENER_MALFORMED: Family = counter(
    "tidegate_listener_malformed_requests_total",
    &["listener"],
    "Requests that did not parse and got a bare status.",
);
const POOL_ACTIVE_OVERRIDE: Family = gauge(
    "tidegate_pool_active_override",
    &["pool"],
    "Whether another version serves than the file wants, after a swap or a rollback.",
);
const SWAPS: Family =
    counter("tidegate_swaps_total", &["pool", "result"], "Swaps that are over, by how they ended.");
const POOL_SHADOW: Family = counter(
    "tidegate_pool_shadow_requests_total",
    &["pool", "outcome"],
    "Live requests drawn to be copied to a new version at its gate, by how its answer stood beside \
     the old one's.",
);
const LISTENER_HANDSHAKES: Family = counter(
    "tidegate_listener_handshake_errors_total",
    &["listener", "reason"],
    "TLS handshakes that failed: out of time, closed by the client, or against the protocol.",
);
const LISTENER_H2_ABUSE: Family = counter(
    "tidegate_listener_h2_abuse_total",
    &["listener", "kind"],
    "HTTP/2 connections closed, and for zero_window streams reset, because the client made them \
     cost more than its requests were worth.",
);
const CERTIFICATE_NOT_AFTER: Family = gauge(
    "tidegate_tls_certificate_not_after_seconds",
    &["name"],
    "When the certificate expires, in seconds since 1970; of several with this first name, the \
     earliest.",
);

const CONNECTIONS: Family =
    gauge("tidegate_connections", &[], "Open client connections of all listeners.");
const REQUESTS_IN_FLIGHT: Family =
    gauge("tidegate_requests_in_flight", &[], "Requests in flight, whole process.");
const REQUESTS_LIMIT: Family = gauge(
    "tidegate_requests_limit",
    &[],
    "server.max_requests: how many may be in flight. Absent without a limit.",
);
const REQUESTS_REFUSED: Family = counter(
    "tidegate_requests_refused_total",
    &[],
    "Requests answered 503 at once because server.max_requests were in flight.",
);
const WORKER_CONNECTIONS: Family = gauge(
    "tidegate_worker_connections",
    &["worker"],
    "Client connections that live on the worker.",
);
const WORKER_PARKED: Family = gauge(
    "tidegate_worker_parked_connections",
    &["worker"],
    "Client connections of HTTP/1.1 that hold no buffers: no request has come, or none for a while.",
);
const WORKER_RESTARTS: Family = counter(
    "tidegate_worker_restarts_total",
    &["worker"],
    "How often the worker had to be started again after a panic: a bug, please report it.",
);
const WORKER_PANICS: Family = counter(
    "tidegate_worker_panics_total",
    &["worker"],
    "Tasks that panicked and took their connection with them: a bug, please report it.",
);
const WORKER_ACCEPT_ERRORS: Family = counter(
    "tidegate_worker_accept_errors_total",
    &["worker"],
    "Accepts that failed, for instance for want of file descriptors.",
);
const WORKER_ACCEPT_PAUSES: Family = counter(
    "tidegate_worker_accept_pauses_total",
    &["worker"],
    "Times that accepting paused at server.max_connections or for want of file descriptors.",
);
const WORKER_HANDOVERS: Family = counter(
    "tidegate_worker_handovers_total",
    &["worker"],
    "Fresh connections that the worker handed to a less busy one.",
);
const LOG_DROPPED: Family = counter(
    "tidegate_log_dropped_total",
    &[],
    "Lines of the access log that were lost because its output was too slow or refused them.",
);

const CONFIG_RELOADS: Family = counter(
    "tidegate_config_reloads_total",
    &["result"],
    "Configurations loaded, the first one included, by result.",
);
const CONFIG_LAST_RELOAD_SUCCESS: Family = gauge(
    "tidegate_config_last_reload_success",
    &[],
    "Whether the configuration loaded last came into force.",
);
const CONFIG_LAST_RELOAD_TIMESTAMP: Family = gauge(
    "tidegate_config_last_reload_timestamp_seconds",
    &[],
    "When a configuration last came into force, in seconds since 1970.",
);
const CONFIG_GENERATION: Family = gauge(
    "tidegate_config_generation",
    &[],
    "Number of the configuration in force, counted from 1 at start.",
);
const STATE_SAVED: Family = gauge(
    "tidegate_state_saved",
    &["document"],
    "Whether a restart would know of the latest: 0 while it cannot be written to state_dir.",
);
const BUILD_INFO: Family =
    gauge("tidegate_build_info", &["version"], "Always 1; the label tells the running version.");

// The names that Prometheus's own clients give to these, which dashboards know.
const PROCESS_CPU: Family =
    counter("process_cpu_seconds_total", &[], "User and system CPU time spent, in seconds.");
const PROCESS_RESIDENT: Family =
    gauge("process_resident_memory_bytes", &[], "Resident memory, in bytes.");
const PROCESS_VIRTUAL: Family =
    gauge("process_virtual_memory_bytes", &[], "Virtual memory, in bytes.");
const PROCESS_THREADS: Family = gauge("process_threads", &[], "Threads of the process.");
const PROCESS_OPEN_FDS: Family = gauge("process_open_fds", &[], "Open file descriptors.");
const PROCESS_MAX_FDS: Family =
    gauge("process_max_fds", &[], "Most file descriptors that the process may open.");
const PROCESS_START: Family =
    gauge("process_start_time_seconds", &[], "When the process started, in seconds since 1970.");

#[cfg(test)]
mod tests;
