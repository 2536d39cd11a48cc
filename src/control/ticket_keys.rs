//! The keys of session tickets are replaced in their time.
//!
//! The TLS library looks at the clock only when a ticket is made or taken, so where nobody comes the
//! old keys would stay. Whoever gets hold of them can read what was said under TLS 1.2 with tickets of
//! theirs (RFC 9325 section 3.4), and tickets would be good for as long.

use std::sync::Arc;
use std::time::Duration;

use rustls::server::ProducesTickets;

use crate::state::Shared;

/// Keys stay for so much too long at most.
const LOOK: Duration = Duration::from_secs(60);

/// Looks after the keys of the listeners in force, for ever.
pub async fn run(shared: Arc<Shared>) {
    let in_force = || {
        let snapshot = shared.snapshot.load();
        let servers = snapshot.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        servers.map(|tls| Arc::clone(&tls.config.ticketer)).collect()
    };
    look_after(in_force).await;
}

async fn look_after(in_force: impl Fn() -> Vec<Arc<dyn ProducesTickets>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        for ticketer in in_force() {
            // A ticket for nobody, for the look at the clock that comes with it.
            let _ = ticketer.encrypt(b"");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Counts how often it would have looked at the clock.
    #[derive(Debug, Default)]
    struct Counting(AtomicU32);

    impl ProducesTickets for Counting {
        fn enabled(&self) -> bool {
            true
        }

        fn lifetime(&self) -> u32 {
            0
        }

        fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            None
        }

        fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_ticketer_looks_at_the_clock_once_a_minute() {
        let ticketers = [Arc::new(Counting::default()), Arc::new(Counting::default())];
        let in_force = || ticketers.iter().map(|one| Arc::clone(one) as _).collect();
        let hour = Duration::from_secs(3600) + LOOK / 2;
        let _ = tokio::time::timeout(hour, look_after(in_force)).await;
        assert_eq!(ticketers.map(|one| one.0.load(Ordering::Relaxed)), [60, 60]);
    }
}
