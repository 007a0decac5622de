//! What goes in comes out: views, decisions, and the memory between them.

use rustmq_etl::testing::{self, Action, Batch, Harness, Record as R};
use rustmq_etl::{Header, Output, Record, Transform, MAX_TEXT};

/// Writes what it sees into the value, or does what the value says.
struct Mirror;

impl Transform for Mirror {
    fn init(config: &[u8]) -> Result<Self, String> {
        match config {
            b"panic" => panic!("as told"),
            b"refuse" => Err("as told".into()),
            b"silent" => Err(String::new()),
            _ => Ok(Mirror),
        }
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) {
        let batch = record.batch();
        match record.value().unwrap_or(b"see") {
            b"keep" => {}
            b"drop" => out.drop(),
            b"reject" => out.reject("é".repeat(MAX_TEXT)),
            b"route" => {
                out.key(None);
                out.route("elsewhere");
            }
            b"rejected after all" => {
                out.value(Some(b"lost"));
                out.reject("after all");
            }
            b"headers" => out.headers([Header { name: b"a", value: None }, Header { name: b"", value: Some(b"") }]),
            b"none" => out.headers([]),
            b"large" => {
                assert!(out.room() < 2 << 20);
                out.value(Some(&vec![b'x'; 600 << 10]));
            }
            b"all headers" => out.headers((0..4096).map(|_| Header { name: b"", value: None })),
            b"many headers" => out.headers((0..4097).map(|_| Header { name: b"", value: None })),
            b"endless headers" => out.headers(std::iter::repeat(Header { name: b"0123456789", value: None })),
            b"long reason" => out.reject("r".repeat(MAX_TEXT)),
            _ => {
                out.key(Some(record.key().unwrap_or(b"null")));
                out.value_with(|bytes| {
                    let (topic, flags) =
                        (batch.topic(), (batch.is_transactional(), batch.is_dry_run(), batch.is_async()));
                    let seen = format!(
                        "{} {} {} {:?} {} {} {:?}",
                        topic,
                        batch.partition(),
                        batch.timestamp(),
                        flags,
                        record.timestamp(),
                        record.offset(),
                        record
                            .headers()
                            .map(|h| (String::from_utf8_lossy(h.name), h.value.map(|v| v.len())))
                            .collect::<Vec<_>>(),
                    );
                    bytes.extend_from_slice(seen.as_bytes());
                });
            }
        }
    }
}

#[test]
fn a_batch_is_seen_as_it_was_laid() {
    let mut see = R::new("see").key("key").header("h", "12345").header("", "").at(7);
    see.headers.push((b"null".to_vec(), None));
    see.offset = 9;
    let batch = Batch {
        topic: "quakes".into(),
        partition: 5,
        timestamp: 1234,
        flags: 5,
        records: vec![
            R::new("keep"),
            see,
            R::tombstone(),
            R::new("drop"),
            R::new("headers"),
            R::new("none"),
            R::new("route"),
        ],
    };
    let mut mirror = Harness::<Mirror>::new("").unwrap();
    for _ in 0..2 {
        let got = mirror.batch(&batch);
        assert_eq!(got[0], testing::Decision::default());
        assert_eq!(
            got[1].text_value(),
            "quakes 5 1234 (true, false, true) 7 9 [(\"h\", Some(5)), (\"\", Some(0)), (\"null\", None)]"
        );
        assert_eq!(got[1].key, Some(Some(b"key".to_vec())));
        assert_eq!(got[2].key, Some(Some(b"null".to_vec())));
        assert_eq!(got[3].action, Action::Drop);
        assert_eq!(got[4].headers, Some(vec![(b"a".to_vec(), None), (vec![], Some(vec![]))]));
        assert_eq!(got[5].headers, Some(vec![]));
        assert_eq!((got[6].action, got[6].text.as_str(), &got[6].key), (Action::Route, "elsewhere", &Some(None)));
    }
}

#[test]
fn a_reason_is_cut_between_characters_and_a_reject_replaces_nothing() {
    let mut mirror = Harness::<Mirror>::new("").unwrap();
    let got = mirror.record(R::new("reject"));
    assert_eq!(got.text.len(), MAX_TEXT);
    assert!(got.text.chars().all(|c| c == 'é'));
    let got = mirror.record(R::new("rejected after all"));
    assert_eq!((got.action, got.value), (Action::Reject, None));
}

#[test]
fn what_the_host_would_not_take_is_rejected_alone() {
    let mut mirror = Harness::<Mirror>::new("").unwrap();
    let batch = |values: &[&str]| Batch { records: values.iter().map(R::new).collect(), ..Batch::default() };
    let got = mirror.batch(&batch(&["large", "large", "keep", "many headers", "drop"]));
    assert_eq!(got[0].text_value().len(), 600 << 10);
    assert!(got[1].action == Action::Reject && got[1].text.starts_with("too large"), "{}", got[1].text);
    assert_eq!((got[2].action, got[3].action, got[4].action), (Action::Keep, Action::Reject, Action::Drop));
    assert_eq!(got[3].headers, None);
    let got = mirror.batch(&batch(&["many headers", "all headers", "endless headers", "all headers"]));
    assert!(got[0].action == Action::Reject && got[0].text.starts_with("too many headers"), "{}", got[0].text);
    assert_eq!(got[1].headers.as_ref().map(Vec::len), Some(4096));
    assert!(got[2].action == Action::Reject && got[2].text.starts_with("too many headers"), "{}", got[2].text);
    assert_eq!((got[3].action, &got[3].headers), (Action::Keep, &got[1].headers));
    let got = mirror.batch(&batch(&["long reason"; 5000]));
    let texts: usize = got.iter().map(|decision| decision.text.len()).sum();
    assert!(got.iter().all(|decision| decision.action == Action::Reject && !decision.text.is_empty()));
    // Each is 48 bytes of table and 11 of value, laid to multiples of 8.
    assert!(texts <= (5000 * (48 + 16) + 64) * 4, "{} bytes of reasons", texts);
}

#[test]
fn an_empty_batch_and_a_refused_config() {
    let mut mirror = Harness::<Mirror>::new("").unwrap();
    assert!(mirror.batch(&Batch::default()).is_empty());
    assert_eq!(Harness::<Mirror>::new("refuse").err().unwrap(), "as told");
    assert_ne!(Harness::<Mirror>::new("silent").err().unwrap(), "");
}

#[test]
#[should_panic(expected = "as told")]
fn a_panic_is_one() {
    let _ = Harness::<Mirror>::new("panic");
}
