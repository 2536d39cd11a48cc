//! Whether a failed attempt is followed by another. Pure but for the budget that it spends from.
//!
//! Two questions, kept apart: is another attempt safe (nothing was sent, or the method is
//! idempotent and its body can be sent again; RFC 9110 section 9.2.2), and is it wanted (the pool's
//! settings, the attempts left, the budget).

use std::time::Duration;

use http::{Method, StatusCode};

use crate::state::backend::RetryCounters;
use crate::state::counters::Counter;
use crate::state::pool::RetryPolicy;
use crate::upstream::Error;

/// The first pause between two attempts, doubled each time; the very first retry comes at once.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// What was wrong with an attempt, as far as retries are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection could not be opened.
    Connect,
    /// A reused connection was closed under the request: no sign of illness.
    Stale,
    /// The connection broke before an answer.
    Reset,
    /// The stream was refused unprocessed.
    RefusedStream,
    /// No answer in time.
    Timeout,
    /// No answer yet from a backend that was judged unfit meanwhile.
    Rescued,
    /// An answer with this status.
    Status(StatusCode),
}

impl Cause {
    /// The cause in an upstream error; `None` if another attempt cannot help.
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Unresolved | Error::Connect(_) | Error::ConnectTimeout | Error::Tls(_) => {
                Some(Cause::Connect)
            }
            Error::Stale => Some(Cause::Stale),
            Error::Reset(_) => Some(Cause::Reset),
            Error::RefusedStream => Some(Cause::RefusedStream),
            // Another backend needs a file as well.
            Error::OutOfFiles => None,
            // A pool speaks one protocol.
            Error::NoHttp1 => None,
            // A backend that talks nonsense has seen the request and may have acted on it; asking
            // again would only hide it.
            Error::Malformed(_) | Error::RequestBody | Error::Target(_) => None,
        }
    }

    /// A word for the log; of a status its number, if it is one that is usual here.
    pub fn label(self) -> &'static str {
        match self {
            Cause::Connect => "connect",
            Cause::Stale => "stale",
            Cause::Reset => "reset",
            Cause::RefusedStream => "refused_stream",
            Cause::Timeout => "timeout",
            Cause::Rescued => "rescued",
            Cause::Status(status) => match status.as_u16() {
                429 => "429",
                500 => "500",
                502 => "502",
                503 => "503",
                504 => "504",
                _ => "status",
            },
        }
    }

    /// The counter of retries for this cause.
    pub fn counter(self, counters: &RetryCounters) -> &Counter {
        match self {
            Cause::Connect => &counters.connect,
            Cause::Stale | Cause::Reset => &counters.reset,
            Cause::RefusedStream => &counters.refused_stream,
            Cause::Timeout => &counters.timeout,
            Cause::Rescued => &counters.rescued,
            Cause::Status(_) => &counters.status,
        }
    }

    /// Whether the backend cannot have seen the request.
    fn is_unsent(self) -> bool {
        matches!(self, Cause::Connect | Cause::RefusedStream)
    }

    /// Whether a retry costs budget. One for a request that was never sent puts no load on anyone,
    /// and a stale connection is the price of keep-alive; were they charged, a backend that dies
    /// would use up what others need. Nor does a rescue: there are no more of them than requests
    /// that waited on the one backend when it was judged, each gives up its place there for the one
    /// that it takes, and the judgement is the control plane's, which no storm of retries makes
    /// faster. Were they charged, a hang under load would leave some of its victims to the timeout.
    pub fn is_charged(self) -> bool {
        matches!(self, Cause::Reset | Cause::Timeout | Cause::Status(_))
    }

    fn is_wanted(self, policy: &RetryPolicy) -> bool {
        match self {
            Cause::Connect => policy.on_connect,
            Cause::Stale | Cause::Reset => policy.on_reset,
            Cause::RefusedStream => policy.on_refused_stream,
            // A rescue is a timeout that was seen to come.
            Cause::Timeout | Cause::Rescued => policy.on_timeout,
            Cause::Status(status) => policy.on_status.contains(&status.as_u16()),
        }
    }
}

/// Whether another attempt is both safe and wanted, budget aside.
///
/// `idempotent` is whether the method may be carried out twice; `replayable`, whether the body, if
/// any, can be sent again from its beginning.
pub fn is_due(
    cause: Cause,
    policy: &RetryPolicy,
    attempts: u32,
    idempotent: bool,
    replayable: bool,
) -> bool {
    let safe = replayable && (idempotent || cause.is_unsent());
    safe && attempts < policy.attempts && cause.is_wanted(policy)
}

/// Methods that may be sent twice (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

/// Whether an answer is worth another try elsewhere although its status is in no list: a 500 to a GET
/// or a HEAD, once for a request, and only while the other backends are well. So a sick backend
/// shows to nobody, and a bug in every replica is not multiplied. The budget is the caller's matter.
pub fn is_hidden(
    status: StatusCode,
    method: &Method,
    hidden_before: bool,
    others_well: bool,
) -> bool {
    status.as_u16() == 500
        && matches!(*method, Method::GET | Method::HEAD)
        && !hidden_before
        && others_well
}

/// How long to wait before the next attempt after so many; `random` is uniform in 0.0..1.0. Jitter
/// keeps the clients of a backend that fell from coming back to it in step.
pub fn pause(attempts: u32, random: f64) -> Option<Duration> {
    let doublings = attempts.checked_sub(2)?.min(6);
    Some((FIRST_PAUSE * 2_u32.pow(doublings)).mul_f64(0.5 + 0.5 * random))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 3,
            budget: 0.2,
            budget_floor: 10.0,
            on_connect: true,
            on_reset: true,
            on_refused_stream: true,
            on_timeout: true,
            on_status: smallvec::smallvec![502, 503, 504],
        }
    }

    #[test]
    fn what_was_never_sent_is_sent_again_whatever_the_method() {
        assert!(is_due(Cause::Connect, &policy(), 1, false, true));
    }

    #[test]
    fn what_was_sent_is_sent_again_only_if_idempotent() {
        assert!(!is_due(Cause::Reset, &policy(), 1, false, true));
        assert!(is_due(Cause::Reset, &policy(), 1, true, true));
    }

    #[test]
    fn a_body_that_was_read_and_not_kept_is_not_sent_again() {
        assert!(!is_due(Cause::RefusedStream, &policy(), 1, true, false));
    }

    #[test]
    fn attempts_are_bounded() {
        assert!(is_due(Cause::Connect, &policy(), 2, true, true));
        assert!(!is_due(Cause::Connect, &policy(), 3, true, true));
    }

    #[test]
    fn only_listed_statuses_are_tried_again() {
        let with = |code| Cause::Status(StatusCode::from_u16(code).unwrap());
        assert!(is_due(with(503), &policy(), 1, true, true));
        assert!(!is_due(with(500), &policy(), 1, true, true));
    }

    #[test]
    fn post_and_patch_are_not_idempotent() {
        assert!(!is_idempotent(&Method::POST));
        assert!(!is_idempotent(&Method::PATCH));
        assert!(is_idempotent(&Method::PUT));
    }

    #[test]
    fn a_500_is_hidden_once_if_the_others_are_well() {
        let error = StatusCode::INTERNAL_SERVER_ERROR;
        for (status, method, before, well, hidden) in [
            (error, Method::GET, false, true, true),
            (error, Method::HEAD, false, true, true),
            (error, Method::GET, true, true, false),
            (error, Method::GET, false, false, false),
            (error, Method::PUT, false, true, false),
            (StatusCode::NOT_IMPLEMENTED, Method::GET, false, true, false),
        ] {
            assert_eq!(is_hidden(status, &method, before, well), hidden, "{status} to {method}");
        }
    }

    #[test]
    fn the_first_retry_comes_at_once_and_the_next_ones_wait_longer() {
        assert_eq!(pause(1, 1.0), None);
        assert_eq!(pause(2, 1.0), Some(Duration::from_millis(25)));
        assert_eq!(pause(3, 0.0), Some(Duration::from_millis(25)));
    }
}
