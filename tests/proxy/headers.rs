//! Which fields arrive: what ends at the proxy, what it adds, and whom it believes.

use crate::support::backend::{Backend, Reply};
use crate::support::eventually;
use crate::support::proxy::{BASE, Proxy, pool_of};
use crate::support::wire::{Message, Wire};

/// What the backend gets to see of this request.
async fn seen(proxy: &Proxy, backend: &Backend, request: &str) -> Message {
    let mut client = proxy.connect().await;
    client.send(request).await;
    assert_eq!(client.response().await.unwrap().status(), 200, "for {request:?}");
    backend.requests().pop().unwrap()
}

/// What the client gets to see of this response.
async fn answer(response: &'static str) -> Message {
    let backend = Backend::start(move |_| Reply::raw(response)).await;
    let proxy = Proxy::before(&[&backend]).await;
    proxy.connect().await.get("/").await
}

#[tokio::test]
async fn fields_about_the_clients_connection_do_not_reach_the_backend() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let request = seen(
        &proxy,
        &backend,
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\n\
         X-Private: secret\r\nX-Public: open\r\n\r\n",
    )
    .await;
    let ended = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "x-private",
        "transfer-encoding",
        "upgrade",
    ];
    for name in ended {
        assert_eq!(request.field(name), None, "{name}");
    }
    assert_eq!(request.field("x-public"), Some("open"));
}

#[tokio::test]
async fn fields_about_the_backends_connection_do_not_reach_the_client() {
    let response = answer(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Authenticate: Basic\r\nX-Private: secret\r\nX-Public: open\r\n\
         Content-Length: 0\r\n\r\n",
    )
    .await;
    for name in ["connection", "keep-alive", "proxy-authenticate", "x-private"] {
        assert_eq!(response.field(name), None, "{name}");
    }
    assert_eq!(response.field("x-public"), Some("open"));
}

/// What of a message is the same each time.
fn constant(message: &Message) -> (&str, Vec<&(String, String)>) {
    let changes = ["x-request-id", "date"];
    let constant = |(name, _): &&(String, String)| !changes.contains(&name.as_str());
    (&message.start, message.fields.iter().filter(constant).collect())
}

/// Heads are read to where the ones before were.
#[tokio::test]
async fn nothing_of_a_request_or_its_answer_is_told_with_the_next() {
    let backend = Backend::start(|request| match request.request_line().1 {
        "/" => Reply::raw("HTTP/1.1 200 OK\r\nX-Public: open\r\nContent-Length: 0\r\n\r\n"),
        _ => Reply::raw(
            "HTTP/1.1 203 Secret\r\nSet-Cookie: a=1\r\nTrailer: x\r\nTidegate-Hops: x\r\n\
             X-Request-Id: x\r\nX-Secret: y\r\nContent-Length: 0\r\n\r\n",
        ),
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    let mut answers = Vec::new();
    for request in [
        "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "PUT /secret?a=b HTTP/1.1\r\nHost: secret\r\nCookie: a=1\r\nCookie: b=2\r\nTE: trailers\r\n\
         Accept: application/json\r\nX-Request-Id: x\r\nX-Forwarded-For: 1.2.3.4\r\n\
         Max-Forwards: 3\r\nX-Secret: y\r\nContent-Length: 1\r\n\r\nz",
        "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
    ] {
        client.send(request).await;
        answers.push(client.response().await.unwrap());
    }
    let requests = backend.requests();
    assert_eq!(constant(&requests[2]), constant(&requests[0]));
    assert_eq!(constant(&answers[2]), constant(&answers[0]));
}

#[tokio::test]
async fn repeated_fields_arrive_one_by_one_and_in_order() {
    let response = answer(
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Set-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let wanted = ["a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT", "b=2"];
    assert_eq!(response.all("set-cookie"), wanted);
}

#[tokio::test]
async fn bytes_beyond_ascii_in_values_arrive_as_they_are() {
    let backend = Backend::start(|_| {
        Reply::raw(b"HTTP/1.1 200 OK\r\nX-Name: M\xfcller\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-Town: K\xf6ln\r\n\r\n").await;
    let response = client.response().await.unwrap();
    let holds = |head: &[u8], value: &[u8]| head.windows(value.len()).any(|part| part == value);
    assert!(holds(&response.raw_head, b"M\xfcller"), "towards the client");
    assert!(holds(&backend.requests()[0].raw_head, b"K\xf6ln"), "towards the backend");
}

#[tokio::test]
async fn backends_learn_who_asks_and_by_which_way() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let request = seen(&proxy, &backend, "GET / HTTP/1.1\r\nHost: shop.example:81\r\n\r\n").await;
    assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.all("x-forwarded-host"), ["shop.example:81"]);
    assert_eq!(request.all("x-forwarded-port"), [proxy.http().port().to_string()]);
    assert_eq!(request.field("forwarded"), None);
}

/// A client that tells stories about where its request comes from.
const STORIES: &str = "GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 9.9.9.9\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.example\r\nX-Forwarded-Port: 443\r\n\
    X_Forwarded_For: 8.8.8.8\r\nForwarded: for=9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\n\r\n";

#[tokio::test]
async fn what_a_stranger_says_about_itself_is_replaced() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let request = seen(&proxy, &backend, STORIES).await;
    assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.all("x-forwarded-host"), ["test"]);
    assert_eq!(request.all("x-forwarded-port"), [proxy.http().port().to_string()]);
    for name in ["x_forwarded_for", "forwarded", "x-real-ip"] {
        assert_eq!(request.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_kept_with_its_own_address_behind() {
    let backend = Backend::named("one").await;
    let trusting = "trusted_proxies = [\"127.0.0.0/8\"]";
    let proxy = Proxy::start_with(trusting, &pool_of(&[&backend])).await;
    let request = seen(&proxy, &backend, STORIES).await;
    assert_eq!(request.all("x-forwarded-for"), ["9.9.9.9, 127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["https"]);
    assert_eq!(request.all("x-forwarded-host"), ["bank.example"]);
    assert_eq!(request.all("x-forwarded-port"), ["443"]);
    assert_eq!(request.field("x_forwarded_for"), None, "a spelling that no proxy sends");
}

#[tokio::test]
async fn the_standard_field_is_sent_where_it_is_asked_for() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::start_with("forwarded = true", &pool_of(&[&backend])).await;
    let request = seen(&proxy, &backend, "GET / HTTP/1.1\r\nHost: test:81\r\n\r\n").await;
    assert_eq!(request.all("forwarded"), ["for=127.0.0.1;proto=http;host=\"test:81\""]);
}

#[tokio::test]
async fn a_request_keeps_the_id_that_it_came_with() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Request-Id: order-7\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().all("x-request-id"), ["order-7"]);
    assert_eq!(backend.requests()[0].all("x-request-id"), ["order-7"]);
}

#[tokio::test]
async fn a_request_without_an_id_gets_one_that_both_sides_see() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    let (first, second) = (client.get("/").await, client.get("/").await);
    let given = first.field("x-request-id").unwrap();
    assert_eq!(backend.requests()[0].all("x-request-id"), [given]);
    assert_ne!(second.field("x-request-id").unwrap(), given, "each has its own");
}

#[tokio::test]
async fn an_id_that_could_do_harm_is_replaced() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let request =
        seen(&proxy, &backend, "GET / HTTP/1.1\r\nHost: test\r\nX-Request-Id: <script>\r\n\r\n")
            .await;
    assert_eq!(request.all("x-request-id").len(), 1);
    assert_ne!(request.field("x-request-id"), Some("<script>"));
}

#[tokio::test]
async fn an_id_of_the_backends_own_gives_way_to_the_requests() {
    let response =
        answer("HTTP/1.1 200 OK\r\nX-Request-Id: mine\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(response.all("x-request-id").len(), 1);
    assert_ne!(response.field("x-request-id"), Some("mine"));
}

#[tokio::test]
async fn a_request_that_comes_back_to_its_proxy_is_refused() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let first = seen(&proxy, &backend, "GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let hops = first.field("tidegate-hops").unwrap();
    let mut client = proxy.connect().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nTidegate-Hops: {hops}\r\n\r\n")).await;
    assert_eq!(client.response().await.unwrap().status(), 508);
}

#[tokio::test]
async fn two_proxies_that_point_at_each_other_end_the_loop() {
    let placeholder = Backend::named("none").await;
    let one = Proxy::before(&[&placeholder]).await;
    let pool_before = |proxy: &Proxy| {
        pool_of(&[&placeholder])
            .replace(&placeholder.address.to_string(), &proxy.http().to_string())
    };
    let two = Proxy::start(&pool_before(&one)).await;
    one.reload(&pool_before(&two)).await.unwrap();
    let mut client = one.connect().await;
    assert_eq!(client.get("/").await.status(), 508);
}

#[tokio::test]
async fn a_chain_of_proxies_is_no_loop() {
    let backend = Backend::named("one").await;
    let inner = Proxy::before(&[&backend]).await;
    let config =
        pool_of(&[&backend]).replace(&backend.address.to_string(), &inner.http().to_string());
    let outer = Proxy::start(&config).await;
    assert_eq!(outer.connect().await.get("/").await.text(), "one");
}

#[tokio::test]
async fn the_trace_of_proxies_does_not_reach_the_client() {
    let response =
        answer("HTTP/1.1 200 OK\r\nTidegate-Hops: echoed\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(response.field("tidegate-hops"), None);
}

#[tokio::test]
async fn no_via_is_added_in_either_direction() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let response = proxy.connect().await.get("/").await;
    assert_eq!(response.field("via"), None);
    assert_eq!(backend.requests()[0].field("via"), None);
}

#[tokio::test]
async fn the_host_arrives_as_the_client_wrote_it() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let request = seen(&proxy, &backend, "GET / HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n").await;
    assert_eq!(request.all("host"), ["Shop.Example:8080"]);
}

#[tokio::test]
async fn a_target_in_absolute_form_becomes_path_and_host() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let request = seen(
        &proxy,
        &backend,
        "GET http://shop.example:81/a?b=c HTTP/1.1\r\nHost: shop.example:81\r\n\r\n",
    )
    .await;
    assert_eq!(request.start, "GET /a?b=c HTTP/1.1");
    assert_eq!(request.all("host"), ["shop.example:81"]);
}

#[tokio::test]
async fn the_target_arrives_byte_for_byte() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let target = "/a%2Fb//c;d=1/%7Euser/%zz?q=%20+&&x=[1]|2";
    let request =
        seen(&proxy, &backend, &format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
    assert_eq!(request.request_line().1, target);
}

#[tokio::test]
async fn options_for_the_server_as_a_whole_keeps_its_asterisk() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let request = seen(&proxy, &backend, "OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(request.start, "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn methods_that_we_do_not_know_are_passed_on() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let request = seen(&proxy, &backend, "PURGE /a HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(request.start, "PURGE /a HTTP/1.1");
}

#[tokio::test]
async fn over_tls_the_backend_hears_of_it() {
    let backend = Backend::named("one").await;
    let config = format!("{}{}", crate::support::proxy::HTTPS, pool_of(&[&backend]));
    let proxy = Proxy::start(&config).await;
    let address = proxy.address("https");
    let tls = proxy.client_tls(&[b"http/1.1"]);
    let mut client = Wire::connect_tls(address, tls, "localhost").await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().status(), 200);
    let request = backend.requests().pop().unwrap();
    assert_eq!(request.all("x-forwarded-proto"), ["https"]);
    assert_eq!(request.all("x-forwarded-port"), [address.port().to_string()]);
}

#[tokio::test]
async fn the_access_log_has_fields_that_nobody_else_looks_at() {
    let backend = Backend::named("one").await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = format!("[log]\naccess = \"json\"\naccess_path = \"{}\"\n", path.display());
    let proxy = Proxy::start_whole(&(log + BASE + &pool_of(&[&backend]))).await;
    let fields = [("User-Agent", "a machine"), ("Referer", "http://test/before")];
    proxy.connect().await.ask("GET", "/", &fields, "").await;
    eventually("it is logged", async || {
        let log = std::fs::read_to_string(&path).unwrap();
        log.contains("\"user_agent\":\"a machine\"") && log.contains("http://test/before")
    })
    .await;
}
