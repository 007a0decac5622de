//! The cluster as a client knows it: who leads what, who coordinates whom, and requests that find their way.

mod metadata;

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::protocol::Request;

use crate::builder::Config;
use crate::error::{Code, Error, Result};

pub(crate) use metadata::{Metadata, Partition, Topic};

/// To whom a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum To {
    /// Whoever answers.
    Any,
    /// A broker by its id.
    Broker(i32),
    /// The leader of a partition.
    Leader { topic: String, partition: i32 },
    /// The coordinator of a group or of a transactional id.
    Coordinator { kind: Coordinator, key: String },
    /// The controller, or who speaks for it.
    Controller,
}

/// What is coordinated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Coordinator {
    Group,
    Transaction,
}

/// A connection of its own for what must not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Short requests.
    General,
    /// Produce.
    Produce,
    /// Fetch, which waits for records.
    Fetch,
    /// JoinGroup and SyncGroup, which wait for other members; heartbeats go over General.
    Group,
}

/// How a request is made.
#[derive(Debug, Clone)]
pub(crate) struct CallOptions {
    /// For one attempt; `None`: the client's request time-out.
    pub(crate) timeout: Option<Duration>,
    pub(crate) lane: Lane,
    /// Attempts in all, of which each may go to another broker; 1: what fails fails.
    pub(crate) attempts: u32,
    /// The newest version to use, where the newest that both know is not wanted.
    pub(crate) max_version: i16,
}

impl Default for CallOptions {
    fn default() -> Self {
        CallOptions { timeout: None, lane: Lane::General, attempts: 5, max_version: i16::MAX }
    }
}

/// What is to be learnt anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale<'a> {
    /// A topic's leaders.
    Topic(&'a str),
    /// Who coordinates.
    Coordinator(Coordinator, &'a str),
    /// Everything.
    All,
}

/// The cluster. All methods may be called concurrently, and their futures dropped at any time.
pub(crate) struct Cluster {}

impl Cluster {
    pub(crate) async fn new(config: &Config) -> Result<Arc<Self>> {
        let _ = config;
        Ok(Arc::new(Cluster {}))
    }

    /// Sends a request and returns its answer, whatever error code that holds. `make` is given the version that was
    /// agreed on with the broker, and is called once per attempt. Attempts fail for the network, or because nobody
    /// is known to lead or coordinate yet; between them is waited longer and longer.
    pub(crate) async fn call<R: Request>(
        &self,
        to: To,
        make: impl Fn(i16) -> R,
        opts: CallOptions,
    ) -> Result<R::Response> {
        self.call_checked(to, make, opts, |_| None).await
    }

    /// [`Cluster::call`], where `check` finds the error code of an answer: what is retriable is tried again, after
    /// what it shows to be stale was forgotten; what is left at the end is [`Error::Broker`].
    pub(crate) async fn call_checked<R: Request>(
        &self,
        to: To,
        make: impl Fn(i16) -> R,
        opts: CallOptions,
        check: impl Fn(&R::Response) -> Option<Code>,
    ) -> Result<R::Response> {
        let _ = (to, make, opts, check);
        Err(Error::Closed)
    }

    /// The version of a request that would be used with `to`; `None`: it does not know the request.
    pub(crate) async fn version<R: Request>(&self, to: To) -> Result<Option<i16>> {
        let _ = to;
        Err(Error::Closed)
    }

    /// The level of a feature that the cluster has finalised, such as `transaction.version`; 0 where it has none.
    pub(crate) async fn feature(&self, name: &str) -> Result<i16> {
        let _ = name;
        Err(Error::Closed)
    }

    /// What is known of topics, all of which are in the answer (those that are not there with an error). It is
    /// cached for five minutes, and asked for anew after [`Cluster::invalidate`].
    pub(crate) async fn metadata(&self, topics: &[&str]) -> Result<Arc<Metadata>> {
        let _ = topics;
        Err(Error::Closed)
    }

    /// Metadata of all topics, never from the cache.
    pub(crate) async fn all_topics(&self) -> Result<Arc<Metadata>> {
        Err(Error::Closed)
    }

    /// The broker that coordinates, cached until it is invalidated.
    pub(crate) async fn coordinator(&self, kind: Coordinator, key: &str) -> Result<i32> {
        let _ = (kind, key);
        Err(Error::Closed)
    }

    /// Forgets what was shown to be stale.
    pub(crate) fn invalidate(&self, what: Stale<'_>) {
        let _ = what;
    }

    /// Asks a broker for an answer.
    pub(crate) async fn ping(&self) -> Result<()> {
        Err(Error::Closed)
    }

    /// Completes when the client is closed.
    pub(crate) async fn closed(&self) {}

    /// Ends all connections.
    pub(crate) async fn close(&self) {}
}
