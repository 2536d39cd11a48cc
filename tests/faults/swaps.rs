//! Guarded swaps with real processes: under full load, to versions that turn bad after the switch,
//! to versions that never get through the gate, and with the proxy killed on the way.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::backend::{Answers, Behaviour, WELL};
use crate::blue_green::BlueGreen;
use crate::crowd::Crowd;
use crate::form::Form;
use crate::load::{Load, Sample};
use crate::machine::Starvation;
use crate::replica::Replica;
use crate::report::{Row, failures, millis};
use crate::support::eventually;

const RATE: u32 = 500;
const WEBSOCKETS: usize = 30;
const SECOND: Duration = Duration::from_secs(1);

/// The rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    BackAndForth,
    Turns(Bad),
    FailsChecks,
    FailsSmoke,
}

/// How the new version turns bad after the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    FailsAll,
    FailsSome,
    Killed,
    Slower,
}

impl Story {
    pub const ALL: [Story; 7] = [
        Story::BackAndForth,
        Story::Turns(Bad::FailsAll),
        Story::Turns(Bad::FailsSome),
        Story::Turns(Bad::Killed),
        Story::Turns(Bad::Slower),
        Story::FailsChecks,
        Story::FailsSmoke,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Story::BackAndForth => "swaps back and forth, full load",
            Story::Turns(Bad::FailsAll) => "swap: then 500 to all",
            Story::Turns(Bad::FailsSome) => "swap: then 500 to 20 %",
            Story::Turns(Bad::Killed) => "swap: then killed",
            Story::Turns(Bad::Slower) => "swap: then 5 times slower",
            Story::FailsChecks => "swap: fails its checks",
            Story::FailsSmoke => "swap: fails a smoke request",
        }
    }

    pub async fn run(self, form: &Form) -> Row {
        match self {
            Story::BackAndForth => back_and_forth(form.swaps).await,
            Story::Turns(bad) => turns_bad(bad, form).await,
            Story::FailsChecks => {
                let sick = Behaviour { healthy: false, answers: Answers::After(0) };
                refused(sick, "gate_timeout = \"2s\"").await
            }
            Story::FailsSmoke => {
                let sick = Behaviour { healthy: true, answers: Answers::Status(500, 100) };
                refused(sick, "gate_timeout = \"2s\"\nsmoke = [{ path = \"/smoke\" }]").await
            }
        }
    }
}

/// Neither requests nor WebSockets, which stay where they are, may notice.
async fn back_and_forth(swaps: usize) -> Row {
    let site = BlueGreen::start("watch = \"200ms\"\ndrain_timeout = \"5s\"").await;
    let starvation = Starvation::of(site.program.id());
    let mut crowd = Crowd::start(&site.targets, 64, WEBSOCKETS);
    crowd.gets_under_way().await;
    let mut row = Row::default();
    let mut took = Vec::new();
    for version in ["green", "blue"].into_iter().cycle().take(swaps) {
        let began = Instant::now();
        let output = site.swap(version, &["--timeout", "60s"]).await;
        took.push(began.elapsed());
        // 5: too little traffic for a verdict, in 200 ms on a busy machine.
        let fine = matches!(output.status.code(), Some(0 | 5)) && site.active().await == version;
        row.must(fine, format!("to {version}: {}", words(&output)));
        if !fine {
            break;
        }
    }
    // What the last swap breaks may show only now.
    row.must(crowd.goes_on(10 * WEBSOCKETS as u64).await, "the echoes do not come back".to_owned());
    let tally = crowd.end().await;
    let failures = tally.failures();
    row.failed = failures.values().sum::<u64>() as usize;
    row.requests = tally.answered() as usize + row.failed;
    row.busy = starvation.worst();
    row.must(failures.is_empty(), format!("failed: {failures:?}"));
    row.notes.push(format!(
        "{} swaps of {} (median); {} echoes on {WEBSOCKETS} WebSockets",
        took.len(),
        millis(median(&mut took).unwrap_or_default()),
        tally.echoed()
    ));
    row
}

/// It is rolled back before many have seen it.
async fn turns_bad(bad: Bad, form: &Form) -> Row {
    let mut site = BlueGreen::start("watch = \"10m\"\ndrain_timeout = \"5s\"").await;
    if bad == Bad::Slower {
        let usual = Behaviour { healthy: true, answers: Answers::After(40) };
        site.blue.iter_mut().chain(&mut site.green).for_each(|replica| replica.behave(usual));
    }
    let runs = if bad == Bad::Slower { form.runs.div_ceil(4) } else { form.runs };
    let (mut times, mut failed, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let mut row = Row::default();
    let starvation = Starvation::of(site.program.id());
    for _ in 0..runs {
        match one_rollback(&mut site, bad).await {
            Ok((time, samples)) => {
                times.push(time);
                failed.push(failures(&samples).count());
                all.extend(samples);
            }
            Err(problem) => {
                row.must(false, problem);
                break;
            }
        }
    }
    let missed = std::mem::take(&mut row.missed);
    row = Row { missed, ..Row::of(&all, starvation.worst()) };
    row.notes.push(format!("rolled back after {times:.2?}, failures seen {failed:?}"));
    row.must(failed.iter().all(|failed| *failed <= 200), "more than 200 failures seen");
    if let Some(time) = median(&mut times) {
        row.out = Some(time);
        // Slow is what takes long from `grace` (3 s) after the switch on.
        let most = if bad == Bad::Slower { 8 * SECOND } else { 2 * SECOND };
        row.within("the rollback (median)", time, most);
    }
    row
}

/// A swap to green, which turns bad some requests after the switch. Gives the time to the rollback: from
/// the fault, or from the switch where slowness is judged.
async fn one_rollback(site: &mut BlueGreen, bad: Bad) -> Result<(Duration, Vec<Sample>), String> {
    let load = Load::start(site.targets[0].clone(), RATE, 60 * SECOND);
    // What retries may take is a share of the last ten seconds' requests.
    load.reaches(4 * SECOND).await;
    let output = site.swap("green", &["--until", "switched", "--timeout", "30s"]).await;
    if output.status.code() != Some(0) {
        return Err(words(&output));
    }
    let switched = Instant::now();
    // The fault's moment: the new version has served for a while.
    load.goes_on(RATE).await;
    let from = if bad == Bad::Slower { switched } else { Instant::now() };
    match bad {
        Bad::FailsAll => site.green_behaves(failing(100)),
        Bad::FailsSome => site.green_behaves(failing(20)),
        Bad::Killed => site.green.iter_mut().for_each(Replica::kill),
        Bad::Slower => {
            site.green_behaves(Behaviour { healthy: true, answers: Answers::After(200) });
        }
    }
    let back = timeout_at(from + 20 * SECOND, site.comes_to_serve("blue")).await;
    let time = back.ok().map(|()| from.elapsed());
    // Requests behind the rollback belong to the load too.
    load.goes_on(RATE / 2).await;
    let samples = load.stop().await;
    let usual = if bad == Bad::Slower { Answers::After(40) } else { Answers::After(0) };
    match bad {
        Bad::Killed => site.green.iter_mut().for_each(Replica::restart),
        _ => site.green_behaves(Behaviour { healthy: true, answers: usual }),
    }
    let time = time.ok_or("it was not rolled back within 20 s")?;
    eventually("the swap is over", async || site.status().await["swaps"]["running"].is_null())
        .await;
    Ok((time, samples))
}

fn failing(percent: u8) -> Behaviour {
    Behaviour { healthy: true, answers: Answers::Status(500, percent) }
}

/// It never gets a request of a client.
async fn refused(sick: Behaviour, swap: &str) -> Row {
    let mut site = BlueGreen::start(swap).await;
    site.green_behaves(sick);
    let starvation = Starvation::of(site.program.id());
    let load = Load::start(site.targets[0].clone(), RATE, 60 * SECOND);
    load.reaches(SECOND).await;
    let output = site.swap("green", &["--timeout", "30s"]).await;
    let active = site.active().await;
    // Requests behind the refusal belong to the load too.
    load.goes_on(RATE / 2).await;
    let samples = load.stop().await;
    let seen: u64 = site.green.iter_mut().map(Replica::requests).sum();
    site.green_behaves(WELL);

    let mut row = Row::of(&samples, starvation.worst());
    row.at_most_failed(0, &samples);
    row.must(output.status.code() == Some(4), words(&output));
    row.must(active == "blue", format!("{active} serves"));
    row.must(seen == 0, format!("the refused version got {seen} requests"));
    row
}

fn words(output: &std::process::Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("exit {:?}: {} {}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
