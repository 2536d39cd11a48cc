//! What the process tells of itself: metrics, the access log, the log.

pub mod access;
mod civil;

pub use access::AccessLog;
