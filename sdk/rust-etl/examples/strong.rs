//! Earthquakes as lines of JSON: strong ones go to another topic, with a header that says so; what
//! has no magnitude is rejected. A real module parses JSON; this one shows the kit alone.
//!
//! Config: `{"at_least":5}`, the magnitude from which an earthquake is strong (default 5).

use rustmq_etl::{log, metric_add, Batch, Header, Level, Output, Record, Transform};

struct Strong {
    at_least: f64,
}

/// The number behind `"name":` in a line of JSON.
fn number(text: &str, name: &str) -> Option<f64> {
    let quoted = format!("\"{}\":", name);
    let rest = &text[text.find(&quoted)? + quoted.len()..];
    let end = rest.find([',', '}', ' '])?;
    rest[..end].parse().ok()
}

impl Transform for Strong {
    fn init(config: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(config).map_err(|_| "the config is not text: write JSON")?;
        let at_least = match text.trim() {
            "" | "null" => 5.0,
            text => number(text, "at_least").ok_or("config: write {\"at_least\":5}")?,
        };
        log(Level::Info, &format!("strong: from {} on", at_least));
        Ok(Strong { at_least })
    }

    fn batch(&mut self, batch: &Batch<'_>) {
        metric_add("records", batch.len() as f64);
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) {
        let text = record.value().and_then(|value| std::str::from_utf8(value).ok());
        let magnitude = match text.and_then(|text| number(text, "mag")) {
            Some(magnitude) => magnitude,
            None => return out.reject("there is no magnitude: \"mag\" must be a number"),
        };
        if magnitude >= self.at_least {
            out.route("quakes.strong");
            out.headers(record.headers().chain([Header { name: b"strong", value: Some(b"yes") }]));
        }
    }
}

rustmq_etl::export!(Strong);

#[cfg(test)]
mod tests {
    use super::*;
    use rustmq_etl::testing::{self, Action, Harness};

    #[test]
    fn strong_ones_are_routed_and_the_others_stay() {
        let mut strong = Harness::<Strong>::new("{\"at_least\":5}").unwrap();
        let decision = strong.record(testing::Record::new("{\"mag\":5.3,\"net\":\"us\"}").header("a", "b"));
        assert_eq!((decision.action, decision.text.as_str()), (Action::Route, "quakes.strong"));
        let headers = decision.headers.unwrap();
        assert_eq!(headers[0], (b"a".to_vec(), Some(b"b".to_vec())));
        assert_eq!(headers[1], (b"strong".to_vec(), Some(b"yes".to_vec())));
        assert_eq!(strong.record(testing::Record::new("{\"mag\":4.9}")), testing::Decision::default());
    }

    #[test]
    fn what_has_no_magnitude_is_rejected() {
        let mut strong = Harness::<Strong>::new("null").unwrap();
        for value in ["", "{}", "{\"mag\":\"big\"}"] {
            assert_eq!(strong.record(testing::Record::new(value)).action, Action::Reject);
        }
        assert_eq!(strong.record(testing::Record::tombstone()).action, Action::Reject);
    }

    #[test]
    fn a_wrong_config_says_what_to_write() {
        let error = Harness::<Strong>::new("{}").err().unwrap();
        assert!(error.contains("at_least"), "{}", error);
    }
}
