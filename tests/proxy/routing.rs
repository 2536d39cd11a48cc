//! Which pool a request reaches, and redirects.

use crate::support::backend::Backend;
use crate::support::proxy::{HTTPS, Proxy};
use crate::support::wire::Wire;

/// A proxy with one backend for each pool, which answers with the pool's name.
struct Site {
    proxy: Proxy,
    _backends: Vec<Backend>,
}

impl Site {
    async fn with(config: &str, pools: &[&'static str]) -> Site {
        let mut text = config.to_owned();
        let mut backends = Vec::new();
        for pool in pools {
            let backend = Backend::named(pool).await;
            text += &format!("\n[pools.{pool}]\nbackends = [\"{}\"]\n", backend.address);
            backends.push(backend);
        }
        Site { proxy: Proxy::start(&text).await, _backends: backends }
    }

    /// The name of the pool that answers, or the status if none does.
    async fn ask(&self, host: &str, target: &str) -> String {
        who(&mut self.proxy.connect().await, host, target).await
    }
}

async fn who(client: &mut Wire, host: &str, target: &str) -> String {
    let answer = client.ask("GET", target, &[("Host", host)], "").await;
    if answer.status() == 200 { answer.text() } else { answer.status().to_string() }
}

/// A route in a line.
fn route(keys: &str, pool: &str) -> String {
    format!("[[routes]]\n{keys}\npool = \"{pool}\"\n")
}

#[tokio::test]
async fn an_exact_host_comes_before_a_wildcard() {
    let routes = route("hosts = [\"*.example.org\"]", "wide")
        + &route("hosts = [\"app.example.org\"]", "exact");
    let site = Site::with(&routes, &["wide", "exact"]).await;
    assert_eq!(site.ask("app.example.org", "/").await, "exact");
    assert_eq!(site.ask("other.example.org", "/").await, "wide");
}

#[tokio::test]
async fn a_wildcard_stands_for_one_or_more_labels_and_not_for_none() {
    let site = Site::with(&route("hosts = [\"*.example.org\"]", "wide"), &["wide"]).await;
    assert_eq!(site.ask("a.example.org", "/").await, "wide");
    assert_eq!(site.ask("a.b.c.example.org", "/").await, "wide");
    assert_eq!(site.ask("example.org", "/").await, "404");
    assert_eq!(site.ask("notexample.org", "/").await, "404");
}

#[tokio::test]
async fn the_longest_wildcard_decides() {
    let routes = route("hosts = [\"*.example.org\"]", "short")
        + &route("hosts = [\"*.eu.example.org\"]", "long");
    let site = Site::with(&routes, &["short", "long"]).await;
    assert_eq!(site.ask("shop.eu.example.org", "/").await, "long");
    assert_eq!(site.ask("eu.example.org", "/").await, "short");
}

#[tokio::test]
async fn hosts_compare_without_case_port_and_trailing_dot() {
    let site = Site::with(&route("hosts = [\"App.Example.org\"]", "app"), &["app"]).await;
    for host in ["app.example.org", "APP.EXAMPLE.ORG", "app.example.org:8080", "app.example.org."] {
        assert_eq!(site.ask(host, "/").await, "app", "{host}");
    }
}

#[tokio::test]
async fn a_route_without_hosts_takes_any() {
    let site = Site::with(&route("", "any"), &["any"]).await;
    assert_eq!(site.ask("whatever.test", "/").await, "any");
    assert_eq!(site.ask("127.0.0.1", "/").await, "any");
}

#[tokio::test]
async fn a_path_is_a_prefix_that_ends_at_a_segment() {
    let site = Site::with(&route("path = \"/api\"", "api"), &["api"]).await;
    for target in ["/api", "/api/", "/api/v1", "/api?q=1"] {
        assert_eq!(site.ask("any", target).await, "api", "{target}");
    }
    for target in ["/", "/ap", "/apix", "/x/api", "/api%2Fv1", "/API"] {
        assert_eq!(site.ask("any", target).await, "404", "{target}");
    }
}

#[tokio::test]
async fn the_longest_path_decides() {
    let routes =
        route("", "root") + &route("path = \"/a\"", "one") + &route("path = \"/a/b\"", "two");
    let site = Site::with(&routes, &["root", "one", "two"]).await;
    assert_eq!(site.ask("any", "/a/b/c").await, "two");
    assert_eq!(site.ask("any", "/a/bc").await, "one");
    assert_eq!(site.ask("any", "/b").await, "root");
}

#[tokio::test]
async fn there_is_no_falling_back_to_a_wider_host() {
    let routes = route("hosts = [\"app.example.org\"]\npath = \"/api\"", "exact")
        + &route("hosts = [\"*.example.org\"]", "wide")
        + &route("", "any");
    let site = Site::with(&routes, &["exact", "wide", "any"]).await;
    assert_eq!(site.ask("app.example.org", "/api").await, "exact");
    assert_eq!(site.ask("app.example.org", "/other").await, "404");
    assert_eq!(site.ask("b.example.org", "/other").await, "wide");
    assert_eq!(site.ask("elsewhere.test", "/other").await, "any");
}

#[tokio::test]
async fn a_route_belongs_to_the_listeners_that_it_names() {
    let config = "[listeners.inner]\nbind = \"127.0.0.1:0\"\n".to_owned()
        + &route("listeners = [\"inner\"]\npath = \"/admin\"", "admin")
        + &route("", "app");
    let site = Site::with(&config, &["admin", "app"]).await;
    let mut inner = Wire::connect(site.proxy.address("inner")).await;
    assert_eq!(who(&mut inner, "any", "/admin").await, "admin");
    assert_eq!(site.ask("any", "/admin").await, "app");
}

#[tokio::test]
async fn a_route_that_names_the_listener_comes_before_an_equal_one_that_does_not() {
    let config = "[listeners.inner]\nbind = \"127.0.0.1:0\"\n".to_owned()
        + &route("", "everywhere")
        + &route("listeners = [\"inner\"]", "inside");
    let site = Site::with(&config, &["everywhere", "inside"]).await;
    let mut inner = Wire::connect(site.proxy.address("inner")).await;
    assert_eq!(who(&mut inner, "any", "/").await, "inside");
    assert_eq!(site.ask("any", "/").await, "everywhere");
}

#[tokio::test]
async fn the_host_of_another_listener_does_not_hide_a_wider_one() {
    let config = "[listeners.inner]\nbind = \"127.0.0.1:0\"\n".to_owned()
        + &route("listeners = [\"inner\"]\nhosts = [\"app.example.org\"]", "inside")
        + &route("", "any");
    let site = Site::with(&config, &["inside", "any"]).await;
    assert_eq!(site.ask("app.example.org", "/").await, "any");
}

/// Status and location of the answer to a GET on a proxy that has only this redirect.
async fn redirected(redirect: &str, host: &str, target: &str) -> (u16, String) {
    let config = format!("[[routes]]\nredirect = {redirect}\n");
    let proxy = Proxy::start(&config).await;
    let answer = proxy.connect().await.ask("GET", target, &[("Host", host)], "").await;
    (answer.status(), answer.field("location").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_redirect_to_another_scheme_keeps_the_rest_but_the_port() {
    let answer =
        redirected("{ scheme = \"https\", status = 308 }", "app.test:8080", "/a/b?c=d&e").await;
    assert_eq!(answer, (308, "https://app.test/a/b?c=d&e".to_owned()));
}

#[tokio::test]
async fn a_redirect_to_another_port_of_another_scheme() {
    let answer = redirected("{ scheme = \"https\", port = 8443 }", "app.test:8080", "/a").await;
    assert_eq!(answer.1, "https://app.test:8443/a");
}

#[tokio::test]
async fn a_redirect_to_another_host() {
    let answer = redirected("{ host = \"www.app.test\", status = 301 }", "app.test", "/a?b").await;
    assert_eq!(answer, (301, "http://www.app.test/a?b".to_owned()));
}

#[tokio::test]
async fn a_redirect_to_another_path_keeps_host_port_and_query() {
    let answer = redirected("{ path = \"/new\", status = 302 }", "app.test:8080", "/old?b=1").await;
    assert_eq!(answer, (302, "http://app.test:8080/new?b=1".to_owned()));
}

#[tokio::test]
async fn every_redirect_status_is_given_as_it_is_written() {
    for status in [301, 302, 303, 307, 308] {
        let redirect = format!("{{ scheme = \"https\", status = {status} }}");
        assert_eq!(redirected(&redirect, "app.test", "/").await.0, status);
    }
}

#[tokio::test]
async fn a_redirect_over_tls_stays_with_it() {
    let config = format!("{HTTPS}[[routes]]\nredirect = {{ path = \"/new\" }}\n");
    let proxy = Proxy::start(&config).await;
    let tls = proxy.client_tls(&[b"http/1.1"]);
    let mut client = Wire::connect_tls(proxy.address("https"), tls, "localhost").await.unwrap();
    let answer = client.ask("GET", "/old", &[("Host", "localhost:8443")], "").await;
    assert_eq!(answer.field("location"), Some("https://localhost:8443/new"));
}

#[tokio::test]
async fn a_connection_stays_open_after_a_redirect() {
    let site = Site::with(
        &("[[routes]]\npath = \"/old\"\nredirect = { path = \"/\" }\n".to_owned()
            + &route("", "app")),
        &["app"],
    )
    .await;
    let mut client = site.proxy.connect().await;
    assert_eq!(who(&mut client, "any", "/old").await, "308");
    assert_eq!(who(&mut client, "any", "/").await, "app");
}
