//! What the machine was in the way: figures mean little while somebody else has the processor.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

/// How long the threads of a process have stood ready so far without getting a processor.
fn waited(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    // The second of three numbers, in nanoseconds. A thread may have ended meanwhile.
    let waited = |stat: String| stat.split(' ').nth(1)?.parse::<u64>().ok();
    let each =
        threads.filter_map(|it| waited(fs::read_to_string(it.path().join("schedstat")).ok()?));
    Duration::from_nanos(each.sum())
}

/// Looks all the time how long a process stands ready without a processor.
pub struct Starvation {
    totals: Arc<Mutex<Vec<(Instant, Duration)>>>,
    looking: JoinHandle<()>,
}

impl Starvation {
    /// Begins to look.
    pub fn of(process: u32) -> Starvation {
        let totals = Arc::new(Mutex::new(Vec::new()));
        let looked = Arc::clone(&totals);
        let looking = tokio::spawn(async move {
            let mut looks = interval(Duration::from_millis(20));
            loop {
                looks.tick().await;
                looked.lock().unwrap().push((Instant::now(), waited(process)));
            }
        });
        Starvation { totals, looking }
    }

    /// How long, of all its threads together, in the worst quarter of a second so far.
    pub fn worst(&self) -> Duration {
        let totals = self.totals.lock().unwrap();
        let mut first = 0;
        let mut worst = Duration::ZERO;
        for (at, total) in &*totals {
            while *at - totals[first].0 > Duration::from_millis(250) {
                first += 1;
            }
            worst = worst.max(total.saturating_sub(totals[first].1));
        }
        worst
    }
}

impl Drop for Starvation {
    fn drop(&mut self) {
        self.looking.abort();
    }
}
