//! Producers: [`Producer`], its builder, and the result that a record has.

mod batch;
mod core;
mod deliveries;
mod outcome;
mod partition;
mod partitioner;
mod requests;
mod sender;

use std::sync::Arc;
use std::time::Duration;

use crate::builder::{Acks, Compression, Producing};
use crate::client::Client;
use crate::error::Result;
use crate::record::{Delivery, Record};

pub(crate) use batch::Identity;
pub(crate) use core::{Core, Enlist, NOBODY};
pub(crate) use deliveries::Deliveries;
pub use outcome::Pending;
pub(crate) use sender::run;

/// Makes a [`Producer`], with what was set for the client unless it is set here.
#[must_use = "a producer is made by build()"]
pub struct ProducerBuilder {
    client: Client,
    producing: Producing,
}

impl ProducerBuilder {
    pub(crate) fn new(client: &Client) -> Self {
        ProducerBuilder { client: client.clone(), producing: client.inner.config.producing.clone() }
    }

    /// As [`Builder::acks`](crate::Builder::acks).
    pub fn acks(mut self, acks: Acks) -> Self {
        self.producing.acks = acks;
        self
    }

    /// As [`Builder::compression`](crate::Builder::compression).
    pub fn compression(mut self, compression: Compression) -> Self {
        self.producing.compression = compression;
        self
    }

    /// As [`Builder::linger`](crate::Builder::linger).
    pub fn linger(mut self, linger: Duration) -> Self {
        self.producing.linger = linger;
        self
    }

    /// As [`Builder::delivery_timeout`](crate::Builder::delivery_timeout).
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.producing.delivery_timeout = timeout;
        self
    }

    /// As [`Builder::buffered_bytes`](crate::Builder::buffered_bytes).
    pub fn buffered_bytes(mut self, bytes: usize) -> Self {
        self.producing.buffered_bytes = bytes;
        self
    }

    /// As [`Builder::max_record_bytes`](crate::Builder::max_record_bytes).
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.producing.max_record_bytes = bytes;
        self
    }

    /// Makes the producer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) where a setting is out of its range. It panics outside of a tokio runtime.
    pub fn build(self) -> Result<Producer> {
        self.producing.validate()?;
        let core = Core::new(self.client.cluster().clone(), self.producing, None, self.client.inner.deliveries.clone());
        tokio::spawn(run(core.clone()));
        Ok(Producer { handle: Arc::new(Handle { core, _client: self.client }) })
    }
}

/// Produces records; cheap to clone, for concurrent use. Records of one partition are written in the order of the
/// calls.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// The last handle that is dropped has the producer end, once what was produced has its result.
struct Handle {
    core: Arc<Core>,
    _client: Client,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.abandon();
    }
}

impl Producer {
    /// Produces a record and waits for its result.
    ///
    /// # Errors
    ///
    /// Why the record was not delivered, or not known to be: [`Error::is_retriable`](crate::Error::is_retriable) says whether the same may
    /// succeed later.
    pub async fn send(&self, record: Record) -> Result<Delivery> {
        self.enqueue(record).await?.await
    }

    /// Produces a record; what it returns is to be awaited for the result, or may be dropped. It waits while the
    /// buffer is full, and for a topic that is not known yet.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`].
    pub async fn enqueue(&self, record: Record) -> Result<Pending> {
        self.handle.core.enqueue(record, 0, true).await
    }

    /// [`Producer::enqueue`], but fails with [`Error::BufferFull`](crate::Error::BufferFull) where that waits for the buffer.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`], and [`Error::BufferFull`](crate::Error::BufferFull).
    pub async fn try_enqueue(&self, record: Record) -> Result<Pending> {
        self.handle.core.enqueue(record, 0, false).await
    }

    /// Produces records and waits for the results of all, which are in the order of the records.
    pub async fn send_all(&self, records: impl IntoIterator<Item = Record>) -> Vec<Result<Delivery>> {
        let mut pending = Vec::new();
        for r in records {
            pending.push(self.enqueue(r).await);
        }
        let mut results = Vec::with_capacity(pending.len());
        for p in pending {
            results.push(match p {
                Ok(p) => p.await,
                Err(e) => Err(e),
            });
        }
        results
    }

    /// Waits for the results of all records produced so far.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`](crate::Error::Closed) where the client is closed meanwhile.
    pub async fn flush(&self) -> Result<()> {
        self.handle.core.flush().await
    }

    /// Bytes of records that wait for their result.
    pub fn buffered_bytes(&self) -> usize {
        self.handle.core.buffered()
    }
}
