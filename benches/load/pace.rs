//! When the next request is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Hands out the moments at which requests are due, until the end.
#[derive(Clone)]
pub enum Pace {
    /// As soon as somebody asks.
    Closed {
        /// The end.
        until: Instant,
    },
    /// At a fixed rate.
    Open {
        /// Filled by a thread of its own: timers of the runtime know whole milliseconds only.
        due: Arc<Mutex<UnboundedReceiver<Instant>>>,
        /// Who is late until then is not sent any more.
        give_up: Instant,
    },
}

impl Pace {
    /// From `start` to `until`, at `rate` requests a second if there is one; late ones get `grace`.
    pub fn new(rate: Option<f64>, start: Instant, until: Instant, grace: Duration) -> Self {
        let Some(rate) = rate else { return Self::Closed { until } };
        let (sender, receiver) = unbounded_channel();
        std::thread::spawn(move || tick(rate, start, until, &sender));
        Self::Open { due: Arc::new(Mutex::new(receiver)), give_up: until + grace }
    }

    /// Waits until a request is due, and says since when it is. `None` at the end.
    pub async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { until } => Some(Instant::now()).filter(|now| now < until),
            Self::Open { due, give_up } => {
                // A queue that is never empty would never let the timeout speak.
                if Instant::now() >= *give_up {
                    return None;
                }
                let next = async { due.lock().await.recv().await };
                tokio::time::timeout_at((*give_up).into(), next).await.ok().flatten()
            }
        }
    }

    /// How many requests were due and nobody has sent.
    pub async fn left(&self) -> u64 {
        let Self::Open { due, .. } = self else { return 0 };
        due.lock().await.len() as u64
    }
}

/// Sends each moment when it has come.
fn tick(rate: f64, start: Instant, until: Instant, due: &UnboundedSender<Instant>) {
    for number in 0u64.. {
        let moment = start + Duration::from_secs_f64(number as f64 / rate);
        if moment >= until {
            break;
        }
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        if due.send(moment).is_err() {
            break;
        }
    }
}
