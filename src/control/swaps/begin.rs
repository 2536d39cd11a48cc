//! How swaps begin: because somebody asks, or because they ran when the process ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Swaps;
use super::guarded::{Guarded, Kind, Running};
use super::kept::{self, KeptPool, KeptSwap};
use super::plan::plan;
use super::traffic::Traffic;
use super::view::{SwapId, SwapOptions, SwapRefused};
use crate::config::model;
use crate::control::compile::Generation;
use crate::deploy::{Event, Order, Phase, Standing, Swap};
use crate::state::Happening;

impl Swaps {
    /// Takes up what was kept of the last run, once the first configuration is in force: what served
    /// serves, and what ran goes on.
    pub(in crate::control) fn begin(&mut self, generation: &Generation) {
        let (kept, reports) = kept::load(&self.store);
        let is_lost = kept.is_err();
        let mut kept = kept.unwrap_or_default();
        let after = reports.iter().map(|report| report.order.id + 1).max();
        self.next_id = kept.next_id.max(after.unwrap_or(1)).max(1);
        for report in reports {
            self.handle.board().put_report(report);
        }
        for (name, config) in versioned(generation) {
            self.take_up(name, config, generation, kept.pools.remove(name));
            if is_lost {
                self.tell_loss(name, &config.active.value);
            }
        }
        self.writer.write_later(self.kept());
        self.publish();
    }

    /// The file of the swaps was of no use.
    fn tell_loss(&self, pool: &str, active: &str) {
        let words = format!("{active} serves, as the file says; what served before is not known");
        tracing::warn!(pool, "pool {pool}: {words}");
        self.tools.shared.feed.tell(Happening::Note { pool: Some(pool.into()), words });
    }

    /// Takes up a pool with versions.
    pub(super) fn take_up(
        &mut self,
        name: &str,
        config: &model::Pool,
        generation: &Generation,
        kept: Option<KeptPool>,
    ) {
        let Some((name, pool)) = generation.snapshot.pools.get_key_value(name) else { return };
        let active = &config.active.value;
        let (before, left, last, standing, running) = match kept {
            Some(KeptPool { standing, before, left, last, running }) => {
                (before, left, last, Some(standing), running)
            }
            None => (None, None, None, None, None),
        };
        let is_open = running.as_ref().is_some_and(|kept| kept.resume.report.outcome.is_none());
        let is_news = standing.as_ref().is_some_and(|kept| kept.wanted != *active);
        let served = standing.as_ref().map(|kept| kept.serving.clone());
        let (standing, warning) =
            Standing::at_start(standing, active, |name| config.versions.contains_key(name));
        // What serves is what the file wants, but a swap was leading away from it.
        let overruled = warning.is_some() || (is_open && is_news);
        // Nobody has checked what serves now, so that this is where to go back to.
        let (before, left) = if warning.is_some() { (served, None) } else { (before, left) };
        if let Some(words) = warning {
            tracing::warn!(pool = &**name, "{words}");
            self.tools.shared.feed.tell(Happening::Note { pool: Some(name.clone()), words });
        }
        let mut guarded = Guarded {
            pool: Arc::clone(pool),
            plan: plan(config),
            questions: generation.questions.get(name).cloned().unwrap_or_default(),
            before: before.filter(|before| config.versions.contains_key(before)),
            left: left.filter(|left| config.versions.contains_key(&left.version)),
            standing,
            running: None,
            trailing: Vec::new(),
            traffic: Traffic::default(),
            last: last.map(SwapId),
        };
        let serving = guarded.standing.serving.clone();
        guarded.split(&serving, &serving, 1.0);
        let is_on_its_way =
            running.as_ref().is_some_and(|kept| is_open && kept.resume.serving() == active);
        if serving != *active && (overruled || !is_on_its_way) {
            let words =
                format!("{serving} serves as before the restart, though the file wants {active}");
            tracing::warn!(pool = &**name, "{words}");
        }
        if let Some(running) = running {
            self.resume(&mut guarded, running, overruled);
        }
        self.pools.insert(Arc::clone(name), guarded);
    }

    /// Goes on with a swap that ran when the process ended, if its versions are still there and the
    /// file has not changed its mind; else it is given up.
    fn resume(&mut self, guarded: &mut Guarded, kept: KeptSwap, overruled: bool) {
        let KeptSwap { kind, mut resume } = kept;
        let (name, now) = (Arc::clone(&guarded.pool.name), self.now());
        let order = &mut resume.report.order;
        let is_there = |version: &String| guarded.version(version).is_some();
        let gone = [&order.from, &order.to].into_iter().find(|version| !is_there(version));
        let given_up = match gone {
            Some(version) => {
                Some(format!("{version} is not in the file any more since the restart"))
            }
            None if overruled => {
                Some(format!("the file wants {} since the restart", guarded.standing.wanted))
            }
            None => None,
        };
        order.backends = guarded.candidates(&order.to);
        let (from, to) = (order.from.clone(), order.to.clone());
        let phase = resume.phase.label();
        let (mut swap, commands) =
            Swap::resume(resume, kind.plan(&guarded.plan), now.uptime, now.epoch);
        let id = swap.order().id;
        let words = match &given_up {
            Some(why) => format!("swap {id} was in its {phase} when the process ended: {why}"),
            None => format!("swap {id} goes on after the restart, in its {phase}"),
        };
        tracing::warn!(pool = &*name, swap = id, "{words}");
        self.tools.shared.feed.tell(Happening::Note { pool: Some(Arc::clone(&name)), words });
        if let Some(why) = given_up {
            // From the gate once, from a share it takes a second time: there is nothing to wait for.
            swap.handle(now.uptime, Event::Cancel(why.clone()));
            swap.handle(now.uptime, Event::Cancel(why));
            if let Some(outcome) = swap.outcome() {
                guarded.pool.state.swaps.count(outcome);
            }
            self.handle.board().put_report(swap.report());
            return;
        }
        guarded.split(&from, &to, swap.share());
        guarded.running = Some(Running::new(swap, kind));
        guarded.note_decision(now);
        self.resumed.push((name, commands));
    }

    /// Begins a swap that somebody asks for.
    pub(in crate::control) async fn swap(
        &mut self,
        pool: &str,
        version: &str,
        options: SwapOptions,
    ) -> Result<SwapId, SwapRefused> {
        let name = self.find(pool)?;
        let now = self.tools.shared.uptime();
        let Some(guarded) = self.pools.get(&name) else { return Err(SwapRefused::Stopping) };
        if guarded.version(version).is_none() {
            let (pool, version) = (pool.to_owned(), version.to_owned());
            let known = guarded.names().join(", ");
            return Err(SwapRefused::UnknownVersion { pool, version, known });
        }
        let mut cancelled = None;
        if let Some(running) = &guarded.running {
            let id = SwapId(running.swap.order().id);
            if !options.replace {
                let state = running.swap.describe(now);
                return Err(SwapRefused::Running { id, state });
            }
            cancelled = Some(id);
            let by = &options.asked_by;
            self.give_up(&name, format!("replaced by a swap to {version}, asked by {by}")).await;
        }
        let serves = self.pools.get(&name).is_some_and(|pool| pool.standing.serving == version);
        match cancelled {
            // To give it up was all that there was to do.
            Some(cancelled) if serves => Ok(cancelled),
            None if serves => {
                Err(SwapRefused::Serves { pool: pool.to_owned(), version: version.to_owned() })
            }
            _ => Ok(self.start(&name, version, options.asked_by, Kind::Forward).await),
        }
    }

    /// Goes back because somebody asks.
    pub(in crate::control) async fn roll_back(
        &mut self,
        pool: &str,
        force: bool,
        asked_by: String,
    ) -> Result<SwapId, SwapRefused> {
        let name = self.find(pool)?;
        let Some(guarded) = self.pools.get(&name) else { return Err(SwapRefused::Stopping) };
        let words = format!("by hand, asked by {asked_by}");
        let serving = &guarded.standing.serving;
        match &guarded.running {
            Some(Running { swap, kind, .. }) if swap.outcome().is_none() => {
                let id = SwapId(swap.order().id);
                match kind {
                    Kind::Forward => {
                        self.happened(&name, Event::RollBack(words)).await;
                        self.publish();
                        return Ok(id);
                    }
                    // It may go on without what it waits for.
                    Kind::Back if force && swap.phase() == Phase::Gate => {}
                    // It is on its way there.
                    Kind::Back | Kind::Forced => return Ok(id),
                }
            }
            _ => {
                let left = guarded.left.as_ref().filter(|left| left.version != *serving);
                if let Some(done) = left.and_then(|left| guarded.done_already(left, force)) {
                    return Err(done);
                }
            }
        }
        let before = guarded.before.clone();
        let before = before.filter(|it| it != serving && guarded.version(it).is_some());
        let before = before.ok_or_else(|| SwapRefused::NothingBefore(pool.to_owned()))?;
        // A way back that is forced, or a drain that another one waits for.
        if guarded.running.is_some() {
            self.give_up(&name, format!("{words}: back to {before}")).await;
        }
        let kind = if force { Kind::Forced } else { Kind::Back };
        Ok(self.start(&name, &before, asked_by, kind).await)
    }

    /// Gives up the swap of a pool and does not wait for what it would still wait for.
    pub(super) async fn give_up(&mut self, name: &Arc<str>, why: String) {
        // Where it is in its ramp or watch, the first ends that and the second the drain after it.
        for _ in 0..2 {
            self.happened(name, Event::Cancel(why.clone())).await;
        }
    }

    pub(super) async fn start(
        &mut self,
        name: &Arc<str>,
        to: &str,
        asked_by: String,
        kind: Kind,
    ) -> SwapId {
        let (id, now) = (self.next_id, self.now());
        self.next_id += 1;
        let Some(guarded) = self.pools.get_mut(name) else { return SwapId(id) };
        let order = Order {
            id,
            pool: name.to_string(),
            from: guarded.standing.serving.clone(),
            to: to.to_owned(),
            back: kind != Kind::Forward,
            asked_by,
            backends: guarded.candidates(to),
        };
        let (swap, commands) = Swap::start(order, kind.plan(&guarded.plan), now.uptime, now.epoch);
        guarded.running = Some(Running::new(swap, kind));
        guarded.last = Some(SwapId(id));
        guarded.note_decision(now);
        self.obey(name, commands).await;
        self.next_look = self.next_look.min(Instant::now() + Duration::from_millis(1));
        self.publish();
        SwapId(id)
    }

    fn find(&self, pool: &str) -> Result<Arc<str>, SwapRefused> {
        if self.tools.shared.lifecycle.stopping() {
            return Err(SwapRefused::Stopping);
        }
        if let Some((name, _)) = self.pools.get_key_value(pool) {
            return Ok(Arc::clone(name));
        }
        let snapshot = self.tools.shared.snapshot.load();
        if snapshot.pools.contains_key(pool) {
            return Err(SwapRefused::NoVersions(pool.to_owned()));
        }
        let known: Vec<&str> = snapshot.pools.keys().map(|name| &**name).collect();
        let (pool, known) = (pool.to_owned(), known.join(", "));
        Err(SwapRefused::UnknownPool { pool, known })
    }
}

/// The pools of a configuration that have versions.
pub(super) fn versioned(generation: &Generation) -> impl Iterator<Item = (&str, &model::Pool)> {
    let pools = generation.config.pools.iter();
    pools.filter(|(_, pool)| is_versioned(pool)).map(|(name, pool)| (name.as_str(), pool))
}

/// Whether a pool has versions, be it one.
pub(super) fn is_versioned(pool: &model::Pool) -> bool {
    !pool.versions.contains_key("")
}
