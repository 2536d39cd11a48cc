//! What a route answers when its pool has nobody to do it.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{BASE, HEALTH, Proxy, app};
use crate::support::wire::Message;

/// A configuration whose route has this fallback.
fn with(fallback: &str, config: &str) -> String {
    config.replacen("pool = \"app\"", &format!("pool = \"app\"\nfallback = {fallback}"), 1)
}

/// A proxy with this configuration whose `sorry.html` says this.
async fn sorry(config: &str, text: &str) -> Proxy {
    let proxy = Proxy::start_with_file("sorry.html", text, &format!("{BASE}{config}")).await;
    proxy.ready().await;
    proxy
}

async fn get(proxy: &Proxy) -> Message {
    proxy.connect().await.get("/").await
}

#[tokio::test]
async fn a_file_answers_when_nobody_can_be_reached() {
    let dead = Backend::named("dead").await;
    let config = with("{ file = \"sorry.html\" }", &app(&[&dead], "", HEALTH));
    let proxy = sorry(&config, "<h1>Back soon</h1>").await;
    assert_eq!(get(&proxy).await.text(), "dead");
    dead.kill();
    let answer = get(&proxy).await;
    assert_eq!((answer.status(), answer.text()), (503, "<h1>Back soon</h1>".to_owned()));
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert!(answer.field("x-request-id").is_some());
    assert_eq!(proxy.metric("tidegate_pool_fallbacks_total", &["pool=\"app\""]), 1.0);
}

#[tokio::test]
async fn a_file_has_the_status_and_type_that_it_is_given() {
    let dead = Backend::named("dead").await;
    let fallback = "{ file = \"sorry.html\", status = 200, content_type = \"application/json\" }";
    let config = with(fallback, &app(&[&dead], "all_down = \"fail\"", HEALTH));
    let proxy = sorry(&config, "{}").await;
    dead.kill();
    eventually("down", async || proxy.state_of(&dead) == "unhealthy").await;
    eventually("nobody may be picked", async || {
        let answer = get(&proxy).await;
        (answer.status(), answer.field("content-type"), answer.field("retry-after"))
            == (200, Some("application/json"), None)
    })
    .await;
}

#[tokio::test]
async fn a_reload_reads_the_file_again() {
    let dead = Backend::named("dead").await;
    let config = with("{ file = \"sorry.html\" }", &app(&[&dead], "", HEALTH));
    let proxy = sorry(&config, "before").await;
    dead.kill();
    assert_eq!(get(&proxy).await.text(), "before");
    std::fs::write(proxy.dir().join("sorry.html"), "after").unwrap();
    proxy.reload(&config).await.unwrap();
    assert_eq!(get(&proxy).await.text(), "after");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_an_error() {
    let backend = Backend::named("app").await;
    let config = app(&[&backend], "", HEALTH);
    let proxy = Proxy::start(&config).await;
    let refused = proxy.reload(&with("{ file = \"sorry.html\" }", &config)).await.unwrap_err();
    assert!(refused.to_string().contains("routes[0].fallback.file"), "{refused}");
}

/// Another pool, named `spare`.
fn spare(backend: &Backend) -> String {
    let section = app(&[backend], "", "").replace("pools.app", "pools.spare");
    section.replace("[[routes]]\npool = \"app\"\n", "")
}

#[tokio::test]
async fn another_pool_answers_with_the_request_whole() {
    let (dead, spare_one) = (Backend::named("dead").await, Backend::named("spare").await);
    let config = app(&[&dead], "", HEALTH) + &spare(&spare_one);
    let proxy = Proxy::start(&with("{ pool = \"spare\" }", &config)).await;
    dead.kill();
    let answer = proxy.connect().await.ask("POST", "/order", &[], "a book").await;
    assert_eq!((answer.status(), answer.text()), (200, "spare".to_owned()));
    assert_eq!(spare_one.requests()[0].text(), "a book");
}

#[tokio::test]
async fn the_access_log_names_the_pool_that_had_nobody() {
    let (dead, spare_one) = (Backend::named("dead").await, Backend::named("spare").await);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = format!("[log]\naccess = \"json\"\naccess_path = \"{}\"\n", path.display());
    let config = app(&[&dead], "", HEALTH) + &spare(&spare_one);
    let config = log + BASE + &with("{ pool = \"spare\" }", &config);
    let proxy = Proxy::start_whole(&config).await;
    dead.kill();
    assert_eq!(get(&proxy).await.text(), "spare");
    eventually("it is logged", async || {
        let log = std::fs::read_to_string(&path).unwrap();
        log.contains("\"pool\":\"spare\",\"fallback_of\":\"app\"")
    })
    .await;
}

#[tokio::test]
async fn an_open_breaker_leads_to_the_fallback() {
    let (sick, spare_one) =
        (Backend::start(|_| Reply::status(503, "")).await, Backend::named("spare").await);
    let connect = "[pools.app.health]\ntype = \"tcp\"\n";
    let keys = "circuit_breaker = { failures = 1, open_for = \"1h\" }";
    let config = app(&[&sick], keys, connect) + &spare(&spare_one);
    let proxy = Proxy::start(&with("{ pool = \"spare\" }", &config)).await;
    // A backend that was asked, and has answered, is not covered up.
    assert_eq!(get(&proxy).await.status(), 503);
    eventually("open", async || get(&proxy).await.text() == "spare").await;
}

#[tokio::test]
async fn a_full_queue_leads_to_the_fallback() {
    let busy = Backend::start(|request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => Reply::default().then(Step::Hang),
    })
    .await;
    let spare_one = Backend::named("spare").await;
    let keys = "max_requests_per_backend = 1\nqueue = { size = 0 }";
    let config = app(&[&busy], keys, HEALTH) + &spare(&spare_one);
    let proxy = Proxy::start(&with("{ pool = \"spare\" }", &config)).await;
    let mut held = proxy.connect().await;
    held.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("it is busy", async || proxy.in_flight(&busy) == 1).await;
    assert_eq!(get(&proxy).await.text(), "spare");
}

#[tokio::test]
async fn where_the_other_pool_has_nobody_either_it_is_503() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let keys = "all_down = \"fail\"";
    let config = app(&[&one], keys, HEALTH) + &spare(&two);
    let proxy = Proxy::start(&with("{ pool = \"spare\" }", &config)).await;
    one.kill();
    two.kill();
    eventually("down", async || proxy.state_of(&one) == "unhealthy").await;
    eventually("both have nobody", async || matches!(get(&proxy).await.status(), 502 | 503)).await;
}
