//! The probers of all backends in force.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::compile::Generation;
use super::probe::Check;
use super::prober::{Begin, Curious, Prober};
use super::publisher::Publisher;
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
        let mut left = std::mem::take(&mut *running);
        let new =
            backends(generation).filter(|(backend, _)| !left.contains_key(&backend.id)).count();
        let mut begins = Begin::of(new);
        for (backend, check) in backends(generation) {
            let prober = match left.remove(&backend.id) {
                Some(prober) => {
                    prober.check.send_if_modified(|current| {
                        let changed = !Arc::ptr_eq(current, check);
                        current.clone_from(check);
                        changed
                    });
                    prober
                }
                None => self.start(backend, check, begins.next().unwrap_or_default()),
            };
            running.insert(prober.backend.id, prober);
        }
        left.into_values().map(|gone| Arc::clone(&gone.backend)).collect()
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

fn backends(generation: &Generation) -> impl Iterator<Item = (Arc<Backend>, &Arc<Check>)> {
    generation.snapshot.pools.iter().flat_map(|(name, pool)| {
        let split = pool.state.split.load_full();
        let check = generation.checks.get(name);
        let versions = split.shares.iter().map(|share| Arc::clone(&share.version));
        let versions: Vec<_> = versions.collect();
        versions.into_iter().flat_map(move |version| {
            let backends = version.members.iter().map(|member| Arc::clone(&member.backend));
            let backends: Vec<_> = backends.collect();
            backends.into_iter().filter_map(move |backend| Some((backend, check?)))
        })
    })
}
