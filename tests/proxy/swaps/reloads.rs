//! What a reload does to swaps, and what it says of them.

use std::sync::Arc;
use std::sync::atomic::AtomicU16;

use serde_json::Value;

use super::{
    DRAINING, Drain, LONG, SHORT, in_phase, over, report, shop, status, swap, who_answers,
};
use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::Proxy;

#[tokio::test]
async fn a_reload_that_changes_active_starts_a_swap_and_another_starts_none() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], LONG)).await;
    let other = proxy.reload(&shop("blue", &[&blue], &[&green], SHORT)).await.unwrap();
    assert!(other.swaps.is_empty() && other.overrides.is_empty());
    let config = shop("green", &[&blue], &[&green], SHORT);
    let started = proxy.reload(&config).await.unwrap().swaps;
    let [started] = started.as_slice() else { panic!("{started:?}") };
    assert_eq!((&*started.pool, &*started.from, &*started.to), ("shop", "blue", "green"));
    over(&proxy, started.id).await;
    assert_eq!(who_answers(&proxy).await, "green");
    assert_eq!(status(&proxy)["swaps"]["override"], Value::Null);
    let again = proxy.reload(&config).await.unwrap();
    assert!(again.swaps.is_empty() && again.overrides.is_empty());
}

#[tokio::test]
async fn a_reload_after_a_rollback_says_what_to_type_and_changes_nothing() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], LONG)).await;
    let config = shop("green", &[&blue], &[&green], LONG);
    let id = proxy.reload(&config).await.unwrap().swaps[0].id;
    in_phase(&proxy, id, "watch").await;
    proxy.running().handle().rollback("shop", false, "a test").await.unwrap();
    over(&proxy, id).await;
    let again = proxy.reload(&config).await.unwrap();
    assert!(again.swaps.is_empty());
    let words = &again.overrides[0];
    assert!(words.contains("file wants green, blue serves since the rollback"), "{words}");
    assert!(words.contains("`tidegate swap shop green` tries again"), "{words}");
    assert_eq!(who_answers(&proxy).await, "blue");
}

#[tokio::test]
async fn an_override_is_no_more_once_the_version_that_the_file_wants_takes_requests() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], SHORT)).await;
    let id = swap(&proxy, "green").await.unwrap();
    over(&proxy, id).await;
    let config = shop("blue", &[&blue], &[&green], LONG);
    assert_eq!(proxy.reload(&config).await.unwrap().overrides.len(), 1);
    let id = swap(&proxy, "blue").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    assert_eq!(status(&proxy)["swaps"]["override"], Value::Null);
    assert_eq!(proxy.metric("tidegate_pool_active_override", &[]), 0.0);
    assert!(proxy.reload(&config).await.unwrap().overrides.is_empty());
}

#[tokio::test]
async fn a_reload_that_changes_its_mind_ends_the_swap() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], LONG)).await;
    let to_green = shop("green", &[&blue], &[&green], LONG);
    let id = proxy.reload(&to_green).await.unwrap().swaps[0].id;
    in_phase(&proxy, id, "watch").await;
    let same = proxy.reload(&to_green).await.unwrap();
    assert!(same.swaps.is_empty());
    assert_eq!(report(&proxy, id)["phase"], "watch", "it goes on");
    let back = proxy.reload(&shop("blue", &[&blue], &[&green], LONG)).await.unwrap();
    assert!(back.swaps.is_empty());
    assert_eq!(who_answers(&proxy).await, "blue");
    let report = over(&proxy, id).await;
    assert_eq!(report["outcome"], "cancelled", "{}", report["text"]);
    assert_eq!(status(&proxy)["swaps"]["override"], Value::Null);
}

#[tokio::test]
async fn the_gate_begins_again_when_the_candidate_s_backends_change() {
    let sick = Arc::new(AtomicU16::new(503));
    let blue = Backend::named("blue").await;
    let green = Backend::with_health("green", sick).await;
    let other = Backend::named("other green").await;
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], LONG)).await;
    let id = swap(&proxy, "green").await.unwrap();
    eventually("it was asked", async || report(&proxy, id)["gate"][0]["tries"] != 0).await;
    let reloaded = proxy.reload(&shop("blue", &[&blue], &[&other], LONG)).await.unwrap();
    assert!(reloaded.swaps.is_empty(), "the same swap goes on");
    in_phase(&proxy, id, "watch").await;
    assert_eq!(who_answers(&proxy).await, "other green");
    let notes = report(&proxy, id)["notes"].to_string();
    assert!(notes.contains("the gate begins again"), "{notes}");
}

#[tokio::test]
async fn a_reload_without_the_new_version_brings_the_old_one_back() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], LONG)).await;
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    let without = shop("blue", &[&blue], &[&green], LONG).replace("versions.green", "versions.red");
    proxy.reload(&without).await.unwrap();
    assert_eq!(who_answers(&proxy).await, "blue");
    assert_eq!(over(&proxy, id).await["outcome"], "cancelled");
}

#[tokio::test]
async fn a_reload_that_takes_out_the_serving_version_says_so_first() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], DRAINING)).await;
    let id = swap(&proxy, "green").await.unwrap();
    over(&proxy, id).await;
    let without =
        shop("blue", &[&blue], &[&green], DRAINING).replace("versions.green", "versions.red");
    let answer = proxy.reload(&without).await.unwrap();
    let words = "pool shop: green served and is not in the file any more: blue serves, without a \
                 gate and a watch";
    assert_eq!(answer.changes[0], words);
    assert_eq!(who_answers(&proxy).await, "blue");
}

#[tokio::test]
async fn the_serving_version_may_leave_while_the_one_before_is_drained() {
    let Drain { blue, green, proxy, id, .. } = Drain::held_up().await;
    let without =
        shop("blue", &[&blue], &[&green], DRAINING).replace("versions.green", "versions.red");
    let answer = proxy.reload(&without).await.unwrap();
    assert!(answer.changes[0].contains("green served"), "{:?}", answer.changes);
    assert_eq!(who_answers(&proxy).await, "blue");
    assert_eq!(over(&proxy, id).await["exit_code"], 6);
    assert_eq!(status(&proxy)["swaps"]["serving"], "blue");
}

#[tokio::test]
async fn a_reload_says_what_a_swap_that_runs_makes_of_it() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], LONG)).await;
    let id = swap(&proxy, "green").await.unwrap();
    in_phase(&proxy, id, "watch").await;
    let changed = LONG.replace("10m", "9m");
    let answer = proxy.reload(&shop("blue", &[&blue], &[&green], &changed)).await.unwrap();
    let words = "pool shop: swap 1: [swap] changed; this one goes on as it began";
    assert!(answer.changes.iter().any(|told| told == words), "{:?}", answer.changes);
    let answer = proxy.reload(&shop("green", &[&blue], &[&green], &changed)).await.unwrap();
    let words = "pool shop: swap 1 is on its way there";
    assert!(answer.changes.iter().any(|told| told == words), "{:?}", answer.changes);
    assert!(answer.swaps.is_empty());
}

#[tokio::test]
async fn a_file_that_wants_what_serves_already_begins_nothing() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let proxy = Proxy::start(&shop("blue", &[&blue], &[&green], SHORT)).await;
    let id = swap(&proxy, "green").await.unwrap();
    over(&proxy, id).await;
    let answer = proxy.reload(&shop("green", &[&blue], &[&green], SHORT)).await.unwrap();
    assert!(answer.swaps.is_empty() && answer.overrides.is_empty());
    let words = "pool shop: green serves already";
    assert!(answer.changes.iter().any(|told| told == words), "{:?}", answer.changes);
}
