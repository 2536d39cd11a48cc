//! The types that both planes touch.

pub mod route;
pub mod tls;
