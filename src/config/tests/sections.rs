//! Single sections.

use std::path::Path;
use std::time::Duration;

use super::{config_of, errors_of, with};
use crate::config::model::{
    BackendAddress, BindAddress, HostPattern, ProbeKind, RetryOn, RouteAction, Scheme,
};
use crate::config::parse;

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn contradictions_and_gaps_within_a_section() {
    for (more, expected) in [
        ("active = \"blue\"", "pools.app.active: `active` names a version, and this pool has none"),
        (
            "versions.blue.backends = [\"b:1\"]\nactive = \"blue\"",
            "pools.app.backends: `backends` stands beside `versions`, which have backends of their own",
        ),
        ("[pools.x]", "pools.x: `backends` is missing"),
        ("[pools.x]\nbackends = []", "pools.x.backends: `backends` is an empty list"),
        (
            "[pools.x]\nversions.blue.backends = [\"b:1\"]",
            "pools.x: `active` is missing: which version is to serve?",
        ),
        ("[pools.x]\nbackends = [{}]", "pools.x.backends[0]: `address` is missing"),
        (
            "[pools.x]\nbackends = [{ address = \"b:1\", weight = 0 }]",
            "pools.x.backends[0].weight: a backend of weight 0 would get no request",
        ),
        ("[pools.'a b']\nbackends = [\"b:1\"]", "pools.a b: `a b` cannot be a name"),
        ("affinity = {}", "pools.app.affinity: `cookie` is missing"),
        (
            "affinity = { cookie = \"a b\" }",
            "pools.app.affinity.cookie: \"a b\" cannot be the name of a cookie",
        ),
        (
            "affinity = { cookie = \"a\", secret = \"short\" }",
            "pools.app.affinity.secret: this secret is too short to be one",
        ),
        (
            "upstream.protocol = \"auto\"",
            "pools.app.upstream.protocol: `auto` asks the backend during the TLS handshake, and there is no `tls`",
        ),
        (
            "upstream.connect_timeout = \"0s\"",
            "pools.app.upstream.connect_timeout: this duration must be above zero",
        ),
        (
            "upstream.tls = { verify = false, ca = \"x\" }",
            "pools.app.upstream.tls.ca: `ca` has no meaning with `verify = false`",
        ),
        (
            "health = { type = \"tcp\", path = \"/\" }",
            "pools.app.health.path: `path` has no meaning with `type = \"tcp\"`",
        ),
        (
            "health.headers = { \"a b\" = \"c\" }",
            "pools.app.health.headers: `a b` cannot be the name of a header field",
        ),
        (
            "health.headers = { a = \"c\\nd\" }",
            "pools.app.health.headers: the value of `a` holds a control character",
        ),
        (
            "health.expect_status = []",
            "pools.app.health.expect_status: `expect_status` is an empty list",
        ),
        (
            "outliers.failure_rate = \"0%\"",
            "pools.app.outliers.failure_rate: this share must be above zero",
        ),
        ("[[pools.x]]", "pools.x: expected a table, found a list"),
        ("health = 5", "pools.app.health: expected a table, found 5"),
        (
            "outliers.base_ejection = \"10m\"",
            "pools.app.outliers.base_ejection: `base_ejection` is longer than `max_ejection`",
        ),
        ("retries.attempts = 0", "pools.app.retries.attempts: 0 is out of range"),
        (
            "[admin]\nbind = \"0.0.0.0:9900\"",
            "admin.bind: the admin API on 0.0.0.0:9900 can be reached from elsewhere without a token",
        ),
        ("[listeners.x]", "listeners.x: `bind` is missing"),
        ("[listeners.x]\nbind = []", "listeners.x.bind: `bind` is an empty list"),
        (
            "[listeners.x]\nbind = \"0.0.0.0:1\"\ntls = {}",
            "listeners.x.tls: `certificates` is missing",
        ),
        (
            "[listeners.x]\nbind = \"0.0.0.0:1\"\ntls.certificates = [{ cert = \"a\" }]",
            "listeners.x.tls.certificates[0]: `key` is missing",
        ),
    ] {
        assert_eq!(errors_of(&with(more)), [expected], "{more}");
    }
}

#[test]
fn contradictions_within_a_route() {
    for (route, expected) in [
        ("", "routes[1]: this route leads nowhere"),
        (
            "pool = \"app\"\nredirect = { scheme = \"https\" }",
            "routes[1].redirect: a route leads to a `pool` or is a `redirect`, not both",
        ),
        (
            "redirect = { scheme = \"https\" }\nmax_body = \"1MiB\"",
            "routes[1].max_body: `max_body` has no meaning on a redirect",
        ),
        (
            "redirect = {}",
            "routes[1].redirect: this redirect leads to where the request already is",
        ),
        (
            "redirect = { path = \"/x\", status = 304 }",
            "routes[1].redirect.status: 304 is no redirect",
        ),
        ("pool = \"app\"\nhosts = []", "routes[1].hosts: `hosts` is an empty list"),
        ("pool = \"app\"\nhosts = \"a\"", "routes[1].hosts: expected a list, found \"a\""),
        ("pool = \"app\"\nname = \"a b\"", "routes[1].name: `a b` cannot be a name"),
    ] {
        let text = with(&format!("[[routes]]\npath = \"/r\"\n{route}"));
        assert_eq!(errors_of(&text), [expected], "{route}");
    }
}

#[test]
fn contradictions_within_a_swap() {
    for (swap, expected) in [
        ("gate_checks = 0", "swap.gate_checks: 0 is out of range"),
        ("smoke = [{}]", "swap.smoke[0]: `path` is missing"),
        ("ramp = [\"25%\", \"5%\"]", "swap.ramp: the shares of a ramp must rise"),
        ("ramp = [\"100%\"]", "swap.ramp[0]: \"100%\" is out of range"),
        (
            "control = \"60%\"",
            "swap.control: \"60%\" of the requests would stay on the old version",
        ),
        (
            "tunnels = { drain = \"close\", deadline = \"1s\" }",
            "swap.tunnels.deadline: `deadline` has no meaning with `drain = \"close\"`, which closes at once",
        ),
        ("rollback.confidence = \"100%\"", "swap.rollback.confidence: \"100%\" is out of range"),
        ("rollback.latency_factor = 0.5", "swap.rollback.latency_factor: 0.5 is no factor"),
    ] {
        let text = with(&format!(
            "[pools.x]\nactive = \"b\"\nversions.b.backends = [\"b:1\"]\n[pools.x.swap]\n{swap}"
        ));
        assert_eq!(errors_of(&text), [format!("pools.x.{expected}")], "{swap}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let env = |_: &str| Some("hunter2".to_owned());
    let text = with("affinity = { cookie = \"a\", secret = \"${S}\" }");
    let errors = parse(&text, Path::new("x.toml"), &env).expect_err("too short").to_string();
    assert!(!errors.contains("hunter2"), "{errors}");
    let text = text.replace("${S}", "0123456789abcdef");
    let config = config_of(&text);
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
    let affinity = config.pools["app"].affinity.as_ref().unwrap();
    assert_eq!(affinity.secret.as_ref().unwrap().expose(), "0123456789abcdef");
}

#[test]
fn the_environment_gives_texts_numbers_and_booleans() {
    let env = |name: &str| match name {
        "N" => Some("3".to_owned()),
        "B" => Some("true".to_owned()),
        "STATE_DIRECTORY" => Some("/var/lib/tidegate:/other".to_owned()),
        _ => None,
    };
    let text = with("[server]\nworkers = \"${N}\"\nforwarded = \"${B}\"");
    let server = parse(&text, Path::new("x.toml"), &env).unwrap().config.server.clone();
    assert_eq!((server.workers, server.forwarded), (Some(3), true));
    assert_eq!(server.state_dir.unwrap().value, Path::new("/var/lib/tidegate"));
    // What is not from the environment must have its own type.
    let errors = errors_of(&with("[server]\nworkers = \"3\""));
    assert_eq!(errors, ["server.workers: expected a whole number, found \"3\""]);
    let errors = errors_of(&with("[server]\nstate_dir = \"${NOPE}\""));
    assert_eq!(errors, ["server.state_dir: environment variable `NOPE` is not set"]);
}

#[test]
fn a_full_file_becomes_values() {
    let config = config_of(&with(
        "affinity = { cookie = \"c\", ttl = \"2d\" }\nhealth.path = \"/up?x=1\"\n\
         retries.on = [\"reset\", 503, \"503\"]\n\
         [listeners.u]\nbind = [\"unix:run/x.sock\", \"[::1]:1\"]\n\
         [[routes]]\nhosts = [\"*.Example.ORG.\", \"[::1]:80\"]\n\
         redirect = { scheme = \"https\" }",
    ));
    let bind: Vec<_> = config.listeners["u"].bind.iter().map(|bind| &bind.value).collect();
    assert_eq!(*bind[0], BindAddress::Unix(std::path::absolute("conf/run/x.sock").unwrap()));
    assert_eq!(bind[1].to_string(), "[::1]:1");
    let route = &config.routes[1];
    assert_eq!(route.hosts[0].value, HostPattern::Wildcard("example.org".to_owned()));
    assert_eq!(route.hosts[1].value, HostPattern::Exact("[::1]".to_owned()));
    let RouteAction::Redirect(redirect) = &route.action else { panic!("{route:?}") };
    assert_eq!((redirect.scheme, redirect.status), (Some(Scheme::Https), 308));
    let pool = &config.pools["app"];
    assert_eq!(pool.active.value, "");
    let address = &pool.versions[""].backends[0].address.value;
    assert_eq!(*address, BackendAddress::Ip(([127, 0, 0, 1], 3001).into()));
    let ttl = pool.affinity.as_ref().and_then(|affinity| affinity.ttl);
    assert_eq!(ttl, Some(Duration::from_secs(2 * 86_400)));
    assert_eq!(pool.retries.on, [RetryOn::Reset, RetryOn::Status(503)]);
    let ProbeKind::Http(probe) = &pool.health.probe else { panic!("{:?}", pool.health) };
    assert_eq!(probe.path, "/up?x=1");
}

#[test]
fn without_a_section_health_is_a_connection() {
    assert_eq!(config_of(&with("")).pools["app"].health.probe, ProbeKind::Tcp);
    let config = config_of(&with("health = { type = \"grpc\", port = 9, service = \"a.B\" }"));
    let probe = ProbeKind::Grpc { service: "a.B".to_owned() };
    assert_eq!(config.pools["app"].health.probe, probe);
}

#[test]
fn what_protects_a_pool() {
    let pool = "circuit_breaker = { failures = 3 }\n\
                upstream = { min_idle = 2, keepalive_request = \"/ping\" }\n\
                [pools.app.health]\ndrain_header = \"X-Drain\"\ndrain_body = \"bye\"\n\
                flap_guard = { downs = 0 }";
    let config = config_of(&with(pool));
    let pool = &config.pools["app"];
    let breaker = pool.circuit_breaker.as_ref().unwrap();
    assert_eq!((breaker.failures, breaker.open_for), (3, Duration::from_secs(60)));
    assert_eq!(pool.upstream.min_idle, 2);
    assert_eq!(pool.upstream.keepalive_request.as_deref(), Some("/ping"));
    assert_eq!(pool.health.drain_header.as_deref(), Some("X-Drain"));
    assert_eq!(pool.health.drain_body.as_deref(), Some("bye"));
    assert_eq!(pool.health.flap_guard.downs, None);
    for (pool, expected) in [
        (
            "upstream = { min_idle = 5, keepalive_connections = 4 }",
            "pools.app.upstream.min_idle: `min_idle` is more than `keepalive_connections`",
        ),
        (
            "health = { type = \"tcp\", drain_header = \"X\" }",
            "pools.app.health.drain_header: `drain_header` has no meaning with `type = \"tcp\"`",
        ),
        (
            "health.service = \"a.B\"",
            "pools.app.health.service: `service` has no meaning with `type = \"http\"`",
        ),
        (
            "health.drain_header = \"X Y\"",
            "pools.app.health.drain_header: `X Y` cannot be the name of a header field",
        ),
        (
            "health.flap_guard = { hold = \"1h\" }",
            "pools.app.health.flap_guard.hold: `hold` is longer than `max_hold`",
        ),
        (
            "circuit_breaker = { failures = 0 }",
            "pools.app.circuit_breaker.failures: 0 is out of range",
        ),
    ] {
        assert_eq!(errors_of(&with(pool)), [expected], "{pool}");
    }
}
