//! Consumers: reading topics alone or in a group, and handing out what was read.
//!
//! `batch`, `positions`, `progress`, `failures` and `group::assignor` decide, and do no I/O. The tasks
//! of a consumer are started in one place (`reader`): one that finds out where to read (`driver`), two per
//! leader that fetch (`fetcher`), one that is the member of the group (`group`), and one that commits now and
//! then. All of them end with the consumer.
//!
//! Lock order: positions, then progress, then a span. No lock is held across an await.

mod batch;
mod builder;
mod commit;
mod decompress;
mod driver;
mod failures;
mod fetcher;
mod group;
mod poll;
mod positions;
mod progress;
mod reader;
mod record;
mod run;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use builder::ConsumerBuilder;
pub(crate) use builder::{Options, reading};
pub use failures::{BatchError, Failures, permanent};
pub(crate) use failures::{Then, dead_letter};
pub use group::Assignor;
pub(crate) use group::{assigned, by_topic, text, topic_name};
pub use poll::Consumer;
pub(crate) use progress::{Place, Working};
pub(crate) use reader::Reader;
pub(crate) use record::Handed;
pub use record::{ConsumerRecord, Message};

/// Where reading begins in a partition of which nothing is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// At the oldest record that is kept.
    #[default]
    Start,
    /// At what is produced from now on.
    End,
    /// At the first record of that time, in milliseconds since 1970, or later; at the end where there is none.
    Time(i64),
}

impl Position {
    /// What a ListOffsets request says of it.
    pub(crate) fn timestamp(self) -> i64 {
        match self {
            Position::Start => -2,
            Position::End => -1,
            Position::Time(ms) => ms.max(0),
        }
    }
}

/// Names a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicPartition {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A place in a partition: the offset of what is read next, and the leader epoch of what was read
/// before it; -1: not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) offset: i64,
    pub(crate) epoch: i32,
}

/// What is to be committed.
pub(crate) type Offsets = HashMap<TopicPartition, At>;
