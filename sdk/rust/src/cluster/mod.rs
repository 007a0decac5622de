//! The cluster as a client knows it: who leads what, who coordinates whom, and requests that find their way.

mod coordinators;
pub(crate) mod metadata;
mod pool;
mod retry;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::sync::watch;

use crate::builder::Config;
use crate::error::{Code, Error, Result};
use crate::transport::{Dialer, Link};
use crate::wire::Connection;

use pool::Pool;

pub(crate) use metadata::Metadata;
pub(crate) use retry::{Backoff, leader_moved};

/// How long metadata is believed that nothing has shown to be stale; as Kafka's metadata.max.age.ms.
const METADATA_AGE: Duration = Duration::from_secs(300);

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
    /// Fetch, which waits for records. Each is of one consumer, as it has a number of [`Cluster::lanes`].
    Fetch(u32),
    /// JoinGroup and SyncGroup, which wait for other members, perhaps of the same client; heartbeats go over General.
    Group(u32),
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
        // With the pauses between them about ten seconds: a coordinator or leader that was killed is replaced by then.
        CallOptions { timeout: None, lane: Lane::General, attempts: 13, max_version: i16::MAX }
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
pub(crate) struct Cluster {
    config: Arc<Config>,
    dialer: Arc<Dialer>,
    pool: Pool,
    known: RwLock<Arc<Metadata>>,
    state: Mutex<State>,
    asking: tokio::sync::Mutex<()>, // one request for metadata at a time
    closed: watch::Sender<bool>,
    lanes: AtomicU32, // numbers that were given away
}

/// Guarded by `Cluster::state`; never held across an await.
#[derive(Default)]
struct State {
    learnt: HashMap<String, Instant>, // when each topic was last told of
    stale: HashSet<String>,
    brokers_stale: bool, // as is who the controller is
    coordinators: HashMap<(Coordinator, String), i32>,
    turn: usize, // at whose address the next search for an answer begins
}

impl Cluster {
    pub(crate) async fn new(config: &Config) -> Result<Arc<Self>> {
        let config = Arc::new(config.clone());
        let dialer = Dialer::new(&config).await?;
        Ok(Arc::new(Cluster {
            pool: Pool::new(dialer.clone(), config.clone()),
            config,
            dialer,
            known: RwLock::default(),
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            closed: watch::channel(false).0,
            lanes: AtomicU32::new(0),
        }))
    }

    /// Gives away n numbers of lanes in a row, and returns the first.
    pub(crate) fn lanes(&self, n: u32) -> u32 {
        self.lanes.fetch_add(n, Ordering::Relaxed)
    }

    /// Ends the connections of a lane that nobody uses any more.
    pub(crate) fn release(&self, lane: Lane) {
        self.pool.release(lane, &Error::Closed);
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
        let mut backoff = Backoff::new();
        let mut attempt = 0;
        let until = Instant::now() + opts.timeout.unwrap_or_default().max(self.config.request_timeout * 2);
        loop {
            attempt += 1;
            let failed = match self.attempt(&to, &make, &opts).await {
                Ok(answer) => match check(&answer) {
                    None => return Ok(answer),
                    Some(code) => Error::broker(retry::what::<R>(), code),
                },
                Err(e) => e,
            };
            self.learn_from(&to, &failed);
            if attempt >= opts.attempts || !failed.is_retriable() || Instant::now() >= until {
                return Err(failed);
            }
            tracing::debug!(request = %retry::what::<R>(), attempt, error = %failed, "a request is tried again");
            self.unless_closed(async {
                backoff.wait().await;
                Ok(())
            })
            .await?;
        }
    }

    async fn attempt<R: Request>(&self, to: &To, make: &impl Fn(i16) -> R, opts: &CallOptions) -> Result<R::Response> {
        // On the heap, or the futures of all calls would be of tens of kilobytes, and their frames in debug builds of more.
        Box::pin(self.unless_closed(async {
            let connection = self.connection(to, opts.lane).await?;
            let version = connection.version::<R>(opts.max_version)?;
            let reply = connection.send(&make(version), version)?;
            match opts.timeout {
                Some(t) => reply.within(t).receive().await,
                None => reply.receive().await,
            }
        }))
        .await
    }

    /// Forgets what an error shows to be stale.
    fn learn_from(&self, to: &To, failed: &Error) {
        let reaches_nobody = matches!(failed, Error::Network { .. } | Error::Timeout { .. });
        match to {
            To::Leader { topic, .. } if reaches_nobody || failed.code().is_some_and(retry::leader_moved) => {
                self.invalidate(Stale::Topic(topic));
            }
            To::Coordinator { kind, key } if reaches_nobody || failed.code().is_some_and(retry::coordinator_moved) => {
                self.invalidate(Stale::Coordinator(*kind, key));
            }
            To::Controller if reaches_nobody || failed.code() == Some(Code::NotController) => {
                self.invalidate(Stale::All);
            }
            To::Broker(_) if reaches_nobody => self.invalidate(Stale::All), // it may have another address now
            _ => {}
        }
    }

    /// The connection of a lane to whom a request is to go.
    pub(crate) async fn connection(&self, to: &To, lane: Lane) -> Result<Connection> {
        let broker = match to {
            To::Any => return self.any(lane).await,
            To::Broker(id) => *id,
            To::Leader { topic, partition } => self.leader(topic, *partition).await?,
            To::Coordinator { kind, key } => self.coordinator(*kind, key).await?,
            To::Controller => {
                let known = self.metadata(&[]).await?;
                if known.controller < 0 || !known.brokers.contains_key(&known.controller) {
                    return self.any(lane).await;
                }
                known.controller
            }
        };
        let address = self.address(broker).await?;
        self.pool.get(&address, lane).await
    }

    async fn address(&self, broker: i32) -> Result<String> {
        let stale = self.lock().brokers_stale;
        if let Some(a) = self.known().brokers.get(&broker).filter(|_| !stale) {
            return Ok(a.clone());
        }
        let known = Box::pin(self.refresh(&[], true)).await?;
        known.brokers.get(&broker).cloned().ok_or_else(|| {
            let missing =
                std::io::Error::new(std::io::ErrorKind::NotFound, "the cluster does not name it at the moment");
            Error::network(&broker.to_string(), missing)
        })
    }

    /// A connection to whoever takes it: one that exists, else to the brokers in turn.
    async fn any(&self, lane: Lane) -> Result<Connection> {
        let addresses = self.addresses();
        if let Some(c) = addresses.iter().find_map(|a| self.pool.living(a, lane)) {
            return Ok(c);
        }
        let mut last = Error::Closed;
        for address in &addresses {
            match self.pool.get(address, lane).await {
                Ok(c) => return Ok(c),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Where to look for an answer: the brokers that are known, then those that were named at first, beginning at
    /// another one each time.
    fn addresses(&self) -> Vec<String> {
        let known = self.known();
        let mut all: Vec<String> = known.brokers.values().cloned().collect();
        let turn = {
            let mut state = self.lock();
            state.turn = state.turn.wrapping_add(1);
            state.turn
        };
        if !all.is_empty() {
            let by = turn % all.len();
            all.rotate_left(by);
        }
        let mut seen: HashSet<String> = all.iter().cloned().collect();
        all.extend(self.config.brokers.iter().filter(|a| seen.insert((*a).clone())).cloned());
        all
    }

    async fn leader(&self, topic: &str, partition: i32) -> Result<i32> {
        let known = self.metadata(&[topic]).await?;
        let about = known.topic(topic).ok_or_else(|| Error::broker(topic, Code::UnknownTopicOrPartition))?;
        if let Some(code) = about.error {
            return Err(Error::broker(format!("find topic {topic}"), code));
        }
        let at = usize::try_from(partition).ok().and_then(|p| about.partitions.get(p));
        let what = || format!("find the leader of {topic}/{partition}");
        at.ok_or_else(|| Error::broker(what(), Code::UnknownTopicOrPartition))?
            .leader
            .ok_or_else(|| Error::broker(what(), Code::LeaderNotAvailable))
    }

    /// The version of a request that would be used with `to`; `None`: it does not know the request.
    pub(crate) async fn version<R: Request>(&self, to: To) -> Result<Option<i16>> {
        let connection = Box::pin(self.unless_closed(self.connection(&to, Lane::General))).await?;
        Ok(connection.versions().pick::<R>(i16::MAX))
    }

    /// The level of a feature that the cluster has finalised, such as `transaction.version`; 0 where it has none.
    pub(crate) async fn feature(&self, name: &str) -> Result<i16> {
        let connection = Box::pin(self.unless_closed(self.connection(&To::Any, Lane::General))).await?;
        Ok(connection.versions().feature(name))
    }

    /// What is known now, without asking anybody.
    pub(crate) fn known(&self) -> Arc<Metadata> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known of topics, all of which are in the answer (those that are not there with an error). It is
    /// cached for five minutes, and asked for anew after [`Cluster::invalidate`].
    pub(crate) async fn metadata(&self, topics: &[&str]) -> Result<Arc<Metadata>> {
        match self.fresh(topics) {
            Some(known) => Ok(known),
            None => Box::pin(self.unless_closed(self.refresh(topics, false))).await,
        }
    }

    /// What is known, if it is all that is wanted, and may be believed.
    fn fresh(&self, topics: &[&str]) -> Option<Arc<Metadata>> {
        let known = self.known();
        if known.brokers.is_empty() {
            return None;
        }
        let state = self.lock();
        if state.brokers_stale {
            return None;
        }
        let believed = |t: &&str| {
            known.topic(t).is_some_and(|about| about.error.is_none())
                && !state.stale.contains(*t)
                && state.learnt.get(*t).is_some_and(|at| at.elapsed() < METADATA_AGE)
        };
        topics.iter().all(believed).then_some(known.clone())
    }

    /// Asks for topics, and for those that are stale. Who asks while another does waits for that first.
    async fn refresh(&self, topics: &[&str], force: bool) -> Result<Arc<Metadata>> {
        let _asking = self.asking.lock().await;
        if let (false, Some(known)) = (force, self.fresh(topics)) {
            return Ok(known);
        }
        let mut names: BTreeSet<String> = topics.iter().map(|t| (*t).to_owned()).collect();
        names.extend(self.lock().stale.iter().cloned());
        let told = self.ask(Some(&names)).await?;
        Ok(self.keep(told, &names))
    }

    /// Metadata of all topics, never from the cache.
    pub(crate) async fn all_topics(&self) -> Result<Arc<Metadata>> {
        self.unless_closed(async {
            let told = self.ask(None).await?;
            let names = told.topics.keys().cloned().collect();
            self.keep(told.clone(), &names);
            Ok(Arc::new(told))
        })
        .await
    }

    /// One request for metadata, to whoever answers. `None`: of all topics.
    async fn ask(&self, names: Option<&BTreeSet<String>>) -> Result<Metadata> {
        let mut last = Error::Closed;
        for address in self.addresses() {
            let connection = match self.pool.get(&address, Lane::General).await {
                Ok(c) => c,
                Err(e) => {
                    last = e;
                    continue;
                }
            };
            let version = connection.version::<MetadataRequest>(i16::MAX)?;
            let topic = |n: &String| {
                MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(n.clone()))))
            };
            let request = MetadataRequest::default()
                .with_topics(names.map(|n| n.iter().map(topic).collect()))
                .with_allow_auto_topic_creation(self.config.create_topics && names.is_some());
            let answer = match connection.send(&request, version) {
                Ok(reply) => reply.receive().await,
                Err(e) => Err(e),
            };
            match answer.and_then(Metadata::read) {
                Ok(told) => return Ok(told),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Keeps what was told, and returns what is known then.
    fn keep(&self, told: Metadata, asked: &BTreeSet<String>) -> Arc<Metadata> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let merged = Arc::new(known.with(told));
        *known = merged.clone();
        drop(known);
        let mut state = self.lock();
        state.brokers_stale = false;
        for name in asked {
            state.stale.remove(name);
            state.learnt.insert(name.clone(), Instant::now());
        }
        merged
    }

    /// Notes the address of a broker that metadata did not tell of.
    fn heard_of(&self, broker: i32, address: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.brokers.contains_key(&broker) {
            return;
        }
        let mut more = (**known).clone();
        more.brokers.insert(broker, address.to_owned());
        *known = Arc::new(more);
    }

    /// Notes who leads a partition now, as a broker says that does not. -1: it does not know. Whether it was
    /// news is reported.
    pub(crate) fn told_leader(&self, topic: &str, partition: i32, leader: i32, epoch: i32) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Some(newer) = known.led_by(topic, partition, leader, epoch) else { return false };
        *known = Arc::new(newer);
        true
    }

    /// Whether a topic is to be learnt anew.
    pub(crate) fn is_stale(&self, topic: &str) -> bool {
        let state = self.lock();
        state.brokers_stale || state.stale.contains(topic)
    }

    /// Forgets what was shown to be stale.
    pub(crate) fn invalidate(&self, what: Stale<'_>) {
        let mut state = self.lock();
        match what {
            Stale::Topic(name) => {
                state.stale.insert(name.to_owned());
            }
            Stale::Coordinator(kind, key) => {
                state.coordinators.remove(&(kind, key.to_owned()));
            }
            Stale::All => {
                let all: Vec<String> = state.learnt.keys().cloned().collect();
                state.stale.extend(all);
                state.coordinators.clear();
                state.brokers_stale = true;
            }
        }
    }

    /// Asks a broker for an answer.
    pub(crate) async fn ping(&self) -> Result<()> {
        self.unless_closed(async { self.ask(Some(&BTreeSet::new())).await.map(drop) }).await
    }

    /// How brokers are reached.
    pub(crate) fn links(&self) -> Vec<Link> {
        self.dialer.links()
    }

    /// Completes when the client is closed.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        let _ = closed.wait_for(|is| *is).await; // the sender lives as long as this
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.closed.send_replace(true);
        self.pool.close(&Error::Closed);
        self.dialer.close().await;
    }

    /// Runs what may wait for long, until the client is closed.
    async fn unless_closed<T>(&self, what: impl Future<Output = Result<T>>) -> Result<T> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        tokio::select! {
            result = what => result,
            () = self.closed() => Err(Error::Closed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
