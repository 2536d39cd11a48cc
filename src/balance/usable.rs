//! Which members may be picked at all.
//!
//! Asked when a backend changes its condition, not per request. The answer is the first tier that
//! has somebody in it, so that a pool gets worse step by step instead of going dark.

/// What a backend is fit for just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Its checks pass and its traffic goes well.
    Healthy,
    /// There is no verdict yet.
    Checking,
    /// Its checks fail.
    Unhealthy,
    /// Taken out for a time because real traffic went badly.
    Ejected,
    /// By its own wish: finishes what it has, takes nothing new unless there is nobody else.
    Leaving,
    /// By hand: finishes what it has, takes nothing new.
    Draining,
    /// By hand: out.
    Disabled,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 7] = [
        Self::Checking,
        Self::Healthy,
        Self::Unhealthy,
        Self::Ejected,
        Self::Leaving,
        Self::Draining,
        Self::Disabled,
    ];

    /// The word for it in metrics, logs and answers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Checking => "checking",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }

    /// An operator took it out; no emergency overrides that.
    fn by_hand(self) -> bool {
        matches!(self, Self::Draining | Self::Disabled)
    }

    /// There was a verdict, good or bad.
    fn judged(self) -> bool {
        matches!(self, Self::Healthy | Self::Unhealthy | Self::Ejected)
    }
}

/// What [`usable()`] needs to know of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its condition.
    pub condition: Condition,
    /// Serves only when no primary is healthy.
    pub backup: bool,
}

/// What to do when nobody is fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllDown {
    /// Use everybody who was not taken out by hand: checks may be wrong, a refusal surely is.
    Try,
    /// Use nobody.
    Fail,
}

/// Why the members of a [`Usable`] are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Healthy primaries.
    Healthy,
    /// Too few are healthy to carry the load: primaries whatever their health.
    Panic,
    /// No primary is healthy: healthy backups.
    Backup,
    /// Nobody is known to be healthy but those who ask to be drained: they are there still.
    Leaving,
    /// Nobody is known to be healthy: those without a verdict, primaries first.
    Checking,
    /// Nobody is fit: everybody, by [`AllDown::Try`].
    AllDown,
    /// Nobody.
    Empty,
}

impl Tier {
    /// The word for it in answers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Panic => "panic",
            Self::Backup => "backup",
            Self::Leaving => "leaving",
            Self::Checking => "checking",
            Self::AllDown => "all_down",
            Self::Empty => "empty",
        }
    }

    /// What it means, where that is out of the ordinary.
    #[must_use]
    pub fn alarm(self) -> Option<&'static str> {
        match self {
            Self::Healthy | Self::Checking => None,
            Self::Panic => {
                Some("panic: too few backends are healthy, so requests go to all of them")
            }
            Self::Backup => Some("no primary is healthy, so requests go to the backups"),
            Self::Leaving => {
                Some("only backends that ask to be drained are left, so requests go to them")
            }
            Self::AllDown => Some("no backend is healthy, so requests are tried on all of them"),
            Self::Empty => Some("no backend may be picked, so requests are refused"),
        }
    }
}

/// The members that may be picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usable {
    /// Their indexes in the list asked about, ascending.
    pub indexes: Vec<usize>,
    /// Why these.
    pub tier: Tier,
}

impl Usable {
    /// Whether health is being ignored because too few are healthy.
    #[must_use]
    pub fn panic(&self) -> bool {
        self.tier == Tier::Panic
    }
}

/// Which of `members` may be picked.
///
/// `panic_threshold` is a share, 0.0 to 1.0, of the primaries that have had a verdict and were not
/// taken out by hand; 0 means never. Members without a verdict do not count in it, so that neither a
/// start nor a large addition looks like a failure. Healthy backups stand in before there is panic
/// about primaries of which none is healthy.
#[must_use]
pub fn usable(members: &[MemberView], panic_threshold: f64, all_down: AllDown) -> Usable {
    let select = |tier: Tier, fits: &dyn Fn(&MemberView) -> bool| {
        let indexes: Vec<usize> =
            members.iter().enumerate().filter(|(_, m)| fits(m)).map(|(i, _)| i).collect();
        (!indexes.is_empty()).then_some(Usable { indexes, tier })
    };
    let with = |tier, condition, backup| {
        select(tier, &move |m| m.condition == condition && m.backup == backup)
    };
    let stays = |m: &MemberView| !m.condition.by_hand() && m.condition != Condition::Leaving;
    let panic = || select(Tier::Panic, &|m| !m.backup && stays(m));

    let judged = members.iter().filter(|m| !m.backup && m.condition.judged()).count();
    let healthy = with(Tier::Healthy, Condition::Healthy, false);
    let well = healthy.as_ref().map_or(0, |u| u.indexes.len());
    // Multiplied, so that no judged member means no panic.
    let too_few = (well as f64) < panic_threshold * judged as f64;

    healthy
        .filter(|_| !too_few)
        .or_else(|| panic().filter(|_| too_few && well > 0))
        .or_else(|| with(Tier::Backup, Condition::Healthy, true))
        .or_else(|| panic().filter(|_| too_few))
        .or_else(|| with(Tier::Leaving, Condition::Leaving, false))
        .or_else(|| with(Tier::Leaving, Condition::Leaving, true))
        .or_else(|| with(Tier::Checking, Condition::Checking, false))
        .or_else(|| with(Tier::Checking, Condition::Checking, true))
        .or_else(|| select(Tier::AllDown, &|m| all_down == AllDown::Try && !m.condition.by_hand()))
        .unwrap_or(Usable { indexes: Vec::new(), tier: Tier::Empty })
}

#[cfg(test)]
mod tests {
    use super::AllDown::{Fail, Try};
    use super::*;

    /// One letter per member; capitals are backups.
    fn members(letters: &str) -> Vec<MemberView> {
        letters
            .chars()
            .map(|c| MemberView {
                backup: c.is_uppercase(),
                condition: match c.to_ascii_lowercase() {
                    'h' => Condition::Healthy,
                    'c' => Condition::Checking,
                    'u' => Condition::Unhealthy,
                    'e' => Condition::Ejected,
                    'l' => Condition::Leaving,
                    'd' => Condition::Draining,
                    'x' => Condition::Disabled,
                    other => panic!("no condition {other}"),
                },
            })
            .collect()
    }

    #[test]
    fn tiers() {
        let table: &[(&str, f64, AllDown, &[usize], Tier)] = &[
            ("", 0.0, Try, &[], Tier::Empty),
            ("hhh", 0.0, Try, &[0, 1, 2], Tier::Healthy),
            ("hueH", 0.0, Try, &[0], Tier::Healthy),
            // At the start nothing better exists; beside a healthy one, the new one waits.
            ("ccc", 0.0, Fail, &[0, 1, 2], Tier::Checking),
            ("ccC", 0.0, Fail, &[0, 1], Tier::Checking),
            ("uuC", 0.0, Fail, &[2], Tier::Checking),
            ("hc", 0.0, Try, &[0], Tier::Healthy),
            ("cuH", 0.0, Try, &[2], Tier::Backup),
            ("uc", 0.0, Try, &[1], Tier::Checking),
            // Backups serve only when no primary is healthy.
            ("ueHH", 0.0, Try, &[2, 3], Tier::Backup),
            ("dH", 0.0, Try, &[1], Tier::Backup),
            ("HH", 0.0, Try, &[0, 1], Tier::Backup),
            // Nobody is fit.
            ("ueU", 0.0, Try, &[0, 1, 2], Tier::AllDown),
            ("ueU", 0.0, Fail, &[], Tier::Empty),
            ("dxu", 0.0, Try, &[2], Tier::AllDown),
            ("dxDX", 0.0, Try, &[], Tier::Empty),
            // Those who ask to be drained are there until they are gone.
            ("hl", 0.0, Try, &[0], Tier::Healthy),
            ("luH", 0.0, Try, &[2], Tier::Backup),
            ("luc", 0.0, Fail, &[0], Tier::Leaving),
            ("uL", 0.0, Fail, &[1], Tier::Leaving),
            ("hluuu", 0.5, Try, &[0, 2, 3, 4], Tier::Panic),
            // Panic, at a threshold of half: under it, not at it.
            ("hhuu", 0.5, Try, &[0, 1], Tier::Healthy),
            ("huuu", 0.5, Try, &[0, 1, 2, 3], Tier::Panic),
            ("hueu", 0.5, Fail, &[0, 1, 2, 3], Tier::Panic),
            ("huuuH", 0.5, Try, &[0, 1, 2, 3], Tier::Panic),
            ("huudx", 0.5, Try, &[0, 1, 2], Tier::Panic),
            ("hudx", 0.5, Try, &[0], Tier::Healthy),
            ("dxh", 1.0, Try, &[2], Tier::Healthy),
            ("hhu", 1.0, Try, &[0, 1, 2], Tier::Panic),
            // No verdict is no failure, and a healthy backup is better than panic.
            ("ccc", 0.5, Try, &[0, 1, 2], Tier::Checking),
            ("hcccc", 0.5, Try, &[0], Tier::Healthy),
            ("uuuH", 0.5, Try, &[3], Tier::Backup),
            ("uucH", 0.5, Try, &[3], Tier::Backup),
            ("uucU", 0.5, Fail, &[0, 1, 2], Tier::Panic),
            ("dx", 0.5, Try, &[], Tier::Empty),
        ];
        for (letters, threshold, all_down, indexes, tier) in table {
            let got = usable(&members(letters), *threshold, *all_down);
            let want = Usable { indexes: indexes.to_vec(), tier: *tier };
            assert_eq!(got, want, "{letters} at {threshold}, {all_down:?}");
            assert_eq!(got.panic(), *tier == Tier::Panic);
        }
    }
}
