//! The proxy is killed in the midst of a swap, and started again: the version that served serves.

use std::time::Duration;

use crate::backend::{Answers, Behaviour};
use crate::blue_green::BlueGreen;
use crate::connection::Connection;
use crate::load::Load;
use crate::report::Row;
use crate::site::command;
use crate::support::eventually;

/// Where the swap to green is when the proxy is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Gate,
    Ramp,
    Watch,
    Drain,
    Done,
    RolledBack,
}

impl Phase {
    pub const ALL: [Phase; 6] =
        [Phase::Gate, Phase::Ramp, Phase::Watch, Phase::Drain, Phase::Done, Phase::RolledBack];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Gate => "kill -9 at the gate",
            Phase::Ramp => "kill -9 in the ramp",
            Phase::Watch => "kill -9 in the watch",
            Phase::Drain => "kill -9 in the drain",
            Phase::Done => "kill -9 after the swap",
            Phase::RolledBack => "kill -9 after the rollback",
        }
    }

    /// Keys that make it stay there.
    fn keys(self) -> &'static str {
        match self {
            Phase::Gate | Phase::Watch | Phase::RolledBack => "watch = \"10m\"",
            Phase::Ramp => "ramp = [\"20%\"]\nramp_step = \"10m\"",
            Phase::Drain | Phase::Done => "watch = \"100ms\"",
        }
    }

    /// Share of green then and after the restart.
    fn share(self) -> f64 {
        match self {
            Phase::Gate | Phase::RolledBack => 0.0,
            Phase::Ramp => 0.2,
            Phase::Watch | Phase::Drain | Phase::Done => 1.0,
        }
    }

    pub async fn run(self) -> Row {
        let mut site = BlueGreen::start(self.keys()).await;
        // One request that blue takes its time for.
        let slow = Behaviour { healthy: true, answers: Answers::After(5000) };
        if self == Phase::Drain {
            site.blue.iter_mut().for_each(|replica| replica.behave(slow));
        }
        let _held = Load::start(site.targets[0].clone(), 1, Duration::from_secs(1));
        if self == Phase::Drain {
            eventually("a request is held", async || held_by_blue(&site).await == 1).await;
        }
        self.reach(&mut site).await;
        let log = site.program.log();
        site.program.kill();
        site.program.start_again_by(command()).await;
        let share = share_of_green(&site).await;
        let answers = answers(&site).await;

        let mut row = Row { requests: answers.len(), ..Row::default() };
        row.notes.push(format!("afterwards green has {share:?} and {}", told(&site).await));
        row.must(share == Some(self.share()), format!("green has {share:?}\n{log}"));
        row.failed = answers.iter().filter(|answer| answer.is_err()).count();
        row.must(row.failed == 0, "requests failed after the restart");
        let by_green = answers.iter().flatten().filter(|name| name.starts_with("green")).count();
        let fits = match self.share() {
            0.0 => by_green == 0,
            1.0 => by_green == answers.len(),
            _ => by_green < answers.len() / 2,
        };
        row.must(fits, format!("green answered {by_green} of {}", answers.len()));
        row
    }

    async fn reach(self, site: &mut BlueGreen) {
        if self == Phase::Gate {
            site.green_behaves(Behaviour { healthy: false, answers: Answers::After(0) });
        }
        let output = site.swap("green", &["--no-wait"]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let phase = match self {
            Phase::Gate => "gate",
            Phase::Ramp => "ramp",
            Phase::Watch | Phase::RolledBack => "watch",
            Phase::Drain => "drain",
            Phase::Done => {
                let done = async || site.active().await == "green" && running(site).await.is_none();
                return eventually("done", done).await;
            }
        };
        eventually(phase, async || running(site).await.as_deref() == Some(phase)).await;
        if self == Phase::RolledBack {
            let output = site.command(&["rollback", "app"]).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

async fn running(site: &BlueGreen) -> Option<String> {
    site.status().await["swaps"]["running"]["phase"].as_str().map(str::to_owned)
}

async fn held_by_blue(site: &BlueGreen) -> u64 {
    site.status().await["versions"]["blue"]["held"]["requests"].as_u64().unwrap_or_default()
}

async fn share_of_green(site: &BlueGreen) -> Option<f64> {
    site.status().await["versions"]["green"]["share"].as_f64()
}

async fn told(site: &BlueGreen) -> String {
    let status = site.status().await;
    let swaps = &status["swaps"];
    format!(
        "serving {}, running {}, override {}",
        swaps["serving"], swaps["running"]["words"], swaps["override"]["words"]
    )
}

async fn answers(site: &BlueGreen) -> Vec<Result<String, String>> {
    let target = site.target_now().await;
    let mut connection = Connection::default();
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(connection.ask(&target).await);
    }
    answers
}
