//! The judgement of all backends of one set against each other.

mod all_fail;
mod slow;

use std::time::Duration;

pub use all_fail::{AllFail, all_fail};
use slow::median;

use super::latency::Latencies;
use super::streak::Alarm;
use super::traffic::{SLICES, Slice, Tally, Traffic, slice_length, slot};
use super::{Mode, Settings};
use crate::health::reason::EjectionReason;

/// Failing this share of the latest requests is plain illness: no need to wait until they are a
/// share of the whole window.
const PLAIN: f64 = 0.5;
/// Broken-off responses that may be held against a backend before its rate is looked at. Each was
/// seen by a client, so this number is small.
const BROKEN_OFF: u64 = 5;
/// A broken-off response weighs as much as so many failures: those are hidden by retries.
const BROKEN_OFF_WEIGHT: f64 = 4.0;
/// A healthy backend may seem to break off too much by chance once in so many broken-off responses, as
/// a power of e.
const CERTAINTY_BROKEN_OFF: f64 = 9.0;

/// A backend before its judges.
#[derive(Debug)]
pub struct Peer<'a> {
    /// Its traffic, [observed](Traffic::observe) just now.
    pub traffic: &'a mut Traffic,
    /// It takes requests or would take them if there were more, as a backup: it is neither
    /// unhealthy, ejected, nor taken out by hand.
    pub in_service: bool,
}

/// Something that speaks against a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Its place among the peers.
    pub member: usize,
    /// What it is.
    pub reason: EjectionReason,
    /// What is to follow.
    pub action: Action,
}

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is to be ejected.
    Eject,
    /// It may not be ejected: to be reported only.
    Withheld(Withheld),
    /// It would have been ejected, but the mode is to observe: to be reported only.
    Observed,
    /// It is slow, and gets less of its share for that: to be reported only.
    Spared,
}

/// Why a backend is not ejected though something speaks against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Its set has no other.
    Only,
    /// All others are out.
    Last,
    /// [`Settings::max_ejected`] lets no more be out.
    Share,
}

/// Whether one more backend may be ejected, of a set of `total` in which `already_out` take no
/// traffic, for whatever reason. The share that is out, a fraction of the set, may not come to
/// exceed `max_share`, and the last usable backend stays whatever the share.
#[must_use]
pub fn may_eject(total: usize, already_out: usize, max_share: f64) -> bool {
    let out = already_out.saturating_add(1);
    // A hair more than the share, so that 20 % of 5 is 1 in binary fractions too.
    out < total && out as f64 <= max_share * total as f64 + 1e-9
}

/// Judges all backends of a set; to be called at every tick. Findings come the worst first.
///
/// What is to be read off a [`Traffic`] (share, lateness, how the siblings are) is as of the last
/// judgement.
pub fn judge(now: Duration, settings: &Settings, peers: &mut [Peer<'_>]) -> Vec<Finding> {
    for peer in peers.iter_mut() {
        peer.traffic.enforced = settings.mode == Mode::Enforce;
        if peer.in_service && !peer.traffic.in_service {
            peer.traffic.come_back();
        }
        peer.traffic.in_service = peer.in_service;
    }
    let court = Court::new(now, settings, peers);
    let late_after = peers.iter().filter_map(|peer| court.limit(peer)).min();
    let (mut found, mut spared) = (Vec::new(), Vec::new());
    for (member, peer) in peers.iter_mut().enumerate().filter(|(_, peer)| peer.in_service) {
        peer.traffic.siblings_well = court.rest_fails(peer.traffic) < settings.failure_rate;
        peer.traffic.late_after = late_after;
        if settings.mode == Mode::Off {
            continue;
        }
        let slow = court.slow(now, peer.traffic);
        let sign = court.failing(peer.traffic).or_else(|| court.breaking_off(peer.traffic));
        match (sign, slow) {
            (None, Some(((_, reason), false))) => spared.push((member, reason)),
            (sign, slow) => {
                let sign = sign.or(slow.map(|(sign, _)| sign));
                found.extend(sign.map(|(badness, reason)| (badness, member, reason)));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut docket = Docket::new(peers);
    let mut findings: Vec<Finding> = found
        .into_iter()
        .filter_map(|(_, member, reason)| docket.decide(now, settings, peers, member, reason))
        .collect();
    if settings.mode == Mode::Enforce {
        let spared = spared.into_iter().filter(|(member, _)| peers[*member].traffic.speaks(now));
        let action = Action::Spared;
        findings.extend(spared.map(|(member, reason)| Finding { member, reason, action }));
    }
    findings
}

/// Judges one backend for what a worker has told at once. [`Alarm::BrokeOff`] is judged by the
/// totals, so they are to be summed and observed anew before.
pub fn judge_alarm(
    now: Duration,
    settings: &Settings,
    peers: &mut [Peer<'_>],
    member: usize,
    alarm: Alarm,
) -> Option<Finding> {
    if settings.mode == Mode::Off || !peers.get(member)?.in_service {
        return None;
    }
    let court = Court::new(now, settings, peers);
    let traffic = &*peers.get(member)?.traffic;
    let reason = match alarm {
        Alarm::BrokeOff => court.breaking_off(traffic)?.1,
        // Were it ejected, its requests would fail elsewhere.
        _ if court.rest_fails(traffic) >= PLAIN => return None,
        Alarm::Failures(run) => EjectionReason::ConsecutiveFailures(run),
        Alarm::BrokenOff(run) => EjectionReason::BrokenOffInARow(run),
    };
    Docket::new(peers).decide(now, settings, peers, member, reason)
}

/// How many are in, and how many more may go.
struct Docket {
    out: usize,
}

impl Docket {
    fn new(peers: &[Peer<'_>]) -> Self {
        Self { out: peers.iter().filter(|peer| !peer.in_service).count() }
    }

    fn decide(
        &mut self,
        now: Duration,
        settings: &Settings,
        peers: &mut [Peer<'_>],
        member: usize,
        reason: EjectionReason,
    ) -> Option<Finding> {
        let action = match settings.mode {
            Mode::Off => return None,
            Mode::Observe => Action::Observed,
            Mode::Enforce if may_eject(peers.len(), self.out, settings.max_ejected) => {
                Action::Eject
            }
            Mode::Enforce if peers.len() <= 1 => Action::Withheld(Withheld::Only),
            Mode::Enforce if self.out + 1 >= peers.len() => Action::Withheld(Withheld::Last),
            Mode::Enforce => Action::Withheld(Withheld::Share),
        };
        let traffic = &mut *peers.get_mut(member)?.traffic;
        if action == Action::Eject {
            self.out += 1;
            traffic.pace.on_ejected(reason.is_slowness());
        } else {
            if !traffic.speaks(now) {
                return None;
            }
        }
        Some(Finding { member, reason, action })
    }
}

/// The sums over all peers in service, from which those of "the rest" follow by taking one away.
struct Court<'a> {
    settings: &'a Settings,
    slot: u64,
    /// By age, of the slices up to so many slots ago.
    tallies: [Tally; SLICES as usize],
    /// Of those that have one, ascending.
    medians: Vec<Duration>,
    /// By age, too; only there if somebody seems slow, as it is the greatest part of the work.
    latencies: Vec<Latencies>,
}

/// How bad it is, to be compared with other signs, and what it is.
type Sign = (f64, EjectionReason);

impl<'a> Court<'a> {
    fn new(now: Duration, settings: &'a Settings, peers: &[Peer<'_>]) -> Self {
        let slot = slot(now, slice_length(settings.window));
        let mut tallies = [Tally::default(); SLICES as usize];
        let mut medians = Vec::new();
        for peer in peers.iter().filter(|peer| peer.in_service) {
            for slice in peer.traffic.latest_first() {
                tallies[age_of(slice.slot, slot)].add(&slice.tally);
            }
            medians.extend(median(peer.traffic));
        }
        for age in 1..tallies.len() {
            let younger = tallies[age - 1];
            tallies[age].add(&younger);
        }
        medians.sort_unstable();
        let mut court = Self { settings, slot, tallies, medians, latencies: Vec::new() };
        if peers.iter().any(|peer| peer.in_service && court.may_be_slow(peer.traffic)) {
            court.latencies = court.pooled_latencies(peers);
        }
        court
    }

    fn pooled_latencies(&self, peers: &[Peer<'_>]) -> Vec<Latencies> {
        let mut latencies = vec![Latencies::default(); SLICES as usize];
        for peer in peers.iter().filter(|peer| peer.in_service) {
            for slice in peer.traffic.latest_first() {
                latencies[self.age(slice.slot)].merge(&slice.latencies);
            }
        }
        for age in 1..latencies.len() {
            let (younger, older) = latencies.split_at_mut(age);
            older[0].merge(&younger[age - 1]);
        }
        latencies
    }

    /// What its siblings did since a slot.
    fn rest(&self, own: &Traffic, since: u64) -> Tally {
        self.tallies[self.age(since)].without(&own.tally_since(since))
    }

    fn age(&self, since: u64) -> usize {
        age_of(since, self.slot)
    }

    /// The share of its siblings' latest requests that failed. Few requests are no bad sign.
    fn rest_fails(&self, own: &Traffic) -> f64 {
        let enough = u64::from(self.settings.min_requests.max(1));
        let ages = 0..SLICES.min(self.slot + 1);
        let mut rests = ages.map(|age| self.rest(own, self.slot - age));
        let last = self.rest(own, 0);
        let rest = rests.find(|rest| rest.requests >= enough).unwrap_or(last);
        rest.failures as f64 / rest.requests.max(enough) as f64
    }

    /// Too many of its requests fail, and more than of its siblings'.
    fn failing(&self, own: &Traffic) -> Option<Sign> {
        let settings = self.settings;
        let enough = u64::from(settings.min_requests.max(1));
        let latest = own.slot_with(enough, |slice: &Slice| slice.tally.requests)?;
        let looks = [(latest, settings.failure_rate.max(PLAIN)), (0, settings.failure_rate)];
        looks.into_iter().find_map(|(since, threshold)| {
            let (tally, rest) = (own.tally_since(since), self.rest(own, since));
            let rate = tally.failures as f64 / tally.requests as f64;
            let relative = settings.failure_factor * cautious(rest.failures, rest.requests);
            (rate >= threshold && rate >= relative).then_some((
                2.0 + rate,
                EjectionReason::FailureRate {
                    failed: tally.failures,
                    requests: tally.requests,
                    rest_failed: rest.failures,
                    rest_requests: rest.requests,
                },
            ))
        })
    }

    /// Too many of its responses break off, and more than of its siblings'.
    fn breaking_off(&self, own: &Traffic) -> Option<Sign> {
        let since = own.slot_with(BROKEN_OFF, |slice: &Slice| slice.tally.broken_off)?;
        let (tally, rest) = (own.tally_since(since), self.rest(own, since));
        let whole = self.rest(own, 0);
        let share = tally.broken_off as f64 / tally.bodies.max(1) as f64;
        // Few requests may look better than they are: the worse of the two counts.
        let usual =
            cautious(rest.broken_off, rest.bodies).max(cautious(whole.broken_off, whole.bodies));
        let threshold = self.settings.failure_rate / BROKEN_OFF_WEIGHT;
        let relative = share >= self.settings.failure_factor * usual
            && surprise(share, usual) * tally.bodies as f64 >= CERTAINTY_BROKEN_OFF;
        (share >= threshold && relative).then_some((
            2.0 + share * BROKEN_OFF_WEIGHT,
            EjectionReason::BrokenOff { broken_off: tally.broken_off, bodies: tally.bodies },
        ))
    }
}

/// How many slices ago one is, as an index.
fn age_of(slot: u64, now: u64) -> usize {
    now.saturating_sub(slot).min(SLICES - 1) as usize
}

/// A rate that is not trusted to be zero: half a failure more, of one request more.
fn cautious(failures: u64, requests: u64) -> f64 {
    (failures as f64 + 0.5) / (requests as f64 + 1.0)
}

/// How unlikely it is that a share so far above the usual one is chance, per observation
/// (Chernoff's bound): n observations have a chance of e to the -n times this.
fn surprise(share: f64, usual: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    let usual = usual.min(0.999);
    if share <= usual { 0.0 } else { part(share, usual) + part(1.0 - share, 1.0 - usual) }
}
