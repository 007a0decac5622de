use rustmq_etl::testing::{Action, Decision, Harness, Record};

use crate::Project;

const QUAKE: &str = r#"{"id":"us2000crkq","mag":5.3,"place":"50km NNW of Sangiang, Indonesia","net":"us","felt":null,"geo":{"lat":-7.8628,"tags":["a","b"]},"ok":true,"odd name":1}"#;

fn project(config: &str) -> Harness<Project> {
    Harness::new(config).unwrap_or_else(|e| panic!("{}: {}", config, e))
}

fn quote(text: &str) -> String {
    let mut out = Vec::new();
    rustmq_json::write_string(&mut out, text);
    String::from_utf8(out).unwrap()
}

fn record() -> Record {
    let mut record = Record::new(QUAKE).key("us").header("trace", "t-1").header("trace", "t-2").at(1517363431800);
    record.headers.push((b"empty".to_vec(), None));
    record.offset = 12;
    record
}

/// What an expression is worth for the quake, as JSON; "missing" if it is not there.
fn value_of(expression: &str) -> String {
    let config = format!(r#"{{"rules":[{{"select":{{"v":{}}}}}]}}"#, quote(expression));
    let decision = project(&config).record(record());
    let text = decision.text_value();
    match text.strip_prefix("{\"v\":") {
        Some(value) => value.strip_suffix('}').unwrap().to_owned(),
        None => "missing".into(),
    }
}

#[test]
fn expressions_are_worth_what_they_say() {
    for (expression, value) in [
        ("mag >= 5", "true"),
        ("mag >= 5.3000", "true"),
        ("mag > 53e-1", "false"),
        ("mag<6 and mag>5", "true"),
        ("mag < 5 or net == 'us' and felt == null", "true"),
        ("(mag < 5 or net == 'us') and felt != null", "false"),
        ("not mag < 5", "true"),
        ("not not ok", "true"),
        ("not(ok)", "false"),
        ("ok", "true"),
        ("net in ('ak', \"us\")", "true"),
        ("net not in ('ak','us')", "false"),
        ("mag in (1, 5.30)", "true"),
        ("mag == '5.3'", "false"),
        ("mag < '6'", "false"),
        ("mag != '5.3'", "true"),
        ("nobody", "missing"),
        ("nobody == null", "true"),
        ("nobody < 5", "false"),
        ("not (nobody < 5)", "true"),
        ("exists(nobody)", "false"),
        ("exists(felt)", "true"),
        ("exists(header('trace'))", "true"),
        ("exists(header('none'))", "false"),
        ("geo.lat", "-7.8628"),
        ("geo.lat < -7", "true"),
        ("geo.tags[1]", "\"b\""),
        ("geo.tags[2]", "missing"),
        ("geo.tags", "[\"a\",\"b\"]"),
        ("contains(geo.tags, 'b')", "true"),
        ("contains(geo.tags, 'c')", "false"),
        ("length(geo.tags)", "2"),
        ("length(geo)", "2"),
        ("length('é€')", "2"),
        ("length(mag)", "null"),
        ("[\"odd name\"] == 1", "true"),
        ("['odd name']", "1"),
        ("upper(net)", "\"US\""),
        ("upper('straße é')", "\"STRASSE É\""),
        ("lower('ÀB')", "\"àb\""),
        ("upper(mag)", "5.3"),
        ("starts_with(place, '50km')", "true"),
        ("ends_with(place, 'Indonesia')", "true"),
        ("contains(place, 'NNW')", "true"),
        ("contains(mag, '5')", "false"),
        ("coalesce(nobody, felt, net)", "\"us\""),
        ("coalesce(nobody, felt)", "null"),
        ("key()", "\"us\""),
        ("key() == net", "true"),
        ("header('trace')", "\"t-2\""),
        ("header('empty')", "null"),
        ("topic()", "\"topic\""),
        ("partition()", "3"),
        ("offset() == 12", "true"),
        ("timestamp() >= 1517363431800", "true"),
        ("'it\\'s \"x\"'", "\"it's \\\"x\\\"\""),
        ("-1.50", "-1.50"),
        ("true == ok", "true"),
        ("mag >= 5 == true", ""),
    ] {
        if value.is_empty() {
            assert!(
                Harness::<Project>::new(&format!(r#"{{"rules":[{{"when":{}}}]}}"#, quote(expression))).is_err(),
                "{}",
                expression
            );
            continue;
        }
        assert_eq!(value_of(expression), value, "{}", expression);
    }
}

#[test]
fn a_wrong_expression_says_where_and_what() {
    for (expression, wanted) in [
        ("", "ends where a value should stand"),
        ("mag >=", "ends where a value should stand"),
        ("mag = 5", "write == to compare"),
        ("mag >= 5 net", "an operator (==, !=, <, <=, >, >=, in, and, or) should stand at character 10"),
        ("(mag", "ends where ) should stand"),
        ("mag in 5", "( and a list should stand"),
        ("mag in (5", "a comma or )"),
        ("mag not 5", "in, behind not,"),
        ("and", "[\"and\"]"),
        ("'x", "without its closing '"),
        ("01", "a number as JSON writes them"),
        ("up(net)", "there is no function up()"),
        ("upper()", "takes 1 argument"),
        ("upper(net, net)", "takes 1 argument"),
        ("key(1)", "takes nothing"),
        ("header(net)", "the name of a header"),
        ("exists(1)", "takes a field or header"),
        ("items[*].x == 1", "* is not for expressions"),
        ("geo. == 1", "a value should stand"),
        (&"(".repeat(100), "deeper than 48"),
        (&"not ".repeat(100), "deeper than 48"),
        (&"upper(".repeat(100), "deeper than 48"),
    ] {
        let config = format!(r#"{{"rules":[{{"when":{}}}]}}"#, quote(expression));
        let error = Harness::<Project>::new(&config).err().unwrap_or_else(|| panic!("{} is taken", expression));
        assert!(
            error.starts_with("config.rules[0].when: ") && error.contains(wanted),
            "{}: {} lacks {}",
            expression,
            error,
            wanted
        );
    }
}

#[test]
fn the_first_rule_that_is_true_holds() {
    let config = r#"{"rules":[
        {"when":"mag < 2","action":"drop"},
        {"when":"mag >= 5","action":"route","topic":"quakes.strong","set":{"place":"upper(place)"},"key":"id"},
        {"when":"mag >= 4"},
        {"when":"mag == null","action":"reject","reason":"no magnitude"}],
        "otherwise":"reject"}"#;
    let mut project = project(config);
    assert_eq!(project.record(Record::new("{\"mag\":1}")).action, Action::Drop);
    let strong = project.record(record());
    assert_eq!((strong.action, strong.text.as_str()), (Action::Route, "quakes.strong"));
    assert_eq!(
        strong.text_value(),
        QUAKE.replace("50km NNW of Sangiang, Indonesia", "50KM NNW OF SANGIANG, INDONESIA")
    );
    assert_eq!(strong.key, Some(Some(b"us2000crkq".to_vec())));
    assert_eq!(project.record(Record::new("{\"mag\":4}")), Decision::default());
    assert_eq!(project.record(Record::new("{}")).text, "no magnitude");
    let other = project.record(Record::new("{\"mag\":3}"));
    assert_eq!((other.action, other.text.as_str()), (Action::Reject, "no rule is for this record"));
}

#[test]
fn malformed_values_are_rejected_where_a_rule_reads_them() {
    let mut reads = project(r#"{"rules":[{"when":"mag > 1","action":"drop"}]}"#);
    for value in [&b""[..], b"{", b"\xff", b"{\"a\":1,\"a\":1}", b"nothing"] {
        let decision = reads.record(Record::new(value));
        assert_eq!(decision.action, Action::Reject);
        assert!(decision.text.starts_with("value: not JSON: "), "{}", decision.text);
    }
    assert_eq!(reads.record(Record::new("[1]")), Decision::default());
    assert_eq!(reads.record(Record::tombstone()), Decision::default());
    let mut does_not = project(r#"{"rules":[{"when":"header('x') == 'y' or key() == null","action":"drop"}]}"#);
    assert_eq!(does_not.record(Record::new("{").key("k")), Decision::default());
    assert_eq!(does_not.record(Record::new("{").key("k").header("x", "y")).action, Action::Drop);
    assert_eq!(does_not.record(Record::tombstone()).action, Action::Drop);
}

#[test]
fn fields_are_set_where_they_are_and_added_where_not() {
    let set =
        |set: &str, value: &str| project(&format!(r#"{{"rules":[{{"set":{}}}]}}"#, set)).record(Record::new(value));
    let value = "{ \"a\" : {\"b\":1.50} ,\n\"c\":[{}] }";
    assert_eq!(
        set(r#"{"a.b":"'x'","d":"a.b","e":"true"}"#, value).text_value(),
        "{ \"a\" : {\"b\":\"x\"} ,\n\"c\":[{}] ,\"d\":1.50,\"e\":true}"
    );
    assert_eq!(
        set(r#"{"c[0].n":"null","c[0].m":"1"}"#, value).text_value(),
        "{ \"a\" : {\"b\":1.50} ,\n\"c\":[{\"n\":null,\"m\":1}] }"
    );
    assert_eq!(set(r#"{"a":"c","c":"a"}"#, value).text_value(), "{ \"a\" : [{}] ,\n\"c\":{\"b\":1.50} }");
    assert_eq!(set(r#"{"x":"y"}"#, value), Decision::default());
    assert_eq!(set(r#"{"x":"1"}"#, "{}").text_value(), "{\"x\":1}");
    let nowhere = set(r#"{"x.y":"1"}"#, value);
    assert_eq!(nowhere.action, Action::Reject);
    assert!(nowhere.text.contains("no object"), "{}", nowhere.text);
    assert_eq!(set(r#"{"x":"1"}"#, "[]").action, Action::Reject);
}

#[test]
fn an_object_is_made_of_what_is_selected() {
    let config = r#"{"rules":[{"select":{"id":"id","Name \"1\"":"upper(net)","lat":"geo.lat","geo":"geo","gone":"nobody","when":"timestamp()"},"key":"felt"}]}"#;
    let decision = project(config).record(record());
    assert_eq!(
        decision.text_value(),
        r#"{"id":"us2000crkq","Name \"1\"":"US","lat":-7.8628,"geo":{"lat":-7.8628,"tags":["a","b"]},"when":1517363431800}"#
    );
    assert_eq!(decision.key, Some(None));
    assert_eq!(project(r#"{"rules":[{"select":{}}]}"#).record(record()).text_value(), "{}");
}

#[test]
fn a_wrong_config_says_what_is_wrong() {
    for (config, wanted) in [
        ("null", "config is null"),
        ("{}", "config.rules is empty"),
        (r#"{"rules":[{"action":"route"}]}"#, "config.rules[0] lacks \"topic\""),
        (r#"{"rules":[{"topic":"t"}]}"#, "config.rules[0].topic is for action route alone"),
        (r#"{"rules":[{"reason":"t"}]}"#, "reason is for action reject alone"),
        (r#"{"rules":[{"action":"drop","set":{"a":"1"}}]}"#, "is for what is kept or routed"),
        (r#"{"rules":[{"select":{"a":"1"},"set":{"a":"1"}}]}"#, "select and set"),
        (r#"{"rules":[{"set":{"a":"1","a.b":"2"}}]}"#, "lies in another field"),
        (r#"{"rules":[{"set":{"a[*]":"1"}}]}"#, "must name one field"),
        (r#"{"rules":[{"set":{"a":1}}]}"#, "write an expression in a string"),
        (r#"{"rules":[{"select":{"a":"=="}}]}"#, "config.rules[0].select[\"a\"]: "),
        (r#"{"rules":[{"when":"true"}],"otherwise":"route"}"#, "it is one of keep, drop, reject"),
        (r#"{"rules":[{"then":"drop"}]}"#, "has no \"then\""),
    ] {
        let error = Harness::<Project>::new(config).err().unwrap_or_else(|| panic!("{} is taken", config));
        assert!(error.contains(wanted), "{}: {} lacks {}", config, error, wanted);
    }
}
