//! What brokers say of topics, as it is kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::error::Code;

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
