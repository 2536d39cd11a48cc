//! A version: one of a pool's backend sets, which of its members may be picked now, and the pick.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::backend::{Backend, BackendId, Slot};
use super::shadow::Shadow;
use crate::balance::affinity::Affinity;
use crate::balance::{
    self, AllDown, Candidates, Condition, Draw, MemberView, Policy, Tier, usable,
};

/// A backend as a member of a version.
#[derive(Clone, Debug)]
pub struct Member {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Its share relative to its siblings, at least 1.
    pub weight: u32,
    /// Takes traffic only when no primary can.
    pub backup: bool,
}

/// The rules by which members become usable and one of them is picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PickRules {
    /// How one is chosen.
    pub policy: Policy,
    /// Below this share of usable primaries health is ignored; 0 to 1.
    pub panic_threshold: f64,
    /// What to do when no member is usable.
    pub all_down: AllDown,
}

/// One of a pool's backend sets; a plain pool has one, without a name.
#[derive(Debug)]
pub struct Version {
    /// `blue`, `green`; empty on plain pools.
    pub name: Arc<str>,
    /// Every member, usable or not.
    pub members: Vec<Member>,
    /// When a member may be picked, and how.
    pub rules: PickRules,
    /// Which cookie stands for which member; absent without affinity.
    pub affinity: Option<Affinity>,
    /// What is wrong with all of them alike, in words for people, while it is so.
    pub ailment: ArcSwapOption<String>,
    usable: ArcSwap<UsableSet>,
    // Rebuilding reads the members' conditions and then publishes: of two at once the one with the
    // older view could publish last.
    rebuilding: Mutex<()>,
    turn: AtomicU64,
}

/// The members of a version that may be picked now.
pub struct UsableSet {
    /// Why these.
    pub tier: Tier,
    /// Indexes into the version's members, ascending; candidates are numbered by their place here.
    members: Box<[u32]>,
    candidates: Candidates,
}

impl std::fmt::Debug for UsableSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsableSet")
            .field("tier", &self.tier)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl UsableSet {
    fn compute(members: &[Member], rules: &PickRules) -> Self {
        let views: Vec<MemberView> = members
            .iter()
            .map(|member| MemberView {
                condition: member.backend.condition(),
                backup: member.backup,
            })
            .collect();
        let usable = usable(&views, rules.panic_threshold, rules.all_down);
        let candidates: Vec<balance::Member> = usable
            .indexes
            .iter()
            .map(|index| balance::Member {
                key: members[*index].backend.hash,
                weight: members[*index].weight,
            })
            .collect();
        let spared = usable.indexes.iter().enumerate();
        let spared = spared.filter(|(_, index)| members[**index].backend.is_spared());
        let spared = spared.map(|(place, _)| place);
        UsableSet {
            tier: usable.tier,
            // A pool has far fewer than 2^32 members: each is a line of a file.
            members: usable.indexes.iter().map(|index| *index as u32).collect(),
            candidates: Candidates::new(rules.policy, &candidates).sparing(spared),
        }
    }

    /// Whether this member, by its index in the version, may be picked.
    pub fn contains(&self, member: usize) -> bool {
        u32::try_from(member).is_ok_and(|member| self.members.binary_search(&member).is_ok())
    }

    /// How many members may be picked.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody may be picked.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl Version {
    /// A version whose usable set follows from its members' present conditions.
    pub fn new(
        name: Arc<str>,
        members: Vec<Member>,
        rules: PickRules,
        affinity: Option<Affinity>,
    ) -> Self {
        let usable = ArcSwap::from_pointee(UsableSet::compute(&members, &rules));
        Version {
            name,
            members,
            rules,
            affinity,
            ailment: ArcSwapOption::empty(),
            usable,
            rebuilding: Mutex::new(()),
            turn: AtomicU64::new(0),
        }
    }

    /// To be called by whoever changed a member's condition, or whether it is spared.
    pub fn rebuild(&self) {
        let _one_at_a_time = self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
        self.usable.store(Arc::new(UsableSet::compute(&self.members, &self.rules)));
    }

    /// The members that may be picked now.
    pub fn usable(&self) -> Arc<UsableSet> {
        self.usable.load_full()
    }

    /// Whether somebody well could be picked who is neither this backend nor has failed the request.
    pub fn has_other(&self, than: BackendId, tried: &[BackendId]) -> bool {
        let usable = self.usable.load();
        usable.members.iter().map(|index| &self.members[*index as usize].backend).any(|backend| {
            let fit = matches!(backend.condition(), Condition::Healthy | Condition::Checking);
            fit && backend.id != than && !tried.contains(&backend.id)
        })
    }

    /// Whether anybody may be picked who is not this backend, which may have left just now.
    pub fn offers_other(&self, than: BackendId) -> bool {
        let usable = self.usable.load();
        usable.members.iter().any(|index| self.members[*index as usize].backend.id != than)
    }

    /// Picks a member and takes a slot on it.
    ///
    /// # Errors
    /// If there is none to be had.
    pub fn pick(
        self: &Arc<Self>,
        wish: &PickWish<'_>,
        rng: &mut fastrand::Rng,
    ) -> Result<Picked, NotPicked> {
        let usable = self.usable.load();
        if usable.is_empty() {
            return Err(NotPicked::Nobody);
        }
        let turn = match self.rules.policy {
            Policy::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed),
            Policy::LeastConnections | Policy::RandomTwo | Policy::IpHash => 0,
        };
        loop {
            let member = self.choose(&usable, wish, turn, rng)?;
            // Somebody else may have been faster.
            if let Some(slot) = self.members[member].backend.take_slot() {
                let rebind = self.affinity.is_some() && wish.bound_to != Some(member);
                let choice = Choice { version: Arc::clone(self), member, rebind };
                return Ok(Picked { slot, choice, shadow: None });
            }
        }
    }

    /// Whom [`pick`](Self::pick) would choose, by index, for one request that comes now and for
    /// `ahead` of them. Takes no slot and no turn.
    ///
    /// # Errors
    /// As [`pick`](Self::pick).
    pub fn rehearse(
        &self,
        wish: &PickWish<'_>,
        ahead: u64,
        rng: &mut fastrand::Rng,
    ) -> Result<usize, NotPicked> {
        let usable = self.usable.load();
        if usable.is_empty() {
            return Err(NotPicked::Nobody);
        }
        let turn = self.turn.load(Ordering::Relaxed).wrapping_add(ahead);
        self.choose(&usable, wish, turn, rng)
    }

    /// The index of a member that had a slot a moment ago.
    fn choose(
        &self,
        usable: &UsableSet,
        wish: &PickWish<'_>,
        turn: u64,
        rng: &mut fastrand::Rng,
    ) -> Result<usize, NotPicked> {
        let backend = |place: usize| &self.members[usable.members[place] as usize].backend;
        if let Some(bound) = wish.bound_to
            && let Ok(place) = usable.members.binary_search(&(bound as u32))
            && !wish.tried.contains(&backend(place).id)
        {
            // What the client has there it has nowhere else: that is worth a wait.
            return if backend(place).is_full() { Err(NotPicked::BoundIsFull) } else { Ok(bound) };
        }
        let mut draw = |skip: &dyn Fn(&Backend) -> bool| {
            usable.candidates.pick_sparing(
                |place| backend(place).load(),
                |place| backend(place).weight_ratio(),
                |place| backend(place).is_full() || skip(backend(place)),
                Draw { rng, turn, hash: wish.hash },
            )
        };
        // Rather an untried one that is under suspicion than one that has failed this request; and
        // rather wait for it: what fails at once always has a slot.
        let tried = |backend: &Backend| wish.tried.contains(&backend.id);
        let untried = (0..usable.len()).any(|place| !tried(backend(place)));
        draw(&|backend| tried(backend) || backend.is_to_be_avoided())
            .or_else(|| draw(&tried))
            .or_else(|| if untried { None } else { draw(&|_| false) })
            .map(|place| usable.members[place] as usize)
            .ok_or(NotPicked::Full)
    }
}

/// What a request brings to the pick.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickWish<'a> {
    /// The member that an affinity cookie stands for.
    pub bound_to: Option<usize>,
    /// Of the client's address, for `ip_hash`.
    pub hash: u64,
    /// Backends that have failed this request.
    pub tried: &'a [BackendId],
}

/// Why nobody was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPicked {
    /// Nobody may be.
    Nobody,
    /// Everybody who may be is at the limit.
    Full,
    /// The one that the client is bound to is at the limit.
    BoundIsFull,
}

/// A picked backend.
#[derive(Debug)]
pub struct Picked {
    /// Its slot.
    pub slot: Slot,
    /// How it was found.
    pub choice: Choice,
    /// Drawn to be copied, if it is a request that may be.
    pub shadow: Option<Arc<Shadow>>,
}

/// Which member of which version was picked.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The version that it serves.
    pub version: Arc<Version>,
    /// Its index among the version's members.
    pub member: usize,
    /// The client has to be told its new backend by cookie.
    pub rebind: bool,
}
