//! The handle that all is reached by: [`Client`].

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use crate::admin::Admin;
use crate::breaker::BreakerState;
use crate::builder::{Builder, Config};
use crate::cluster::Cluster;
use crate::conditional::Conditional;
use crate::consumer::ConsumerBuilder;
use crate::error::{Error, Result};
use crate::processor::ProcessorBuilder;
use crate::producer::{Deliveries, ProducerBuilder};
use crate::record::{Delivery, Record};
use crate::transaction::{Transactions, Tx};
use crate::transport::Link;

/// A way to a cluster, cheap to clone; producers, consumers and admin share its connections and what was set for it.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) deliveries: Arc<Deliveries>,
    transactions: Option<Transactions>,
    conditional: Conditional,
}

/// How a client is at a moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Health {
    /// Why the broker that was asked did not answer; `None`: it has.
    pub error: Option<Error>,
    /// What the circuit breaker does; closed where there is none.
    pub breaker: BreakerState,
    /// Deliveries in a row that failed.
    pub failed: u32,
    /// When the last record was delivered; `None`: none was yet.
    pub last_delivered: Option<SystemTime>,
    /// How the last failed that did; `None`: none has.
    pub last_error: Option<Error>,
    /// How each broker is reached, and why so.
    pub links: Vec<Link>,
}

impl Health {
    /// Whether a broker answers and records pass.
    pub fn is_healthy(&self) -> bool {
        self.error.is_none() && self.breaker != BreakerState::Open
    }
}

impl Client {
    /// Begins a client.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) async fn new(config: Config) -> Result<Self> {
        let cluster = Cluster::new(&config).await?;
        let deliveries = Arc::new(Deliveries::new(config.breaker));
        let transactions = config
            .transactional_id
            .as_ref()
            .map(|id| Transactions::new(cluster.clone(), &config, id, config.transaction_timeout, deliveries.clone()));
        let conditional = Conditional::new(cluster.clone(), &config.producing, deliveries.clone());
        Ok(Client { inner: Arc::new(Inner { config, cluster, deliveries, transactions, conditional }) })
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
    /// transaction is being committed, whether it was is not known, nor after an [`Error::Broker`] of
    /// `UNKNOWN_SERVER_ERROR` whose text says that it may have been: nobody answered.
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

    /// Appends a record to its partition, which has to be set, if that ends at `offset`: of writers that expect the
    /// same offset one succeeds. The topic has to have `rustmq.expect.offset=true`. Appends of one client wait for each
    /// other.
    ///
    /// # Errors
    ///
    /// [`Error::Condition`] where the partition ends elsewhere. After another error, such as a time-out, the record may
    /// be there: read on, and look.
    pub async fn append_at(&self, record: Record, offset: i64) -> Result<Delivery> {
        self.inner.conditional.append(record, offset).await
    }

    /// How each broker is reached, and why so.
    pub fn links(&self) -> Vec<Link> {
        self.inner.cluster.links()
    }

    /// Asks a broker, and says how deliveries went.
    pub async fn health(&self) -> Health {
        let error = self.ping().await.err();
        let (breaker, failed, last_delivered, last_error) = self.inner.deliveries.view();
        Health { error, breaker, failed, last_delivered, last_error, links: self.links() }
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
