use rustmq_etl::testing::{Action, Decision, Harness, Record};

use crate::pattern::Pattern;
use crate::JsonSchema;

fn schema(schema: &str) -> Harness<JsonSchema> {
    Harness::new(&format!("{{\"schema\":{}}}", schema)).unwrap_or_else(|e| panic!("{}: {}", schema, e))
}

fn refused(schema: &str) -> String {
    Harness::<JsonSchema>::new(&format!("{{\"schema\":{}}}", schema))
        .err()
        .unwrap_or_else(|| panic!("{} is taken", schema))
}

/// Values that are valid, and others with what must be said of them.
fn check(text: &str, valid: &[&str], invalid: &[(&str, &str)]) {
    let mut schema = schema(text);
    for value in valid {
        assert_eq!(schema.record(Record::new(value)), Decision::default(), "{} by {}", value, text);
    }
    for (value, reason) in invalid {
        let decision = schema.record(Record::new(value));
        assert_eq!(
            (decision.action, decision.text),
            (Action::Reject, format!("value{}", reason)),
            "{} by {}",
            value,
            text
        );
    }
}

#[test]
fn types_and_constants() {
    check("true", &["1", "null", "{}"], &[]);
    check("false", &[], &[("1", ": nothing is allowed here")]);
    check(
        r#"{"type":"integer"}"#,
        &["1", "-3", "1.0", "2e3"],
        &[
            ("1.5", ": is a number that is not whole; its type must be integer"),
            ("\"1\"", ": is a string; its type must be integer"),
        ],
    );
    check(
        r#"{"type":["integer","null"]}"#,
        &["1", "null"],
        &[("true", ": is a boolean; its type must be null or integer")],
    );
    check(r#"{"type":["integer","number"]}"#, &["1.5"], &[("[]", ": is an array; its type must be number")]);
    check(
        r#"{"enum":[1,"a",{"b":[null]}]}"#,
        &["1.0", "\"\\u0061\"", r#"{"b":[null]}"#],
        &[("2", ": is none of the values that enum allows")],
    );
    check(r#"{"const":{"a":1}}"#, &[r#"{"a":1e0}"#], &[("1", ": must be {\"a\":1}")]);
}

#[test]
fn numbers_and_texts() {
    check(
        r#"{"minimum":-1.5,"maximum":10}"#,
        &["-1.5", "10.0", "\"x\""],
        &[("-1.51", ": must be at least -1.5"), ("10.0000000000000000000001", ": must be at most 10")],
    );
    check(
        r#"{"exclusiveMinimum":0,"exclusiveMaximum":1}"#,
        &["0.1"],
        &[("0", ": must be above 0"), ("1", ": must be below 1")],
    );
    check(r#"{"multipleOf":0.01}"#, &["19.99", "0", "1e300"], &[("0.075", ": must be a multiple of 0.01")]);
    check(
        r#"{"minLength":2,"maxLength":3}"#,
        &["\"é\u{1f600}\"", "\"abc\"", "5"],
        &[
            ("\"\\ud83d\\ude00\"", ": has 1 characters, and must have at least 2"),
            ("\"abcd\"", ": has 4 characters, and may have at most 3"),
        ],
    );
    check(
        r#"{"pattern":"^[a-z]{2}-\\d+$"}"#,
        &["\"ab-12\"", "1"],
        &[("\"ab-\"", ": does not match the pattern \"^[a-z]{2}-\\\\d+$\"")],
    );
}

#[test]
fn what_is_cheap_is_tried_first() {
    let both = [("\"abcd\"", ": has 4 characters, and may have at most 3")];
    check(r#"{"pattern":"^x","maxLength":3}"#, &["\"x\""], &both);
    check(r#"{"uniqueItems":true,"maxItems":2}"#, &["[1,2]"], &[("[1,1,1]", ": has 3 items, and may have at most 2")]);
}

#[test]
fn arrays() {
    check(
        r#"{"items":{"type":"string"},"minItems":1,"maxItems":2}"#,
        &["[\"a\"]", "{}"],
        &[
            ("[]", ": has 0 items, and must have at least 1"),
            ("[\"a\",1]", " at /1: is a number; its type must be string"),
            ("[\"a\",\"b\",\"c\"]", ": has 3 items, and may have at most 2"),
        ],
    );
    check(
        r#"{"prefixItems":[{"type":"string"},{}],"items":false}"#,
        &["[\"a\",1]", "[]"],
        &[("[\"a\",1,2]", " at /2: nothing is allowed here"), ("[1]", " at /0: is a number; its type must be string")],
    );
    check(
        r#"{"uniqueItems":true}"#,
        &["[1,\"1\",true,[1]]"],
        &[("[1,2,1.0]", ": has an item twice"), (r#"[{"a":1,"b":2},{"b":2,"a":1}]"#, ": has an item twice")],
    );
    check(
        r#"{"contains":{"minimum":5},"maxContains":2}"#,
        &["[1,5]"],
        &[
            ("[1]", ": has 0 items that contains asks for, and must have at least 1"),
            ("[5,6,7]", ": has 3 items that contains asks for, and may have at most 2"),
        ],
    );
    check(r#"{"contains":{"minimum":5},"minContains":0}"#, &["[]"], &[]);
    let many = |last: &str| {
        format!(
            "[{},{}]",
            (0..1000).map(|i| format!("[{{\"a\":{},\"b\":\"{}\"}}]", i, i)).collect::<Vec<_>>().join(","),
            last
        )
    };
    check(
        r#"{"uniqueItems":true}"#,
        &[&many("[{\"a\":1000}]")],
        &[(&many("[{\"b\":\"\\u0037\",\"a\":70e-1}]"), ": has an item twice")],
    );
}

#[test]
fn objects() {
    let person = r#"{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0}},"additionalProperties":false}"#;
    check(
        person,
        &[r#"{"name":"x"}"#, r#"{"age":3,"name":"x"}"#],
        &[
            ("{}", ": lacks \"name\""),
            (r#"{"name":"x","age":-1}"#, " at /age: must be at least 0"),
            (r#"{"name":"x","b/c":1}"#, ": has \"b/c\", which is not among its properties"),
        ],
    );
    check(
        r#"{"patternProperties":{"^x-":{"type":"string"}},"additionalProperties":{"type":"number"}}"#,
        &[r#"{"x-a":"1","b":2}"#],
        &[
            (r#"{"x-a":1}"#, " at /x-a: is a number; its type must be string"),
            (r#"{"b":"2"}"#, " at /b: is a string; its type must be number"),
        ],
    );
    check(
        r#"{"additionalProperties":{"type":"number"}}"#,
        &["{}", r#"{"a":1}"#],
        &[(r#"{"a~/b":"2"}"#, " at /a~0~1b: is a string; its type must be number")],
    );
    check(
        r#"{"propertyNames":{"maxLength":2},"minProperties":1,"maxProperties":2}"#,
        &[r#"{"ab":1}"#],
        &[
            ("{}", ": has 0 properties, and must have at least 1"),
            (r#"{"abc":1}"#, " at /abc: has 3 characters, and may have at most 2"),
            (r#"{"a":1,"b":1,"c":1}"#, ": has 3 properties, and may have at most 2"),
        ],
    );
    check(
        r#"{"dependentRequired":{"a":["b"]},"dependentSchemas":{"c":{"required":["d"]}}}"#,
        &["{}", r#"{"a":1,"b":1}"#],
        &[(r#"{"a":1}"#, ": has \"a\", and lacks \"b\""), (r#"{"c":1}"#, ": lacks \"d\"")],
    );
}

#[test]
fn combinations_and_references() {
    check(r#"{"allOf":[{"minimum":1},{"maximum":3}]}"#, &["2"], &[("4", ": must be at most 3")]);
    check(
        r#"{"anyOf":[{"type":"string"},{"minimum":5}]}"#,
        &["\"a\"", "5"],
        &[("4", ": is valid by none of the schemas of anyOf; the last says: must be at least 5")],
    );
    check(
        r#"{"oneOf":[{"minimum":1},{"minimum":5}]}"#,
        &["2"],
        &[
            ("0", ": is valid by none of the schemas of oneOf"),
            ("6", ": is valid by 2 schemas of oneOf, and must be by one"),
        ],
    );
    check(r#"{"not":{"type":"null"}}"#, &["1"], &[("null", ": is valid by the schema of not")]);
    check(
        r#"{"if":{"properties":{"k":{"const":1}},"required":["k"]},"then":{"required":["a"]},"else":{"required":["b"]}}"#,
        &[r#"{"k":1,"a":1}"#, r#"{"b":1}"#],
        &[(r#"{"k":1}"#, ": lacks \"a\""), ("{}", ": lacks \"b\"")],
    );
    let tree = r##"{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"left":{"$ref":"#/$defs/tree"},"right":{"$ref":"#"},"v~1":{"$ref":"#/$defs/a~1b"}}},"a/b":{"type":"number"}}}"##;
    check(
        tree,
        &[r#"{"left":{"right":{}},"v~1":1}"#],
        &[
            (r#"{"left":{"right":{"left":[]}}}"#, " at /left/right/left: is an array; its type must be object"),
            (r#"{"v~1":"x"}"#, " at /v~01: is a string; its type must be number"),
        ],
    );
    let deep = "{\"left\":".repeat(100) + "1" + &"}".repeat(100);
    assert_eq!(schema(tree).record(Record::new(deep)).action, Action::Reject);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (schema, wanted) in [
        ("1", "config.schema: is a number; a schema is an object or a boolean"),
        (r#"{"typ":"string"}"#, "config.schema: typ is not known"),
        (
            r#"{"properties":{"a/b":{"unevaluatedProperties":false}}}"#,
            "config.schema/properties/a~1b: unevaluatedProperties is not supported",
        ),
        (r#"{"$defs":{"unused":{"$dynamicRef":"x"}}}"#, "config.schema/$defs/unused: $dynamicRef is not supported"),
        (
            r#"{"$schema":"http://json-schema.org/draft-07/schema#"}"#,
            "$schema is not https://json-schema.org/draft/2020-12/schema",
        ),
        (r#"{"items":[{}]}"#, "write prefixItems"),
        (r#"{"$ref":"other.json"}"#, "write # or #/"),
        (r##"{"$ref":"#/$defs/none"}"##, "there is nothing at that place"),
        (r##"{"$ref":"#"}"##, "config.schema: refers to itself for the same value, for ever"),
        (r##"{"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}}"##, "for ever"),
        (r#"{"type":"int"}"#, "\"int\" is not a type"),
        (r#"{"minLength":-1}"#, "minLength must be a count"),
        (r#"{"multipleOf":0}"#, "multipleOf must be above 0"),
        (r#"{"multipleOf":1.0000000000000000001}"#, "at most 18 digits"),
        (r#"{"pattern":"(?=a)"}"#, "pattern \"(?=a)\": look-around is not supported"),
        (r#"{"pattern":"a{3000}"}"#, "more than 2000 steps"),
        (r#"{"allOf":[]}"#, "allOf is empty"),
        (r#"{"properties":{"a":{"$id":"x"}}}"#, "$id is only for the whole schema"),
    ] {
        let error = refused(schema);
        assert!(error.contains(wanted), "{}: {} lacks {}", schema, error, wanted);
    }
    let chain: Vec<_> = (0..40).map(|i| format!("\"s{}\":{{\"$ref\":\"#/$defs/s{}\"}}", i, i + 1)).collect();
    let chain = format!("{{\"$ref\":\"#/$defs/s0\",\"$defs\":{{{},\"s40\":{{}}}}}}", chain.join(","));
    assert!(refused(&chain).contains("more than 32 schemas"), "{}", refused(&chain));
    let described = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://example.com/a","title":"t","format":"email","default":1,"$comment":"c"}"#;
    check(described, &["\"no address\""], &[]);
}

#[test]
fn keys_tombstones_and_what_is_no_json() {
    let mut value = schema("{}");
    assert_eq!(value.record(Record::tombstone()), Decision::default());
    for text in ["", "{", "{\"a\":1,\"a\":2}", "\u{feff}1"] {
        let decision = value.record(Record::new(text));
        assert_eq!(decision.action, Action::Reject);
        assert!(decision.text.starts_with("value: not JSON: "), "{}", decision.text);
    }
    let mut key =
        Harness::<JsonSchema>::new(r#"{"schema":{"type":"integer"},"part":"key","tombstones":"reject"}"#).unwrap();
    assert_eq!(key.record(Record::new("no JSON").key("12")), Decision::default());
    assert_eq!(key.record(Record::new("1").key("x")).text, "key: not JSON: no value at byte 0");
    assert_eq!(key.record(Record::new("1")).text, "key: there is none");
    for (config, wanted) in [
        ("{}", "config lacks \"schema\""),
        ("{\"schema\":{},\"part\":\"header\"}", "it is one of value, key"),
        ("{\"schemas\":{}}", "has no \"schemas\""),
    ] {
        let error = Harness::<JsonSchema>::new(config).err().unwrap();
        assert!(error.contains(wanted), "{}: {}", config, error);
    }
}

#[test]
fn patterns_match_as_in_ecmascript() {
    for (pattern, matching, others) in [
        ("", &["", "a"][..], &[][..]),
        ("a", &["a", "bab"], &["", "b"]),
        ("^a$", &["a"], &["aa", "ba", "a\n"]),
        ("a|bc|", &[""], &[]),
        ("^(a|bc)$", &["a", "bc"], &["", "abc", "b"]),
        ("^(?:ab)*$", &["", "abab"], &["aba"]),
        ("^a+?b?$", &["a", "aab"], &["b", "abb"]),
        ("^a{2}$", &["aa"], &["a", "aaa"]),
        ("^a{2,}$", &["aa", "aaaa"], &["a"]),
        ("^a{0,2}$", &["", "aa"], &["aaa"]),
        ("^(a*)*$", &["", "aaa"], &["b"]),
        ("^(a|a)*$", &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"], &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"]),
        ("^[a-c_]$", &["b", "_"], &["d", "-"]),
        ("^[^a-c]$", &["d", "é", "\n"], &["a", ""]),
        ("^[]$", &[], &["", "a"]),
        ("^[^]$", &["a", "\n"], &[""]),
        ("^[a-]$", &["a", "-"], &["b"]),
        ("^[\\d-x]$", &[], &[]),
        ("^[\\W\\d]$", &["-", "1", "é"], &["a"]),
        ("^[^\\W]$", &["a", "1"], &["-"]),
        ("^.$", &["a", "\u{1f600}"], &["\n", "\r", "\u{2028}", ""]),
        ("^\\d\\w\\s$", &["1_ ", "9a\u{a0}", "0Z\u{feff}"], &["aa ", "1- ", "1a_"]),
        ("^\\D\\W\\S$", &["é-x"], &["1-x"]),
        ("\\bfoo\\b", &["a foo b", "foo"], &["food", "_foo"]),
        ("o\\B", &["oo"], &["o", "o o"]),
        ("^\\u00e9\\x41\\u{1f600}\\ud83d\\ude00$", &["éA\u{1f600}\u{1f600}"], &[]),
        ("^\\t\\n\\cA\\0\\/\\.$", &["\t\n\u{1}\0/."], &[]),
        ("^a.*b.*c$", &["axxbyyc"], &["axxbyy"]),
        ("$^", &[""], &["a"]),
    ] {
        let compiled = match Pattern::compile(pattern) {
            Ok(compiled) => compiled,
            Err(_) if matching.is_empty() => continue,
            Err(e) => panic!("{}: {}", pattern, e),
        };
        matching.iter().for_each(|text| assert!(compiled.is_in(text), "{} in {:?}", pattern, text));
        others.iter().for_each(|text| assert!(!compiled.is_in(text), "{} in {:?}", pattern, text));
    }
    for (pattern, wanted) in [
        ("(", "nothing closes"),
        (")", "nothing opens"),
        ("[a", "nothing closes"),
        ("*", "nothing to repeat"),
        ("a**", "nothing to repeat"),
        ("a{2,1}", "no repetition"),
        ("a{x}", "no repetition"),
        ("]", "write \\]"),
        ("\\", "at the end"),
        ("[z-a]", "range"),
        ("[\\d-z]", "range"),
        ("\\1", "back-references"),
        ("\\p{L}", "properties of Unicode"),
        ("(?<n>a)", "named groups"),
        ("(?<!a)", "look-around"),
        ("\\u12", "hexadecimal"),
        ("\\ud800", "no character"),
        ("\\ud800\\u0041", "half of a surrogate pair"),
        ("\\u{110000}", "no character"),
        ("\\q", "\\q is not known"),
        ("^*", "cannot be repeated"),
        ("(a{1000}){1000}", "more than 2000"),
        ("((((((((){2000}){2000}){2000}){2000}){2000}){2000}){2000}|x{2001})", "more than 2000"),
        (&"(".repeat(1000), "deeper than 32"),
    ] {
        let error = Pattern::compile(pattern).err().unwrap_or_else(|| panic!("{} is taken", pattern));
        assert!(error.contains(wanted), "{}: {} lacks {}", pattern, error, wanted);
    }
}
