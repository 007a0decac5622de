//! Fetches of one leader.
//!
//! Two tasks fetch of each leader, over connections of their own: while one waits for records at the
//! ends of partitions, the other fetches what it has room for again, or what was sought meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchResponse, PartitionData};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

use super::batch::{self, Wanted};
use super::driver::passes;
use super::group::topic_name;
use super::positions::{Ask, BACKOFF, Fetched};
use super::{At, Reader, TopicPartition};
use crate::cluster::{CallOptions, Lane, Stale, To};
use crate::error::{Code, Error};

/// How many fetches of a leader may be under way.
const LANES: u32 = 2;
/// How long a broker waits for records.
const WAIT: Duration = Duration::from_millis(500); // as Kafka's fetch.max.wait.ms
/// How long it waits where that holds up partitions that have no room at the moment.
const SHORT_WAIT: Duration = Duration::from_millis(20);
/// How much longer than it waits an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES: i32 = 50 << 20; // as Kafka's fetch.max.bytes
const PARTITION_BYTES: i32 = 1 << 20; // as Kafka's max.partition.fetch.bytes
/// The first version that names topics by id.
const BY_ID: i16 = 13;

/// Starts to fetch of a leader.
pub(super) fn start(reader: &Arc<Reader>, leader: i32, tasks: &mut JoinSet<()>) {
    let first = reader.cluster().lanes(LANES);
    let waiting = Arc::new(AtomicUsize::new(0));
    for i in 0..LANES {
        tasks.spawn(fetch(Arc::clone(reader), leader, Lane::Fetch(first + i), Arc::clone(&waiting)));
    }
}

/// The connection of a task, which is given back when that ends.
struct Held {
    reader: Arc<Reader>,
    lane: Lane,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.reader.cluster().release(self.lane);
    }
}

/// Fetches until the consumer ends. It blocks on the leader, and on room for more.
async fn fetch(reader: Arc<Reader>, leader: i32, lane: Lane, waiting: Arc<AtomicUsize>) {
    let _held = Held { reader: Arc::clone(&reader), lane };
    let mut changes = reader.changes();
    loop {
        changes.borrow_and_update();
        let now = Instant::now();
        let (asks, wakes_at) = {
            let mut positions = reader.positions();
            (positions.fetches(leader, now), positions.wakes_at(now))
        };
        if asks.is_empty() {
            tokio::select! {
                _ = changes.changed() => continue,
                () = reader.until(wakes_at) => continue,
                () = reader.stopped() => return,
            }
        }
        let last_lane = waiting.fetch_add(1, Ordering::Relaxed) + 1 == LANES as usize;
        let wait = if last_lane && reader.positions().is_ahead(leader) { SHORT_WAIT } else { WAIT };
        let by_id = asks.iter().all(|ask| !ask.topic_id.is_nil());
        let options = CallOptions {
            timeout: Some(wait + ANSWER_TIMEOUT),
            lane,
            attempts: 1,
            max_version: if by_id { i16::MAX } else { BY_ID - 1 },
        };
        let answer =
            reader.cluster().call(To::Broker(leader), |version| request(&reader, version, &asks, wait), options).await;
        waiting.fetch_sub(1, Ordering::Relaxed);
        let failed = match answer {
            Ok(answer) => deliver(&reader, &asks, answer),
            Err(err) => {
                reader.topics().iter().for_each(|topic| reader.cluster().invalidate(Stale::Topic(topic)));
                again(&reader, asks.iter());
                Some(err)
            }
        };
        if let Some(err) = failed {
            debug!(leader, error = %err, "reading is tried again");
            if !passes(&err) {
                reader.report(err);
            }
            if !reader.pause(BACKOFF).await {
                return;
            }
        }
    }
}

fn request(reader: &Reader, version: i16, asks: &[Ask], wait: Duration) -> FetchRequest {
    let mut request = FetchRequest::default();
    request.replica_id = BrokerId(-1);
    request.max_wait_ms = wait.as_millis() as i32;
    (request.min_bytes, request.max_bytes) = (1, ANSWER_BYTES);
    request.isolation_level = i8::from(!reader.options.uncommitted);
    if version >= 7 {
        request.session_epoch = -1; // no session: each request says all
    }
    let mut topics: HashMap<&str, FetchTopic> = HashMap::new();
    for ask in asks {
        let topic = topics.entry(&ask.of.topic).or_insert_with(|| {
            let mut topic = FetchTopic::default();
            match version >= BY_ID {
                true => topic.topic_id = ask.topic_id,
                false => topic.topic = topic_name(&ask.of.topic),
            }
            topic
        });
        let mut partition = FetchPartition::default();
        (partition.partition, partition.fetch_offset) = (ask.of.partition, ask.at.offset);
        partition.partition_max_bytes = PARTITION_BYTES;
        if version >= 9 {
            partition.current_leader_epoch = ask.leader_epoch;
        }
        topic.partitions.push(partition);
    }
    request.topics = topics.into_values().collect();
    request
}

fn again<'a>(reader: &Reader, asks: impl Iterator<Item = &'a Ask>) {
    let now = Instant::now();
    let mut positions = reader.positions();
    for ask in asks {
        positions.fetched(ask, Fetched::Again, now);
    }
    drop(positions);
    reader.wake();
}

/// Reads an answer, and tells the positions what is in it. It returns what the whole of it failed with.
fn deliver(reader: &Reader, asks: &[Ask], answer: FetchResponse) -> Option<Error> {
    if let Some(code) = answer.error_code.err() {
        again(reader, asks.iter());
        return Some(Error::broker("fetch", code));
    }
    let ids: HashMap<Uuid, &Arc<str>> = asks.iter().map(|ask| (ask.topic_id, &ask.of.topic)).collect();
    let mut unanswered: HashMap<&TopicPartition, &Ask> = asks.iter().map(|ask| (&ask.of, ask)).collect();
    for topic in answer.responses {
        let name: Arc<str> = match ids.get(&topic.topic_id) {
            Some(name) if !topic.topic_id.is_nil() => Arc::clone(name),
            _ => topic.topic.as_str().into(),
        };
        for data in topic.partitions {
            let tp = TopicPartition { topic: Arc::clone(&name), partition: data.partition_index };
            if let Some(ask) = unanswered.remove(&tp) {
                let fetched = read(reader, ask, data);
                if reader.positions().fetched(ask, fetched, Instant::now()) {
                    reader.announce();
                }
            }
        }
    }
    again(reader, unanswered.into_values());
    None
}

/// Reads what an answer has of a partition.
fn read(reader: &Reader, ask: &Ask, data: PartitionData) -> Fetched {
    match data.error_code.err() {
        None => {}
        Some(Code::OffsetOutOfRange) => {
            warn!(
                topic = &*ask.of.topic,
                partition = ask.of.partition,
                offset = ask.at.offset,
                "the offset is not in the partition (any more): reading begins anew"
            );
            return Fetched::OutOfRange;
        }
        Some(code) => {
            reader.cluster().invalidate(Stale::Topic(&ask.of.topic));
            let err = Error::broker(format!("read {}", ask.of), code);
            debug!(topic = &*ask.of.topic, partition = ask.of.partition, error = %err, "reading is tried again");
            if !passes(&err) {
                reader.report(err);
            }
            return Fetched::Again;
        }
    }
    let records = data.records.unwrap_or_default();
    let bytes = records.len();
    let aborted =
        data.aborted_transactions.unwrap_or_default().iter().map(|a| (a.producer_id.0, a.first_offset)).collect();
    let wanted = Wanted {
        topic: &ask.of.topic,
        partition: ask.of.partition,
        from: ask.at.offset,
        aborted: (!reader.options.uncommitted).then_some(aborted),
        limit: reader.options.max_batch_bytes,
    };
    match batch::read(records, wanted) {
        Ok(read) => {
            Fetched::Records { records: read.records, next: At { offset: read.next, epoch: read.epoch }, bytes }
        }
        Err(corruption) => {
            reader.report(Error::malformed(format!("{} at offset {}", ask.of, corruption.offset), corruption.reason));
            Fetched::Again
        }
    }
}
