//! The task that sends what is due, and takes what comes of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdRequest, ProduceResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::{Batch, Identity};
use super::core::{Core, MOST_UNDER_WAY};
use super::outcome::Placed;
use super::partition::{Next, Partition, Verdict, verdict};
use super::requests::{self, Job};
use crate::builder::Acks;
use crate::cluster::{Backoff, CallOptions, Metadata, To, leader_moved};
use crate::error::{Code, Error, Result};

/// Bytes of one produce request, unless a batch alone is larger.
const REQUEST_BYTES: usize = 8 << 20;

/// What the sender is told.
pub(super) enum Event {
    /// What came of a request.
    Answered { broker: i32, batches: Vec<(Arc<Partition>, Batch)>, result: Result<ProduceResponse> },
    /// A topic was looked up again.
    Learnt(String),
    /// Who produces.
    Identified(Result<Identity>),
}

/// Requests to one broker.
struct Broker {
    jobs: mpsc::UnboundedSender<Job>,
    under_way: usize,
    waiting: Vec<Arc<Partition>>, // until fewer are under way
}

struct Sender {
    core: Arc<Core>,
    events: mpsc::UnboundedSender<Event>,
    brokers: HashMap<i32, Broker>,
    delayed: BinaryHeap<Reverse<Later>>,
    leaderless: HashMap<String, Vec<Arc<Partition>>>, // by topic, until it is looked up
    unidentified: Vec<Arc<Partition>>,                // until there is an identity
    identifying: bool,
}

/// A partition to look at then.
struct Later(Instant, Arc<Partition>);

/// Bytes of a request to one leader, and what is in it.
type Share = (usize, Vec<(Arc<Partition>, Batch)>);

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Later {}
impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// Sends until the client is closed, or no handle is left and every record has its result.
pub(crate) async fn run(core: Arc<Core>) {
    let (events, mut happened) = mpsc::unbounded_channel();
    let timeout = core.options.delivery_timeout;
    let mut sweep = tokio::time::interval((timeout / 32).clamp(Duration::from_millis(100), Duration::from_secs(5)));
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let cluster = core.cluster.clone();
    let mut s = Sender {
        core: core.clone(),
        events,
        brokers: HashMap::new(),
        delayed: BinaryHeap::new(),
        leaderless: HashMap::new(),
        unidentified: Vec::new(),
        identifying: false,
    };
    loop {
        let due = s.due();
        s.send(due);
        let next = s.next_deadline();
        tokio::select! {
            () = core.wake.notified() => {}
            Some(event) = happened.recv() => {
                s.happened(event);
                while let Ok(event) = happened.try_recv() {
                    s.happened(event);
                }
            }
            () = sleep_until(next) => {}
            _ = sweep.tick() => {
                s.expire();
                let core = core.clone();
                tokio::spawn(async move { core.look_at_topics().await });
            }
            () = cluster.closed() => {
                core.fail_all(&Error::Closed);
                return;
            }
        }
        if core.is_abandoned() && core.partitions().iter().all(|p| p.lock().is_idle()) {
            return;
        }
    }
}

/// Who leads a partition, as far as is known.
fn leader_of(known: &Metadata, p: &Partition) -> Option<i32> {
    let index = usize::try_from(p.index).ok()?;
    known.topic(&p.topic)?.partitions.get(index)?.leader
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Sender {
    /// Partitions to look at now.
    fn due(&mut self) -> Vec<Arc<Partition>> {
        let now = Instant::now();
        let mut signals = self.core.lock();
        let mut due = std::mem::take(&mut signals.due);
        let all = self.core.is_abandoned(); // nobody adds to what lingers
        while signals.lingering.front().is_some_and(|(at, _)| all || *at <= now) {
            due.extend(signals.lingering.pop_front().map(|(_, p)| p));
        }
        drop(signals);
        while self.delayed.peek().is_some_and(|Reverse(l)| l.0 <= now) {
            due.extend(self.delayed.pop().map(|Reverse(l)| l.1));
        }
        due
    }

    fn next_deadline(&self) -> Option<Instant> {
        let lingering = self.core.lock().lingering.front().map(|(at, _)| *at);
        let delayed = self.delayed.peek().map(|Reverse(l)| l.0);
        lingering.into_iter().chain(delayed).min()
    }

    /// Sends what these partitions have, batch by batch: a request has one of each.
    fn send(&mut self, mut due: Vec<Arc<Partition>>) {
        let rules = self.core.rules();
        if self.core.is_idempotent() && rules.identity.is_none() {
            self.unidentified.append(&mut due);
            self.identify();
            return;
        }
        let known = self.core.cluster.known();
        while !due.is_empty() {
            let mut requests: BTreeMap<i32, Share> = BTreeMap::new();
            let mut seen = HashSet::new();
            let mut rest = Vec::new();
            for p in due {
                if !seen.insert(Arc::as_ptr(&p)) {
                    continue; // once a round is enough
                }
                let Some(leader) = leader_of(&known, &p).filter(|_| !self.core.cluster.is_stale(&p.topic)) else {
                    self.look_up(p);
                    continue;
                };
                let broker = self.broker(leader);
                if broker.under_way >= MOST_UNDER_WAY {
                    broker.waiting.push(p);
                    continue;
                }
                let request = requests.entry(leader).or_default();
                if request.0 >= REQUEST_BYTES {
                    rest.push(p);
                    continue;
                }
                let mut state = p.lock();
                state.flushing |= self.core.is_abandoned();
                let next = state.next(Instant::now(), &rules);
                let more = state.has_more(rules.batch_bytes);
                // It stays on a list where it is looked at again in any case.
                state.queued = match &next {
                    Next::Send(_) | Next::At(_) => more,
                    Next::Nothing => state.is_under_way(),
                    Next::NeedsIdentity => true,
                };
                drop(state);
                match next {
                    Next::Send(batch) => {
                        request.0 += batch.len();
                        request.1.push((p.clone(), batch));
                        if more {
                            rest.push(p);
                        }
                    }
                    Next::At(at) => self.delayed.push(Reverse(Later(at, p))),
                    Next::Nothing => {}
                    Next::NeedsIdentity => {
                        self.core.set_identity(None);
                        self.unidentified.push(p);
                        self.identify();
                    }
                }
            }
            for (leader, (_, batches)) in requests {
                if !batches.is_empty() {
                    let broker = self.broker(leader);
                    broker.under_way += 1;
                    let _ = broker.jobs.send(Job { batches }); // the task lives as long as this
                }
            }
            due = rest;
        }
    }

    fn broker(&mut self, id: i32) -> &mut Broker {
        let (core, events) = (&self.core, &self.events);
        self.brokers.entry(id).or_insert_with(|| {
            let (jobs, todo) = mpsc::unbounded_channel();
            tokio::spawn(requests::run(core.clone(), id, todo, events.clone()));
            Broker { jobs, under_way: 0, waiting: Vec::new() }
        })
    }

    /// Looks a topic up: its leaders are not known, or not to be believed.
    fn look_up(&mut self, p: Arc<Partition>) {
        let topic = p.topic.clone();
        let waiting = self.leaderless.entry(topic.clone()).or_default();
        waiting.push(p);
        if waiting.len() > 1 {
            return; // it is looked up already
        }
        self.core.stale(&topic); // what is kept may be what had no leader
        let (core, events) = (self.core.clone(), self.events.clone());
        tokio::spawn(async move {
            if core.cluster.metadata(&[&topic]).await.is_err() {
                Backoff::new().wait().await;
            }
            let _ = events.send(Event::Learnt(topic)); // the sender has ended
        });
    }

    /// Goes on with partitions of a topic that was looked up. Those that nobody leads are looked up again a moment later,
    /// and the others do not wait for them.
    fn learnt(&mut self, topic: &str) {
        let known = self.core.cluster.known();
        let waiting = self.leaderless.remove(topic).unwrap_or_default();
        let (led, not): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|p| leader_of(&known, p).is_some());
        self.look_at(led);
        let at = Instant::now() + Backoff::new().pause();
        self.delayed.extend(not.into_iter().map(|p| Reverse(Later(at, p))));
    }

    /// Asks who this producer is. That of transactions is told by those.
    fn identify(&mut self) {
        if self.identifying || self.core.transaction.is_some() {
            return;
        }
        self.identifying = true;
        let (core, events) = (self.core.clone(), self.events.clone());
        tokio::spawn(async move {
            let make = |_| {
                InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_producer_id((-1).into())
                    .with_producer_epoch(-1)
            };
            let asked = core
                .cluster
                .call_checked(To::Any, make, CallOptions::default(), |r| Code::try_from_code(r.error_code))
                .await
                .map(|r| Identity { id: r.producer_id.0, epoch: r.producer_epoch });
            let _ = events.send(Event::Identified(asked)); // the sender has ended
        });
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Learnt(topic) => self.learnt(&topic),
            Event::Identified(Ok(identity)) => {
                self.identifying = false;
                self.core.set_identity(Some(identity));
                let waiting = std::mem::take(&mut self.unidentified);
                self.look_at(waiting);
            }
            Event::Identified(Err(e)) => {
                self.identifying = false;
                let waiting = std::mem::take(&mut self.unidentified);
                if e.is_retriable() {
                    let at = Instant::now() + Backoff::new().pause();
                    self.delayed.extend(waiting.into_iter().map(|p| Reverse(Later(at, p))));
                } else {
                    self.core.fail_all(&e);
                }
            }
            Event::Answered { broker, batches, result } => {
                let waiting = self.brokers.get_mut(&broker).map(|b| {
                    b.under_way -= 1;
                    std::mem::take(&mut b.waiting)
                });
                self.answered(batches, result);
                self.core.came_back.notify_waiters();
                self.look_at(waiting.unwrap_or_default());
            }
        }
    }

    fn look_at(&self, partitions: Vec<Arc<Partition>>) {
        let mut signals = self.core.lock();
        for p in partitions {
            p.lock().queued = true;
            signals.due.push(p);
        }
    }

    fn answered(&mut self, batches: Vec<(Arc<Partition>, Batch)>, result: Result<ProduceResponse>) {
        let answer = match result {
            Ok(a) if self.core.options.acks != Acks::None => requests::Answers::read(a, &self.core.cluster.known()),
            Ok(_) => requests::Answers::default(),
            Err(e) => {
                let now = Instant::now();
                let sent_nothing = matches!(e, Error::Unsupported { .. } | Error::Config(_) | Error::Codec { .. });
                let dead = sent_nothing
                    || matches!(e, Error::Fenced(_) | Error::Authentication { .. } | Error::Closed)
                    || e.code().is_some_and(|c| !c.is_retriable());
                for (p, b) in batches {
                    if dead {
                        self.fail(&p, b, e.clone(), !sent_nothing);
                    } else {
                        self.core.stale(&p.topic);
                        self.again(&p, b, e.clone(), now);
                    }
                }
                return;
            }
        };
        for (p, b) in batches {
            if self.core.options.acks == Acks::None {
                self.delivered(&p, b, Placed { partition: p.index, base_offset: -1, append_time: -1 });
                continue;
            }
            match answer.of(&p.topic, p.index) {
                None => {
                    let e = Error::malformed("Produce", format!("nothing is said of {}/{}", p.topic, p.index));
                    self.again(&p, b, e, Instant::now());
                }
                Some(a) => match a.code {
                    None => self.delivered(&p, b, a.placed(p.index)),
                    Some(code) => self.refused(p, b, code, a),
                },
            }
        }
    }

    fn refused(&mut self, p: Arc<Partition>, b: Batch, code: Code, a: &requests::Answer) {
        let e = Error::Broker { what: format!("produce to {}/{}", p.topic, p.index), code, message: a.message.clone() };
        if leader_moved(code) && !self.core.cluster.told_leader(&p.topic, p.index, a.leader, a.leader_epoch) {
            self.core.stale(&p.topic);
        }
        let transactional = self.core.transaction.is_some();
        match verdict(code) {
            Verdict::Delivered => self.delivered(&p, b, a.placed(p.index)),
            // A transaction whose numbers do not hold any more is aborted, and not mended.
            Verdict::Again if transactional && !code.is_retriable() && p.lock().is_first(&b) => {
                self.fail(&p, b, e, true)
            }
            Verdict::Again => self.again(&p, b, e, Instant::now()),
            Verdict::Unknown => self.fail(&p, b, e, true),
            Verdict::Refused if matches!(code, Code::InvalidProducerEpoch | Code::ProducerFenced) && !transactional => {
                self.core.set_identity(None); // another id, under which everything begins anew
                self.again(&p, b, e, Instant::now());
            }
            Verdict::Refused => self.fail(&p, b, e, false),
        }
    }

    fn delivered(&mut self, p: &Arc<Partition>, b: Batch, placed: Placed) {
        p.lock().delivered(&b, placed);
        self.core.deliveries.note(None, b.count as u32);
        self.done(p, b);
    }

    fn fail(&mut self, p: &Arc<Partition>, b: Batch, e: Error, written: bool) {
        if !b.outcome.is_set() {
            self.core.deliveries.note(Some(&e), b.count as u32);
            self.core.transaction_failed(&e); // else it was given up with a transaction that is over
        }
        // A transaction that failed goes on under another identity, or is over: nothing moves up in it.
        p.lock().failed(&b, e, written || self.core.transaction.is_some());
        self.done(p, b);
    }

    fn done(&mut self, p: &Arc<Partition>, b: Batch) {
        self.core.release(b.reserved);
        self.look_at(vec![p.clone()]);
    }

    /// Has a batch be sent again, unless it is over, or too late.
    fn again(&mut self, p: &Arc<Partition>, b: Batch, e: Error, now: Instant) {
        if b.outcome.is_set() {
            return self.fail(p, b, e, true); // given up meanwhile
        }
        let timeout = self.core.options.delivery_timeout;
        if b.created + timeout <= now {
            let late = Error::DeliveryTimeout { topic: p.topic.clone(), after: timeout, last: e.to_string() };
            return self.fail(p, b, late, true);
        }
        tracing::debug!(topic = p.topic, partition = p.index, attempts = b.attempts, error = %e, "a batch is sent again");
        // What only comes after another that is sent again does not wait by itself.
        let follows = e.code() == Some(Code::OutOfOrderSequenceNumber);
        p.lock().again(b, e, (!follows).then_some(now));
        self.look_at(vec![p.clone()]);
    }

    /// Fails what has waited too long.
    fn expire(&mut self) {
        let timeout = self.core.options.delivery_timeout;
        let Some(since) = Instant::now().checked_sub(timeout) else { return };
        for p in self.core.partitions() {
            let why = |last: Option<&Error>| Error::DeliveryTimeout {
                topic: p.topic.clone(),
                after: timeout,
                last: last.map_or_else(|| "nobody was there to take it, or has answered".to_owned(), Error::to_string),
            };
            let (expired, under_way) = p.lock().expire(since, why);
            if !expired.is_empty() || under_way > 0 {
                let why = why(expired.iter().find_map(|b| b.last_error.as_ref()));
                self.core.transaction_failed(&why);
                self.core.let_go(&expired, &why);
                self.core.deliveries.note(Some(&why), under_way);
            }
        }
    }
}

#[cfg(test)]
#[path = "sender_test.rs"]
mod tests;
