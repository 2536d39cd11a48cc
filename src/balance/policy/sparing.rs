//! Picks that spare some members: those in slow start and those found to be slow.
//!
//! To give such a member a smaller weight is not enough. Least connections would still send it
//! everything as long as it has nothing in flight, which is what a cold backend has; and were idle
//! members compared by weight, it would get nothing at all while another is idle too. So it is a
//! lottery: for each pick one member is drawn by weight, and if it is to be spared, its share is the
//! chance that it takes part. So it gets no more than that share of what is its own, whatever the
//! loads are, and less where it has more to do than others. Hashing asks the client's hash instead
//! of chance, so that clients move over one after another, each of them once.

use std::cmp::Ordering;

use super::{Candidates, Plan, Policy, SAMPLE};
use crate::balance::draws::Draws;
use crate::balance::hashing::uniform;

/// The members to be spared.
pub(super) struct Spared {
    /// By member.
    spared: Box<[bool]>,
    draws: Draws,
}

/// What a pick depends on besides the loads; see [`Candidates::pick`].
#[derive(Debug)]
pub struct Draw<'a> {
    /// Chance.
    pub rng: &'a mut fastrand::Rng,
    /// The turn, for [`Policy::RoundRobin`].
    pub turn: u64,
    /// The client's hash, for [`Policy::IpHash`].
    pub hash: u64,
}

impl Candidates {
    /// Some members, by their indexes, are to be spared by [`pick_sparing`](Self::pick_sparing).
    /// Their shares may change from pick to pick; who is spared is part of the table.
    #[must_use]
    pub fn sparing(mut self, members: impl IntoIterator<Item = usize>) -> Self {
        let mut spared = vec![false; self.len()].into_boxed_slice();
        for member in members {
            if let Some(spared) = spared.get_mut(member) {
                *spared = true;
            }
        }
        let weights: Vec<u32> = self.members.iter().map(|member| member.weight).collect();
        let draws = || Draws::new(&weights);
        self.spared = spared.contains(&true).then(|| Spared { draws: draws(), spared });
        self
    }

    /// Picks like [`pick`](Self::pick), but gives those who are spared only a `share` of their
    /// traffic, 0.0 to 1.0. If nobody else is left, they are picked all the same.
    pub fn pick_sparing(
        &self,
        load: impl Fn(usize) -> u32,
        share: impl Fn(usize) -> f64,
        skip: impl Fn(usize) -> bool,
        draw: Draw<'_>,
    ) -> Option<usize> {
        let Draw { rng, turn, hash } = draw;
        let picked = match (&self.spared, &self.plan) {
            _ if self.is_empty() => None,
            (None, _) => None,
            (Some(spared), Plan::Rendezvous { .. } | Plan::Maglev(_)) => {
                let late = |i| spared.is(i) && uniform(hash) >= share(i);
                self.pick(&load, |i| late(i) || skip(i), rng, turn, hash)
            }
            (Some(spared), Plan::Rotation(rotation)) => {
                let own = rotation.pick(turn, &skip);
                own.filter(|&own| !spared.is(own) || rng.f64() < share(own))
                    .or_else(|| spared.anyone(rng, &skip))
            }
            (Some(spared), _) => {
                let guest = spared.guest(rng, share, &skip);
                let other = self.pick(&load, |i| spared.is(i) || skip(i), rng, turn, hash);
                match (guest, other) {
                    (Some(guest), Some(other)) if self.is_busier(guest, other, &load) => {
                        Some(other)
                    }
                    (guest, other) => guest.or(other),
                }
            }
        };
        picked.or_else(|| self.pick(load, skip, rng, turn, hash))
    }

    fn is_busier(&self, guest: usize, other: usize, load: impl Fn(usize) -> u32) -> bool {
        matches!(self.policy, Policy::LeastConnections | Policy::RandomTwo)
            && self.loaded(guest, &load).compare(&self.loaded(other, &load)) == Ordering::Greater
    }
}

impl Spared {
    fn is(&self, member: usize) -> bool {
        self.spared.get(member).is_some_and(|spared| *spared)
    }

    /// The one that takes part in this pick, if any.
    fn guest(
        &self,
        rng: &mut fastrand::Rng,
        share: impl Fn(usize) -> f64,
        skip: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let drawn = self.draws.at(rng.u64(..));
        (self.is(drawn) && !skip(drawn) && rng.f64() < share(drawn)).then_some(drawn)
    }

    /// One of the others by weight, rather than the next in turn: that would be the same one each
    /// time, and get twice its share.
    fn anyone(&self, rng: &mut fastrand::Rng, skip: impl Fn(usize) -> bool) -> Option<usize> {
        let fit = |&i: &usize| !self.is(i) && !skip(i);
        let drawn = (0..SAMPLE).map(|_| self.draws.at(rng.u64(..))).find(fit);
        drawn.or_else(|| crate::balance::rotation::from(self.spared.len(), rng.u64(..)).find(fit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Member, stable_hash};

    const ALL: [Policy; 4] =
        [Policy::LeastConnections, Policy::RoundRobin, Policy::RandomTwo, Policy::IpHash];

    fn candidates(policy: Policy, weights: &[u32]) -> Candidates {
        let members = weights.iter().enumerate();
        let members = members
            .map(|(i, &weight)| Member { key: stable_hash(&i.to_le_bytes()), weight })
            .collect::<Vec<_>>();
        Candidates::new(policy, &members)
    }

    /// The part of the requests that each member gets while so many are in flight in all; the
    /// first is spared.
    fn parts(policy: Policy, weights: &[u32], share: f64, held: usize) -> Vec<f64> {
        let candidates = candidates(policy, weights).sparing([0]);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut loads = vec![0_u32; weights.len()];
        let mut counts = vec![0.0; weights.len()];
        let mut in_flight = std::collections::VecDeque::new();
        let requests = 12_000;
        for turn in 0..requests {
            let draw = Draw { rng: &mut rng, turn, hash: stable_hash(&turn.to_le_bytes()) };
            let i = candidates.pick_sparing(|i| loads[i], |_| share, |_| false, draw).unwrap();
            counts[i] += 1.0 / requests as f64;
            loads[i] += 1;
            in_flight.push_back(i);
            if in_flight.len() > held {
                loads[in_flight.pop_front().unwrap()] -= 1;
            }
        }
        counts
    }

    #[test]
    fn a_spared_member_gets_its_share_of_what_is_its_own() {
        for policy in ALL {
            for (weights, own) in
                [(&[1, 1, 1][..], 1.0 / 3.0), (&[2, 1, 1], 0.5), (&[1; 40], 1.0 / 40.0)]
            {
                for share in [0.05, 0.5, 1.0] {
                    for held in [0, 20, 400] {
                        let part = parts(policy, weights, share, held)[0];
                        let want = own * share;
                        // Less where it is the busier one now and then; and hashing is as even as
                        // its hashes.
                        let fits = want * 0.7 - 0.01..want * 1.15 + 0.01;
                        assert!(fits.contains(&part), "{policy:?} {share} {held}: {part}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_others_share_the_rest_evenly() {
        for policy in ALL {
            let parts = parts(policy, &[1, 1, 1, 1], 0.05, 30);
            for part in &parts[1..] {
                assert!((part - 0.33).abs() < 0.05, "{policy:?}: {parts:?}");
            }
        }
    }

    #[test]
    fn nothing_in_flight_does_not_attract_everything() {
        for policy in [Policy::LeastConnections, Policy::RandomTwo] {
            let candidates = candidates(policy, &[1, 1, 1]).sparing([0]);
            let mut rng = fastrand::Rng::with_seed(2);
            let mut picked = 0;
            for turn in 0..3_000 {
                let draw = Draw { rng: &mut rng, turn, hash: 0 };
                let load = |i| if i == 0 { 0 } else { 50 };
                let pick = candidates.pick_sparing(load, |_| 0.1, |_| false, draw);
                picked += usize::from(pick == Some(0));
            }
            assert!((60..150).contains(&picked), "{policy:?}: {picked} of 3000");
        }
    }

    #[test]
    fn a_busy_one_is_spared_even_its_share() {
        let candidates = candidates(Policy::LeastConnections, &[1, 1]).sparing([0]);
        let mut rng = fastrand::Rng::with_seed(3);
        for turn in 0..1_000 {
            let draw = Draw { rng: &mut rng, turn, hash: 0 };
            let load = |i| if i == 0 { 9 } else { 8 };
            assert_eq!(candidates.pick_sparing(load, |_| 1.0, |_| false, draw), Some(1));
        }
    }

    #[test]
    fn hashing_moves_clients_over_one_after_another() {
        for count in [3, 100] {
            let candidates = candidates(Policy::IpHash, &vec![1; count]).sparing([0]);
            let mut rng = fastrand::Rng::with_seed(4);
            for client in 0..500_u64 {
                let hash = stable_hash(&client.to_le_bytes());
                let mut pick = |share| {
                    let draw = Draw { rng: &mut rng, turn: 0, hash };
                    candidates.pick_sparing(|_| 0, |_| share, |_| false, draw).unwrap()
                };
                let way: Vec<usize> = (0..=10).map(|tenth| pick(f64::from(tenth) / 10.0)).collect();
                let moves = way.windows(2).filter(|pair| pair[0] != pair[1]).count();
                assert!(moves <= 1 && (moves == 0) == (way[10] != 0), "{way:?}");
            }
        }
    }

    #[test]
    fn somebody_is_picked_as_long_as_somebody_is_left() {
        let mut rng = fastrand::Rng::with_seed(5);
        for policy in ALL {
            for count in [1, 2, 5, 40] {
                let spared: Vec<usize> = (0..count).filter(|_| rng.bool()).collect();
                let candidates = candidates(policy, &vec![1; count]).sparing(spared);
                for turn in 0..200 {
                    let skipped: Vec<bool> = (0..count).map(|_| rng.bool()).collect();
                    let draw = Draw { rng: &mut rng, turn, hash: turn << 40 };
                    let got = candidates.pick_sparing(|_| 1, |_| 0.05, |i| skipped[i], draw);
                    assert_eq!(got.is_some(), skipped.contains(&false), "{policy:?} of {count}");
                    assert!(got.is_none_or(|i| !skipped[i]));
                }
            }
        }
        let nobody = Candidates::new(Policy::RandomTwo, &[]).sparing([0]);
        let draw = Draw { rng: &mut rng, turn: 0, hash: 0 };
        assert_eq!(nobody.pick_sparing(|_| 0, |_| 0.5, |_| false, draw), None);
    }
}
