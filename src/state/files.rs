//! How many sockets the data plane may have open.
//!
//! Once a process has no more file descriptors, nothing in it works: the admin API cannot be asked,
//! probes fail, and every backend looks dead. So connections are counted against the limit before
//! they are opened, and what the rest of the process needs is never given away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Places;

/// Not for connections: sockets of our own, the admin API, probes, logs, the runtimes.
const OWN: u64 = 100;

/// The share of the sockets that only backends may take, as a divisor: what clients are in must
/// be able to go on.
const FOR_BACKENDS: usize = 4;

/// The sockets of the data plane.
#[derive(Debug)]
pub struct Files {
    open: AtomicUsize,
    /// Those of clients.
    pub clients: Places,
    limit: usize,
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
            limit: for_connections(open_files),
        })
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
        self.limit - self.limit / FOR_BACKENDS
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
        (self.open.load(Ordering::Relaxed) <= self.limit).then_some(file)
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

/// How many of the files that a process may open are for connections, of clients and to backends.
pub fn for_connections(open_files: u64) -> usize {
    let own = OWN.min(open_files / 2);
    usize::try_from(open_files - own).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_process_keeps_its_files() {
        for (open_files, connections) in [(1024, 924), (200, 100), (64, 32), (1, 1), (0, 1)] {
            assert_eq!(for_connections(open_files), connections, "{open_files}");
        }
    }

    #[test]
    fn backends_have_room_when_clients_have_none() {
        let files = Files::new(200);
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
