//! Which version of a pool takes what share of new attempts.
//!
//! While two versions take a share, a client stays on its side: by its affinity cookie, else by its
//! address. The shares of a ramp only rise, so who has come over to the new version stays there.

use std::sync::Arc;

use smallvec::SmallVec;

use super::pool::Version;
use super::shadow::Shadow;
use crate::balance::stable_hash;

/// Shares of new attempts by version.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// Every version of the pool, those without a share included.
    pub shares: SmallVec<[Share; 2]>,
    /// The version whose share rises, if one does: who is bound to it stays.
    pub rising: Option<Arc<str>>,
    /// While that one is judged: the version before, warm and probed, which takes the requests that
    /// failed elsewhere and may be repeated.
    pub refuge: Option<Arc<str>>,
    /// While requests are copied to a version that is to serve: to which, and how many.
    pub shadow: Option<Arc<Shadow>>,
}

/// One version's part of a [`Split`].
#[derive(Clone, Debug)]
pub struct Share {
    /// The version.
    pub version: Arc<Version>,
    /// From 0 to 1; over a split they sum to 1.
    pub share: f64,
}

impl Split {
    /// All traffic to one version.
    pub fn all_to(version: Arc<Version>) -> Self {
        let shares = SmallVec::from_iter([Share { version, share: 1.0 }]);
        Split { shares, ..Split::default() }
    }

    /// The version of this name.
    pub fn version(&self, name: &str) -> Option<&Arc<Version>> {
        self.shares.iter().map(|share| &share.version).find(|version| *version.name == *name)
    }

    /// The share of the version of this name, 0 if there is none.
    pub fn share_of(&self, name: &str) -> f64 {
        let found = self.shares.iter().find(|share| *share.version.name == *name);
        found.map_or(0.0, |share| share.share)
    }

    /// The version with the largest share.
    pub fn largest(&self) -> Option<&Arc<Version>> {
        let largest = self.shares.iter().max_by(|a, b| a.share.total_cmp(&b.share));
        largest.map(|share| &share.version)
    }

    /// Whether more than one version takes a share.
    pub fn is_divided(&self) -> bool {
        self.shares.iter().filter(|share| share.share > 0.0).nth(1).is_some()
    }

    /// The same versions, with `share` for the one named `rising` and the rest for `other`.
    #[must_use]
    pub fn between(&self, other: &str, rising: &str, share: f64) -> Self {
        let shares = self.shares.iter().map(|Share { version, .. }| {
            let share = match &*version.name {
                name if *name == *rising => share,
                name if *name == *other => 1.0 - share,
                _ => 0.0,
            };
            Share { version: Arc::clone(version), share }
        });
        let refuge = (share > 0.0).then(|| other.into());
        let rising = Some(rising.into());
        Split { shares: shares.collect(), rising, refuge, shadow: None }
    }

    /// The same without a refuge: the version before is let go.
    #[must_use]
    pub fn without_refuge(&self) -> Self {
        Split { refuge: None, ..self.clone() }
    }

    /// The same with other copying.
    #[must_use]
    pub fn with_shadow(&self, shadow: Option<Shadow>) -> Self {
        Split { shadow: shadow.map(Arc::new), ..self.clone() }
    }

    /// Where a request goes that failed on this version, if not to its siblings.
    pub fn refuge_from(&self, version: &Version) -> Option<&Arc<Version>> {
        let refuge = self.version(self.refuge.as_deref()?)?;
        (refuge.name != version.name && !refuge.usable().is_empty()).then_some(refuge)
    }

    /// The shares of this split for other versions, by name. Where none of those that take a share is
    /// left, the one named `fallback` takes all.
    #[must_use]
    pub fn carried(&self, versions: &[Arc<Version>], fallback: &str) -> Self {
        let sum: f64 = versions.iter().map(|version| self.share_of(&version.name)).sum();
        let shares = versions.iter().map(|version| {
            let share = match sum {
                sum if sum > 0.0 => self.share_of(&version.name) / sum,
                _ if *version.name == *fallback => 1.0,
                _ => 0.0,
            };
            Share { version: Arc::clone(version), share }
        });
        let (rising, refuge) = (self.rising.clone(), self.refuge.clone());
        let shadow = self.shadow.as_ref().and_then(|shadow| shadow.carried(versions));
        Split { shares: shares.collect(), rising, refuge, shadow }
    }

    /// The version for an attempt of a client: `hash` is of its address, 0 if that was not looked at,
    /// and `cookies` are the values of its `Cookie` fields.
    pub(super) fn choose<'c, C: IntoIterator<Item = &'c [u8]>>(
        &self,
        hash: u64,
        cookies: impl Fn() -> C,
        rng: &mut fastrand::Rng,
    ) -> Option<&Arc<Version>> {
        let mut serving = self.shares.iter().filter(|share| share.share > 0.0);
        let first = serving.next()?;
        if first.share >= 1.0 {
            return Some(&first.version);
        }
        if let Some(version) = self.bound_to_rising(cookies) {
            return Some(version);
        }
        let mut point = if hash == 0 { rng.f64() } else { point_of(hash) } - first.share;
        let mut chosen = first;
        for share in serving {
            if point < 0.0 {
                break;
            }
            point -= share.share;
            chosen = share;
        }
        Some(&chosen.version)
    }

    /// The rising version, if the client has come over to it before.
    fn bound_to_rising<'c, C: IntoIterator<Item = &'c [u8]>>(
        &self,
        cookies: impl Fn() -> C,
    ) -> Option<&Arc<Version>> {
        let version = self.version(self.rising.as_deref()?)?;
        version.affinity.as_ref()?.member(cookies()).map(|_| version)
    }
}

/// Where in 0.0..1.0 a client stands. Hashed again: backends are chosen by the same hash, and those on
/// one side are to be spread over all of its backends.
fn point_of(hash: u64) -> f64 {
    let bits = stable_hash(&hash.to_le_bytes()) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::affinity::{Affinity, Key};
    use crate::balance::{AllDown, Policy};
    use crate::state::pool::PickRules;

    fn version(name: &str) -> Arc<Version> {
        let rules =
            PickRules { policy: Policy::RoundRobin, panic_threshold: 0.0, all_down: AllDown::Try };
        let affinity = Affinity::new(&Key::new(b"k"), "shop", "c", None, [name]);
        Arc::new(Version::new(name.into(), Vec::new(), rules, Some(affinity)))
    }

    fn split(share: f64) -> Split {
        let versions = [version("blue"), version("green"), version("red")];
        Split::all_to(version("blue")).carried(&versions, "blue").between("blue", "green", share)
    }

    fn chosen(split: &Split, hash: u64, cookie: &str) -> String {
        let cookies = || [cookie.as_bytes()];
        let version = split.choose(hash, cookies, &mut fastrand::Rng::with_seed(1));
        version.unwrap().name.to_string()
    }

    #[test]
    fn the_version_before_is_a_refuge_while_the_new_one_takes_requests() {
        let refuge = |split: &Split| split.refuge.clone();
        assert_eq!(refuge(&split(0.05)).as_deref(), Some("blue"));
        assert_eq!(refuge(&split(1.0)).as_deref(), Some("blue"));
        assert_eq!(refuge(&split(0.0)), None);
        assert_eq!(refuge(&split(1.0).without_refuge()), None);
        let (watched, blue) = (split(1.0), version("blue"));
        assert!(watched.refuge_from(&blue).is_none(), "of others, not of itself");
        assert!(watched.refuge_from(&version("green")).is_none(), "nobody is there");
    }

    #[test]
    fn clients_come_over_one_after_another_and_stay() {
        let green = |share| -> Vec<bool> {
            let split = split(share);
            (1..=1000).map(|hash| chosen(&split, hash, "") == "green").collect()
        };
        let (few, more) = (green(0.05), green(0.25));
        let count = |side: &[bool]| side.iter().filter(|green| **green).count();
        assert!((20..=80).contains(&count(&few)) && (200..=300).contains(&count(&more)));
        assert!(few.iter().zip(&more).all(|(before, after)| !before || *after));
    }

    #[test]
    fn a_cookie_of_the_rising_version_keeps_its_client_there() {
        let split = split(0.05);
        let cookie = |name: &str| {
            let affinity = split.version(name).unwrap().affinity.as_ref().unwrap();
            affinity.set_cookie(0, false).unwrap()
        };
        let stays = |name: &str, expected: &str| {
            (1..=20).filter(|hash| chosen(&split, *hash, &cookie(name)) == expected).count()
        };
        assert_eq!(stays("green", "green"), 20);
        assert!(stays("blue", "blue") > 10);
    }

    #[test]
    fn shares_are_carried_by_name() {
        let split = split(0.25);
        let share =
            |split: &Split| -> Vec<f64> { split.shares.iter().map(|share| share.share).collect() };
        assert_eq!(
            share(&split.carried(&[version("green"), version("blue")], "blue")),
            [0.25, 0.75]
        );
        assert_eq!(share(&split.carried(&[version("red"), version("green")], "red")), [0.0, 1.0]);
        assert_eq!(share(&split.carried(&[version("pink"), version("red")], "red")), [0.0, 1.0]);
    }
}
