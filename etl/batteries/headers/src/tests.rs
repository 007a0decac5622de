use rustmq_etl::testing::{Action, Decision, Harness, Record};

use crate::Headers;

fn headers(config: &str, record: Record) -> Vec<(String, String)> {
    let decision = Harness::<Headers>::new(config).unwrap_or_else(|e| panic!("{}: {}", config, e)).record(record);
    assert_eq!((decision.action, &decision.value, &decision.key), (Action::Keep, &None, &None));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    decision
        .headers
        .expect("headers are replaced")
        .into_iter()
        .map(|(n, v)| (text(n), v.map_or("null".into(), text)))
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
}

#[test]
fn headers_come_from_wherever_they_are_told() {
    let config = r#"{"set":[
        {"name":"source","value":"usgs"},{"name":"net","field":"net"},{"name":"lat","field":"geo.lat"},{"name":"geo","field":"geo"},
        {"name":"none","field":"felt"},{"name":"default","field":"felt","default":"0"},{"name":"key","from":"key"},{"name":"topic","from":"topic"},
        {"name":"partition","from":"partition"},{"name":"offset","from":"offset"},{"name":"time","from":"timestamp"}]}"#;
    let record = Record::new(r#"{"net":"\u0075s","geo":{"lat":-7.80},"felt":null}"#).key("k").header("old", "1").at(99);
    let expected = [
        ("old", "1"),
        ("source", "usgs"),
        ("net", "us"),
        ("lat", "-7.80"),
        ("geo", r#"{"lat":-7.80}"#),
        ("default", "0"),
        ("key", "k"),
        ("topic", "topic"),
        ("partition", "3"),
        ("offset", "0"),
        ("time", "99"),
    ];
    assert_eq!(headers(config, record), pairs(&expected));
}

#[test]
fn what_is_there_is_replaced_kept_or_joined() {
    let record = || Record::new("").header("a", "1").header("b", "2").header("a", "3");
    let set = |present: &str| format!(r#"{{"set":[{{"name":"a","value":"x"{}}}]}}"#, present);
    assert_eq!(headers(&set(""), record()), pairs(&[("b", "2"), ("a", "x")]));
    assert_eq!(
        headers(&set(r#","if_present":"append""#), record()),
        pairs(&[("a", "1"), ("b", "2"), ("a", "3"), ("a", "x")])
    );
    let mut keep = Harness::<Headers>::new(&set(r#","if_present":"keep""#)).unwrap();
    assert_eq!(keep.record(record()), Decision::default());
    assert_eq!(
        headers(&set(r#","if_present":"keep""#), Record::new("").header("b", "2")),
        pairs(&[("b", "2"), ("a", "x")])
    );
}

#[test]
fn headers_are_removed_by_name_or_prefix() {
    let record = Record::new("").header("trace", "1").header("x-a", "2").header("x-", "3").header("tracer", "4");
    assert_eq!(headers(r#"{"remove":["trace","x-*"]}"#, record), pairs(&[("tracer", "4")]));
    let mut none = Harness::<Headers>::new(r#"{"remove":["a"]}"#).unwrap();
    assert_eq!(none.record(Record::new("").header("b", "1")), Decision::default());
    let mut all = Harness::<Headers>::new(r#"{"remove":["*"]}"#).unwrap();
    assert_eq!(all.record(Record::new("").header("b", "1")).headers, Some(vec![]));
}

#[test]
fn values_are_read_only_for_their_fields() {
    let mut reads = Harness::<Headers>::new(r#"{"set":[{"name":"a","field":"a","default":"-"}]}"#).unwrap();
    let decision = reads.record(Record::new("{"));
    assert_eq!(decision.action, Action::Reject);
    assert!(decision.text.starts_with("value: not JSON: "), "{}", decision.text);
    assert_eq!(reads.record(Record::tombstone()).headers, Some(vec![(b"a".to_vec(), Some(b"-".to_vec()))]));
    assert_eq!(headers(r#"{"set":[{"name":"a","value":""}]}"#, Record::new(b"\xff")), pairs(&[("a", "")]));
}

#[test]
fn a_wrong_config_says_what_is_wrong() {
    for (config, wanted) in [
        ("{}", "does nothing"),
        (r#"{"set":[{"value":"x"}]}"#, "config.set[0] lacks \"name\""),
        (r#"{"set":[{"name":"a"}]}"#, "config.set[0] has 0 of value, field and from"),
        (r#"{"set":[{"name":"a","value":"x","from":"key"}]}"#, "has 2 of"),
        (r#"{"set":[{"name":"a","from":"value"}]}"#, "it is one of key, topic"),
        (r#"{"set":[{"name":"a","field":"a[*]"}]}"#, "one value"),
        (r#"{"set":[{"name":"a","field":""}]}"#, "config.set[0].field"),
        (r#"{"set":[{"name":"a","value":"x","if_present":"drop"}]}"#, "it is one of replace, keep, append"),
        (r#"{"set":[{"name":"a","value":"x"},{"name":"a","value":"y"}]}"#, "twice"),
        (r#"{"remove":"a"}"#, "write an array"),
        (r#"{"remove":[1]}"#, "config.remove[0] is a number"),
    ] {
        let error = Harness::<Headers>::new(config).err().unwrap_or_else(|| panic!("{} is taken", config));
        assert!(error.contains(wanted), "{}: {} lacks {}", config, error, wanted);
    }
}
