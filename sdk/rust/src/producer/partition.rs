//! The batches of one partition, and in which order and under which numbers they are sent: a core that knows no
//! network.
//!
//! Batches are sent in the order in which they were filled, several at a time. When one comes back to be sent again,
//! nothing more is sent until all that were under way have come back: then those that are not done go first, in order,
//! under the numbers they had, by which the broker knows those that it has. Where a number cannot be kept, because the
//! broker says that something before it is missing, of which nothing is left to be sent, the epoch is raised and numbers
//! begin at 0 (KIP-360): a batch that was given up, and comes late all the same, is refused then. A batch that the broker
//! has refused, and that was sent but once, was not written: what comes after it moves up. One that was sent before may
//! have been written then, and its number is not given to another, or that would be taken for it. Where a broker that
//! knew nothing of the producer has taken what follows a refused batch, the epoch is raised as well. Where the whole
//! producer has got another id, because another partition could not go on, what may be written is sent to its end
//! under the old one first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, Identity};
use super::outcome::Placed;
use crate::cluster::Backoff;
use crate::error::{Code, Error};

/// One partition of a topic.
pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) index: i32,
    state: Mutex<State>,
}

impl Partition {
    pub(super) fn new(topic: &str, index: i32) -> Self {
        Partition { topic: topic.to_owned(), index, state: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its batches. It is never locked across an await.
#[derive(Default)]
pub(super) struct State {
    open: Option<Batch>,               // is being filled
    waiting: VecDeque<Batch>,          // full, or to be sent again; in order
    under_way: Vec<UnderWay>,          // that were sent, in order
    returned: Vec<Batch>,              // are to be sent again, once nothing is under way
    holding: bool,                     // nothing is sent: some have come back
    raise: bool,                       // the epoch, once nothing is under way
    renumber_from: Option<(u64, i32)>, // batches from this order on get numbers from this on
    identity: Option<Identity>,
    next_sequence: i32,
    next_order: u64,
    last_delivered: u64, // the highest order of what was written
    last_size: usize,
    backoff: Option<Backoff>,
    retry_at: Option<Instant>,
    pub(super) flushing: bool, // what is open is not to wait
    pub(super) queued: bool,   // the sender has it on a list
}

struct UnderWay {
    order: u64,
    created: Instant,
    records: u32,
    outcome: std::sync::Arc<super::outcome::Outcome>,
}

/// What sending a partition's batches comes to at a moment.
#[allow(clippy::large_enum_variant)] // one at a time, and nearly always the large one
pub(super) enum Next {
    /// This is to be sent now.
    Send(Batch),
    /// Nothing, until then.
    At(Instant),
    /// Nothing, until something else happens.
    Nothing,
    /// A producer whose epoch cannot be raised any further needs another id.
    NeedsIdentity,
}

/// How batches are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) linger: Duration,
    pub(super) batch_bytes: usize,
    pub(super) most_under_way: usize,
    /// `None`: producing is not idempotent.
    pub(super) identity: Option<Identity>,
}

impl State {
    /// The batch that takes a record of so many bytes, and whether it is new.
    pub(super) fn batch_for(&mut self, bytes: usize, batch_bytes: usize, now: Instant) -> (&mut Batch, bool) {
        let full = self.open.as_ref().is_some_and(|b| b.count > 0 && b.len() + bytes > batch_bytes);
        if full {
            self.close();
        }
        let fresh = self.open.is_none();
        if fresh {
            self.next_order += 1;
        }
        let (order, capacity) = (self.next_order, self.last_size.max(bytes).min(batch_bytes) + super::batch::HEAD);
        (self.open.get_or_insert_with(|| Batch::new(order, capacity, now)), fresh)
    }

    /// Whether a batch waits that is full, or whose size is.
    pub(super) fn is_due(&self, batch_bytes: usize) -> bool {
        !self.waiting.is_empty() || self.open.as_ref().is_some_and(|b| b.len() >= batch_bytes)
    }

    /// Whether another batch can be sent as soon as may be.
    pub(super) fn has_more(&self, batch_bytes: usize) -> bool {
        self.is_due(batch_bytes) || self.flushing && self.open.is_some()
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Takes no more records into what is open.
    fn close(&mut self) {
        if let Some(b) = self.open.take() {
            self.last_size = b.len();
            self.waiting.push_back(b);
        }
    }

    /// What is to be sent now.
    pub(super) fn next(&mut self, now: Instant, rules: &Rules) -> Next {
        if self.holding {
            return Next::Nothing; // what is under way comes back
        }
        if let Some(at) = self.retry_at.filter(|at| now < *at) {
            return Next::At(at);
        }
        if self.under_way.len() >= rules.most_under_way {
            return Next::Nothing;
        }
        if self.waiting.is_empty() {
            let Some(open) = &self.open else { return Next::Nothing };
            let at = open.created + rules.linger;
            if !self.flushing && now < at && open.len() < rules.batch_bytes {
                return Next::At(at);
            }
            self.close();
        }
        if let Some(common) = rules.identity {
            match self.identity {
                Some(own) if own.id == common.id && own.epoch >= common.epoch => {}
                // What may be written under another id goes first, under that: by its number there the broker knows it.
                Some(own) if own.id != common.id && !self.raise && self.is_in_doubt() => {}
                // Another producer: what was sent as the one before comes back first.
                Some(_) if !self.under_way.is_empty() => return Next::Nothing,
                _ => {
                    self.renumber(common);
                    self.raise = false; // it is higher already
                }
            }
            if self.raise {
                match self.identity {
                    Some(own) if own.epoch < i16::MAX => self.renumber(Identity { epoch: own.epoch + 1, ..own }),
                    _ => return Next::NeedsIdentity,
                }
                self.raise = false;
            }
        }
        let Some(mut batch) = self.waiting.pop_front() else { return Next::Nothing };
        if let (Some(identity), None) = (self.identity.filter(|_| rules.identity.is_some()), batch.sequence) {
            batch.sequence = Some((identity, self.next_sequence));
            self.next_sequence = batch.sequence_after(self.next_sequence);
        }
        batch.sent = true;
        batch.attempts += 1;
        self.under_way.push(UnderWay {
            order: batch.order,
            created: batch.created,
            records: batch.count as u32,
            outcome: batch.outcome.clone(),
        });
        self.flushing &= self.open.is_some() || !self.waiting.is_empty();
        Next::Send(batch)
    }

    /// Whether what is next was sent before under its number, and may be written.
    fn is_in_doubt(&self) -> bool {
        self.waiting.front().is_some_and(|b| b.sequence.is_some())
    }

    /// Numbers begin at 0, under this identity.
    fn renumber(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.waiting.iter_mut().for_each(|b| b.sequence = None);
    }

    fn came_back(&mut self, batch: &Batch) {
        self.under_way.retain(|u| u.order != batch.order);
    }

    /// A batch was written.
    pub(super) fn delivered(&mut self, batch: &Batch, placed: Placed) {
        self.came_back(batch);
        self.last_delivered = self.last_delivered.max(batch.order);
        (self.backoff, self.retry_at) = (None, None);
        batch.outcome.set(Ok(placed));
        self.settle(None);
    }

    /// A batch comes back to be sent again; `now`: after a pause.
    pub(super) fn again(&mut self, mut batch: Batch, why: Error, now: Option<Instant>) {
        self.came_back(&batch);
        let lost = matches!(why.code(), Some(Code::OutOfOrderSequenceNumber | Code::UnknownProducerId));
        let first = self.is_first(&batch) && self.renumber_from.is_none();
        self.raise |= lost && first;
        batch.last_error = Some(why);
        self.returned.push(batch);
        self.holding = true;
        self.settle(now);
    }

    /// A batch failed for good. `written`: it may be there all the same.
    pub(super) fn failed(&mut self, batch: &Batch, why: Error, written: bool) {
        self.came_back(batch);
        let written = written || batch.attempts > 1; // by an attempt before, of which nothing is known
        if let Some((_, sequence)) = batch.sequence.filter(|_| !written) {
            if self.renumber_from.is_none_or(|(order, _)| batch.order < order) {
                self.renumber_from = Some((batch.order, sequence));
            }
            self.holding = true;
        }
        batch.outcome.set(Err(why));
        self.settle(None);
    }

    /// Once nothing is under way, what came back goes first.
    fn settle(&mut self, now: Option<Instant>) {
        if let Some(now) = now {
            let pause = self.backoff.get_or_insert_with(Backoff::new).pause();
            self.retry_at = Some(now + pause);
        }
        if !self.holding || !self.under_way.is_empty() {
            return;
        }
        self.holding = false;
        self.returned.sort_by_key(|b| std::cmp::Reverse(b.order));
        for b in std::mem::take(&mut self.returned) {
            self.waiting.push_front(b);
        }
        match self.renumber_from.take() {
            // Numbers behind it are taken already.
            Some((order, _)) if self.last_delivered > order => self.raise = true,
            Some((order, sequence)) => {
                self.next_sequence = sequence;
                self.waiting.iter_mut().filter(|b| b.order > order).for_each(|b| b.sequence = None);
            }
            None => {}
        }
    }

    /// Fails what has waited since before `since`. What is under way has to come back, and is let go of then; of how
    /// many records that is, is returned too.
    pub(super) fn expire(&mut self, since: Instant, why: impl Fn(Option<&Error>) -> Error) -> (Vec<Batch>, u32) {
        if self.open.as_ref().is_some_and(|b| b.created <= since) {
            self.close();
        }
        let (mut expired, returned): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.returned).into_iter().partition(|b| b.created <= since);
        let (old, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|b| b.created <= since);
        (self.returned, self.waiting) = (returned, waiting.into());
        expired.extend(old);
        for b in &expired {
            b.outcome.set(Err(why(b.last_error.as_ref())));
        }
        let mut under_way = 0;
        for u in self.under_way.iter().filter(|u| u.created <= since && !u.outcome.is_set()) {
            u.outcome.set(Err(why(None)));
            under_way += u.records;
        }
        (expired, under_way)
    }

    /// Fails everything; what is under way has to come back, and is let go of then.
    pub(super) fn fail_all(&mut self, why: &Error) -> Vec<Batch> {
        let mut all: Vec<Batch> = self.returned.drain(..).chain(self.waiting.drain(..)).collect();
        all.extend(self.open.take());
        for b in &all {
            b.outcome.set(Err(why.clone()));
        }
        for u in &self.under_way {
            u.outcome.set(Err(why.clone()));
        }
        all
    }

    /// Whether nothing that came before a batch is still to be done.
    pub(super) fn is_first(&self, batch: &Batch) -> bool {
        !self.under_way.iter().any(|u| u.order < batch.order) && !self.returned.iter().any(|b| b.order < batch.order)
    }

    /// What every batch that is not done comes to.
    pub(super) fn outstanding(&self) -> Vec<std::sync::Arc<super::outcome::Outcome>> {
        let waiting = self.returned.iter().chain(&self.waiting).chain(&self.open).map(|b| b.outcome.clone());
        self.under_way.iter().map(|u| u.outcome.clone()).chain(waiting).collect()
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_none() && self.waiting.is_empty() && self.under_way.is_empty() && self.returned.is_empty()
    }

    #[cfg(test)]
    fn sequences(&self) -> Vec<Option<i32>> {
        self.waiting.iter().map(|b| b.sequence.map(|s| s.1)).collect()
    }
}

/// What an answer for a partition says of its batch.
pub(super) fn verdict(code: Code) -> Verdict {
    match code {
        Code::DuplicateSequenceNumber => Verdict::Delivered,
        Code::OutOfOrderSequenceNumber | Code::UnknownProducerId => Verdict::Again,
        c if c.is_retriable() => Verdict::Again,
        Code::UnknownServerError => Verdict::Unknown,
        _ => Verdict::Refused,
    }
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    Again,
    Refused,
    /// It may be written, or not.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    const WHO: Identity = Identity { id: 9, epoch: 0 };
    const PLACED: Placed = Placed { partition: 0, base_offset: 0, append_time: -1 };

    fn rules() -> Rules {
        Rules { linger: Duration::ZERO, batch_bytes: 100, most_under_way: 5, identity: Some(WHO) }
    }

    /// A partition with so many batches of one record.
    fn with(n: usize) -> State {
        let mut s = State::default();
        for i in 0..n {
            let r = Record::to("t").value(vec![i as u8; 90]);
            s.batch_for(90, 100, Instant::now()).0.push(&r, 0);
        }
        s
    }

    fn send(s: &mut State) -> Batch {
        match s.next(Instant::now(), &rules()) {
            Next::Send(b) => b,
            _ => panic!("nothing to send"),
        }
    }

    fn sends_nothing(s: &mut State) -> bool {
        !matches!(s.next(Instant::now(), &rules()), Next::Send(_))
    }

    fn network() -> Error {
        Error::network("b:1", std::io::ErrorKind::ConnectionReset.into())
    }

    fn number(b: &Batch) -> (i16, i32) {
        b.sequence.map(|(who, n)| (who.epoch, n)).unwrap()
    }

    #[test]
    fn what_came_back_goes_first_under_its_numbers_once_all_have() {
        let mut s = with(4);
        let (a, b, c) = (send(&mut s), send(&mut s), send(&mut s));
        s.again(b, network(), None);
        assert!(sends_nothing(&mut s), "others are under way");
        s.delivered(&a, PLACED);
        assert!(sends_nothing(&mut s));
        s.again(c, Error::broker("", Code::OutOfOrderSequenceNumber), None);
        let sent: Vec<_> = (0..3).map(|_| number(&send(&mut s))).collect();
        assert_eq!(sent, [(0, 1), (0, 2), (0, 3)]);
    }

    #[test]
    fn the_epoch_is_raised_where_the_broker_has_lost_what_came_before() {
        let mut s = with(3);
        let a = send(&mut s);
        s.delivered(&a, PLACED);
        let b = send(&mut s);
        s.again(b, Error::broker("", Code::UnknownProducerId), None);
        let sent: Vec<_> = (0..2).map(|_| number(&send(&mut s))).collect();
        assert_eq!(sent, [(1, 0), (1, 1)]);
    }

    #[test]
    fn what_follows_a_batch_that_was_refused_moves_up() {
        let mut s = with(4);
        let (a, b, c) = (send(&mut s), send(&mut s), send(&mut s));
        s.delivered(&a, PLACED);
        s.failed(&b, Error::broker("", Code::MessageTooLarge), false);
        assert!(b.outcome.is_set());
        s.again(c, Error::broker("", Code::OutOfOrderSequenceNumber), None);
        let sent: Vec<_> = (0..2).map(|_| number(&send(&mut s))).collect();
        assert_eq!(sent, [(0, 1), (0, 2)]);
    }

    #[test]
    fn an_earlier_batch_that_may_be_written_keeps_its_number_beside_a_refused_one() {
        let mut s = with(3);
        let (a, b, c) = (send(&mut s), send(&mut s), send(&mut s));
        s.again(a, network(), None);
        s.failed(&b, Error::broker("", Code::InvalidRecord), false);
        s.again(c, network(), None);
        assert_eq!(s.sequences(), [Some(0), None]);
        assert_eq!([number(&send(&mut s)), number(&send(&mut s))], [(0, 0), (0, 1)]);
    }

    /// What follows keeps its number: if the broker has the batch it goes on, and if not it says so.
    #[test]
    fn after_one_that_is_given_up_and_may_be_written_the_broker_says_whether_the_epoch_is_raised() {
        for written in [true, false] {
            let mut s = with(2);
            let (a, b) = (send(&mut s), send(&mut s));
            s.failed(&a, Error::Closed, true);
            s.again(b, network(), None);
            let b = send(&mut s);
            assert_eq!(number(&b), (0, 1), "it may be written, and is known by its number");
            if written {
                s.delivered(&b, PLACED);
            } else {
                s.again(b, Error::broker("", Code::OutOfOrderSequenceNumber), None);
                assert_eq!(number(&send(&mut s)), (1, 0));
            }
        }
    }

    /// It was written, its answer was lost, and then the broker refused it unseen: another batch under its number
    /// would be taken for it, and be lost.
    #[test]
    fn the_number_of_one_that_was_sent_before_it_was_refused_is_not_given_to_another() {
        let mut s = with(3);
        let (a, b) = (send(&mut s), send(&mut s));
        s.again(a, network(), None);
        s.again(b, network(), None);
        let (a, b) = (send(&mut s), send(&mut s));
        s.failed(&a, Error::broker("", Code::TopicAuthorizationFailed), false);
        s.again(b, network(), None);
        assert_eq!([number(&send(&mut s)), number(&send(&mut s))], [(0, 1), (0, 2)]);
    }

    /// A broker that knows nothing of a producer takes any number from it.
    #[test]
    fn the_epoch_is_raised_where_what_follows_a_refused_batch_was_written() {
        for in_order in [true, false] {
            let mut s = with(4);
            let (a, b) = (send(&mut s), send(&mut s));
            if !in_order {
                s.delivered(&b, PLACED);
            }
            s.failed(&a, Error::broker("", Code::MessageTooLarge), false);
            if in_order {
                s.delivered(&b, PLACED);
            }
            assert_eq!([number(&send(&mut s)), number(&send(&mut s))], [(1, 0), (1, 1)]);
        }
    }

    #[test]
    fn what_was_never_sent_leaves_no_gap_when_it_is_given_up() {
        let mut s = with(2);
        assert_eq!(s.expire(Instant::now(), |_| Error::Closed).0.len(), 2);
        let r = Record::to("t").value("later");
        s.batch_for(90, 100, Instant::now()).0.push(&r, 0);
        assert_eq!(number(&send(&mut s)), (0, 0));
    }

    #[test]
    fn another_identity_waits_for_what_is_under_way() {
        let mut s = with(2);
        let a = send(&mut s);
        let other = Rules { identity: Some(Identity { id: 10, epoch: 0 }), ..rules() };
        assert!(matches!(s.next(Instant::now(), &other), Next::Nothing));
        s.delivered(&a, PLACED);
        match s.next(Instant::now(), &other) {
            Next::Send(b) => assert_eq!(b.sequence, Some((Identity { id: 10, epoch: 0 }, 0))),
            _ => panic!("nothing to send"),
        };
    }

    /// Under another number the broker would take it for another batch, and have it twice.
    #[test]
    fn what_may_be_written_keeps_its_number_when_the_producer_gets_another_id() {
        let mut s = with(3);
        let (a, b) = (send(&mut s), send(&mut s));
        s.again(a, network(), None);
        s.again(b, network(), None);
        let other = Identity { id: 10, epoch: 0 };
        let rules = Rules { identity: Some(other), ..rules() };
        let send = |s: &mut State| match s.next(Instant::now(), &rules) {
            Next::Send(b) => Some(b),
            _ => None,
        };
        let (a, b) = (send(&mut s).unwrap(), send(&mut s).unwrap());
        assert_eq!([a.sequence, b.sequence], [Some((WHO, 0)), Some((WHO, 1))]);
        assert!(send(&mut s).is_none(), "the third is of the new id, and waits for them");
        s.delivered(&a, PLACED);
        assert!(send(&mut s).is_none());
        s.delivered(&b, PLACED);
        assert_eq!(send(&mut s).unwrap().sequence, Some((other, 0)));
    }

    #[test]
    fn what_is_given_up_under_an_old_id_holds_up_nobody() {
        let mut s = with(2);
        let a = send(&mut s);
        s.again(a, network(), None);
        let other = Identity { id: 10, epoch: 0 };
        let rules = Rules { identity: Some(other), ..rules() };
        let Next::Send(a) = s.next(Instant::now(), &rules) else { panic!("nothing to send") };
        assert_eq!(a.sequence, Some((WHO, 0)));
        s.failed(&a, Error::broker("", Code::InvalidProducerEpoch), true);
        match s.next(Instant::now(), &rules) {
            Next::Send(b) => assert_eq!(b.sequence, Some((other, 0))),
            _ => panic!("nothing to send"),
        };
    }

    #[test]
    fn a_record_lingers_unless_it_is_flushed_or_the_batch_is_full() {
        let slow = Rules { linger: Duration::from_secs(1), ..rules() };
        let now = Instant::now();
        let mut s = State::default();
        s.batch_for(20, 100, now).0.push(&Record::to("t").value("x"), 0);
        assert!(matches!(s.next(now, &slow), Next::At(at) if at == now + slow.linger));
        assert!(matches!(s.next(now + slow.linger, &slow), Next::Send(_)));
        s.batch_for(20, 100, now).0.push(&Record::to("t").value("x"), 0);
        s.flushing = true;
        assert!(matches!(s.next(now, &slow), Next::Send(_)));
        assert!(!s.flushing);
        s.batch_for(90, 100, now).0.push(&Record::to("t").value("x".repeat(90)), 0);
        assert!(matches!(s.next(now, &slow), Next::Send(_)));
    }

    #[test]
    fn no_more_is_under_way_than_may_be() {
        let mut s = with(9);
        let sent: Vec<_> = (0..5).map(|_| send(&mut s)).collect();
        assert!(sends_nothing(&mut s));
        s.delivered(&sent[0], PLACED);
        send(&mut s);
    }
}
