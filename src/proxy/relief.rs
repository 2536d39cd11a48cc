//! What is held for clients is limited in all, however many they are.
//!
//! An answer waits for its client, an upload for its backend, a head for its end. Each holds a little,
//! and reads become smaller the more there are; but a crowd of them would hold any amount. So each
//! worker counts, and when it holds more than its share, it lets clients go: first those for whom
//! nothing has moved for the longest. Whoever takes what comes, however slowly, is among the last.

use std::rc::Rc;

use tokio::time::Instant;

use super::connection::ConnectionState;
use crate::state::Idleness;

/// Lets clients go if too much is held for all of them.
pub fn look(connection: &ConnectionState) {
    let excess = connection.io.held.excess();
    if excess > 0 {
        let_go(connection, excess);
    }
}

fn let_go(connection: &ConnectionState, mut excess: usize) {
    let worker = &connection.worker;
    let connections = worker.connections.borrow();
    let mut holding: Vec<(Instant, usize, &Rc<ConnectionState>)> = connections
        .iter()
        .filter_map(|(_, connection)| {
            let (since, bytes) = connection.io.held.get()?;
            Some((since, bytes, connection))
        })
        .collect();
    holding.sort_unstable_by_key(|(since, ..)| *since);
    let now = Instant::now();
    for (_, bytes, connection) in holding {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(bytes);
        connection.io.held.write_off();
        connection.ask_to_leave(Idleness::Slow, now);
    }
    if let Some(also) = worker.shared.memory_complaints.admit(worker.shared.uptime()) {
        tracing::warn!(
            also,
            "too much is held for clients that are slow: closing those that take nothing; raise \
             server.max_buffered, or lower write_timeout"
        );
    }
}
