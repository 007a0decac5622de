//! Finds out where to read: who leads, what is committed, what offset a position has, and whether a new
//! leader has what was read. It starts the tasks that fetch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{BrokerId, GroupId, OffsetFetchResponse};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::group::{text, topic_name};
use super::positions::{Ask, Found, Lookups};
use super::{At, Position, Reader, TopicPartition, fetcher};
use crate::cluster::{CallOptions, Coordinator, Stale, To};
use crate::error::{Code, Error, Result};

/// How often metadata is looked at where nothing is known to have changed: what is cached answers.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long is waited where not all leaders are known.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Runs until the consumer ends. It blocks on changes of positions, and on timers.
pub(super) async fn drive(reader: Arc<Reader>) {
    let mut changes = reader.changes();
    let mut fetchers = JoinSet::new();
    let mut fetching = HashSet::new();
    let mut lookups = JoinSet::new();
    let mut look_at = Instant::now();
    loop {
        changes.borrow_and_update();
        let now = Instant::now();
        if now >= look_at || reader.positions().leaderless() {
            // Errors rest a little, so that nobody is asked without end.
            let learnt = tokio::select! {
                learnt = learn(&reader) => learnt,
                () = reader.stopped() => break,
            };
            look_at = Instant::now() + if learnt { LOOK_EVERY } else { LOOK_AGAIN };
            if !learnt && !reader.pause(LOOK_AGAIN).await {
                break;
            }
        }
        let leaders: HashSet<i32> = reader.positions().leaders().collect();
        for leader in leaders {
            if fetching.insert(leader) {
                fetcher::start(&reader, leader, &mut fetchers);
            }
        }
        let asks = reader.positions().lookups(Instant::now());
        ask(&reader, asks, &mut lookups);
        let wakes_at = reader.positions().wakes_at(Instant::now()).map_or(look_at, |at| at.min(look_at));
        tokio::select! {
            _ = changes.changed() => {}
            Some(_) = lookups.join_next(), if !lookups.is_empty() => {}
            () = tokio::time::sleep_until(wakes_at) => {}
            () = reader.stopped() => break,
        }
    }
    // What is under way is dropped with the sets.
}

/// Learns who leads what, and without a group takes all partitions; `false`: not all of it is known.
async fn learn(reader: &Reader) -> bool {
    match all_known(reader).await {
        Ok(known) => known,
        Err(err) => {
            debug!(error = %err, "what is read is asked for again");
            if !err.is_retriable() {
                reader.report(err);
            }
            false
        }
    }
}

async fn all_known(reader: &Reader) -> Result<bool> {
    let topics = reader.topics();
    let metadata = reader.cluster().metadata(&topics).await?;
    let mut known = true;
    let mut found = Vec::new();
    for name in &reader.options.topics {
        let topic = metadata.topic(name);
        match topic.and_then(|t| t.error) {
            Some(code) if !code.is_retriable() => return Err(Error::broker(format!("read {name}"), code)),
            Some(_) => known = false,
            None => found.extend(
                (0..)
                    .zip(topic.map_or(&[][..], |t| &t.partitions))
                    .map(|(partition, _)| TopicPartition { topic: Arc::clone(name), partition }),
            ),
        }
    }
    let mut positions = reader.positions();
    if !reader.in_group() {
        positions.assign(found, false);
    }
    positions.learn(&metadata);
    known &= !positions.leaderless();
    drop(positions);
    if !known {
        topics.iter().for_each(|topic| reader.cluster().invalidate(Stale::Topic(topic)));
    }
    reader.wake();
    Ok(known)
}

/// Begins to ask brokers; each answer is told to the positions.
fn ask(reader: &Arc<Reader>, asks: Lookups, lookups: &mut JoinSet<()>) {
    if !asks.committed.is_empty() {
        lookups.spawn(ask_committed(Arc::clone(reader), asks.committed));
    }
    let mut resets: HashMap<i32, Vec<(Position, Ask)>> = HashMap::new();
    for (leader, position, ask) in asks.resets {
        resets.entry(leader).or_default().push((position, ask));
    }
    for (leader, asks) in resets {
        lookups.spawn(ask_offsets(Arc::clone(reader), leader, asks));
    }
    let mut validations: HashMap<i32, Vec<Ask>> = HashMap::new();
    for (leader, ask) in asks.validations {
        validations.entry(leader).or_default().push(ask);
    }
    for (leader, asks) in validations {
        lookups.spawn(ask_epochs(Arc::clone(reader), leader, asks));
    }
}

/// Questions by topic, in the order of requests.
fn by_topic<T>(asks: &[T], of: impl Fn(&T) -> &Ask) -> BTreeMap<&str, Vec<&T>> {
    let mut topics: BTreeMap<&str, Vec<&T>> = BTreeMap::new();
    for ask in asks {
        topics.entry(&of(ask).of.topic).or_default().push(ask);
    }
    topics
}

async fn ask_committed(reader: Arc<Reader>, asks: Vec<Ask>) {
    let to = To::Coordinator { kind: Coordinator::Group, key: reader.options.group.clone() };
    let answer = reader
        .cluster()
        .call_checked(to, |version| offset_fetch(&reader, version, &asks), CallOptions::default(), whole_error)
        .await;
    let mut found: HashMap<TopicPartition, Result<Found, Code>> = HashMap::new();
    match answer {
        Ok(answer) => committed(answer, &mut found),
        Err(err) => tell(&reader, "what the group has committed", err),
    }
    let now = Instant::now();
    for ask in &asks {
        let what = match found.get(&ask.of) {
            Some(Ok(found)) => *found,
            Some(Err(code)) => {
                tell(
                    &reader,
                    "what the group has committed",
                    Error::broker(format!("read what is committed of {}", ask.of), *code),
                );
                Found::Again
            }
            None => Found::Again,
        };
        reader.positions().committed(ask, what, now);
    }
    reader.wake();
}

fn offset_fetch(reader: &Reader, version: i16, asks: &[Ask]) -> OffsetFetchRequest {
    let mut request = OffsetFetchRequest::default();
    let topics = by_topic(asks, |ask| ask);
    let partitions = |asks: &[&Ask]| asks.iter().map(|ask| ask.of.partition).collect();
    if version >= 7 {
        request.require_stable = true; // offsets of open transactions are waited for
    }
    if version < 8 {
        request.group_id = GroupId(text(&reader.options.group));
        let of = |(name, asks): (&&str, &Vec<&Ask>)| {
            let mut topic = OffsetFetchRequestTopic::default();
            (topic.name, topic.partition_indexes) = (topic_name(name), partitions(asks));
            topic
        };
        request.topics = Some(topics.iter().map(of).collect());
        return request;
    }
    let is = reader.membership();
    let mut group = OffsetFetchRequestGroup::default();
    group.group_id = GroupId(text(&reader.options.group));
    if version >= 9 && is.generation >= 0 {
        (group.member_id, group.member_epoch) = (Some(text(&is.member)), is.generation);
    }
    let of = |(name, asks): (&&str, &Vec<&Ask>)| {
        let mut topic = OffsetFetchRequestTopics::default();
        (topic.name, topic.partition_indexes) = (topic_name(name), partitions(asks));
        topic
    };
    group.topics = Some(topics.iter().map(of).collect());
    request.groups.push(group);
    request
}

fn whole_error(answer: &OffsetFetchResponse) -> Option<Code> {
    answer.error_code.err().or_else(|| answer.groups.iter().find_map(|g| g.error_code.err()))
}

fn committed(answer: OffsetFetchResponse, found: &mut HashMap<TopicPartition, Result<Found, Code>>) {
    let mut note = |topic: &str, partition: i32, error: i16, offset: i64, epoch: i32| {
        found.insert(TopicPartition { topic: topic.into(), partition }, read(error, offset, epoch));
    };
    for topic in answer.topics {
        for p in topic.partitions {
            note(&topic.name, p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch);
        }
    }
    for topic in answer.groups.into_iter().flat_map(|g| g.topics) {
        for p in topic.partitions {
            note(&topic.name, p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch);
        }
    }
}

async fn ask_offsets(reader: Arc<Reader>, leader: i32, asks: Vec<(Position, Ask)>) {
    let make = |version: i16| {
        let mut request = ListOffsetsRequest::default();
        request.replica_id = BrokerId(-1);
        if version >= 2 && !reader.options.uncommitted {
            request.isolation_level = 1;
        }
        for (name, asks) in by_topic(&asks, |(_, ask)| ask) {
            let mut topic = ListOffsetsTopic::default();
            topic.name = topic_name(name);
            for (position, ask) in asks {
                let mut partition = ListOffsetsPartition::default();
                partition.partition_index = ask.of.partition;
                if version >= 4 {
                    partition.current_leader_epoch = ask.leader_epoch;
                }
                partition.timestamp = position.timestamp();
                topic.partitions.push(partition);
            }
            request.topics.push(topic);
        }
        request
    };
    let options = CallOptions { attempts: 1, ..CallOptions::default() };
    let mut found = HashMap::new();
    match reader.cluster().call(To::Broker(leader), make, options).await {
        Ok(answer) => {
            for topic in answer.topics {
                for p in topic.partitions {
                    // The epoch of what is before the offset is not known: only that of the offset's own record is told.
                    let what = read(p.error_code, p.offset, -1);
                    found.insert(
                        TopicPartition { topic: topic.name.as_str().into(), partition: p.partition_index },
                        what,
                    );
                }
            }
        }
        Err(err) => tell(&reader, "an offset", err),
    }
    let now = Instant::now();
    for (_, ask) in &asks {
        let what = settle(&reader, ask, found.get(&ask.of));
        reader.positions().reset(ask, what, now);
    }
    reader.wake();
}

async fn ask_epochs(reader: Arc<Reader>, leader: i32, asks: Vec<Ask>) {
    let make = |_: i16| {
        let mut request = OffsetForLeaderEpochRequest::default();
        request.replica_id = BrokerId(-1);
        for (name, asks) in by_topic(&asks, |ask| ask) {
            let mut topic = OffsetForLeaderTopic::default();
            topic.topic = topic_name(name);
            for ask in asks {
                let mut partition = OffsetForLeaderPartition::default();
                (partition.partition, partition.current_leader_epoch, partition.leader_epoch) =
                    (ask.of.partition, ask.leader_epoch, ask.at.epoch);
                topic.partitions.push(partition);
            }
            request.topics.push(topic);
        }
        request
    };
    let options = CallOptions { attempts: 1, ..CallOptions::default() };
    let mut found = HashMap::new();
    match reader.cluster().call(To::Broker(leader), make, options).await {
        Ok(answer) => {
            for topic in answer.topics {
                for p in topic.partitions {
                    let what = read(p.error_code, p.end_offset, p.leader_epoch);
                    found.insert(TopicPartition { topic: topic.topic.as_str().into(), partition: p.partition }, what);
                }
            }
        }
        // Nobody can be asked: what was read is taken to be there, as by clients before KIP-320.
        Err(Error::Unsupported { .. }) => found.extend(asks.iter().map(|ask| (ask.of.clone(), Ok(Found::At(ask.at))))),
        Err(err) => tell(&reader, "a leader's epochs", err),
    }
    let now = Instant::now();
    for ask in &asks {
        let what = settle(&reader, ask, found.get(&ask.of));
        if let Some(gone) = reader.positions().validated(ask, what, now) {
            warn!(
                topic = &*ask.of.topic,
                partition = ask.of.partition,
                from = gone.from,
                to = gone.to,
                "records are gone that were read before: reading goes on behind what is left"
            );
        }
    }
    reader.wake();
}

/// What an answer says of one partition.
fn read(error: i16, offset: i64, epoch: i32) -> Result<Found, Code> {
    match error.err() {
        Some(code) => Err(code),
        None if offset < 0 => Ok(Found::Nothing),
        None => Ok(Found::At(At { offset, epoch })),
    }
}

/// What comes of an answer for one partition; errors are told, and it is asked again.
fn settle(reader: &Reader, ask: &Ask, found: Option<&Result<Found, Code>>) -> Found {
    match found {
        Some(Ok(found)) => *found,
        Some(Err(code)) => {
            reader.cluster().invalidate(Stale::Topic(&ask.of.topic));
            tell(reader, "where to read", Error::broker(format!("read {}", ask.of), *code));
            Found::Again
        }
        None => {
            reader.cluster().invalidate(Stale::Topic(&ask.of.topic));
            Found::Again
        }
    }
}

/// Has the next poll fail with what nobody mends but a person; all else is asked again.
fn tell(reader: &Reader, what: &str, err: Error) {
    debug!(what, error = %err, "a broker is asked again");
    if !passes(&err) {
        reader.report(err);
    }
}

/// Whether an error of reading passes by itself.
pub(super) fn passes(err: &Error) -> bool {
    match err {
        Error::Broker { code, .. } => {
            code.is_retriable()
                || matches!(
                    code,
                    Code::UnknownMemberId
                        | Code::IllegalGeneration
                        | Code::StaleMemberEpoch
                        | Code::FencedMemberEpoch
                        | Code::OffsetOutOfRange
                        | Code::UnknownServerError
                        | Code::FencedLeaderEpoch
                        | Code::UnknownLeaderEpoch
                )
        }
        err => err.is_retriable(),
    }
}
