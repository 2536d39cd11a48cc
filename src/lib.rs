//! Tidegate: a Layer-7 load balancer and health-checking reverse proxy.
//!
//! One process with two planes. The **data plane** ([`proxy`], [`upstream`]) carries requests on
//! worker threads; the **control plane** ([`control`], [`admin`]) decides, on a runtime of its own.
//! They meet in [`state`]. Everything that only computes ([`config`], [`certs`], [`balance`],
//! [`health`], [`deploy`], [`framing`]) is pure: time and randomness are arguments.

pub mod admin;
pub mod app;
pub mod balance;
pub mod certs;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod deploy;
pub mod framing;
pub mod health;
pub mod memory;
pub mod proxy;
pub mod state;
pub mod telemetry;
pub mod upstream;
