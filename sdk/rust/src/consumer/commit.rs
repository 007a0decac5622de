//! Committing what is handled, in a group.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
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
use super::reader::Membership;
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
    /// Commits what is handled by now. It goes on when the future is dropped.
    pub(crate) async fn commit_handled(self: &Arc<Self>) -> Result<()> {
        self.in_turn(|reader| async move {
            // In turn with what is given up: a position of before does not come after a later one.
            let ceased = reader.membership().ceased;
            let taken = reader.progress.take();
            let committed = reader.commit_in_time(&taken, ceased).await;
            if committed.is_err() {
                reader.progress.restore(&taken);
            }
            committed
        })
        .await
    }

    /// Commits offsets of partitions that this member had when it had ceased to be one so often. Commits come one after
    /// the other, and go on when the future is dropped.
    pub(crate) async fn commit(self: &Arc<Self>, offsets: Offsets, ceased: u64) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        self.in_turn(|reader| async move { reader.commit_in_time(&offsets, ceased).await }).await
    }

    /// Runs what commits, once nothing else does, in the order of the calls.
    async fn in_turn<F>(self: &Arc<Self>, what: impl FnOnce(Arc<Self>) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut turn = Box::pin(Arc::clone(&self.committing).lock_owned());
        let got = futures::poll!(turn.as_mut()); // it waits in line from here on
        let committing = what(Arc::clone(self));
        let committing = tokio::spawn(async move {
            let turn = match got {
                Poll::Ready(turn) => turn,
                Poll::Pending => turn.await,
            };
            let committed = committing.await;
            drop(turn);
            committed
        });
        committing.await.unwrap_or(Err(Error::Closed)) // the runtime ends
    }

    async fn commit_in_time(&self, offsets: &Offsets, ceased: u64) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let what = format!("commit offsets of {}", self.options.group);
        let late = Error::Timeout { what, after: COMMIT_TIMEOUT };
        timeout(COMMIT_TIMEOUT, self.commit_now(offsets, ceased)).await.unwrap_or(Err(late))
    }

    async fn commit_now(&self, offsets: &Offsets, ceased: u64) -> Result<()> {
        loop {
            let is = self.membership();
            if is.generation < 0 || is.ceased != ceased {
                return Err(Error::broker(format!("commit offsets of {}", self.options.group), Code::UnknownMemberId));
            }
            let to = To::Coordinator { kind: Coordinator::Group, key: self.options.group.clone() };
            // Each attempt is of the generation of the moment; the group refuses who has ceased to be a member meanwhile.
            let make = |version| {
                let now = self.membership();
                let by = if now.ceased == ceased { &now } else { &is };
                self.commit_request(version, offsets, by)
            };
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

    fn commit_request(&self, version: i16, offsets: &Offsets, is: &Membership) -> OffsetCommitRequest {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::consumer::{At, Options, TopicPartition};

    #[tokio::test]
    async fn what_is_handled_is_committed_later_where_a_commit_fails_that_nobody_waits_for() {
        let client = Client::builder().brokers(["127.0.0.1:1"]).build().await.unwrap();
        let reader = Reader::new(client, Options::new()); // no member: every commit fails
        let tp = TopicPartition { topic: "t".into(), partition: 0 };
        let place = reader.progress.add(&tp, [(5, 0)].into_iter());
        place.span.done(place.at, 1);
        let mut commit = Box::pin(reader.commit_handled());
        assert!(futures::poll!(commit.as_mut()).is_pending());
        drop(commit);
        tokio::task::yield_now().await;
        drop(reader.committing.lock().await);
        assert_eq!(reader.progress.take()[&tp].offset, 6);
    }

    #[tokio::test]
    async fn nothing_is_committed_by_a_member_that_came_after_the_one_that_had_it() {
        let client = Client::builder().brokers(["127.0.0.1:1"]).build().await.unwrap();
        let reader = Reader::new(client, Options::new());
        reader.set_membership("before", 1);
        let had = reader.membership().ceased;
        reader.set_membership("", -1);
        reader.set_membership("after", 2);
        let offsets =
            || Offsets::from([(TopicPartition { topic: "t".into(), partition: 0 }, At { offset: 5, epoch: 0 })]);
        let refused = reader.commit(offsets(), had).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::UnknownMemberId));
        let tried = reader.commit(offsets(), reader.membership().ceased).await.unwrap_err();
        assert_eq!(tried.code(), None, "{tried}");
    }
}
