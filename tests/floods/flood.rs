//! How a flood is run and measured.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch::{Sender, channel};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backend;
use crate::good::{Comes, Good, Outcome};
use crate::program::Program;
use crate::support::{eventually, every, proxy, tls};

/// How long a flood lasts at its full strength.
const LENGTH: Duration = Duration::from_millis(2500);
/// The same of those of which there are many.
const SHORT_LENGTH: Duration = Duration::from_millis(1500);
/// A flood has come to its full strength when the proxy's memory grows no more for so long.
const CALM: Duration = Duration::from_millis(500);
/// What counts as growth.
const STEP_BYTES: u64 = 1024 * 1024;

const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// One at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// A flood, and what it meets.
pub struct Flood {
    name: &'static str,
    server: String,
    limits: String,
    length: Duration,
    h2c: bool,
    open_files: u32,
    good_over_tls: bool,
    good_comes: Comes,
    good_takes_503: bool,
    good_from: IpAddr,
    memory_each: u64,
}

/// What a flood may be sent at.
#[derive(Clone)]
pub struct Target {
    pub http: SocketAddr,
    pub https: SocketAddr,
    over: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Target {
    /// Whether the flood should go on.
    pub fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Counts one of what the flood is made of.
    pub fn count(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Says something, and reads past what is answered, until there is no more of either.
pub async fn while_heard(from: &mut (impl AsyncRead + Unpin), saying: impl Future<Output = ()>) {
    let hearing = async {
        let mut waste = [0; 4096];
        while from.read(&mut waste).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        () = saying => {}
        () = hearing => {}
    }
}

impl Flood {
    pub fn new(name: &'static str) -> Flood {
        Flood {
            name,
            server: String::new(),
            limits: String::new(),
            length: LENGTH,
            h2c: false,
            open_files: 10_000,
            good_over_tls: false,
            good_comes: Comes::Both,
            good_takes_503: false,
            good_from: Ipv4Addr::LOCALHOST.into(),
            memory_each: u64::MAX,
        }
    }

    /// Keys of `[server]`.
    pub fn server(mut self, keys: &str) -> Flood {
        self.server = keys.to_owned();
        self
    }

    /// Keys of the plain listener's limits.
    pub fn limits(mut self, keys: &str) -> Flood {
        self.limits = keys.to_owned();
        self
    }

    /// The plain listener speaks HTTP/2 too. There are many such floods, so each is shorter.
    pub fn over_http2(mut self) -> Flood {
        self.h2c = true;
        self.length = SHORT_LENGTH;
        self
    }

    pub fn open_files(mut self, limit: u32) -> Flood {
        self.open_files = limit;
        self
    }

    /// The well-behaved client comes over TLS.
    pub fn good_over_tls(mut self) -> Flood {
        self.good_over_tls = true;
        self
    }

    /// The well-behaved client opens a connection for each of its requests.
    pub fn good_comes_anew(mut self) -> Flood {
        self.good_comes = Comes::Anew;
        self
    }

    pub fn good_takes_503(mut self) -> Flood {
        self.good_takes_503 = true;
        self
    }

    pub fn good_from(mut self, address: Ipv4Addr) -> Flood {
        self.good_from = address.into();
        self
    }

    /// What config/reference.toml says that each task can make the proxy hold.
    pub fn memory_each(mut self, kib: u64) -> Flood {
        self.memory_each = kib * 1024;
        self
    }

    /// Runs it with so many of these tasks at once, each until it ends by itself or is dropped.
    /// Gives how much they have counted.
    pub async fn run<F>(self, tasks: usize, task: impl Fn(Target, usize) -> F) -> usize
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let _turn: MutexGuard<'_, ()> = TURN.lock().await;
        raise_open_files();
        let site = Site::start(&self).await;
        let good = Good {
            address: if self.good_over_tls { site.target.https } else { site.target.http },
            from: self.good_from,
            tls: self.good_over_tls.then(|| tls::client(&[b"http/1.1"])),
            comes: self.good_comes,
            takes_503: self.good_takes_503,
        };
        let kept = good.warm_up().await;
        let before = site.program.memory();

        let mut flood = JoinSet::new();
        for number in 0..tasks {
            flood.spawn(task(site.target.clone(), number));
        }
        let (grown, mut growing) = channel(before);
        let watch = tokio::spawn(watch(Arc::clone(&site.program), site.target.clone(), grown));
        let done = || site.target.done.load(Ordering::Relaxed);
        eventually("all of the flood is there", async || done() >= tasks).await;
        while matches!(timeout(CALM, growing.changed()).await, Ok(Ok(()))) {}
        let outcome = good.ask_for(self.length, &kept).await;
        site.target.over.store(true, Ordering::Relaxed);
        flood.shutdown().await;
        let highest = watch.await.unwrap();
        drop(kept);

        let done = done();
        let memory = highest.saturating_sub(before);
        self.report(&outcome, memory, done);
        let each = memory / tasks as u64;
        assert!(each <= self.memory_each, "{}: each takes {each} bytes", self.name);
        site.recovers(&good).await;
        done
    }

    fn report(&self, outcome: &Outcome, memory: u64, done: usize) {
        let (name, failures) = (self.name, &outcome.failures);
        let p95 = outcome.p95();
        let line = format!(
            "flood {name}: good {}/{} ({:.1} %), p95 {:.1} ms, memory +{:.1} MiB, {done} of it\n",
            outcome.answered.len(),
            outcome.asked,
            outcome.percent(),
            p95.as_secs_f64() * 1000.0,
            memory as f64 / 1024.0 / 1024.0,
        );
        // Past the capture of the test harness: figures are to be seen.
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        assert!(outcome.percent() >= 97.0, "{name}: too few were answered: {failures:?}");
        assert!(p95 < Duration::from_secs(1), "{name}: too slow");
        assert!(memory < MEMORY_BYTES, "{name}: too much memory");
    }
}

struct Site {
    program: Arc<Program>,
    target: Target,
    _certificates: TempDir,
}

impl Site {
    async fn start(flood: &Flood) -> Site {
        let certificates = TempDir::new().unwrap();
        proxy::write_pair(certificates.path(), "", &tls::issue(&["localhost"]));
        let dir = certificates.path().display();
        let config = format!(
            "h2c = {}\n[listeners.http.limits]\n{}\n[listeners.https]\nbind = \"127.0.0.1:0\"\n\
             tls = {{ certificates = [{{ cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\" }}] }}\n{}",
            flood.h2c,
            flood.limits,
            proxy::pool_at(&[backend::start().await]),
        );
        let mut command = Command::new("sh");
        let limit = format!("ulimit -n {}; exec \"$@\"", flood.open_files);
        command.args(["-c", &limit, "sh", env!("CARGO_BIN_EXE_tidegate"), "run"]);
        let program = Program::start_by(command, &flood.server, &config).await;
        let target = Target {
            http: program.address("http").await,
            https: program.address("https").await,
            over: Arc::default(),
            done: Arc::default(),
        };
        Site { program: Arc::new(program), target, _certificates: certificates }
    }

    /// Nothing of the flood is left, and whoever comes anew is served, without a restart.
    async fn recovers(&self, good: &Good) {
        for gauge in ["tidegate_listener_connections", "tidegate_backend_requests_in_flight"] {
            eventually(gauge, async || metric(&self.program, gauge).await == Some(0.0)).await;
        }
        let outcome = good.ask_for(Duration::from_millis(200), &good.warm_up().await).await;
        assert_eq!(outcome.percent(), 100.0, "afterwards: {:?}", outcome.failures);
    }
}

/// Looks at the memory, of which it tells when it has grown, and asks as an operator would, as long as
/// the flood goes on.
async fn watch(program: Arc<Program>, target: Target, grown: Sender<u64>) -> u64 {
    let mut highest = 0;
    let (second, mut looks) = (Duration::from_secs(1), every(Duration::from_millis(100)));
    while target.goes_on() {
        looks.tick().await;
        highest = highest.max(program.memory());
        grown.send_if_modified(|told| {
            let has_grown = highest >= *told + STEP_BYTES;
            *told = if has_grown { highest } else { *told };
            has_grown
        });
        for path in ["/livez", "/metrics"] {
            let answer = timeout(second, program.admin(path)).await;
            let answer = answer.unwrap_or_else(|_| panic!("{path} takes longer than {second:?}"));
            assert_eq!(answer.map(|answer| answer.status()), Some(200), "{path} in the flood");
        }
    }
    highest
}

async fn metric(program: &Program, name: &str) -> Option<f64> {
    let text = program.admin("/metrics").await?.text();
    let ours =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    Some(
        text.lines()
            .filter(ours)
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum(),
    )
}

/// Both ends of most connections are in this process.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
