//! Membership in a group: of KIP-848 where the broker has it, else classic.
//!
//! One task is the member (`classic`, `modern`): it heartbeats whatever handlers do, tells the reader what to
//! read and what to give up, and leaves the group at the end.

mod assignor;
mod classic;
mod modern;
mod wire;

use std::sync::Arc;

use tracing::{debug, warn};

pub use assignor::Assignor;
pub(crate) use wire::{assigned, by_topic, text, topic_name};

use super::Reader;
use crate::cluster::{Coordinator, Stale, To};
use crate::error::{Code, Error};

/// Is the member of the group until the consumer ends.
pub(super) async fn belong(reader: Arc<Reader>) {
    if !reader.options.classic && modern::Member::new(Arc::clone(&reader)).run().await {
        return;
    }
    classic::Member::new(reader).run().await;
}

/// Where requests of the group go.
fn coordinator(reader: &Reader) -> To {
    To::Coordinator { kind: Coordinator::Group, key: reader.options.group.clone() }
}

/// What a member does about an error of its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It asks again, a little later.
    Again,
    /// It is no member any more: it joins anew.
    Lost,
    /// It joins the round that has begun.
    Rejoin,
    /// It ends: another has its place, or somebody has to do something.
    Ends,
}

fn verdict(err: &Error) -> Verdict {
    match err {
        Error::Broker { code, .. } => match code {
            Code::UnknownMemberId | Code::IllegalGeneration | Code::FencedMemberEpoch | Code::StaleMemberEpoch => {
                Verdict::Lost
            }
            Code::RebalanceInProgress => Verdict::Rejoin,
            // The one before may have vanished without a word, and be out soon.
            Code::UnreleasedInstanceId | Code::UnknownServerError => Verdict::Again,
            code if code.is_retriable() => Verdict::Again,
            _ => Verdict::Ends,
        },
        Error::Closed | Error::Config(_) | Error::Authentication { .. } | Error::Unsupported { .. } => Verdict::Ends,
        _ => Verdict::Again,
    }
}

/// Tells of an error, and has the coordinator looked up anew where that may help.
fn note(reader: &Reader, what: &str, err: &Error) -> Verdict {
    let verdict = verdict(err);
    let group = &reader.options.group;
    match verdict {
        Verdict::Again => {
            reader.cluster().invalidate(Stale::Coordinator(Coordinator::Group, group));
            debug!(group, what, error = %err, "a group is asked again");
        }
        Verdict::Lost => warn!(group, what, error = %err, "this member is not of the group any more: it joins anew"),
        Verdict::Rejoin => debug!(group, what, "the group changes"),
        Verdict::Ends => {
            warn!(group, what, error = %err, "this member ends");
            reader.fail(match err.code() {
                Some(Code::FencedInstanceId) => Error::Fenced(format!("instance of group {group}")),
                _ => err.clone(),
            });
        }
    }
    verdict
}

/// What `of` has and `other` has not.
fn without(of: &[super::TopicPartition], other: &[super::TopicPartition]) -> Vec<super::TopicPartition> {
    let other: std::collections::HashSet<_> = other.iter().collect();
    of.iter().filter(|tp| !other.contains(tp)).cloned().collect()
}
