//! `tidegate rollback` while others act too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::program::Program;
use crate::shop::{KEPT, SHORT, Shop, command, in_phase, outcome, serving};
use crate::support::backend::Backend;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_back_is_told_whether_that_came_to_pass_whoever_else_acts() {
    let health = Arc::new(AtomicU16::new(200));
    let blue = Backend::with_health("blue", Arc::clone(&health)).await;
    let shop = Shop { blue, ..Shop::open().await };
    let program = Program::start(KEPT, &shop.config("blue", SHORT)).await;
    assert_eq!(command(&program, &["swap", "shop", "green"]).await, Some(5));
    // The way back waits at its gate.
    health.store(503, Ordering::SeqCst);
    let meanwhile = async |arguments: &[&str]| {
        in_phase(&program, "gate").await;
        command(&program, arguments).await
    };
    let given_up = ["swap", "shop", "green", "--replace"];
    let ((code, told), other) =
        tokio::join!(outcome(&program, &["rollback", "shop"]), meanwhile(&given_up));
    assert_eq!((code, other), (Some(1), Some(0)), "{told}");
    assert_eq!(serving(&program).await, "green");

    let forced = ["rollback", "shop", "--force"];
    let ((code, told), other) =
        tokio::join!(outcome(&program, &["rollback", "shop"]), meanwhile(&forced));
    assert_eq!((code, other), (Some(0), Some(0)), "{told}");
    assert!(told.contains("swap 4 goes there in its place"), "{told}");
    assert_eq!(serving(&program).await, "blue");
}
