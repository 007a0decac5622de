//! Where each partition is read, what is fetched of it and not handed out yet, and what is to be
//! asked next. It decides, and does no I/O: the tasks of `fetcher` and `driver` ask what it says,
//! and tell it the answers.
//!
//! Every change of where a partition is read makes a new version of it; answers to what an older
//! version asked are dropped.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::record::ConsumerRecord;
use super::{At, Position, TopicPartition};
use crate::cluster::Metadata;

/// Bounds of what is fetched and not handed out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one partition from which on no more of it is fetched.
    pub(crate) partition: usize,
    /// Bytes of all partitions from which on nothing more is fetched.
    pub(crate) total: usize,
}

/// What is known of where a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The group is to be asked what it has committed.
    Committed,
    /// A broker is to be asked for the offset of a position.
    Reset(Position),
    /// The leader is another: it is to be asked whether it has what was read.
    Validate,
    /// The offset is known.
    Read,
}

struct Part {
    version: u64,
    stage: Stage,
    /// The group is asked once more, and reading goes on no earlier than here.
    least: Option<i64>,
    /// A question is under way.
    asked: bool,
    /// Nothing is asked before.
    retry_at: Option<Instant>,
    paused: bool,
    topic_id: Uuid,
    leader: Option<i32>,
    leader_epoch: i32,
    /// What is fetched next.
    at: At,
    /// The offset that is handed out next, or one before it.
    handed: i64,
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

/// The records of one answer.
struct Chunk {
    records: std::vec::IntoIter<ConsumerRecord>,
    bytes: usize,
    /// What reading goes on at behind them.
    next: i64,
}

/// A question of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) of: TopicPartition,
    pub(crate) version: u64,
    pub(crate) topic_id: Uuid,
    pub(crate) leader_epoch: i32,
    pub(crate) at: At,
}

/// Questions that find out where to read.
#[derive(Default, Debug)]
pub(crate) struct Lookups {
    /// Of the group.
    pub(crate) committed: Vec<Ask>,
    /// Of leaders: offsets of positions.
    pub(crate) resets: Vec<(i32, Position, Ask)>,
    /// Of leaders: where the epoch ends of which the last record was.
    pub(crate) validations: Vec<(i32, Ask)>,
}

/// What came of asking for records.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Records, perhaps none.
    Records { records: Vec<ConsumerRecord>, next: At, bytes: usize },
    /// It is to be asked again, a little later.
    Again,
    /// The offset is not in the partition.
    OutOfRange,
}

/// What came of asking where to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    At(At),
    /// There is no such offset.
    Nothing,
    Again,
}

/// How a validation ended that found something wrong: records between `from` and `to` are gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Truncated {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

pub(crate) struct Positions {
    parts: HashMap<TopicPartition, Part>,
    /// Partitions with chunks, in the order in which they are handed out.
    ready: VecDeque<TopicPartition>,
    bytes: usize,
    version: u64,
    limits: Limits,
    /// Where reading begins in a partition of which nothing is committed.
    from: Position,
    /// Whether the names of topics are paused, also of partitions that come later.
    paused: Vec<String>,
}

/// How long nothing is asked after a failure.
pub(crate) const BACKOFF: Duration = Duration::from_millis(100);

impl Positions {
    pub(crate) fn new(limits: Limits, from: Position) -> Self {
        Positions {
            parts: HashMap::new(),
            ready: VecDeque::new(),
            bytes: 0,
            version: 0,
            limits,
            from,
            paused: Vec::new(),
        }
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Begins to read partitions that are not read yet, where the group has committed if it is to be
    /// asked, else where options say.
    pub(crate) fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>, committed: bool) {
        let stage = if committed { Stage::Committed } else { Stage::Reset(self.from) };
        for tp in partitions {
            if self.parts.contains_key(&tp) {
                continue;
            }
            let version = self.next_version();
            let paused = self.paused.iter().any(|topic| **topic == *tp.topic);
            self.parts.insert(
                tp,
                Part {
                    version,
                    stage,
                    least: None,
                    asked: false,
                    retry_at: None,
                    paused,
                    topic_id: Uuid::nil(),
                    leader: None,
                    leader_epoch: -1,
                    at: At { offset: 0, epoch: -1 },
                    handed: 0,
                    chunks: VecDeque::new(),
                    bytes: 0,
                },
            );
        }
    }

    /// Ends reading partitions, and drops what was fetched of them.
    pub(crate) fn revoke<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        for tp in partitions {
            if let Some(part) = self.parts.remove(tp) {
                self.bytes -= part.bytes;
            }
        }
        self.ready.retain(|tp| self.parts.contains_key(tp));
    }

    pub(crate) fn assigned(&self) -> Vec<TopicPartition> {
        self.parts.keys().cloned().collect()
    }

    /// Has reading go on at an offset; what was fetched is dropped. `false`: the partition is not
    /// read here.
    pub(crate) fn seek(&mut self, tp: &TopicPartition, offset: i64) -> bool {
        self.move_to(tp, Stage::Read, offset)
    }

    /// Has reading go on at a position that a broker is to be asked for.
    pub(crate) fn seek_to(&mut self, tp: &TopicPartition, position: Position) -> bool {
        self.move_to(tp, Stage::Reset(position), 0)
    }

    /// Has the group be asked again what it has committed, and reading go on there, but no earlier than at an offset.
    pub(crate) fn ask_again(&mut self, tp: &TopicPartition, least: i64) {
        self.move_to(tp, Stage::Committed, least);
        if let Some(part) = self.parts.get_mut(tp) {
            part.least = Some(least);
        }
    }

    fn move_to(&mut self, tp: &TopicPartition, stage: Stage, offset: i64) -> bool {
        let version = self.next_version();
        let Some(part) = self.parts.get_mut(tp) else { return false };
        self.bytes -= part.drop_chunks();
        (part.version, part.stage, part.asked, part.retry_at) = (version, stage, false, None);
        part.least = None;
        (part.at, part.handed) = (At { offset, epoch: -1 }, offset);
        self.ready.retain(|ready| ready != tp);
        true
    }

    /// Stops handing out and fetching topics, or goes on with them.
    pub(crate) fn pause_topics(&mut self, topics: &[&str], paused: bool) {
        self.paused.retain(|topic| !topics.contains(&topic.as_str()));
        if paused {
            self.paused.extend(topics.iter().map(|&topic| topic.to_owned()));
        }
        for (tp, part) in &mut self.parts {
            if topics.contains(&&*tp.topic) {
                part.paused = paused;
            }
        }
    }

    /// As [`Positions::pause_topics`], of some partitions of a topic.
    pub(crate) fn pause_partitions(&mut self, topic: &str, partitions: &[i32], paused: bool) {
        for (tp, part) in &mut self.parts {
            if *tp.topic == *topic && partitions.contains(&tp.partition) {
                part.paused = paused;
            }
        }
    }

    /// Learns who leads. Where the epoch of a leader is newer, what was read is to be validated.
    pub(crate) fn learn(&mut self, metadata: &Metadata) {
        let mut moved = Vec::new();
        for (tp, part) in &mut self.parts {
            let Some(topic) = metadata.topic(&tp.topic) else { continue };
            let Some(partition) = usize::try_from(tp.partition).ok().and_then(|i| topic.partitions.get(i)) else {
                continue;
            };
            if !part.topic_id.is_nil() && !topic.id.is_nil() && part.topic_id != topic.id {
                moved.push(tp.clone()); // another topic of the same name
            }
            part.topic_id = topic.id;
            let newer = partition.leader_epoch > part.leader_epoch;
            if partition.leader_epoch < part.leader_epoch && partition.leader_epoch >= 0 {
                continue; // an answer of before: not of a topic made anew, which begins again below
            }
            (part.leader, part.leader_epoch) = (partition.leader, partition.leader_epoch);
            if newer && part.stage == Stage::Read && part.at.epoch >= 0 && part.at.epoch < partition.leader_epoch {
                self.version += 1;
                (part.version, part.stage, part.asked) = (self.version, Stage::Validate, false);
            }
        }
        for tp in moved {
            self.move_to(&tp, Stage::Reset(self.from), 0);
            if let (Some(part), Some(topic)) = (self.parts.get_mut(&tp), metadata.topic(&tp.topic)) {
                let known = usize::try_from(tp.partition).ok().and_then(|i| topic.partitions.get(i));
                (part.leader, part.leader_epoch) = known.map_or((None, -1), |p| (p.leader, p.leader_epoch));
            }
        }
    }

    /// Whether there are partitions of which no leader is known.
    pub(crate) fn leaderless(&self) -> bool {
        self.parts.values().any(|part| part.leader.is_none())
    }

    /// The leaders of what is read.
    pub(crate) fn leaders(&self) -> impl Iterator<Item = i32> + '_ {
        self.parts.values().filter_map(|part| part.leader)
    }

    /// What is to be asked to know where to read. Each is asked once, until it is answered.
    pub(crate) fn lookups(&mut self, now: Instant) -> Lookups {
        let mut out = Lookups::default();
        for (tp, part) in &mut self.parts {
            if part.asked || part.rests(now) {
                continue;
            }
            let ask = part.ask(tp);
            match (part.stage, part.leader) {
                (Stage::Committed, _) => out.committed.push(ask),
                (Stage::Reset(position), Some(leader)) => out.resets.push((leader, position, ask)),
                (Stage::Validate, Some(leader)) => out.validations.push((leader, ask)),
                _ => continue,
            }
            part.asked = true;
        }
        out
    }

    /// Is told what the group has committed.
    pub(crate) fn committed(&mut self, ask: &Ask, found: Found, now: Instant) {
        let from = self.from;
        if let Some(part) = self.current(ask) {
            let found = match (found, part.least) {
                (Found::At(at), Some(least)) if at.offset >= least => Found::At(at),
                (Found::At(_) | Found::Nothing, Some(least)) => Found::At(At { offset: least, epoch: -1 }),
                (found, _) => found,
            };
            match found {
                Found::At(at) => {
                    (part.stage, part.at, part.handed) = (Stage::Read, at, at.offset);
                    if at.epoch >= 0 && part.leader_epoch > at.epoch {
                        part.stage = Stage::Validate;
                    }
                }
                Found::Nothing => part.stage = Stage::Reset(from),
                Found::Again => part.retry_at = Some(now + BACKOFF),
            }
        }
    }

    /// Is told the offset of a position. Where no record is of the time or later, reading begins at the
    /// end.
    pub(crate) fn reset(&mut self, ask: &Ask, found: Found, now: Instant) {
        if let Some(part) = self.current(ask) {
            match found {
                Found::At(at) => (part.stage, part.at, part.handed) = (Stage::Read, at, at.offset),
                Found::Nothing if matches!(part.stage, Stage::Reset(Position::Time(_))) => {
                    part.stage = Stage::Reset(Position::End);
                }
                // A partition has a beginning and an end.
                Found::Nothing | Found::Again => part.retry_at = Some(now + BACKOFF),
            }
        }
    }

    /// Is told where the epoch ends of which the last record was that was read. Where that is before
    /// what was read, records are gone, and reading goes on at what is left (KIP-320).
    pub(crate) fn validated(&mut self, ask: &Ask, found: Found, now: Instant) -> Option<Truncated> {
        let from = self.reset_position();
        let part = self.current(ask)?;
        match found {
            Found::At(end) if end.offset >= part.at.offset => part.stage = Stage::Read,
            Found::At(end) => {
                let gone = Truncated { from: end.offset, to: part.at.offset };
                let at = At { offset: end.offset.min(part.handed), epoch: end.epoch };
                self.move_to(&ask.of, Stage::Read, at.offset);
                if let Some(part) = self.parts.get_mut(&ask.of) {
                    part.at = at;
                }
                return Some(gone);
            }
            Found::Nothing => {
                let gone = Truncated { from: 0, to: part.at.offset };
                self.move_to(&ask.of, Stage::Reset(from), 0);
                return Some(gone);
            }
            Found::Again => part.retry_at = Some(now + BACKOFF),
        }
        None
    }

    fn reset_position(&self) -> Position {
        match self.from {
            Position::Time(_) => Position::Start,
            other => other,
        }
    }

    fn current(&mut self, ask: &Ask) -> Option<&mut Part> {
        let part = self.parts.get_mut(&ask.of).filter(|part| part.version == ask.version)?;
        part.asked = false;
        Some(part)
    }

    /// What is to be fetched of a leader now. Each is asked once, until it is answered.
    pub(crate) fn fetches(&mut self, leader: i32, now: Instant) -> Vec<Ask> {
        let mut out = Vec::new();
        if self.bytes >= self.limits.total {
            return out;
        }
        for (tp, part) in &mut self.parts {
            let wanted = part.stage == Stage::Read
                && part.leader == Some(leader)
                && !part.paused
                && part.bytes < self.limits.partition;
            if wanted && !part.asked && !part.rests(now) {
                part.asked = true;
                out.push(part.ask(tp));
            }
        }
        out
    }

    /// Whether a leader has partitions that would be fetched if less of them were there already.
    pub(crate) fn is_ahead(&self, leader: i32) -> bool {
        let full = self.bytes >= self.limits.total;
        self.parts.values().any(|part| {
            part.leader == Some(leader)
                && !part.paused
                && !part.asked
                && part.stage == Stage::Read
                && (full || part.bytes >= self.limits.partition)
        })
    }

    /// Is told what came of a fetch. `true`: there are records to hand out.
    pub(crate) fn fetched(&mut self, ask: &Ask, fetched: Fetched, now: Instant) -> bool {
        let reset = self.reset_position();
        let Some(part) = self.current(ask) else { return false };
        match fetched {
            Fetched::Records { records, next, bytes } => {
                part.at = At { offset: next.offset, epoch: if next.epoch >= 0 { next.epoch } else { part.at.epoch } };
                if records.is_empty() {
                    if part.chunks.is_empty() {
                        part.handed = next.offset;
                    }
                    return false;
                }
                let first = part.chunks.is_empty();
                part.chunks.push_back(Chunk { records: records.into_iter(), bytes, next: next.offset });
                part.bytes += bytes;
                self.bytes += bytes;
                if first {
                    self.ready.push_back(ask.of.clone());
                }
                return true;
            }
            Fetched::Again => part.retry_at = Some(now + BACKOFF),
            Fetched::OutOfRange => {
                self.move_to(&ask.of, Stage::Reset(reset), 0);
            }
        }
        false
    }

    /// Takes at most `most` records to hand out, partition by partition, in turn.
    pub(crate) fn take(&mut self, most: usize) -> Vec<(TopicPartition, Vec<ConsumerRecord>)> {
        let mut out = Vec::new();
        let mut left = most;
        for _ in 0..self.ready.len() {
            if left == 0 {
                break;
            }
            let Some(tp) = self.ready.pop_front() else { break };
            let Some(part) = self.parts.get_mut(&tp) else { continue };
            if part.paused {
                self.ready.push_back(tp);
                continue;
            }
            let (records, freed) = part.take(left);
            self.bytes -= freed;
            left -= records.len();
            if !part.chunks.is_empty() {
                self.ready.push_back(tp.clone());
            }
            out.push((tp, records));
        }
        out
    }

    /// When something rests no more; `None`: nothing does.
    pub(crate) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        self.parts.values().filter_map(|part| part.retry_at).filter(|&at| at > now).min()
    }
}

impl Part {
    fn rests(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| at > now)
    }

    fn ask(&self, tp: &TopicPartition) -> Ask {
        Ask {
            of: tp.clone(),
            version: self.version,
            topic_id: self.topic_id,
            leader_epoch: self.leader_epoch,
            at: self.at,
        }
    }

    fn drop_chunks(&mut self) -> usize {
        self.chunks.clear();
        std::mem::take(&mut self.bytes)
    }

    /// Takes records, and returns how many bytes are free for it.
    fn take(&mut self, most: usize) -> (Vec<ConsumerRecord>, usize) {
        let mut out = Vec::with_capacity(most.min(self.chunks.iter().map(|chunk| chunk.records.len()).sum()));
        let mut freed = 0;
        while out.len() < most {
            let Some(chunk) = self.chunks.front_mut() else { break };
            out.extend(chunk.records.by_ref().take(most - out.len()));
            if chunk.records.len() > 0 {
                break;
            }
            freed += chunk.bytes;
            self.handed = chunk.next;
            self.chunks.pop_front();
        }
        if let Some(record) = out.last() {
            self.handed = self.handed.max(record.offset + 1);
        }
        self.bytes -= freed;
        (out, freed)
    }
}

#[cfg(test)]
#[path = "positions_test.rs"]
mod tests;
