//! What is read, what is refused and why.

use rustmq_json::{write_string, Document, Kind, Path, MAX_DEPTH, MAX_VALUES};

fn refused(text: impl AsRef<[u8]>) -> String {
    let mut document = Document::default();
    match document.read(text.as_ref()) {
        Ok(value) => panic!("{:?} was read as {}", String::from_utf8_lossy(text.as_ref()), value.raw()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn values_say_what_they_are_and_where_they_lie() {
    let text = r#" {"a" : [1, -2.50e+3 , "x\ty", {"b":null}], "é\u0041" :true,"":false} "#;
    let mut document = Document::default();
    let root = document.read(text.as_bytes()).unwrap();
    assert_eq!(root.raw(), text.trim());
    let kinds: Vec<_> = root.members().map(|(key, value)| (key.string().into_owned(), value.kind())).collect();
    assert_eq!(kinds, [("a".into(), Kind::Array), ("éA".into(), Kind::True), ("".into(), Kind::False)]);
    let items: Vec<_> = root.get("a").unwrap().items().map(|item| item.raw()).collect();
    assert_eq!(items, ["1", "-2.50e+3", r#""x\ty""#, r#"{"b":null}"#]);
    assert_eq!(root.get("a").unwrap().items().nth(2).unwrap().string(), "x\ty");
    assert_eq!(root.get("éA").unwrap().kind(), Kind::True);
    assert!(root.get("b").is_none() && root.items().next().is_none());
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for (text, reason) in [
        ("", "not JSON: an end before a value at byte 0"),
        ("  ", "an end before a value at byte 2"),
        ("{", "an end within an object or array at byte 1"),
        ("[1", "an end within an object or array at byte 2"),
        ("[1 2]", "neither , nor ] at byte 3"),
        ("[1}", "neither , nor ] at byte 2"),
        ("{\"a\":1]", "neither , nor } at byte 6"),
        ("[1,]", "no value at byte 3"),
        ("[,1]", "no value at byte 1"),
        ("{\"a\":1,}", "no key at byte 7"),
        ("{a:1}", "no key at byte 1"),
        ("{\"a\" 1}", "no : behind a key at byte 5"),
        ("{\"a\":}", "no value at byte 5"),
        ("1 1", "something follows the value at byte 2"),
        ("]", "no value at byte 0"),
        ("tru", "no value at byte 0"),
        ("nulll", "something follows the value at byte 4"),
        ("01", "no number as JSON writes them at byte 0"),
        ("-", "no number as JSON writes them at byte 0"),
        ("1.", "no number as JSON writes them at byte 0"),
        ("[1.e5]", "no number as JSON writes them at byte 1"),
        ("1e+", "no number as JSON writes them at byte 0"),
        ("+1", "no value at byte 0"),
        (".5", "no value at byte 0"),
        ("\"a", "a string without an end at byte 0"),
        ("\"a\\\"", "a string without an end at byte 0"),
        ("\"\\x\"", "an escape that JSON has not at byte 1"),
        ("\"\\u12g4\"", "\\u without four hexadecimal digits at byte 1"),
        ("\"\\u12", "\\u without four hexadecimal digits at byte 1"),
        ("\"\\ud800\"", "half of a surrogate pair at byte 1"),
        ("\"\\udc00\\ud800\"", "half of a surrogate pair at byte 1"),
        ("\"a\nb\"", "a control character in a string at byte 2"),
        ("\u{feff}{}", "no value at byte 0"),
    ] {
        let got = refused(text);
        assert!(got.ends_with(reason), "{:?}: {} does not end in {}", text, got, reason);
    }
    assert_eq!(refused(b"[\"\xff\"]"), "not JSON: what is not UTF-8 at byte 2");
}

#[test]
fn a_key_stands_once_in_an_object_however_it_is_written() {
    assert_eq!(refused(r#"{"a":1,"b":2,"a":3}"#), r#"not JSON: key "a" a second time at byte 13"#);
    assert_eq!(refused(r#"{"x":{"a":1,"\u0061":2}}"#), r#"not JSON: key "\u0061" a second time at byte 12"#);
    let many = |last: &str| {
        let keys: Vec<_> = (0..100).map(|i| format!("\"k{}\":{}", i, i)).collect();
        format!("{{{},\"{}\":0}}", keys.join(","), last)
    };
    assert!(refused(many("k7")).contains("key \"k7\" a second time"));
    assert!(Document::default().read(many("k100").as_bytes()).is_ok());
    assert!(Document::default().read(br#"[{"a":1},{"a":1},{"a":{"a":1}}]"#).is_ok());
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(Document::default().read(deep(MAX_DEPTH).as_bytes()).is_ok());
    assert!(refused(deep(MAX_DEPTH + 1)).contains("deeper than 128"));
    assert!(refused("[".repeat(1 << 20)).contains("deeper than 128"));
    assert!(refused("{\"a\":".repeat(1 << 20)).contains("deeper than 128"));
    let many = |n: usize| format!("[{}1]", "1,".repeat(n - 2));
    assert!(Document::default().read(many(MAX_VALUES).as_bytes()).is_ok());
    assert!(refused(many(MAX_VALUES + 1)).contains("more than 262144 values"));
}

#[test]
fn numbers_are_exact() {
    let mut documents = (Document::default(), Document::default());
    let mut compare = |a: &str, b: &str| {
        let a = documents.0.read(a.as_bytes()).unwrap().number().unwrap();
        let b = documents.1.read(b.as_bytes()).unwrap().number().unwrap();
        assert_eq!(b.cmp(&a), a.cmp(&b).reverse());
        a.cmp(&b)
    };
    // Each is smaller than the next; those of one line are the same.
    let ascending: [&[&str]; 13] = [
        &["-1e999999999999999999999"],
        &["-12345678901234567891", "-1234567890123456789.1e1"],
        &["-1", "-1.0", "-10e-1", "-0.1e1"],
        &["-0.5", "-5e-1"],
        &["0", "-0", "0.000", "0e7", "-0.0e-9"],
        &["1e-999999999999999999999"],
        &["0.001", "1e-3", "0.1E-2"],
        &["0.1"],
        &["0.1000000000000000000000001"],
        &["4.999999999999999999999"],
        &["5", "5.0", "50e-1", "0.0005e4"],
        &["9007199254740992"],
        &["9007199254740993", "9.007199254740993e15", "9007199254740993.000"],
    ];
    for (i, low) in ascending.iter().enumerate() {
        for a in *low {
            for b in *low {
                assert!(compare(a, b).is_eq(), "{} {}", a, b);
            }
            for b in ascending[i + 1..].iter().copied().flatten() {
                assert!(compare(a, b).is_lt(), "{} {}", a, b);
            }
        }
    }
}

#[test]
fn integers_counts_and_multiples() {
    let mut documents = (Document::default(), Document::default());
    for (text, integer, count) in [
        ("0", true, Some(0)),
        ("-0.0", true, Some(0)),
        ("1.0", true, Some(1)),
        ("120e-1", true, Some(12)),
        ("1.5", false, None),
        ("1e-1", false, None),
        ("-3", true, None),
        ("18446744073709551615", true, Some(u64::MAX)),
        ("18446744073709551616", true, None),
        ("1e400", true, None),
        ("1e19", true, Some(10_000_000_000_000_000_000)),
    ] {
        let number = documents.0.read(text.as_bytes()).unwrap().number().unwrap();
        assert_eq!((number.is_integer(), number.count()), (integer, count), "{}", text);
    }
    for (number, of, multiple) in [
        ("0", "7", true),
        ("14", "7", true),
        ("15", "7", false),
        ("-14", "7", true),
        ("0.3", "0.1", true),
        ("1.1", "0.1", true),
        ("0.35", "0.1", false),
        ("1e300", "3", false),
        ("3e300", "3", true),
        ("1e300", "0.00025", true),
        ("10", "2.5", true),
        ("7.5", "2.5", true),
        ("123456789012345678901234567890", "10", true),
        ("123456789012345678901234567891", "10", false),
        ("1", "999999999999999999", false),
        ("1e1000000", "1e999999", true),
    ] {
        let a = documents.0.read(number.as_bytes()).unwrap().number().unwrap();
        let b = documents.1.read(of.as_bytes()).unwrap().number().unwrap();
        assert_eq!(a.is_multiple(&b), multiple, "{} of {}", number, of);
    }
}

#[test]
fn equality_looks_at_what_values_are_worth() {
    let mut documents = (Document::default(), Document::default());
    let mut equal = |a: &str, b: &str| {
        let (a, b) = (documents.0.read(a.as_bytes()).unwrap(), documents.1.read(b.as_bytes()).unwrap());
        assert_eq!(a.equals(&b), b.equals(&a));
        a.equals(&b)
    };
    assert!(equal(r#"{"a":[1.0,"\u0041"],"b":{}}"#, r#" {"b":{}, "a":[1,"A"]}"#));
    for (a, b) in [
        ("1", "\"1\""),
        ("0", "false"),
        ("null", "false"),
        ("[1]", "[1,1]"),
        ("[1,2]", "[2,1]"),
        (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
        (r#"{"a":1}"#, r#"{"b":1}"#),
        ("[]", "{}"),
    ] {
        assert!(!equal(a, b), "{} {}", a, b);
    }
}

#[test]
fn paths_lead_to_values() {
    let text = r#"{"user":{"name":"x","mails":["a","b"]},"a.b":{"c d":1},"list":[{"card":1},{"card":2},{}],"$id-1":2}"#;
    let mut document = Document::default();
    let root = document.read(text.as_bytes()).unwrap();
    let all = |path: &str| {
        let mut found = Vec::new();
        Path::parse(path).unwrap().each(root, &mut |value| found.push(value.raw()));
        assert_eq!(Path::parse(path).unwrap().find(root).map(|v| v.raw()), found.first().copied());
        found
    };
    assert_eq!(all("user.name"), ["\"x\""]);
    assert_eq!(all("user.mails[1]"), ["\"b\""]);
    assert_eq!(all("user.mails[*]"), ["\"a\"", "\"b\""]);
    assert_eq!(all("list[*].card"), ["1", "2"]);
    assert_eq!(all("list.*.card"), ["1", "2"]);
    assert_eq!(all("*.name"), ["\"x\""]);
    assert_eq!(all("[\"a.b\"]['c d']"), ["1"]);
    assert_eq!(all("$id-1"), ["2"]);
    for missing in ["user.mails[2]", "user.name.x", "user[0]", "nobody", "list[*].card.x"] {
        assert!(all(missing).is_empty(), "{}", missing);
    }
    for wrong in [
        "",
        ".a",
        "a.",
        "a..b",
        "a[",
        "a[x]",
        "a[-1]",
        "a['b]",
        "a['b'",
        "a b",
        "a[99999999999999999999999]",
        &"a.".repeat(40),
    ] {
        assert!(Path::parse(wrong).is_err(), "{}", wrong);
    }
}

#[test]
fn a_string_is_written_as_it_can_be_read() {
    let text: String = (0..0x300u32).chain([0x2028, 0xfffd, 0x1f600]).filter_map(char::from_u32).collect();
    let mut written = Vec::new();
    write_string(&mut written, &text);
    let mut document = Document::default();
    assert_eq!(document.read(&written).unwrap().string(), text);
}

/// What is cut, doubled or changed anywhere is read or refused, and never panics.
#[test]
fn no_text_panics() {
    let text =
        r#"{"a" : [1, -2.50e+3 , "x\ty\ud83d\ude00é", {"b":null,"c":{}}], "d\u0041" :true,"":false,"e":[[],0.1E-7]}"#;
    let bytes = text.as_bytes();
    let mut document = Document::default();
    let mut state = 88172645463325252u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut read = 0;
    for _ in 0..200_000 {
        let mut changed = bytes.to_vec();
        for _ in 0..1 + random(3) {
            let at = random(changed.len());
            match random(4) {
                0 => changed[at] = b"{}[]\",:\\0-+.eEtfnu \n\x00\xff"[random(22)],
                1 => changed.truncate(at + 1),
                2 => {
                    changed.remove(at);
                    changed.push(b'0');
                }
                _ => changed.insert(at, bytes[random(bytes.len())]),
            }
        }
        if let Ok(root) = document.read(&changed) {
            read += 1;
            assert!(root.equals(&root));
            assert!(root.raw().len() <= changed.len());
        }
    }
    assert!(read > 1000, "{} were read", read);
}
