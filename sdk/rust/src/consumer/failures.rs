//! What is done when a handler fails.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::record::ConsumerRecord;
use crate::codec::{BoxError, DecodeError};
use crate::error::{Error, Result};
use crate::record::Record;

const DEFAULT_PAUSE: Duration = Duration::from_millis(100);
const DEFAULT_MAX_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of an error in a header.
const LARGEST_REASON: usize = 1024;

/// What becomes of a record whose attempts are used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Stop,
    Skip,
    DeadLetter(String),
}

/// Says what is done when a handler fails.
///
/// ```
/// use std::time::Duration;
/// use rustmq::Failures;
/// let failures = Failures::dead_letter("orders-dead").retries(3).pause(Duration::from_millis(50));
/// # let _ = failures;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    pub(crate) then: Then,
    retries: Option<u32>,
    pause: Duration,
    max_pause: Duration,
}

impl Default for Failures {
    fn default() -> Self {
        Failures::stop()
    }
}

impl Failures {
    fn new(then: Then) -> Self {
        Failures { then, retries: Some(0), pause: DEFAULT_PAUSE, max_pause: DEFAULT_MAX_PAUSE }
    }

    /// Running ends with [`Error::Processing`], and the record is read again. This is the default.
    pub fn stop() -> Self {
        Failures::new(Then::Stop)
    }

    /// The record is passed over, and logged.
    pub fn skip() -> Self {
        Failures::new(Then::Skip)
    }

    /// The record goes to a topic, and is passed over. It arrives there with key, value, headers and
    /// timestamp as they were, and with headers `rustmq.dlt.topic`, `.partition`, `.offset`,
    /// `.timestamp` (milliseconds), `.group`, `.attempts` and `.reason`. It is acked there before the
    /// record counts as handled: a crash between leaves two, and never none.
    pub fn dead_letter(topic: impl Into<String>) -> Self {
        Failures::new(Then::DeadLetter(topic.into()))
    }

    /// How often a record is tried again before that; default 0. What waits for it waits: records of
    /// its key, or of its partition where there is one worker.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// A record is tried again without end.
    pub fn retry_forever(mut self) -> Self {
        self.retries = None;
        self
    }

    /// The pause before the first retry, doubled for each further one; default 100 ms.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The longest pause; default 10 s.
    pub fn max_pause(mut self, pause: Duration) -> Self {
        self.max_pause = pause;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        match &self.then {
            Then::DeadLetter(topic) if topic.is_empty() => {
                Err(Error::Config("Failures::dead_letter: name the topic".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// How long to wait before the attempt after `attempt`, counted from 1.
    pub(crate) fn pause_after(&self, attempt: u32) -> Duration {
        let doubled = 2u32.checked_pow(attempt.saturating_sub(1)).and_then(|factor| self.pause.checked_mul(factor));
        doubled.unwrap_or(self.max_pause).min(self.max_pause)
    }

    /// Whether there is another attempt after `attempt` ones.
    pub(crate) fn more(&self, attempt: u32, err: &BoxError) -> bool {
        !is_permanent(err) && self.retries.is_none_or(|retries| attempt <= retries)
    }
}

/// Makes the record that goes to the dead-letter topic.
pub(crate) fn dead_letter(topic: &str, record: &ConsumerRecord, group: &str, attempts: u32, reason: &str) -> Record {
    let mut end = reason.len().min(LARGEST_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut letter = Record::to(topic);
    letter.key.clone_from(&record.key);
    letter.value.clone_from(&record.value);
    letter.headers.clone_from(&record.headers);
    letter.timestamp = Some(record.timestamp);
    for (name, value) in [
        ("topic", record.topic.to_string()),
        ("partition", record.partition.to_string()),
        ("offset", record.offset.to_string()),
        ("timestamp", record.timestamp.to_string()),
        ("group", group.to_owned()),
        ("attempts", attempts.to_string()),
        ("reason", reason[..end].to_owned()),
    ] {
        letter.headers.push((format!("rustmq.dlt.{name}"), Some(Bytes::from(value))));
    }
    letter
}

/// An error that no retry mends.
#[derive(Debug)]
struct Permanent(BoxError);

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Permanent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

/// Marks an error, of a handler, as one that trying again does not mend: the record goes at once
/// where records go whose attempts are used up.
///
/// ```
/// use rustmq::{permanent, BoxError};
/// fn handle(magnitude: f64) -> Result<(), BoxError> {
///     if magnitude < 0.0 {
///         return Err(permanent("a magnitude below 0"));
///     }
///     Ok(())
/// }
/// # assert!(handle(-1.0).is_err());
/// ```
pub fn permanent(err: impl Into<BoxError>) -> BoxError {
    Box::new(Permanent(err.into()))
}

fn is_permanent(err: &BoxError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(err.as_ref());
    while let Some(err) = cause {
        if err.is::<Permanent>() || err.is::<DecodeError>() {
            return true;
        }
        cause = err.source();
    }
    false
}

/// Returned by a handler of batches, says which messages failed, by their place in the batch; the
/// others are handled. Any other error fails all.
#[derive(Debug, Default)]
pub struct BatchError {
    /// Errors by place, counted from 0.
    pub failed: HashMap<usize, BoxError>,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failed.values().next() {
            Some(err) => write!(f, "{} messages of the batch failed, one of them: {err}", self.failed.len()),
            None => f.write_str("no message of the batch failed"),
        }
    }
}

impl std::error::Error for BatchError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let failures = Failures::stop().pause(Duration::from_millis(30)).max_pause(Duration::from_millis(100));
        let pauses: Vec<_> = [1, 2, 3, 4, 5, 1_000].map(|n| failures.pause_after(n).as_millis()).into();
        assert_eq!(pauses, [30, 60, 100, 100, 100, 100]);
        assert_eq!(Failures::stop().pause_after(u32::MAX), DEFAULT_MAX_PAUSE);
    }

    #[test]
    fn what_no_retry_mends_is_not_retried() {
        let failures = Failures::skip().retries(2);
        let plain: BoxError = "broken".into();
        assert_eq!([1, 2, 3].map(|n| failures.more(n, &plain)), [true, true, false]);
        assert!(failures.clone().retry_forever().more(u32::MAX, &plain));
        assert!(!failures.more(1, &permanent("broken")));
        let decode: BoxError = Box::new(DecodeError("broken".into()));
        assert!(!failures.retry_forever().more(1, &decode));
    }

    #[test]
    fn a_dead_letter_is_the_record_and_says_why() {
        let record = ConsumerRecord {
            topic: "t".into(),
            partition: 3,
            offset: 9,
            leader_epoch: 0,
            timestamp: 77,
            key: Some("k".into()),
            value: None,
            headers: vec![("h".to_owned(), None)],
        };
        let letter = dead_letter("dead", &record, "g", 2, &"é".repeat(LARGEST_REASON));
        assert_eq!(
            (letter.topic.as_str(), letter.key, letter.value, letter.timestamp),
            ("dead", record.key.clone(), None, Some(77))
        );
        let headers: Vec<_> = letter.headers.iter().map(|(n, v)| (n.as_str(), v.clone().unwrap_or_default())).collect();
        assert_eq!(headers[0].0, "h");
        for (got, want) in headers[1..7].iter().zip([
            ("topic", "t"),
            ("partition", "3"),
            ("offset", "9"),
            ("timestamp", "77"),
            ("group", "g"),
            ("attempts", "2"),
        ]) {
            assert_eq!((got.0, &got.1[..]), (format!("rustmq.dlt.{}", want.0).as_str(), want.1.as_bytes()));
        }
        assert_eq!((headers[7].0, headers[7].1.len()), ("rustmq.dlt.reason", LARGEST_REASON));
    }
}
