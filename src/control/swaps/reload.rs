//! What a reload means for swaps: a changed `active` starts one, and nothing else does. What serves is
//! left alone by every other change.

use std::sync::Arc;

use super::Swaps;
use super::begin::versioned;
use super::guarded::Kind;
use super::plan::plan;
use super::view::SwapId;
use crate::config::model;
use crate::control::compile::Generation;
use crate::control::handle::StartedSwap;
use crate::deploy::{Event, Reloaded, Standing, Wish};
use crate::state::Happening;

/// What a reload came to.
#[derive(Debug, Default)]
pub(in crate::control) struct Followed {
    /// Swaps that it started.
    pub(in crate::control) started: Vec<StartedSwap>,
    /// Versions that served and have left the file, in words.
    pub(in crate::control) lost: Vec<String>,
    /// What became of swaps that ran, in words.
    pub(in crate::control) changes: Vec<String>,
    /// Pools where another version serves than the file wants, in words.
    pub(in crate::control) overrides: Vec<String>,
}

impl Swaps {
    /// Follows a configuration that has come into force by a reload.
    pub(in crate::control) async fn reloaded(&mut self, generation: &Generation) -> Followed {
        let mut followed = Followed::default();
        let stays = |name: &str| versioned(generation).any(|(known, _)| known == name);
        let gone: Vec<Arc<str>> = self.pools.keys().filter(|name| !stays(name)).cloned().collect();
        for name in gone {
            self.give_up(&name, "the pool is not in the file any more".to_owned()).await;
            self.pools.remove(&name);
        }
        for (name, config) in versioned(generation) {
            match self.pools.get_key_value(name).map(|(name, _)| Arc::clone(name)) {
                None => self.take_up(name, config, generation, None),
                Some(name) => self.follow(&name, config, generation, &mut followed).await,
            }
        }
        // Who reloads by a signal reads the log.
        followed.changes.iter().for_each(|words| tracing::info!("{words}"));
        self.writer.write(self.kept(), None).await;
        self.publish();
        followed
    }

    async fn follow(
        &mut self,
        name: &Arc<str>,
        config: &model::Pool,
        generation: &Generation,
        followed: &mut Followed,
    ) {
        let active = &config.active.value;
        let Some(guarded) = self.pools.get_mut(name) else { return };
        if let Some(pool) = generation.snapshot.pools.get(name) {
            guarded.pool = Arc::clone(pool);
        }
        guarded.plan = plan(config);
        guarded.questions = generation.questions.get(name).cloned().unwrap_or_default();
        let event = guarded.running.as_ref().map(|running| {
            let order = running.swap.order();
            let is_there = |version: &str| guarded.version(version).is_some();
            Event::Reloaded(Reloaded {
                active: (guarded.standing.wanted != *active).then(|| active.clone()),
                candidate: is_there(&order.to).then(|| guarded.candidates(&order.to)),
                has_old: is_there(&order.from),
                plan: running.kind.plan(&guarded.plan),
            })
        });
        if let Some(event) = event {
            let notes = self.notes_of(name);
            self.happened(name, event).await;
            let told = self.notes_of(name).into_iter().skip(notes.len());
            followed.changes.extend(told.map(|words| format!("pool {name}: {words}")));
        }
        if self.has_lost_what_serves(name) {
            return self.replace_what_served(name, active, followed).await;
        }
        let Some(guarded) = self.pools.get_mut(name) else { return };
        let is_news = guarded.standing.wanted != *active;
        match guarded.standing.reloaded(active) {
            Wish::Nothing if is_news => {
                followed.changes.push(format!("pool {name}: {active} serves already"));
            }
            Wish::Nothing => {}
            // It is on its way there.
            Wish::Overridden if guarded.overridden().is_none() => {}
            Wish::Overridden => {
                let words = guarded.override_words().unwrap_or_default();
                // Who reloads by a signal reads the log.
                tracing::warn!(pool = &**name, "pool {name}: {words}");
                followed.overrides.push(format!("pool {name}: {words}"));
            }
            Wish::Swap(to) => self.begin_by_reload(name, to, followed).await,
        }
    }

    /// Whether the version that serves is gone, and no swap has brought another in its place.
    fn has_lost_what_serves(&self, name: &str) -> bool {
        self.pools.get(name).is_some_and(|guarded| {
            let is_open = guarded.running.as_ref().is_some_and(|it| it.swap.outcome().is_none());
            !is_open && guarded.version(&guarded.standing.serving).is_none()
        })
    }

    /// What the file wants serves in place of a version that has left it.
    async fn replace_what_served(
        &mut self,
        name: &Arc<str>,
        active: &str,
        followed: &mut Followed,
    ) {
        // There may be a drain that is waited for.
        self.give_up(name, format!("what served is not in the file any more: {active} serves"))
            .await;
        let Some(guarded) = self.pools.get_mut(name) else { return };
        let served = &guarded.standing.serving;
        let words = format!(
            "{served} served and is not in the file any more: {active} serves, without a gate and a watch"
        );
        tracing::warn!(pool = &**name, "{words}");
        followed.lost.push(format!("pool {name}: {words}"));
        self.tools.shared.feed.tell(Happening::Note { pool: Some(name.clone()), words });
        guarded.standing = Standing::new(active);
        guarded.split(active, active, 1.0);
    }

    /// What is told of the latest swap of a pool, in words; how it ended last.
    fn notes_of(&self, name: &str) -> Vec<String> {
        let last = self.pools.get(name).and_then(|guarded| guarded.last);
        let Some(report) = last.and_then(|id| self.handle.board().report(id)) else {
            return Vec::new();
        };
        let id = report.order.id;
        let notes = report.notes.iter().map(|note| format!("swap {id}: {}", note.text));
        let end = report.outcome.map(|outcome| {
            format!("swap {id} is {}: {}", outcome.label().replace('_', " "), report.reason)
        });
        notes.chain(end).collect()
    }

    async fn begin_by_reload(&mut self, name: &Arc<str>, to: String, followed: &mut Followed) {
        let running = self.pools.get(name).and_then(|guarded| guarded.running.as_ref());
        if let Some(swap) = running.map(|running| &running.swap) {
            if swap.outcome().is_none() && swap.order().to == to {
                let words = format!("pool {name}: swap {} is on its way there", swap.order().id);
                followed.changes.push(words);
                return;
            }
            self.give_up(name, format!("the file wants {to} now")).await;
        }
        let from = self.pools.get(name).map(|guarded| guarded.standing.serving.clone());
        let from = from.unwrap_or_default();
        let SwapId(id) = self.start(name, &to, "a reload".to_owned(), Kind::Forward).await;
        followed.started.push(StartedSwap { id: SwapId(id), pool: name.to_string(), from, to });
    }
}
