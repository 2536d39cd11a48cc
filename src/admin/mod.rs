//! The admin API: what operators, their scripts and Prometheus ask.
//!
//! It lives on the control runtime and renders what the governor answers as typed data; it never
//! reads the configuration itself. Every request passes the guard (`guard`) before it is looked at.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 as long as the process runs |
//! | `GET /readyz` | 200, or 503 with the reason |
//! | `GET /metrics` | metrics, as text for Prometheus |
//! | `GET /` | a page for people |
//! | `GET /api/status` | the same as JSON |
//! | `GET /api/events` | what happens, as server-sent events |
//! | `GET /api/reports`, `GET /api/reports/{id}` | reports of swaps |
//! | `POST /api/pools/{pool}/swap` | 202 with the number of the swap; 200 if that version serves; 404; 409 with the swap that runs |
//! | `POST /api/pools/{pool}/rollback` | 202 with the number of the swap that goes back; 404; 409 |
//! | `GET /api/pools/{pool}/backends/{address}` | one backend of it; 404 |
//! | `POST /api/pools/{pool}/backends/{address}/{action}` | 200 with the state now; `drain` (`{"close_tunnels": true}` if they are to be), `undrain`, `disable`, `enable`; 404, 409 if another decision stands |
//! | `GET /api/explain?url=`, `?backend=` | the live way of a request; the history of a backend; 400, 404 |
//! | `POST /api/check` | what a reload would do; the errors of a reload |
//! | `POST /api/reload` | 200 with what changed; 422 if the configuration is wrong, 500 if it cannot be read, 503 while stopping: then nothing changed |
//!
//! Errors are `{"error": "..."}`: 401 without the token, 404, 405, 413, 415 without
//! `Content-Type: application/json`, 421 for a `Host` that is not the admin's own.

mod backends;
mod bind;
mod events;
mod explain;
mod guard;
mod page;
mod routes;
mod scrape;
mod serve;
mod swaps;

use std::sync::Arc;

pub use bind::{Address, BindError, Socket, bind};
pub use serve::serve;

use crate::control::Handle;
use crate::state::Shared;
use crate::telemetry::AccessLog;

/// What the admin API speaks for.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// The control plane.
    pub control: Handle,
    /// For metrics.
    pub shared: Arc<Shared>,
    /// For the count of its lost lines.
    pub access_log: AccessLog,
}

#[cfg(test)]
mod tests;
