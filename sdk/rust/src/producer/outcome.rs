//! What became of a batch, for all who wait for one of its records.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::record::Delivery;

/// Where a batch was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) partition: i32,
    /// -1: not known.
    pub(super) base_offset: i64,
    /// The broker's timestamp; -1: the records keep their own.
    pub(super) append_time: i64,
}

/// What became of a batch: set once.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    done: OnceLock<Result<Placed>>,
    waiting: Mutex<Vec<Waker>>,
}

impl Outcome {
    /// Tells all who wait. The first call counts.
    pub(super) fn set(&self, result: Result<Placed>) {
        if self.done.set(result).is_ok() {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.done.get().is_some()
    }

    /// Has `place`, which is kept between calls, be woken.
    fn wait(&self, place: &mut Option<usize>, cx: &Context<'_>) -> Option<&Result<Placed>> {
        if let Some(done) = self.done.get() {
            return Some(done);
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = self.done.get() {
            return Some(done);
        }
        match place.and_then(|p| waiting.get_mut(p)) {
            Some(w) => w.clone_from(cx.waker()),
            None => {
                *place = Some(waiting.len());
                waiting.push(cx.waker().clone());
            }
        }
        None
    }

    /// Waits until it is set.
    pub(super) async fn settled(&self) {
        let mut place = None;
        std::future::poll_fn(|cx| match self.wait(&mut place, cx) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        })
        .await
    }
}

/// The result that a record will have. To drop it takes nothing back.
#[must_use = "the result of a record is known only once this is awaited"]
#[derive(Debug)]
pub struct Pending {
    outcome: Arc<Outcome>,
    number: i32, // in the batch
    timestamp: i64,
    place: Option<usize>,
}

impl Pending {
    pub(super) fn new(outcome: Arc<Outcome>, number: i32, timestamp: i64) -> Self {
        Pending { outcome, number, timestamp, place: None }
    }
}

impl Future for Pending {
    type Output = Result<Delivery, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(done) = this.outcome.wait(&mut this.place, cx) else { return Poll::Pending };
        Poll::Ready(match done {
            Ok(placed) => Ok(Delivery {
                partition: placed.partition,
                offset: if placed.base_offset < 0 { -1 } else { placed.base_offset + i64::from(this.number) },
                timestamp: if placed.append_time < 0 { this.timestamp } else { placed.append_time },
            }),
            Err(e) => Err(e.clone()),
        })
    }
}
