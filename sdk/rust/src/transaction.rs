//! Transactions: [`Tx`], and who runs them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::Config;
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::producer::Pending;
use crate::record::{Delivery, Record};

/// An open transaction. It is cheap to clone, and refuses everything once the transaction has ended.
#[derive(Clone)]
pub struct Tx {}

/// Who a member of a group is, for offsets that are committed in a transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupIdentity {
    pub(crate) group: String,
    /// Generation of a classic group, member epoch of one of KIP-848; -1: no member.
    pub(crate) generation: i32,
    pub(crate) member: String,
    pub(crate) instance: Option<String>,
}

/// An offset to commit: of the record that is to be read next.
#[derive(Debug, Clone)]
pub(crate) struct CommitOffset {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// -1: not known.
    pub(crate) leader_epoch: i32,
}

impl Tx {
    /// Produces a record in the transaction and waits for its result: what is delivered is read only once the
    /// transaction is committed. A record that fails fails the transaction, whether or not anybody looks.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`](crate::Producer::send), and [`Error::TransactionEnded`] once it has.
    pub async fn send(&self, record: Record) -> Result<Delivery> {
        self.enqueue(record).await?.await
    }

    /// Produces a record in the transaction; what it returns is to be awaited for the result, or may be dropped.
    /// It waits while the buffer is full.
    ///
    /// # Errors
    ///
    /// As [`Tx::send`].
    pub async fn enqueue(&self, record: Record) -> Result<Pending> {
        let _ = record;
        Err(Error::Closed)
    }

    /// Commits offsets of a group with the transaction.
    pub(crate) async fn send_offsets(&self, group: &GroupIdentity, offsets: &[CommitOffset]) -> Result<()> {
        let _ = (group, offsets);
        Err(Error::Closed)
    }
}

/// The producer of transactions of one id. Transactions wait for each other.
pub(crate) struct Transactions {}

impl Transactions {
    pub(crate) fn new(cluster: Arc<Cluster>, config: &Config, id: &str, timeout: Duration) -> Self {
        let _ = (cluster, config, id, timeout);
        Transactions {}
    }

    /// As [`Client::transact`](crate::Client::transact).
    pub(crate) async fn transact<T, E, F, Fut>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let _ = f;
        Err(Error::Closed.into())
    }
}
