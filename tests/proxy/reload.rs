//! What a reload changes, and all that it leaves alone.

mod listeners;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use tidegate::certs::generate::{Authority, Validity};
use tidegate::control::by_hand::Action;
use tidegate::state::tls::{ClientTls, Trust, authorities};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::{BASE, HTTPS, Proxy, app, pool_of};
use crate::support::wire::Wire;
use crate::support::{eventually, in_time};

/// A backend that agrees to every upgrade and echoes, and answers the rest with its name.
async fn echo(name: &'static str) -> Backend {
    Backend::start(move |request| {
        if request.field("upgrade").is_none() {
            return Reply::ok(name);
        }
        Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        )
        .then(Step::Echo)
    })
    .await
}

/// A tunnel to some backend.
async fn tunnel(proxy: &Proxy) -> Wire {
    let mut client = proxy.connect().await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    client
}

/// As [`pool_of`], and the pool is another one.
fn other_pool_of(backend: &Backend) -> String {
    pool_of(&[backend]).replace("\"app\"", "\"other\"").replace("pools.app", "pools.other")
}

async fn echoes(tunnel: &mut Wire, text: &str) {
    tunnel.send(text).await;
    assert_eq!(tunnel.bytes(text.len()).await, text.as_bytes());
}

#[tokio::test]
async fn the_next_request_sees_the_new_configuration() {
    let (old, new) = (Backend::named("old").await, Backend::named("new").await);
    let proxy = Proxy::before(&[&old]).await;
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/").await.text(), "old");
    proxy.reload(&pool_of(&[&new])).await.unwrap();
    assert_eq!(client.get("/").await.text(), "new");
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_every_error_is_told() {
    let (old, new) = (Backend::named("old").await, Backend::named("new").await);
    let proxy = Proxy::before(&[&old]).await;
    let bad = pool_of(&[&new]) + "[pools.app.retries]\natempts = 3\n[log]\nlevel = \"loud\"\n";
    let error = proxy.reload(&bad).await.unwrap_err().to_string();
    assert!(error.contains("unknown key `atempts`"), "{error}");
    assert!(error.contains("in `log.level`"), "{error}");
    assert_eq!(proxy.connect().await.get("/").await.text(), "old");
}

#[tokio::test]
async fn metrics_tell_how_the_last_reload_went() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let last = || proxy.metric("tidegate_config_last_reload_success", &[]);
    assert_eq!(last(), 1.0);
    proxy.reload("nonsense").await.unwrap_err();
    assert_eq!(last(), 0.0);
    assert_eq!(proxy.metric("tidegate_config_reloads_total", &["result=\"failure\""]), 1.0);
    proxy.reload(&pool_of(&[&backend])).await.unwrap();
    assert_eq!(last(), 1.0);
}

#[tokio::test]
async fn a_file_that_is_gone_changes_nothing() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    std::fs::remove_file(proxy.config_path()).unwrap();
    let error = proxy.running().handle().reload().await.unwrap_err().to_string();
    assert!(error.contains("tidegate.toml"), "{error}");
    assert_eq!(proxy.connect().await.get("/").await.text(), "one");
}

#[tokio::test]
async fn health_outlives_a_reload() {
    let (well, ill) = (Backend::named("well").await, Backend::named("ill").await);
    let proxy = Proxy::before(&[&well, &ill]).await;
    ill.kill();
    eventually("ill", async || proxy.state_of(&ill) == "unhealthy").await;
    // From here on no probe says anything for an hour.
    let check = "[pools.app.health]\ntype = \"tcp\"\ninterval = \"1h\"\n";
    proxy.reload(&app(&[&ill, &well], "policy = \"round_robin\"", check)).await.unwrap();
    assert_eq!(proxy.state_of(&ill), "unhealthy");
    let mut client = proxy.connect().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "well");
    }
    assert_eq!(proxy.metric("tidegate_backend_retries_total", &[]), 0.0);
}

#[tokio::test]
async fn counters_outlive_a_reload() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let proxy = Proxy::before(&[&one]).await;
    let mut client = proxy.connect().await;
    for _ in 0..7 {
        client.get("/").await;
    }
    proxy.reload(&pool_of(&[&two, &one])).await.unwrap();
    let label = format!("backend=\"{}\"", one.address);
    assert_eq!(proxy.metric("tidegate_backend_requests_total", &[&label]), 7.0);
}

#[tokio::test]
async fn totals_of_the_pool_stay_when_a_backend_leaves() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let proxy = Proxy::before(&[&one]).await;
    let mut client = proxy.connect().await;
    for _ in 0..7 {
        client.get("/").await;
    }
    proxy.reload(&pool_of(&[&two])).await.unwrap();
    let label = format!("backend=\"{}\"", one.address);
    assert!(!proxy.metrics().contains(&label));
    let total = || proxy.metric("tidegate_pool_requests_total", &["pool=\"app\""]);
    eventually("seven", async || total() == 7.0).await;
}

#[tokio::test]
async fn idle_connections_to_a_backend_that_stays_are_kept() {
    let backend = Backend::named("one").await;
    let check = "[pools.app.health]\ntype = \"tcp\"\ninterval = \"1h\"\n";
    let config = app(&[&backend], "", check);
    let proxy = Proxy::start(&config).await;
    let mut client = proxy.connect().await;
    client.get("/").await;
    let before = backend.connections();
    let other = Backend::named("other").await;
    let more = format!(
        "{config}[[routes]]\npath = \"/x\"\npool = \"b\"\n[pools.b]\nbackends = [\"{}\"]\n",
        other.address
    );
    proxy.reload(&more).await.unwrap();
    client.get("/").await;
    assert_eq!(backend.connections(), before);
}

#[tokio::test]
async fn a_request_in_flight_ends_where_it_began() {
    let old = Backend::start(|_| Reply::ok("old").after(Step::Hold)).await;
    let new = Backend::named("new").await;
    let proxy = Proxy::before(&[&old]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || old.requests().len() == 1).await;
    proxy.reload(&pool_of(&[&new])).await.unwrap();
    old.release();
    assert_eq!(client.response().await.unwrap().text(), "old");
    assert_eq!(client.get("/").await.text(), "new");
}

#[tokio::test]
async fn a_request_that_began_before_keeps_no_backend_that_is_gone() {
    let asked = Arc::new(AtomicUsize::new(0));
    let backend = || {
        let asked = Arc::clone(&asked);
        Backend::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Reply(vec![Step::Hold, Step::Reset]),
            _ => Reply::ok("the other"),
        })
    };
    let (one, two, new) = (backend().await, backend().await, Backend::named("new").await);
    let proxy = Proxy::before(&[&one, &two]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || asked.load(Ordering::Relaxed) == 1).await;
    let gone: Vec<_> = {
        let snapshot = proxy.running().shared().snapshot.load();
        let split = snapshot.pools["app"].state.split.load();
        let members = split.shares.iter().flat_map(|share| &share.version.members);
        members.map(|member| Arc::downgrade(&member.backend)).collect()
    };
    proxy.reload(&other_pool_of(&new)).await.unwrap();
    assert_eq!(proxy.connect().await.get("/").await.text(), "new");
    one.release();
    two.release();
    // Tried again in the pool that it was picked for.
    assert_eq!(client.response().await.unwrap().text(), "the other");
    eventually("let go", async || gone.iter().all(|backend| backend.strong_count() == 0)).await;
}

#[tokio::test]
async fn a_tunnel_outlives_the_backend_the_pool_and_the_route_that_it_came_by() {
    let (old, new) = (echo("old").await, Backend::named("new").await);
    let proxy = Proxy::before(&[&old]).await;
    let mut tunnel = tunnel(&proxy).await;
    echoes(&mut tunnel, "before").await;
    proxy.reload(&other_pool_of(&new)).await.unwrap();
    assert_eq!(proxy.connect().await.get("/").await.text(), "new");
    echoes(&mut tunnel, "after").await;
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_by_name() {
    let (old, new) = (Backend::named("old").await, Backend::named("new").await);
    let proxy = Proxy::before(&[&old]).await;
    let base = BASE
        .replace("workers = 2", "workers = 3\nstate_dir = \"elsewhere\"")
        .replace("bind = \"127.0.0.1:0\"\n\n[listeners", "bind = \"127.0.0.1:1\"\n\n[listeners");
    std::fs::write(proxy.config_path(), base + &pool_of(&[&new])).unwrap();
    let error = proxy.running().handle().reload().await.unwrap_err().to_string();
    for key in ["server.workers", "server.state_dir", "admin.bind"] {
        assert!(error.contains(&format!("`{key}` cannot change while tidegate runs")), "{error}");
    }
    assert_eq!(proxy.connect().await.get("/").await.text(), "old");
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_neither_decisions_nor_reloads() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let state = tempfile::TempDir::new().unwrap();
    let server = format!("state_dir = \"{}\"", state.path().display());
    let proxy = Proxy::start_with(&server, &pool_of(&[&one, &two])).await;
    // Whoever opens it to write waits for a reader.
    let pipe = state.path().join("by_hand.json.new");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let handle = proxy.running().handle();
    let address = one.address.to_string();
    let drained = handle.by_hand("app", &address, Action::Drain { close_tunnels: false }).await;
    let drained = drained.unwrap();
    assert_eq!(drained.state, "draining");
    let notes = drained.notes.join("\n");
    assert!(notes.contains("it is not on the disk after 2 s"), "{notes}");
    let config = std::fs::read_to_string(proxy.config_path()).unwrap();
    let other = config.replace(&format!("\"{address}\", "), "");
    std::fs::write(proxy.config_path(), other).unwrap();
    in_time("a reload", handle.reload()).await.unwrap();
    // Whoever still waits is let go, and takes away what is no file to sync.
    let reader = std::fs::File::open(&pipe).unwrap();
    std::io::read_to_string(reader).unwrap();
}

#[tokio::test]
async fn a_decision_that_could_not_be_kept_is_kept_as_soon_as_it_can_be() {
    let backend = Backend::named("one").await;
    let state = tempfile::TempDir::new().unwrap();
    let server = format!("state_dir = \"{}\"", state.path().display());
    let proxy = Proxy::start_with(&server, &pool_of(&[&backend])).await;
    // In the way of what is written first.
    let draft = state.path().join("by_hand.json.new");
    std::fs::create_dir(&draft).unwrap();
    let address = backend.address.to_string();
    let handle = proxy.running().handle();
    let drained = handle.by_hand("app", &address, Action::Drain { close_tunnels: false });
    let notes = drained.await.unwrap().notes.join("\n");
    assert!(notes.contains("a restart would not know of it yet: cannot write"), "{notes}");
    std::fs::remove_dir(&draft).unwrap();
    let kept = state.path().join("by_hand.json");
    eventually("kept", async || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains(&address))
    })
    .await;
}

#[tokio::test]
async fn certificates_are_read_again() {
    let backend = Backend::named("one").await;
    let config = format!("{HTTPS}{}", pool_of(&[&backend]));
    let proxy = Proxy::start(&config).await;
    let old = proxy.client_tls(&[b"http/1.1"]);
    let mut before = Wire::connect_tls(proxy.address("https"), old, "localhost").await.unwrap();

    let now = SystemTime::now();
    let authority = Authority::new("another", Validity::of_days(now, 1)).unwrap();
    let pair = authority.issue(&["localhost"], Validity::of_days(now, 1)).unwrap();
    std::fs::write(proxy.dir().join("cert.pem"), pair.cert).unwrap();
    std::fs::write(proxy.dir().join("key.pem"), pair.key).unwrap();
    proxy.reload(&config).await.unwrap();

    let trust = Trust::Authorities(authorities(authority.pem().as_bytes()).unwrap());
    let new = ClientTls::new(None, trust, &[b"http/1.1"]).unwrap().config;
    let mut after = Wire::connect_tls(proxy.address("https"), new, "localhost").await.unwrap();
    let host = [("Host", "localhost")];
    assert_eq!(after.ask("GET", "/", &host, "").await.text(), "one");
    assert_eq!(before.ask("GET", "/", &host, "").await.text(), "one");
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_its_key_refuses_the_reload() {
    let backend = Backend::named("one").await;
    let config = format!("{HTTPS}{}", pool_of(&[&backend]));
    let proxy = Proxy::start(&config).await;
    let now = SystemTime::now();
    let authority = Authority::new("another", Validity::of_days(now, 1)).unwrap();
    let pair = authority.issue(&["localhost"], Validity::of_days(now, 1)).unwrap();
    std::fs::write(proxy.dir().join("cert.pem"), pair.cert).unwrap();
    let error = proxy.reload(&config).await.unwrap_err().to_string();
    assert!(error.contains("key.pem"), "{error}");
    let tls = proxy.client_tls(&[b"http/1.1"]);
    Wire::connect_tls(proxy.address("https"), tls, "localhost").await.unwrap();
}

/// Clients at full speed and open tunnels, through as many reloads, of which every second one
/// changes the backends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_disturb_nobody() {
    let backends = [echo("a").await, echo("b").await, echo("c").await];
    let [a, b, c] = &backends;
    let configs = [pool_of(&[a, b, c]), pool_of(&[a, b, c]), pool_of(&[c, a]), pool_of(&[c, a])];
    let proxy = Proxy::start(&configs[0]).await;
    proxy.all_serve(&[a, b, c]).await;

    let mut tunnels = Vec::new();
    for _ in 0..30 {
        tunnels.push(tunnel(&proxy).await);
    }
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let (address, stop) = (proxy.http(), Arc::clone(&stop));
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                let mut client = Wire::connect(address).await;
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/").await.status(), 200);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 0..100 {
        proxy.reload(&configs[round % 4]).await.unwrap();
        let goal = served.load(Ordering::SeqCst) + 64;
        eventually("more were served", async || served.load(Ordering::SeqCst) >= goal).await;
        let tunnel = &mut tunnels[round % 30];
        echoes(tunnel, "still here").await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("every request was answered, on one connection");
    }
    for tunnel in &mut tunnels {
        echoes(tunnel, "to the end").await;
    }
}

#[tokio::test]
async fn the_access_log_follows_the_configuration() {
    let one = Backend::named("one").await;
    let proxy = Proxy::before(&[&one]).await;
    let path = proxy.dir().join("access.log");
    let logging = |name: &str| {
        format!("[log]\naccess = \"json\"\naccess_path = \"{name}\"\n{}", pool_of(&[&one]))
    };
    proxy.connect().await.get("/before").await;
    let refused = proxy.reload(&logging("gone/access.log")).await.unwrap_err().to_string();
    assert!(refused.contains("cannot open the access log"), "{refused}");
    let taken = proxy.reload(&logging("access.log")).await.unwrap();
    assert_eq!(taken.changes, ["[log] changed"]);
    proxy.connect().await.get("/after").await;
    let text = || std::fs::read_to_string(&path).unwrap();
    eventually("it is logged", async || text().contains("/after")).await;
    proxy.reload(&pool_of(&[&one])).await.unwrap();
    proxy.connect().await.get("/at-last").await;
    assert!(proxy.running().access_log().flush(crate::support::PATIENCE));
    assert_eq!(text().lines().count(), 1, "{}", text());
}
