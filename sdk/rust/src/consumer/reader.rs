//! What the tasks of a consumer share, and where they are started.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::positions::{Limits, Positions};
use super::progress::{Place, Progress, Span};
use super::record::ConsumerRecord;
use super::{Offsets, Options, Position, TopicPartition, commit, driver, group};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::error::{Error, Result};

/// Bytes of a partition that are fetched ahead: two answers' worth.
const PARTITION_AHEAD: usize = 2 << 20;
/// Bytes of all partitions that are fetched ahead.
const TOTAL_AHEAD: usize = 64 << 20;

/// Who this consumer is in its group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    pub(crate) member: String,
    /// Generation of a classic group, member epoch of one of KIP-848; -1: it is no member.
    pub(crate) generation: i32,
    /// How often it has ceased to be a member: what it had before, others may have.
    pub(crate) ceased: u64,
}

/// A consumer but for its codec.
pub(crate) struct Reader {
    pub(crate) client: Client,
    pub(crate) options: Options,
    pub(crate) progress: Progress,
    positions: Mutex<Positions>,
    membership: Mutex<Membership>,
    /// What the next poll fails with; the flag: and each after it.
    failure: Mutex<Option<(Error, bool)>>,
    /// There is something to hand out, or a failure.
    news: Notify,
    /// The positions have changed.
    work: watch::Sender<u64>,
    /// Set once: the tasks are to end.
    stop: watch::Sender<bool>,
    /// Handlers run: who revokes waits for them.
    handling: AtomicBool,
    /// One commit at a time.
    pub(super) committing: Arc<tokio::sync::Mutex<()>>,
}

/// The tasks of a consumer. They end by themselves once it is dropped, the member with a last commit.
pub(crate) struct Tasks {
    reader: Arc<Reader>,
    tasks: Option<JoinSet<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    pub(crate) fn new(client: Client, options: Options) -> Arc<Self> {
        let limits = Limits { partition: PARTITION_AHEAD, total: TOTAL_AHEAD };
        Arc::new(Reader {
            positions: Mutex::new(Positions::new(limits, options.from)),
            client,
            options,
            progress: Progress::default(),
            membership: Mutex::new(Membership { member: String::new(), generation: -1, ceased: 0 }),
            failure: Mutex::new(None),
            news: Notify::new(),
            work: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            handling: AtomicBool::new(false),
            committing: Arc::default(),
        })
    }

    /// Starts the tasks. Each blocks on brokers, on timers, and on changes of positions; all end when
    /// they are told to stop, or the client is closed.
    pub(crate) fn start(self: &Arc<Self>) -> Tasks {
        let mut tasks = JoinSet::new();
        tasks.spawn(driver::drive(Arc::clone(self)));
        if self.in_group() {
            tasks.spawn(group::belong(Arc::clone(self)));
            if !self.options.manual {
                tasks.spawn(commit::now_and_then(Arc::clone(self)));
            }
        }
        tasks.spawn(end_with_client(Arc::clone(self)));
        Tasks { reader: Arc::clone(self), tasks: Some(tasks) }
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        self.client.cluster()
    }

    pub(crate) fn in_group(&self) -> bool {
        !self.options.group.is_empty()
    }

    pub(crate) fn topics(&self) -> Vec<&str> {
        self.options.topics.iter().map(|t| &**t).collect()
    }

    /// Looks at, or changes, the positions. What waits for a change is woken by [`Reader::wake`].
    pub(crate) fn positions(&self) -> MutexGuard<'_, Positions> {
        lock(&self.positions)
    }

    pub(crate) fn membership(&self) -> Membership {
        lock(&self.membership).clone()
    }

    pub(crate) fn set_membership(&self, member: &str, generation: i32) {
        let mut is = lock(&self.membership);
        let ceased = is.ceased + u64::from(generation < 0);
        *is = Membership { member: member.to_owned(), generation, ceased };
    }

    /// Wakes whoever waits for a change of positions.
    pub(crate) fn wake(&self) {
        self.work.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.work.subscribe()
    }

    /// Waits until the tasks are to end.
    pub(crate) async fn stopped(&self) {
        // The sender is borrowed: it is there.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        self.news.notify_waiters();
    }

    /// Has the next poll fail; reading goes on.
    pub(crate) fn report(&self, err: Error) {
        let mut failure = lock(&self.failure);
        if !failure.as_ref().is_some_and(|(_, for_good)| *for_good) {
            *failure = Some((err, false));
        }
        drop(failure);
        self.news.notify_waiters();
    }

    /// Has this and all later polls fail.
    pub(crate) fn fail(&self, err: Error) {
        *lock(&self.failure) = Some((err, true));
        self.news.notify_waiters();
    }

    /// Says that there may be something to hand out.
    pub(crate) fn announce(&self) {
        self.news.notify_waiters();
    }

    pub(crate) fn set_handling(&self, handling: bool) {
        self.handling.store(handling, Ordering::SeqCst);
    }

    /// Waits for records, and hands out at most `most`. What it returns is noted as handed out; the future may be
    /// dropped before.
    pub(crate) async fn next(&self, most: usize) -> Result<Vec<(Place, Vec<ConsumerRecord>)>> {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            if self.is_stopped() {
                return Err(Error::Closed);
            }
            let taken = self.take(most);
            if !taken.is_empty() {
                self.wake(); // there is room again
                return Ok(taken);
            }
            if let Some(err) = self.take_failure() {
                return Err(err);
            }
            news.await;
        }
    }

    fn take(&self, most: usize) -> Vec<(Place, Vec<ConsumerRecord>)> {
        let mut positions = self.positions();
        let taken = positions.take(most).into_iter();
        // Under the lock: a revocation comes before or after both.
        taken
            .map(|(tp, records)| (self.progress.add(&tp, records.iter().map(|r| (r.offset, r.leader_epoch))), records))
            .collect()
    }

    fn take_failure(&self) -> Option<Error> {
        let mut failure = lock(&self.failure);
        match &*failure {
            Some((err, true)) => Some(err.clone()),
            _ => failure.take().map(|(err, _)| err),
        }
    }

    /// Has reading go on at an offset.
    pub(crate) fn seek(&self, tp: &TopicPartition, offset: i64) -> bool {
        let mut positions = self.positions();
        let is_read = positions.seek(tp, offset);
        if is_read {
            self.progress.close([tp], true);
        }
        drop(positions);
        self.wake();
        is_read
    }

    /// Has reading of all partitions go on at a position.
    pub(crate) fn seek_all(&self, position: Position) {
        let mut positions = self.positions();
        let assigned = positions.assigned();
        for tp in &assigned {
            positions.seek_to(tp, position);
        }
        self.progress.close(&assigned, true);
        drop(positions);
        self.wake();
    }

    /// Has what was handed out and is not handled read again.
    pub(crate) fn rewind(&self) {
        let mut positions = self.positions();
        for (tp, at) in self.progress.rewound() {
            positions.seek(&tp, at.offset);
        }
        drop(positions);
        self.wake();
    }

    /// [`Reader::rewind`] to where the group has committed by now, where that is later: a transaction whose end is not
    /// known may have been committed.
    pub(crate) fn rewind_to_committed(&self) {
        let mut positions = self.positions();
        for (tp, at) in self.progress.rewound() {
            positions.ask_again(&tp, at.offset);
        }
        drop(positions);
        self.wake();
    }

    /// Begins to read what the group has assigned.
    pub(crate) fn assign(&self, partitions: Vec<TopicPartition>) {
        self.positions().assign(partitions, true);
        self.wake();
    }

    /// Gives partitions up that others have already.
    pub(crate) fn lose(&self, partitions: &[TopicPartition]) {
        self.end(partitions, true);
    }

    fn end(&self, partitions: &[TopicPartition], lost: bool) -> Vec<Arc<Span>> {
        let mut positions = self.positions();
        positions.revoke(partitions);
        self.progress.close(partitions, lost)
    }

    /// Gives partitions up: waits for handlers that are at work, while what waits for them is not begun,
    /// and commits what they did.
    pub(crate) fn revoke(self: &Arc<Self>, partitions: &[TopicPartition]) -> BoxFuture<'static, ()> {
        let reader = Arc::clone(self);
        let revoked = Revoked(self.end(partitions, false)); // at once, whatever becomes of the future
        Box::pin(async move {
            let spans = &revoked.0;
            if reader.handling.load(Ordering::SeqCst) {
                let all = async {
                    for span in spans {
                        span.idle().await;
                    }
                };
                if timeout(reader.options.drain_timeout, all).await.is_err() {
                    warn!(
                        group = reader.options.group,
                        "handlers are at work on partitions that are given up: others may handle the same records again"
                    );
                }
            }
            if !reader.options.manual {
                reader.commit_last(Progress::last(spans)).await;
            }
        })
    }

    async fn commit_last(self: &Arc<Self>, offsets: Offsets) {
        if let Err(err) = self.commit(offsets, self.membership().ceased).await {
            warn!(group = self.options.group, error = %err, "what was handled could not be committed before partitions were given up: others handle it again");
        }
    }

    /// Waits for a time, or until the consumer is to end; whether it was the time.
    pub(crate) async fn pause(&self, pause: Duration) -> bool {
        timeout(pause, self.stopped()).await.is_err()
    }

    /// Waits for a moment, if there is one.
    pub(crate) async fn until(&self, at: Option<Instant>) {
        match at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// What is given up. It is lost once nobody waits for its handlers any more, for whatever reason.
struct Revoked(Vec<Arc<Span>>);

impl Drop for Revoked {
    fn drop(&mut self) {
        self.0.iter().for_each(|span| span.lose());
    }
}

/// Ends a consumer whose client is closed.
async fn end_with_client(reader: Arc<Reader>) {
    tokio::select! {
        () = reader.cluster().closed() => reader.stop(),
        () = reader.stopped() => {}
    }
}

impl Tasks {
    /// Ends the tasks, and waits for them.
    pub(crate) async fn end(&mut self) {
        self.reader.stop();
        if let Some(tasks) = &mut self.tasks {
            while tasks.join_next().await.is_some() {}
        }
        self.reader.progress.close_all();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.reader.stop();
        if let Some(mut tasks) = self.tasks.take() {
            tasks.detach_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_given_up_is_lost_where_nobody_waits_for_its_handlers_any_more() {
        let client = Client::builder().brokers(["127.0.0.1:1"]).build().await.unwrap();
        let reader = Reader::new(client, Options::new());
        let tp = TopicPartition { topic: "t".into(), partition: 0 };
        let place = reader.progress.add(&tp, [(5, 0)].into_iter());
        let _working = place.span.begin().unwrap();
        reader.set_handling(true);
        let mut revoking = reader.revoke(&[tp]);
        assert!(futures::poll!(revoking.as_mut()).is_pending());
        assert!(place.span.is_ended() && place.span.may_commit());
        drop(revoking);
        assert!(!place.span.may_commit());
    }
}
