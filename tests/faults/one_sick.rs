//! One of three backends falls ill in one of many ways, and recovers.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::backend::{Answers, Behaviour, WELL};
use crate::form::Form;
use crate::load::Load;
use crate::replica::Replica;
use crate::report::{Row, between, percentile};
use crate::site::{Site, Standing, Watch, told_by_command};

/// How it falls ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Killed,
    Hangs,
    Fails,
    FailsWithGoodHealth,
    Slow,
    /// The same where slowness by itself keeps nobody away.
    SlowInTurns,
    BreaksOff,
    PacketsDropped,
    Frozen,
}

impl Fault {
    pub const ALL: [Fault; 9] = [
        Fault::Killed,
        Fault::Hangs,
        Fault::Fails,
        Fault::FailsWithGoodHealth,
        Fault::Slow,
        Fault::SlowInTurns,
        Fault::BreaksOff,
        Fault::PacketsDropped,
        Fault::Frozen,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::Killed => "process killed",
            Fault::Hangs => "hangs",
            Fault::Fails => "answers 500",
            Fault::FailsWithGoodHealth => "answers 500, health page fine",
            Fault::Slow => "2 s slower, health page fine",
            Fault::SlowInTurns => "the same, taken in turns",
            Fault::BreaksOff => "breaks off, health page fine",
            Fault::PacketsDropped => "packets dropped",
            Fault::Frozen => "process frozen",
        }
    }

    pub fn strike(self, replica: &mut Replica) {
        let behave = |healthy, answers| Behaviour { healthy, answers };
        match self {
            Fault::Killed => replica.kill(),
            Fault::Frozen => replica.freeze(),
            Fault::Hangs => replica.behave(behave(false, Answers::Never)),
            Fault::Fails => replica.behave(behave(false, Answers::Status(500, 100))),
            Fault::FailsWithGoodHealth => replica.behave(behave(true, Answers::Status(500, 100))),
            Fault::Slow | Fault::SlowInTurns => {
                replica.behave(behave(true, Answers::After(2000)));
            }
            Fault::BreaksOff => replica.behave(behave(true, Answers::Half)),
            Fault::PacketsDropped => replica.behave(behave(true, Answers::Deaf)),
        }
    }

    pub fn heal(self, replica: &mut Replica) {
        match self {
            Fault::Killed => replica.restart(),
            Fault::Frozen => replica.thaw(),
            _ => replica.behave(WELL),
        }
    }

    /// What breaks off after it was forwarded cannot be hidden.
    fn most_failed(self) -> usize {
        if self == Fault::BreaksOff { 10 } else { 0 }
    }

    /// What the status gives as its reason, among other words.
    fn word(self) -> &'static str {
        match self {
            Fault::Killed => "refused",
            Fault::Hangs | Fault::PacketsDropped | Fault::Frozen => "timed out",
            // Its checks may be quicker than its requests.
            Fault::Fails => "failed",
            Fault::FailsWithGoodHealth => "requests failed",
            Fault::Slow | Fault::SlowInTurns => "the response head",
            Fault::BreaksOff => "broke off",
        }
    }

    fn slowest(self) -> Option<Duration> {
        match self {
            Fault::Killed | Fault::Fails | Fault::FailsWithGoodHealth => {
                Some(Duration::from_millis(300))
            }
            Fault::Hangs | Fault::PacketsDropped | Fault::Frozen => {
                Some(Duration::from_millis(2500))
            }
            Fault::Slow | Fault::SlowInTurns | Fault::BreaksOff => None,
        }
    }

    fn is_slow(self) -> bool {
        matches!(self, Fault::Slow | Fault::SlowInTurns)
    }

    fn policy(self) -> &'static str {
        if self == Fault::SlowInTurns { "policy = \"round_robin\"\n" } else { "" }
    }
}

/// Strikes under load, heals, and waits until the backend is back.
pub async fn run(fault: Fault, form: &Form) -> Row {
    let times = if fault.is_slow() { form.long } else { form.times };
    let mut site = Site::start(3, &format!("{}{}", fault.policy(), form.pool)).await;
    let watch = Watch::start(&site.program);
    let load = Load::start(site.address, 600, times.end);
    let sick = site.replicas[0].address;

    load.reaches(times.strike).await;
    let struck = Instant::now();
    fault.strike(&mut site.replicas[0]);
    load.reaches(times.heal).await;
    let told = told_by_command(&site.program).await;
    let healed = Instant::now();
    fault.heal(&mut site.replicas[0]);
    let samples = load.end().await;

    let mut row = Row::of(&samples, watch.starved());
    row.at_most_failed(fault.most_failed(), &samples);
    if let Some(most) = fault.slowest() {
        row.within("the slowest request", row.slowest, most);
    }
    if fault.is_slow() {
        let settled = between(&samples, times.strike + Duration::from_secs(3), times.end);
        let p99 = percentile(&settled, 99);
        row.notes.push(format!("p99 from 3 s after the fault on: {p99:?}"));
        row.within("the p99 from 3 s after the fault on", p99, Duration::from_millis(300));
    }

    let told = &told[&sick];
    row.notes.push(format!("told at the end of the fault: {told}"));
    let changes = watch.changes(sick, struck);
    for change in changes.iter().take(form.told) {
        row.notes.push(format!("{:.2?}: {}", change.at - struck, change.now));
    }
    row.noticed = changes.first().map(|change| change.at - struck);
    // Who is slow loses its share before it is ejected, which then may not be worth it any more.
    let gone = if fault.is_slow() { Standing::is_shunned } else { Standing::is_out };
    let out = changes.iter().find(|change| gone(&change.now));
    row.out = out.map(|change| change.at - struck);
    row.must(out.is_some_and(|out| out.at < healed), "the status did not show it out");
    let words = out.map(|out| format!("{} {}", out.now.reason, out.now.finding));
    row.must(words.is_some_and(|words| words.contains(fault.word())), "nor why");
    row.back = back(&watch, sick, healed, form.until_back, gone).await;
    row.must(row.back.is_some(), "it did not come back");
    row
}

/// How long after `healed` the status shows it no more `gone`, for good.
pub async fn back(
    watch: &Watch,
    backend: std::net::SocketAddr,
    healed: Instant,
    patience: Duration,
    gone: fn(&Standing) -> bool,
) -> Option<Duration> {
    let mut news = watch.news();
    loop {
        let changes = watch.changes(backend, Instant::now() - Duration::from_secs(3600));
        let out = changes.iter().rposition(|change| gone(&change.now))?;
        if let Some(back) = changes.get(out + 1) {
            return Some(back.at.saturating_duration_since(healed));
        }
        timeout_at(healed + patience, news.changed()).await.ok()?.ok()?;
    }
}
