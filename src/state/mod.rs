//! The types that both planes touch.

pub mod tls;
