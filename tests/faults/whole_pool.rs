//! What goes beyond one sick backend: many at once, again and again, and what comes after.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend::{Answers, Behaviour, WELL};
use crate::form::Form;
use crate::load::{Load, Sample};
use crate::one_sick::{Fault, back};
use crate::report::{Row, between, failures};
use crate::site::{Site, Standing, Watch};

const SECOND: Duration = Duration::from_secs(1);

/// The rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    Flapping,
    HalfDown,
    AllDown,
    SlowStart,
    StormOf503,
    StormOfResets,
}

impl Story {
    pub const ALL: [Story; 6] = [
        Story::Flapping,
        Story::HalfDown,
        Story::AllDown,
        Story::SlowStart,
        Story::StormOf503,
        Story::StormOfResets,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Story::Flapping => "killed and started every second",
            Story::HalfDown => "half of the pool killed",
            Story::AllDown => "all killed, then all back",
            Story::SlowStart => "slow start of a recovered one",
            Story::StormOf503 => "retry storm: all answer 503",
            Story::StormOfResets => "retry storm: all reset",
        }
    }

    pub async fn run(self, form: &Form) -> Row {
        match self {
            Story::Flapping => flapping(form).await,
            Story::HalfDown => half_down(form).await,
            Story::AllDown => all_down(form).await,
            Story::SlowStart => slow_start(form).await,
            Story::StormOf503 => storm(Answers::Status(503, 100), form).await,
            Story::StormOfResets => storm(Answers::Reset, form).await,
        }
    }
}

async fn flapping(form: &Form) -> Row {
    let mut site = Site::start(3, form.pool).await;
    let watch = Watch::start(&site.program);
    let load = Load::start(site.address, 600, form.long.end);
    load.reaches(form.long.strike).await;
    let struck = Instant::now();
    let mut next = form.long.strike;
    while next < form.long.heal {
        site.replicas[0].kill();
        load.reaches(next + SECOND).await;
        site.replicas[0].restart();
        load.reaches(next + 2 * SECOND).await;
        next += 2 * SECOND;
    }
    let samples = load.end().await;
    let mut row = Row::of(&samples, watch.starved());
    row.at_most_failed(0, &samples);
    row.within("the slowest request", row.slowest, Duration::from_millis(300));
    let changes = watch.changes(site.replicas[0].address, struck);
    let out = changes.iter().filter(|change| change.now.is_out());
    row.notes.push(format!("out {} times", out.count()));
    row.noticed = changes.first().map(|change| change.at - struck);
    row
}

async fn half_down(form: &Form) -> Row {
    let mut site = Site::start(4, form.pool).await;
    let watch = Watch::start(&site.program);
    let load = Load::start(site.address, 600, form.times.end);
    load.reaches(form.times.strike).await;
    let struck = Instant::now();
    site.replicas[..2].iter_mut().for_each(|replica| Fault::Killed.strike(replica));
    load.reaches(form.times.heal).await;
    let healed = Instant::now();
    site.replicas[..2].iter_mut().for_each(|replica| Fault::Killed.heal(replica));
    let samples = load.end().await;
    let mut row = Row::of(&samples, watch.starved());
    row.at_most_failed(0, &samples);
    row.within("the slowest request", row.slowest, Duration::from_millis(300));
    for replica in &site.replicas[..2] {
        let changes = watch.changes(replica.address, struck);
        let out = changes.iter().find(|change| change.now.is_out());
        row.out = row.out.max(out.map(|change| change.at - struck));
        row.must(out.is_some_and(|out| out.at < healed), "one of them was never shown out");
        let returned =
            back(&watch, replica.address, healed, form.until_back, Standing::is_out).await;
        row.must(returned.is_some(), "one of them did not come back");
        row.back = row.back.max(returned);
    }
    row
}

/// Nobody can hide that; but failures must come fast, and end with the fault.
async fn all_down(form: &Form) -> Row {
    let mut site = Site::start(3, form.pool).await;
    let watch = Watch::start(&site.program);
    let load = Load::start(site.address, 600, form.times.end);
    load.reaches(form.times.strike).await;
    site.replicas.iter_mut().for_each(|replica| Fault::Killed.strike(replica));
    load.reaches(form.times.heal).await;
    let healed = Instant::now();
    site.replicas.iter_mut().for_each(|replica| Fault::Killed.heal(replica));
    let up = load.began.elapsed();
    let samples = load.end().await;

    let mut row = Row::of(&samples, watch.starved());
    row.within("the slowest request", row.slowest, Duration::from_millis(300));
    let before = between(&samples, Duration::ZERO, form.times.strike - SECOND / 10);
    row.must(failures(&before).count() == 0, "some failed before the fault");
    let last = failures(&samples).map(|sample| sample.due).max().unwrap_or_default();
    let until = last.saturating_sub(up);
    row.notes.push(format!("the last failure was due {until:?} after the last was up"));
    row.within("serving again", until, SECOND);
    for replica in &site.replicas {
        let returned =
            back(&watch, replica.address, healed, form.until_back, Standing::is_out).await;
        row.must(returned.is_some(), "one of them did not come back");
        row.back = row.back.max(returned);
    }
    row
}

/// Its share grows from little to its full share over `slow_start`.
async fn slow_start(form: &Form) -> Row {
    let mut site = Site::start(3, form.pool).await;
    let watch = Watch::start(&site.program);
    let length = form.times.heal + form.slow_start + 4 * SECOND;
    let load = Load::start(site.address, 600, length);
    load.reaches(form.times.strike).await;
    site.replicas[0].kill();
    load.reaches(form.times.heal).await;
    let healed = Instant::now();
    site.replicas[0].restart();
    let address = site.replicas[0].address;
    let returned = back(&watch, address, healed, form.until_back, Standing::is_out).await;
    let began = load.began;
    let samples = load.end().await;

    let mut row = Row::of(&samples, watch.starved());
    row.at_most_failed(0, &samples);
    row.back = returned;
    let Some(returned) = returned else {
        row.must(false, "it did not come back");
        return row;
    };
    let at = healed + returned - began;
    let quarter = form.slow_start / 4;
    let share = |from: Duration| share(&between(&samples, from, from + quarter), "1");
    let shares: Vec<f64> = (0..4).map(|number| share(at + quarter * number)).collect();
    let after = share(at + form.slow_start + SECOND);
    row.notes
        .push(format!("its share by quarters of the slow start: {shares:.2?}, then {after:.2}"));
    row.must(shares[0] < 0.2, "it got too much at first");
    row.must(shares[0] < after, "its share did not grow");
    row.must(after > 0.25, "it did not get its full share in the end");
    row
}

fn share(samples: &[Sample], name: &str) -> f64 {
    let answered = samples.iter().filter(|it| it.outcome.as_ref().is_ok_and(|it| it == name));
    answered.count() as f64 / samples.len().max(1) as f64
}

/// When everything fails, retries must not make it worse: a share of the requests, plus ten a second.
async fn storm(answers: Answers, form: &Form) -> Row {
    let mut site = Site::start(3, form.pool).await;
    let watch = Watch::start(&site.program);
    let load = Load::start(site.address, 600, form.times.end);
    load.reaches(form.times.strike).await;
    let began = load.began.elapsed();
    let before: u64 = site.replicas.iter_mut().map(crate::replica::Replica::requests).sum();
    let behaviour = Behaviour { healthy: true, answers };
    site.replicas.iter_mut().for_each(|replica| replica.behave(behaviour));
    load.reaches(form.times.heal).await;
    let after: u64 = site.replicas.iter_mut().map(crate::replica::Replica::requests).sum();
    site.replicas.iter_mut().for_each(|replica| replica.behave(WELL));
    let ended = load.began.elapsed();
    let samples = load.end().await;

    let mut row = Row::of(&samples, watch.starved());
    let asked = between(&samples, began, ended).len() as f64;
    let attempts = (after - before) as f64;
    // Of the ten seconds before, what was not used may have been saved up.
    let saved = 10.0 * 10.0 + 0.2 * between(&samples, Duration::ZERO, began).len() as f64;
    let allowed = asked * 1.2 + 10.0 * (ended - began).as_secs_f64() + saved;
    row.notes.push(format!("{attempts} attempts for {asked} requests, at most {allowed:.0}"));
    row.must(attempts <= allowed, "more attempts than the budget allows");
    row.within("the slowest request", row.slowest, Duration::from_millis(300));
    let healthy_again = between(&samples, ended + SECOND, form.times.end);
    row.must(failures(&healthy_again).count() == 0, "some failed 1 s after the end");
    row
}
