//! Requests that wait on a backend when it is judged unfit: those that are safe to repeat go elsewhere
//! at once, the others wait on, and none gets two answers or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{Proxy, app};
use crate::support::wire::Message;

/// Checks that come at once where somebody is suspected, and seldom where not; two make a verdict.
const SELDOM: &str =
    "[pools.app.health]\npath = \"/health\"\ninterval = \"60s\"\ntimeout = \"300ms\"\n";
/// A timeout that no test waits for.
const PATIENT: &str = "[pools.app.upstream]\nresponse_timeout = \"60s\"\n";

/// A backend that hangs, its health page too, once it is told to; its answers can be released.
async fn hanging_once(hangs: &Arc<AtomicBool>) -> Backend {
    let hangs = Arc::clone(hangs);
    Backend::start(move |request| match (request.request_line().1, hangs.load(Ordering::SeqCst)) {
        ("/health", true) => Reply::default().then(Step::Hang),
        (_, true) => Reply::ok("one").after(Step::Hold),
        (_, false) => Reply::ok("one"),
    })
    .await
}

struct Scene {
    one: Backend,
    two: Backend,
    hangs: Arc<AtomicBool>,
    proxy: Proxy,
}

/// Two backends that take turns, of which the first can be made to hang.
async fn scene(sections: &str) -> Scene {
    let hangs = Arc::new(AtomicBool::new(false));
    let (one, two) = (hanging_once(&hangs).await, Backend::named("two").await);
    let sections = format!("{SELDOM}{PATIENT}{sections}");
    let proxy = Proxy::start(&app(&[&one, &two], "policy = \"round_robin\"", &sections)).await;
    proxy.all_serve(&[&one, &two]).await;
    Scene { one, two, hangs, proxy }
}

/// Sends so many requests at once; gives their answers.
async fn ask(proxy: &Proxy, method: &'static str, count: usize) -> Vec<Message> {
    let mut asking = Vec::new();
    for _ in 0..count {
        let mut client = proxy.connect().await;
        asking.push(tokio::spawn(async move { client.ask(method, "/", &[], b"").await }));
    }
    let mut answers = Vec::new();
    for asked in asking {
        answers.push(asked.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn a_hang_costs_the_detection_and_not_the_timeout() {
    let scene = scene("").await;
    scene.hangs.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let answers = ask(&scene.proxy, "GET", 20).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert!(began.elapsed() < Duration::from_secs(30), "nobody waited for the timeout");
    assert_eq!(scene.proxy.state_of(&scene.one), "unhealthy");
    let rescued = scene.proxy.metric("tidegate_backend_retries_total", &["reason=\"rescued\""]);
    assert!(rescued >= 1.0, "{rescued}");
}

#[tokio::test]
async fn suspicion_goes_on_where_traffic_is_not_judged() {
    let scene = scene("[pools.app.outliers]\nmode = \"off\"\n").await;
    scene.hangs.store(true, Ordering::SeqCst);
    let answers = ask(&scene.proxy, "GET", 2).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(scene.proxy.state_of(&scene.one), "unhealthy");
}

#[tokio::test]
async fn many_who_wait_do_not_exhaust_the_budget() {
    let scene = scene("[pools.app.retries]\nbudget = \"0%\"\n").await;
    scene.hangs.store(true, Ordering::SeqCst);
    let answers = ask(&scene.proxy, "GET", 300).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(scene.proxy.metric("tidegate_pool_retry_budget_exhausted_total", &[]), 0.0);
}

#[tokio::test]
async fn a_post_waits_on_and_gets_the_answer_that_comes_late() {
    let scene = scene("").await;
    scene.hangs.store(true, Ordering::SeqCst);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = scene.proxy.connect().await;
        let asking = async move { client.ask("POST", "/", &[], b"pay").await };
        clients.push(tokio::spawn(asking));
    }
    // They take turns: one of the two waits at the one that hangs.
    eventually("judged down", async || scene.proxy.state_of(&scene.one) == "unhealthy").await;
    scene.one.release();
    let mut texts = Vec::new();
    for client in clients {
        texts.push(client.await.unwrap().text());
    }
    texts.sort_unstable();
    assert_eq!(texts, ["one", "two"]);
    assert_eq!((scene.one.requests().len(), scene.two.requests().len()), (1, 1));
}

#[tokio::test]
async fn who_has_nobody_else_waits_on() {
    let held = Backend::start(|request| match request.request_line().1 {
        "/slow" => Reply::ok("at last").after(Step::Hold),
        _ => Reply::status(500, ""),
    })
    .await;
    let quick = SELDOM.replace("60s", "100ms");
    let proxy = Proxy::start(&app(&[&held], "", &format!("{quick}{PATIENT}"))).await;
    let mut client = proxy.connect().await;
    let asking = tokio::spawn(async move { client.get("/slow").await });
    eventually("down", async || proxy.state_of(&held) == "unhealthy").await;
    eventually("asked", async || held.requests().len() == 1).await;
    held.release();
    let answer = asking.await.unwrap();
    assert_eq!((answer.status(), answer.text()), (200, "at last".to_owned()));
}
