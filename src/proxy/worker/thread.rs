//! The thread of a worker, and its runtime.
//!
//! A panic in the task of one connection ends that connection; should the worker's own loop panic,
//! or a task that it cannot do without, the thread lives on, with a new worker on the sockets that
//! the old one had.

use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::LocalRuntime;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Settings, Sockets, Worker};
use crate::proxy::waiting;
use crate::state::{Mail, Notice, Shared, WorkerId};

/// Before a worker that panicked, and then lacked what a runtime needs, tries again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Starts the thread of a worker, and returns when it accepts on the sockets that are in its mail.
///
/// # Errors
/// If the operating system gives no thread, or not what a runtime needs.
pub fn spawn(
    id: WorkerId,
    shared: Arc<Shared>,
    mail: UnboundedReceiver<Mail>,
    settings: Settings,
) -> io::Result<JoinHandle<()>> {
    let (started, outcome) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("worker-{id}"))
        .spawn(move || supervise(id, &shared, mail, &settings, started))?;
    match outcome.recv() {
        Ok(outcome) => outcome.map(|()| thread),
        Err(_panicked) => Err(io::Error::other("a worker panicked at its start")),
    }
}

/// Where a worker tells how its start went; taken when it has told.
type Started = Option<mpsc::SyncSender<io::Result<()>>>;

fn supervise(
    id: WorkerId,
    shared: &Arc<Shared>,
    mut mail: UnboundedReceiver<Mail>,
    settings: &Settings,
    started: mpsc::SyncSender<io::Result<()>>,
) {
    let mut started = Some(started);
    // Kept outside of the part that may panic: the sockets' queues hold connections that clients
    // believe to be accepted.
    let mut sockets = Vec::new();
    loop {
        let life =
            AssertUnwindSafe(|| live(id, shared, &mut mail, &mut sockets, settings, &mut started));
        match std::panic::catch_unwind(life) {
            Ok(Ok(())) => break,
            Ok(Err(error)) => match started.take() {
                Some(started) => {
                    // Whoever started it waits for this.
                    let _ = started.send(Err(error));
                    return;
                }
                // It has served before, so what is missing may come back.
                None if !shared.lifecycle.draining() => {
                    tracing::error!(worker = %id, %error, "a worker cannot start its runtime");
                    std::thread::sleep(RESTART_PAUSE);
                }
                None => break,
            },
            Err(_panic) if shared.lifecycle.draining() => {
                // Its connections are gone with it, and no others are to come.
                tracing::error!(worker = %id, "a worker panicked while it finished what it had");
                break;
            }
            Err(_panic) => {
                let port = &shared.workers[id.index()];
                port.restarts.fetch_add(1, Ordering::Relaxed);
                tracing::error!(worker = %id, "a worker panicked and is started again");
                shared.notify(Notice::WorkerRestarted(id));
            }
        }
    }
    shared.notify(Notice::Drained(id));
}

fn live(
    id: WorkerId,
    shared: &Arc<Shared>,
    mail: &mut UnboundedReceiver<Mail>,
    sockets: &mut Sockets,
    settings: &Settings,
    started: &mut Started,
) -> io::Result<()> {
    let runtime: LocalRuntime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())?;
    // Only after a panic there are any. Without one of them its queue would never be served.
    let again = sockets.iter().map(|(id, socket)| Ok((*id, socket.try_clone()?)));
    let again = again.collect::<io::Result<Sockets>>()?;
    runtime.block_on(async {
        let worker = Worker::new(id, Arc::clone(shared), settings.clone());
        worker.on_duty(Rc::clone(&worker.wheel).run());
        worker.on_duty(waiting::watch(Rc::clone(&worker)));
        for (id, socket) in again {
            if let Some(listener) = worker.snapshot().listener_at(id) {
                worker.listen(id, Arc::clone(listener), socket);
            }
        }
        while let Ok(mail) = mail.try_recv() {
            worker.handle(mail, sockets);
        }
        if let Some(started) = started.take() {
            let _ = started.send(Ok(()));
        }
        worker.run(mail, sockets).await;
    });
    // Whatever is still running at the deadline is cut here.
    runtime.shutdown_background();
    Ok(())
}
