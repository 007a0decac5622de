//! Offsets of partitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use super::Admin;
use crate::cluster::{CallOptions, Stale, To};
use crate::consumer::{Position, TopicPartition, by_topic, topic_name};
use crate::error::{Code, Error, Result};

/// How often partitions are asked for whose leader moves.
const ATTEMPTS: usize = 8;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

impl Admin {
    /// The offsets of the oldest records of a topic's partitions that are kept, by number of the partition.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`].
    pub async fn start_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        self.offsets_of(topic, Position::Start).await
    }

    /// The offsets that the next records of a topic's partitions get, by number of the partition.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`].
    pub async fn end_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        self.offsets_of(topic, Position::End).await
    }

    async fn offsets_of(&self, topic: &str, position: Position) -> Result<Vec<i64>> {
        let partitions = self.partitions(&[topic]).await?;
        let offsets = self.offsets(&partitions, position).await?;
        Ok(partitions.iter().filter_map(|tp| offsets.get(tp).copied()).collect())
    }

    /// All partitions of topics, in order.
    pub(super) async fn partitions(&self, topics: &[&str]) -> Result<Vec<TopicPartition>> {
        let metadata = self.client.cluster().metadata(topics).await?;
        let mut out = Vec::new();
        for name in topics {
            let what = || format!("find the partitions of {name}");
            let topic = metadata.topic(name).ok_or_else(|| Error::broker(what(), Code::UnknownTopicOrPartition))?;
            if let Some(code) = topic.error {
                return Err(Error::broker(what(), code));
            }
            let name: Arc<str> = Arc::from(*name);
            out.extend(
                (0..)
                    .zip(&topic.partitions)
                    .map(|(partition, _)| TopicPartition { topic: Arc::clone(&name), partition }),
            );
        }
        Ok(out)
    }

    /// The offsets of a position in partitions; of a time that nothing is of or after, the end.
    pub(super) async fn offsets(
        &self,
        partitions: &[TopicPartition],
        position: Position,
    ) -> Result<HashMap<TopicPartition, i64>> {
        let mut found = self.ask_leaders(partitions, position.timestamp()).await?;
        let none: Vec<_> = found.iter().filter(|(_, offset)| **offset < 0).map(|(tp, _)| tp.clone()).collect();
        if !none.is_empty() {
            found.extend(Box::pin(self.ask_leaders(&none, Position::End.timestamp())).await?);
        }
        Ok(found)
    }

    async fn ask_leaders(&self, partitions: &[TopicPartition], timestamp: i64) -> Result<HashMap<TopicPartition, i64>> {
        let mut found = HashMap::new();
        let mut left = partitions.to_vec();
        let mut failed = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE * u32::try_from(attempt).unwrap_or(1)).await;
            }
            for (leader, of) in self.by_leader(&left).await? {
                if let Err(err) = self.ask_leader(leader, &of, timestamp, &mut found).await {
                    if !err.is_retriable() {
                        return Err(err);
                    }
                    of.iter().for_each(|tp| self.client.cluster().invalidate(Stale::Topic(&tp.topic)));
                    failed = Some(err);
                }
            }
            left.retain(|tp| !found.contains_key(tp));
            if left.is_empty() {
                return Ok(found);
            }
            left.iter().for_each(|tp| self.client.cluster().invalidate(Stale::Topic(&tp.topic)));
        }
        Err(failed.unwrap_or_else(|| Error::broker(format!("find an offset of {}", left[0]), Code::LeaderNotAvailable)))
    }

    async fn by_leader(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<i32, Vec<TopicPartition>>> {
        let topics: Vec<&str> = by_topic(partitions).into_keys().map(|t| &**t).collect();
        let metadata = self.client.cluster().metadata(&topics).await?;
        let mut leaders: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for tp in partitions {
            let partition =
                metadata.topic(&tp.topic).and_then(|t| t.partitions.get(usize::try_from(tp.partition).ok()?));
            if let Some(leader) = partition.and_then(|p| p.leader) {
                leaders.entry(leader).or_default().push(tp.clone());
            }
        }
        Ok(leaders)
    }

    async fn ask_leader(
        &self,
        leader: i32,
        partitions: &[TopicPartition],
        timestamp: i64,
        found: &mut HashMap<TopicPartition, i64>,
    ) -> Result<()> {
        let make = |_: i16| {
            let mut request = ListOffsetsRequest::default();
            request.replica_id = BrokerId(-1);
            for (name, partitions) in by_topic(partitions) {
                let mut topic = ListOffsetsTopic::default();
                topic.name = topic_name(name);
                for index in partitions {
                    let mut partition = ListOffsetsPartition::default();
                    (partition.partition_index, partition.timestamp) = (index, timestamp);
                    topic.partitions.push(partition);
                }
                request.topics.push(topic);
            }
            request
        };
        let options = CallOptions { attempts: 1, ..CallOptions::default() };
        let answer = self.client.cluster().call(To::Broker(leader), make, options).await?;
        for topic in answer.topics {
            let name: Arc<str> = topic.name.as_str().into();
            for p in topic.partitions {
                let tp = TopicPartition { topic: Arc::clone(&name), partition: p.partition_index };
                match p.error_code.err() {
                    None => {
                        found.insert(tp, p.offset);
                    }
                    Some(code) if code.is_retriable() => {}
                    Some(code) => return Err(Error::broker(format!("find an offset of {tp}"), code)),
                }
            }
        }
        Ok(())
    }
}
