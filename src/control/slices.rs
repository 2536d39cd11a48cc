//! Work of the control plane at the usual priority, in slices.
//!
//! What has to be done soon, such as to put a configuration in force, does not go
//! [beside](super::beside), where it may wait for long. But with ten thousand backends it takes
//! milliseconds, and may have the only processor of a worker: the system lets whoever runs go on
//! until its time slice is over, and that is as long. So it offers the processor sooner.

use std::thread;
use std::time::{Duration, Instant};

/// A worker waits no longer than for a few of its own requests.
const SLICE: Duration = Duration::from_micros(100);

/// The same items. Whenever a slice is over, others that want the processor have it first: not other
/// tasks of the control runtime, and nothing waits where nobody wants it.
pub(super) fn sliced<I: Iterator>(items: I) -> impl Iterator<Item = I::Item> {
    let mut began = Instant::now();
    items.inspect(move |_| {
        if began.elapsed() >= SLICE {
            thread::yield_now();
            began = Instant::now();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_in_its_place() {
        let slow = (0..5).inspect(|_| {
            let began = Instant::now();
            while began.elapsed() < SLICE {}
        });
        assert!(sliced(slow).eq(0..5));
    }
}
