//! Swaps while the state directory takes nothing new: `/dev/full` stands for the disk.

use std::os::unix::fs::symlink;

use crate::program::Program;
use crate::shop::{KEPT, LONG, SHORT, Shop, command, in_phase, outcome, serving};
use crate::support::eventually;

/// What is written to this draft finds the disk full.
fn fill(program: &Program, draft: &str) {
    let draft = program.config_path().with_file_name("state").join(draft);
    let _ = std::fs::remove_file(&draft);
    symlink("/dev/full", draft).unwrap();
}

/// What the metric says of a document.
async fn saved(program: &Program, document: &str) -> bool {
    let metrics = program.admin("/metrics").await.unwrap().text();
    metrics.contains(&format!("tidegate_state_saved{{document=\"{document}\"}} 1\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_survives_where_the_disk_has_no_room_for_reports() {
    let shop = Shop::open().await;
    let mut program = Program::start(KEPT, &shop.config("blue", LONG)).await;
    assert_eq!(command(&program, &["swap", "shop", "green", "--no-wait"]).await, Some(0));
    in_phase(&program, "watch").await;
    assert!(saved(&program, "reports").await);
    fill(&program, "reports.json.new");
    assert_eq!(command(&program, &["rollback", "shop"]).await, Some(0));
    eventually("told", async || !saved(&program, "reports").await).await;
    assert!(saved(&program, "swaps").await);
    let (_, told) = outcome(&program, &["status"]).await;
    assert!(told.contains("a restart would forget the latest, though not which"), "{told}");
    program.kill();
    program.start_again().await;
    assert_eq!(serving(&program).await, "blue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_swaps_is_warned_where_a_restart_would_not_know_of_it() {
    let shop = Shop::open().await;
    let program = Program::start(KEPT, &shop.config("blue", SHORT)).await;
    eventually("kept", async || program.config_path().with_file_name("state/swaps.json").exists())
        .await;
    fill(&program, "swaps.json.new");
    let (code, told) = outcome(&program, &["swap", "shop", "green"]).await;
    assert_eq!(code, Some(5), "{told}");
    let words =
        "warning: how swaps stand cannot be written: a restart would not know of the latest";
    assert!(told.contains(words), "{told}");
    let (_, told) = outcome(&program, &["rollback", "shop"]).await;
    assert!(told.contains(words), "{told}");
    assert!(!saved(&program, "swaps").await);
}
