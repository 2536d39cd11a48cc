//! HTTP/1.1 framing and parsing as RFC 9110 and RFC 9112 want it, case by case, over real sockets.
//!
//! Every case is bytes that a client sends to a whole proxy, and what comes of them: refused,
//! normalised or passed; by what the client got back, and by what the backend really received. A
//! smuggled request is one that the backend has and the client did not mean. In [`lying`] it is the
//! backend that sends the bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../support/mod.rs"]
mod support;

mod chunks;
mod content_length;
mod expect;
mod fields;
mod hop_by_hop;
mod hosts;
mod kit;
mod limits;
mod line_ends;
mod lying;
mod methods;
mod mutated;
#[path = "../../src/framing/mutations.rs"]
mod mutations;
mod pipelining;
mod request_line;
mod targets;
mod trailers;
mod transfer_encoding;
mod upgrades;
