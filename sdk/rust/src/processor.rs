//! From topic to topic, exactly once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use crate::client::Client;
use crate::codec::{BoxError, Codec};
use crate::consumer::{Consumer, ConsumerRecord, Handed, Message, Options, Then, Working, dead_letter, reading};
use crate::error::{Error, Result};
use crate::transaction::{CommitOffset, GroupIdentity, Transactions, Tx};

/// How often in a row a transaction may fail for what is not the handler's.
const MOST_FAILURES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Begins a [`Processor`]; topics and group have to be given.
#[derive(Clone)]
pub struct ProcessorBuilder {
    client: Client,
    options: Options,
    id: String,
}

impl ProcessorBuilder {
    pub(crate) fn new(client: &Client, id: String) -> Self {
        ProcessorBuilder { client: client.clone(), options: Options::new(), id }
    }

    reading!();

    /// Makes the processor; it begins with [`Processor::run`].
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for options that do not go together.
    pub fn build<C: Codec>(mut self, codec: C) -> Result<Processor<C::Value>> {
        // Positions are committed by the transactions.
        self.options.manual = true;
        self.options.validate()?;
        if self.options.group.is_empty() {
            return Err(Error::Config("a processor needs a group, which keeps its positions".to_owned()));
        }
        if self.id.is_empty() {
            return Err(Error::Config("a processor needs a transactional id".to_owned()));
        }
        let config = &self.client.inner.config;
        let (cluster, deliveries) = (self.client.cluster().clone(), self.client.inner.deliveries.clone());
        let transactions = Transactions::new(cluster, config, &self.id, config.transaction_timeout, deliveries);
        Ok(Processor { client: self.client, options: self.options, id: self.id, codec: Arc::new(codec), transactions })
    }
}

/// Reads topics in a group and writes to others, exactly once: the positions in what it reads and the
/// records that it writes are committed in one transaction, so that whatever dies when, readers of what is
/// committed (the default of [`Consumer`]) see the results of each record once.
///
/// ```no_run
/// # async fn example() -> Result<(), rustmq::Error> {
/// use rustmq::{BoxError, Client, Raw, Record};
/// let client = Client::builder().brokers(["127.0.0.1:9092"]).build().await?;
/// let copy = client.processor("copy-1").topics(["in"]).group("copy").build(Raw)?;
/// copy.run(|tx, batch| async move {
///     for message in batch {
///         tx.enqueue(Record::to("out").value(message.value)).await?;
///     }
///     Ok::<(), BoxError>(())
/// }).await?;
/// # Ok(())
/// # }
/// ```
pub struct Processor<T> {
    client: Client,
    options: Options,
    id: String,
    codec: Arc<dyn Codec<Value = T>>,
    transactions: Transactions,
}

/// Why a transaction was not committed.
enum Failed {
    Handler(BoxError),
    Cluster(Error),
}

impl From<Error> for Failed {
    fn from(err: Error) -> Self {
        Failed::Cluster(err)
    }
}

/// What a processor remembers of failures, across transactions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Attempts {
    /// Of the batch, in a row.
    failed: u32,
    /// Messages that come one by one from now on.
    alone: usize,
    /// Its attempts are used up.
    lost: Option<Lost>,
}

/// A message that cannot be handled.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    attempts: u32,
    reason: String,
}

impl Lost {
    fn is(&self, record: &ConsumerRecord) -> bool {
        self.topic == record.topic && self.partition == record.partition && self.offset == record.offset
    }
}

impl Attempts {
    fn most(&self, max_poll: usize) -> usize {
        if self.alone > 0 { 1 } else { max_poll }
    }

    /// Notes that a batch is committed.
    fn committed(&mut self, messages: usize) {
        *self = Attempts { alone: self.alone.saturating_sub(messages), ..Attempts::default() };
    }

    /// Notes that the attempts of a batch that begins with `first` are used up: its messages come one by one, so that
    /// the one that fails goes alone; one that came alone comes once more, to be passed over.
    fn used_up(&mut self, messages: usize, first: &ConsumerRecord, reason: String) {
        let lost = (messages == 1).then(|| Lost {
            topic: Arc::clone(&first.topic),
            partition: first.partition,
            offset: first.offset,
            attempts: self.failed,
            reason,
        });
        *self = Attempts { failed: 0, alone: self.alone.max(messages), lost };
    }
}

impl<T: Send + Sync + 'static> Processor<T> {
    /// [`Processor::run_until`], without end but for errors. Where the future is dropped, the transaction that is under
    /// way is aborted.
    ///
    /// # Errors
    ///
    /// As [`Processor::run_until`].
    pub async fn run<H, F, E>(&self, handler: H) -> Result<()>
    where
        H: Fn(Tx, Vec<Message<T>>) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        self.run_until(std::future::pending::<()>(), handler).await
    }

    /// Hands batches to a handler, at most `max_poll` messages of any partitions, each partition's in order, until
    /// `until` is ready; a handler that is at work then is let finish, and is committed. What it produces by
    /// the transaction is committed together with the batch when it returns `Ok`; otherwise it is aborted, and the batch is
    /// read again, as it is after a rebalance. Where the attempts of a batch are used up and the failures are to be
    /// skipped, or are dead letters, its messages come one by one, so that the one that fails goes alone; dead letters are
    /// in the transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Processing`] where a message stops it, [`Error::Fenced`] where another has the transactional id or the
    /// instance, and what transactions or reading fail with again and again.
    pub async fn run_until<H, F, E>(&self, until: impl Future, handler: H) -> Result<()>
    where
        H: Fn(Tx, Vec<Message<T>>) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        let consumer = Consumer::open(self.client.clone(), self.options.clone(), Arc::clone(&self.codec)).await?;
        consumer.reader.set_handling(true); // who revokes waits for the transaction
        let ended = Box::pin(self.transactions_until(&consumer, until, handler)).await;
        consumer.close().await;
        ended
    }

    async fn transactions_until<H, F, E>(&self, consumer: &Consumer<T>, until: impl Future, handler: H) -> Result<()>
    where
        H: Fn(Tx, Vec<Message<T>>) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        let mut until = std::pin::pin!(until);
        let (mut state, mut failures, mut pause) = (Attempts::default(), 0, FIRST_PAUSE);
        loop {
            let read = tokio::select! {
                biased;
                _ = &mut until => return Ok(()),
                read = consumer.next(state.most(self.options.max_poll)) => read,
            };
            let done = match read {
                Ok(batch) => Box::pin(self.transact(consumer, batch, &handler, &mut state)).await,
                Err(err) => Err(err),
            };
            let rest = match done {
                Ok(None) => {
                    (failures, pause) = (0, FIRST_PAUSE);
                    continue;
                }
                Ok(Some(rest)) => rest,
                Err(err @ (Error::Processing { .. } | Error::Closed | Error::Fenced(_) | Error::Config(_))) => {
                    return Err(err);
                }
                Err(err) => {
                    failures += 1;
                    if failures >= MOST_FAILURES {
                        return Err(err);
                    }
                    warn!(id = self.id, error = %err, "a transaction failed: its batch is read again");
                    let rest = pause;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    rest
                }
            };
            consumer.reader.rewind_to_committed();
            tokio::select! {
                _ = &mut until => return Ok(()),
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Handles a batch in a transaction; how long to wait before it is tried again, if it is.
    async fn transact<H, F, E>(
        &self,
        consumer: &Consumer<T>,
        batch: Vec<Handed<T>>,
        handler: &H,
        state: &mut Attempts,
    ) -> Result<Option<Duration>>
    where
        H: Fn(Tx, Vec<Message<T>>) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        let mut taken = Taken::begin(batch);
        let Some(first) = taken.batch.first().map(|h| h.record.clone()) else { return Ok(None) };
        // As of now: where the group gives the partitions to others before the commit, the coordinator refuses it.
        let is = consumer.reader.membership();
        let identity = GroupIdentity {
            group: self.options.group.clone(),
            generation: is.generation,
            member: is.member,
            instance: self.options.instance.clone(),
        };
        let n = taken.batch.len();
        let mut batch = Some(std::mem::take(&mut taken.batch));
        let (offsets, lost, failed) = (&taken.offsets, &state.lost, &self.options.failures);
        let done = self.transactions.transact(|tx| {
            let (batch, identity) = (batch.take(), &identity);
            async move {
                // The cluster aborted the transaction and runs this again: the batch is read again for it.
                let again = || Error::TransactionEnded("the cluster aborted it".to_owned());
                let batch = batch.ok_or_else(again)?;
                match lost.as_ref().filter(|lost| n == 1 && lost.is(&batch[0].record)) {
                    Some(lost) => pass_over(&tx, &failed.then, &batch[0].record, &identity.group, lost).await?,
                    None => handle(handler, tx.clone(), batch).await?,
                }
                tx.send_offsets(identity, offsets).await?;
                Ok::<(), Failed>(())
            }
        });
        let err = match Box::pin(done).await {
            Ok(()) => {
                taken.done();
                state.committed(n);
                return Ok(None);
            }
            Err(Failed::Cluster(err)) => return Err(err),
            Err(Failed::Handler(err)) => err,
        };
        state.failed += 1;
        if self.options.failures.more(state.failed, &err) {
            debug!(id = self.id, messages = n, attempt = state.failed, error = %err, "a batch is tried again");
            return Ok(Some(self.options.failures.pause_after(state.failed)));
        }
        if self.options.failures.then == Then::Stop {
            return Err(Error::Processing {
                topic: first.topic.to_string(),
                partition: first.partition,
                offset: first.offset,
                attempts: state.failed,
                reason: err.to_string(),
            });
        }
        state.used_up(n, &first, err.to_string());
        Ok(Some(Duration::ZERO))
    }
}

/// A batch in a transaction: who takes its partitions waits until this is dropped.
struct Taken<T> {
    batch: Vec<Handed<T>>,
    places: Vec<crate::consumer::Place>,
    offsets: Vec<CommitOffset>,
    _working: Vec<Working>,
}

impl<T> Taken<T> {
    /// Leaves out what was taken from this member meanwhile.
    fn begin(batch: Vec<Handed<T>>) -> Self {
        let mut taken = Taken {
            batch: Vec::with_capacity(batch.len()),
            places: Vec::new(),
            offsets: Vec::new(),
            _working: Vec::new(),
        };
        for handed in batch {
            let (record, place) = (&handed.record, &handed.place);
            let next = CommitOffset {
                topic: record.topic.to_string(),
                partition: record.partition,
                offset: record.offset + 1,
                leader_epoch: record.leader_epoch,
            };
            match taken.places.last() {
                Some(last) if Arc::ptr_eq(&last.span, &place.span) => {
                    if let Some(offset) = taken.offsets.last_mut() {
                        *offset = next;
                    }
                }
                _ => match place.span.begin() {
                    Some(working) => {
                        taken._working.push(working);
                        taken.offsets.push(next);
                    }
                    None => continue,
                },
            }
            taken.places.push(place.clone());
            taken.batch.push(handed);
        }
        taken
    }

    fn done(&self) {
        self.places.iter().for_each(|place| place.span.done(place.at, 1));
    }
}

/// Calls the handler, unless a message cannot be decoded.
async fn handle<T, H, F, E>(handler: &H, tx: Tx, batch: Vec<Handed<T>>) -> Result<(), Failed>
where
    H: Fn(Tx, Vec<Message<T>>) -> F,
    F: Future<Output = Result<(), E>>,
    E: Into<BoxError>,
{
    let read = batch.into_iter().map(Handed::into_message).collect::<Result<Vec<_>, _>>();
    let messages = read.map_err(|bad| Failed::Handler(Box::new(bad.err)))?;
    handler(tx, messages).await.map_err(|err| Failed::Handler(err.into()))
}

/// Writes a message that cannot be handled to where it is to go.
async fn pass_over(tx: &Tx, then: &Then, record: &ConsumerRecord, group: &str, lost: &Lost) -> Result<()> {
    let (topic, partition, offset, attempts) = (&*lost.topic, lost.partition, lost.offset, lost.attempts);
    match then {
        Then::DeadLetter(to) => {
            warn!(topic, partition, offset, attempts, to, error = lost.reason, "a record is a dead letter");
            tx.send(dead_letter(to, record, group, attempts, &lost.reason)).await.map(|_| ())
        }
        _ => {
            warn!(topic, partition, offset, attempts, error = lost.reason, "a record is skipped");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64) -> ConsumerRecord {
        ConsumerRecord {
            topic: "t".into(),
            partition: 0,
            offset,
            leader_epoch: 0,
            timestamp: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn of_a_batch_that_fails_the_one_that_fails_goes_alone() {
        let mut state = Attempts { failed: 2, ..Attempts::default() };
        assert_eq!(state.most(500), 500);
        state.used_up(3, &record(7), "broken".to_owned());
        assert_eq!((state.most(500), state.failed, &state.lost), (1, 0, &None));
        state.committed(1);
        assert_eq!(state.most(500), 1, "two are left");
        state.failed = 2;
        state.used_up(1, &record(8), "broken".to_owned());
        let lost = state.lost.as_ref().unwrap();
        assert!(lost.is(&record(8)) && !lost.is(&record(9)) && lost.attempts == 2);
        state.committed(1);
        state.committed(1);
        assert_eq!(state, Attempts::default());
    }
}
