use std::sync::Arc;

use super::*;
use crate::cluster::metadata::{Partition, Topic};

const LIMITS: Limits = Limits { partition: 100, total: 250 };

fn tp(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition }
}

/// Metadata of topic t, with a leader and its epoch for each partition.
fn metadata(id: u128, leaders: &[(i32, i32)]) -> Metadata {
    let partitions = leaders
        .iter()
        .map(|&(leader, leader_epoch)| Partition { leader: Some(leader), leader_epoch, ..Default::default() })
        .collect();
    let topic = Topic { name: "t".to_owned(), id: Uuid::from_u128(id), partitions, ..Default::default() };
    let mut metadata = Metadata::default();
    metadata.topics.insert("t".to_owned(), Arc::new(topic));
    metadata
}

fn records(partition: i32, offsets: std::ops::Range<i64>) -> Vec<ConsumerRecord> {
    let record = |offset| ConsumerRecord {
        topic: "t".into(),
        partition,
        offset,
        leader_epoch: 1,
        timestamp: 0,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    offsets.map(record).collect()
}

fn got(partition: i32, offsets: std::ops::Range<i64>, bytes: usize) -> Fetched {
    Fetched::Records { next: At { offset: offsets.end, epoch: 1 }, records: records(partition, offsets), bytes }
}

/// Positions that read n partitions of leader 1, each from offset 0.
fn reading(n: i32) -> (Positions, Instant) {
    let mut positions = Positions::new(LIMITS, Position::Start);
    let now = Instant::now();
    positions.assign((0..n).map(tp), false);
    positions.learn(&metadata(1, &vec![(1, 1); n as usize]));
    for (leader, position, ask) in positions.lookups(now).resets {
        assert_eq!((leader, position), (1, Position::Start));
        positions.reset(&ask, Found::At(At { offset: 0, epoch: -1 }), now);
    }
    (positions, now)
}

fn only(asks: Vec<Ask>) -> Ask {
    assert_eq!(asks.len(), 1, "{asks:?}");
    asks.into_iter().next().unwrap()
}

fn taken(positions: &mut Positions, most: usize) -> Vec<(i32, i64)> {
    positions.take(most).into_iter().flat_map(|(_, records)| records).map(|r| (r.partition, r.offset)).collect()
}

#[test]
fn reading_begins_where_the_group_has_committed_else_as_it_is_told() {
    let mut positions = Positions::new(LIMITS, Position::Time(5));
    let now = Instant::now();
    positions.assign([tp(0), tp(1)], true);
    let asked = positions.lookups(now);
    assert_eq!((asked.committed.len(), asked.resets.len()), (2, 0), "no leader is needed to ask the group");
    assert!(positions.lookups(now).committed.is_empty(), "each is asked once");
    positions.learn(&metadata(1, &[(1, 0), (2, 0)]));
    for ask in &asked.committed {
        let found = if ask.of == tp(0) { Found::At(At { offset: 7, epoch: 0 }) } else { Found::Nothing };
        positions.committed(ask, found, now);
    }
    assert_eq!(only(positions.fetches(1, now)).at.offset, 7);
    let resets = positions.lookups(now).resets;
    assert_eq!((resets[0].0, resets[0].1), (2, Position::Time(5)));
    positions.reset(&resets[0].2, Found::Nothing, now);
    assert_eq!(positions.lookups(now).resets[0].1, Position::End, "nothing is of that time or later");
}

#[test]
fn a_group_that_is_asked_again_moves_reading_on_and_never_back() {
    for (found, want) in
        [(Found::At(At { offset: 9, epoch: -1 }), 9), (Found::At(At { offset: 3, epoch: -1 }), 5), (Found::Nothing, 5)]
    {
        let (mut positions, now) = reading(1);
        let before = only(positions.fetches(1, now));
        positions.ask_again(&tp(0), 5);
        assert!(!positions.fetched(&before, got(0, 0..3, 10), now), "of before");
        assert!(positions.fetches(1, now).is_empty());
        let ask = only(positions.lookups(now).committed);
        positions.committed(&ask, Found::Again, now);
        let later = now + BACKOFF;
        let ask = only(positions.lookups(later).committed);
        positions.committed(&ask, found, later);
        assert_eq!(only(positions.fetches(1, later)).at.offset, want, "{found:?}");
    }
}

#[test]
fn a_partition_is_fetched_ahead_up_to_its_limit_and_all_up_to_theirs() {
    let (mut positions, now) = reading(3);
    for ask in positions.fetches(1, now) {
        assert!(positions.fetched(&ask, got(ask.of.partition, 0..10, 60), now));
    }
    assert!(!positions.is_ahead(1));
    for ask in positions.fetches(1, now) {
        positions.fetched(&ask, got(ask.of.partition, 10..20, 60), now);
    }
    assert!(positions.fetches(1, now).is_empty() && positions.is_ahead(1), "360 of 250 bytes wait");
    assert_eq!(positions.take(45).len(), 3);
    assert_eq!(positions.fetches(1, now).len(), 2, "those of which the first answer is handed out");
}

#[test]
fn records_are_handed_out_in_order_and_in_turn() {
    let (mut positions, now) = reading(2);
    for ask in positions.fetches(1, now) {
        positions.fetched(&ask, got(ask.of.partition, 0..3, 10), now);
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let some = taken(&mut positions, 2);
        assert_eq!(some.len(), 2);
        seen.extend(some);
    }
    assert!(taken(&mut positions, 2).is_empty());
    assert_ne!(seen[0].0, seen[2].0, "the other partition's turn");
    for p in 0..2 {
        let offsets: Vec<_> = seen.iter().filter(|(of, _)| *of == p).map(|(_, o)| *o).collect();
        assert_eq!(offsets, [0, 1, 2]);
    }
}

#[test]
fn an_answer_to_what_was_asked_before_a_seek_is_dropped() {
    let (mut positions, now) = reading(1);
    let old = only(positions.fetches(1, now));
    assert!(positions.seek(&tp(0), 40));
    let new = only(positions.fetches(1, now));
    assert_eq!(new.at.offset, 40);
    assert!(!positions.fetched(&old, got(0, 0..3, 10), now));
    assert!(positions.fetched(&new, got(0, 40..42, 10), now));
    positions.seek(&tp(0), 1);
    assert!(taken(&mut positions, 9).is_empty(), "what was fetched before a seek is not handed out");
    positions.revoke([&tp(0)]);
    assert!(!positions.seek(&tp(0), 1) && positions.fetches(1, now).is_empty());
}

#[test]
fn what_is_paused_is_neither_fetched_nor_handed_out() {
    let (mut positions, now) = reading(2);
    for ask in positions.fetches(1, now) {
        positions.fetched(&ask, got(ask.of.partition, 0..1, 10), now);
    }
    positions.pause_partitions("t", &[1], true);
    assert_eq!(taken(&mut positions, 9), [(0, 0)]);
    assert_eq!(only(positions.fetches(1, now)).of, tp(0));
    positions.pause_partitions("t", &[1], false);
    assert_eq!(taken(&mut positions, 9), [(1, 0)]);
    positions.pause_topics(&["t"], true);
    positions.assign([tp(2)], false);
    positions.learn(&metadata(1, &[(1, 1); 3]));
    let resets = positions.lookups(now).resets;
    positions.reset(&resets[0].2, Found::At(At { offset: 0, epoch: -1 }), now);
    assert!(positions.fetches(1, now).is_empty(), "a topic stays paused for partitions that come later");
}

#[test]
fn who_fails_rests_a_little() {
    let (mut positions, now) = reading(1);
    let ask = only(positions.fetches(1, now));
    positions.fetched(&ask, Fetched::Again, now);
    assert!(positions.fetches(1, now).is_empty());
    let later = positions.wakes_at(now).unwrap();
    assert_eq!(positions.fetches(1, later).len(), 1);
}

/// A partition has a beginning and an end: who says that it has none is asked again, a little later.
#[test]
fn only_of_a_time_there_may_be_no_offset() {
    for (from, then, rests) in [
        (Position::Time(9), Position::End, false),
        (Position::Start, Position::Start, true),
        (Position::End, Position::End, true),
    ] {
        let mut positions = Positions::new(LIMITS, from);
        let now = Instant::now();
        positions.assign([tp(0)], false);
        positions.learn(&metadata(1, &[(1, 1)]));
        let (_, _, ask) = positions.lookups(now).resets.remove(0);
        positions.reset(&ask, Found::Nothing, now);
        assert_eq!(positions.lookups(now).resets.is_empty(), rests, "{from:?}");
        if let Some(later) = positions.wakes_at(now) {
            assert_eq!(positions.lookups(later).resets[0].1, then);
        }
        assert_eq!(positions.wakes_at(now).is_some(), rests, "{from:?}");
    }
}

#[test]
fn out_of_range_begins_as_options_say() {
    for (from, reset) in
        [(Position::Start, Position::Start), (Position::End, Position::End), (Position::Time(9), Position::Start)]
    {
        let (mut positions, now) = reading(1);
        positions.from = from;
        let ask = only(positions.fetches(1, now));
        positions.fetched(&ask, Fetched::OutOfRange, now);
        assert_eq!(positions.lookups(now).resets[0].1, reset);
    }
}

#[test]
fn a_new_leader_is_asked_whether_it_has_what_was_read() {
    let (mut positions, now) = reading(1);
    let ask = only(positions.fetches(1, now));
    positions.fetched(&ask, got(0, 0..10, 10), now);
    assert_eq!(taken(&mut positions, 4).len(), 4);
    positions.learn(&metadata(1, &[(2, 1)]));
    assert!(positions.lookups(now).validations.is_empty(), "of the same epoch");
    positions.learn(&metadata(1, &[(3, 2)]));
    assert!(positions.fetches(3, now).is_empty());
    let (leader, ask) = positions.lookups(now).validations.remove(0);
    assert_eq!((leader, ask.at, ask.leader_epoch), (3, At { offset: 10, epoch: 1 }, 2));
    // It ends its predecessor's epoch at 8: what was fetched and not handed out may be other records.
    let gone = positions.validated(&ask, Found::At(At { offset: 8, epoch: 1 }), now);
    assert_eq!(gone, Some(Truncated { from: 8, to: 10 }));
    assert!(taken(&mut positions, 9).is_empty());
    assert_eq!(only(positions.fetches(3, now)).at.offset, 4, "what was not handed out is read again");
}

#[test]
fn a_leader_that_has_everything_is_read_on() {
    let (mut positions, now) = reading(1);
    let ask = only(positions.fetches(1, now));
    positions.fetched(&ask, got(0, 0..10, 10), now);
    positions.learn(&metadata(1, &[(3, 2)]));
    let (_, ask) = positions.lookups(now).validations.remove(0);
    assert_eq!(positions.validated(&ask, Found::At(At { offset: 10, epoch: 1 }), now), None);
    assert_eq!(only(positions.fetches(3, now)).at.offset, 10);
    assert_eq!(taken(&mut positions, 99).len(), 10);
    positions.learn(&metadata(1, &[(1, 1)]));
    assert!(positions.fetches(1, now).is_empty(), "an older epoch is not believed");
}

#[test]
fn a_topic_made_anew_is_read_from_its_beginning() {
    let (mut positions, now) = reading(1);
    let ask = only(positions.fetches(1, now));
    positions.fetched(&ask, got(0, 0..10, 10), now);
    positions.learn(&metadata(2, &[(1, 0)]));
    assert!(taken(&mut positions, 9).is_empty());
    assert_eq!(positions.lookups(now).resets[0].2.leader_epoch, 0);
}
