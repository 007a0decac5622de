//! What of each partition was handed out, what of it is done, and up to where all is: that may be
//! committed. It does no I/O.
//!
//! A span is a stretch of a partition without a break: where the partition is revoked, or another
//! position is sought, the span ends, and what is done of it later counts for nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::{At, Offsets, TopicPartition};

/// The progress of a consumer; safe for concurrent use. Its lock is taken last, and is held for
/// moments.
#[derive(Default)]
pub(crate) struct Progress {
    spans: Mutex<HashMap<TopicPartition, Arc<Span>>>,
}

/// A stretch of a partition.
pub(crate) struct Span {
    pub(crate) of: TopicPartition,
    state: Mutex<State>,
    /// `true` once it ended: pauses between attempts end with it.
    gone: watch::Sender<bool>,
    /// `true` once it ended and no handler is at work.
    idle: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// In order of offset; those before the first that is not done are gone.
    slots: VecDeque<Slot>,
    /// Number of `slots[0]`.
    first: u64,
    /// Behind the last that is done with all before it.
    next: Option<At>,
    /// `next` was not taken for a commit yet.
    moved: bool,
    running: usize,
    ended: bool,
    /// Nothing of it is to be committed by hand: another position was sought, or others may have the partition.
    lost: bool,
}

struct Slot {
    offset: i64,
    epoch: i32,
    done: bool,
}

/// Where in a span a message is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) span: Arc<Span>,
    pub(crate) at: u64,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.span.of, self.at)
    }
}

/// A handler at work on a span; it has ended when this is dropped.
pub(crate) struct Working(Arc<Span>);

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        let idle = state.ended && state.running == 0;
        drop(state);
        if idle {
            self.0.idle.send_replace(true);
        }
    }
}

/// The lock's owner: it is never poisoned in a way that matters, for no code panics under it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Progress {
    /// Notes records of one partition that are handed out, in their order, and returns the place of
    /// the first; the others' follow.
    pub(crate) fn add(&self, of: &TopicPartition, records: impl Iterator<Item = (i64, i32)>) -> Place {
        let mut spans = lock(&self.spans);
        let span = spans.entry(of.clone()).or_insert_with(|| Arc::new(Span::new(of.clone(), State::default())));
        let mut state = span.lock();
        let at = state.first + state.slots.len() as u64;
        state.slots.extend(records.map(|(offset, epoch)| Slot { offset, epoch, done: false }));
        drop(state);
        Place { span: Arc::clone(span), at }
    }

    /// Ends the spans of some partitions, which take no part in [`Progress::take`] any more.
    pub(crate) fn close<'a>(&self, of: impl IntoIterator<Item = &'a TopicPartition>, lost: bool) -> Vec<Arc<Span>> {
        let mut spans = lock(&self.spans);
        let closed: Vec<_> = of.into_iter().filter_map(|tp| spans.remove(tp)).collect();
        drop(spans);
        closed.iter().for_each(|span| span.finish(lost));
        closed
    }

    /// Ends all spans.
    pub(crate) fn close_all(&self) -> Vec<Arc<Span>> {
        let closed: Vec<_> = lock(&self.spans).drain().map(|(_, span)| span).collect();
        closed.iter().for_each(|span| span.finish(false));
        closed
    }

    /// What has moved since the last take.
    pub(crate) fn take(&self) -> Offsets {
        lock(&self.spans).values().filter_map(|span| span.take()).collect()
    }

    /// What has moved of spans that have ended.
    pub(crate) fn last(spans: &[Arc<Span>]) -> Offsets {
        spans.iter().filter_map(|span| span.take()).collect()
    }

    /// Has what could not be committed taken again.
    pub(crate) fn restore(&self, taken: &Offsets) {
        let spans = lock(&self.spans);
        for tp in taken.keys() {
            if let Some(span) = spans.get(tp) {
                span.lock().moved = true;
            }
        }
    }

    /// Ends the spans of which something was handed out that is not handled, and returns where to
    /// read on.
    pub(crate) fn rewound(&self) -> Offsets {
        let mut spans = lock(&self.spans);
        let back: Offsets = spans
            .iter()
            .filter_map(|(tp, span)| {
                span.lock().slots.front().map(|slot| (tp.clone(), At { offset: slot.offset, epoch: -1 }))
            })
            .collect();
        for tp in back.keys() {
            if let Some(span) = spans.remove(tp) {
                // What was handled before stays to be committed.
                let next = span.take();
                span.finish(true);
                if let Some((of, next)) = next {
                    let state = State { next: Some(next), moved: true, ..State::default() };
                    spans.insert(of.clone(), Arc::new(Span::new(of, state)));
                }
            }
        }
        back
    }
}

impl Span {
    fn new(of: TopicPartition, state: State) -> Self {
        Span { of, state: Mutex::new(state), gone: watch::Sender::new(false), idle: watch::Sender::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Says that a handler is at work, unless the span has ended.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Working> {
        let mut state = self.lock();
        if state.ended {
            return None;
        }
        state.running += 1;
        drop(state);
        Some(Working(Arc::clone(self)))
    }

    /// Says that the records of `n` places, from `at` on, are handled. The span may end while a
    /// handler is at work, and what that has done before it is idle counts.
    pub(crate) fn done(&self, at: u64, n: u64) {
        let mut state = self.lock();
        // Places before the first were done before.
        let from = at.saturating_sub(state.first) as usize;
        let to = ((at + n).saturating_sub(state.first) as usize).min(state.slots.len());
        for slot in state.slots.range_mut(from.min(to)..to) {
            slot.done = true;
        }
        while state.slots.front().is_some_and(|slot| slot.done) {
            if let Some(slot) = state.slots.pop_front() {
                state.next = Some(At { offset: slot.offset + 1, epoch: slot.epoch });
                state.moved = true;
                state.first += 1;
            }
        }
    }

    fn take(&self) -> Option<(TopicPartition, At)> {
        let mut state = self.lock();
        let moved = std::mem::take(&mut state.moved);
        state.next.filter(|_| moved).map(|next| (self.of.clone(), next))
    }

    fn finish(&self, lost: bool) {
        let mut state = self.lock();
        (state.ended, state.lost) = (true, lost);
        let idle = state.running == 0;
        drop(state);
        self.gone.send_replace(true);
        if idle {
            self.idle.send_replace(true);
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// Says that who revokes waits for handlers no longer.
    pub(crate) fn lose(&self) {
        self.lock().lost = true;
    }

    /// Whether the position of a message of the span may be committed by hand: who revokes waits
    /// for handlers.
    pub(crate) fn may_commit(&self) -> bool {
        let state = self.lock();
        !state.ended || !state.lost && state.running > 0
    }

    /// Waits until the span has ended.
    pub(crate) async fn gone(&self) {
        wait(&self.gone).await;
    }

    /// Waits until the span has ended and no handler is at work.
    pub(crate) async fn idle(&self) {
        wait(&self.idle).await;
    }
}

async fn wait(flag: &watch::Sender<bool>) {
    // The sender lives as long as the span that is borrowed: there is no other error.
    let _ = flag.subscribe().wait_for(|set| *set).await;
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll};

    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    fn added(progress: &Progress, partition: i32, offsets: std::ops::Range<i64>) -> Place {
        progress.add(&tp(partition), offsets.map(|o| (o, 4)))
    }

    fn next(progress: &Progress, partition: i32) -> Option<i64> {
        progress.take().get(&tp(partition)).map(|p| p.offset)
    }

    fn is_ready(future: impl Future) -> bool {
        let mut future = std::pin::pin!(future);
        matches!(future.as_mut().poll(&mut Context::from_waker(futures::task::noop_waker_ref())), Poll::Ready(_))
    }

    #[test]
    fn nothing_behind_a_gap_is_committed() {
        let progress = Progress::default();
        let place = added(&progress, 0, 10..15);
        place.span.done(place.at + 1, 2);
        assert_eq!(next(&progress, 0), None);
        place.span.done(place.at, 1);
        assert_eq!(next(&progress, 0), Some(13));
        assert_eq!(next(&progress, 0), None, "it was taken");
        let more = added(&progress, 0, 20..22);
        more.span.done(more.at, 2);
        assert_eq!(next(&progress, 0), None, "13 and 14 are not done");
        place.span.done(place.at, 5);
        assert_eq!(next(&progress, 0), Some(22));
    }

    #[test]
    fn what_could_not_be_committed_is_taken_again() {
        let progress = Progress::default();
        let place = added(&progress, 0, 0..3);
        place.span.done(place.at, 2);
        let taken = progress.take();
        progress.restore(&taken);
        assert_eq!(progress.take(), taken);
    }

    #[test]
    fn a_span_that_ended_counts_only_for_who_is_at_work() {
        let progress = Progress::default();
        let place = added(&progress, 0, 0..3);
        let working = place.span.begin().unwrap();
        let closed = progress.close([&tp(0)], false);
        assert!(place.span.begin().is_none() && place.span.may_commit());
        assert!(is_ready(place.span.gone()) && !is_ready(place.span.idle()));
        place.span.done(place.at, 1);
        drop(working);
        assert!(is_ready(place.span.idle()) && !place.span.may_commit());
        assert_eq!(Progress::last(&closed).get(&tp(0)).unwrap().offset, 1);
        assert!(progress.take().is_empty());
        let again = added(&progress, 0, 7..8);
        place.span.done(place.at, 3);
        again.span.done(again.at, 1);
        assert_eq!(next(&progress, 0), Some(8));
    }

    /// Others may have the partition: the group would take the position from this member all the same.
    #[test]
    fn nothing_of_a_lost_partition_is_committed_by_who_is_still_at_work() {
        let progress = Progress::default();
        let (at_once, too_long) = (added(&progress, 0, 0..3), added(&progress, 1, 0..3));
        let _working = (at_once.span.begin().unwrap(), too_long.span.begin().unwrap());
        progress.close([&tp(0)], true);
        assert!(!at_once.span.may_commit());
        progress.close([&tp(1)], false);
        assert!(too_long.span.may_commit(), "it is waited for");
        too_long.span.lose();
        assert!(!too_long.span.may_commit());
    }

    #[test]
    fn what_was_not_handled_is_read_again() {
        let progress = Progress::default();
        let (half, whole) = (added(&progress, 0, 5..9), added(&progress, 1, 0..2));
        half.span.done(half.at, 2);
        whole.span.done(whole.at, 2);
        let back = progress.rewound();
        assert_eq!(back.len(), 1);
        assert_eq!(back[&tp(0)].offset, 7);
        assert!(half.span.is_ended() && !half.span.may_commit() && !whole.span.is_ended());
        let taken = progress.take();
        assert_eq!((taken[&tp(0)].offset, taken[&tp(1)].offset), (7, 2), "what was handled stays to be committed");
        assert!(progress.take().is_empty());
    }
}
