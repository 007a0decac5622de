use rustmq_etl::testing::{Action, Harness, Record};

use crate::hmac::Hmac;
use crate::Mask;

const KEY: &str = "0123456789abcdef";

fn mask(fields: &str) -> Harness<Mask> {
    Harness::new(&format!("{{\"hash_key\":\"{}\",\"fields\":[{}]}}", KEY, fields)).unwrap()
}

fn masked(fields: &str, value: &str) -> String {
    mask(fields).record(Record::new(value)).text_value().to_owned()
}

fn hash(text: &str) -> String {
    String::from_utf8(Hmac::new(KEY.as_bytes()).hexadecimal(text.as_bytes()).to_vec()).unwrap()
}

/// RFC 4231, cases 1, 2, 3, 6; and messages around the ends of blocks against each other.
#[test]
fn codes_are_those_of_the_rfc() {
    let hmac = |key: &[u8], message: &[u8]| String::from_utf8(Hmac::new(key).hexadecimal(message).to_vec()).unwrap();
    assert_eq!(hmac(&[0x0b; 20], b"Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    assert_eq!(
        hmac(b"Jefe", b"what do ya want for nothing?"),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(hmac(&[0xaa; 20], &[0xdd; 50]), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    let long = b"Test Using Larger Than Block-Size Key - Hash Key First";
    assert_eq!(hmac(&[0xaa; 131], long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

#[test]
fn what_is_not_named_keeps_its_bytes() {
    let value = "{ \"a\" : 1.50,\"card\":\"4111-1111\" ,\n\"n\":[ null , \"\\u0041\" ] }";
    let rule = r#"{"path":"card","action":"mask","keep_last":4}"#;
    assert_eq!(masked(rule, value), value.replace("4111-1111", "*****1111"));
    let untouched = mask(rule).record(Record::new("{ \"b\" : 1 }"));
    assert_eq!((untouched.action, untouched.value), (Action::Keep, None));
}

#[test]
fn characters_are_masked_not_bytes() {
    assert_eq!(
        masked(r#"{"path":"a","action":"mask","keep_first":1}"#, "{\"a\":\"\\u00e9\u{1f600}\\\"x\"}"),
        "{\"a\":\"é***\"}"
    );
    assert_eq!(masked(r#"{"path":"a","action":"mask","with":"\""}"#, r#"{"a":"bc"}"#), r#"{"a":"\"\""}"#);
}

#[test]
fn a_text_no_longer_than_what_is_kept_is_masked_whole() {
    let rule = r#"{"path":"a","action":"mask","keep_first":2,"keep_last":2,"with":"+"}"#;
    assert_eq!(masked(rule, r#"{"a":"1234"}"#), r#"{"a":"++++"}"#);
    assert_eq!(masked(rule, r#"{"a":"12345"}"#), r#"{"a":"12+45"}"#);
    assert_eq!(masked(rule, r#"{"a":""}"#), r#"{"a":""}"#);
}

#[test]
fn numbers_and_booleans_become_text_and_null_stays() {
    let rule = r#"{"path":"*","action":"mask"}"#;
    assert_eq!(masked(rule, r#"{"a":-1.5,"b":true,"c":null,"d":"x"}"#), r#"{"a":"****","b":"****","c":null,"d":"*"}"#);
    let rule = r#"{"path":"*","action":"hash"}"#;
    let expected = format!("{{\"a\":\"{}\",\"c\":null,\"d\":\"{}\"}}", hash("12"), hash("é"));
    assert_eq!(masked(rule, r#"{"a":12,"c":null,"d":"\u00e9"}"#), expected);
}

#[test]
fn everything_below_a_path_is_masked() {
    let value = r#"{"user":{"name":"ab","mails":["c",["d",{"e":"f"}]],"x":{}},"list":[{"card":"12"},{"card":3},{}],"other":"o"}"#;
    assert_eq!(
        masked(r#"{"path":"user","action":"mask"},{"path":"list[*].card","action":"mask"}"#, value),
        r#"{"user":{"name":"**","mails":["*",["*",{"e":"*"}]],"x":{}},"list":[{"card":"**"},{"card":"*"},{}],"other":"o"}"#
    );
}

#[test]
fn where_rules_meet_the_one_that_replaces_more_holds() {
    let both = r#"{"path":"a.b","action":"mask"},{"path":"a","action":"replace","with":{"gone":true}}"#;
    assert_eq!(masked(both, r#"{"a":{"b":"x","c":"y"},"d":1}"#), r#"{"a":{"gone":true},"d":1}"#);
    let first = r#"{"path":"a","action":"mask"},{"path":"a","action":"null"}"#;
    assert_eq!(masked(first, r#"{"a":"xy"}"#), r#"{"a":"**"}"#);
    assert_eq!(masked(r#"{"path":"a","action":"null"}"#, r#"{"a":[1,2]}"#), r#"{"a":null}"#);
}

#[test]
fn what_is_no_json_is_rejected_for_it_could_hide_what_is_to_be_masked() {
    let mut mask = mask(r#"{"path":"a","action":"mask"}"#);
    for value in ["", "x", "{\"a\":1,\"a\":2}", "{\"a\":", "\u{feff}{}"] {
        let decision = mask.record(Record::new(value));
        assert_eq!(decision.action, Action::Reject);
        assert!(decision.text.starts_with("value: not JSON: "), "{}", decision.text);
    }
    assert_eq!(mask.record(Record::new(b"{\"a\":\"\xff\"}")).action, Action::Reject);
    assert_eq!(mask.record(Record::new("[".repeat(1 << 20))).action, Action::Reject);
    assert_eq!(mask.record(Record::tombstone().key("k")), Default::default());
    assert_eq!(mask.record(Record::new("{\"a\":\"ok\"}")).text_value(), "{\"a\":\"**\"}");
}

#[test]
fn headers_and_keys_are_bytes() {
    let config = format!(
        r#"{{"hash_key":"{}","record_key":{{"action":"hash"}},"headers":[
            {{"name":"user","action":"mask","keep_first":1}},{{"name":"token","action":"remove"}},
            {{"name":"id","action":"hash"}},{{"name":"fixed","action":"replace","with":"-"}}]}}"#,
        KEY
    );
    let mut mask = Harness::<Mask>::new(&config).unwrap();
    let record = Record::new("no JSON")
        .key("k")
        .header("a", "1")
        .header("user", "anna")
        .header("token", "t")
        .header("id", "7")
        .header("fixed", "x");
    let decision = mask.record(record);
    assert_eq!(decision.value, None);
    assert_eq!(decision.key, Some(Some(hash("k").into_bytes())));
    let headers: Vec<_> = decision
        .headers
        .unwrap()
        .into_iter()
        .map(|(n, v)| (String::from_utf8(n).unwrap(), String::from_utf8(v.unwrap()).unwrap()))
        .collect();
    let expected = [("a", "1"), ("user", "a***"), ("id", &hash("7")), ("fixed", "-")];
    assert_eq!(headers, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    let plain = mask.record(Record::new("no JSON").header("a", "1"));
    assert_eq!((plain.key, plain.headers), (None, None));
    let mut bytes = Harness::<Mask>::new(r#"{"record_key":{"action":"mask","keep_last":1}}"#).unwrap();
    assert_eq!(bytes.record(Record::new("").key([0xff, 0xfe])).key, Some(Some(b"**".to_vec())));
}

#[test]
fn a_wrong_config_says_what_is_wrong() {
    for (config, wanted) in [
        ("null", "config is null"),
        ("{", "not JSON"),
        ("{}", "masks nothing"),
        (r#"{"field":[]}"#, "config has no \"field\""),
        (r#"{"fields":[{"action":"mask"}]}"#, "config.fields[0] lacks \"path\""),
        (r#"{"fields":[{"path":"a"}]}"#, "lacks \"action\""),
        (r#"{"fields":[{"path":"a..b","action":"mask"}]}"#, "config.fields[0]: path"),
        (r#"{"fields":[{"path":"a","action":"remove"}]}"#, "it is one of mask, hash, null, replace"),
        (r#"{"fields":[{"path":"a","action":"hash"}],"hash_key":"short"}"#, "config.hash_key has 5 bytes"),
        (r#"{"fields":[{"path":"a","action":"hash","keep_last":1}]}"#, "is for action mask alone"),
        (r#"{"fields":[{"path":"a","action":"mask","with":"ab"}]}"#, "one character"),
        (r#"{"fields":[{"path":"a","action":"mask","keep_last":-1}]}"#, "a count"),
        (r#"{"fields":[{"path":"a","action":"replace"}]}"#, "lacks \"with\""),
        (r#"{"fields":[{"path":"a","action":"null","with":"x"}]}"#, "mask and replace"),
        (r#"{"headers":{}}"#, "write an array"),
        (r#"{"record_key":"hash"}"#, "config.record_key is a string"),
    ] {
        let error = Harness::<Mask>::new(config).err().unwrap();
        assert!(error.contains(wanted), "{}: {} lacks {}", config, error, wanted);
    }
}
