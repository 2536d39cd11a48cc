//! Clients that ask again as soon as they were answered, and WebSockets that want their echo: a
//! proxy under full load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::connection::{Connection, Target};
use crate::support::in_time;

/// From one message on a WebSocket to the next: its share of the load.
const RHYTHM: Duration = Duration::from_millis(100);
/// An echo that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of everything so far.
#[derive(Debug, Default)]
pub struct Tally {
    over: AtomicBool,
    answered: AtomicU64,
    echoed: watch::Sender<u64>,
    failures: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    fn fail(&self, what: String) {
        *self.failures.lock().unwrap().entry(what).or_default() += 1;
    }

    /// Requests that were answered well.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Messages that came back.
    pub fn echoed(&self) -> u64 {
        *self.echoed.borrow()
    }

    /// What went wrong, and how often.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        self.failures.lock().unwrap().clone()
    }
}

/// Everybody who asks. Dropped, they all leave.
pub struct Crowd {
    pub tally: Arc<Tally>,
    clients: JoinSet<()>,
    /// Ends when everybody has come as far as a first answer, or a failure.
    first: mpsc::Receiver<()>,
}

impl Crowd {
    /// So many connections and WebSockets, spread evenly over the targets.
    pub fn start(targets: &[Target], connections: usize, websockets: usize) -> Crowd {
        let tally = Arc::new(Tally::default());
        let mut clients = JoinSet::new();
        let (came, first) = mpsc::channel(1);
        for target in targets.iter().cycle().take(connections) {
            clients.spawn(ask(target.clone(), Arc::clone(&tally), came.clone()));
        }
        for target in targets.iter().cycle().take(websockets) {
            clients.spawn(echo(target.clone(), Arc::clone(&tally), came.clone()));
        }
        Crowd { tally, clients, first }
    }

    /// Waits until everybody has had a first answer, or a failure.
    pub async fn gets_under_way(&mut self) {
        in_time("the first answers", self.first.recv()).await;
    }

    /// Waits until so many more messages have come back; false if they do not.
    pub async fn goes_on(&self, echoes: u64) -> bool {
        let mut echoed = self.tally.echoed.subscribe();
        let enough = *echoed.borrow() + echoes;
        timeout(PATIENCE, echoed.wait_for(|echoed| *echoed >= enough)).await.is_ok()
    }

    /// Waits until everybody has had the last answer.
    pub async fn end(mut self) -> Arc<Tally> {
        self.tally.over.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        self.tally
    }
}

/// Whoever fails leaves: one failure is too many, and more would only crowd out who is answered.
async fn ask(target: Target, tally: Arc<Tally>, came: mpsc::Sender<()>) {
    let mut came = Some(came);
    let mut connection = Connection::default();
    while !tally.over.load(Ordering::Relaxed) {
        match connection.ask(&target).await {
            Ok(_) => drop(tally.answered.fetch_add(1, Ordering::Relaxed)),
            Err(what) => return tally.fail(what),
        }
        drop(came.take());
    }
}

/// One WebSocket for the whole time: where it ends before, that is a failure.
async fn echo(target: Target, tally: Arc<Tally>, came: mpsc::Sender<()>) {
    if let Err(error) = echo_until_over(&target, &tally, came).await {
        tally.fail(format!("WebSocket: {error}"));
    }
}

async fn echo_until_over(
    target: &Target,
    tally: &Tally,
    came: mpsc::Sender<()>,
) -> Result<(), String> {
    let mut came = Some(came);
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let stream = target.stream().await.map_err(|error| words(&error))?;
    let opened = client_async("ws://localhost/ws", stream).await;
    let (mut socket, _) = opened.map_err(|error| words(&error))?;
    let mut rhythm = interval(RHYTHM);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !tally.over.load(Ordering::Relaxed) {
        rhythm.tick().await;
        socket.send(Message::text("again")).await.map_err(|error| words(&error))?;
        let echo = timeout(PATIENCE, socket.next()).await;
        match echo.map_err(|_| "no echo in 10 s")? {
            Some(Ok(Message::Text(text))) if text.as_str() == "again" => {}
            other => return Err(format!("{other:?} in place of the echo")),
        }
        tally.echoed.send_modify(|echoed| *echoed += 1);
        drop(came.take());
    }
    Ok(())
}
