//! What a client and a backend see of a whole proxy, over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../support/mod.rs"]
mod support;

mod affinity;
mod asked_health;
mod balancing;
mod blame;
mod bodies;
mod breaker;
mod drain;
mod ends;
mod errors;
mod fallback;
mod grpc;
mod half_close;
mod headers;
mod health;
mod http1;
mod http10;
mod http2;
mod http2_abuse;
mod http2_plain;
mod http2_rules;
mod http2_sharing;
mod limits;
mod limits_told;
mod outliers;
mod parking;
mod queue;
mod reload;
mod rescue;
mod retries;
mod reuse;
mod room;
mod routing;
mod shutdown;
mod slow_start;
mod swap_tunnels;
mod swap_verdicts;
mod swaps;
mod timeouts;
mod tls;
mod tls_tickets;
mod uploads;
mod upstream_h2;
mod vanishing;
mod webhook;
mod websocket;
