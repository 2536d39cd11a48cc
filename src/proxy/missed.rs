//! An attempt that brought no answer for the client: why, and what that says.

use http::StatusCode;

use super::error::{Failure, upstream_reason};
use super::outgoing::Outgoing;
use super::patience::Late;
use super::retry::Cause;
use crate::health::outliers::Outcome;
use crate::state::backend::TimeoutCounters;
use crate::upstream;

/// How an attempt failed.
pub enum Missed {
    /// For a cause that another attempt may not meet.
    Again(Cause, Failure),
    /// By an answer with this status, for which somebody else is to be asked: that was decided, and
    /// paid for, while the answer could still be passed on.
    Answered(StatusCode),
    /// Or in a way that no other attempt would change.
    Final(Failure),
}

impl From<Late> for Missed {
    fn from(late: Late) -> Missed {
        match late {
            Late::Backend => Missed::Again(Cause::Timeout, Failure::ResponseTimeout),
            Late::Upload => Missed::Again(Cause::Timeout, Failure::UploadStalled),
            Late::Deadline => Missed::Final(Failure::Deadline),
            Late::LateStart => Missed::Final(Failure::LateStart),
            Late::Client => Missed::Final(Failure::SlowRequest),
            Late::Unfit => Missed::Again(Cause::Rescued, Failure::ResponseTimeout),
        }
    }
}

impl Missed {
    /// What an upstream error means for the request.
    pub fn by(error: upstream::Error, outgoing: &Outgoing) -> Missed {
        if let Some(failure) = outgoing.upload.as_ref().and_then(|upload| upload.failure()) {
            return Missed::Final(Failure::Upload(failure));
        }
        tracing::debug!(reason = upstream_reason(&error), %error, "an attempt failed");
        match Cause::of(&error) {
            Some(cause) => Missed::Again(cause, error.into()),
            None => Missed::Final(error.into()),
        }
    }

    /// What the attempt says of its backend, if anything.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Missed::Again(Cause::Stale | Cause::RefusedStream, _) => None,
            Missed::Again(..) => Some(Outcome::Failure),
            Missed::Answered(status) => Some(Outcome::of_answer(status.as_u16(), false, false)),
            Missed::Final(
                Failure::Handshake
                | Failure::Deadline
                | Failure::Upstream(upstream::Error::Malformed(_)),
            ) => Some(Outcome::Failure),
            Missed::Final(_) => None,
        }
    }

    /// Counts it, if the backend was waited for too long.
    pub fn count_timeout(&self, timeouts: &TimeoutCounters) {
        match self {
            Missed::Again(Cause::Timeout, Failure::UploadStalled) => timeouts.body_idle.add(1),
            Missed::Again(Cause::Timeout, _) => timeouts.response.add(1),
            Missed::Final(Failure::Deadline | Failure::LateStart) => timeouts.route.add(1),
            _ => {}
        }
    }

    /// The status that it was answered with, if it was.
    pub fn status(&self) -> Option<u16> {
        match self {
            Missed::Answered(status) => Some(status.as_u16()),
            _ => None,
        }
    }
}
