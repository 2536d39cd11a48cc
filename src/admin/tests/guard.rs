//! Who is answered, and what is refused.

use tokio::net::UnixStream;

use super::house::{GOOD, House, JSON, exchange};
use crate::admin::Address;

#[tokio::test]
async fn a_change_needs_the_content_type_that_web_pages_cannot_send() {
    let house = House::new(GOOD).await;
    for fields in ["", "Content-Type: text/plain\r\n", "Content-Type: application/jsonp\r\n"] {
        let fields = format!("Host: localhost\r\n{fields}");
        assert_eq!(house.ask("POST /api/reload", &fields, "{}").await.refusal(), 415);
    }
    let fields = "Host: localhost\r\nContent-Type: Application/JSON; charset=utf-8\r\n";
    assert_eq!(house.ask("POST /api/reload", fields, "{}").await.status, 200);
}

#[tokio::test]
async fn other_hosts_are_not_answered_to() {
    let house = House::new(&format!("{GOOD}\n[admin]\nhosts = [\"ops.example.com\"]")).await;
    for fields in ["Host: evil.test\r\n", "", "Host: localhost\r\nHost: evil.test\r\n"] {
        assert_eq!(house.ask("GET /livez", fields, "").await.refusal(), 421, "{fields:?}");
    }
    let absolute = house.ask("GET http://evil.test/livez", "Host: localhost\r\n", "").await;
    assert_eq!(absolute.refusal(), 421);
    assert_eq!(house.ask("GET /livez", "Host: ops.example.com:80\r\n", "").await.status, 200);
}

#[tokio::test]
async fn the_token_opens_everything_and_probes_need_none() {
    let house = House::new(&format!("{GOOD}\n[admin]\ntoken_file = \"token\"")).await;
    for path in ["/", "/metrics", "/api/status", "/nowhere"] {
        let answer = house.get(path).await;
        assert_eq!(answer.refusal(), 401, "{path}");
        assert_eq!(answer.field("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(house.reload().await.refusal(), 401);
    assert_eq!(house.get("/livez").await.status, 200);
    let fields = "Host: localhost\r\nAuthorization: Bearer secret\r\n";
    assert_eq!(house.ask("GET /api/status", fields, "").await.status, 200);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_told_as_json() {
    let house = House::new(GOOD).await;
    for path in ["/nowhere", "/api/reports/1", "/api/status/"] {
        assert_eq!(house.get(path).await.refusal(), 404, "{path}");
    }
    let answer = house.get("/api/reload").await;
    assert_eq!((answer.refusal(), answer.field("allow")), (405, Some("POST")));
    let put = house.ask("PUT /api/reload", "Host: localhost\r\n", "{}").await;
    assert_eq!((put.refusal(), put.field("allow")), (405, Some("POST")));
    let options = house.ask("OPTIONS /api/reload", "Host: localhost\r\n", "").await;
    assert_eq!(options.refusal(), 405);
}

#[tokio::test]
async fn a_large_body_is_refused() {
    let house = House::new(GOOD).await;
    let fields = format!("Host: localhost\r\n{JSON}");
    let answer = house.ask("POST /api/reload", &fields, &"x".repeat(20_000)).await;
    assert_eq!(answer.refusal(), 413);
}

#[tokio::test]
async fn a_unix_socket_answers_to_any_host() {
    let house =
        House::at(GOOD, |directory| Address::Unix(directory.path().join("admin.sock"))).await;
    let Address::Unix(path) = &house.address else { panic!("not a Unix socket") };
    let stream = UnixStream::connect(path).await.unwrap();
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(stream, request).await.status, 200);
}
