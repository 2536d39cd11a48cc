use std::net::TcpListener;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::balance::Condition;
use crate::control::Readiness;
use crate::state::{Backend, Snapshot};

/// A control plane with one worker, whose mail the test reads.
struct Plane {
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
    handle: Handle,
    mail: UnboundedReceiver<Mail>,
}

const FAST: &str = "\n[pools.app.health]\ntype = \"tcp\"\ninterval = \"100ms\"\nfall = 1\n";

fn config(listeners: &[(&str, u16)], backends: &[u16]) -> String {
    let mut text = String::new();
    for (name, port) in listeners {
        text += &format!("[listeners.{name}]\nbind = \"127.0.0.1:{port}\"\n");
    }
    let backends: Vec<String> =
        backends.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    text += "[[routes]]\npool = \"app\"\n[pools.app]\n";
    text + &format!("backends = [{}]{FAST}", backends.join(", "))
}

impl Plane {
    fn start(text: &str) -> Plane {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidegate.toml");
        std::fs::write(&path, text).unwrap();
        let (shared, mut mailboxes) = Shared::new(1, "test".into(), Snapshot::empty(), u64::MAX);
        let parsed = read_config(&path).unwrap();
        let setting = Setting {
            path,
            workers: 1,
            affinity_key: Key::new(b"key"),
            open_files: 1_024,
            log: None,
            access_log: AccessLog::new().unwrap(),
            store: Store::default(),
        };
        let mut governor = Governor::new(&shared, setting, mailboxes.notices);
        governor.begin(parsed).unwrap();
        let handle = governor.handle();
        tokio::spawn(governor.run());
        Plane { directory, shared, handle, mail: mailboxes.workers.remove(0) }
    }

    async fn reload(&self, text: &str) -> Result<ReloadReport, String> {
        std::fs::write(self.directory.path().join("tidegate.toml"), text).unwrap();
        self.handle.reload().await.map_err(|error| error.to_string())
    }

    fn backend(&self, index: usize) -> Arc<Backend> {
        let split = self.shared.snapshot.load().pools["app"].state.split.load_full();
        Arc::clone(&split.shares[0].version.members[index].backend)
    }

    /// The next mail that `wanted` recognises; others are passed over.
    async fn next_mail<T>(&mut self, wanted: impl Fn(Mail) -> Option<T>) -> T {
        let found = async {
            loop {
                let mail = self.mail.recv().await.unwrap();
                if let Some(found) = wanted(mail) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found).await.unwrap()
    }

    fn mail_now(&mut self) -> Vec<String> {
        let mut mail = Vec::new();
        while let Ok(next) = self.mail.try_recv() {
            let text = format!("{next:?}");
            mail.push(text.split(['(', ' ']).next().unwrap_or_default().to_owned());
        }
        mail
    }
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
}

fn listening() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_listener_more_leaves_fewer_files_for_connections() {
    let plane = Plane::start(&config(&[("http", 0)], &[1]));
    let before = plane.shared.files.allowed();
    plane.reload(&config(&[("http", 0), ("more", 0)], &[1])).await.unwrap();
    assert!(plane.shared.files.allowed() < before);
    plane.reload(&config(&[("http", 0)], &[1])).await.unwrap();
    assert_eq!(plane.shared.files.allowed(), before);
}

#[tokio::test]
async fn ready_once_the_pool_has_a_verdict() {
    let (_server, port) = listening();
    let plane = Plane::start(&config(&[("http", 0)], &[port]));
    let waits = Readiness::NotReady("pool app has had no verdict yet".to_owned());
    assert_eq!(plane.handle.readiness(), waits);
    until(|| plane.handle.readiness() == Readiness::Ready).await;
    let status = plane.handle.status();
    let app = &status.pools["app"].versions[""].backends[&*format!("127.0.0.1:{port}")];
    assert_eq!((app.state, app.reason.as_str()), ("healthy", "passed its check"));
    plane.shared.lifecycle.set_stopping();
    assert_eq!(plane.handle.readiness(), Readiness::NotReady("stopping".to_owned()));
}

#[tokio::test]
async fn a_reload_tells_workers_and_caller_what_changed() {
    let mut plane = Plane::start(&config(&[("http", 0)], &[1]));
    let socket = plane.next_mail(|mail| match mail {
        Mail::Listen(id, ..) => Some(id),
        _ => None,
    });
    let socket = socket.await;
    let report = plane.reload(&config(&[("other", 0)], &[2])).await.unwrap();
    let told = [
        "listener other added",
        "listener http removed",
        "pool app: added 127.0.0.1:2",
        "pool app: removed 127.0.0.1:1",
    ];
    assert_eq!((report.generation, report.changes), (2, told.map(str::to_owned).to_vec()));
    let stopped = plane.next_mail(|mail| match mail {
        Mail::StopListening(id) => Some(id),
        _ => None,
    });
    assert_eq!(stopped.await, socket);
    assert_eq!(plane.shared.reloads.succeeded.get(), 2);
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let mut plane = Plane::start(&config(&[("http", 0)], &[1]));
    let before = plane.shared.snapshot.load_full();
    plane.mail_now();
    let error = plane.reload("[listeners.http]\nbund = 1").await.unwrap_err();
    assert!(error.contains("unknown key `bund`"), "{error}");
    let missing = plane.handle.reload();
    std::fs::remove_file(plane.directory.path().join("tidegate.toml")).unwrap();
    let missing = missing.await.unwrap_err().to_string();
    assert!(missing.ends_with("there is no such file"), "{missing}");
    assert!(Arc::ptr_eq(&plane.shared.snapshot.load(), &before));
    assert!(!plane.mail_now().contains(&"SnapshotChanged".to_owned()));
    assert_eq!(plane.shared.reloads.failed.get(), 2);
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_at_its_place_and_changes_nothing() {
    let (_other, port) = listening();
    let mut plane = Plane::start(&config(&[("http", 0)], &[1]));
    plane.mail_now();
    let text = config(&[("free", 0), ("taken", port)], &[1]);
    let error = plane.reload(&text).await.unwrap_err();
    assert!(error.contains(&format!("127.0.0.1:{port} is already in use")), "{error}");
    assert!(error.contains("tidegate.toml:4:8"), "{error}");
    assert!(!plane.mail_now().contains(&"Listen".to_owned()));
    assert_eq!(plane.handle.status().listeners.len(), 1);
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_by_name() {
    let plane = Plane::start(&config(&[("http", 0)], &[1]));
    let text = format!("{}\n[server]\nworkers = 9", config(&[("http", 0)], &[1]));
    let error = plane.reload(&text).await.unwrap_err();
    assert!(error.contains("`server.workers` cannot change while tidegate runs"), "{error}");
    assert_eq!(plane.handle.status().generation, 1);
}

#[tokio::test]
async fn a_backend_that_dies_leaves_what_requests_pick_from() {
    let (first, first_port) = listening();
    let (_second, second_port) = listening();
    let mut plane = Plane::start(&config(&[("http", 0)], &[first_port, second_port]));
    let (dying, well) = (plane.backend(0), plane.backend(1));
    until(|| [&dying, &well].iter().all(|b| b.condition() == Condition::Healthy)).await;
    drop(first);
    let down = plane.next_mail(|mail| match mail {
        Mail::BackendDown(id) => Some(id),
        _ => None,
    });
    assert_eq!(down.await, dying.id);
    let split = plane.shared.snapshot.load().pools["app"].state.split.load_full();
    until(|| split.shares[0].version.usable().len() == 1).await;
    let told = dying.history.latest().unwrap().transition.reason.to_string();
    assert_eq!(told, "failed its check: connection refused");
    assert!(dying.probes.failed.get() >= 1);
}

#[tokio::test]
async fn a_suspect_is_probed_at_once_and_cleared_by_a_pass() {
    let (_server, port) = listening();
    let slow = config(&[("http", 0)], &[port]).replace("100ms", "1h");
    let plane = Plane::start(&slow);
    let backend = plane.backend(0);
    until(|| backend.probes.passed.get() == 1).await;
    backend.suspected.store(true, std::sync::atomic::Ordering::Relaxed);
    plane.shared.notify(Notice::Suspect(Arc::clone(&backend)));
    until(|| !backend.suspected.load(std::sync::atomic::Ordering::Relaxed)).await;
    assert_eq!(backend.condition(), Condition::Healthy);
    assert_eq!(backend.probes.passed.get(), 2);
}

#[tokio::test]
async fn a_changed_check_is_made_at_once_without_a_change_of_condition() {
    let (_server, port) = listening();
    let slow = config(&[("http", 0)], &[port]).replace("100ms", "1h");
    let plane = Plane::start(&slow);
    let backend = plane.backend(0);
    until(|| backend.condition() == Condition::Healthy).await;
    plane.reload(&slow.replace("1h", "2h")).await.unwrap();
    assert_eq!(backend.condition(), Condition::Healthy);
    until(|| backend.probes.passed.get() == 2).await;
}

#[tokio::test]
async fn a_name_is_resolved_before_it_is_probed() {
    let (_server, port) = listening();
    let text = config(&[("http", 0)], &[port]).replace(
        &format!("backends = [\"127.0.0.1:{port}\""),
        &format!("backends = [\"localhost:{port}\""),
    );
    let plane = Plane::start(&text);
    let backend = plane.backend(0);
    until(|| backend.condition() == Condition::Healthy).await;
    assert_eq!(backend.resolved.load().as_deref().map(|at| at.port()), Some(port));
}

#[test]
fn an_error_of_the_text_does_not_hide_those_of_the_files() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("app.toml");
    let text = "[listeners.https]\nbind = \"127.0.0.1:0\"\ncolour = 1\n\
                tls = { certificates = [{ cert = \"gone.pem\", key = \"gone.key\" }] }\n\
                [[routes]]\npool = \"app\"\n[pools.app]\nbackends = [\"127.0.0.1:1\"]\n";
    std::fs::write(&path, text).unwrap();
    let Err(ReloadError::Invalid(errors)) = read_config(&path) else { panic!("it is wrong") };
    let keys: Vec<&str> = errors.errors.iter().map(|error| error.key.as_str()).collect();
    let certificate = "listeners.https.tls.certificates[0]";
    let (cert, key) = (format!("{certificate}.cert"), format!("{certificate}.key"));
    assert_eq!(keys, ["listeners.https", cert.as_str(), key.as_str()]);
}
