//! Picking a member: a table built on every (rare) change of the list and read by every request.
//!
//! Members that are to get less than their weight says for a while (slow start, slowness) are in
//! `sparing`. The table holds only what its policy needs. A pick allocates nothing, locks nothing and
//! takes about the same time among 10,000 members as among 10: what is exact for few members is a
//! fixed number of weighted draws for many.

mod sparing;

use std::cmp::Ordering;
use std::hint::select_unpredictable;

use super::draws::Draws;
use super::hashing::{Maglev, rendezvous};
use super::rotation::{Rotation, from};
pub use sparing::Draw;
use sparing::Spared;

/// Up to so many members every one is looked at; above it, a sample or a table decides.
pub(super) const EXACT: usize = 32;
/// Draws of which the least loaded is taken, where looking at all would cost too much.
const SAMPLE: usize = 8;

/// How a pool chooses among its usable backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The one with the fewest requests in flight for its weight.
    LeastConnections,
    /// One after another, as often as its weight says.
    RoundRobin,
    /// The less loaded of two drawn by weight.
    RandomTwo,
    /// Always the same for the same hash.
    IpHash,
}

impl Policy {
    /// The word for it in configuration and answers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::LeastConnections => "least_connections",
            Self::RoundRobin => "round_robin",
            Self::RandomTwo => "random_two",
            Self::IpHash => "ip_hash",
        }
    }
}

/// One member of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// A [`stable_hash`](super::stable_hash) of the backend's address: its place in hash order.
    pub key: u64,
    /// Its share of the traffic against its siblings'. 0 counts as 1: who is to get nothing is not
    /// a member.
    pub weight: u32,
}

/// The members that may be picked and what their policy needs to pick one.
pub struct Candidates {
    members: Box<[Member]>,
    policy: Policy,
    plan: Plan,
    spared: Option<Spared>,
}

enum Plan {
    LeastOfAll,
    LeastOfSample(Draws),
    LeastOfTwo(Draws),
    Rotation(Rotation),
    Rendezvous { equal: bool },
    Maglev(Maglev),
}

impl Candidates {
    /// Builds the table. Cheap for every policy but [`Policy::IpHash`] above 32 members, which
    /// takes some milliseconds (some tens of them for thousands of members).
    #[must_use]
    pub fn new(policy: Policy, members: &[Member]) -> Self {
        let at_least_one = |m: &Member| Member { weight: m.weight.max(1), ..*m };
        let members: Box<[Member]> = members.iter().map(at_least_one).collect();
        let weights: Vec<u32> = members.iter().map(|m| m.weight).collect();
        let few = members.len() <= EXACT;
        let plan = match policy {
            Policy::LeastConnections if few => Plan::LeastOfAll,
            Policy::LeastConnections => Plan::LeastOfSample(Draws::new(&weights)),
            Policy::RandomTwo => Plan::LeastOfTwo(Draws::new(&weights)),
            Policy::RoundRobin => Plan::Rotation(Rotation::new(&weights)),
            Policy::IpHash if few => {
                Plan::Rendezvous { equal: weights.windows(2).all(|pair| pair[0] == pair[1]) }
            }
            Policy::IpHash => Plan::Maglev(Maglev::new(&members)),
        };
        Self { members, policy, plan, spared: None }
    }

    /// The policy that the table was built for.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// How many members there are to pick from.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is nothing to pick.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Picks a member, by its index in the list that the table was built from. `None` only if every
    /// member is skipped.
    ///
    /// - `load`: requests in flight on a member;
    /// - `skip`: members to pass over: already tried for this request, or under suspicion;
    /// - `turn`: a counter that goes up by one with every pick; read by [`Policy::RoundRobin`] only;
    /// - `hash`: of whatever a client is to be recognised by; read by [`Policy::IpHash`] only.
    pub fn pick(
        &self,
        load: impl Fn(usize) -> u32,
        skip: impl Fn(usize) -> bool,
        rng: &mut fastrand::Rng,
        turn: u64,
        hash: u64,
    ) -> Option<usize> {
        match &self.plan {
            _ if self.is_empty() => None,
            Plan::LeastOfAll => self.least_of_all(load, skip, rng),
            Plan::LeastOfSample(draws) => self.least_of_sample(draws, load, skip, rng),
            Plan::LeastOfTwo(draws) => self.least_of_two(draws, load, skip, rng),
            Plan::Rotation(rotation) => rotation.pick(turn, &skip).or_else(|| self.any(rng, &skip)),
            Plan::Rendezvous { equal } => rendezvous(&self.members, *equal, hash, skip),
            Plan::Maglev(table) => table.pick(hash, skip),
        }
    }

    fn least_of_all(
        &self,
        load: impl Fn(usize) -> u32,
        skip: impl Fn(usize) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let mut best: Option<Loaded> = None;
        // Weight of all that share the lowest load so far. The next of them replaces the one held
        // with its share of that weight, which comes out as one fair draw among them all.
        let mut tied: u64 = 0;
        for i in (0..self.len()).filter(|&i| !skip(i)) {
            let this = self.loaded(i, &load);
            match best.as_ref().map_or(Ordering::Less, |best| this.compare(best)) {
                Ordering::Greater => continue,
                Ordering::Less => tied = this.weight,
                Ordering::Equal => {
                    tied += this.weight;
                    if rng.u64(..tied) >= this.weight {
                        continue;
                    }
                }
            }
            best = Some(this);
        }
        best.map(|best| best.index)
    }

    fn least_of_sample(
        &self,
        draws: &Draws,
        load: impl Fn(usize) -> u32,
        skip: impl Fn(usize) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        // On a tie the first drawn stays: the draws are weighted already.
        (0..SAMPLE)
            .map(|_| draws.at(rng.u64(..)))
            .filter(|&i| !skip(i))
            .map(|i| self.loaded(i, &load))
            .reduce(Loaded::lower)
            .map(|best| best.index)
            .or_else(|| self.any(rng, &skip))
    }

    fn least_of_two(
        &self,
        draws: &Draws,
        load: impl Fn(usize) -> u32,
        skip: impl Fn(usize) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let mut draw = |skip: &dyn Fn(usize) -> bool| {
            (0..SAMPLE)
                .map(|_| draws.at(rng.u64(..)))
                .find(|&i| !skip(i))
                .or_else(|| self.any(rng, skip))
        };
        let first = draw(&skip)?;
        // A second draw of the same member would be no choice at all.
        let Some(second) = draw(&|i| i == first || skip(i)) else { return Some(first) };
        Some(self.loaded(first, &load).lower(self.loaded(second, &load)).index)
    }

    /// The first member that is not skipped, from a random one on.
    fn any(&self, rng: &mut fastrand::Rng, skip: impl Fn(usize) -> bool) -> Option<usize> {
        from(self.len(), rng.u64(..)).find(|&i| !skip(i))
    }

    fn loaded(&self, index: usize, load: impl Fn(usize) -> u32) -> Loaded {
        Loaded { index, load: load(index), weight: u64::from(self.members[index].weight) }
    }
}

/// What least connections and random of two compare members by: the lowest is picked. The load that
/// one more request would make, for the weight; 0 if it is idle.
#[must_use]
pub fn score(load: u32, weight: u32) -> f64 {
    let weight = u64::from(weight.max(1));
    Loaded { index: 0, load, weight }.next() as f64 / weight as f64
}

/// A member as it compares with others.
struct Loaded {
    index: usize,
    load: u32,
    weight: u64,
}

impl Loaded {
    /// By the load that each would have with one more request, for its weight. Idle members are
    /// equal whatever they weigh: at low traffic, weights are shares too, and not "all to the
    /// heaviest".
    fn compare(&self, other: &Self) -> Ordering {
        (self.next() * other.weight).cmp(&(other.next() * self.weight))
    }

    fn next(&self) -> u64 {
        if self.load == 0 { 0 } else { u64::from(self.load) + 1 }
    }

    /// The one that compares lower, `self` if neither does. Which one it is nobody can foresee, and
    /// a mispredicted branch would cost more than all the rest, and hold up the next load.
    fn lower(self, other: Self) -> Self {
        let other_is_lower = other.compare(&self) == Ordering::Less;
        Self {
            index: select_unpredictable(other_is_lower, other.index, self.index),
            load: select_unpredictable(other_is_lower, other.load, self.load),
            weight: select_unpredictable(other_is_lower, other.weight, self.weight),
        }
    }
}

#[cfg(test)]
mod tests;
