//! How many sockets the data plane may have open.
//!
//! Once a process has no more file descriptors, nothing in it works: the admin API cannot be asked,
//! probes fail, and every backend looks dead. So connections are counted against the limit before
//! they are opened, and what the rest of the process needs is never given away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Places;

/// The process as such: what it was started with, the log, the state directory, the admin socket, the
/// control plane's runtime.
const PROCESS: u64 = 16;
/// The runtime of a worker, and a connection in its hand that waits for room.
const PER_WORKER: u64 = 5;
/// An address on a worker: the socket and its spare.
const PER_SOCKET: u64 = 2;
/// The share of the files, as a divisor, that connections to the admin API may take. So many are
/// enough for whoever looks, and so few that idle ones keep no client out.
const FOR_ADMIN: u64 = 32;
const LEAST_FOR_ADMIN: u64 = 8;
const MOST_FOR_ADMIN: u64 = 256;
/// The same for what comes and goes: probes, names, webhooks, files that a reload reads.
const FOR_THE_REST: u64 = 32;
const LEAST_FOR_THE_REST: u64 = 16;
const MOST_FOR_THE_REST: u64 = 128;

/// The share of the sockets that only backends may take, as a divisor: what clients are in must
/// be able to go on.
const FOR_BACKENDS: usize = 4;

/// The sockets of the data plane.
#[derive(Debug)]
pub struct Files {
    open: AtomicUsize,
    /// Those of clients.
    pub clients: Places,
    /// How many connections there may be to the admin API.
    pub admin: usize,
    limit: AtomicUsize,
}

/// A socket towards a backend, counted as open until dropped.
#[derive(Debug)]
pub struct OpenFile(Arc<Files>);

/// A client's socket, counted as open from the moment that it was accepted until dropped.
#[derive(Debug)]
pub struct ClientFile(OpenFile);

impl Files {
    /// None is open yet, and the process may open so many files in all.
    pub fn new(open_files: u64) -> Arc<Self> {
        Arc::new(Files {
            open: AtomicUsize::new(0),
            clients: Places::default(),
            admin: count(for_admin(open_files)),
            limit: AtomicUsize::new(for_connections(open_files, 0, 0)),
        })
    }

    /// From now on there may be so many connections, of clients and to backends.
    pub fn allow(&self, connections: usize) {
        self.limit.store(connections, Ordering::Relaxed);
    }

    /// How many connections there may be, of clients and to backends.
    pub fn allowed(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many more clients the files allow to come in.
    pub fn spare_for_clients(&self) -> usize {
        self.for_clients().saturating_sub(self.open.load(Ordering::Relaxed))
    }

    /// How many clients are to be asked to leave, where `most` may be in.
    pub fn missing_for_clients(&self, most: usize) -> usize {
        let files = self.clients.missing(self.for_clients(), self.open.load(Ordering::Relaxed));
        self.clients.missing(most, self.clients.taken()).max(files)
    }

    fn for_clients(&self) -> usize {
        let limit = self.allowed();
        limit - limit / FOR_BACKENDS
    }

    /// Whether a connection to a backend may be kept open unused: as long as it keeps no client out.
    pub fn has_room_for_unused(&self) -> bool {
        let open = self.open.load(Ordering::Relaxed);
        open < self.for_clients() && self.clients.missing(self.for_clients(), open) == 0
    }

    /// Counts a client that has come in.
    pub fn for_client(self: &Arc<Self>) -> ClientFile {
        self.clients.take();
        ClientFile(self.count())
    }

    /// The right to open a connection to a backend, if there is room.
    pub fn for_backend(self: &Arc<Self>) -> Option<OpenFile> {
        let file = self.count();
        // The count includes this one.
        (self.open.load(Ordering::Relaxed) <= self.allowed()).then_some(file)
    }

    fn count(self: &Arc<Self>) -> OpenFile {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenFile(Arc::clone(self))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.clients.tell_who_waits();
    }
}

impl Drop for ClientFile {
    fn drop(&mut self) {
        self.0.0.clients.give_back();
    }
}

/// How many of the files that a process may open are for connections, of clients and to backends: what
/// is left by so many workers that accept on so many addresses, and by everything else.
pub fn for_connections(open_files: u64, workers: usize, addresses: usize) -> usize {
    let (workers, addresses) = (workers as u64, addresses as u64);
    let per_worker = addresses.saturating_mul(PER_SOCKET).saturating_add(PER_WORKER);
    let rest = (open_files / FOR_THE_REST).clamp(LEAST_FOR_THE_REST, MOST_FOR_THE_REST);
    let own =
        workers.saturating_mul(per_worker).saturating_add(PROCESS + for_admin(open_files) + rest);
    count(open_files.saturating_sub(own))
}

fn for_admin(open_files: u64) -> u64 {
    (open_files / FOR_ADMIN).clamp(LEAST_FOR_ADMIN, MOST_FOR_ADMIN)
}

fn count(files: u64) -> usize {
    usize::try_from(files).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_process_keeps_its_files() {
        for (open_files, workers, addresses, connections) in [
            (1_048_576, 2, 2, 1_048_158),
            (1024, 2, 1, 930),
            (1024, 64, 4, 112),
            (300, 16, 4, 51),
            (300, 16, 8, 0),
            (200, 2, 1, 146),
            (64, 2, 1, 10),
            (0, 1, 1, 0),
            (u64::MAX, 2, 1, usize::MAX - 414),
        ] {
            let left = for_connections(open_files, workers, addresses);
            assert_eq!(left, connections, "{open_files} {workers} {addresses}");
        }
    }

    #[test]
    fn where_files_are_few_the_admin_api_has_few_connections() {
        for (open_files, connections) in [(64, 8), (200, 8), (1024, 32), (1_048_576, 256)] {
            assert_eq!(Files::new(open_files).admin, connections, "{open_files}");
        }
    }

    #[test]
    fn backends_have_room_when_clients_have_none() {
        let files = Files::new(200);
        files.allow(100);
        let mut clients = Vec::new();
        while files.spare_for_clients() > 0 {
            clients.push(files.for_client());
        }
        assert_eq!(clients.len(), 75);
        assert!(!files.has_room_for_unused());
        let backends: Vec<_> = std::iter::from_fn(|| files.for_backend()).collect();
        assert_eq!(backends.len(), 25);
        drop(backends);
        assert_eq!(files.spare_for_clients(), 0);
        clients.pop();
        assert_eq!(files.clients.taken(), 74);
        assert!(files.spare_for_clients() > 0);
    }
}
