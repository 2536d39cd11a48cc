//! Since when the backends of a pool have been in service, and so who is in slow start.

use std::collections::HashMap;
use std::time::Duration;

use crate::balance::Condition;
use crate::balance::slow_start::{begins_slowly, ramp};
use crate::state::{Backend, BackendId, Version};

/// The healthy backends of one pool.
#[derive(Debug, Default)]
pub(super) struct InService(HashMap<BackendId, Start>);

/// When and how one began.
#[derive(Clone, Copy, Debug)]
struct Start {
    since: Duration,
    slowly: bool,
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Somebody is in slow start: the next look is due soon.
    pub(super) warming: bool,
    /// Others are spared than before: the usable sets are to be rebuilt.
    pub(super) spared_changed: bool,
    /// Somebody has come into service.
    pub(super) recovered: bool,
}

impl InService {
    /// Notes who has come into service and who has left it, and sets everybody's share. `now` is the
    /// time since the process started.
    pub(super) fn look<'a>(
        &mut self,
        now: Duration,
        slow_start: Duration,
        versions: impl IntoIterator<Item = &'a Version>,
    ) -> Found {
        let mut seen = HashMap::with_capacity(self.0.len());
        let mut found = Found::default();
        for version in versions {
            for member in &version.members {
                let backend = &member.backend;
                let serves = backend.condition() == Condition::Healthy;
                let start = serves.then(|| match self.0.get(&backend.id) {
                    Some(start) => *start,
                    None => {
                        found.recovered = true;
                        let others = self.siblings(now, version, member.backup);
                        Start { since: now, slowly: begins_slowly(others, slow_start) }
                    }
                });
                let slowly = start.filter(|start| start.slowly);
                let ratio =
                    slowly.map_or(1.0, |start| ramp(now.saturating_sub(start.since), slow_start));
                found.warming |= ratio < 1.0;
                found.spared_changed |= backend.set_slow_start(ratio);
                if let Some(start) = start {
                    seen.insert(backend.id, Start { slowly: ratio < 1.0, ..start });
                }
            }
        }
        self.0 = seen;
        found
    }

    /// How long those have served who would carry the load meanwhile, as of the look before.
    fn siblings(
        &self,
        now: Duration,
        version: &Version,
        backup: bool,
    ) -> impl Iterator<Item = Duration> {
        let alike = version.members.iter().filter(move |member| member.backup == backup);
        let serving = alike.map(|member| &member.backend).filter(|backend| serves(backend));
        serving.filter_map(move |backend| Some(now.saturating_sub(self.0.get(&backend.id)?.since)))
    }
}

fn serves(backend: &Backend) -> bool {
    backend.condition() == Condition::Healthy
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::balance::{AllDown, Policy};
    use crate::state::Member;
    use crate::state::pool::PickRules;

    const SLOW_START: Duration = Duration::from_secs(10);

    /// A version of so many backends, all healthy.
    fn version(count: u16) -> Version {
        let member = |port| {
            let backend = Backend::sample(port);
            backend.set_condition(Condition::Healthy);
            Member { backend: Arc::new(backend), weight: 1, backup: false }
        };
        let rules = PickRules {
            policy: Policy::LeastConnections,
            panic_threshold: 0.0,
            all_down: AllDown::Try,
        };
        Version::new("".into(), (1..=count).map(member).collect(), rules, None)
    }

    fn ratios(version: &Version) -> Vec<f64> {
        let ratio = |member: &Member| (member.backend.weight_ratio() * 100.0).round() / 100.0;
        version.members.iter().map(ratio).collect()
    }

    fn set(version: &Version, index: usize, condition: Condition) {
        version.members[index].backend.set_condition(condition);
    }

    #[test]
    fn a_whole_pool_begins_at_once() {
        let (mut in_service, version) = (InService::default(), version(3));
        let found = in_service.look(Duration::ZERO, SLOW_START, [&version]);
        assert_eq!(found, Found { recovered: true, ..Found::default() });
        assert_eq!(ratios(&version), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn one_that_comes_back_gets_its_share_bit_by_bit() {
        let (mut in_service, version) = (InService::default(), version(2));
        let mut look = |seconds| {
            let found = in_service.look(Duration::from_secs(seconds), SLOW_START, [&version]);
            (found.warming, found.spared_changed, ratios(&version)[1])
        };
        look(0);
        set(&version, 1, Condition::Unhealthy);
        assert_eq!(look(20), (false, false, 1.0));
        set(&version, 1, Condition::Healthy);
        assert_eq!(look(30), (true, true, 0.05));
        assert_eq!(look(35), (true, false, 0.5));
        assert_eq!(look(40), (false, true, 1.0));
    }

    #[test]
    fn where_all_come_back_nobody_is_slow() {
        let (mut in_service, version) = (InService::default(), version(2));
        let mut look = |seconds| {
            in_service.look(Duration::from_secs(seconds), SLOW_START, [&version]);
            ratios(&version)
        };
        look(0);
        (0..2).for_each(|index| set(&version, index, Condition::Unhealthy));
        look(100);
        set(&version, 0, Condition::Healthy);
        assert_eq!(look(101), [1.0, 1.0]);
        set(&version, 1, Condition::Healthy);
        assert_eq!(look(102), [1.0, 1.0]);
    }

    #[test]
    fn who_falls_during_its_start_begins_anew() {
        let (mut in_service, version) = (InService::default(), version(2));
        let mut look = |seconds| {
            in_service.look(Duration::from_secs(seconds), SLOW_START, [&version]);
            ratios(&version)[1]
        };
        set(&version, 1, Condition::Unhealthy);
        look(0);
        for begin in [20, 30] {
            set(&version, 1, Condition::Healthy);
            assert_eq!(look(begin), 0.05);
            assert_eq!(look(begin + 5), 0.5);
            set(&version, 1, Condition::Ejected);
            assert_eq!(look(begin + 6), 1.0);
        }
    }

    #[test]
    fn a_backup_carries_nobody_over_the_start_of_a_primary() {
        let (mut in_service, mut version) = (InService::default(), version(2));
        version.members[1].backup = true;
        set(&version, 0, Condition::Unhealthy);
        in_service.look(Duration::ZERO, SLOW_START, [&version]);
        set(&version, 0, Condition::Healthy);
        in_service.look(SLOW_START * 2, SLOW_START, [&version]);
        assert_eq!(ratios(&version), [1.0, 1.0]);
    }
}
