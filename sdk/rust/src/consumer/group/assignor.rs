//! Who of a classic group reads what: the members' leader decides, by the assignor that all of
//! them have. It does no I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::consumer::TopicPartition;

/// How the partitions of a classic group are shared among its members. All members have to have one
/// in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Assignor {
    /// Ranges of each topic's partitions, in the order of members' ids. All partitions are given up
    /// while the group changes.
    Range,
    /// As even as can be, and members keep what they have where they can (KIP-54, KIP-429). Only what moves is
    /// given up. This is the default.
    CooperativeSticky,
}

impl Assignor {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    pub(crate) fn is_cooperative(self) -> bool {
        self == Assignor::CooperativeSticky
    }

    /// Shares partitions among members. A topic that is not known has none.
    pub(crate) fn assign(
        self,
        members: &[Member],
        partitions: &BTreeMap<Arc<str>, i32>,
    ) -> HashMap<String, Vec<TopicPartition>> {
        match self {
            Assignor::Range => range(members, partitions),
            Assignor::CooperativeSticky => cooperative(members, sticky(members, partitions)),
        }
    }
}

/// A member as its subscription tells of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// Names a static member across restarts; it orders members where it is there.
    pub(crate) instance: Option<String>,
    pub(crate) topics: Vec<Arc<str>>,
    /// What it reads, as it says.
    pub(crate) owned: Vec<TopicPartition>,
    /// The generation in which it owned that; -1: it does not say.
    pub(crate) generation: i32,
}

fn range(members: &[Member], partitions: &BTreeMap<Arc<str>, i32>) -> HashMap<String, Vec<TopicPartition>> {
    let mut out: HashMap<_, Vec<_>> = members.iter().map(|m| (m.id.clone(), Vec::new())).collect();
    for (topic, &count) in partitions {
        let mut subscribed: Vec<_> = members.iter().filter(|m| m.topics.contains(topic)).collect();
        // As in Java: static members by instance, before the others by id.
        subscribed.sort_by(|a, b| match (&a.instance, &b.instance) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => a.id.cmp(&b.id),
        });
        let n = i32::try_from(subscribed.len()).unwrap_or(i32::MAX).max(1);
        let mut next = 0;
        for (i, member) in (0i32..).zip(subscribed) {
            let share = count / n + i32::from(i < count % n);
            let given = (next..next + share).map(|partition| TopicPartition { topic: Arc::clone(topic), partition });
            out.entry(member.id.clone()).or_default().extend(given);
            next += share;
        }
    }
    out
}

/// Shares evenly, and moves as little as that allows: each member keeps what it owns as far as it
/// is not more than its share, and what is free goes to whoever has least.
fn sticky(members: &[Member], partitions: &BTreeMap<Arc<str>, i32>) -> HashMap<String, Vec<TopicPartition>> {
    let all: BTreeSet<TopicPartition> = partitions
        .iter()
        .flat_map(|(topic, &count)| (0..count).map(|partition| TopicPartition { topic: Arc::clone(topic), partition }))
        .collect();
    let owners = owners(members, &all);
    let mut out: BTreeMap<&str, Vec<TopicPartition>> = members.iter().map(|m| (m.id.as_str(), Vec::new())).collect();
    let mut free = Vec::new();
    for tp in all {
        match owners.get(&tp) {
            Some(owner) => out.entry(owner).or_default().push(tp),
            None => free.push(tp),
        }
    }
    let takers = |tp: &TopicPartition| {
        members.iter().filter(|m| m.topics.contains(&tp.topic)).map(|m| m.id.as_str()).collect::<Vec<_>>()
    };
    // What fewer can take goes first, so that the rest can even it out.
    free.sort_by_key(|tp| (takers(tp).len(), tp.clone()));
    for tp in free {
        let least = takers(&tp).into_iter().min_by_key(|id| (out.get(id).map_or(0, Vec::len), *id));
        if let Some(id) = least {
            out.entry(id).or_default().push(tp);
        }
    }
    balance(members, &mut out);
    out.into_iter().map(|(id, tps)| (id.to_owned(), tps)).collect()
}

/// Who owns what, where what members say can be so: of two that claim a partition the one of the later
/// generation has it; of one generation nobody has.
fn owners<'a>(members: &'a [Member], all: &BTreeSet<TopicPartition>) -> HashMap<TopicPartition, &'a str> {
    let mut claims: HashMap<&TopicPartition, (i32, Option<&Member>)> = HashMap::new();
    for member in members {
        for tp in member.owned.iter().filter(|tp| all.contains(tp) && member.topics.contains(&tp.topic)) {
            let claim = claims.entry(tp).or_insert((i32::MIN, None));
            if member.generation > claim.0 {
                *claim = (member.generation, Some(member));
            } else if member.generation == claim.0 {
                claim.1 = None;
            }
        }
    }
    claims.into_iter().filter_map(|(tp, (_, owner))| owner.map(|m| (tp.clone(), m.id.as_str()))).collect()
}

/// Moves partitions from members to those that have at least two fewer, until there are none: every
/// move brings the sum of squares down, so that it ends.
fn balance(members: &[Member], out: &mut BTreeMap<&str, Vec<TopicPartition>>) {
    loop {
        let mut by_load: Vec<_> = out.iter().map(|(id, tps)| (tps.len(), *id)).collect();
        by_load.sort_unstable();
        let moving = by_load.iter().rev().find_map(|&(most, from)| {
            by_load.iter().take_while(|&&(least, _)| least + 2 <= most).find_map(|&(_, to)| {
                let taker = members.iter().find(|m| m.id == to)?;
                let at = out.get(from)?.iter().rposition(|tp| taker.topics.contains(&tp.topic))?;
                Some((from, at, to))
            })
        });
        let Some((from, at, to)) = moving else { return };
        let Some(tp) = out.get_mut(from).map(|tps| tps.remove(at)) else { return };
        out.entry(to).or_default().push(tp);
    }
}

/// Holds back what moves from one member to another: its owner gives it up first, and the group is
/// joined again (KIP-429).
fn cooperative(
    members: &[Member],
    mut assigned: HashMap<String, Vec<TopicPartition>>,
) -> HashMap<String, Vec<TopicPartition>> {
    let owned: HashMap<&TopicPartition, BTreeSet<&str>> = members
        .iter()
        .flat_map(|m| m.owned.iter().map(move |tp| (tp, m.id.as_str())))
        .fold(HashMap::new(), |mut owned, (tp, id)| {
            owned.entry(tp).or_insert_with(BTreeSet::new).insert(id);
            owned
        });
    for (id, tps) in &mut assigned {
        tps.retain(|tp| owned.get(tp).is_none_or(|owners| owners.iter().all(|owner| owner == id)));
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    fn member(id: &str, topics: &[&str], owned: &[TopicPartition], generation: i32) -> Member {
        Member {
            id: id.to_owned(),
            instance: None,
            topics: topics.iter().map(|&t| t.into()).collect(),
            owned: owned.to_vec(),
            generation,
        }
    }

    fn topics(of: &[(&str, i32)]) -> BTreeMap<Arc<str>, i32> {
        of.iter().map(|&(topic, n)| (topic.into(), n)).collect()
    }

    /// A joined group: rounds of a cooperative assignment until nothing moves; how many there were.
    fn settle(members: &mut [Member], partitions: &BTreeMap<Arc<str>, i32>) -> usize {
        for round in 1..10 {
            let assigned = Assignor::CooperativeSticky.assign(members, partitions);
            let mut revoked = false;
            for m in members.iter_mut() {
                let now = &assigned[&m.id];
                revoked |= m.owned.iter().any(|tp| !now.contains(tp));
                (m.owned, m.generation) = (now.clone(), round);
            }
            if !revoked {
                return round as usize;
            }
        }
        panic!("it does not settle: {members:?}");
    }

    fn loads(members: &[Member]) -> Vec<usize> {
        members.iter().map(|m| m.owned.len()).collect()
    }

    fn all_once(members: &[Member], partitions: &BTreeMap<Arc<str>, i32>) {
        let mut seen: Vec<_> = members.iter().flat_map(|m| m.owned.iter().cloned()).collect();
        seen.sort();
        let want: Vec<_> = partitions.iter().flat_map(|(t, &n)| (0..n).map(|p| tp(t, p))).collect();
        assert_eq!(seen, want);
    }

    #[test]
    fn ranges_are_javas() {
        let members = [member("b", &["t", "u"], &[], -1), member("a", &["t"], &[], -1)];
        let got = Assignor::Range.assign(&members, &topics(&[("t", 5), ("u", 2), ("unread", 3)]));
        assert_eq!(got["a"], [tp("t", 0), tp("t", 1), tp("t", 2)]);
        assert_eq!(got["b"], [tp("t", 3), tp("t", 4), tp("u", 0), tp("u", 1)]);
        let fixed =
            [member("a", &["t"], &[], -1), Member { instance: Some("z".to_owned()), ..member("b", &["t"], &[], -1) }];
        let got = Assignor::Range.assign(&fixed, &topics(&[("t", 1)]));
        assert_eq!((got["b"].len(), got["a"].len()), (1, 0), "static members come first");
    }

    #[test]
    fn who_joins_gets_its_share_in_two_rounds_and_nothing_else_moves() {
        let partitions = topics(&[("t", 6)]);
        let mut members = vec![member("a", &["t"], &[], -1)];
        assert_eq!(settle(&mut members, &partitions), 1);
        members.push(member("b", &["t"], &[], -1));
        let before = members[0].owned.clone();
        assert_eq!(settle(&mut members, &partitions), 2, "first a gives up, then b has it");
        assert_eq!(loads(&members), [3, 3]);
        assert!(members[0].owned.iter().all(|tp| before.contains(tp)));
        members.push(member("c", &["t"], &[], -1));
        settle(&mut members, &partitions);
        assert_eq!(loads(&members), [2, 2, 2]);
        let kept = members[1].owned.clone();
        members.remove(0);
        assert_eq!(settle(&mut members, &partitions), 1, "what is free moves at once");
        assert!(kept.iter().all(|tp| members[0].owned.contains(tp)));
        all_once(&members, &partitions);
    }

    #[test]
    fn what_two_claim_is_the_later_generations() {
        let partitions = topics(&[("t", 2)]);
        let both = [tp("t", 0), tp("t", 1)];
        let zombie = [member("a", &["t"], &both, 3), member("b", &["t"], &both[..1], 4)];
        let got = sticky(&zombie, &partitions);
        assert_eq!((&got["a"], &got["b"]), (&vec![both[1].clone()], &vec![both[0].clone()]));
        let torn = [member("a", &["t"], &both[..1], 4), member("b", &["t"], &both[..1], 4)];
        let held = Assignor::CooperativeSticky.assign(&torn, &partitions);
        assert!(!held.values().flatten().any(|tp| *tp == both[0]), "both give it up first");
    }

    #[test]
    fn whoever_may_read_what_it_settles_evenly_and_all_is_read_once() {
        let mut seed = 7u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..300 {
            let partitions = topics(&[("t", 1 + random(9) as i32), ("u", 1 + random(4) as i32)]);
            let mut members: Vec<Member> = Vec::new();
            for i in 0..6 {
                if !members.is_empty() && random(3) == 0 {
                    members.remove(random(members.len() as u64) as usize);
                } else {
                    let topics: &[&str] = if random(2) == 0 || members.is_empty() { &["t", "u"] } else { &["t"] };
                    members.push(member(&format!("m{i}"), topics, &[], -1));
                }
                if !members.iter().any(|m| m.topics.len() == 2) {
                    continue;
                }
                settle(&mut members, &partitions);
                all_once(&members, &partitions);
                for (a, b) in members.iter().flat_map(|a| members.iter().map(move |b| (a, b))) {
                    let may = a.owned.iter().any(|tp| b.topics.contains(&tp.topic));
                    assert!(!may || a.owned.len() < b.owned.len() + 2, "{members:?}");
                }
            }
        }
    }
}
