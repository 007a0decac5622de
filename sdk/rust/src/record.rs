//! Records as they are produced, and where they have gone: [`Record`], [`Delivery`].

use bytes::Bytes;

/// A record to be produced.
///
/// ```
/// use rustmq::Record;
/// let record = Record::to("quakes").key("usc000rki5").value("{\"mag\": 7.1}").header("source", "usgs");
/// assert_eq!(record.topic, "quakes");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Topic that it goes to.
    pub topic: String,
    /// Partition that it goes to; `None`: by the key where there is one, else as the producer sees fit.
    pub partition: Option<i32>,
    /// Key; records of a key go to one partition, and stay in order.
    pub key: Option<Bytes>,
    /// Value; `None` is what deletes a key in a compacted topic.
    pub value: Option<Bytes>,
    /// Headers, in order; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970; `None`: when it is produced.
    pub timestamp: Option<i64>,
}

impl Record {
    /// An empty record for a topic.
    pub fn to(topic: impl Into<String>) -> Self {
        Record { topic: topic.into(), ..Default::default() }
    }

    /// Sets the key.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Has it go to this partition, whatever its key.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since 1970.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// Bytes of key, value and headers.
    pub(crate) fn bytes(&self) -> usize {
        let of = |b: &Option<Bytes>| b.as_ref().map_or(0, Bytes::len);
        of(&self.key) + of(&self.value) + self.headers.iter().map(|(n, v)| n.len() + of(v)).sum::<usize>()
    }
}

/// Where a record is, once it was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Partition that it went to.
    pub partition: i32,
    /// Its offset; -1 where nobody was to ack it.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970: the broker's where the topic has it so.
    pub timestamp: i64,
}
