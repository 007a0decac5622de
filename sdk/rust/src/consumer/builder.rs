//! What is read, and how.

use std::sync::Arc;
use std::time::Duration;

use super::group::Assignor;
use super::poll::Consumer;
use super::{Failures, Position};
use crate::client::Client;
use crate::codec::Codec;
use crate::error::{Error, Result};

const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(45); // as Kafka's session.timeout.ms
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(3);
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);
const DEFAULT_COMMIT_EVERY: Duration = Duration::from_secs(1);
const DEFAULT_MAX_POLL: usize = 500;
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The least that the group waits for members to give up what moves: their drains fit in.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);
const REBALANCE_MARGIN: Duration = Duration::from_secs(15);
/// Bytes that a batch may decompress to; a hundred times the default of max.message.bytes.
const DEFAULT_MAX_BATCH_BYTES: usize = 128 << 20;

/// Options of a consumer, checked.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) topics: Vec<Arc<str>>,
    /// Empty: none.
    pub(crate) group: String,
    pub(crate) instance: Option<String>,
    pub(crate) classic: bool,
    pub(crate) assignor: Assignor,
    pub(crate) session_timeout: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) from: Position,
    pub(crate) uncommitted: bool,
    pub(crate) manual: bool,
    pub(crate) commit_every: Duration,
    pub(crate) workers: usize,
    pub(crate) max_poll: usize,
    pub(crate) failures: Failures,
    pub(crate) drain_timeout: Duration,
    pub(crate) max_batch_bytes: usize,
}

impl Options {
    pub(crate) fn new() -> Self {
        Options {
            topics: Vec::new(),
            group: String::new(),
            instance: None,
            classic: false,
            assignor: Assignor::CooperativeSticky,
            session_timeout: DEFAULT_SESSION_TIMEOUT,
            heartbeat: DEFAULT_HEARTBEAT,
            from: Position::Start,
            uncommitted: false,
            manual: false,
            commit_every: DEFAULT_COMMIT_EVERY,
            workers: 1,
            max_poll: DEFAULT_MAX_POLL,
            failures: Failures::stop(),
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            max_batch_bytes: DEFAULT_MAX_BATCH_BYTES,
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Config(what.to_owned()));
        if self.topics.is_empty() || self.topics.iter().any(|t| t.is_empty()) {
            return wrong("a consumer's topics are empty, or one of their names is: name what to read");
        }
        if self.instance.is_some() && self.group.is_empty() {
            return wrong("ConsumerBuilder::instance is of a group: name the group");
        }
        if self.workers == 0 || self.max_poll == 0 {
            return wrong("ConsumerBuilder::workers and max_poll: want 1 or more");
        }
        if self.commit_every.is_zero() || self.session_timeout.is_zero() {
            return wrong("ConsumerBuilder::commit_every and session_timeout: want more than 0");
        }
        self.failures.validate()
    }

    /// How long the group waits for a member to give up what moves.
    pub(crate) fn rebalance_timeout(&self) -> Duration {
        REBALANCE_TIMEOUT.max(self.drain_timeout + REBALANCE_MARGIN)
    }
}

/// Begins a [`Consumer`]; [`ConsumerBuilder::topics`] has to be given.
#[derive(Clone)]
pub struct ConsumerBuilder {
    pub(crate) client: Client,
    pub(crate) options: Options,
}

/// The words that consumers and processors are told what to read with.
macro_rules! reading {
    () => {
        /// Names what is read.
        pub fn topics<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
            self.options.topics = topics.into_iter().map(|t| std::sync::Arc::from(t.as_ref())).collect();
            self
        }

        /// Shares the partitions among the group's members, and keeps positions.
        pub fn group(mut self, group: impl Into<String>) -> Self {
            self.options.group = group.into();
            self
        }

        /// Names a member across restarts, so that a short one moves no partitions.
        pub fn instance(mut self, instance: impl Into<String>) -> Self {
            self.options.instance = Some(instance.into());
            self
        }

        /// Keeps to classic groups where the broker has those of KIP-848, as all members of a group do
        /// that began so.
        pub fn classic(mut self) -> Self {
            self.options.classic = true;
            self
        }

        /// Says how a classic group shares partitions; default [`Assignor::CooperativeSticky`](crate::Assignor).
        pub fn assignor(mut self, assignor: $crate::Assignor) -> Self {
            self.options.assignor = assignor;
            self
        }

        /// How long a member of a classic group may be silent before its partitions go to others;
        /// default 45 s.
        pub fn session_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.options.session(timeout);
            self
        }

        /// Where reading begins in partitions of which nothing is committed; default
        /// [`Position::Start`](crate::Position).
        pub fn from(mut self, position: $crate::Position) -> Self {
            self.options.from = position;
            self
        }

        /// Bounds the messages of one poll, and of a batch; default 500.
        pub fn max_poll(mut self, messages: usize) -> Self {
            self.options.max_poll = messages;
            self
        }

        /// Says what is done when a handler fails; default [`Failures::stop`](crate::Failures::stop).
        pub fn failures(mut self, failures: $crate::Failures) -> Self {
            self.options.failures = failures;
            self
        }

        /// Bounds the bytes that a compressed batch is read to; default 128 MiB. One that would be larger is
        /// an error, whatever it claims.
        pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
            self.options.max_batch_bytes = bytes;
            self
        }
    };
}

pub(crate) use reading;

impl Options {
    pub(crate) fn session(&mut self, timeout: Duration) {
        self.session_timeout = timeout;
        self.heartbeat = (timeout / 10).max(SHORTEST_HEARTBEAT);
    }
}

impl ConsumerBuilder {
    pub(crate) fn new(client: &Client) -> Self {
        ConsumerBuilder { client: client.clone(), options: Options::new() }
    }

    reading!();

    /// Reads records of open and aborted transactions too.
    pub fn uncommitted(mut self) -> Self {
        self.options.uncommitted = true;
        self
    }

    /// Leaves commits to [`Consumer::commit`]. Otherwise what is handled is committed now and then, before
    /// partitions are given up, and at the end.
    pub fn manual(mut self) -> Self {
        self.options.manual = true;
        self
    }

    /// How often what is handled is committed; default 1 s.
    pub fn commit_every(mut self, every: Duration) -> Self {
        self.options.commit_every = every;
        self
    }

    /// How many handlers run at once; default 1. Records of a key are handled one after the other, in
    /// order; so are those without a key of a partition, and batches of a partition.
    pub fn workers(mut self, workers: usize) -> Self {
        self.options.workers = workers;
        self
    }

    /// How long handlers may go on when running is to end, before they are dropped, and how long they hold up
    /// that their partition is taken; default 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain_timeout = timeout;
        self
    }

    /// Begins to fetch and, where there is a group, to join it. A consumer that is not polled or run keeps
    /// its partitions all the same: close it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for options that do not go together. Without a group, also what the brokers say when
    /// they are asked for the topics' partitions.
    pub async fn build<C: Codec>(self, codec: C) -> Result<Consumer<C::Value>> {
        self.options.validate()?;
        Consumer::open(self.client, self.options, codec).await
    }
}
