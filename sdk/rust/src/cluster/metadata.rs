//! What brokers say of topics, as it is kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::MetadataResponse;
#[cfg(test)]
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
use uuid::Uuid;

use crate::error::{Code, Error, Result};

/// Brokers and topics at a moment. It never changes; a newer one takes its place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metadata {
    /// Addresses, host:port, by broker id.
    pub(crate) brokers: BTreeMap<i32, String>,
    /// -1: not known.
    pub(crate) controller: i32,
    pub(crate) topics: HashMap<String, Arc<Topic>>,
    /// Names by topic id, of topics that have one.
    pub(crate) names: HashMap<Uuid, String>,
}

impl Metadata {
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub(crate) fn topic_by_id(&self, id: &Uuid) -> Option<&Arc<Topic>> {
        self.names.get(id).and_then(|name| self.topics.get(name))
    }
}

/// A topic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topic {
    pub(crate) name: String,
    /// Nil where the broker tells none.
    pub(crate) id: Uuid,
    pub(crate) internal: bool,
    /// Why nothing is known of it.
    pub(crate) error: Option<Code>,
    /// In order; the index is the partition's number.
    pub(crate) partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partition {
    /// `None`: there is none at the moment.
    pub(crate) leader: Option<i32>,
    /// -1: not known.
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
}

impl Metadata {
    /// What an answer says.
    pub(crate) fn read(answer: MetadataResponse) -> Result<Self> {
        if let Some(code) = Code::try_from_code(answer.error_code) {
            return Err(Error::broker("ask for metadata", code));
        }
        let address = |b: &MetadataResponseBroker| {
            let host = b.host.as_str();
            if host.contains(':') { format!("[{host}]:{}", b.port) } else { format!("{host}:{}", b.port) }
        };
        let mut read = Metadata {
            brokers: answer.brokers.iter().map(|b| (b.node_id.0, address(b))).collect(),
            controller: answer.controller_id.0,
            ..Metadata::default()
        };
        for t in answer.topics {
            let Some(name) = t.name.as_ref().map(|n| n.to_string()) else {
                continue; // it is asked for by name alone
            };
            if !t.topic_id.is_nil() {
                read.names.insert(t.topic_id, name.clone());
            }
            read.topics.insert(name.clone(), Arc::new(Topic::read(name, t)?));
        }
        Ok(read)
    }

    /// This with what was told since: newer brokers in place of all, newer topics beside those that were not told of.
    /// Of a partition whose leader was elected later than what is told the later one stays.
    pub(crate) fn with(&self, told: Metadata) -> Metadata {
        let mut merged = Metadata { topics: self.topics.clone(), names: self.names.clone(), ..told };
        for (name, newer) in told.topics {
            let before = self.topics.get(&name);
            if let Some(before) = before.filter(|b| b.id != newer.id) {
                merged.names.remove(&before.id);
            }
            let newer = match before.filter(|b| b.id == newer.id && newer.error.is_none()) {
                Some(before) => Arc::new(newer.not_before(before)),
                None => newer,
            };
            merged.topics.insert(name, newer);
        }
        merged.names.extend(told.names);
        merged
    }

    /// This with another leader of a partition; `None`: the broker is not known, or it was elected no later.
    pub(crate) fn led_by(&self, topic: &str, partition: i32, leader: i32, epoch: i32) -> Option<Metadata> {
        let before = self.topics.get(topic)?;
        let at = usize::try_from(partition).ok()?;
        let was = before.partitions.get(at)?;
        if !self.brokers.contains_key(&leader) || epoch <= was.leader_epoch {
            return None;
        }
        let mut newer = (**before).clone();
        let of = newer.partitions.get_mut(at)?;
        (of.leader, of.leader_epoch) = (Some(leader), epoch);
        let mut all = self.clone();
        all.topics.insert(topic.to_owned(), Arc::new(newer));
        Some(all)
    }
}

impl Topic {
    fn read(name: String, t: MetadataResponseTopic) -> Result<Self> {
        let mut partitions = vec![Partition { leader_epoch: -1, ..Partition::default() }; t.partitions.len()];
        for p in t.partitions {
            let at = usize::try_from(p.partition_index).ok().and_then(|i| partitions.get_mut(i));
            let Some(at) = at else {
                return Err(Error::malformed(
                    "metadata",
                    format!("{name} has a partition {}, but not as many", p.partition_index),
                ));
            };
            *at = Partition {
                leader: Some(p.leader_id.0).filter(|l| *l >= 0 && p.error_code == 0),
                leader_epoch: p.leader_epoch,
                replicas: p.replica_nodes.iter().map(|b| b.0).collect(),
                isr: p.isr_nodes.iter().map(|b| b.0).collect(),
            };
        }
        let error = Code::try_from_code(t.error_code);
        Ok(Topic { name, id: t.topic_id, internal: t.is_internal, error, partitions })
    }

    /// This, where no partition goes back to an earlier leader.
    fn not_before(&self, before: &Topic) -> Topic {
        let mut newer = self.clone();
        for (now, was) in newer.partitions.iter_mut().zip(&before.partitions) {
            if was.leader_epoch > now.leader_epoch && now.leader_epoch >= 0 {
                *now = was.clone();
            }
        }
        newer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: u128, epoch: i32, leader: i32) -> Metadata {
        let id = Uuid::from_u128(id);
        let partitions = vec![Partition { leader: Some(leader), leader_epoch: epoch, ..Partition::default() }];
        let t = Topic { name: "t".into(), id, partitions, ..Topic::default() };
        Metadata {
            topics: HashMap::from([("t".to_owned(), Arc::new(t))]),
            names: HashMap::from([(id, "t".to_owned())]),
            ..Metadata::default()
        }
    }

    fn leader(m: &Metadata) -> Option<i32> {
        m.topic("t").and_then(|t| t.partitions[0].leader)
    }

    #[test]
    fn a_broker_that_is_behind_does_not_bring_a_leader_back() {
        let known = Metadata::default().with(topic(1, 5, 2));
        assert_eq!(leader(&known.with(topic(1, 4, 1))), Some(2));
        assert_eq!(leader(&known.with(topic(1, 6, 3))), Some(3));
    }

    #[test]
    fn a_topic_that_was_made_anew_begins_anew() {
        let known = Metadata::default().with(topic(1, 5, 2)).with(topic(2, 0, 1));
        assert_eq!(leader(&known), Some(1));
        assert!(known.topic_by_id(&Uuid::from_u128(1)).is_none());
        assert!(known.topic_by_id(&Uuid::from_u128(2)).is_some());
    }

    #[test]
    fn partitions_that_are_not_in_order_are_put_in_order_and_gaps_are_refused() {
        let p = |i| MetadataResponsePartition::default().with_partition_index(i).with_leader_id(i.into());
        let t = MetadataResponseTopic::default().with_partitions(vec![p(1), p(0)]);
        let read = Topic::read("t".into(), t).unwrap();
        assert_eq!(read.partitions.iter().map(|p| p.leader).collect::<Vec<_>>(), [Some(0), Some(1)]);
        let t = MetadataResponseTopic::default().with_partitions(vec![p(0), p(7)]);
        assert!(Topic::read("t".into(), t).is_err());
    }
}
