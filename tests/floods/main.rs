//! Floods: whoever takes all that one client can take, for some seconds, against a whole proxy in a
//! process of its own. Meanwhile a well-behaved client must be served as if nothing was going on,
//! the operator must be answered, and afterwards everything must be as it was before.
//!
//! One flood at a time, since each is also measured: every test prints a line with its figures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../process/program.rs"]
#[allow(dead_code, reason = "the floods use their own part of it")]
mod program;

mod backend;
mod connections;
mod flood;
mod good;
mod http2;
mod overload;
mod requests;
mod tls;
