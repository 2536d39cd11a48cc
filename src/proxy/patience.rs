//! How long a backend is waited for: for the head of its answer from when it has the whole request,
//! and until then for it to take more of the request. What a client's own pauses cost is not held
//! against the backend.

use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::body::Progress;
use super::outgoing::Outgoing;
use super::timer::Timer;
use super::waiting::Place;

/// What was waited for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The backend, with its answer.
    Backend,
    /// The backend, with taking the request's body.
    Upload,
    /// All of it: the route's total time is over.
    Deadline,
    /// The same, but the backend had less than half of it to itself.
    LateStart,
    /// The same, while more of the request was awaited from the client.
    Client,
    /// The backend was judged unfit, and it is not waited for any longer.
    Unfit,
}

/// Longer than anybody waits: for a timer that is only there to be expired early.
const AGES: Duration = Duration::from_secs(24 * 3600);

/// How long a backend may leave us waiting.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of its answer, from the request fully sent.
    pub head: Option<Duration>,
    /// For it to take more of the request body.
    pub upload: Option<Duration>,
}

impl Patience {
    /// For as long as it takes.
    pub const ENDLESS: Patience = Patience { head: None, upload: None };

    /// Whether it is over, and if not, when to look again at the latest.
    fn look(
        self,
        outgoing: &Outgoing,
        sent: Instant,
        now: Instant,
    ) -> Result<Option<Instant>, Late> {
        let since = |moved: Instant, limit: Option<Duration>| limit.map(|l| moved.max(sent) + l);
        let (end, may_finish) = match progress(outgoing, sent) {
            Progress::Finished(at) => (since(at, self.head), false),
            Progress::Untaken(moved) => (since(moved, self.upload), true),
            // The client's own pauses are limited by whoever reads from it.
            Progress::Awaited => (None, true),
        };
        if end.is_some_and(|end| end <= now) {
            return Err(if may_finish { Late::Upload } else { Late::Backend });
        }
        let again = [self.head, self.upload].into_iter().flatten().min().filter(|_| may_finish);
        Ok([end, again.map(|pause| now + pause)].into_iter().flatten().min())
    }
}

/// How far the request's body has come; none has come as far as it can when its head is `sent`.
fn progress(outgoing: &Outgoing, sent: Instant) -> Progress {
    outgoing.upload.as_ref().map_or(Progress::Finished(sent), |upload| upload.progress())
}

/// Who was late when the route's total time, which `began` then, is over. That is held against a
/// backend only if it had at least half of it to itself: from when it was `picked`, and from when the
/// client last gave something of the request. What went before is not its own: a wait for a slot,
/// attempts on others, a slow upload.
fn at_deadline(began: Instant, deadline: Instant, picked: Instant, progress: Progress) -> Late {
    let since = match progress {
        Progress::Awaited => return Late::Client,
        Progress::Finished(at) | Progress::Untaken(at) => at.max(picked),
    };
    let own = deadline.saturating_duration_since(since);
    if own * 2 >= deadline.saturating_duration_since(began) {
        Late::Deadline
    } else {
        Late::LateStart
    }
}

/// Waits at a place for the response head of a request that began to be `sent` then, as long as there
/// is patience, and not beyond the route's total time. Should the backend be judged unfit meanwhile,
/// `may_leave` says whether the request can go elsewhere. What has come by then is taken, whatever
/// was judged.
///
/// # Errors
/// Who was late.
pub async fn in_time<F: Future>(
    (timer, place): (&Timer, &Place),
    patience: Patience,
    outgoing: &Outgoing,
    sent: Instant,
    may_leave: impl Fn() -> bool,
    mut sending: Pin<&mut F>,
) -> Result<F::Output, Late> {
    let mut now = sent;
    let result = std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = sending.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        loop {
            if timer.is_armed() {
                ready!(timer.poll_expired(cx));
                now = Instant::now();
            }
            if let Some(deadline) = outgoing.deadline.filter(|deadline| *deadline <= now) {
                let picked = place.began();
                let progress = progress(outgoing, picked);
                return Poll::Ready(Err(at_deadline(outgoing.began, deadline, picked, progress)));
            }
            if place.is_rescued() && (may_leave() || place.is_cut()) {
                return Poll::Ready(Err(Late::Unfit));
            }
            let next = match patience.look(outgoing, sent, now) {
                Ok(next) => next,
                Err(late) => return Poll::Ready(Err(late)),
            };
            let next = [next, outgoing.deadline].into_iter().flatten().min();
            timer.arm(next.unwrap_or(now + AGES));
            place.wake_by(timer);
        }
    })
    .await;
    timer.disarm();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_answers_for_the_routes_time_if_half_of_it_was_its_own() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let table = [
            (0, Progress::Finished(at(0)), Late::Deadline),
            (5, Progress::Finished(at(0)), Late::Deadline),
            (6, Progress::Finished(at(0)), Late::LateStart),
            (10, Progress::Finished(at(0)), Late::LateStart),
            (0, Progress::Finished(at(5)), Late::Deadline),
            (0, Progress::Finished(at(6)), Late::LateStart),
            (0, Progress::Untaken(at(1)), Late::Deadline),
            (0, Progress::Untaken(at(9)), Late::LateStart),
            (6, Progress::Untaken(at(1)), Late::LateStart),
            (0, Progress::Awaited, Late::Client),
        ];
        for (picked, progress, late) in table {
            let answer = at_deadline(began, at(10), at(picked), progress);
            assert_eq!(answer, late, "picked at {picked}: {progress:?}");
        }
    }
}
