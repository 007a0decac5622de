//! A member of a classic group, one of whose members decides who reads what.
//!
//! Joining has two steps: JoinGroup, which waits for all members and makes one the leader, and
//! SyncGroup, by which the leader's decision comes to all. Cooperative members go on reading
//! meanwhile, and give up only what moves; then they join again, so that it can be given to others (KIP-429).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::{Verdict, coordinator, note, text, wire, without};
use crate::cluster::{CallOptions, Coordinator, Lane, Stale, To};
use crate::consumer::positions::BACKOFF;
use crate::consumer::{Reader, TopicPartition};
use crate::error::{Code, Error, Result};

const PROTOCOL: &str = "consumer";
/// How much longer than the group may take an answer is waited for.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the leader looks whether there are more partitions to share.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Partitions by topic, as the leader has shared them.
type Counts = BTreeMap<Arc<str>, i32>;

pub(super) struct Member {
    reader: Arc<Reader>,
    lane: Lane,
    /// Empty: the coordinator has given it none yet.
    id: String,
    generation: i32,
    owned: Vec<TopicPartition>,
    /// What was shared, where this member has done it.
    shared: Option<Counts>,
    look_at: Instant,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.reader.cluster().release(self.lane);
    }
}

impl Member {
    pub(super) fn new(reader: Arc<Reader>) -> Self {
        let lane = Lane::Group(reader.cluster().lanes(1));
        Member {
            reader,
            lane,
            id: String::new(),
            generation: -1,
            owned: Vec::new(),
            shared: None,
            look_at: Instant::now(),
        }
    }

    /// Is the member until the consumer ends. It blocks on the coordinator, on timers, and on handlers
    /// of what is given up.
    pub(super) async fn run(mut self) {
        let reader = Arc::clone(&self.reader);
        loop {
            let joined = tokio::select! {
                joined = self.join() => joined,
                () = reader.stopped() => break,
            };
            let ended = match joined {
                Ok(true) => continue, // once more, for what was given up
                Ok(false) => tokio::select! {
                    ended = self.stay() => ended,
                    () = reader.stopped() => break,
                },
                Err(err) => Err(err),
            };
            if let Err(err) = ended {
                match note(&reader, "belong to a group", &err) {
                    Verdict::Ends => {
                        self.lose();
                        return;
                    }
                    Verdict::Lost => self.lose(),
                    Verdict::Again | Verdict::Rejoin => {}
                }
                if !matches!(err.code(), Some(Code::RebalanceInProgress)) && !reader.pause(BACKOFF).await {
                    break;
                }
            }
        }
        self.leave().await;
    }

    /// Joins, and takes what is assigned; `true`: something was given up, and the group is to be
    /// joined again.
    async fn join(&mut self) -> Result<bool> {
        if !self.reader.options.assignor.is_cooperative() {
            let owned = std::mem::take(&mut self.owned);
            self.give_up(owned).await?;
        }
        let answer = self.ask_to_join().await?;
        self.id = answer.member_id.to_string();
        self.generation = answer.generation_id;
        let shares = match answer.leader == answer.member_id {
            true => self.share(&answer).await?,
            false => Vec::new(),
        };
        let protocol = answer.protocol_name.as_deref().unwrap_or_default().to_owned();
        let mut assigned = self.sync(&protocol, shares).await?;
        assigned.sort_unstable();
        self.reader.set_membership(&self.id, self.generation);
        info!(
            group = self.reader.options.group,
            generation = self.generation,
            partitions = assigned.len(),
            "joined a group"
        );
        let revoked = without(&self.owned, &assigned);
        let added = without(&assigned, &self.owned);
        let moves = !revoked.is_empty();
        self.owned = without(&self.owned, &revoked);
        self.give_up(revoked).await?;
        self.reader.assign(added);
        self.owned = assigned;
        Ok(moves)
    }

    /// Asks until the coordinator answers with a generation.
    async fn ask_to_join(&mut self) -> Result<JoinGroupResponse> {
        loop {
            let options = &self.reader.options;
            let rebalance = options.rebalance_timeout();
            let subscription = wire::subscription(
                &options.topics,
                &self.owned,
                if self.owned.is_empty() { -1 } else { self.generation },
            )?;
            let make = |version: i16| {
                let mut request = JoinGroupRequest::default();
                request.group_id = GroupId(text(&options.group));
                request.session_timeout_ms = millis(options.session_timeout);
                if version >= 1 {
                    request.rebalance_timeout_ms = millis(rebalance);
                }
                request.member_id = text(&self.id);
                if version >= 5 {
                    request.group_instance_id = options.instance.as_deref().map(text);
                }
                request.protocol_type = text(PROTOCOL);
                let mut protocol = JoinGroupRequestProtocol::default();
                (protocol.name, protocol.metadata) = (text(options.assignor.name()), subscription.clone());
                request.protocols.push(protocol);
                request
            };
            let answer = self.call(make, rebalance + ANSWER_MARGIN).await?;
            match answer.error_code.err() {
                None => return Ok(answer),
                // It has a name now, by which it is known if it asks twice (KIP-394).
                Some(Code::MemberIdRequired) => self.id = answer.member_id.to_string(),
                Some(code) => return Err(self.error("join", code)),
            }
        }
    }

    /// Decides who reads what, as the leader.
    async fn share(&mut self, answer: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>> {
        let mut members = Vec::new();
        for m in &answer.members {
            members.push(wire::member(&m.member_id, m.group_instance_id.as_deref(), m.metadata.clone())?);
        }
        let mut topics: Vec<&str> = members.iter().flat_map(|m| &m.topics).map(|t| &**t).collect();
        topics.sort_unstable();
        topics.dedup();
        let counts = self.counts(&topics).await?;
        let assignor = self.reader.options.assignor;
        let mut out = Vec::new();
        for (id, partitions) in assignor.assign(&members, &counts) {
            debug!(group = self.reader.options.group, member = id, partitions = partitions.len(), "a member's share");
            let mut share = SyncGroupRequestAssignment::default();
            (share.member_id, share.assignment) = (text(&id), wire::assignment(&partitions)?);
            out.push(share);
        }
        (self.shared, self.look_at) = (Some(counts), Instant::now() + LOOK_EVERY);
        Ok(out)
    }

    /// How many partitions topics have; those that are not there have none.
    async fn counts(&self, topics: &[&str]) -> Result<Counts> {
        let metadata = self.reader.cluster().metadata(topics).await?;
        let mut counts = Counts::new();
        for name in topics {
            match metadata.topic(name).filter(|t| t.error.is_none()) {
                Some(topic) => {
                    counts.insert(Arc::from(*name), i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
                }
                None => self.reader.cluster().invalidate(Stale::Topic(name)),
            }
        }
        Ok(counts)
    }

    async fn sync(&self, protocol: &str, shares: Vec<SyncGroupRequestAssignment>) -> Result<Vec<TopicPartition>> {
        let options = &self.reader.options;
        let make = |version: i16| {
            let mut request = SyncGroupRequest::default();
            request.group_id = GroupId(text(&options.group));
            (request.generation_id, request.member_id) = (self.generation, text(&self.id));
            if version >= 3 {
                request.group_instance_id = options.instance.as_deref().map(text);
            }
            if version >= 5 {
                (request.protocol_type, request.protocol_name) = (Some(text(PROTOCOL)), Some(text(protocol)));
            }
            request.assignments.clone_from(&shares);
            request
        };
        let answer = self.call(make, options.rebalance_timeout() + ANSWER_MARGIN).await?;
        match answer.error_code.err() {
            None => wire::assigned(Bytes::clone(&answer.assignment)),
            Some(code) => Err(self.error("sync", code)),
        }
    }

    /// Heartbeats until the group changes, which is an error, or the topics do.
    async fn stay(&mut self) -> Result<()> {
        loop {
            tokio::time::sleep(self.reader.options.heartbeat).await;
            if let Err(err) = self.heartbeat().await {
                if super::verdict(&err) != Verdict::Again {
                    return Err(err);
                }
                note(&self.reader, "heartbeat", &err);
            }
            if self.has_more_to_share().await {
                return Ok(());
            }
        }
    }

    /// Whether topics have other partitions than were shared by this member, as the leader.
    async fn has_more_to_share(&mut self) -> bool {
        let Some(shared) = self.shared.clone().filter(|_| Instant::now() >= self.look_at) else { return false };
        self.look_at = Instant::now() + LOOK_EVERY;
        let topics = self.reader.topics();
        match self.counts(&topics).await {
            Ok(counts) => counts.iter().any(|(topic, n)| shared.get(topic) != Some(n)),
            Err(_) => false, // the next look tells
        }
    }

    async fn heartbeat(&self) -> Result<()> {
        let options = &self.reader.options;
        let make = |version: i16| {
            let mut request = HeartbeatRequest::default();
            request.group_id = GroupId(text(&options.group));
            (request.generation_id, request.member_id) = (self.generation, text(&self.id));
            if version >= 3 {
                request.group_instance_id = options.instance.as_deref().map(text);
            }
            request
        };
        let attempt = CallOptions { attempts: 1, ..CallOptions::default() };
        let answer = self.reader.cluster().call(coordinator(&self.reader), make, attempt).await?;
        match answer.error_code.err() {
            None => Ok(()),
            Some(code) => Err(self.error("heartbeat", code)),
        }
    }

    /// Gives partitions up, and heartbeats meanwhile: handlers may take long.
    async fn give_up(&self, partitions: Vec<TopicPartition>) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        self.beating(self.reader.revoke(&partitions)).await
    }

    async fn beating(&self, work: impl Future<Output = ()>) -> Result<()> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                () = &mut work => return Ok(()),
                () = tokio::time::sleep(self.reader.options.heartbeat) => match self.heartbeat().await {
                    Err(err) if super::verdict(&err) == Verdict::Lost => return Err(err),
                    _ => {} // that the group changes is known
                },
            }
        }
    }

    /// Gives all up, which others may have already.
    fn lose(&mut self) {
        self.reader.lose(&std::mem::take(&mut self.owned));
        (self.generation, self.shared) = (-1, None);
        self.id.clear();
        self.reader.set_membership("", -1);
    }

    /// Gives all up, and tells the group; a static member's place is kept for it.
    async fn leave(mut self) {
        let owned = std::mem::take(&mut self.owned);
        // Whatever is lost meanwhile, this member ends.
        let _ = self.give_up(owned).await;
        let options = &self.reader.options;
        if self.id.is_empty() || options.instance.is_some() {
            return;
        }
        let make = |version: i16| {
            let mut request = LeaveGroupRequest::default();
            request.group_id = GroupId(text(&options.group));
            match version >= 3 {
                true => {
                    let mut member = MemberIdentity::default();
                    member.member_id = text(&self.id);
                    request.members.push(member);
                }
                false => request.member_id = text(&self.id),
            }
            request
        };
        // Otherwise the group finds out when the session ends.
        let _ =
            timeout(LEAVE_TIMEOUT, self.reader.cluster().call(coordinator(&self.reader), make, CallOptions::default()))
                .await;
        self.reader.set_membership("", -1);
    }

    async fn call<R: kafka_protocol::protocol::Request>(
        &self,
        make: impl Fn(i16) -> R,
        wait: Duration,
    ) -> Result<R::Response> {
        let to = To::Coordinator { kind: Coordinator::Group, key: self.reader.options.group.clone() };
        let options = CallOptions { timeout: Some(wait), lane: self.lane, attempts: 1, ..CallOptions::default() };
        self.reader.cluster().call(to, make, options).await
    }

    fn error(&self, what: &str, code: Code) -> Error {
        Error::broker(format!("{what} group {}", self.reader.options.group), code)
    }
}

fn millis(d: Duration) -> i32 {
    i32::try_from(d.as_millis()).unwrap_or(i32::MAX)
}
