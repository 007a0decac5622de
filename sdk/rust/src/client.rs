//! The handle that all is reached by: [`Client`].

use std::future::Future;
use std::sync::Arc;

use crate::admin::Admin;
use crate::builder::{Builder, Config};
use crate::cluster::Cluster;
use crate::consumer::ConsumerBuilder;
use crate::error::{Error, Result};
use crate::processor::ProcessorBuilder;
use crate::producer::ProducerBuilder;
use crate::transaction::{Transactions, Tx};

/// A way to a cluster, cheap to clone; producers, consumers and admin share its connections and what was set for it.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) cluster: Arc<Cluster>,
    transactions: Option<Transactions>,
}

impl Client {
    /// Begins a client.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) async fn new(config: Config) -> Result<Self> {
        let cluster = Cluster::new(&config).await?;
        let transactions = config
            .transactional_id
            .as_ref()
            .map(|id| Transactions::new(cluster.clone(), &config, id, config.transaction_timeout));
        Ok(Client { inner: Arc::new(Inner { config, cluster, transactions }) })
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.inner.cluster
    }

    /// Begins a producer, with what was set for the client.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self)
    }

    /// Begins a consumer.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self)
    }

    /// Begins a processor, from topic to topic exactly once. `id` names it across restarts; processors that run side by
    /// side in one group have ids of their own.
    pub fn processor(&self, id: impl Into<String>) -> ProcessorBuilder {
        ProcessorBuilder::new(self, id.into())
    }

    /// Administers the cluster.
    pub fn admin(&self) -> Admin {
        Admin::new(self)
    }

    /// Runs `f` in a transaction, and commits when it returns `Ok`: all records that it produced are there then, in
    /// whatever topics, or none is. An error of `f`, or of a record, aborts, as does dropping the future. `f` is
    /// run again, at most five times in all, where the cluster aborted for reasons that pass, such as a
    /// coordinator that moved; it has to be fit for that.
    ///
    /// Transactions of a client wait for each other.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without [`Builder::transactional_id`]. [`Error::Fenced`] where another has taken the id:
    /// this client transacts no more. Otherwise what `f` or the cluster says. When the future is dropped while the
    /// transaction is being committed, whether it was is not known.
    pub async fn transact<T, E, F, Fut>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        match &self.inner.transactions {
            Some(t) => t.transact(f).await,
            None => Err(Error::Config("transact needs a transactional id: add transactional_id()".to_owned()).into()),
        }
    }

    /// Asks a broker for an answer.
    ///
    /// # Errors
    ///
    /// Why the last of the brokers that were asked did not answer.
    pub async fn ping(&self) -> Result<()> {
        self.inner.cluster.ping().await
    }

    /// Fails what is still buffered (see [`Producer::flush`](crate::Producer::flush)), ends consumers that were not
    /// closed, and closes all connections.
    pub async fn close(&self) {
        self.inner.cluster.close().await;
    }
}
