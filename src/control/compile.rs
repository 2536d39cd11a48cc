//! From a checked configuration and the generation in force to the next snapshot: the only place
//! that builds one.
//!
//! It happens in two steps, so that nothing is touched until everything is known to be good.
//! [`compile`] reads the files that the configuration names and makes all parts, but changes
//! nothing that is in use and opens no socket: `check` does it too. [`Compiled::into_generation`],
//! once the sockets are bound, puts the snapshot together and hands out the [`Effects`] that belong
//! to it.
//!
//! What survives is found by identity: pools and listeners by name, backends by pool and address.
//! What did not change stays the same `Arc`, because others compare by pointer: connections made
//! under old settings, the turn of a round robin, cookies.

mod convert;
mod health;
mod listeners;
mod notify;
mod pools;
mod questions;
mod routes;
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::files::{self, ReadFile};
use super::notify::Webhook;
use super::probe::Check;
use super::sockets::SocketKey;
use super::swaps::Questions;
use crate::balance::affinity::Key;
use crate::config::model::{self, Config};
use crate::config::{Diagnostic, Located};
use crate::health::Settings;
use crate::state::files::for_connections;
use crate::state::route::RouteTable;
use crate::state::tls::ServerTls;
use crate::state::trust::TrustedProxies;
use crate::state::{Backend, Listener, Pool, PoolState, Route, Snapshot, SocketId, Split, Version};
pub use convert::log_settings;
use listeners::CompiledListener;
use upstream::Roots;

/// Files of a request: one towards the client and one towards the backend.
const PER_REQUEST: usize = 2;

/// What compiling needs to know beside the configuration.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Number of workers: how many cells counters have.
    pub workers: usize,
    /// For affinity cookies of pools without a secret of their own.
    pub affinity_key: &'a Key,
    /// Files that the process may have open.
    pub open_files: u64,
    /// Time since the process started.
    pub uptime: Duration,
    /// For the validity of certificates.
    pub now: SystemTime,
    /// Reads certificates, keys, authorities and tokens.
    pub read: ReadFile<'a>,
}

/// A configuration in force: its snapshot, and what the next one is compared with.
#[derive(Debug)]
pub struct Generation {
    /// What requests see.
    pub snapshot: Arc<Snapshot>,
    /// What it was made from.
    pub config: Arc<Config>,
    /// How the backends of each pool are probed; the same `Arc` as long as that stays the same.
    pub checks: BTreeMap<Arc<str>, Arc<Check>>,
    /// What is asked of the new versions of each pool before a swap.
    pub questions: BTreeMap<Arc<str>, Arc<Questions>>,
    /// Who may use the admin API.
    pub admin: Arc<AdminAccess>,
    /// Who is told of swaps.
    pub webhook: Option<Arc<Webhook>>,
    roots: Roots,
}

impl Generation {
    /// Nothing in force yet.
    pub fn none() -> Self {
        Generation {
            snapshot: Arc::new(Snapshot::empty()),
            config: Arc::default(),
            checks: BTreeMap::new(),
            questions: BTreeMap::new(),
            admin: Arc::default(),
            webhook: None,
            roots: Roots::default(),
        }
    }

    /// Fingerprints of the certificates of the listener of this name.
    pub(super) fn fingerprints(&self, listener: &str) -> Vec<&str> {
        let listener = self.snapshot.listeners.iter().find(|it| *it.name == *listener);
        fingerprints_of(listener.and_then(|listener| listener.tls.as_ref()))
    }
}

/// Fingerprints of the certificates that a listener shows.
fn fingerprints_of(tls: Option<&ServerTls>) -> Vec<&str> {
    let identities = tls.into_iter().flat_map(|tls| tls.certificates.identities());
    identities.map(|identity| identity.fingerprint.as_str()).collect()
}

/// Who may use the admin API.
#[derive(Default, PartialEq, Eq)]
pub struct AdminAccess {
    /// The token that requests must carry, if one is set.
    pub token: Option<String>,
    /// Further `Host` names to answer to.
    pub hosts: Vec<String>,
}

impl std::fmt::Debug for AdminAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminAccess").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// A configuration that can come into force as soon as its sockets are bound.
#[derive(Debug)]
pub struct Compiled {
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
    config: Arc<Config>,
    listeners: Vec<CompiledListener>,
    routes: RouteTable<Arc<Route>>,
    pools: BTreeMap<Arc<str>, Arc<Pool>>,
    trusted_proxies: TrustedProxies,
    max_connections: usize,
    checks: BTreeMap<Arc<str>, Arc<Check>>,
    questions: BTreeMap<Arc<str>, Arc<Questions>>,
    admin: Arc<AdminAccess>,
    webhook: Option<Arc<Webhook>>,
    roots: Roots,
    effects: Effects,
}

/// What has to be done right after a snapshot came into force, since it concerns what is carried
/// from snapshot to snapshot.
#[derive(Debug, Default)]
pub struct Effects {
    /// Versions of pools that were there before.
    pub versions: Vec<Versions>,
    /// Backends whose check changed: they stay what they are until the new check has a verdict.
    pub reverify: Vec<(Arc<Backend>, Settings)>,
    /// How many connections there may be, of clients and to backends.
    pub connections: usize,
}

/// The versions of a pool that was there before. Which of them takes what share is not the
/// configuration's to say, and may change until the snapshot is in force.
#[derive(Debug)]
pub struct Versions {
    /// The pool.
    pub state: Arc<PoolState>,
    /// All of them.
    pub versions: Vec<Arc<Version>>,
    /// The one that the file wants.
    pub active: String,
}

impl Versions {
    /// Puts them in force with the shares that were there before; the one that the file wants takes
    /// all if none that had a share is left. Gives the split that was in force before.
    pub fn put_in_force(self) -> Arc<Split> {
        let before = self.state.split.load_full();
        self.state.set_split(before.carried(&self.versions, &self.active));
        before
    }
}

/// A bound address as a snapshot names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its sockets.
    pub id: SocketId,
    /// As text, with the real port.
    pub address: String,
    /// The TCP port; 0 on Unix sockets.
    pub port: u16,
}

/// What is wrong with the files that a configuration names which cannot be used anyway, because its
/// text has errors too: those of certificates, keys and authorities, at their places.
pub fn file_errors(mut config: Config, now: SystemTime) -> Vec<Diagnostic> {
    for tls in config.listeners.values_mut().filter_map(|listener| listener.tls.as_mut()) {
        // A file that was not named is told already.
        tls.certificates.retain(|pair| pair.cert.span.is_some() && pair.key.span.is_some());
    }
    let context = Context {
        workers: 1,
        affinity_key: &Key::new(&[]),
        open_files: u64::MAX,
        uptime: Duration::ZERO,
        now,
        read: &|path| std::fs::read(path),
    };
    let (none, mut findings, mut roots) =
        (Generation::none(), Findings::default(), Roots::default());
    config.listeners.retain(|_, listener| {
        listener.tls.as_ref().is_some_and(|tls| !tls.certificates.is_empty())
    });
    listeners::compile(&config, &none, &context, &mut findings);
    for (index, route) in config.routes.iter().enumerate() {
        routes::fallback(route, index, &BTreeMap::new(), context.read, &mut findings);
    }
    for pool in config.pools.values() {
        upstream::compile(pool, &none, &context, &mut roots, &mut findings);
    }
    findings.errors
}

/// Makes all parts of the next snapshot.
///
/// # Errors
/// Everything that is wrong with the files that the configuration names, at their places, in the
/// order of the text.
pub fn compile(
    config: &Arc<Config>,
    old: &Generation,
    context: &Context<'_>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let mut roots = Roots::default();
    let listeners = listeners::compile(config, old, context, &mut findings);
    let pools::Pools { pools, checks, questions, effects } =
        pools::compile(config, old, context, &mut roots, &mut findings);
    let routes = routes::compile(config, &pools, context.read, &mut findings);
    let admin = admin_access(&config.admin, context.read, &mut findings);
    let webhook = notify::compile(config, old, context, &mut roots, &mut findings);
    let networks: Vec<String> =
        config.server.trusted_proxies.iter().map(ToString::to_string).collect();
    let trusted_proxies = TrustedProxies::parse(&networks).unwrap_or_else(|error| {
        findings.error(Diagnostic::error(error.to_string()).key("server.trusted_proxies"));
        TrustedProxies::default()
    });
    let connections = connections(&listeners, context, &mut findings);
    let warnings = findings.finish()?;
    Ok(Compiled {
        warnings,
        config: Arc::clone(config),
        listeners,
        routes,
        pools,
        trusted_proxies,
        max_connections: max_connections(&config.server, connections),
        checks,
        questions,
        admin: if admin == *old.admin { Arc::clone(&old.admin) } else { Arc::new(admin) },
        webhook,
        roots,
        effects: Effects { connections, ..effects },
    })
}

impl Compiled {
    /// The sockets to be bound for it, each at the place of its address in the text.
    pub fn sockets(&self) -> impl Iterator<Item = &Located<SocketKey>> {
        self.listeners.iter().flat_map(|listener| &listener.sockets)
    }

    /// Fingerprints of the certificates of the listener of this name.
    pub(super) fn fingerprints(&self, listener: &str) -> Vec<&str> {
        let listener = self.listeners.iter().find(|it| it.name() == listener);
        fingerprints_of(listener.and_then(CompiledListener::tls))
    }

    /// Puts the snapshot together. `bound` tells what every one of [`sockets`](Self::sockets)
    /// was bound as.
    pub fn into_generation(
        self,
        generation: u64,
        bound: impl Fn(&SocketKey) -> Option<Bound>,
    ) -> (Generation, Effects) {
        let listeners: Vec<Arc<Listener>> = (0..)
            .zip(self.listeners)
            .map(|(index, listener)| Arc::new(listener.at(index, &bound)))
            .collect();
        let snapshot = Snapshot {
            generation,
            listeners,
            routes: self.routes,
            pools: self.pools,
            forwarded: self.config.server.forwarded,
            trusted_proxies: self.trusted_proxies,
            max_connections: self.max_connections,
            max_requests: self.config.server.max_requests.unwrap_or(usize::MAX),
            max_buffered: self
                .config
                .server
                .max_buffered
                .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        let generation = Generation {
            snapshot: Arc::new(snapshot),
            config: self.config,
            checks: self.checks,
            questions: self.questions,
            admin: self.admin,
            webhook: self.webhook,
            roots: self.roots,
        };
        (generation, self.effects)
    }
}

/// What was found wrong so far.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Findings {
    fn error(&mut self, error: Diagnostic) {
        self.errors.push(error);
    }

    fn warning(&mut self, warning: Diagnostic) {
        self.warnings.push(warning);
    }

    /// Keeps the value, or the error.
    fn take<T>(&mut self, result: Result<T, Box<Diagnostic>>) -> Option<T> {
        result.map_err(|error| self.error(*error)).ok()
    }

    fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let found = if self.errors.is_empty() { &mut self.warnings } else { &mut self.errors };
        found.sort_by_key(|finding| finding.span);
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(self.errors) }
    }
}

fn admin_access(admin: &model::Admin, read: ReadFile<'_>, findings: &mut Findings) -> AdminAccess {
    let key = "admin.token_file";
    let token = admin.token_file.as_ref().and_then(|path| {
        let bytes = findings.take(files::read(read, path, key))?;
        let token = String::from_utf8_lossy(&bytes).trim().to_owned();
        let usable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !usable {
            let message = format!(
                "`{}` holds no token: one line of visible ASCII characters is wanted",
                path.value.display()
            );
            let help = "make one with `openssl rand -hex 32`".to_owned();
            findings.error(Diagnostic::error(message).at(path.span).key(key).help(help));
        }
        usable.then_some(token)
    });
    AdminAccess { token, hosts: admin.hosts.clone() }
}

/// How many connections the files allow beside what the process needs for itself.
fn connections(
    listeners: &[CompiledListener],
    context: &Context<'_>,
    findings: &mut Findings,
) -> usize {
    let addresses = listeners.iter().map(|listener| listener.sockets.len()).sum();
    let (open_files, workers) = (context.open_files, context.workers);
    let left = for_connections(open_files, workers, addresses);
    let what = || {
        format!(
            "the process may open {open_files} files, of which {left} are left for connections: its \
             workers ({workers}), the addresses that each of them accepts on ({addresses}), the \
             admin API and health checks need the others"
        )
    };
    let help = "raise the limit (LimitNOFILE= in a systemd unit, `ulimit -n` in a shell), or lower \
                server.workers";
    if left < PER_REQUEST {
        findings.error(Diagnostic::error(what()).help(help.to_owned()));
    } else if (left as u64) < open_files / 2 {
        findings.warning(Diagnostic::warning(what()).help(help.to_owned()));
    }
    left
}

fn max_connections(server: &model::Server, connections: usize) -> usize {
    server.max_connections.unwrap_or(connections / PER_REQUEST)
}

#[cfg(test)]
mod tests;
