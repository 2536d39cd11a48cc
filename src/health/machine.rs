//! The state machine of one backend's health.
//!
//! Two things are known of a backend: the verdict of its probes, and whether real traffic had it
//! ejected. They are kept apart, so that neither can undo the other: probes that pass all the time do
//! not cut an ejection short, since they do not see what traffic sees, and the end of an ejection does
//! not bring back a backend that fails its probes. Where probes came to see the trouble too, the
//! passes that bring the backend back end the ejection with it: a process that was restarted serves
//! again as soon as it is well. The state is read off both, failing probes first. Above them stands
//! what an operator has decided, and between them whether the backend itself asks for no more
//! requests.

use std::time::{Duration, SystemTime};

use super::expect::ProbeFailure;
use super::flaps::{FlapGuard, FlapSettings, Hold};
use super::reason::{EjectionReason, Reason};

/// Thresholds of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Passes in a row that bring an unhealthy backend back; 0 counts as 1.
    pub rise: u32,
    /// Failures in a row that take a backend out; 0 counts as 1.
    pub fall: u32,
    /// How long the first ejection lasts; a repeated one that many times longer.
    pub base_ejection: Duration,
    /// No ejection lasts longer.
    pub max_ejection: Duration,
    /// When it is held down for going up and down too often.
    pub flaps: FlapSettings,
}

/// What a backend is, by its probes and its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No verdict yet.
    Checking,
    /// Its probes pass.
    Healthy,
    /// Its probes fail.
    Unhealthy,
    /// Taken out for what its traffic showed.
    Ejected {
        /// When it comes back, since the process started.
        until: Duration,
    },
    /// It asks to be drained: nothing new, unless there is nobody else.
    Leaving,
    /// By hand: it finishes what it has and takes nothing new.
    Draining,
    /// By hand: out, and not even probed.
    Disabled,
}

/// What an operator can decide about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// It is to finish what it has and to get nothing new.
    Drained,
    /// The same, and it is not probed.
    Disabled,
}

/// What an operator has decided, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByHand {
    /// What.
    pub hand: Hand,
    /// When, by the clock of the system, since it may outlive the process.
    pub since: SystemTime,
}

impl State {
    /// The word for it in metrics, logs and answers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected { .. } => "ejected",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// A change of state, to be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why.
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Checking,
    Healthy,
    Unhealthy,
}

/// Service without an ejection that makes up for one earlier ejection, at least.
const FORGIVENESS: Duration = Duration::from_secs(60);
/// Probes follow each other at least this far apart when a verdict is in the making.
const FASTEST: Duration = Duration::from_millis(100);

/// The health of one backend.
#[derive(Clone, Debug)]
pub struct Health {
    settings: Settings,
    verdict: Verdict,
    /// Outcomes in a row that speak against the verdict.
    against: u32,
    /// A probe has come back since the check was defined.
    probed: bool,
    ejected_until: Option<Duration>,
    /// Ejections not made up for yet.
    repeats: u32,
    /// When the last ejection ended, or when service that makes up for the next one began.
    in_service_since: Duration,
    since: Duration,
    flaps: FlapGuard,
    hold: Option<Hold>,
    leaving: bool,
    by_hand: Option<ByHand>,
}

impl Health {
    /// A backend of which nothing is known.
    #[must_use]
    pub fn new(settings: Settings, now: Duration) -> Self {
        Self {
            settings,
            verdict: Verdict::Checking,
            against: 0,
            probed: false,
            ejected_until: None,
            repeats: 0,
            in_service_since: now,
            since: now,
            flaps: FlapGuard::default(),
            hold: None,
            leaving: false,
            by_hand: None,
        }
    }

    /// A backend whose verdict was kept across a restart, see [`restore`](Self::restore).
    #[must_use]
    pub fn restored(settings: Settings, healthy: bool, now: Duration) -> Self {
        let mut health = Self::new(settings, now);
        health.restore(now, healthy);
        health
    }

    /// What it is.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.by_hand.map(|by_hand| by_hand.hand), self.verdict, self.ejected_until) {
            (Some(Hand::Drained), ..) => State::Draining,
            (Some(Hand::Disabled), ..) => State::Disabled,
            (None, Verdict::Unhealthy, _) => State::Unhealthy,
            _ if self.leaving => State::Leaving,
            (None, _, Some(until)) => State::Ejected { until },
            (None, Verdict::Healthy, None) => State::Healthy,
            (None, Verdict::Checking, None) => State::Checking,
        }
    }

    /// Whether it is sound, whatever was decided about it: its probes pass, and its traffic goes well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.verdict == Verdict::Healthy && self.ejected_until.is_none()
    }

    /// The verdict of its probes, if there is one: whether they pass.
    #[must_use]
    pub fn verdict(&self) -> Option<bool> {
        (self.verdict != Verdict::Checking).then_some(self.verdict == Verdict::Healthy)
    }

    /// What an operator has decided about it.
    #[must_use]
    pub fn by_hand(&self) -> Option<ByHand> {
        self.by_hand
    }

    /// Since when it is what it is.
    #[must_use]
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Ejections that were not made up for by good service yet.
    #[must_use]
    pub fn repeats(&self) -> u32 {
        self.repeats
    }

    /// Until when it is held down for going up and down too often, if it is.
    #[must_use]
    pub fn held_until(&self, now: Duration) -> Option<Duration> {
        self.hold.map(|hold| hold.until).filter(|until| now < *until)
    }

    /// Takes the outcome of a probe.
    ///
    /// The first pass is a verdict at once (a backend that never served has nothing to make up
    /// for), while the first bad verdict needs `fall` failures like every other, since one probe
    /// may be lost on the way. After that, `rise` passes or `fall` failures in a row turn it round;
    /// one that is [held down](Self::held_until) comes back with the first pass after that. Who comes
    /// back from failing probes is ejected no more.
    pub fn on_probe(
        &mut self,
        now: Duration,
        outcome: Result<(), ProbeFailure>,
    ) -> Option<Transition> {
        self.probed = true;
        let (verdict, needed) = match (&outcome, self.verdict) {
            (Ok(()), Verdict::Healthy) | (Err(_), Verdict::Unhealthy) => {
                self.against = 0;
                return None;
            }
            (Ok(()), Verdict::Checking) => (Verdict::Healthy, 1),
            (Ok(()), Verdict::Unhealthy) => (Verdict::Healthy, self.settings.rise),
            (Err(_), _) => (Verdict::Unhealthy, self.settings.fall),
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed || (outcome.is_ok() && self.held_until(now).is_some()) {
            return None;
        }
        let served = self.verdict == Verdict::Healthy;
        self.hold = match outcome {
            Err(_) if served => self.flaps.on_down(now, &self.settings.flaps),
            _ => None,
        };
        let reason = match outcome {
            Ok(()) => Reason::Passed { passes: self.against },
            Err(last) => Reason::Failed { failures: self.against, last, hold: self.hold },
        };
        self.change(now, reason, |health| {
            if health.verdict == Verdict::Unhealthy && health.ejected_until.take().is_some() {
                health.in_service_since = now;
            }
            health.verdict = verdict;
            health.against = 0;
            health.leaving &= verdict == Verdict::Healthy;
        })
    }

    /// Takes what an answer to a probe said about being drained. A probe without an answer says
    /// nothing: whoever asked to be let go and then went has not changed his mind.
    pub fn on_wish(&mut self, now: Duration, leaving: bool) -> Option<Transition> {
        let reason = if leaving { Reason::AsksToBeDrained } else { Reason::AsksNoMore };
        self.change(now, reason, |health| health.leaving = leaving)
    }

    /// Takes a decision of an operator, or that the one before no longer holds. Of one that was
    /// disabled nothing is known any more: it was not probed.
    pub fn on_hand(&mut self, now: Duration, by_hand: Option<ByHand>) -> Option<Transition> {
        let before = self.by_hand;
        self.change(now, Reason::ByHand(by_hand.map(|by_hand| by_hand.hand)), |health| {
            health.by_hand = by_hand;
            if before.is_some_and(|before| before.hand == Hand::Disabled) {
                health.verdict = Verdict::Checking;
                health.leaving = false;
                health.ejected_until = None;
                health.against = 0;
                health.probed = false;
            }
        })
    }

    /// Takes the verdict that was kept over a restart, if there is none yet. It holds until probes
    /// say otherwise.
    pub fn restore(&mut self, now: Duration, healthy: bool) -> Option<Transition> {
        if self.verdict != Verdict::Checking {
            return None;
        }
        self.change(now, Reason::Restored { healthy }, |health| {
            health.verdict = if healthy { Verdict::Healthy } else { Verdict::Unhealthy };
        })
    }

    /// Ejects it for what its traffic showed. Does nothing if it is out already: answers that come
    /// in late must not make an ejection longer.
    pub fn on_ejection(&mut self, now: Duration, reason: EjectionReason) -> Option<Transition> {
        if self.ejected_until.is_some() || self.verdict == Verdict::Unhealthy {
            return None;
        }
        self.forgive(now);
        self.repeats = self.repeats.saturating_add(1);
        self.eject(now, reason, self.ejection())
    }

    /// Ejects it for this long, whatever it did before.
    pub fn eject(
        &mut self,
        now: Duration,
        reason: EjectionReason,
        length: Duration,
    ) -> Option<Transition> {
        self.change(now, Reason::Ejected { reason, length }, |health| {
            health.ejected_until = Some(now.saturating_add(length));
        })
    }

    /// Ends an ejection that is over. To be called at [`ends_at`](Self::ends_at), or often enough.
    pub fn on_time(&mut self, now: Duration) -> Option<Transition> {
        let until = self.ejected_until.filter(|until| *until <= now)?;
        self.change(now, Reason::EjectionOver, |health| {
            health.ejected_until = None;
            health.in_service_since = until;
        })
    }

    /// Forgets what its traffic showed: from now on others judge whether it is fit. An ejection ends,
    /// and the next one is as long as the first.
    pub fn forget_ejections(&mut self, now: Duration) -> Option<Transition> {
        self.repeats = 0;
        self.change(now, Reason::EjectionForgotten, |health| health.ejected_until = None)
    }

    /// When [`on_time`](Self::on_time) has something to do, if ever.
    #[must_use]
    pub fn ends_at(&self) -> Option<Duration> {
        self.ejected_until
    }

    /// The definition of its check changed: it stays what it is, but what counted towards the next
    /// verdict no longer does, and the next probe is due at once.
    pub fn reverify(&mut self, settings: Settings) {
        self.settings = settings;
        self.against = 0;
        self.probed = false;
    }

    /// How long to wait for the next probe, after the last one came back. `random` is uniform in
    /// 0.0..1.0.
    ///
    /// The first is due at once. Then `interval`, give or take 20 % so that balancers and backends
    /// do not fall into step; and a quarter of it (though at least 100 ms) while a verdict is in the
    /// making, so that it comes soon.
    #[must_use]
    pub fn next_probe_delay(&self, interval: Duration, random: f64) -> Duration {
        if !self.probed {
            return Duration::ZERO;
        }
        let pending =
            self.against > 0 && (self.hold.is_none() || self.against < self.settings.rise);
        let undecided = self.verdict == Verdict::Checking || pending;
        let beat = if undecided { (interval / 4).max(FASTEST).min(interval) } else { interval };
        beat.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
    }

    fn change(
        &mut self,
        now: Duration,
        reason: Reason,
        apply: impl FnOnce(&mut Self),
    ) -> Option<Transition> {
        let from = self.state();
        apply(self);
        let to = self.state();
        if from == to {
            return None;
        }
        self.since = now;
        Some(Transition { from, to, reason })
    }

    /// How long an ejection lasts with the present number of repeats.
    fn ejection(&self) -> Duration {
        self.settings.base_ejection.saturating_mul(self.repeats).min(self.settings.max_ejection)
    }

    /// Forgets one repeat for every stretch of service as long as the ejection that it earned, and
    /// no shorter than [`FORGIVENESS`].
    fn forgive(&mut self, now: Duration) {
        // More repeats than reach the longest ejection would only take longer to make up for.
        let base = self.settings.base_ejection.as_nanos().max(1);
        let reach = self.settings.max_ejection.as_nanos().div_ceil(base);
        self.repeats = self.repeats.min(u32::try_from(reach).unwrap_or(u32::MAX));
        while self.repeats > 0 {
            let stretch = self.ejection().max(FORGIVENESS);
            if now.saturating_sub(self.in_service_since) < stretch {
                break;
            }
            self.in_service_since += stretch;
            self.repeats -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
