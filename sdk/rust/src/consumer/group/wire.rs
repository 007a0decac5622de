//! What members of a classic group tell each other, in Kafka's encoding: a version, then the
//! message.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as OwnedTopic;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName};
use kafka_protocol::protocol::{Encodable, Message, StrBytes};

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

/// Reads what another member wrote. Lengths are checked before they are used: brokers pass on what members
/// say as it is.
struct Reader {
    bytes: Bytes,
    what: &'static str,
}

impl Reader {
    fn wrong(&self, reason: &str) -> Error {
        Error::malformed(self.what, reason)
    }

    fn need(&self, n: usize) -> Result<()> {
        match self.bytes.len() < n {
            true => Err(self.wrong("it is cut off")),
            false => Ok(()),
        }
    }

    fn i16(&mut self) -> Result<i16> {
        self.need(2)?;
        Ok(self.bytes.get_i16())
    }

    fn i32(&mut self) -> Result<i32> {
        self.need(4)?;
        Ok(self.bytes.get_i32())
    }

    /// How many follow, each of at least `least` bytes.
    fn count(&mut self, least: usize) -> Result<usize> {
        let n = usize::try_from(self.i32()?).map_err(|_| self.wrong("a count is negative"))?;
        self.need(n.saturating_mul(least))?;
        Ok(n)
    }

    fn text(&mut self) -> Result<Arc<str>> {
        let n = usize::try_from(self.i16()?).map_err(|_| self.wrong("a name is null"))?;
        self.need(n)?;
        let bytes = self.bytes.split_to(n);
        std::str::from_utf8(&bytes).map(Arc::from).map_err(|_| self.wrong("a name is not UTF-8"))
    }

    /// Passes over bytes that may be null.
    fn data(&mut self) -> Result<()> {
        let n = usize::try_from(self.i32()?.max(0)).unwrap_or_default();
        self.need(n)?;
        self.bytes.advance(n);
        Ok(())
    }

    fn partitions(&mut self) -> Result<Vec<TopicPartition>> {
        let mut out = Vec::new();
        for _ in 0..self.count(6)? {
            let topic = self.text()?;
            for _ in 0..self.count(4)? {
                out.push(TopicPartition { topic: Arc::clone(&topic), partition: self.i32()? });
            }
        }
        Ok(out)
    }
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

/// A member as its subscription tells of it, of any version: a newer one begins as the newest that is known.
pub(crate) fn member(id: &str, instance: Option<&str>, subscription: Bytes) -> Result<Member> {
    let mut reader = Reader { bytes: subscription, what: "the subscription of a group's member" };
    let version = reader.i16()?;
    let mut topics = Vec::new();
    for _ in 0..reader.count(2)? {
        topics.push(reader.text()?);
    }
    reader.data()?; // of other assignors
    let owned = if version >= 1 { reader.partitions()? } else { Vec::new() };
    let generation = if version >= 2 { reader.i32()? } else { -1 };
    Ok(Member { id: id.to_owned(), instance: instance.map(str::to_owned), topics, owned, generation })
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
    let mut reader = Reader { bytes, what: "what a group's leader has assigned" };
    reader.i16()?; // every version begins with the partitions
    reader.partitions()
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
        let rack = 2; // null, and not read
        for cut in 0..good.len() - rack {
            assert!(member("m", None, good.slice(..cut)).is_err(), "cut at {cut}");
        }
        // Two thousand million topics in six bytes.
        assert!(member("m", None, Bytes::from_static(b"\0\x01\x7f\xff\xff\xff")).is_err());
        // Version 0, of old clients, has topics and data only; a version to come begins as 3 does.
        assert_eq!(
            member("m", None, Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff")).unwrap().generation,
            -1
        );
        let mut newer = good.to_vec();
        newer[1] = 9;
        newer.extend(b"more");
        assert_eq!(member("m", None, newer.into()).unwrap().generation, 9);
    }
}
