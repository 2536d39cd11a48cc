//! What the versions of a pool do: looked at again and again, and remembered for as long as a watch
//! reaches back, so that there is something to hold a new version beside.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::balance::Condition;
use crate::deploy::{BackendSample, Counts, Held, History, Latencies, Slow};
use crate::state::attempts::Seen;
use crate::state::{Backend, BackendId, Split, Version};

/// The traffic of a pool with versions.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    versions: BTreeMap<Arc<str>, VersionTraffic>,
    slow: Option<Slow>,
}

/// What one version did since the look before the last, and before.
#[derive(Debug)]
pub(super) struct VersionTraffic {
    pub(super) samples: Vec<BackendSample>,
    pub(super) counts: Counts,
    pub(super) latencies: Latencies,
    pub(super) history: History,
    pub(super) held: Held,
    /// Attempts that have waited for long at the last look.
    pub(super) waiting: u64,
    seen: HashMap<BackendId, Seen>,
}

impl VersionTraffic {
    pub(super) fn new(span: Duration) -> Self {
        VersionTraffic {
            samples: Vec::new(),
            counts: Counts::default(),
            latencies: Latencies::default(),
            history: History::new(span),
            held: Held::default(),
            waiting: 0,
            seen: HashMap::new(),
        }
    }

    fn look(&mut self, now: Duration, version: &Version, slow: Option<Slow>) {
        self.samples.clear();
        self.latencies.clear();
        self.counts = Counts::default();
        let mut seen = std::mem::take(&mut self.seen);
        for backend in version.members.iter().map(|member| &member.backend) {
            let mut before = seen.remove(&backend.id).unwrap_or_else(|| begin(backend, slow));
            let counts = backend.since(&mut before, &mut self.latencies);
            self.seen.insert(backend.id, before);
            self.counts += counts;
            if !is_out_by_hand(backend) {
                let usable =
                    matches!(backend.condition(), Condition::Healthy | Condition::Checking);
                let backend = Arc::clone(&backend.label);
                self.samples.push(BackendSample { backend, usable, counts });
            }
        }
        self.history.add(now, self.counts, &self.latencies);
        self.held = held(version);
        self.waiting = version.members.iter().map(|member| member.backend.long_waits()).sum();
    }
}

/// A backend that is looked at for the first time: what it did before does not count.
fn begin(backend: &Backend, slow: Option<Slow>) -> Seen {
    backend.yardstick.compare(true);
    if slow.is_some() {
        backend.yardstick.count_slow(slow);
    }
    let mut seen = Seen::default();
    backend.since(&mut seen, &mut Latencies::default());
    seen
}

/// Whether somebody has drained or disabled it.
pub(super) fn is_out_by_hand(backend: &Backend) -> bool {
    matches!(backend.condition(), Condition::Draining | Condition::Disabled)
}

impl Traffic {
    /// Looks at all versions. `span` is how far their history reaches back.
    pub(super) fn look(&mut self, now: Duration, split: &Split, span: Duration) {
        let mut before = std::mem::take(&mut self.versions);
        for version in split.shares.iter().map(|share| &share.version) {
            let known = before.remove(&version.name);
            let mut traffic = known.unwrap_or_else(|| VersionTraffic::new(span));
            if traffic.history.span() != span {
                traffic.history.set_span(span);
            }
            traffic.look(now, version, self.slow);
            self.versions.insert(Arc::clone(&version.name), traffic);
        }
    }

    /// That of one version, as of the last look.
    pub(super) fn of(&self, version: &str) -> Option<&VersionTraffic> {
        self.versions.get(version)
    }

    /// From now on attempts count as too slow by this.
    pub(super) fn count_slow(&mut self, split: &Split, slow: Option<Slow>) {
        self.slow = slow;
        let members = split.shares.iter().flat_map(|share| &share.version.members);
        members.for_each(|member| member.backend.yardstick.count_slow(slow));
    }
}

/// What a version holds now.
pub(in crate::control) fn held(version: &Version) -> Held {
    let mut held = Held::default();
    for member in &version.members {
        let tunnels = member.backend.tunnels();
        held.tunnels += tunnels;
        held.requests += u64::from(member.backend.in_flight()).saturating_sub(tunnels);
    }
    held
}
