//! What the handles of a producer share with the task that sends: topics, the budget, and what is due.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::batch::{Identity, size_of};
use super::deliveries::Deliveries;
use super::outcome::{Outcome, Pending};
use super::partition::{Partition, Rules};
use super::partitioner::{Sticky, by_key};
use crate::builder::{Acks, Producing};
use crate::cluster::{Backoff, Cluster, Stale};
use crate::error::{Code, Error, Result};
use crate::record::Record;

/// Requests to one broker, and batches of one partition, that are under way at a time: Kafka's brokers remember as
/// many batches of an idempotent producer.
pub(super) const MOST_UNDER_WAY: usize = 5;

/// Of no transaction.
pub(crate) const NOBODY: u64 = u64::MAX;

/// Partitions of a topic.
struct Topic {
    partitions: RwLock<Arc<Vec<Arc<Partition>>>>,
    sticky: Sticky,
}

/// See the module.
pub(crate) struct Core {
    pub(super) cluster: Arc<Cluster>,
    pub(super) options: Producing,
    /// The transactional id, and what has to be done before a partition is first written to; `None`: no transactions.
    pub(super) transaction: Option<Arc<dyn Enlist>>,
    pub(super) deliveries: Arc<Deliveries>,
    topics: RwLock<HashMap<String, Arc<Topic>>>,
    budget: Semaphore, // bytes that may wait
    buffered: AtomicI64,
    pub(super) wake: Notify,
    signals: Mutex<Signals>,
    identity: Mutex<Option<Identity>>,
    pub(super) came_back: Notify, // a batch that was under way
    taking: AtomicU64,            // whose records are taken: the number of a transaction, 0 without, or NOBODY
    closing: AtomicBool,          // no handle is left
}

/// What a transaction has to do before its records are sent.
pub(crate) trait Enlist: Send + Sync {
    /// The transactional id.
    fn id(&self) -> &str;
    /// Whether the coordinator has to be told of partitions, and brokers are not to do it (before KIP-890's second part).
    fn explicit(&self) -> bool;
    /// Of these those that the coordinator has not been told of.
    fn unknown(&self, partitions: &[(String, i32)]) -> Vec<(String, i32)>;
    /// Notes that the coordinator knows of them, or will by the records themselves.
    fn known(&self, partitions: Vec<(String, i32)>);
    /// Notes that a record failed, and with it the transaction.
    fn fail(&self, why: &Error);
}

/// What the sender is to look at. Never locked across an await.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) lingering: VecDeque<(Instant, Arc<Partition>)>, // in the order of time
    pub(super) due: Vec<Arc<Partition>>,
}

impl Core {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        options: Producing,
        transaction: Option<Arc<dyn Enlist>>,
        deliveries: Arc<Deliveries>,
    ) -> Arc<Self> {
        Arc::new(Core {
            cluster,
            budget: Semaphore::new(options.buffered_bytes.min(Semaphore::MAX_PERMITS)),
            options,
            transaction,
            deliveries,
            topics: RwLock::default(),
            buffered: AtomicI64::new(0),
            wake: Notify::new(),
            signals: Mutex::default(),
            identity: Mutex::default(),
            came_back: Notify::new(),
            taking: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        })
    }

    pub(super) fn is_idempotent(&self) -> bool {
        self.options.acks == Acks::All
    }

    pub(crate) fn set_identity(&self, identity: Option<Identity>) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        self.wake.notify_one();
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            linger: self.options.linger,
            batch_bytes: self.options.max_record_bytes,
            // Without numbers the broker cannot put what was sent again in order.
            most_under_way: if self.is_idempotent() { MOST_UNDER_WAY } else { 1 },
            identity: self.identity().filter(|_| self.is_idempotent()),
        }
    }

    /// Takes a record of a transaction (0: there is none); `wait`: while the buffer is full.
    pub(crate) async fn enqueue(&self, record: Record, transaction: u64, wait: bool) -> Result<Pending> {
        if !self.deliveries.allow() {
            return Err(Error::BreakerOpen);
        }
        let bytes = size_of(&record);
        if bytes > self.options.max_record_bytes {
            return Err(Error::TooLarge { bytes, limit: self.options.max_record_bytes });
        }
        let topic = match self.topic(&record.topic) {
            Some(t) => t,
            None => self.learn(&record.topic, transaction).await?,
        };
        let reserved = self.reserve(bytes, wait).await?;
        self.append(&topic, &record, transaction, bytes, reserved).inspect_err(|_| self.release(reserved))
    }

    /// Takes a record of a topic with one partition, of which no broker is asked.
    #[cfg(test)]
    pub(crate) fn put(&self, topic: &str, value: &'static [u8], transaction: u64) -> Pending {
        let record = Record::to(topic).value(value);
        let known = self.know(topic, 1);
        self.append(&known, &record, transaction, size_of(&record), 0).expect("it is taken")
    }

    fn append(&self, topic: &Topic, record: &Record, of: u64, bytes: usize, reserved: usize) -> Result<Pending> {
        let partitions = topic.partitions.read().unwrap_or_else(PoisonError::into_inner).clone();
        let at = match (record.partition, &record.key) {
            (Some(p), _) => usize::try_from(p).unwrap_or(usize::MAX),
            (None, Some(key)) => by_key(key, partitions.len()),
            (None, None) => topic.sticky.next(bytes, partitions.len()),
        };
        let Some(partition) = partitions.get(at) else {
            let what = format!("{} has no partition {}", record.topic, record.partition.unwrap_or_default());
            return Err(Error::broker(what, Code::UnknownTopicOrPartition));
        };
        let timestamp = record.timestamp.unwrap_or_else(now_ms);
        let now = Instant::now();
        let mut state = partition.lock();
        self.usable(of)?; // under the lock, which who flushes or fails a transaction takes after it has ended that
        let (batch, fresh) = state.batch_for(bytes, self.options.max_record_bytes, now);
        let number = batch.push(record, timestamp);
        batch.reserved += reserved;
        let pending = Pending::new(batch.outcome.clone(), number, timestamp);
        let due = self.options.linger.is_zero() || state.is_due(self.options.max_record_bytes);
        let newly_due = due && !state.queued;
        state.queued |= due;
        drop(state);
        if newly_due {
            self.lock().due.push(partition.clone());
            self.wake.notify_one();
        } else if fresh && !due {
            let mut signals = self.lock();
            let first = signals.lingering.is_empty();
            signals.lingering.push_back((now + self.options.linger, partition.clone()));
            drop(signals);
            if first {
                self.wake.notify_one();
            }
        }
        Ok(pending)
    }

    fn usable(&self, transaction: u64) -> Result<()> {
        if self.cluster.is_closed() {
            return Err(Error::Closed);
        }
        if self.taking.load(Ordering::SeqCst) != transaction {
            return Err(Error::TransactionEnded("a record of it has failed, or it is over".to_owned()));
        }
        Ok(())
    }

    async fn reserve(&self, bytes: usize, wait: bool) -> Result<usize> {
        // A record that is larger than the whole budget has it alone.
        let n = u32::try_from(bytes.min(self.options.buffered_bytes)).unwrap_or(u32::MAX);
        let got = match self.budget.try_acquire_many(n) {
            Ok(got) => got,
            Err(_) if !wait => return Err(Error::BufferFull { bytes: self.buffered() }),
            Err(_) => tokio::select! {
                got = self.budget.acquire_many(n) => got.map_err(|_| Error::Closed)?,
                () = self.cluster.closed() => return Err(Error::Closed),
            },
        };
        got.forget(); // given back by release
        self.buffered.fetch_add(i64::from(n), Ordering::Relaxed);
        Ok(n as usize)
    }

    pub(super) fn release(&self, bytes: usize) {
        self.budget.add_permits(bytes);
        self.buffered.fetch_sub(bytes as i64, Ordering::Relaxed);
    }

    /// Bytes of records that wait for their result.
    pub(crate) fn buffered(&self) -> usize {
        usize::try_from(self.buffered.load(Ordering::Relaxed)).unwrap_or_default()
    }

    fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Asks the cluster for a topic that is not known here. One that is not there yet is looked for a few times.
    async fn learn(&self, name: &str, of: u64) -> Result<Arc<Topic>> {
        let mut backoff = Backoff::new();
        let began = Instant::now();
        for attempt in 1.. {
            self.usable(of)?;
            let failed = match self.cluster.metadata(&[name]).await {
                Ok(known) => match known.topic(name) {
                    Some(t) if t.error.is_none() && !t.partitions.is_empty() => {
                        return Ok(self.know(name, t.partitions.len()));
                    }
                    Some(t) => Error::broker(format!("find topic {name}"), t.error.unwrap_or(Code::LeaderNotAvailable)),
                    None => Error::broker(format!("find topic {name}"), Code::UnknownTopicOrPartition),
                },
                Err(e) => e,
            };
            let absent = failed.code() == Some(Code::UnknownTopicOrPartition);
            if !failed.is_retriable() || absent && attempt >= 5 || began.elapsed() >= self.options.delivery_timeout {
                return Err(failed);
            }
            backoff.wait().await;
        }
        Err(Error::Closed) // attempts do not end
    }

    /// Notes how many partitions a topic has.
    fn know(&self, name: &str, n: usize) -> Arc<Topic> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.entry(name.to_owned()).or_insert_with(|| {
            let seed = now_ms() as u32 ^ (std::ptr::from_ref(self) as usize as u32);
            Arc::new(Topic { partitions: RwLock::default(), sticky: Sticky::new(seed) })
        });
        let mut partitions = topic.partitions.write().unwrap_or_else(PoisonError::into_inner);
        if partitions.len() < n {
            let mut more = (**partitions).clone();
            more.extend((more.len()..n).map(|i| Arc::new(Partition::new(name, i as i32))));
            *partitions = Arc::new(more);
        }
        drop(partitions);
        topic.clone()
    }

    /// Looks whether topics have grown; metadata that is old is asked for anew.
    pub(super) async fn look_at_topics(&self) {
        let names: Vec<String> = self.topics.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Ok(known) = self.cluster.metadata(&asked).await {
            for t in asked.iter().filter_map(|n| known.topic(n)).filter(|t| t.error.is_none()) {
                self.know(&t.name, t.partitions.len());
            }
        }
    }

    pub(super) fn partitions(&self) -> Vec<Arc<Partition>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let of = |t: &Arc<Topic>| t.partitions.read().unwrap_or_else(PoisonError::into_inner).to_vec();
        topics.values().flat_map(of).collect()
    }

    /// Waits for the results of all records taken so far.
    pub(crate) async fn flush(&self) -> Result<()> {
        let mut outstanding: Vec<Arc<Outcome>> = Vec::new();
        for p in self.partitions() {
            let mut state = p.lock();
            if state.is_idle() {
                continue;
            }
            outstanding.extend(state.outstanding());
            state.flushing = true;
            let queued = std::mem::replace(&mut state.queued, true);
            drop(state);
            if !queued {
                self.lock().due.push(p);
            }
        }
        self.wake.notify_one();
        for o in outstanding {
            o.settled().await;
        }
        if self.cluster.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Fails what has no result yet.
    pub(crate) fn fail_all(&self, why: &Error) {
        for p in self.partitions() {
            let failed = p.lock().fail_all(why);
            self.let_go(&failed, why);
        }
    }

    /// Takes batches off the books that have failed.
    pub(super) fn let_go(&self, batches: &[super::batch::Batch], why: &Error) {
        for b in batches {
            self.release(b.reserved);
            self.deliveries.note(Some(why), b.count as u32);
        }
    }

    /// Takes records of this transaction, and of no other.
    pub(crate) fn take_from(&self, transaction: u64) {
        self.taking.store(transaction, Ordering::SeqCst);
    }

    /// Waits until nothing is under way.
    pub(crate) async fn quiet(&self) {
        loop {
            let back = self.came_back.notified();
            tokio::pin!(back);
            back.as_mut().enable(); // before looking, so that none is missed
            if !self.partitions().iter().any(|p| p.lock().is_under_way()) {
                return;
            }
            back.await;
        }
    }

    /// Has the sender end, once all records have their results.
    pub(crate) fn abandon(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Fails the transaction, where there is one.
    pub(super) fn transaction_failed(&self, why: &Error) {
        if let Some(t) = &self.transaction {
            t.fail(why);
            self.take_from(NOBODY);
        }
    }

    /// Has a topic's leaders be looked for.
    pub(super) fn stale(&self, topic: &str) {
        self.cluster.invalidate(Stale::Topic(topic));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Signals> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as i64
}
