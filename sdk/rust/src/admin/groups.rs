//! Groups, and how far behind they are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Admin, refused};
use crate::cluster::{CallOptions, Coordinator, To};
use crate::consumer::{Position, TopicPartition, assigned, by_topic, text, topic_name};
use crate::error::{Code, Error, Result};

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `Stable`, `Empty` and others, as the coordinator says.
    pub state: String,
    /// How many members it has.
    pub members: usize,
    /// Records behind what it has committed, of all partitions.
    pub lag: i64,
}

/// What a coordinator says of a group.
#[derive(Default)]
struct Described {
    state: String,
    members: usize,
    assigned: HashSet<TopicPartition>,
}

impl Admin {
    /// Describes groups, classic ones and those of KIP-848; without names, all.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`], of `GROUP_ID_NOT_FOUND` for a name that is of none.
    pub async fn groups(&self, names: &[&str]) -> Result<Vec<Group>> {
        let mut all: BTreeSet<String> = names.iter().map(|&n| n.to_owned()).collect();
        if all.is_empty() {
            all = self.group_names().await?;
        }
        let mut groups = Vec::new();
        for name in all {
            groups.push(self.group(name).await?);
        }
        Ok(groups)
    }

    async fn group_names(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for broker in self.brokers().await? {
            let check = |a: &kafka_protocol::messages::ListGroupsResponse| a.error_code.err();
            let answer = self
                .client
                .cluster()
                .call_checked(To::Broker(broker.id), |_| ListGroupsRequest::default(), CallOptions::default(), check)
                .await?;
            names.extend(
                answer
                    .groups
                    .into_iter()
                    .filter(|g| g.protocol_type.as_str() == "consumer" || g.protocol_type.is_empty())
                    .map(|g| g.group_id.to_string()),
            );
        }
        Ok(names)
    }

    async fn group(&self, name: String) -> Result<Group> {
        let described = match self.describe_classic(&name).await {
            Err(err) if err.code() == Some(Code::GroupIdNotFound) => self.describe_modern(&name).await?,
            other => other?,
        };
        let committed = self.committed(&name).await?;
        let all: Vec<_> =
            described.assigned.iter().chain(committed.keys()).cloned().collect::<HashSet<_>>().into_iter().collect();
        let mut lag = 0;
        if !all.is_empty() {
            let starts = self.offsets(&all, Position::Start).await?;
            let ends = self.offsets(&all, Position::End).await?;
            for (tp, end) in ends {
                let from =
                    starts.get(&tp).copied().unwrap_or_default().max(committed.get(&tp).copied().unwrap_or_default());
                lag += (end - from).max(0);
            }
        }
        Ok(Group { name, state: described.state, members: described.members, lag })
    }

    fn coordinator(name: &str) -> To {
        To::Coordinator { kind: Coordinator::Group, key: name.to_owned() }
    }

    async fn describe_classic(&self, name: &str) -> Result<Described> {
        let make = |_: i16| {
            let mut request = DescribeGroupsRequest::default();
            request.groups.push(GroupId(text(name)));
            request
        };
        let passing =
            |a: &kafka_protocol::messages::DescribeGroupsResponse| retriable(a.groups.iter().map(|g| g.error_code));
        let answer =
            self.client.cluster().call_checked(Self::coordinator(name), make, CallOptions::default(), passing).await?;
        let what = format!("describe group {name}");
        let group = answer.groups.into_iter().next().ok_or_else(|| Error::broker(&what, Code::GroupIdNotFound))?;
        match group.error_code.err() {
            Some(code) => return Err(refused(what, code, group.error_message)),
            // Until version 5 of the request that is how one is told that there is none.
            None if group.group_state.as_str() == "Dead" => return Err(Error::broker(what, Code::GroupIdNotFound)),
            None => {}
        }
        let mut described =
            Described { state: group.group_state.to_string(), members: group.members.len(), assigned: HashSet::new() };
        for member in group.members {
            // What is not read is of no consumers' protocol.
            described.assigned.extend(assigned(member.member_assignment).unwrap_or_default());
        }
        Ok(described)
    }

    async fn describe_modern(&self, name: &str) -> Result<Described> {
        let make = |_: i16| {
            let mut request = ConsumerGroupDescribeRequest::default();
            request.group_ids.push(GroupId(text(name)));
            request
        };
        let passing = |a: &kafka_protocol::messages::ConsumerGroupDescribeResponse| {
            retriable(a.groups.iter().map(|g| g.error_code))
        };
        let what = format!("describe group {name}");
        let answer = match self
            .client
            .cluster()
            .call_checked(Self::coordinator(name), make, CallOptions::default(), passing)
            .await
        {
            Err(Error::Unsupported { .. }) => return Err(Error::broker(what, Code::GroupIdNotFound)),
            other => other?,
        };
        let group = answer.groups.into_iter().next().ok_or_else(|| Error::broker(&what, Code::GroupIdNotFound))?;
        if let Some(code) = group.error_code.err() {
            return Err(refused(what, code, group.error_message));
        }
        let mut described =
            Described { state: group.group_state.to_string(), members: group.members.len(), assigned: HashSet::new() };
        for of in group.members.into_iter().flat_map(|m| m.assignment.topic_partitions) {
            let topic: Arc<str> = of.topic_name.as_str().into();
            described
                .assigned
                .extend(of.partitions.iter().map(|&partition| TopicPartition { topic: Arc::clone(&topic), partition }));
        }
        Ok(described)
    }

    /// What a group has committed.
    async fn committed(&self, name: &str) -> Result<HashMap<TopicPartition, i64>> {
        let make = |version: i16| {
            let mut request = OffsetFetchRequest::default();
            if version >= 8 {
                let mut group = OffsetFetchRequestGroup::default();
                (group.group_id, group.topics) = (GroupId(text(name)), None);
                request.groups.push(group);
            } else {
                (request.group_id, request.topics) = (GroupId(text(name)), None);
            }
            request
        };
        let check =
            |a: &OffsetFetchResponse| a.error_code.err().or_else(|| a.groups.iter().find_map(|g| g.error_code.err()));
        let answer =
            self.client.cluster().call_checked(Self::coordinator(name), make, CallOptions::default(), check).await?;
        let mut found = HashMap::new();
        let mut note = |topic: &str, partition: i32, offset: i64| {
            if offset >= 0 {
                found.insert(TopicPartition { topic: topic.into(), partition }, offset);
            }
        };
        for topic in answer.topics {
            topic.partitions.iter().for_each(|p| note(&topic.name, p.partition_index, p.committed_offset));
        }
        for topic in answer.groups.into_iter().flat_map(|g| g.topics) {
            topic.partitions.iter().for_each(|p| note(&topic.name, p.partition_index, p.committed_offset));
        }
        Ok(found)
    }

    /// Sets what a group without members has committed of topics.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`], of `UNKNOWN_MEMBER_ID` where the group has members.
    pub async fn reset_group(&self, group: &str, to: Position, topics: &[&str]) -> Result<()> {
        let partitions = self.partitions(topics).await?;
        let offsets = self.offsets(&partitions, to).await?;
        let make = |_: i16| {
            let mut request = OffsetCommitRequest::default();
            request.group_id = GroupId(text(group));
            request.generation_id_or_member_epoch = -1;
            for (topic, of) in by_topic(&partitions) {
                let mut commits = OffsetCommitRequestTopic::default();
                commits.name = topic_name(topic);
                for partition in of {
                    let tp = TopicPartition { topic: Arc::clone(topic), partition };
                    let mut commit = OffsetCommitRequestPartition::default();
                    (commit.partition_index, commit.committed_offset) =
                        (partition, offsets.get(&tp).copied().unwrap_or_default());
                    commit.committed_metadata = Some(StrBytes::new());
                    commits.partitions.push(commit);
                }
                request.topics.push(commits);
            }
            request
        };
        let check = |a: &kafka_protocol::messages::OffsetCommitResponse| {
            a.topics.iter().flat_map(|t| &t.partitions).find_map(|p| p.error_code.err())
        };
        self.client
            .cluster()
            .call_checked(Self::coordinator(group), make, CallOptions::default(), check)
            .await
            .map(|_| ())
    }

    /// Deletes a group without members, and what it has committed.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`], of `NON_EMPTY_GROUP` where it has members.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let make = |_: i16| {
            let mut request = DeleteGroupsRequest::default();
            request.groups_names.push(GroupId(text(group)));
            request
        };
        let check =
            |a: &kafka_protocol::messages::DeleteGroupsResponse| a.results.iter().find_map(|r| r.error_code.err());
        self.client
            .cluster()
            .call_checked(Self::coordinator(group), make, CallOptions::default(), check)
            .await
            .map(|_| ())
    }
}

fn retriable(codes: impl Iterator<Item = i16>) -> Option<Code> {
    codes.filter_map(ParseResponseErrorCode::err).find(Code::is_retriable)
}
