//! The data plane: one straight line from accept to the last byte of the response.

pub mod framing;
pub mod headers;
pub mod host;
pub mod websocket;
