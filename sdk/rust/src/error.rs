//! What can go wrong, by type: [`Error`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use kafka_protocol::error::ResponseError as Code;

/// What a call of this crate fails with.
///
/// It is cheap to clone, as one failure may be that of many records. [`Error::is_retriable`] says whether
/// the same may succeed later, [`Error::is_fenced`] whether another has taken this one's place.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for does not go together, or is out of its range. The text says what to change.
    #[error("rustmq: {0}")]
    Config(String),

    /// The client, producer or consumer is closed.
    #[error("rustmq: closed")]
    Closed,

    /// One call of poll, stream or run is under way already.
    #[error("rustmq: the consumer is running already")]
    Busy,

    /// Another has taken the transactional id, or the place in the group, that this one had. It has to end.
    #[error("rustmq: fenced: another uses the same {0}")]
    Fenced(String),

    /// No answer came in time. What was asked for may have been done all the same.
    #[error("rustmq: {what}: no answer within {after:?}")]
    Timeout {
        /// What was tried.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },

    /// A record had no result within the delivery time-out. It may have been written all the same.
    #[error("rustmq: a record of {topic} was not delivered within {after:?}: {last}")]
    DeliveryTimeout {
        /// Where the record was to go.
        topic: String,
        /// The delivery time-out.
        after: Duration,
        /// Why the last attempt failed, or that there was none.
        last: String,
    },

    /// A broker could not be reached, or the connection ended.
    #[error("rustmq: broker {broker}: {source}")]
    Network {
        /// Address of the broker, host:port.
        broker: String,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },

    /// A broker does not let this client in.
    #[error(
        "rustmq: broker {broker} refuses to authenticate by {mechanism}: {reason}; check the name, the secret and what the broker allows"
    )]
    Authentication {
        /// Address of the broker, host:port.
        broker: String,
        /// SASL mechanism that was tried.
        mechanism: String,
        /// The broker's words, or what is wrong with its proof.
        reason: String,
    },

    /// A broker answered with an error of the protocol.
    #[error("rustmq: {what}: {code}{}", detail(.message))]
    Broker {
        /// What was asked for.
        what: String,
        /// The protocol's error.
        code: Code,
        /// The broker's own words; often there are none.
        message: Option<String>,
    },

    /// The broker is too old, or lacks what is asked for.
    #[error("rustmq: broker {broker} does not support {what}")]
    Unsupported {
        /// Address of the broker, host:port.
        broker: String,
        /// Request or feature that is missing.
        what: String,
    },

    /// What a broker sent is not what the protocol says. The connection is given up.
    #[error("rustmq: {what} cannot be read: {reason}")]
    Malformed {
        /// What was being read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The buffer of a producer is full, and the call was not to wait.
    #[error("rustmq: {bytes} bytes of records wait for their results: the buffer is full")]
    BufferFull {
        /// Bytes that wait.
        bytes: usize,
    },

    /// A record is larger than this client, or the topic, lets one be.
    #[error(
        "rustmq: a record of {bytes} bytes is larger than the {limit} that are allowed; see Builder::max_record_bytes and the topic's max.message.bytes"
    )]
    TooLarge {
        /// Bytes of the record as it would be sent.
        bytes: usize,
        /// Bytes that are allowed.
        limit: usize,
    },

    /// A conditional append was refused: the partition ended elsewhere.
    #[error(
        "rustmq: {topic}/{partition} does not end at offset {expected}: somebody appended first; read on (the end is {end}), and decide again"
    )]
    Condition {
        /// Topic of the partition.
        topic: String,
        /// Number of the partition.
        partition: i32,
        /// Offset that the record was to get.
        expected: i64,
        /// Where the partition ended a moment later; -1: not known.
        end: i64,
    },

    /// A transaction was aborted, or has ended already, so that nothing more can be done in it.
    #[error("rustmq: the transaction has ended: {0}")]
    TransactionEnded(String),

    /// The circuit breaker is open.
    #[error(
        "rustmq: the circuit breaker is open: the last records could not be delivered; it tries again after its cooldown"
    )]
    BreakerOpen,

    /// The admin API says no.
    #[error("rustmq: the admin API answers {status}: {detail}")]
    Api {
        /// Status of HTTP.
        status: u16,
        /// Its words, for a person.
        detail: String,
    },

    /// A value is not what the codec reads. It is never tried again.
    #[error("rustmq: decode the value: {0}")]
    Decode(String),

    /// Records could not be compressed or decompressed.
    #[error("rustmq: {codec}: {reason}")]
    Codec {
        /// Name of the codec.
        codec: &'static str,
        /// What it says.
        reason: String,
    },

    /// Which record stopped a consumer.
    #[error("rustmq: {topic}/{partition} offset {offset} failed after {attempts} attempts: {reason}")]
    Processing {
        /// Topic of the record.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// How often it was tried.
        attempts: u32,
        /// What the handler said.
        reason: String,
    },
}

fn detail(message: &Option<String>) -> String {
    message.as_ref().map(|m| format!(": {m}")).unwrap_or_default()
}

impl Error {
    /// Whether what failed may succeed if it is tried again unchanged.
    ///
    /// It says nothing of whether the first attempt was done all the same: where that matters use idempotent
    /// or transactional producing, which are the default.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Timeout { .. }
            | Error::DeliveryTimeout { .. }
            | Error::Network { .. }
            | Error::BufferFull { .. }
            | Error::BreakerOpen => true,
            Error::Broker { code, .. } => code.is_retriable() || *code == Code::TransactionAbortable,
            _ => false,
        }
    }

    /// Whether another has taken this one's place: a producer with its transactional id, or a member with its
    /// instance id. Whoever is fenced stays so, and is to end.
    pub fn is_fenced(&self) -> bool {
        match self {
            Error::Fenced(_) => true,
            Error::Broker { code, .. } => {
                matches!(code, Code::ProducerFenced | Code::InvalidProducerEpoch | Code::FencedInstanceId)
            }
            _ => false,
        }
    }

    /// The protocol's error, where a broker answered with one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn network(broker: &str, source: io::Error) -> Self {
        Error::Network { broker: broker.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn broker(what: impl Into<String>, code: Code) -> Self {
        Error::Broker { what: what.into(), code, message: None }
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Malformed { what: what.into(), reason: reason.into() }
    }
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
