//! Handing messages to a handler: workers, retries, dead letters, and an end that drains.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::failures::BatchError;
use super::poll::Consumer;
use super::progress::Place;
use super::record::Handed;
use super::{ConsumerRecord, Message, Reader, Then, dead_letter};
use crate::codec::BoxError;
use crate::error::{Error, Result};
use crate::producer::Producer;

/// How many polls' messages may wait for one worker.
const QUEUED: usize = 1;

/// A handler: it notes each message's error.
type Handle<T> = dyn Fn(Vec<Arc<Message<T>>>) -> BoxFuture<'static, Vec<Option<BoxError>>> + Send + Sync;

/// A message on its way to a handler.
enum Item<T> {
    Good(Arc<Message<T>>),
    /// The codec does not read it.
    Bad(Box<(BoxError, ConsumerRecord, Place)>),
}

impl<T> Item<T> {
    fn new(handed: Handed<T>) -> Self {
        match handed.into_message() {
            Ok(message) => Item::Good(Arc::new(message)),
            Err(bad) => Item::Bad(Box::new((Box::new(bad.err), bad.record, bad.place))),
        }
    }

    fn place(&self) -> &Place {
        match self {
            Item::Good(message) => &message.place,
            Item::Bad(bad) => &bad.2,
        }
    }

    fn record(&self) -> &ConsumerRecord {
        match self {
            Item::Good(message) => &message.record,
            Item::Bad(bad) => &bad.1,
        }
    }
}

/// Whose messages come one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Key,
    Partition,
}

/// What the workers of a run share.
struct Run<T> {
    reader: Arc<Reader>,
    handle: Box<Handle<T>>,
    most: usize,
    /// Set once nothing more is to be begun.
    ending: watch::Sender<bool>,
    /// Why, where it was a message.
    cause: Mutex<Option<Error>>,
    /// For dead letters; made with the first.
    producer: OnceLock<Producer>,
}

/// Leaves the consumer fit for another run, however this one ends.
struct Ended<'a>(&'a Reader);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.set_handling(false);
        // What was handed out and not handled is read again, by the next run too.
        self.0.rewind();
    }
}

impl<T: Send + Sync + 'static> Consumer<T> {
    /// [`Consumer::run_until`], without end but for errors. Where the future is dropped, handlers are dropped where
    /// they are, and what they were at is read again.
    ///
    /// # Errors
    ///
    /// As [`Consumer::run_until`].
    pub async fn run<H, F, E>(&self, handler: H) -> Result<()>
    where
        H: Fn(Arc<Message<T>>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.run_until(std::future::pending::<()>(), handler).await
    }

    /// Hands messages to a handler, one by one, until `until` is ready: then handlers that are at work end
    /// (`drain_timeout`), and what they did is committed. An error of the handler is dealt with as
    /// [`ConsumerBuilder::failures`](crate::ConsumerBuilder::failures) says. After it has returned the consumer may be run
    /// again.
    ///
    /// Handlers run as tasks of the runtime, `workers` at once. A panic of one ends the run, and goes on in the
    /// caller.
    ///
    /// ```no_run
    /// # async fn example(consumer: rustmq::Consumer<bytes::Bytes>) -> Result<(), rustmq::Error> {
    /// let stop = tokio::time::sleep(std::time::Duration::from_secs(60));
    /// consumer.run_until(stop, |message| async move {
    ///     println!("{}", std::str::from_utf8(&message.value)?);
    ///     Ok::<(), std::str::Utf8Error>(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Processing`] where a message stops it; [`Error::Busy`], [`Error::Closed`], and what reading fails with
    /// for good.
    pub async fn run_until<H, F, E>(&self, until: impl Future, handler: H) -> Result<()>
    where
        H: Fn(Arc<Message<T>>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let handle = move |messages: Vec<Arc<Message<T>>>| -> BoxFuture<'static, Vec<Option<BoxError>>> {
            let handled: Vec<F> = messages.into_iter().map(&handler).collect();
            Box::pin(async move {
                let mut out = Vec::with_capacity(handled.len());
                for one in handled {
                    out.push(one.await.err().map(Into::into));
                }
                out
            })
        };
        self.run_all(until, Box::new(handle), 1, Order::Key).await
    }

    /// [`Consumer::run_batch_until`], without end but for errors.
    ///
    /// # Errors
    ///
    /// As [`Consumer::run_until`].
    pub async fn run_batch<H, F, E>(&self, handler: H) -> Result<()>
    where
        H: Fn(Vec<Arc<Message<T>>>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.run_batch_until(std::future::pending::<()>(), handler).await
    }

    /// Is [`Consumer::run_until`] with as many messages at once as are there, of one partition, at most `max_poll`. An
    /// error fails each of them, a [`BatchError`] those that it names.
    ///
    /// # Errors
    ///
    /// As [`Consumer::run_until`].
    pub async fn run_batch_until<H, F, E>(&self, until: impl Future, handler: H) -> Result<()>
    where
        H: Fn(Vec<Arc<Message<T>>>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let handle = move |messages: Vec<Arc<Message<T>>>| -> BoxFuture<'static, Vec<Option<BoxError>>> {
            let n = messages.len();
            let handled = handler(messages);
            Box::pin(async move {
                match handled.await {
                    Ok(()) => (0..n).map(|_| None).collect(),
                    Err(err) => errors_of_batch(err.into(), n),
                }
            })
        };
        self.run_all(until, Box::new(handle), self.reader.options.max_poll, Order::Partition).await
    }

    async fn run_all(&self, until: impl Future, handle: Box<Handle<T>>, most: usize, order: Order) -> Result<()> {
        let _turn = self.turn_from_poll()?;
        let reader = &self.reader;
        reader.set_handling(true);
        let ended = Ended(reader);
        let run = Arc::new(Run {
            reader: Arc::clone(reader),
            handle,
            most,
            ending: watch::Sender::new(false),
            cause: Mutex::new(None),
            producer: OnceLock::new(),
        });
        // A worker blocks on its queue, on handlers, and on pauses between attempts.
        let mut workers = JoinSet::new();
        let queues: Vec<_> = (0..reader.options.workers)
            .map(|_| {
                let (queue, rest) = mpsc::channel(QUEUED);
                workers.spawn(work(Arc::clone(&run), rest));
                queue
            })
            .collect();
        let fed = tokio::select! {
            fed = self.feed(&run, &queues, order) => fed,
            _ = until => Ok(()),
            Some(panicked) = workers.join_next() => {
                resume(panicked);
                Ok(())
            }
        };
        run.ending.send_replace(true);
        drop(queues);
        let drained = async {
            while let Some(one) = workers.join_next().await {
                resume(one);
            }
        };
        if timeout(reader.options.drain_timeout, drained).await.is_err() {
            warn!(
                group = reader.options.group,
                "handlers take longer than the drain time-out: they are dropped, and their messages are read again"
            );
            workers.shutdown().await;
        }
        if reader.in_group() && !reader.options.manual {
            if let Err(err) = reader.commit_handled().await {
                warn!(group = reader.options.group, error = %err, "what was handled last could not be committed");
            }
        }
        drop(ended);
        let cause = run.cause.lock().unwrap_or_else(PoisonError::into_inner).take();
        cause.map_or(fed, Err)
    }

    /// Polls, and shares messages out until a message stops the run, or reading fails.
    async fn feed(&self, run: &Run<T>, queues: &[mpsc::Sender<Vec<Item<T>>>], order: Order) -> Result<()> {
        let hasher = RandomState::new();
        loop {
            let handed = tokio::select! {
                handed = self.next(self.reader.options.max_poll) => handed?,
                () = run.ended() => return Ok(()),
            };
            let mut shares: Vec<Vec<Item<T>>> = queues.iter().map(|_| Vec::new()).collect();
            for one in handed {
                let hash = match &one.record.key {
                    _ if queues.len() == 1 => 0,
                    Some(key) if order == Order::Key => hasher.hash_one(key),
                    _ => hasher.hash_one(&one.place.span.of),
                };
                shares[(hash % queues.len() as u64) as usize].push(Item::new(one));
            }
            // Workers take their shares as they have room: one that is slow holds up the poll only once its
            // queue is full.
            for (queue, share) in queues.iter().zip(shares).filter(|(_, share)| !share.is_empty()) {
                tokio::select! {
                    sent = queue.send(share) => if sent.is_err() { return Ok(()) }, // it panicked: its end tells
                    () = run.ended() => return Ok(()),
                }
            }
        }
    }
}

/// Has a worker's panic go on here.
fn resume(ended: std::result::Result<(), tokio::task::JoinError>) {
    if let Err(err) = ended {
        if let Ok(panic) = err.try_into_panic() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The errors of n messages whose handler failed.
fn errors_of_batch(err: BoxError, n: usize) -> Vec<Option<BoxError>> {
    match err.downcast::<BatchError>() {
        Ok(mut some) => (0..n).map(|i| some.failed.remove(&i)).collect(),
        Err(err) => {
            let all: Arc<BoxError> = Arc::new(err);
            (0..n).map(|_| Some(Box::new(Shared(Arc::clone(&all))) as BoxError)).collect()
        }
    }
}

/// An error that several messages failed with.
#[derive(Debug)]
struct Shared(Arc<BoxError>);

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref().as_ref())
    }
}

/// A worker: handles messages of its queue, in their order.
async fn work<T: Send + Sync + 'static>(run: Arc<Run<T>>, mut queue: mpsc::Receiver<Vec<Item<T>>>) {
    while let Some(items) = queue.recv().await {
        let mut items = items.into_iter().peekable();
        while let Some(first) = items.next() {
            let span = Arc::clone(&first.place().span);
            let mut batch = vec![first];
            while batch.len() < run.most {
                match items.next_if(|item| Arc::ptr_eq(&item.place().span, &span)) {
                    Some(item) => batch.push(item),
                    None => break,
                }
            }
            if run.is_ended() {
                return;
            }
            if let Some(_working) = span.begin() {
                run.attempts(batch).await;
            }
        }
    }
}

impl<T: Send + Sync + 'static> Run<T> {
    fn is_ended(&self) -> bool {
        *self.ending.borrow()
    }

    async fn ended(&self) {
        // The sender is borrowed: it is there.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Tries messages of one span until each is handled, given up, or left for later.
    async fn attempts(&self, mut batch: Vec<Item<T>>) {
        let failures = &self.reader.options.failures;
        let Some(span) = batch.first().map(|item| Arc::clone(&item.place().span)) else { return };
        for attempt in 1.. {
            let results = self.once(&mut batch).await;
            let mut again = Vec::new();
            let mut retried = None;
            for (item, result) in batch.into_iter().zip(results) {
                let at = item.place().at;
                if let Some(err) = result {
                    if failures.more(attempt, &err) {
                        again.push(item);
                        retried = Some(err);
                        continue;
                    }
                    if !self.give_up(item.record(), attempt, err).await {
                        return;
                    }
                }
                span.done(at, 1);
            }
            let Some(err) = retried else { return };
            debug!(of = %span.of, messages = again.len(), attempt, error = %err, "messages are tried again");
            tokio::select! {
                () = sleep(failures.pause_after(attempt)) => {}
                () = span.gone() => return,
                () = self.ended() => return,
            }
            batch = again;
        }
    }

    /// Calls the handler with what can be decoded, and returns an error, or none, for each message.
    async fn once(&self, batch: &mut [Item<T>]) -> Vec<Option<BoxError>> {
        let good: Vec<_> = batch
            .iter()
            .filter_map(|item| if let Item::Good(message) = item { Some(Arc::clone(message)) } else { None })
            .collect();
        let handled = if good.is_empty() { Vec::new() } else { (self.handle)(good).await };
        let mut handled = handled.into_iter();
        let of = |item: &mut Item<T>| match item {
            Item::Good(_) => handled.next().flatten(),
            // No retry mends it, so that it is taken once.
            Item::Bad(bad) => Some(std::mem::replace(&mut bad.0, "decoded before".into())),
        };
        batch.iter_mut().map(of).collect()
    }

    /// Does what follows when a message's attempts are used up, and reports whether it is done with.
    async fn give_up(&self, record: &ConsumerRecord, attempts: u32, err: BoxError) -> bool {
        let options = &self.reader.options;
        let (topic, partition, offset) = (&*record.topic, record.partition, record.offset);
        let mut reason = err.to_string();
        match &options.failures.then {
            Then::Stop => {}
            Then::Skip => {
                warn!(topic, partition, offset, attempts, error = reason, "a record is skipped");
                return true;
            }
            Then::DeadLetter(to) => match self.send(dead_letter(to, record, &options.group, attempts, &reason)).await {
                Ok(()) => {
                    warn!(topic, partition, offset, attempts, to, error = reason, "a record is a dead letter");
                    return true;
                }
                Err(failed) => reason = format!("{reason}; and it could not be made a dead letter: {failed}"),
            },
        }
        let stopped = Error::Processing { topic: topic.to_owned(), partition, offset, attempts, reason };
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(stopped);
        self.ending.send_replace(true);
        false
    }

    async fn send(&self, record: crate::record::Record) -> Result<()> {
        let producer = match self.producer.get() {
            Some(producer) => producer.clone(),
            None => {
                let made = self.reader.client.producer().build()?;
                self.producer.get_or_init(|| made).clone()
            }
        };
        producer.send(record).await.map(|_| ())
    }
}
