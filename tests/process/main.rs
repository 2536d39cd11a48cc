//! The real program as a process: signals, exit codes, limits of the system.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../support/mod.rs"]
mod support;

mod blue_green;
mod by_hand;
mod full_disk;
mod limits;
#[allow(dead_code, reason = "the floods use it too")]
mod program;
mod rollback;
mod shop;
mod signals;
mod swap_command;
mod swaps;
mod which_version_serves;
