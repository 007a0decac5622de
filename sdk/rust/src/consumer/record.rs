//! What a consumer hands out.

use std::sync::Arc;

use bytes::Bytes;

use super::progress::Place;
use crate::codec::DecodeError;

/// A record as it was read.
///
/// Keys, values and header values are views of the answer that brought them: who keeps one keeps
/// the memory of all records that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerRecord {
    /// The topic that it was read from.
    pub topic: Arc<str>,
    /// The partition that it was read from.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// The epoch of the leader that wrote it; -1 where the broker does not say.
    pub leader_epoch: i32,
    /// Milliseconds since 1970: when it was made or, where the topic says so
    /// (`message.timestamp.type`), appended.
    pub timestamp: i64,
    /// The key; `None` where it has none.
    pub key: Option<Bytes>,
    /// The value; `None` for a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the order in which they were written. A name may be there more than once.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl ConsumerRecord {
    /// The value of the last header of a name; `None` where there is none, or its value is null.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().rev().find(|(n, _)| n == name).and_then(|(_, value)| value.as_ref())
    }
}

/// A record and its value.
#[derive(Debug)]
#[non_exhaustive]
pub struct Message<T> {
    /// What the codec made of the record's value.
    pub value: T,
    /// The record.
    pub record: ConsumerRecord,
    pub(crate) place: Place,
}

/// A record before, or after, its codec.
pub(crate) struct Handed<T> {
    pub(crate) record: ConsumerRecord,
    pub(crate) value: Result<T, DecodeError>,
    pub(crate) place: Place,
}

/// What the codec does not read, and what it says.
pub(crate) struct Undecoded {
    pub(crate) err: DecodeError,
    pub(crate) record: ConsumerRecord,
    pub(crate) place: Place,
}

impl<T> Handed<T> {
    /// The message, or what the codec says and the record.
    pub(crate) fn into_message(self) -> Result<Message<T>, Box<Undecoded>> {
        match self.value {
            Ok(value) => Ok(Message { value, record: self.record, place: self.place }),
            Err(err) => Err(Box::new(Undecoded { err, record: self.record, place: self.place })),
        }
    }
}
