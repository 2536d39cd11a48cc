//! Rules between sections.

use std::path::Path;

use super::{config_of, errors_of, try_parse, warnings_of, with};
use crate::config::{parse, restart_only_changes};

#[test]
fn names_that_lead_nowhere() {
    for (more, expected) in [
        ("[[routes]]\npath = \"/a\"\npool = \"ap\"", "routes[1].pool: there is no pool `ap`"),
        (
            "[[routes]]\npath = \"/a\"\npool = \"app\"\nlisteners = [\"htp\"]",
            "routes[1].listeners[0]: there is no listener `htp`",
        ),
        (
            "[pools.x]\nactive = \"red\"\nversions.blue.backends = [\"a:1\"]",
            "pools.x.active: there is no version `red`",
        ),
    ] {
        assert_eq!(errors_of(&with(more)), [expected], "{more}");
    }
}

#[test]
fn fallbacks() {
    let route = |fallback: &str| {
        with(&format!("[[routes]]\npath = \"/a\"\npool = \"app\"\nfallback = {fallback}"))
    };
    for (fallback, expected) in [
        ("{ pool = \"ap\" }", "routes[1].fallback.pool: there is no pool `ap`"),
        (
            "{ pool = \"app\" }",
            "routes[1].fallback.pool: this fallback is the pool that it is to stand in for",
        ),
        ("{}", "routes[1].fallback: this fallback has no answer"),
        ("{ file = \"a\", status = 100 }", "routes[1].fallback.status: 100 is out of range"),
        (
            "{ file = \"a\", content_type = \"html\" }",
            "routes[1].fallback.content_type: \"html\" is no media type",
        ),
    ] {
        assert_eq!(errors_of(&route(fallback)), [expected], "{fallback}");
    }
    let other = "[pools.other]\nbackends = [\"a:1\"]\n";
    let both = format!("{other}[[routes]]\npath = \"/a\"\npool = \"app\"\n");
    let errors =
        errors_of(&with(&format!("{both}fallback = {{ pool = \"other\", file = \"a\" }}")));
    assert_eq!(errors, ["routes[1].fallback.file: a fallback is a `pool` or a `file`, not both"]);
    // A pool that is only a fallback is of use.
    let text = with(&format!("{both}fallback = {{ pool = \"other\" }}"));
    assert_eq!(warnings_of(&text), Vec::<String>::new());
    let redirect =
        "[[routes]]\npath = \"/a\"\nredirect = { port = 1 }\nfallback = { file = \"a\" }";
    let errors = errors_of(&with(redirect));
    assert_eq!(errors, ["routes[1].fallback: `fallback` has no meaning on a redirect"]);
}

#[test]
fn the_same_address_twice_in_a_pool() {
    for (more, expected) in [
        (
            "[pools.x]\nbackends = [\"a:1\", { address = \"A:1\" }]",
            "pools.x.backends: backend a:1 stands here twice",
        ),
        (
            "[pools.x]\nactive = \"b\"\nversions.b.backends = [\"a:1\"]\nversions.g.backends = [\"a:1\"]",
            "pools.x.versions.g.backends: backend a:1 stands in two versions",
        ),
    ] {
        assert_eq!(errors_of(&with(more)), [expected], "{more}");
    }
}

#[test]
fn pools_may_share_an_address() {
    config_of(&with("[pools.x]\nbackends = [\"127.0.0.1:3001\"]"));
}

#[test]
fn plain_http_2_beside_tls() {
    let tls = "tls = { certificates = [{ cert = \"a.pem\", key = \"a.key\" }] }";
    let text = format!("[listeners.other]\nbind = \"127.0.0.1:0\"\nh2c = true\n{tls}");
    assert_eq!(
        errors_of(&with(&text)),
        ["listeners.other.h2c: HTTP/2 without TLS, on a listener with `tls`"]
    );
    let config = config_of(&with("[listeners.other]\nbind = \"127.0.0.1:0\"\nh2c = true"));
    assert!(config.listeners["other"].h2c && !config.listeners["http"].h2c);
}

#[test]
fn listeners_that_overlap() {
    for (bind, taken) in [
        ("0.0.0.0:8080", Some("listeners.http")),
        ("127.0.0.1:8080", Some("listeners.http")),
        ("[::]:8080", Some("listeners.http")),
        ("[::1]:8080", None),
        ("0.0.0.0:8081", None),
        ("127.0.0.1:9900", Some("admin")),
        ("0.0.0.0:9900", Some("admin")),
    ] {
        let text = format!("[listeners.other]\nbind = \"{bind}\"\n");
        let errors = try_parse(&with(&text)).map_or_else(|errors| errors.errors, |_| Vec::new());
        let messages: Vec<_> = errors.into_iter().map(|error| error.message).collect();
        let expected: Vec<_> =
            taken.iter().map(|taken| format!("{bind} is already taken by `{taken}`")).collect();
        assert_eq!(messages, expected, "{bind}");
    }
}

#[test]
fn ports_that_the_kernel_chooses_never_overlap() {
    config_of(&with("[listeners.a]\nbind = [\"127.0.0.1:0\", \"127.0.0.1:0\"]"));
}

/// A second route against a first one, both with these keys.
fn routes(first: &str, second: &str) -> String {
    format!(
        "{}[[routes]]\npool = \"app\"\n{first}\n[[routes]]\npool = \"app\"\n{second}",
        with("[listeners.other]\nbind = \"0.0.0.0:9090\"\n")
    )
}

#[test]
fn routes_that_match_the_same_requests() {
    for (first, second) in [
        ("path = \"/a\"", "path = \"/a\""),
        ("hosts = [\"a.b\", \"c.d\"]", "hosts = [\"C.D.\"]"),
        ("hosts = [\"*.a.b\"]", "hosts = [\"*.a.b:80\"]"),
        ("listeners = [\"http\"]", "listeners = [\"other\", \"http\"]"),
    ] {
        let errors = errors_of(&routes(first, second));
        assert_eq!(errors, ["routes[2]: two routes match the same requests"], "{second}");
    }
}

#[test]
fn routes_that_differ() {
    for (first, second) in [
        ("path = \"/a\"", "path = \"/b\""),
        ("hosts = [\"a.b\"]", "hosts = [\"*.b\"]"),
        ("listeners = [\"http\"]", "listeners = [\"other\"]"),
        ("listeners = [\"http\"]", "hosts = [\"a.b\"]"),
    ] {
        config_of(&routes(first, second));
    }
}

#[test]
fn a_route_that_failed_is_not_compared() {
    let text = routes("hosts = [\"a..b\"]", "path = \"/x\"");
    assert_eq!(errors_of(&text), ["routes[1].hosts[0]: \"a..b\" is no host"]);
}

#[test]
fn names_and_hosts_of_routes_stand_once() {
    let text = routes("name = \"r\"\npath = \"/a\"", "name = \"r\"\npath = \"/b\"");
    assert_eq!(errors_of(&text), ["routes[2].name: two routes are named `r`"]);
    let text = routes("hosts = [\"a.b\", \"A.b\"]", "path = \"/x\"");
    assert_eq!(errors_of(&text), ["routes[1].hosts[1]: host `a.b` stands here twice"]);
}

#[test]
fn somebody_must_listen() {
    let errors = errors_of("");
    assert_eq!(errors, [": there is no listener"]);
}

#[test]
fn warnings() {
    for (more, expected) in [
        ("[pools.x]\nbackends = [\"a:1\"]", "pools.x: no route leads to pool `x`"),
        (
            "[[routes]]\npath = \"/x\"\npool = \"x\"\n[pools.x]\nbackends = [{ address = \"a:1\", backup = true }]",
            "pools.x.backends: every backend here is a backup",
        ),
        ("swap = {}", "pools.app.swap: `swap` has no effect: this pool has no versions to swap"),
        (
            "queue = { size = 5 }",
            "pools.app.queue: nobody waits in this `queue`: the backends have no limit",
        ),
        (
            "upstream = { keepalive_request = \"/ping\" }",
            "pools.app.upstream.keepalive_request: nothing is asked by this `keepalive_request`: no \
             connections are kept for it",
        ),
        (
            "upstream = { min_idle = 2, keepalive_timeout = \"0s\" }",
            "pools.app.upstream.min_idle: connections are kept open by `min_idle`, and closed at once \
             by `keepalive_timeout = \"0s\"`",
        ),
        (
            "health = { path = \"/\", timeout = \"5s\" }",
            "pools.app.health.timeout: a check may take longer than the `interval` between two: then \
             the next one comes that much later",
        ),
        (
            "health = { path = \"/\", interval = \"500ms\" }",
            "pools.app.health.interval: a check may take longer than the `interval` between two: then \
             the next one comes that much later",
        ),
        (
            "upstream.tls = { verify = false }",
            "pools.app.upstream.tls.verify: backends are not verified: anyone on the way can be one",
        ),
        (
            "[log]\naccess_path = \"a.log\"",
            "log.access_path: nothing is written here: `access` is off",
        ),
    ] {
        assert_eq!(warnings_of(&with(more)), [expected], "{more}");
    }
}

#[test]
fn a_listener_without_a_route_is_a_warning() {
    let text = with("[listeners.other]\nbind = \"0.0.0.0:81\"");
    let text = text.replacen("[[routes]]", "[[routes]]\nlisteners = [\"http\"]", 1);
    assert_eq!(warnings_of(&text), ["listeners.other: no route stands on listener `other`"]);
}

#[test]
fn tls_to_a_socket_needs_a_name() {
    let pool = "[pools.x]\nbackends = [\"unix:/run/x\"]\n";
    let errors = errors_of(&with(&format!("{pool}upstream.tls = {{}}")));
    assert_eq!(errors, ["pools.x.upstream.tls: TLS to a Unix socket needs a name to verify"]);
    config_of(&with(&format!("{pool}upstream.tls = {{ server_name = \"x\" }}")));
}

#[test]
fn what_needs_a_restart_is_named() {
    let old = config_of(&with(""));
    let new = config_of(&with("[server]\nworkers = 2\nstate_dir = \"x\"\nmax_requests = 1"));
    assert_eq!(restart_only_changes(&old, &new), ["server.workers", "server.state_dir"]);
    let new = config_of(&with("[admin]\nbind = \"127.0.0.1:9901\""));
    assert_eq!(restart_only_changes(&old, &new), ["admin.bind"]);
    assert_eq!(restart_only_changes(&old, &old), Vec::<String>::new());
}

#[test]
fn a_file_says_the_same_however_it_is_named() {
    let text = with("[server]\nstate_dir = \"state\"");
    let named = |path: &Path| parse(&text, path, &|_| None).unwrap().config;
    let absolute = std::env::current_dir().unwrap().join("a.toml");
    let (relative, absolute) = (named(Path::new("a.toml")), named(&absolute));
    assert_eq!(restart_only_changes(&relative, &absolute), Vec::<String>::new());
    assert_eq!(relative, absolute);
}

#[test]
fn a_file_that_only_moved_says_the_same() {
    assert_eq!(config_of(&with("")), config_of(&format!("\n\n{}", with(""))));
}
