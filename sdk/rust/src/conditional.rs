//! Conditional append: a record that is to get a certain offset, or none.

use std::sync::Arc;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Mutex;

use crate::builder::{Acks, Producing};
use crate::cluster::{CallOptions, Cluster, To};
use crate::consumer::Position;
use crate::error::{Code, Error, Result};
use crate::producer::{Core, Deliveries};
use crate::record::{Delivery, Record};

/// Names the offset that a record is to get.
const EXPECT: &str = "rustmq.expect.offset";

/// Appends records one by one, each in a batch of its own, as a condition is of a batch.
pub(crate) struct Conditional {
    cluster: Arc<Cluster>,
    core: Arc<Core>,
    /// One append at a time, until it is answered; whether the sender runs.
    turn: Arc<Mutex<bool>>,
}

impl Drop for Conditional {
    fn drop(&mut self) {
        self.core.abandon();
    }
}

impl Conditional {
    pub(crate) fn new(cluster: Arc<Cluster>, producing: &Producing, deliveries: Arc<Deliveries>) -> Self {
        let acks = if producing.acks == Acks::None { Acks::Leader } else { producing.acks }; // an answer is wanted
        let options = Producing { acks, linger: std::time::Duration::ZERO, ..producing.clone() };
        let core = Core::new(cluster.clone(), options, None, deliveries);
        Conditional { cluster, core, turn: Arc::default() }
    }

    /// As [`Client::append_at`](crate::Client::append_at).
    pub(crate) async fn append(&self, mut record: Record, offset: i64) -> Result<Delivery> {
        let topic = record.topic.clone();
        let partition = record.partition.filter(|p| *p >= 0);
        let partition = partition.ok_or_else(|| Error::Config("append_at: the record has no partition".to_owned()))?;
        if offset < 0 {
            return Err(Error::Config(format!("append_at({offset}): want 0 or more")));
        }
        if record.headers.iter().any(|(name, _)| name == EXPECT) {
            return Err(Error::Config(format!("append_at: the record has a header {EXPECT} already")));
        }
        record.headers.push((EXPECT.to_owned(), Some(offset.to_string().into())));
        let mut turn = self.turn.clone().lock_owned().await;
        if !std::mem::replace(&mut *turn, true) {
            tokio::spawn(crate::producer::run(self.core.clone()));
        }
        let pending = self.core.enqueue(record, 0, true).await?;
        // Who gives up leaves the turn to the record, until it is answered.
        let answered = tokio::spawn(async move {
            let result = pending.await;
            drop(turn);
            result
        });
        match answered.await.unwrap_or(Err(Error::Closed)) {
            Ok(d) if d.offset == offset => Ok(d),
            Ok(d) => Err(Error::Config(format!(
                "{topic}/{partition} took the record at offset {}, and not at {offset}, for it looks at no conditions: set {EXPECT}=true of the topic",
                d.offset
            ))),
            Err(e) if e.code() == Some(Code::PolicyViolation) => {
                let end = self.end(&topic, partition).await.unwrap_or(-1);
                Err(Error::Condition { topic, partition, expected: offset, end })
            }
            Err(e) => Err(e),
        }
    }

    /// Where a partition ends.
    async fn end(&self, topic: &str, partition: i32) -> Result<i64> {
        let make = |_| {
            let p = ListOffsetsPartition::default()
                .with_partition_index(partition)
                .with_timestamp(Position::End.timestamp());
            let t = ListOffsetsTopic::default()
                .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                .with_partitions(vec![p]);
            ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![t])
        };
        let to = To::Leader { topic: topic.to_owned(), partition };
        let answer = self.cluster.call(to, make, CallOptions::default()).await?;
        let of = answer.topics.iter().flat_map(|t| &t.partitions).next();
        Ok(of.filter(|p| p.error_code == 0).map_or(-1, |p| p.offset))
    }
}
