//! Series of the workers, and of what they carry together.

use std::sync::atomic::Ordering;

use super::text::Text;
use crate::state::shared::WorkerPort;
use crate::state::{Shared, Snapshot};
use crate::telemetry::metrics as metric;

pub(super) fn write(shared: &Shared, snapshot: &Snapshot, text: &mut Text<'_>) {
    text.family(&metric::CONNECTIONS).add(&[], shared.files.clients.taken());
    text.family(&metric::REQUESTS_IN_FLIGHT).add(&[], shared.requests_in_flight());
    if snapshot.max_requests < usize::MAX {
        text.family(&metric::REQUESTS_LIMIT).add(&[], snapshot.max_requests);
    }
    text.family(&metric::REQUESTS_REFUSED).add(&[], shared.overload.refused());
    let ids: Vec<String> = (0..shared.workers.len()).map(|index| index.to_string()).collect();
    let mut each = |family, value: &dyn Fn(&WorkerPort) -> u64| {
        let mut samples = text.family(family);
        for (id, port) in ids.iter().zip(&shared.workers) {
            samples.add(&[id], value(port));
        }
    };
    each(&metric::WORKER_CONNECTIONS, &|port| port.connections.load(Ordering::Relaxed) as u64);
    each(&metric::WORKER_PARKED, &WorkerPort::parked);
    each(&metric::WORKER_RESTARTS, &|port| u64::from(port.restarts.load(Ordering::Relaxed)));
    each(&metric::WORKER_PANICS, &|port| port.cells.panics.get());
    each(&metric::WORKER_ACCEPT_ERRORS, &|port| port.cells.accept_errors.get());
    each(&metric::WORKER_ACCEPT_PAUSES, &|port| port.cells.accept_pauses.get());
    each(&metric::WORKER_HANDOVERS, &|port| port.cells.handovers.get());
}
