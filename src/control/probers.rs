//! The probers of all backends in force.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::compile::Generation;
use super::probe::Check;
use super::prober::{Begin, Curious, Prober};
use super::publisher::Publisher;
use super::slices::sliced;
use super::transition::publish;
use crate::health::{EjectionReason, ProbeFailure};
use crate::state::{Backend, BackendId, Shared};

/// One task per backend, so that a slow one delays nobody.
#[derive(Debug)]
pub struct Probers {
    shared: Arc<Shared>,
    publisher: Arc<Publisher>,
    publishing: AbortHandle,
    running: Mutex<HashMap<BackendId, Running>>,
}

#[derive(Debug)]
struct Running {
    backend: Arc<Backend>,
    check: watch::Sender<Arc<Check>>,
    wake: Arc<Notify>,
    curious: Arc<Curious>,
    task: AbortHandle,
}

impl Running {
    fn use_check(&self, check: &Arc<Check>) {
        self.check.send_if_modified(|current| {
            let changed = !Arc::ptr_eq(current, check);
            if changed {
                *current = Arc::clone(check);
            }
            changed
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Probers {
    fn drop(&mut self) {
        self.publishing.abort();
    }
}

impl Probers {
    /// None yet. Needs the control runtime around it, like [`follow`](Self::follow).
    pub fn new(shared: &Arc<Shared>) -> Self {
        let publisher = Arc::new(Publisher::new(Arc::clone(shared)));
        Probers {
            shared: Arc::clone(shared),
            publishing: tokio::spawn(Arc::clone(&publisher).run()).abort_handle(),
            publisher,
            running: Mutex::default(),
        }
    }

    /// Probes the backends of a generation that has come into force: begins with the new ones,
    /// tells the others of a changed check, and stops with those that left, which it returns.
    pub fn follow(&self, generation: &Generation) -> Vec<Arc<Backend>> {
        let mut running = self.lock();
        let (mut new, mut stay) = (Vec::new(), 0);
        each_backend(generation, |backend, check| match running.get(&backend.id) {
            Some(prober) => {
                prober.use_check(check);
                stay += 1;
            }
            None => new.push((Arc::clone(backend), check)),
        });
        // Of ten thousand that stay none has to be looked for again.
        let gone = if stay < running.len() { leave(&mut running, generation) } else { Vec::new() };
        let begins = Begin::of(new.len());
        for ((backend, check), begin) in new.into_iter().zip(begins) {
            running.insert(backend.id, self.start(backend, check, begin));
        }
        gone
    }

    /// Who is told of backends that are in another state.
    pub(super) fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// Probes a backend at once, and without pause until there is a verdict.
    pub fn suspect(&self, backend: BackendId) {
        if let Some(prober) = self.lock().get(&backend) {
            prober.wake.notify_one();
        }
    }

    /// Probes a backend at once, and gives the outcome once it has been judged; `None` if the backend
    /// is not probed any more.
    pub async fn ask(&self, backend: BackendId) -> Option<Result<(), ProbeFailure>> {
        let outcome = {
            let running = self.lock();
            let prober = running.get(&backend)?;
            let outcome = prober.curious.add();
            prober.wake.notify_one();
            outcome
        };
        outcome.await.ok()
    }

    /// Takes a backend out for this long, since it is to blame for what its version looked like.
    pub(super) fn eject(&self, backend: &Arc<Backend>, lasts: Duration, why: String) {
        let now = self.shared.uptime();
        let transition = backend.health().eject(now, EjectionReason::Blamed(why), lasts);
        publish(&self.shared, &self.publisher, backend, transition.as_slice());
    }

    /// Ends what a backend's traffic has led to, and has outlier detection begin anew with it.
    pub(super) fn forget_traffic(&self, backend: &Arc<Backend>) {
        let transition = backend.health().forget_ejections(self.shared.uptime());
        publish(&self.shared, &self.publisher, backend, transition.as_slice());
        // Last: one that outlier detection finds ejected, and then not, is on trial.
        backend.forget_traffic.store(true, Ordering::Release);
    }

    fn start(&self, backend: Arc<Backend>, check: &Arc<Check>, begin: Begin) -> Running {
        let (sender, receiver) = watch::channel(Arc::clone(check));
        let (wake, curious) = (Arc::new(Notify::new()), Arc::new(Curious::default()));
        let prober = Prober {
            backend: Arc::clone(&backend),
            check: receiver,
            wake: Arc::clone(&wake),
            curious: Arc::clone(&curious),
            shared: Arc::clone(&self.shared),
            publisher: Arc::clone(&self.publisher),
        };
        let task = tokio::spawn(prober.run(begin)).abort_handle();
        Running { backend, check: sender, wake, curious, task }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BackendId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with the backends that are not in force any more.
fn leave(running: &mut HashMap<BackendId, Running>, generation: &Generation) -> Vec<Arc<Backend>> {
    let mut in_force = HashSet::with_capacity(running.len());
    each_backend(generation, |backend, _| {
        in_force.insert(backend.id);
    });
    let gone = running.extract_if(|id, _| !in_force.contains(id));
    gone.map(|(_, gone)| Arc::clone(&gone.backend)).collect()
}

fn each_backend<'g>(
    generation: &'g Generation,
    mut visit: impl FnMut(&Arc<Backend>, &'g Arc<Check>),
) {
    for (name, pool) in sliced(generation.snapshot.pools.iter()) {
        let Some(check) = generation.checks.get(name) else { continue };
        let split = pool.state.split.load();
        let members = split.shares.iter().flat_map(|share| &share.version.members);
        members.for_each(|member| visit(&member.backend, check));
    }
}
