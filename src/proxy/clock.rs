//! A worker's clock: looked at when something happens, and good for what follows at once.

use std::cell::Cell;

use tokio::time::Instant;

/// A clock that is looked at once in a turn. A turn is one poll of a connection's or a stream's
/// task: whatever happens in it happens at the same time.
#[derive(Debug)]
pub struct Clock {
    latest: Cell<Instant>,
    turn: Cell<Turn>,
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    /// Whoever asks may have waited for long.
    Outside,
    /// Nobody has looked yet.
    Begun,
    Looked,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct InTurn<'a>(&'a Clock);

impl Clock {
    /// A clock that was looked at `now`.
    pub fn new(now: Instant) -> Self {
        Clock { latest: Cell::new(now), turn: Cell::new(Turn::Outside) }
    }

    /// Looks, for what happens now and what follows at once.
    pub fn tick(&self) -> Instant {
        let now = Instant::now();
        self.latest.set(now);
        if matches!(self.turn.get(), Turn::Begun) {
            self.turn.set(Turn::Looked);
        }
        now
    }

    /// The time at the latest look, whenever that was: good for what has not awaited anything
    /// since.
    pub fn latest(&self) -> Instant {
        self.latest.get()
    }

    /// The time of this turn, for those who cannot tell when the latest look was. Looks if nobody
    /// has yet, and always outside of a turn.
    pub fn of_turn(&self) -> Instant {
        match self.turn.get() {
            Turn::Looked => self.latest.get(),
            Turn::Begun | Turn::Outside => self.tick(),
        }
    }

    /// Begins a turn.
    pub fn turn(&self) -> InTurn<'_> {
        self.turn.set(Turn::Begun);
        InTurn(self)
    }
}

impl Drop for InTurn<'_> {
    fn drop(&mut self) {
        self.0.turn.set(Turn::Outside);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const STEP: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn what_was_looked_up_in_a_turn_is_its_time() {
        let clock = Clock::new(Instant::now());
        let _turn = clock.turn();
        let looked = clock.tick();
        tokio::time::advance(STEP).await;
        assert_eq!(clock.of_turn(), looked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_does_not_take_over_the_time_of_the_one_before() {
        let clock = Clock::new(Instant::now());
        let before = {
            let _turn = clock.turn();
            clock.tick()
        };
        tokio::time::advance(STEP).await;
        let _turn = clock.turn();
        assert_eq!(clock.of_turn(), before + STEP);
    }

    #[tokio::test(start_paused = true)]
    async fn outside_of_a_turn_it_is_always_looked_at() {
        let clock = Clock::new(Instant::now());
        drop(clock.turn());
        let looked = clock.tick();
        tokio::time::advance(STEP).await;
        assert_eq!(clock.of_turn(), looked + STEP);
    }
}
