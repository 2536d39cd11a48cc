//! A request before its pool's circuit breaker: whether it may pass, and what became of it.

use std::rc::Rc;
use std::sync::Arc;

use super::error::Failure;
use super::record::RequestRecord;
use super::worker::Worker;
use crate::health::{Admission, Trial};
use crate::state::Pool;
use crate::telemetry::events;

/// Leave to pass the breaker of a pool. Dropped, it tells what became of the request.
#[derive(Debug)]
pub struct Pass {
    worker: Rc<Worker>,
    pool: Arc<Pool>,
    trial: Option<Trial>,
    /// Unknown, and so of no account, if the client left, say.
    pub success: Option<bool>,
}

/// Asks the pool's breaker, if it has one. Leave to pass goes into the record, since the request's
/// outcome is known when that is dropped.
///
/// # Errors
/// If it is open.
pub fn admit(pool: &Arc<Pool>, record: &mut RequestRecord) -> Result<(), Failure> {
    if pool.circuit_breaker.is_none() {
        return Ok(());
    }
    let worker = &record.connection.worker;
    let breaker = &pool.state.breaker;
    let mut trial = None;
    if !breaker.is_quiet() {
        let (admission, transition) = breaker.admit(worker.shared.uptime());
        if let Some(transition) = transition {
            events::breaker_transition(&worker.shared, pool, &transition);
        }
        match admission {
            Admission::Pass => {}
            Admission::Trial(one) => trial = Some(one),
            Admission::Refused { retry_after } => {
                pool.state.cells.cell(worker.id).circuit_open.add(1);
                return Err(Failure::CircuitOpen { retry_after });
            }
        }
    }
    let pass = Pass { worker: Rc::clone(worker), pool: Arc::clone(pool), trial, success: None };
    record.pass = Some(pass);
    Ok(())
}

/// The request has failed, with all its attempts.
pub fn failed(failure: &Failure, record: &mut RequestRecord) {
    if let Some(mut pass) = record.pass.take() {
        let blamed = match failure {
            // What was before it had failed.
            Failure::LateStart => record.attempts > 1,
            _ => failure.blames_backend() && record.attempts > 0,
        };
        pass.success = blamed.then_some(false);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let breaker = &self.pool.state.breaker;
        let nothing_new = match self.success {
            Some(true) => breaker.is_quiet(),
            Some(false) => false,
            None => self.trial.is_none(),
        };
        if nothing_new {
            return;
        }
        let now = self.worker.shared.uptime();
        if let Some(transition) = breaker.tell(now, self.trial, self.success) {
            events::breaker_transition(&self.worker.shared, &self.pool, &transition);
        }
    }
}
