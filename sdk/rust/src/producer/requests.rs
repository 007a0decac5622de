//! Requests to one broker: sealed, sent in order, and answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ProduceRequest, ProduceResponse, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::mpsc;

use super::batch::{Batch, Identity};
use super::core::{Core, Enlist};
use super::outcome::Placed;
use super::partition::Partition;
use super::sender::Event;
use crate::builder::Acks;
use crate::cluster::{CallOptions, Coordinator, Lane, Metadata, To};
use crate::error::{Code, Error, Result};
use crate::wire::{Connection, Reply};

/// The newest version that names topics, and not their ids.
const BY_NAME: i16 = 12;
/// The newest version whose brokers do not tell the coordinator of a transaction's partitions themselves.
const WITHOUT_ENLISTING: i16 = 11;

/// One request to be made.
pub(super) struct Job {
    pub(super) batches: Vec<(Arc<Partition>, Batch)>,
}

/// Makes requests until the sender ends. It waits for connections and for the coordinator, and compresses.
pub(super) async fn run(
    core: Arc<Core>,
    broker: i32,
    mut todo: mpsc::UnboundedReceiver<Job>,
    to: mpsc::UnboundedSender<Event>,
) {
    while let Some(Job { mut batches }) = todo.recv().await {
        let sent = tokio::select! {
            sent = send(&core, broker, &mut batches) => sent,
            () = core.cluster.closed() => Err(Error::Closed),
        };
        match sent {
            Ok(Some(reply)) => {
                let to = to.clone();
                tokio::spawn(async move {
                    let result = reply.receive().await;
                    let _ = to.send(Event::Answered { broker, batches, result }); // the sender has ended
                });
            }
            Ok(None) => {
                let _ = to.send(Event::Answered { broker, batches, result: Ok(ProduceResponse::default()) });
            }
            Err(e) => {
                let _ = to.send(Event::Answered { broker, batches, result: Err(e) });
            }
        }
    }
}

/// Sends one request; `None`: no answer comes.
async fn send(
    core: &Core,
    broker: i32,
    batches: &mut [(Arc<Partition>, Batch)],
) -> Result<Option<Reply<ProduceRequest>>> {
    let connection = core.cluster.connection(&To::Broker(broker), Lane::Produce).await?;
    if let Some(t) = &core.transaction {
        enlist(core, t.as_ref(), batches).await?;
    }
    let (request, version) = request(core, &connection, batches)?;
    if core.options.acks == Acks::None {
        connection.send_unanswered(&request, version)?;
        return Ok(None);
    }
    let timeout = request_timeout(core.options.delivery_timeout);
    Ok(Some(connection.send(&request, version)?.within(timeout + Duration::from_secs(1))))
}

/// How long a broker may take: some attempts have room in the delivery time-out.
fn request_timeout(delivery: Duration) -> Duration {
    (delivery / 2).clamp(Duration::from_millis(100), Duration::from_secs(10))
}

fn request(
    core: &Core,
    connection: &Connection,
    batches: &mut [(Arc<Partition>, Batch)],
) -> Result<(ProduceRequest, i16)> {
    let known = core.cluster.known();
    let has_id = |p: &Arc<Partition>| known.topic(&p.topic).is_some_and(|t| !t.id.is_nil());
    let mut most = if batches.iter().all(|(p, _)| has_id(p)) { i16::MAX } else { BY_NAME };
    if core.transaction.as_ref().is_some_and(|t| t.explicit()) {
        most = most.min(WITHOUT_ENLISTING);
    }
    let version = connection.version::<ProduceRequest>(most)?;
    let mut topics: HashMap<String, Vec<PartitionProduceData>> = HashMap::new();
    for (p, b) in batches.iter_mut() {
        let records: Bytes = b.seal(core.options.compression, core.transaction.is_some())?;
        let data = PartitionProduceData::default().with_index(p.index).with_records(Some(records));
        topics.entry(p.topic.clone()).or_default().push(data);
    }
    let topic = |(name, data): (String, Vec<PartitionProduceData>)| {
        let of = TopicProduceData::default().with_partition_data(data);
        match known.topic(&name).filter(|_| version > BY_NAME) {
            Some(t) => of.with_topic_id(t.id),
            None => of.with_name(TopicName(StrBytes::from_string(name))),
        }
    };
    let acks = match core.options.acks {
        Acks::All => -1,
        Acks::Leader => 1,
        Acks::None => 0,
    };
    let request = ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(request_timeout(core.options.delivery_timeout).as_millis() as i32)
        .with_transactional_id(
            core.transaction.as_ref().map(|t| TransactionalId(StrBytes::from_string(t.id().to_owned()))),
        )
        .with_topic_data(topics.into_iter().map(topic).collect());
    Ok((request, version))
}

/// Tells the coordinator of partitions that are new to the transaction, where brokers do not.
async fn enlist(core: &Core, transaction: &dyn Enlist, batches: &[(Arc<Partition>, Batch)]) -> Result<()> {
    let partitions: Vec<_> = batches.iter().map(|(p, _)| (p.topic.clone(), p.index)).collect();
    let unknown = transaction.unknown(&partitions);
    if unknown.is_empty() {
        return Ok(());
    }
    if transaction.explicit() {
        let who = core.identity().unwrap_or(Identity::NONE);
        tell(core, transaction.id(), who, &unknown).await?;
    }
    transaction.known(unknown);
    Ok(())
}

async fn tell(core: &Core, id: &str, who: Identity, partitions: &[(String, i32)]) -> Result<()> {
    let mut topics: HashMap<&str, Vec<i32>> = HashMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let name = |s: &str| StrBytes::from_string(s.to_owned());
    let make = |_| {
        let topic = |(n, p): (&&str, &Vec<i32>)| {
            AddPartitionsToTxnTopic::default().with_name(TopicName(name(n))).with_partitions(p.clone())
        };
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(name(id)))
            .with_v3_and_below_producer_id(who.id.into())
            .with_v3_and_below_producer_epoch(who.epoch)
            .with_v3_and_below_topics(topics.iter().map(topic).collect())
    };
    // Version 4 is for brokers; the coordinator is still ending the transaction before while it says
    // CONCURRENT_TRANSACTIONS, which is retriable.
    let opts = CallOptions { max_version: 3, ..CallOptions::default() };
    let to = To::Coordinator { kind: Coordinator::Transaction, key: id.to_owned() };
    core.cluster
        .call_checked(to, make, opts, |r| {
            let results = r.results_by_topic_v3_and_below.iter().flat_map(|t| &t.results_by_partition);
            let codes = results.filter_map(|p| Code::try_from_code(p.partition_error_code));
            codes.reduce(|a, b| if a == Code::OperationNotAttempted { b } else { a })
        })
        .await
        .map(drop)
}

/// What a broker says of one batch.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: Option<Code>,
    pub(super) message: Option<String>,
    base_offset: i64,
    append_time: i64,
    /// Who leads now, where the broker knows; -1: it does not say.
    pub(super) leader: i32,
    pub(super) leader_epoch: i32,
}

impl Answer {
    pub(super) fn placed(&self, partition: i32) -> Placed {
        Placed { partition, base_offset: self.base_offset, append_time: self.append_time }
    }
}

/// What a broker says of all batches of a request.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<(String, i32), Answer>);

impl Answers {
    pub(super) fn read(answer: ProduceResponse, known: &Metadata) -> Self {
        let mut all = HashMap::new();
        for t in answer.responses {
            let name = match known.names.get(&t.topic_id) {
                Some(name) if !t.topic_id.is_nil() => name.clone(),
                _ => t.name.to_string(),
            };
            for p in t.partition_responses {
                let records = p.record_errors.iter().find_map(|e| e.batch_index_error_message.as_ref());
                let answer = Answer {
                    code: Code::try_from_code(p.error_code),
                    message: p.error_message.as_ref().or(records).map(ToString::to_string),
                    base_offset: p.base_offset,
                    append_time: p.log_append_time_ms,
                    leader: p.current_leader.leader_id.0,
                    leader_epoch: p.current_leader.leader_epoch,
                };
                all.insert((name.clone(), p.index), answer);
            }
        }
        Answers(all)
    }

    pub(super) fn of(&self, topic: &str, partition: i32) -> Option<&Answer> {
        self.0.get(&(topic.to_owned(), partition))
    }
}
