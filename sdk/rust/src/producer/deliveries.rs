//! How the deliveries of a client went.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::breaker::{Breaker, BreakerState, Delivered};
use crate::error::{Code, Error};

/// What all producers of a client share.
#[derive(Debug)]
pub(crate) struct Deliveries {
    watched: bool, // there is a circuit breaker
    all_well: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    last: Option<SystemTime>,
    error: Option<Error>,
}

impl Deliveries {
    pub(crate) fn new(breaker: Option<(u32, Duration)>) -> Self {
        let state = State { breaker: Breaker::new(breaker), last: None, error: None };
        Deliveries { watched: breaker.is_some(), all_well: AtomicBool::new(true), state: Mutex::new(state) }
    }

    /// Whether a record may be produced now.
    pub(super) fn allow(&self) -> bool {
        !self.watched || self.all_well.load(Ordering::Acquire) || self.lock().breaker.allow(Instant::now())
    }

    /// Notes the result of so many records; `None`: they were delivered.
    pub(super) fn note(&self, failed: Option<&Error>, n: u32) {
        let outcome = failed.map_or(Delivered::Yes, outcome);
        let mut state = self.lock();
        match outcome {
            Delivered::Yes => state.last = Some(SystemTime::now()),
            Delivered::No => state.error = failed.cloned(),
            Delivered::Neither => {}
        }
        let now = Instant::now();
        state.breaker.done(outcome, n, now);
        self.all_well.store(state.breaker.view(now).0 == BreakerState::Closed, Ordering::Release);
    }

    /// What the breaker does, how many deliveries failed in a row, when the last one went well, and how the last failed.
    pub(crate) fn view(&self) -> (BreakerState, u32, Option<SystemTime>, Option<Error>) {
        let state = self.lock();
        let (breaker, failed) = state.breaker.view(Instant::now());
        (breaker, failed, state.last, state.error.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an error tells of the brokers.
fn outcome(e: &Error) -> Delivered {
    match e {
        Error::Closed | Error::TransactionEnded(_) | Error::BufferFull { .. } | Error::TooLarge { .. } => {
            Delivered::Neither
        }
        Error::Broker { code, .. } if !code.is_retriable() && *code != Code::UnknownServerError => Delivered::Neither,
        _ => Delivered::No,
    }
}
