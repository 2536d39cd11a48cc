//! Going back by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::{LONG, SHORT, in_phase, over, report, shop, status, swap, who_answers};
use crate::support::backend::{Backend, Reply};
use crate::support::proxy::Proxy;

#[tokio::test]
async fn rolled_back_by_hand_in_the_watch_it_is_at_once_and_later_by_a_swap() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], LONG)).await;
    let handle = proxy.running().handle();
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    assert_eq!(handle.rollback("shop", false, "a test").await.unwrap(), id);
    assert_eq!(who_answers(&proxy).await, "blue");
    assert_eq!(over(&proxy, id).await["outcome"], "rolled_back");

    proxy.reload(&shop("blue", &[&blue], &[&green], SHORT)).await.unwrap();
    for force in [false, true] {
        let id = swap(&proxy, "green").await.unwrap();
        over(&proxy, id).await;
        assert_eq!(who_answers(&proxy).await, "green");
        let back = handle.rollback("shop", force, "a test").await.unwrap();
        over(&proxy, back).await;
        assert_eq!(who_answers(&proxy).await, "blue");
    }
}

#[tokio::test]
async fn who_goes_back_a_second_time_does_not_go_to_what_was_left() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], SHORT)).await;
    let handle = proxy.running().handle();
    let id = swap(&proxy, "green").await.unwrap();
    over(&proxy, id).await;
    // A rollback that is a swap, and one in a watch.
    let back = handle.rollback("shop", false, "a test").await.unwrap();
    over(&proxy, back).await;
    proxy.reload(&shop("blue", &[&blue], &[&green], LONG)).await.unwrap();
    for report in [Some(back), None] {
        let report = match report {
            Some(report) => report,
            None => {
                let id = swap(&proxy, "green").await.unwrap();
                in_phase(&proxy, id, "watch").await;
                handle.rollback("shop", false, "a test").await.unwrap()
            }
        };
        for force in [false, true] {
            let again = handle.rollback("shop", force, "a test").await.unwrap_err().to_string();
            let words = format!("blue serves pool `shop` since the rollback of report {report}");
            assert!(again.starts_with(&words), "{again}");
        }
        over(&proxy, report).await;
        assert_eq!(who_answers(&proxy).await, "blue");
    }
}

#[tokio::test]
async fn who_goes_back_while_another_does_joins_in_or_does_not_wait_for_checks() {
    let health = Arc::new(AtomicU16::new(200));
    let sick = Arc::clone(&health);
    let blue = Backend::start(move |_| Reply::status(sick.load(Ordering::SeqCst), "blue")).await;
    let green = Backend::named("green").await;
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], SHORT)).await;
    let handle = proxy.running().handle();
    let id = swap(&proxy, "green").await.unwrap();
    over(&proxy, id).await;
    // Its way back stays at the gate for as long as its check fails.
    health.store(503, Ordering::SeqCst);
    let back = handle.rollback("shop", false, "a test").await.unwrap();
    assert_eq!(handle.rollback("shop", false, "another").await.unwrap(), back);
    assert_eq!(report(&proxy, back)["phase"], "gate");
    let forced = handle.rollback("shop", true, "a third").await.unwrap();
    assert_eq!(over(&proxy, back).await["outcome"], "cancelled");
    let report = over(&proxy, forced).await;
    assert_eq!(report["gate"], serde_json::json!([]), "nothing was asked");
    assert_eq!(status(&proxy)["active"], "blue");
}

#[tokio::test]
async fn to_a_version_before_that_its_gate_refused_one_goes_back_by_force_only() {
    let health = Arc::new(AtomicU16::new(200));
    let sick = Arc::clone(&health);
    let blue = Backend::named("blue").await;
    let green = Backend::start(move |_| Reply::status(sick.load(Ordering::SeqCst), "green")).await;
    let config = shop("blue", &[&blue], &[&green], &format!("{SHORT}\ngate_timeout = \"1s\""));
    let proxy = Proxy::start(&config).await;
    for version in ["green", "blue"] {
        let id = swap(&proxy, version).await.unwrap();
        over(&proxy, id).await;
    }
    assert_eq!(status(&proxy)["swaps"]["before"], "green");
    health.store(503, Ordering::SeqCst);
    let refused = swap(&proxy, "green").await.unwrap();
    assert_eq!(over(&proxy, refused).await["outcome"], "refused");
    let back = async |force| proxy.running().handle().rollback("shop", force, "a test").await;
    let words = format!(
        "swap {refused} to green was refused, blue serves pool `shop`; `tidegate swap shop green` tries \
         green again; `tidegate rollback shop --force` goes there without a check"
    );
    assert_eq!(back(false).await.unwrap_err().to_string(), words);
    let forced = back(true).await.unwrap();
    over(&proxy, forced).await;
    assert_eq!(status(&proxy)["active"], "green");
}

#[tokio::test]
async fn who_goes_back_after_a_swap_that_came_to_nothing_stays_where_that_began() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let red = Backend::with_health("red", Arc::new(AtomicU16::new(503))).await;
    let config = shop("blue", &[&blue], &[&green], &format!("{SHORT}\ngate_timeout = \"1s\""));
    let third = format!("versions.red.backends = [\"{}\"]\nversions.green.", red.address);
    let proxy = Proxy::start(&config.replace("versions.green.", &third)).await;
    let handle = proxy.running().handle();
    let back = async |force| handle.rollback("shop", force, "a test").await;
    let id = swap(&proxy, "green").await.unwrap();
    over(&proxy, id).await;
    for end in ["cancelled", "refused"] {
        let id = swap(&proxy, "red").await.unwrap();
        if end == "cancelled" {
            assert_eq!(back(false).await.unwrap(), id);
        }
        assert_eq!(over(&proxy, id).await["outcome"], end);
        let words = format!(
            "swap {id} to red was {end}, green serves pool `shop`; `tidegate swap shop red` tries red \
             again; `tidegate rollback shop --force` goes a step further back, to blue"
        );
        assert_eq!(back(false).await.unwrap_err().to_string(), words);
        assert_eq!(who_answers(&proxy).await, "green");
    }
    let forced = back(true).await.unwrap();
    over(&proxy, forced).await;
    assert_eq!(who_answers(&proxy).await, "blue");
    // What was left may have left the file.
    proxy.reload(&config.replace("versions.green", "versions.white")).await.unwrap();
    let words = format!("blue serves pool `shop` since the rollback of report {forced}");
    assert_eq!(back(false).await.unwrap_err().to_string(), words);
}
