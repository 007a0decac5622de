//! What members of a classic group tell each other, in Kafka's encoding: a version, then the
//! message.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as OwnedTopic;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};

use super::assignor::Member;
use crate::consumer::TopicPartition;
use crate::error::{Error, Result};

fn encode<M: Message + Encodable>(message: &M) -> Result<Bytes> {
    let version = M::VERSIONS.max;
    let mut out = BytesMut::new();
    out.put_i16(version);
    message.encode(&mut out, version).map_err(|err| Error::malformed("a group's protocol", err.to_string()))?;
    Ok(out.freeze())
}

/// Reads a message of any version: a newer one begins as the newest that is known.
fn decode<M: Message + Decodable>(mut bytes: Bytes, what: &str) -> Result<M> {
    if bytes.len() < 2 {
        return Err(Error::malformed(what, "it has no version"));
    }
    let version = bytes.get_i16();
    if version < M::VERSIONS.min {
        return Err(Error::malformed(what, format!("version {version}")));
    }
    M::decode(&mut bytes, version.min(M::VERSIONS.max)).map_err(|err| Error::malformed(what, err.to_string()))
}

/// Partitions by topic.
pub(crate) fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&Arc<str>, Vec<i32>> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for tp in partitions {
        topics.entry(&tp.topic).or_default().push(tp.partition);
    }
    topics
}

/// The text that goes over the wire.
pub(crate) fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// The name of a topic that goes over the wire.
pub(crate) fn topic_name(s: &str) -> TopicName {
    TopicName(text(s))
}

pub(crate) fn subscription(topics: &[Arc<str>], owned: &[TopicPartition], generation: i32) -> Result<Bytes> {
    let mut message = ConsumerProtocolSubscription::default();
    message.topics = topics.iter().map(|t| text(t)).collect();
    message.generation_id = generation;
    message.owned_partitions = by_topic(owned)
        .into_iter()
        .map(|(topic, partitions)| {
            let mut owned = OwnedTopic::default();
            (owned.topic, owned.partitions) = (topic_name(topic), partitions);
            owned
        })
        .collect();
    encode(&message)
}

/// A member as its subscription tells of it.
pub(crate) fn member(id: &str, instance: Option<&str>, subscription: Bytes) -> Result<Member> {
    let message: ConsumerProtocolSubscription = decode(subscription, "the subscription of a group's member")?;
    let owned = message.owned_partitions.iter().flat_map(|owned| partitions_of(owned.topic.as_str(), &owned.partitions)).collect();
    let topics = message.topics.iter().map(|t| Arc::from(t.as_str())).collect();
    Ok(Member { id: id.to_owned(), instance: instance.map(str::to_owned), topics, owned, generation: message.generation_id })
}

fn partitions_of<'a>(topic: &str, partitions: &'a [i32]) -> impl Iterator<Item = TopicPartition> + 'a {
    let topic: Arc<str> = topic.into();
    partitions.iter().map(move |&partition| TopicPartition { topic: Arc::clone(&topic), partition })
}

pub(crate) fn assignment(partitions: &[TopicPartition]) -> Result<Bytes> {
    let mut message = ConsumerProtocolAssignment::default();
    message.assigned_partitions = by_topic(partitions)
        .into_iter()
        .map(|(topic, partitions)| {
            let mut assigned = AssignedTopic::default();
            (assigned.topic, assigned.partitions) = (topic_name(topic), partitions);
            assigned
        })
        .collect();
    encode(&message)
}

/// What a member was assigned; no bytes: nothing.
pub(crate) fn assigned(bytes: Bytes) -> Result<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let message: ConsumerProtocolAssignment = decode(bytes, "what a group's leader has assigned")?;
    Ok(message.assigned_partitions.iter().flat_map(|t| partitions_of(t.topic.as_str(), &t.partitions)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    #[test]
    fn what_a_member_says_is_what_its_leader_reads() {
        let owned = [tp("t", 1), tp("t", 4), tp("u", 0)];
        let bytes = subscription(&["t".into(), "u".into()], &owned, 9).unwrap();
        let read = member("m", Some("i"), bytes).unwrap();
        assert_eq!((read.id.as_str(), read.instance.as_deref(), read.generation), ("m", Some("i"), 9));
        assert_eq!((read.topics, read.owned), (vec!["t".into(), "u".into()], owned.to_vec()));
        assert_eq!(assigned(assignment(&owned).unwrap()).unwrap(), owned);
        assert!(assigned(Bytes::new()).unwrap().is_empty());
    }

    #[test]
    fn damage_is_an_error() {
        let good = subscription(&["t".into()], &[tp("t", 1)], 9).unwrap();
        for cut in 0..good.len() {
            assert!(member("m", None, good.slice(..cut)).is_err(), "cut at {cut}");
        }
        // Version 0, of old clients, has topics and data only; a version to come begins as 3 does.
        assert_eq!(member("m", None, Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff")).unwrap().generation, -1);
        let mut newer = good.to_vec();
        newer[1] = 9;
        newer.extend(b"more");
        assert_eq!(member("m", None, newer.into()).unwrap().generation, 9);
    }
}
