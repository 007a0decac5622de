//! Transactions: [`Tx`], and who runs them.
//!
//! Brokers that have `transaction.version` 2 (KIP-890) learn of a transaction's partitions by its records, and raise the
//! producer's epoch at its end, so that nothing that comes late is taken for the next. Others are told of each
//! partition, and the epoch is raised after a transaction that was aborted.

mod session;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kafka_protocol::messages::{EndTxnRequest, InitProducerIdRequest, ProduceRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::builder::{Acks, Config};
use crate::cluster::{Backoff, CallOptions, Cluster, Coordinator, To};
use crate::error::{Code, Error, Result};
use crate::producer::{Core, Deliveries, Identity, NOBODY, Pending};
use crate::record::{Delivery, Record};

use session::Session;

/// How often a transaction is tried that the cluster aborted.
const ATTEMPTS: u32 = 5;
/// Bounds the end of a transaction that nobody waits for any more: it has to end all the same, or readers of what is
/// committed wait for the broker's time-out.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// From this version of Produce on brokers tell the coordinator of a transaction's partitions themselves.
const PRODUCE_ENLISTS: i16 = 12;
/// The newest version of EndTxn that does not raise the epoch.
const END_WITHOUT_EPOCH: i16 = 4;

/// An open transaction. It is cheap to clone, and refuses everything once the transaction has ended.
#[derive(Clone)]
pub struct Tx {
    shared: Arc<Shared>,
    number: u64,
}

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
        let taken = self.shared.core.enqueue(record, self.number, true).await;
        taken.inspect_err(|e| self.shared.session.fail_in(self.number, e))
    }

    /// Commits offsets of a group with the transaction.
    pub(crate) async fn send_offsets(&self, group: &GroupIdentity, offsets: &[CommitOffset]) -> Result<()> {
        if !self.shared.session.is_open(self.number) {
            return Err(Error::TransactionEnded("offsets are too late for it".to_owned()));
        }
        let sent = session::send_offsets(&self.shared, group, offsets).await;
        sent.inspect_err(|e| self.shared.session.fail_in(self.number, e))
    }
}

/// The producer of transactions of one id. Transactions wait for each other.
pub(crate) struct Transactions {
    shared: Arc<Shared>,
    turn: Arc<Mutex<Turn>>,
}

struct Shared {
    cluster: Arc<Cluster>,
    core: Arc<Core>,
    session: Arc<Session>,
    timeout: Duration,
}

/// Who has the turn has the producer.
#[derive(Default)]
struct Turn {
    begun: bool, // the sender runs
    identity: Option<Identity>,
    renew: bool, // the identity, before the next transaction
    fenced: Option<Error>,
    last: u64, // number of a transaction
}

impl Drop for Transactions {
    fn drop(&mut self) {
        self.shared.core.abandon();
    }
}

impl Transactions {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        config: &Config,
        id: &str,
        timeout: Duration,
        deliveries: Arc<Deliveries>,
    ) -> Self {
        let session = Arc::new(Session::new(id));
        let mut options = config.producing.clone();
        options.acks = Acks::All;
        options.delivery_timeout = timeout.max(Duration::from_secs(1)); // records have no time of their own
        let core = Core::new(cluster.clone(), options, Some(session.clone()), deliveries);
        core.take_from(NOBODY);
        Transactions { shared: Arc::new(Shared { cluster, core, session, timeout }), turn: Arc::default() }
    }

    /// As [`Client::transact`](crate::Client::transact).
    pub(crate) async fn transact<T, E, F, Fut>(&self, mut f: F) -> Result<T, E>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let mut turn = self.turn.clone().lock_owned().await;
        let mut backoff = Backoff::new();
        let mut attempt = 1;
        loop {
            if let Some(why) = &turn.fenced {
                return Err(why.clone().into());
            }
            let mut open = self.shared.begin(turn).await?;
            let returned = f(Tx { shared: self.shared.clone(), number: open.number }).await;
            let mut unanswered = None;
            let (failed, again) = match returned {
                Ok(value) => match open.commit().await {
                    Ok(()) => return Ok(value),
                    Err(e) => {
                        let told = !e.is_retriable() && !matches!(e, Error::Malformed { .. });
                        unanswered = Some(e.clone()).filter(|_| open.asked && !told);
                        (E::from(e.clone()), is_passing(&e))
                    }
                },
                Err(e) => {
                    let why = self.shared.session.failure();
                    (e, why.as_ref().is_some_and(is_passing))
                }
            };
            let ended = open.abort().await;
            turn = open.into_turn();
            if let Some(why) = &turn.fenced {
                return Err(why.clone().into());
            }
            if let Some(e) = unanswered.filter(|_| !matches!(ended, Ok(true))) {
                return Err(unknown(e.to_string()).into());
            }
            if !again || attempt == ATTEMPTS || ended.is_err() {
                return Err(failed);
            }
            tracing::warn!(id = self.shared.session.name(), attempt, "a transaction is tried again");
            attempt += 1;
            backoff.wait().await;
        }
    }
}

/// Says that a transaction may have been committed: to run it all again might do it twice.
fn unknown(why: String) -> Error {
    let what = "commit a transaction, which may have been done".to_owned();
    Error::Broker { what, code: Code::UnknownServerError, message: Some(why) }
}

/// Whether what failed in a transaction may succeed in another.
fn is_passing(e: &Error) -> bool {
    matches!(
        e.code(),
        Some(
            Code::TransactionAbortable
                | Code::OperationNotAttempted
                | Code::UnknownProducerId
                | Code::InvalidProducerIdMapping
                | Code::ConcurrentTransactions
        )
    ) || is_doubtful(e)
}

/// Whether the transaction is no longer this producer's: its time is over, and the coordinator has aborted it, or
/// another has taken the id. Which it was is told to who asks for its identity anew.
fn is_doubtful(e: &Error) -> bool {
    matches!(e.code(), Some(Code::InvalidProducerEpoch | Code::InvalidTxnState))
}

/// Whether another has taken the transactional id.
fn fences(e: &Error) -> bool {
    let code = matches!(e.code(), Some(Code::ProducerFenced | Code::TransactionCoordinatorFenced));
    code || matches!(e, Error::Fenced(_))
}

/// A transaction that has not ended: dropped, it is aborted in the background, or outside of a runtime by the next
/// one's identity.
struct Open {
    shared: Arc<Shared>,
    turn: Option<OwnedMutexGuard<Turn>>,
    number: u64,
    asked: bool, // to be committed
    ended: bool,
}

impl Shared {
    /// Opens a transaction.
    async fn begin(self: &Arc<Self>, mut turn: OwnedMutexGuard<Turn>) -> Result<Open> {
        if turn.identity.is_none() || turn.renew {
            self.identify(&mut turn).await?;
        }
        if !turn.begun {
            turn.begun = true;
            tokio::spawn(crate::producer::run(self.core.clone()));
        }
        turn.last += 1;
        let number = turn.last;
        self.session.open(number);
        self.core.take_from(number);
        Ok(Open { shared: self.clone(), turn: Some(turn), number, asked: false, ended: false })
    }

    /// Learns who this producer is, which ends what one before it has left open. One that has been somebody says who,
    /// so that it does not fence another that has taken its place.
    async fn identify(&self, turn: &mut Turn) -> Result<()> {
        let was = turn.identity.unwrap_or(Identity::NONE);
        let id = self.session.name().to_owned();
        let make = |_| {
            InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(StrBytes::from_string(id.clone()))))
                .with_transaction_timeout_ms(i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX))
                .with_producer_id(was.id.into())
                .with_producer_epoch(was.epoch)
        };
        let opts = CallOptions { attempts: 30, ..CallOptions::default() }; // one that is being ended takes its time
        let asked =
            self.cluster.call_checked(self.coordinator(), make, opts, |r| Code::try_from_code(r.error_code)).await;
        let who = asked.map_err(|e| match e.code() {
            Some(Code::InvalidProducerEpoch) => turn.fence(Error::broker("InitProducerId", Code::ProducerFenced), &id),
            _ => turn.fence(e, &id),
        })?;
        let level = self.cluster.feature("transaction.version").await?;
        let produce = self.cluster.version::<ProduceRequest>(To::Any).await?.unwrap_or_default();
        self.session.set_explicit(level < 2 || produce < PRODUCE_ENLISTS);
        turn.become_(self, Identity { id: who.producer_id.0, epoch: who.producer_epoch });
        Ok(())
    }

    fn coordinator(&self) -> To {
        To::Coordinator { kind: Coordinator::Transaction, key: self.session.name().to_owned() }
    }

    /// Ends a transaction that somebody may wait for.
    async fn end(&self, turn: &mut Turn, commit: bool) -> Result<()> {
        let Some(who) = turn.identity.filter(|_| self.session.has_begun()) else { return Ok(()) };
        let id = self.session.name().to_owned();
        let attempts = AtomicU32::new(0);
        let make = |_| {
            attempts.fetch_add(1, Ordering::Relaxed);
            EndTxnRequest::default()
                .with_transactional_id(TransactionalId(StrBytes::from_string(id.clone())))
                .with_producer_id(who.id.into())
                .with_producer_epoch(who.epoch)
                .with_committed(commit)
        };
        let most = if self.session.is_explicit() { END_WITHOUT_EPOCH } else { i16::MAX };
        let opts = CallOptions { max_version: most, attempts: 30, ..CallOptions::default() };
        let ended =
            self.cluster.call_checked(self.coordinator(), make, opts, |r| Code::try_from_code(r.error_code)).await;
        let answer = ended.map_err(|e| match e.code() {
            // An attempt whose answer was lost may have committed.
            Some(code) if commit && is_doubtful(&e) && attempts.load(Ordering::Relaxed) > 1 => {
                unknown(code.to_string())
            }
            _ => turn.fence(e, self.session.name()),
        })?;
        if most > END_WITHOUT_EPOCH && answer.producer_id.0 >= 0 {
            turn.become_(self, Identity { id: answer.producer_id.0, epoch: answer.producer_epoch });
        }
        Ok(())
    }

    /// Aborts: nothing of it is left under way, as far as can be known, when the coordinator is told. `false`: it had
    /// ended before, in whatever way.
    async fn abort(&self, turn: &mut Turn) -> Result<bool> {
        self.core.take_from(NOBODY);
        self.core.fail_all(&Error::TransactionEnded("it was aborted".to_owned()));
        let ended = tokio::time::timeout(END_TIMEOUT, async {
            self.core.quiet().await;
            self.end(turn, false).await
        })
        .await;
        let ended =
            ended.unwrap_or_else(|_| Err(Error::Timeout { what: "abort a transaction".into(), after: END_TIMEOUT }));
        // By the older protocol records may still come that were sent before; after an error nobody knows.
        turn.renew = self.session.is_explicit() || ended.is_err();
        self.session.close();
        match ended {
            Err(e) if is_doubtful(&e) => Ok(false), // or it is another's: the next identity tells
            other => other.map(|()| true),
        }
    }
}

impl Turn {
    fn become_(&mut self, shared: &Shared, who: Identity) {
        (self.identity, self.renew) = (Some(who), false);
        shared.core.set_identity(Some(who));
    }

    /// Notes that another has taken the id, where an error says so.
    fn fence(&mut self, e: Error, id: &str) -> Error {
        if !fences(&e) {
            return e;
        }
        let why = Error::Fenced(format!("transactional id {id} ({e})"));
        self.fenced = Some(why.clone());
        why
    }
}

impl Open {
    /// Commits what was produced, once all of it is delivered.
    async fn commit(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        shared.core.take_from(NOBODY);
        shared.core.flush().await?;
        if let Some(failed) = shared.session.failure() {
            return Err(failed);
        }
        let Some(turn) = self.turn.as_mut() else { return Err(Error::Closed) };
        self.asked = true;
        shared.end(turn, true).await?;
        shared.session.close();
        self.ended = true;
        Ok(())
    }

    /// As [`Shared::abort`], unless another has the id.
    async fn abort(&mut self) -> Result<bool> {
        let Some(turn) = self.turn.as_mut() else { return Ok(false) };
        if let Some(why) = self.shared.session.failure().filter(fences) {
            turn.fence(why, self.shared.session.name());
        }
        if turn.fenced.is_some() {
            self.shared.core.take_from(NOBODY);
            self.shared.core.fail_all(&Error::TransactionEnded("another has taken the transactional id".to_owned()));
            self.shared.session.close();
            self.ended = true;
            return Ok(false);
        }
        let ended = self.shared.abort(turn).await;
        self.ended = true;
        ended
    }

    fn into_turn(mut self) -> OwnedMutexGuard<Turn> {
        self.ended = true;
        match self.turn.take() {
            Some(turn) => turn,
            None => unreachable!("a transaction has its turn until it gives it away"),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take().filter(|_| !self.ended) else { return };
        let shared = self.shared.clone();
        shared.core.take_from(NOBODY);
        // Now: where no runtime is there, or it ends, nothing of this one may be sent with the next.
        shared.core.fail_all(&Error::TransactionEnded("it was dropped".to_owned()));
        turn.renew = true;
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(e) = shared.abort(&mut turn).await {
                    tracing::warn!(id = shared.session.name(), error = %e, "a transaction that was dropped was not aborted");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Builder;
    use crate::wire::fake;

    /// Transactions of a cluster that nobody asks.
    async fn transactions() -> Transactions {
        let client = Builder::new().brokers(["127.0.0.1:1"]).build().await.unwrap();
        let config = &client.inner.config;
        let deliveries = Arc::new(Deliveries::new(None));
        Transactions::new(client.cluster().clone(), config, "id", Duration::from_secs(10), deliveries)
    }

    /// One that is open, as if the coordinator had said who this producer is.
    async fn opened(t: &Transactions) -> Open {
        let mut turn = t.turn.clone().lock_owned().await;
        turn.become_(&t.shared, Identity { id: 7, epoch: 0 });
        turn.begun = true;
        t.shared.begin(turn).await.unwrap()
    }

    #[tokio::test]
    async fn a_commit_without_an_answer_that_cannot_be_aborted_may_have_been_done() {
        for (aborted, retriable) in [(0, true), (Code::InvalidTxnState.code(), false)] {
            let broker = fake::broker(move |committed| (!committed).then_some(aborted)).await;
            let client = Builder::new()
                .brokers([broker])
                .request_timeout(Duration::from_millis(200))
                .transactional_id("id", Duration::from_secs(10))
                .build()
                .await
                .unwrap();
            let done: Result<()> = client
                .transact(|tx| async move { tx.send(Record::to("t").partition(1).value("x")).await.map(drop) })
                .await;
            let failed = done.unwrap_err();
            assert_eq!(failed.is_retriable(), retriable, "{failed}");
            assert_eq!(failed.code() == Some(Code::UnknownServerError), !retriable, "{failed}");
            client.close().await;
        }
    }

    #[tokio::test]
    async fn one_that_is_dropped_outside_of_a_runtime_leaves_nothing_to_the_next() {
        let t = transactions().await;
        let open = opened(&t).await;
        let pending = t.shared.core.put("t", b"of the first", open.number);
        std::thread::spawn(move || drop(open)).join().unwrap();
        let turn = t.turn.clone().lock_owned().await;
        assert!(turn.renew, "the next begins under an identity that ends this one");
        assert!(pending.await.is_err(), "the record is not sent with the next");
    }
}
