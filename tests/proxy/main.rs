//! What a client and a backend see of a whole proxy, over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../support/mod.rs"]
mod support;

mod affinity;
mod balancing;
mod grpc;
mod health;
mod http1;
mod http2;
mod reload;
mod retries;
mod routing;
mod shutdown;
mod tls;
mod upstream_h2;
mod websocket;
