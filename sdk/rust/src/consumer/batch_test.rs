use super::*;

const LIMIT: usize = 1 << 20;

/// Name and value of a header.
type Header = (&'static str, Option<&'static [u8]>);
/// Key, value and headers.
type Content = (Option<&'static [u8]>, Option<&'static [u8]>, Vec<Header>);

/// A batch as a producer of another client would write it.
struct Written {
    base: i64,
    attributes: i16,
    producer: i64,
    records: Vec<Content>,
}

fn varint(out: &mut Vec<u8>, n: i64) {
    let mut raw = ((n << 1) ^ (n >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

fn sized(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint(out, -1),
        Some(b) => {
            varint(out, b.len() as i64);
            out.extend(b);
        }
    }
}

impl Written {
    fn plain(base: i64, values: &[&'static [u8]]) -> Written {
        let records = values.iter().map(|v| (None, Some(*v), vec![])).collect();
        Written { base, attributes: 0, producer: -1, records }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut records = Vec::new();
        for (i, (key, value, headers)) in self.records.iter().enumerate() {
            let mut record = vec![0];
            varint(&mut record, i as i64 * 10);
            varint(&mut record, i as i64);
            sized(&mut record, *key);
            sized(&mut record, *value);
            varint(&mut record, headers.len() as i64);
            for (name, value) in headers {
                sized(&mut record, Some(name.as_bytes()));
                sized(&mut record, *value);
            }
            varint(&mut records, record.len() as i64);
            records.extend(record);
        }
        if self.attributes & 7 == 4 {
            records = zstd::encode_all(&records[..], 3).unwrap();
        }
        let mut covered = Vec::new();
        covered.extend(self.attributes.to_be_bytes());
        covered.extend((self.records.len().max(1) as i32 - 1).to_be_bytes());
        covered.extend(1_000i64.to_be_bytes());
        covered.extend(5_000i64.to_be_bytes());
        covered.extend(self.producer.to_be_bytes());
        covered.extend([0; 6]);
        covered.extend((self.records.len() as i32).to_be_bytes());
        covered.extend(records);
        let mut out = self.base.to_be_bytes().to_vec();
        out.extend((covered.len() as i32 + 9).to_be_bytes());
        out.extend(7i32.to_be_bytes());
        out.push(2);
        out.extend(crc32c::crc32c(&covered).to_be_bytes());
        out.extend(covered);
        out
    }
}

fn read_all(data: Vec<u8>, from: i64, aborted: Option<Vec<(i64, i64)>>) -> Result<Records, Corruption> {
    let topic: Arc<str> = Arc::from("t");
    read(data.into(), Wanted { topic: &topic, partition: 3, from, aborted, limit: LIMIT })
}

fn values(records: &Records) -> Vec<&[u8]> {
    records.records.iter().map(|r| r.value.as_deref().unwrap()).collect()
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let written = Written {
        base: 40,
        attributes: 4,
        producer: -1,
        records: vec![
            (Some(b"k"), Some(b"v"), vec![("h", Some(b"1")), ("h", None), ("empty", Some(b""))]),
            (None, None, vec![]),
        ],
    };
    let got = read_all(written.bytes(), 40, None).unwrap();
    let (first, second) = (&got.records[0], &got.records[1]);
    assert_eq!(
        (first.topic.as_ref(), first.partition, first.offset, first.leader_epoch, first.timestamp),
        ("t", 3, 40, 7, 1_000)
    );
    assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
    let headers: Vec<_> = first.headers.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
    assert_eq!(headers, [("h", Some(&b"1"[..])), ("h", None), ("empty", Some(&b""[..]))]);
    assert_eq!((second.offset, second.timestamp, &second.key, &second.value), (41, 1_010, &None, &None));
    assert_eq!((got.next, got.epoch), (42, 7));
    let appended = Written { attributes: LOG_APPEND_TIME, ..Written::plain(0, &[b"a"]) };
    assert_eq!(read_all(appended.bytes(), 0, None).unwrap().records[0].timestamp, 5_000);
}

#[test]
fn reading_begins_inside_a_batch_and_ends_before_one_that_is_cut_off() {
    let mut data = Written::plain(0, &[b"a", b"b", b"c"]).bytes();
    let second = Written::plain(3, &[b"d"]).bytes();
    data.extend(&second[..second.len() - 1]);
    let got = read_all(data, 2, None).unwrap();
    assert_eq!((values(&got), got.next), (vec![&b"c"[..]], 3));
    let got = read_all(Vec::new(), 9, None).unwrap();
    assert_eq!((got.records.len(), got.next, got.epoch), (0, 9, -1));
}

fn marker(base: i64, producer: i64, kind: &'static [u8]) -> Vec<u8> {
    Written { base, attributes: CONTROL | TRANSACTIONAL, producer, records: vec![(Some(kind), None, vec![])] }.bytes()
}

#[test]
fn what_was_aborted_is_passed_over_and_nothing_else() {
    let in_transaction = |base, producer, value: &'static [u8]| {
        Written { attributes: TRANSACTIONAL, producer, ..Written::plain(base, &[value]) }.bytes()
    };
    let mut data = in_transaction(0, 1, b"aborted");
    data.extend(in_transaction(1, 2, b"committed"));
    data.extend(Written::plain(2, &[b"plain"]).bytes());
    data.extend(marker(3, 1, &[0, 0, 0, 0]));
    data.extend(marker(4, 2, &[0, 0, 0, 1]));
    data.extend(in_transaction(5, 1, b"later"));
    data.extend(marker(6, 1, &[0, 0, 0, 1]));
    let got = read_all(data.clone(), 0, Some(vec![(1, 0)])).unwrap();
    assert_eq!((values(&got), got.next), (vec![&b"committed"[..], b"plain", b"later"], 7));
    let got = read_all(data, 0, None).unwrap();
    assert_eq!(values(&got), [&b"aborted"[..], b"committed", b"plain", b"later"]);
}

#[test]
fn damage_is_told_when_reading_begins_with_it() {
    let mut data = Written::plain(0, &[b"a"]).bytes();
    let mut bad = Written::plain(1, &[b"b"]).bytes();
    *bad.last_mut().unwrap() ^= 1;
    data.extend(&bad);
    let got = read_all(data, 0, None).unwrap();
    assert_eq!((values(&got), got.next), (vec![&b"a"[..]], 1));
    let err = read_all(bad, 1, None).unwrap_err();
    assert_eq!((err.offset, err.reason.as_str()), (1, "its checksum is another"));
}

/// Every byte of a batch is changed, with the checksum made right again, and every length cut: there may be
/// an error, and never a panic nor memory beyond what came.
#[test]
fn no_input_panics() {
    let written = Written {
        base: 5,
        attributes: 0,
        producer: 9,
        records: vec![(Some(b"key"), Some(b"value"), vec![("h", Some(b"1"))]), (None, Some(b"x"), vec![])],
    };
    let good = written.bytes();
    for at in 0..good.len() {
        for flip in [0x01, 0x7f, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let crc = crc32c::crc32c(&bad[CRC_END..]);
            if at >= CRC_END {
                bad[CRC_AT..CRC_END].copy_from_slice(&crc.to_be_bytes());
            }
            if let Ok(got) = read_all(bad, 0, Some(vec![(9, 0)])) {
                assert!(got.records.len() <= good.len() / SMALLEST_RECORD);
            }
        }
        let _ = read_all(good[..at].to_vec(), 0, None);
    }
}
