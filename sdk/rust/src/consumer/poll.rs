//! A consumer, and handing its messages to the caller.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use futures::stream;

use super::progress::{Place, Span};
use super::reader::Tasks;
use super::record::Handed;
use super::{At, ConsumerRecord, Message, Offsets, Options, Position, Reader, TopicPartition};
use crate::client::Client;
use crate::codec::{BoxError, Codec, DecodeError};
use crate::error::{Error, Result};

type Decode<T> = dyn Fn(bytes::Bytes) -> Result<T, BoxError> + Send + Sync;

/// Reads topics, and hands their messages to a handler ([`Consumer::run`], [`Consumer::run_batch`]), or to
/// the caller ([`Consumer::poll`], [`Consumer::stream`]). Of those one call is under way at a time; all others
/// may be made concurrently.
///
/// Who drops a consumer leaves the group in the background, where the runtime goes on; [`Consumer::close`]
/// waits for it.
///
/// ```no_run
/// # async fn example() -> Result<(), rustmq::Error> {
/// use rustmq::{Client, Raw};
/// let client = Client::builder().brokers(["127.0.0.1:9092"]).build().await?;
/// let consumer = client.consumer().topics(["greetings"]).group("readers").build(Raw).await?;
/// for message in consumer.poll().await? {
///     println!("{} {:?}", message.record.offset, message.value);
/// }
/// consumer.close().await;
/// # Ok(())
/// # }
/// ```
pub struct Consumer<T> {
    pub(crate) reader: Arc<Reader>,
    decode: Box<Decode<T>>,
    tasks: tokio::sync::Mutex<Option<Tasks>>,
    busy: AtomicBool,
    polled: Mutex<Polled<T>>,
}

/// What polls have to remember of each other.
struct Polled<T> {
    /// Of the messages that were returned last.
    last: Vec<(Arc<Span>, u64, u64)>,
    /// What comes with the next: it was behind a message that cannot be decoded.
    left: VecDeque<Handed<T>>,
}

/// The turn of the one call that may be under way.
pub(super) struct Turn<'a> {
    busy: &'a AtomicBool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.busy.store(false, Ordering::SeqCst);
    }
}

impl<T: Send + Sync + 'static> Consumer<T> {
    pub(crate) async fn open<C: Codec<Value = T>>(client: Client, options: Options, codec: C) -> Result<Self> {
        let reader = Reader::new(client, options);
        if !reader.in_group() {
            // So that it can be sought at once.
            let topics = reader.topics();
            let metadata = reader.cluster().metadata(&topics).await?;
            for name in &reader.options.topics {
                let count = metadata.topic(name).map_or(0, |t| t.partitions.len());
                reader.positions().assign(
                    (0..).take(count).map(|partition| TopicPartition { topic: Arc::clone(name), partition }),
                    false,
                );
            }
        }
        let tasks = reader.start();
        Ok(Consumer {
            reader,
            decode: Box::new(move |bytes| codec.decode(bytes)),
            tasks: tokio::sync::Mutex::new(Some(tasks)),
            busy: AtomicBool::new(false),
            polled: Mutex::new(Polled { last: Vec::new(), left: VecDeque::new() }),
        })
    }

    /// Begins a call: what polls returned before counts as handled from now on.
    fn turn(&self) -> Result<Turn<'_>> {
        if self.busy.swap(true, Ordering::SeqCst) {
            return Err(Error::Busy);
        }
        let turn = Turn { busy: &self.busy };
        for (span, at, n) in self.polled().last.drain(..) {
            span.done(at, n);
        }
        Ok(turn)
    }

    /// Begins a call other than a poll: what polls kept back is read again.
    pub(super) fn turn_from_poll(&self) -> Result<Turn<'_>> {
        let turn = self.turn()?;
        let left = std::mem::take(&mut self.polled().left);
        if !left.is_empty() {
            self.reader.rewind();
        }
        Ok(turn)
    }

    fn polled(&self) -> MutexGuard<'_, Polled<T>> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for records, and has the codec read their values.
    pub(crate) async fn next(&self, most: usize) -> Result<Vec<Handed<T>>> {
        let taken = self.reader.next(most).await?;
        let mut out = Vec::with_capacity(taken.iter().map(|(_, records)| records.len()).sum());
        for (place, records) in taken {
            for (at, record) in (place.at..).zip(records) {
                let value = (self.decode)(record.value.clone().unwrap_or_default()).map_err(DecodeError);
                out.push(Handed { record, value, place: Place { span: Arc::clone(&place.span), at } });
            }
        }
        Ok(out)
    }

    /// Waits for messages, one at least and at most `max_poll`. Unless commits are manual, those that it returned
    /// before count as handled from now on, as they do when a run or a stream begins. The future may be dropped: nothing is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] in place of a message that cannot be decoded, after those before it and before those behind
    /// it; it counts as handled. [`Error::Busy`], [`Error::Closed`], and what reading fails with until somebody
    /// does something.
    pub async fn poll(&self) -> Result<Vec<Message<T>>> {
        let _turn = self.turn()?;
        let left = std::mem::take(&mut self.polled().left);
        let left: Vec<_> = left.into_iter().filter(|handed| !handed.place.span.is_ended()).collect();
        let handed = if left.is_empty() { self.next(self.reader.options.max_poll).await? } else { left };
        self.hand_out(handed)
    }

    fn hand_out(&self, handed: Vec<Handed<T>>) -> Result<Vec<Message<T>>> {
        let mut polled = self.polled();
        let mut out = Vec::with_capacity(handed.len());
        let mut handed = handed.into_iter();
        while let Some(next) = handed.next() {
            if next.value.is_err() && !out.is_empty() {
                polled.left.push_back(next);
                break;
            }
            polled.note(&next.place);
            match next.into_message() {
                Ok(message) => out.push(message),
                Err(bad) => {
                    polled.left.extend(handed);
                    return Err(undecoded(&bad.record, &bad.err));
                }
            }
        }
        polled.left.extend(handed);
        Ok(out)
    }

    /// Messages one by one, without end. Unless commits are manual, each counts as handled when the next is asked
    /// for. What was fetched and not taken when the stream is dropped is read again.
    ///
    /// ```no_run
    /// # async fn example(consumer: &rustmq::Consumer<bytes::Bytes>) -> Result<(), rustmq::Error> {
    /// use futures::TryStreamExt;
    /// let mut messages = consumer.stream();
    /// while let Some(message) = messages.try_next().await? {
    ///     println!("{:?}", message.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&self) -> impl Stream<Item = Result<Message<T>>> + Send + Unpin + '_ {
        Box::pin(stream::unfold(
            Streamed { consumer: self, turn: None, left: VecDeque::new(), last: None },
            Streamed::next,
        ))
    }

    /// Commits the messages, and all before them of their partitions, and waits for it. The commit goes on where
    /// the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without a group. A message whose partition was taken, or that was handed out before a seek,
    /// is not committed: it is read again, and that is an [`Error::Broker`] of `ILLEGAL_GENERATION`.
    pub async fn commit<'a>(&self, messages: impl IntoIterator<Item = &'a Message<T>>) -> Result<()>
    where
        T: 'a,
    {
        if !self.reader.in_group() {
            return Err(Error::Config("commit: the consumer has no group".to_owned()));
        }
        let ceased = self.reader.membership().ceased; // before it is looked what may be committed
        let mut offsets = Offsets::new();
        for message in messages {
            let (span, record) = (&message.place.span, &message.record);
            if !span.may_commit() {
                return Err(Error::Broker {
                    what: format!("commit {}", span.of),
                    code: crate::error::Code::IllegalGeneration,
                    message: Some(
                        "the partition was taken, or another position sought: the message is read again".to_owned(),
                    ),
                });
            }
            let at = offsets.entry(span.of.clone()).or_insert(At { offset: 0, epoch: -1 });
            if record.offset >= at.offset {
                *at = At { offset: record.offset + 1, epoch: record.leader_epoch };
            }
        }
        self.reader.commit(offsets, ceased).await
    }

    /// Has reading go on at an offset of a partition. What was read before and is not handled is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where this consumer does not read the partition, perhaps yet.
    pub fn seek(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let tp = TopicPartition { topic: topic.into(), partition };
        if offset < 0 {
            return Err(Error::Config(format!("seek {tp} to {offset}: want 0 or more")));
        }
        match self.reader.seek(&tp, offset) {
            true => Ok(()),
            false => Err(Error::Config(format!(
                "seek {tp}: this consumer does not read the partition; it may be that its group has not assigned it yet"
            ))),
        }
    }

    /// [`Consumer::seek`] to the first record of a time, in milliseconds since 1970, or later, in all partitions that
    /// this consumer reads; where there is none, to the end.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where it reads none.
    pub fn seek_time(&self, milliseconds: i64) -> Result<()> {
        if self.reader.positions().assigned().is_empty() {
            return Err(Error::Config(
                "seek by time: this consumer reads no partitions; it may be that its group has not assigned any yet"
                    .to_owned(),
            ));
        }
        self.reader.seek_all(Position::Time(milliseconds));
        Ok(())
    }

    /// Stops reading topics, in all partitions of them, until [`Consumer::resume`]. What is fetched already is handed
    /// out after that.
    pub fn pause(&self, topics: &[&str]) {
        self.reader.positions().pause_topics(topics, true);
        self.reader.wake();
    }

    /// Undoes [`Consumer::pause`].
    pub fn resume(&self, topics: &[&str]) {
        self.reader.positions().pause_topics(topics, false);
        self.reader.wake();
        self.reader.announce();
    }

    /// Is [`Consumer::pause`] for some partitions of a topic.
    pub fn pause_partitions(&self, topic: &str, partitions: &[i32]) {
        self.reader.positions().pause_partitions(topic, partitions, true);
        self.reader.wake();
    }

    /// Undoes [`Consumer::pause_partitions`].
    pub fn resume_partitions(&self, topic: &str, partitions: &[i32]) {
        self.reader.positions().pause_partitions(topic, partitions, false);
        self.reader.wake();
        self.reader.announce();
    }

    /// The partitions that this consumer reads at the moment, by topic and number.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        let mut all = self.reader.positions().assigned();
        all.sort_unstable();
        all.into_iter().map(|tp| (tp.topic.to_string(), tp.partition)).collect()
    }

    /// The generation of the group that this consumer is a member of; of a group of KIP-848 its member epoch. -1: it
    /// is no member, or not yet.
    pub fn generation(&self) -> i32 {
        self.reader.membership().generation
    }

    /// Commits what is handled, and leaves the group. Messages that a poll returned last and nothing says of are not
    /// handled. A call that is under way ends, with [`Error::Closed`].
    pub async fn close(&self) {
        self.reader.stop();
        if let Some(mut tasks) = self.tasks.lock().await.take() {
            tasks.end().await;
        }
    }
}

impl<T> Polled<T> {
    /// Notes that a message is returned: it counts as handled with the next poll.
    fn note(&mut self, place: &Place) {
        match self.last.last_mut() {
            Some((span, at, n)) if Arc::ptr_eq(span, &place.span) && *at + *n == place.at => *n += 1,
            _ => self.last.push((Arc::clone(&place.span), place.at, 1)),
        }
    }
}

fn undecoded(record: &ConsumerRecord, err: &DecodeError) -> Error {
    Error::Decode(format!("{}/{} offset {}: {}", record.topic, record.partition, record.offset, err.0))
}

struct Streamed<'a, T: Send + Sync + 'static> {
    consumer: &'a Consumer<T>,
    turn: Option<Turn<'a>>,
    left: VecDeque<Handed<T>>,
    last: Option<Place>,
}

impl<T: Send + Sync + 'static> Streamed<'_, T> {
    async fn next(mut self) -> Option<(Result<Message<T>>, Self)> {
        if self.turn.is_none() {
            match self.consumer.turn_from_poll() {
                Ok(turn) => self.turn = Some(turn),
                Err(err) => return Some((Err(err), self)),
            }
        }
        if let Some(last) = self.last.take() {
            last.span.done(last.at, 1);
        }
        loop {
            let handed = match self.left.pop_front() {
                Some(handed) if handed.place.span.is_ended() => continue,
                Some(handed) => handed,
                None => match self.consumer.next(self.consumer.reader.options.max_poll).await {
                    Ok(handed) => {
                        self.left.extend(handed);
                        continue;
                    }
                    Err(Error::Closed) => return None,
                    Err(err) => return Some((Err(err), self)),
                },
            };
            self.last = Some(handed.place.clone());
            let item = handed.into_message().map_err(|bad| undecoded(&bad.record, &bad.err));
            return Some((item, self));
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Streamed<'_, T> {
    fn drop(&mut self) {
        if self.turn.is_some() {
            self.consumer.reader.rewind();
        }
    }
}
