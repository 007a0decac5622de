//! What a transaction has touched, and what became of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{AddOffsetsToTxnRequest, GroupId, TopicName, TransactionalId, TxnOffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;

use super::{CommitOffset, GroupIdentity, Shared};
use crate::cluster::{CallOptions, Coordinator, To};
use crate::error::{Code, Error, Result};
use crate::producer::{Enlist, Identity};

/// The newest version of TxnOffsetCommit that wants the coordinator told of the group first.
const WITHOUT_ENLISTING: i16 = 4;

/// See the module.
pub(super) struct Session {
    id: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<u64>,
    explicit: bool,
    partitions: HashSet<(String, i32)>,
    offsets: bool,
    failure: Option<Error>, // the first
}

impl Session {
    pub(super) fn new(id: &str) -> Self {
        Session { id: id.to_owned(), state: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.id
    }

    pub(super) fn open(&self, number: u64) {
        let mut state = self.lock();
        let explicit = state.explicit;
        *state = State { open: Some(number), explicit, ..State::default() };
    }

    pub(super) fn close(&self) {
        self.lock().open = None;
    }

    pub(super) fn is_open(&self, number: u64) -> bool {
        self.lock().open == Some(number)
    }

    /// Whether the coordinator may know of the transaction.
    pub(super) fn has_begun(&self) -> bool {
        let state = self.lock();
        state.offsets || !state.partitions.is_empty()
    }

    pub(super) fn set_explicit(&self, explicit: bool) {
        self.lock().explicit = explicit;
    }

    pub(super) fn is_explicit(&self) -> bool {
        self.lock().explicit
    }

    pub(super) fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    /// Fails one transaction, if it is open still.
    pub(super) fn fail_in(&self, number: u64, why: &Error) {
        let mut state = self.lock();
        if state.open == Some(number) {
            state.failure.get_or_insert_with(|| why.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Enlist for Session {
    fn id(&self) -> &str {
        &self.id
    }

    fn explicit(&self) -> bool {
        self.is_explicit()
    }

    fn unknown(&self, partitions: &[(String, i32)]) -> Vec<(String, i32)> {
        let state = self.lock();
        partitions.iter().filter(|p| !state.partitions.contains(*p)).cloned().collect()
    }

    fn known(&self, partitions: Vec<(String, i32)>) {
        self.lock().partitions.extend(partitions);
    }

    fn fail(&self, why: &Error) {
        self.lock().failure.get_or_insert_with(|| why.clone());
    }
}

/// Commits offsets of a group in the transaction.
pub(super) async fn send_offsets(shared: &Shared, group: &GroupIdentity, offsets: &[CommitOffset]) -> Result<()> {
    let who = shared.core.identity().unwrap_or(Identity::NONE);
    let text = |s: &str| StrBytes::from_string(s.to_owned());
    let id = || TransactionalId(text(shared.session.name()));
    let explicit = shared.session.is_explicit();
    shared.session.lock().offsets = true;
    if explicit {
        let make = |_| {
            AddOffsetsToTxnRequest::default()
                .with_transactional_id(id())
                .with_producer_id(who.id.into())
                .with_producer_epoch(who.epoch)
                .with_group_id(GroupId(text(&group.group)))
        };
        let check = |r: &kafka_protocol::messages::AddOffsetsToTxnResponse| Code::try_from_code(r.error_code);
        shared.cluster.call_checked(shared.coordinator(), make, CallOptions::default(), check).await?;
    }
    let mut topics: BTreeMap<&str, Vec<TxnOffsetCommitRequestPartition>> = BTreeMap::new();
    for o in offsets {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(o.partition)
            .with_committed_offset(o.offset)
            .with_committed_leader_epoch(o.leader_epoch)
            .with_committed_metadata(None);
        topics.entry(&o.topic).or_default().push(partition);
    }
    let make = |_| {
        let topic = |(name, partitions): (&&str, &Vec<TxnOffsetCommitRequestPartition>)| {
            TxnOffsetCommitRequestTopic::default().with_name(TopicName(text(name))).with_partitions(partitions.clone())
        };
        TxnOffsetCommitRequest::default()
            .with_transactional_id(id())
            .with_group_id(GroupId(text(&group.group)))
            .with_producer_id(who.id.into())
            .with_producer_epoch(who.epoch)
            .with_generation_id(group.generation)
            .with_member_id(text(&group.member))
            .with_group_instance_id(group.instance.as_deref().map(text))
            .with_topics(topics.iter().map(topic).collect())
    };
    let to = To::Coordinator { kind: Coordinator::Group, key: group.group.clone() };
    let most = if explicit { WITHOUT_ENLISTING } else { i16::MAX };
    let opts = CallOptions { max_version: most, ..CallOptions::default() };
    let check = |r: &kafka_protocol::messages::TxnOffsetCommitResponse| {
        r.topics.iter().flat_map(|t| &t.partitions).find_map(|p| Code::try_from_code(p.error_code))
    };
    shared.cluster.call_checked(to, make, opts, check).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_for_the_transaction_that_it_happened_in() {
        let s = Session::new("id");
        s.open(1);
        s.fail_in(2, &Error::Closed);
        assert!(s.failure().is_none());
        s.fail_in(1, &Error::Closed);
        assert!(s.failure().is_some());
        s.open(2);
        assert!(s.failure().is_none() && !s.is_open(1) && s.is_open(2));
    }

    #[test]
    fn a_partition_is_told_of_once_a_transaction() {
        let s = Session::new("id");
        let all = [("t".to_owned(), 0), ("t".to_owned(), 1)];
        for number in 1..3 {
            s.open(number);
            assert!(!s.has_begun());
            assert_eq!(s.unknown(&all), all);
            s.known(all[..1].to_vec());
            assert_eq!(s.unknown(&all), all[1..]);
            assert!(s.has_begun());
        }
    }
}
