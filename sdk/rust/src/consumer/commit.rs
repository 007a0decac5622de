//! Committing what is handled, in a group.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::time::timeout;
use tracing::debug;

use super::group::{text, topic_name};
use super::{Offsets, Reader};
use crate::cluster::{CallOptions, Coordinator, To};
use crate::error::{Code, Error, Result};

/// How long a commit is tried.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long is waited before a commit that the group was not ready for.
const COMMIT_PAUSE: Duration = Duration::from_millis(50);

/// Commits what was handled, every now and then, until the consumer ends.
pub(super) async fn now_and_then(reader: Arc<Reader>) {
    while reader.pause(reader.options.commit_every).await {
        if let Err(err) = reader.commit_handled().await {
            debug!(group = reader.options.group, error = %err, "a commit is tried again");
        }
    }
}

impl Reader {
    /// Commits what is handled by now.
    pub(crate) async fn commit_handled(self: &Arc<Self>) -> Result<()> {
        let taken = self.progress.take();
        let committed = self.commit(taken.clone()).await;
        if committed.is_err() {
            self.progress.restore(&taken);
        }
        committed
    }

    /// Commits offsets. Commits come one after the other, and go on when the future is dropped.
    pub(crate) async fn commit(self: &Arc<Self>, offsets: Offsets) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let reader = Arc::clone(self);
        let committing = tokio::spawn(async move {
            let _turn = reader.committing.lock().await;
            let what = format!("commit offsets of {}", reader.options.group);
            let late = Error::Timeout { what, after: COMMIT_TIMEOUT };
            timeout(COMMIT_TIMEOUT, reader.commit_now(&offsets)).await.unwrap_or(Err(late))
        });
        committing.await.unwrap_or(Err(Error::Closed)) // the runtime ends
    }

    async fn commit_now(&self, offsets: &Offsets) -> Result<()> {
        loop {
            let is = self.membership();
            if is.generation < 0 {
                return Err(Error::broker(format!("commit offsets of {}", self.options.group), Code::UnknownMemberId));
            }
            let to = To::Coordinator { kind: Coordinator::Group, key: self.options.group.clone() };
            let make = |version| self.commit_request(version, offsets);
            let answer = self.cluster().call_checked(to, make, CallOptions::default(), first_error).await;
            match answer {
                Ok(_) => return Ok(()),
                // The member's epoch has moved on meanwhile (KIP-848): the heartbeat tells it.
                Err(err) if err.code() == Some(Code::StaleMemberEpoch) => {
                    if self.membership().generation == is.generation {
                        tokio::time::sleep(COMMIT_PAUSE).await;
                    }
                }
                Err(err) => return Err(err),
            }
        }
    }

    fn commit_request(&self, version: i16, offsets: &Offsets) -> OffsetCommitRequest {
        let is = self.membership();
        let mut request = OffsetCommitRequest::default();
        request.group_id = GroupId(text(&self.options.group));
        (request.generation_id_or_member_epoch, request.member_id) = (is.generation, text(&is.member));
        if version >= 7 {
            request.group_instance_id = self.options.instance.as_deref().map(text);
        }
        let tps: Vec<_> = offsets.keys().cloned().collect();
        for (topic, partitions) in super::group::by_topic(&tps) {
            let mut of = OffsetCommitRequestTopic::default();
            of.name = topic_name(topic);
            for partition in partitions {
                let tp = super::TopicPartition { topic: Arc::clone(topic), partition };
                let mut commit = OffsetCommitRequestPartition::default();
                let at = offsets[&tp];
                (commit.partition_index, commit.committed_offset) = (partition, at.offset);
                if version >= 6 {
                    commit.committed_leader_epoch = at.epoch;
                }
                commit.committed_metadata = Some(StrBytes::new());
                of.partitions.push(commit);
            }
            request.topics.push(of);
        }
        request
    }
}

fn first_error(answer: &OffsetCommitResponse) -> Option<Code> {
    answer.topics.iter().flat_map(|t| &t.partitions).find_map(|p| p.error_code.err())
}
