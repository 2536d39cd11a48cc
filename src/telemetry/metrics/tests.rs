use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::*;
use crate::balance::{AllDown, Condition, Policy};
use crate::certs::{self, CertificateTable, generate};
use crate::health::{EjectionReason, FlapSettings, Health, Reason, Settings, outliers};
use crate::state::counters::PerWorker;
use crate::state::pool::{
    PickRules, Protocol, QueueSettings, RetryPolicy, SecureCookie, UpstreamSettings,
};
use crate::state::snapshot::ListenerLimits;
use crate::state::tls::{self, ServerTls};
use crate::state::{
    Address, Backend, Listener, ListenerState, Member, Pool, PoolState, Share, Snapshot, Split,
    Version, WorkerId,
};
use crate::telemetry::events;

const WORKERS: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

/// The text, read as Prometheus reads it. Panics where it breaks a rule of the format.
#[derive(Debug, Default)]
struct Scrape {
    types: BTreeMap<String, String>,
    helps: BTreeSet<String>,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut scrape = Scrape::default();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty() && scrape.helps.insert(name.into()), "HELP of {name}");
                family = name.into();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, family, "TYPE follows its HELP");
                assert!(["counter", "gauge", "histogram"].contains(&kind));
                assert_eq!(scrape.types.insert(name.into(), kind.into()), None, "TYPE of {name}");
            } else {
                scrape.sample(line, &family);
            }
        }
        scrape.check_histograms();
        scrape
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let kind = &self.types[family];
        let suffix = name.strip_prefix(family).expect("samples follow their family");
        let allowed: &[&str] =
            if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(allowed.contains(&suffix), "{line}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        check_labels(labels);
        assert_eq!(self.samples.insert(series.into(), value), None, "two of {series}");
    }

    fn check_histograms(&self) {
        let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        let mut buckets: Vec<(String, f64, f64)> = Vec::new();
        for (series, count) in &self.samples {
            let Some((name, labels)) = series.split_once("_bucket{") else { continue };
            let (rest, bound) = labels.split_once("le=\"").unwrap();
            let bound = bound.trim_end_matches("\"}").parse().unwrap();
            let rest = rest.trim_end_matches(',');
            buckets.push((format!("{name}_count{{{rest}}}"), bound, *count));
        }
        buckets.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        for (series, bound, count) in buckets {
            let before = last.insert(series.clone(), (bound, count));
            assert!(before.is_none_or(|(_, before)| before <= count), "{series} is cumulative");
        }
        for (series, (bound, count)) in last {
            assert_eq!((bound, count), (f64::INFINITY, self.samples[&series]), "{series}");
        }
    }

    fn get(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("no {series}"))
    }
}

/// `name="value",...}`, with the three escapes that a value may hold.
fn check_labels(labels: &str) {
    let mut rest = labels;
    let mut names = BTreeSet::new();
    while rest != "}" {
        let (name, value) = rest.split_once("=\"").unwrap();
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(!name.is_empty() && name.chars().all(valid) && names.insert(name), "{labels}");
        let mut chars = value.chars();
        loop {
            match chars.next().expect("a value ends with a quote") {
                '"' => break,
                '\\' => assert!(matches!(chars.next(), Some('\\' | '"' | 'n')), "{labels}"),
                _ => {}
            }
        }
        rest = chars.as_str();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn backend(pool: &Arc<str>, port: u16) -> Arc<Backend> {
    let flaps = FlapSettings::default();
    let settings =
        Settings { rise: 1, fall: 1, base_ejection: SECOND, max_ejection: SECOND, flaps };
    let address = Address::Ip(SocketAddr::from(([127, 0, 0, 1], port)));
    Arc::new(Backend::new(
        Arc::clone(pool),
        address,
        Health::new(settings, Duration::ZERO),
        WORKERS,
    ))
}

fn version(name: &str, backends: &[Arc<Backend>]) -> Arc<Version> {
    let members = backends
        .iter()
        .map(|backend| Member { backend: Arc::clone(backend), weight: 1, backup: false })
        .collect();
    let rules = PickRules {
        policy: Policy::LeastConnections,
        panic_threshold: 0.0,
        all_down: AllDown::Try,
    };
    Arc::new(Version::new(name.into(), members, rules, None))
}

fn pool(name: &Arc<str>, shares: &[(&Arc<Version>, f64)]) -> Arc<Pool> {
    let shares = shares
        .iter()
        .map(|(version, share)| Share { version: Arc::clone(version), share: *share })
        .collect();
    Arc::new(Pool {
        name: Arc::clone(name),
        policy: Policy::LeastConnections,
        secure_cookie: SecureCookie::Auto,
        outliers: outliers::Settings::default(),
        stall: None,
        slow_start: Duration::ZERO,
        circuit_breaker: None,
        queue: QueueSettings { max_requests_per_backend: u32::MAX, size: 0, timeout: SECOND },
        retries: RetryPolicy {
            attempts: 1,
            budget: 0.2,
            budget_floor: 10.0,
            on_connect: true,
            on_reset: true,
            on_refused_stream: true,
            on_timeout: true,
            on_status: [].into_iter().collect(),
        },
        upstream: Arc::new(UpstreamSettings {
            protocol: Protocol::Http1,
            tls: None,
            connect_timeout: SECOND,
            response_timeout: None,
            body_idle_timeout: None,
            tunnel_idle_timeout: None,
            keepalive_timeout: SECOND,
            keepalive_connections: 1,
            min_idle: 0,
            keepalive_request: None,
            keepalive_interval: Duration::from_secs(30),
        }),
        state: {
            let split = Split { shares, ..Split::default() };
            Arc::new(PoolState::new(Arc::default(), split, WORKERS, Duration::ZERO))
        },
    })
}

fn listener(name: &str, tls: Option<ServerTls>) -> Arc<Listener> {
    let limits = ListenerLimits {
        handshake_timeout: SECOND,
        header_timeout: SECOND,
        body_timeout: SECOND,
        write_timeout: SECOND,
        half_close_timeout: SECOND,
        keepalive_timeout: SECOND,
        keepalive_max_age: None,
        max_header_bytes: 1,
        max_headers: 1,
        max_connections: 1,
        max_connections_per_address: 1,
        h2_streams: 1,
    };
    let state = ListenerState {
        cells: PerWorker::new(WORKERS),
        connections: Default::default(),
        by_address: Default::default(),
    };
    let (sockets, addresses) = Default::default();
    let (name, state) = (name.into(), Arc::new(state));
    Arc::new(Listener {
        name,
        index: 0,
        sockets,
        addresses,
        port: 0,
        tls,
        h2c: false,
        limits,
        state,
    })
}

fn tls(name: &str) -> ServerTls {
    let now = SystemTime::now();
    let pair = generate::self_signed(&[name], generate::Validity::of_days(now, 1)).unwrap();
    let identity = certs::parse(pair.cert.as_bytes(), pair.key.as_bytes(), now).unwrap();
    let table = Arc::new(CertificateTable::new(vec![identity]).unwrap());
    ServerTls::new(table, &[], tls::ticketer().unwrap()).unwrap()
}

/// Pools `app` (blue and green) and `q"\`, listeners `http` and `https`.
fn house() -> (Arc<Shared>, [Arc<Backend>; 3]) {
    let (app, odd): (Arc<str>, Arc<str>) = ("app".into(), "q\"\\\n".into());
    let backends = [backend(&app, 1), backend(&app, 2), backend(&odd, 3)];
    let [blue, green] = [version("blue", &backends[..1]), version("green", &backends[1..2])];
    let plain = version("", &backends[2..]);
    let mut snapshot = Snapshot::empty();
    snapshot.generation = 7;
    snapshot.listeners = vec![listener("http", None), listener("https", Some(tls("a.test")))];
    snapshot.pools.insert(Arc::clone(&app), pool(&app, &[(&blue, 0.25), (&green, 0.75)]));
    snapshot.pools.insert(Arc::clone(&odd), pool(&odd, &[(&plain, 1.0)]));
    let (shared, _ends) = Shared::new(WORKERS, "".into(), snapshot, u64::MAX);
    (shared, backends)
}

fn scrape(shared: &Shared) -> Scrape {
    let mut text = String::new();
    render(shared, 3, &mut |piece| text.push_str(piece));
    Scrape::parse(&text)
}

const BLUE: &str = "pool=\"app\",version=\"blue\",backend=\"127.0.0.1:1\"";

#[test]
fn a_quiet_house_renders_by_the_rules() {
    let (shared, _) = house();
    let scrape = scrape(&shared);
    assert_eq!(scrape.get("tidegate_log_dropped_total"), 3.0);
    assert_eq!(scrape.get("tidegate_config_generation"), 7.0);
}

#[test]
fn series_of_requests_begin_with_the_first_use_of_a_backend() {
    let (shared, [blue, ..]) = house();
    let of_requests = |scrape: &Scrape| {
        let names =
            ["request_duration_seconds_sum", "head_seconds_sum", "retries", "timeouts", "bytes"];
        names.map(|name| scrape.samples.keys().any(|it| it.contains(name) && it.contains(BLUE)))
    };
    assert_eq!(of_requests(&scrape(&shared)), [false; 5]);
    // All of them, since `rate` sees no increase from nothing.
    blue.cells.cell(WorkerId::new(0)).connects.add(1);
    assert_eq!(of_requests(&scrape(&shared)), [true; 5]);
}

#[test]
fn a_busy_house_renders_by_the_rules() {
    let (shared, backends) = house();
    for backend in &backends {
        for worker in 0..WORKERS {
            let cells = backend.cells.cell(WorkerId::new(worker));
            for millis in [0, 1, 30, 90_000] {
                cells.duration.observe(Duration::from_millis(millis));
                cells.codes.count(StatusCode::OK);
            }
            cells.codes.count(StatusCode::from_u16(799).unwrap());
        }
    }
    let scrape = scrape(&shared);
    let requests =
        |code| scrape.get(&format!("tidegate_backend_requests_total{{{BLUE},code=\"{code}\"}}"));
    assert_eq!((requests("200"), requests("other")), (8.0, 2.0));
    let duration =
        |rest: &str| scrape.get(&format!("tidegate_backend_request_duration_seconds{rest}"));
    assert_eq!(duration(&format!("_bucket{{{BLUE},le=\"0.001\"}}")), 4.0);
    assert_eq!(duration(&format!("_bucket{{{BLUE},le=\"60\"}}")), 6.0);
    assert_eq!(duration(&format!("_count{{{BLUE}}}")), 8.0);
    assert_eq!(duration(&format!("_sum{{{BLUE}}}")), 180.062);
}

#[test]
fn one_state_is_set_and_up_follows_health() {
    let (shared, [blue, ..]) = house();
    let transition = blue.health().on_probe(SECOND, Ok(())).unwrap();
    events::backend_transition(&shared, &blue, &transition);
    blue.set_condition(Condition::Draining);
    let scrape = scrape(&shared);
    let state = |state| scrape.get(&format!("tidegate_backend_state{{{BLUE},state=\"{state}\"}}"));
    let states = Condition::ALL.map(|condition| (condition, state(condition.label())));
    assert!(states.iter().all(|(each, value)| *value == f64::from(*each == Condition::Draining)));
    assert_eq!(scrape.get(&format!("tidegate_backend_up{{{BLUE}}}")), 1.0);
    let pool = "pool=\"app\",version=\"blue\"";
    assert_eq!(scrape.get(&format!("tidegate_pool_backends{{{pool},state=\"draining\"}}")), 1.0);
}

#[test]
fn ejections_are_counted_by_reason() {
    let (shared, [blue, ..]) = house();
    let reason = EjectionReason::ConsecutiveFailures(5);
    let transition = blue.health().on_ejection(SECOND, reason).unwrap();
    assert!(matches!(transition.reason, Reason::Ejected { .. }));
    events::backend_transition(&shared, &blue, &transition);
    let scrape = scrape(&shared);
    let labels = format!("{BLUE},from=\"checking\",to=\"ejected\",reason=\"consecutive_failures\"");
    assert_eq!(scrape.get(&format!("tidegate_backend_transitions_total{{{labels}}}")), 1.0);
    let labels = format!("{BLUE},reason=\"consecutive_failures\"");
    assert_eq!(scrape.get(&format!("tidegate_backend_ejections_total{{{labels}}}")), 1.0);
}

#[test]
fn connections_in_use_are_those_open_and_not_idle() {
    let (shared, [blue, ..]) = house();
    let cells = blue.cells.cell(WorkerId::new(0));
    cells.connects.add(10);
    cells.closes.add(2);
    cells.idle_in.add(9);
    cells.idle_out.add(6);
    let scrape = scrape(&shared);
    let open =
        |state| scrape.get(&format!("tidegate_backend_connections{{{BLUE},state=\"{state}\"}}"));
    assert_eq!((open("active"), open("idle")), (5.0, 3.0));
}

#[test]
fn the_active_version_is_the_one_with_most_of_the_traffic() {
    let (shared, _) = house();
    let scrape = scrape(&shared);
    let active = |version| {
        scrape.get(&format!("tidegate_pool_active_version{{pool=\"app\",version=\"{version}\"}}"))
    };
    assert_eq!((active("blue"), active("green")), (0.0, 1.0));
}

#[test]
fn a_backend_that_is_gone_leaves_no_series_and_its_pool_keeps_the_total() {
    let (shared, _) = house();
    let snapshot = shared.snapshot.load_full();
    let pool = &snapshot.pools["app"];
    pool.state.cells.cell(WorkerId::new(1)).from_backend.count(StatusCode::OK);
    let green = Arc::clone(&pool.state.split.load().shares[1].version);
    pool.state.set_split(Split::all_to(green));
    let scrape = scrape(&shared);
    assert!(!scrape.samples.keys().any(|series| series.contains("127.0.0.1:1\"")));
    let total = "tidegate_pool_requests_total{pool=\"app\",code=\"200\",origin=\"backend\"}";
    assert_eq!(scrape.get(total), 1.0);
}

#[test]
fn a_certificate_tells_when_it_expires() {
    let (shared, _) = house();
    let scrape = scrape(&shared);
    let not_after = scrape.get("tidegate_tls_certificate_not_after_seconds{name=\"a.test\"}");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(not_after > now && not_after < now + 2.0 * 86_400.0);
}

#[test]
fn the_process_tells_of_itself() {
    let (shared, _) = house();
    let scrape = scrape(&shared);
    assert!(scrape.get("process_resident_memory_bytes") > 0.0);
    assert!(scrape.get("process_open_fds") < scrape.get("process_max_fds"));
}
