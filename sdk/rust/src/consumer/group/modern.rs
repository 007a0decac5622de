//! A member of a group of KIP-848, whose broker decides who reads what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::consumer_group_heartbeat_response::Assignment;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::info;
use uuid::Uuid;

use super::{Verdict, coordinator, note, text, topic_name, without};
use crate::cluster::{CallOptions, Stale};
use crate::consumer::positions::BACKOFF;
use crate::consumer::{Reader, TopicPartition};
use crate::error::{Code, Error, Result};

const JOINS: i32 = 0; // member epochs that mean more than a number (KIP-848)
const LEAVES: i32 = -1;
const LEAVES_FOR_A_WHILE: i32 = -2;
const FIRST_INTERVAL: Duration = Duration::from_secs(3);
/// How long it is tried to leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Member {
    reader: Arc<Reader>,
    id: String,
    epoch: i32,
    interval: Duration,
    /// What is read: what the group has assigned, but for what is being given up.
    owned: Vec<TopicPartition>,
    /// What the group wants this member to have, by topic id; some topics may not be known yet.
    target: Vec<(Uuid, Vec<i32>)>,
    names: HashMap<Uuid, Arc<str>>,
    /// The giving up that is under way.
    revoking: Option<JoinHandle<()>>,
    /// The group is to be told what is owned.
    tell: bool,
}

impl Member {
    pub(super) fn new(reader: Arc<Reader>) -> Self {
        Member {
            reader,
            id: Uuid::new_v4().to_string(),
            epoch: JOINS,
            interval: FIRST_INTERVAL,
            owned: Vec::new(),
            target: Vec::new(),
            names: HashMap::new(),
            revoking: None,
            tell: true,
        }
    }

    /// Is the member until the consumer ends; `false`: the broker has no such groups, or this one began as
    /// a classic one. It blocks on the coordinator, on timers, and on handlers of what is given up.
    pub(super) async fn run(mut self) -> bool {
        let mut beat_at = Instant::now();
        loop {
            tokio::select! {
                () = self.reader.stopped() => break,
                Some(_) = OptionFuture::from(self.revoking.as_mut()) => {
                    (self.revoking, self.tell) = (None, true);
                    self.reconcile().await;
                }
                () = tokio::time::sleep_until(beat_at) => {
                    // While something is being given up the group is not told what is owned: it is free only then.
                    let whole = self.tell && self.revoking.is_none();
                    let answer = self.heartbeat(self.epoch, whole).await;
                    beat_at = Instant::now() + match self.hear(answer).await {
                        None => return self.epoch != JOINS || self.reader.is_stopped(),
                        Some(pause) => pause,
                    };
                    continue;
                }
            }
            if self.tell && self.revoking.is_none() {
                beat_at = Instant::now();
            }
        }
        self.leave().await;
        true
    }

    /// Takes in an answer, and says when to heartbeat again; `None`: never.
    async fn hear(&mut self, answer: Result<ConsumerGroupHeartbeatResponse>) -> Option<Duration> {
        let group = self.reader.options.group.clone();
        let answer = match answer {
            Ok(answer) => answer,
            Err(err) => {
                let joining = self.epoch == JOINS;
                let other_kind = matches!(err, Error::Unsupported { .. })
                    || matches!(
                        err.code(),
                        Some(Code::UnsupportedVersion | Code::InconsistentGroupProtocol | Code::GroupIdNotFound)
                    );
                if joining && other_kind {
                    info!(group, reason = %err, "the group is a classic one");
                    return None;
                }
                match note(&self.reader, "heartbeat", &err) {
                    Verdict::Ends => {
                        self.lose();
                        self.epoch = LEAVES;
                        return None;
                    }
                    Verdict::Lost => self.lose(),
                    Verdict::Again | Verdict::Rejoin => self.tell = true,
                }
                return Some(BACKOFF);
            }
        };
        if self.epoch == JOINS {
            info!(group, member = self.id, epoch = answer.member_epoch, "joined a group");
        }
        if let Some(id) = answer.member_id.filter(|id| !id.is_empty()) {
            self.id = id.to_string();
        }
        self.epoch = answer.member_epoch;
        self.tell = false; // it was told, or is once something is given up
        self.interval =
            Duration::from_millis(u64::try_from(answer.heartbeat_interval_ms).unwrap_or_default()).max(BACKOFF);
        self.reader.set_membership(&self.id, self.epoch);
        if let Some(assignment) = answer.assignment {
            self.aim(assignment);
        }
        self.reconcile().await;
        Some(if self.tell && self.revoking.is_none() { Duration::ZERO } else { self.interval })
    }

    fn aim(&mut self, assignment: Assignment) {
        self.target = assignment.topic_partitions.into_iter().map(|t| (t.topic_id, t.partitions)).collect();
    }

    /// Moves from what is owned to what is wanted: first it gives up, then it takes.
    async fn reconcile(&mut self) {
        if self.revoking.is_some() {
            return;
        }
        let Some(target) = self.resolve().await else { return };
        let revoked = without(&self.owned, &target);
        if !revoked.is_empty() {
            self.owned = without(&self.owned, &revoked);
            self.revoking = Some(tokio::spawn(self.reader.revoke(&revoked)));
            return;
        }
        let added = without(&target, &self.owned);
        if !added.is_empty() {
            self.reader.assign(added);
        }
        self.tell |= self.owned != target;
        self.owned = target;
    }

    /// The target by names; `None`: a topic of it is not known yet, and is looked up with the next heartbeat.
    async fn resolve(&mut self) -> Option<Vec<TopicPartition>> {
        if self.target.iter().any(|(id, _)| !self.names.contains_key(id)) {
            let topics = self.reader.topics();
            let mut metadata = self.reader.cluster().metadata(&topics).await.ok()?;
            if self.target.iter().any(|(id, _)| metadata.topic_by_id(id).is_none()) {
                topics.iter().for_each(|topic| self.reader.cluster().invalidate(Stale::Topic(topic)));
                metadata = self.reader.cluster().metadata(&topics).await.ok()?;
            }
            for (id, _) in &self.target {
                if let Some(topic) = metadata.topic_by_id(id) {
                    self.names.insert(*id, Arc::from(topic.name.as_str()));
                }
            }
        }
        let mut out = Vec::new();
        for (id, partitions) in &self.target {
            let topic = self.names.get(id)?;
            out.extend(partitions.iter().map(|&partition| TopicPartition { topic: Arc::clone(topic), partition }));
        }
        out.sort_unstable();
        Some(out)
    }

    /// Gives all up, which others may have already, and joins anew.
    fn lose(&mut self) {
        self.reader.lose(&std::mem::take(&mut self.owned));
        self.target.clear();
        if let Some(revoking) = self.revoking.take() {
            revoking.abort();
        }
        (self.epoch, self.tell) = (JOINS, true);
        self.reader.set_membership(&self.id, -1);
    }

    async fn heartbeat(&self, epoch: i32, whole: bool) -> Result<ConsumerGroupHeartbeatResponse> {
        let options = &self.reader.options;
        let make = |_: i16| {
            let mut request = ConsumerGroupHeartbeatRequest::default();
            request.group_id = GroupId(text(&options.group));
            (request.member_id, request.member_epoch) = (text(&self.id), epoch);
            request.instance_id = options.instance.as_deref().map(text);
            request.rebalance_timeout_ms = -1;
            if whole && epoch >= JOINS {
                request.rebalance_timeout_ms =
                    i32::try_from(options.rebalance_timeout().as_millis()).unwrap_or(i32::MAX);
                request.subscribed_topic_names = Some(options.topics.iter().map(|t| topic_name(t)).collect());
                request.topic_partitions = Some(self.owned_by_id());
            }
            request
        };
        let attempt = CallOptions { attempts: 1, ..CallOptions::default() };
        let answer = self.reader.cluster().call(coordinator(&self.reader), make, attempt).await?;
        match answer.error_code.err() {
            None => Ok(answer),
            Some(code) => {
                let message = answer.error_message.map(|m| m.to_string()).filter(|m| !m.is_empty());
                Err(Error::Broker { what: format!("be a member of {}", options.group), code, message })
            }
        }
    }

    fn owned_by_id(&self) -> Vec<TopicPartitions> {
        let ids: HashMap<&str, Uuid> = self.names.iter().map(|(id, name)| (&**name, *id)).collect();
        super::by_topic(&self.owned)
            .into_iter()
            .filter_map(|(topic, partitions)| {
                let mut of = TopicPartitions::default();
                (of.topic_id, of.partitions) = (*ids.get(&**topic)?, partitions);
                Some(of)
            })
            .collect()
    }

    /// Gives all up, and tells the group.
    async fn leave(mut self) {
        if let Some(revoking) = self.revoking.take() {
            let _ = revoking.await; // it does not panic
        }
        let owned = std::mem::take(&mut self.owned);
        self.reader.revoke(&owned).await;
        if self.epoch <= JOINS {
            return;
        }
        let epoch = if self.reader.options.instance.is_some() { LEAVES_FOR_A_WHILE } else { LEAVES };
        // Otherwise the group finds out when the session ends.
        let _ = timeout(LEAVE_TIMEOUT, self.heartbeat(epoch, false)).await;
        self.reader.set_membership(&self.id, -1);
    }
}
