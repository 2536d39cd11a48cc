use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::*;
use crate::balance::Condition;
use crate::certs::generate::{Authority, Validity, self_signed};
use crate::config::Source;
use crate::config::model::BindAddress;
use crate::state::Version;

/// The directory that relative paths of the test configuration begin at.
const DIRECTORY: &str = "/etc/tidegate";

/// A world with files of its own, and the generation in force in it.
struct World {
    files: HashMap<PathBuf, Vec<u8>>,
    generation: Generation,
    effects: Effects,
    workers: usize,
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

impl World {
    fn new() -> Self {
        World {
            files: HashMap::new(),
            generation: Generation::none(),
            effects: Effects::default(),
            workers: 2,
        }
    }

    fn write(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        self.files.insert(PathBuf::from(DIRECTORY).join(name), content.into());
    }

    fn write_certificate(&mut self, name: &str) {
        let pair = self_signed(&["app.test"], Validity::of_days(now(), 90)).unwrap();
        self.write(&format!("{name}.pem"), pair.cert);
        self.write(&format!("{name}.key"), pair.key);
    }

    fn compile(&self, text: &str) -> Result<Compiled, (Source, Vec<Diagnostic>)> {
        let path = PathBuf::from(DIRECTORY).join("tidegate.toml");
        let parsed = crate::config::parse(text, &path, &|_| None).unwrap();
        let read = |path: &std::path::Path| {
            self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let context = Context {
            workers: self.workers,
            affinity_key: &Key::new(b"key"),
            open_files: 1_024,
            uptime: Duration::ZERO,
            now: now(),
            read: &read,
        };
        compile(&parsed.config, &self.generation, &context)
            .map_err(|errors| (parsed.source, errors))
    }

    /// Puts a configuration in force; every address is bound as it is, with its port as its id.
    fn load(&mut self, text: &str) {
        let bound = |key: &SocketKey| match key.address() {
            BindAddress::Tcp(tcp) => Some(Bound {
                id: SocketId(tcp.port().into()),
                address: tcp.to_string(),
                port: tcp.port(),
            }),
            BindAddress::Unix(_) => None,
        };
        let number = self.generation.snapshot.generation + 1;
        let compiled = self.compile(text).unwrap();
        (self.generation, self.effects) = compiled.into_generation(number, bound);
        self.effects.versions.drain(..).for_each(|it| drop(it.put_in_force()));
    }

    fn pool(&self, name: &str) -> &Arc<Pool> {
        &self.generation.snapshot.pools[name]
    }

    fn version(&self, pool: &str, name: &str) -> Arc<Version> {
        let split = self.pool(pool).state.split.load();
        let share = split.shares.iter().find(|share| *share.version.name == *name).unwrap();
        Arc::clone(&share.version)
    }

    fn serving(&self, pool: &str) -> String {
        let split = self.pool(pool).state.split.load();
        let serving: Vec<_> = split.shares.iter().filter(|share| share.share > 0.0).collect();
        assert_eq!(serving.len(), 1);
        serving[0].version.name.to_string()
    }

    fn backend(&self, pool: &str, port: u16) -> Arc<Backend> {
        let address = crate::state::Address::Ip(SocketAddr::from(([127, 0, 0, 1], port)));
        let split = self.pool(pool).state.split.load();
        let mut members = split.shares.iter().flat_map(|share| &share.version.members);
        let member = members.find(|member| member.backend.address == address).unwrap();
        Arc::clone(&member.backend)
    }
}

/// A listener, a route to the pool `app`, and the pool with these lines.
fn app(pool: &str) -> String {
    format!(
        "[listeners.http]\nbind = \"127.0.0.1:8080\"\n[[routes]]\npool = \"app\"\n[pools.app]\n{pool}"
    )
}

const TWO: &str = "backends = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n";

fn https(extra: &str) -> String {
    format!(
        "{}\n[listeners.https]\nbind = \"127.0.0.1:8443\"\n\
         tls = {{ certificates = [{{ cert = \"app.pem\", key = \"app.key\" }}] }}\n{extra}",
        app(TWO)
    )
}

#[test]
fn what_did_not_change_stays_the_same() {
    let mut world = World::new();
    world.load(&app(TWO));
    let (pool, version, check) = (
        Arc::clone(world.pool("app")),
        world.version("app", ""),
        Arc::clone(&world.generation.checks["app"]),
    );
    world.load(&app(TWO));
    assert!(Arc::ptr_eq(&world.pool("app").state, &pool.state));
    assert!(Arc::ptr_eq(&world.pool("app").upstream, &pool.upstream));
    assert!(Arc::ptr_eq(&world.version("app", ""), &version));
    assert!(Arc::ptr_eq(&world.generation.checks["app"], &check));
    assert!(world.effects.reverify.is_empty());
    assert_eq!(world.generation.snapshot.generation, 2);
}

#[test]
fn a_backend_that_stays_keeps_its_identity_and_condition() {
    let mut world = World::new();
    world.load(&app(TWO));
    let (left, stays) = (world.backend("app", 1), world.backend("app", 2));
    stays.set_condition(Condition::Healthy);
    world.load(&app("backends = [{ address = \"127.0.0.1:2\", weight = 5 }, \"127.0.0.1:3\"]"));
    assert!(Arc::ptr_eq(&world.backend("app", 2), &stays));
    assert_eq!(world.backend("app", 2).condition(), Condition::Healthy);
    assert_eq!(world.backend("app", 3).condition(), Condition::Checking);
    let members = &world.version("app", "").members;
    assert_eq!(members.iter().map(|member| member.weight).collect::<Vec<_>>(), [5, 1]);
    // Nobody holds it any more but this test.
    assert_eq!(Arc::strong_count(&left), 1);
}

#[test]
fn a_new_backend_waits_while_others_are_healthy() {
    let mut world = World::new();
    world.load(&app("backends = [\"127.0.0.1:1\"]"));
    world.backend("app", 1).set_condition(Condition::Healthy);
    world.load(&app(TWO));
    assert_eq!(world.version("app", "").usable().len(), 1);
}

#[test]
fn the_same_address_in_another_pool_is_another_backend() {
    let mut world = World::new();
    let text =
        format!("{}\n[pools.other]\n{TWO}[[routes]]\nhosts=[\"o\"]\npool=\"other\"", app(TWO));
    world.load(&text);
    assert_ne!(world.backend("app", 1).id, world.backend("other", 1).id);
}

#[test]
fn another_check_is_verified_again() {
    let mut world = World::new();
    world.load(&app(TWO));
    world.load(&app(&format!("{TWO}[pools.app.health]\npath = \"/up\"\nfall = 7")));
    let ports: Vec<u32> =
        world.effects.reverify.iter().map(|(_, settings)| settings.fall).collect();
    assert_eq!(ports, [7, 7]);
}

#[test]
fn other_rules_make_another_version_of_the_same_backends() {
    let mut world = World::new();
    world.load(&app(TWO));
    let (version, backend) = (world.version("app", ""), world.backend("app", 1));
    world.load(&app(&format!("{TWO}policy = \"round_robin\"")));
    assert!(!Arc::ptr_eq(&world.version("app", ""), &version));
    assert!(Arc::ptr_eq(&world.backend("app", 1), &backend));
}

#[test]
fn affinity_cookies_outlive_a_reload_and_depend_on_the_secret() {
    let cookie = |world: &World| world.version("app", "").affinity.as_ref()?.set_cookie(0, false);
    let mut world = World::new();
    world.load(&app(&format!("{TWO}affinity = {{ cookie = \"c\" }}")));
    let first = cookie(&world);
    assert!(first.is_some());
    world.load(&app("backends = [\"127.0.0.1:1\"]\naffinity = { cookie = \"c\" }"));
    assert_eq!(cookie(&world), first);
    let secret = "affinity = { cookie = \"c\", secret = \"another, thirty-two bytes of it!\" }";
    world.load(&app(&format!("{TWO}{secret}")));
    assert_ne!(cookie(&world), first);
}

#[test]
fn a_change_of_active_moves_no_traffic_by_itself() {
    let shop = |active: &str| {
        app(&format!(
            "active = \"{active}\"\n[pools.app.versions.blue]\nbackends = [\"127.0.0.1:1\"]\n\
             [pools.app.versions.green]\nbackends = [\"127.0.0.1:2\"]"
        ))
    };
    let mut world = World::new();
    world.load(&shop("blue"));
    assert_eq!(world.serving("app"), "blue");
    let green = world.version("app", "green");
    world.load(&shop("green"));
    assert_eq!(world.serving("app"), "blue");
    assert!(Arc::ptr_eq(&world.version("app", "green"), &green));
}

#[test]
fn upstream_settings_are_the_same_until_they_or_the_authorities_change() {
    let authority = || Authority::new("test", Validity::of_days(now(), 90)).unwrap().pem();
    let tls = |timeout: &str| {
        app(&format!(
            "{TWO}[pools.app.upstream]\nconnect_timeout = \"{timeout}\"\ntls = {{ ca = \"ca.pem\" }}"
        ))
    };
    let mut world = World::new();
    world.write("ca.pem", authority());
    world.load(&tls("1s"));
    let first = Arc::clone(&world.pool("app").upstream);
    assert!(first.tls.is_some());
    world.load(&tls("1s"));
    assert!(Arc::ptr_eq(&world.pool("app").upstream, &first));
    world.write("ca.pem", authority());
    world.load(&tls("1s"));
    let second = Arc::clone(&world.pool("app").upstream);
    assert!(!Arc::ptr_eq(&second, &first));
    world.load(&tls("2s"));
    assert!(!Arc::ptr_eq(&world.pool("app").upstream, &second));
}

#[test]
fn a_listener_keeps_its_counts_and_ticket_keys_and_reads_its_certificates_again() {
    let mut world = World::new();
    world.write_certificate("app");
    world.load(&https(""));
    let of = |world: &World| Arc::clone(&world.generation.snapshot.listeners[1]);
    let before = of(&world);
    world.write_certificate("app");
    world.load(&https(""));
    let after = of(&world);
    assert!(Arc::ptr_eq(&before.state, &after.state));
    let (before, after) = (before.tls.as_ref().unwrap(), after.tls.as_ref().unwrap());
    assert!(Arc::ptr_eq(&before.config.ticketer, &after.config.ticketer));
    let fingerprint =
        |tls: &crate::state::tls::ServerTls| tls.certificates.identities()[0].fingerprint.clone();
    assert_ne!(fingerprint(before), fingerprint(after));
}

#[test]
fn all_bad_files_are_told_at_once_at_their_places() {
    let mut world = World::new();
    world.write_certificate("app");
    world.write("other.pem", world.files[&PathBuf::from("/etc/tidegate/app.pem")].clone());
    world.write("other.key", "no key");
    let more = "[listeners.more]\nbind = \"127.0.0.1:9443\"\n\
                tls = { certificates = [{ cert = \"other.pem\", key = \"other.key\" }, \
                { cert = \"gone.pem\", key = \"app.key\" }] }\n[admin]\ntoken_file = \"no.token\"";
    let (source, errors) = world.compile(&https(more)).unwrap_err();
    let told: Vec<(&str, &str)> = errors
        .iter()
        .map(|error| {
            let span = error.span.unwrap();
            (error.key.as_str(), &source.text()[span.start..span.end])
        })
        .collect();
    let expected = [
        ("listeners.more.tls.certificates[0].key", "\"other.key\""),
        ("listeners.more.tls.certificates[1].cert", "\"gone.pem\""),
        ("admin.token_file", "\"no.token\""),
    ];
    assert_eq!(told, expected);
    assert!(errors[1].message.contains("there is no such file"), "{}", errors[1].message);
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let mut world = World::new();
    let pair =
        self_signed(&["app.test"], Validity::of_days(now() - Duration::from_secs(864_000), 1));
    let pair = pair.unwrap();
    world.write("app.pem", pair.cert);
    world.write("app.key", pair.key);
    let warnings = world.compile(&https("")).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.contains("expired 9 days ago"), "{}", warnings[0].message);
}

#[test]
fn the_limit_of_connections_comes_from_that_of_open_files() {
    let mut world = World::new();
    world.load(&app(TWO));
    assert_eq!(world.generation.snapshot.max_connections, 465);
    world.load(&format!("{}\n[server]\nmax_connections = 7", app(TWO)));
    assert_eq!(world.generation.snapshot.max_connections, 7);
}

#[test]
fn workers_and_addresses_take_from_the_files_for_connections() {
    let mut world = World::new();
    world.workers = 16;
    let on = |addresses: u16| {
        let addresses: Vec<String> =
            (1..=addresses).map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        app(TWO).replace("\"127.0.0.1:8080\"", &format!("[{}]", addresses.join(", ")))
    };
    let compiled = world.compile(&on(2)).unwrap();
    assert!(compiled.warnings.is_empty(), "{:?}", compiled.warnings);
    assert_eq!(compiled.effects.connections, 800);

    let compiled = world.compile(&on(12)).unwrap();
    assert_eq!(compiled.effects.connections, 480);
    let warning = &compiled.warnings[0];
    assert!(warning.message.contains("480 are left for connections"), "{}", warning.message);
    assert!(warning.help.as_ref().unwrap().contains("raise the limit"), "{:?}", warning.help);

    let (_, errors) = world.compile(&on(30)).unwrap_err();
    assert!(errors[0].message.contains("0 are left for connections"), "{}", errors[0].message);
    assert!(errors[0].help.as_ref().unwrap().contains("raise the limit"), "{:?}", errors[0].help);
}

#[test]
fn routes_lead_to_the_pools_of_their_own_snapshot() {
    let mut world = World::new();
    world.load(&app(TWO));
    let snapshot = &world.generation.snapshot;
    let route = snapshot.routes.lookup(0, "any.test", "/x").unwrap();
    match &route.target {
        crate::state::Target::Pool(pool) => assert!(Arc::ptr_eq(pool, world.pool("app"))),
        crate::state::Target::Redirect(_) => panic!("a pool is wanted"),
    }
    assert_eq!(&*route.name, "routes[0]");
    assert_eq!(snapshot.listener_at(SocketId(8080)).unwrap().port, 8080);
}
