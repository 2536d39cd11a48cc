//! What a client and a backend see of a whole proxy, over real sockets on loopback.

#[path = "../support/mod.rs"]
mod support;

mod health;
mod http1;
