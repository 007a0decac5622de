//! Transforms under `cargo test`: batches built in memory pass through the same code, and the
//! same layout, as in a broker.
//!
//! ```
//! use rustmq_etl::testing::{Action, Harness, Record};
//! # use rustmq_etl::{Output, Transform};
//! # struct Upper;
//! # impl Transform for Upper {
//! #     fn init(_: &[u8]) -> Result<Self, String> { Ok(Upper) }
//! #     fn record(&mut self, record: &rustmq_etl::Record<'_>, out: &mut Output<'_>) {
//! #         if let Some(value) = record.value() { out.value(Some(&value.to_ascii_uppercase())) }
//! #     }
//! # }
//! let mut upper = Harness::<Upper>::new("null").unwrap();
//! let decision = upper.record(Record::new("quiet").key("k"));
//! assert_eq!(decision.action, Action::Keep);
//! assert_eq!(decision.value.unwrap().unwrap(), b"QUIET");
//! ```

use std::cell::RefCell;

use crate::{Guest, Level, Transform};

/// Where the memory of a test begins: an address that nothing has by chance.
const BASE: u32 = 0x0001_0000;

/// Names and values of headers; `None`: null.
pub type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// A record of a test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Its offset, in mode `async`; inline its index in the batch.
    pub offset: i64,
    /// `None`: null.
    pub key: Option<Vec<u8>>,
    /// `None`: null.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Headers,
}

impl Record {
    /// A record with a value, and without a key.
    pub fn new(value: impl AsRef<[u8]>) -> Record {
        Record { value: Some(value.as_ref().to_vec()), ..Record::default() }
    }

    /// A record without a value.
    pub fn tombstone() -> Record {
        Record::default()
    }

    /// The record with that key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Record {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// The record with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Record {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// The record at that time, in milliseconds since 1970.
    pub fn at(mut self, timestamp: i64) -> Record {
        self.timestamp = timestamp;
        self
    }
}

/// A batch of a test.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// 1 transactional, 2 dry run, 4 async.
    pub flags: u32,
    /// The records.
    pub records: Vec<Record>,
}

impl Batch {
    /// The batch as a host lays it at `base`.
    fn encode(&self, base: u32) -> Vec<u8> {
        let mut memory = vec![0; 32 + self.records.len() * crate::batch::ENTRY];
        let (topic_at, topic_length) = put(&mut memory, base, self.topic.as_bytes());
        set(&mut memory, 0, &(self.records.len() as u32).to_le_bytes());
        set(&mut memory, 4, &self.flags.to_le_bytes());
        set(&mut memory, 8, &self.timestamp.to_le_bytes());
        set(&mut memory, 16, &self.partition.to_le_bytes());
        set(&mut memory, 20, &topic_length.to_le_bytes());
        set(&mut memory, 24, &topic_at.to_le_bytes());
        for (i, record) in self.records.iter().enumerate() {
            let at = 32 + i * crate::batch::ENTRY;
            set(&mut memory, at, &record.timestamp.to_le_bytes());
            set(&mut memory, at + 8, &record.offset.to_le_bytes());
            nullable(&mut memory, base, at + 16, &record.key);
            nullable(&mut memory, base, at + 24, &record.value);
            let table = (memory.len() + 7) / 8 * 8;
            memory.resize(table + record.headers.len() * 16, 0);
            for (j, (name, value)) in record.headers.iter().enumerate() {
                let (name_at, name_length) = put(&mut memory, base, name);
                set(&mut memory, table + j * 16, &name_at.to_le_bytes());
                set(&mut memory, table + j * 16 + 4, &name_length.to_le_bytes());
                nullable(&mut memory, base, table + j * 16 + 8, value);
            }
            set(&mut memory, at + 32, &(base + table as u32).to_le_bytes());
            set(&mut memory, at + 36, &(record.headers.len() as u32).to_le_bytes());
        }
        memory
    }
}

fn set(memory: &mut [u8], at: usize, bytes: &[u8]) {
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put(memory: &mut Vec<u8>, base: u32, bytes: &[u8]) -> (u32, u32) {
    let address = base + memory.len() as u32;
    memory.extend_from_slice(bytes);
    (address, bytes.len() as u32)
}

fn nullable(memory: &mut Vec<u8>, base: u32, at: usize, bytes: &Option<Vec<u8>>) {
    let (address, length) = match bytes {
        None => (0, u32::MAX),
        Some(bytes) => put(memory, base, bytes),
    };
    set(memory, at, &address.to_le_bytes());
    set(memory, at + 4, &length.to_le_bytes());
}

/// What is done with a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    #[default]
    Keep,
    /// It is dropped.
    Drop,
    /// It goes to the topic that `text` names.
    Route,
    /// It is rejected, for the reason in `text`.
    Reject,
}

/// What became of a record. The outer `None` of a part: it is as it was; the inner: null.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What is done.
    pub action: Action,
    /// The key, if it was replaced.
    pub key: Option<Option<Vec<u8>>>,
    /// The value, if it was replaced.
    pub value: Option<Option<Vec<u8>>>,
    /// The headers, if they were replaced.
    pub headers: Option<Headers>,
    /// The topic of a route, the reason of a reject.
    pub text: String,
}

impl Decision {
    /// The value that replaces the record's, as text; panics if none does.
    pub fn text_value(&self) -> &str {
        let value = self.value.as_ref().expect("the value was not replaced");
        let value = value.as_ref().expect("the value was replaced by null");
        std::str::from_utf8(value).expect("the value is not text")
    }
}

/// A transform outside of a broker.
pub struct Harness<T> {
    guest: Guest<T>,
}

impl<T: Transform> Harness<T> {
    /// The transform, initialised with that configuration; its error if it refuses it.
    pub fn new(config: &str) -> Result<Self, String> {
        let mut guest = Guest::new();
        fill(&mut guest, config.as_bytes());
        match guest.init(config.len()) {
            "" => Ok(Harness { guest }),
            error => Err(error.into()),
        }
    }

    /// What becomes of the records of a batch.
    pub fn batch(&mut self, batch: &Batch) -> Vec<Decision> {
        let memory = batch.encode(BASE);
        fill(&mut self.guest, &memory);
        self.guest.transform(memory.len(), BASE);
        if self.guest.decided() == (0, 0) {
            return vec![Decision::default(); batch.records.len()];
        }
        let image = self.guest.image(BASE);
        (0..batch.records.len()).map(|i| decode(&image, BASE, i)).collect()
    }

    /// What becomes of a record that is alone in its batch, in partition 3 of topic `topic`.
    pub fn record(&mut self, record: Record) -> Decision {
        let batch = Batch {
            topic: "topic".into(),
            partition: 3,
            timestamp: record.timestamp,
            records: vec![record],
            ..Batch::default()
        };
        self.batch(&batch).remove(0)
    }
}

fn fill<T: Transform>(guest: &mut Guest<T>, bytes: &[u8]) {
    let buffer = guest.buffer(bytes.len() as u32);
    assert!(!buffer.is_null(), "no buffer of {} bytes", bytes.len());
    // SAFETY: the buffer has at least that many bytes, and is nobody else's until the next call.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer, bytes.len()) }
}

/// Reads decision `index` of an image that lies at `base`.
fn decode(image: &[u8], base: u32, index: usize) -> Decision {
    let number = |at: usize| u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]]);
    let bytes = |at: usize| {
        let (address, length) = (number(at), number(at + 4) as i32);
        if length < 0 {
            return None;
        }
        Some(image[(address - base) as usize..][..length as usize].to_vec())
    };
    let at = index * 40;
    let replaced = number(at + 4);
    let action = match number(at) {
        0 => Action::Keep,
        1 => Action::Drop,
        2 => Action::Route,
        3 => Action::Reject,
        other => panic!("there is no action {}", other),
    };
    assert!(replaced == 0 || matches!(action, Action::Keep | Action::Route), "{:?} replaces nothing", action);
    let part = |bit: u32, offset: usize| if replaced & bit != 0 { Some(bytes(at + offset)) } else { None };
    let headers = (number(at + 24) - if replaced & 4 != 0 { base } else { number(at + 24) }) as usize;
    Decision {
        action,
        key: part(1, 8),
        value: part(2, 16),
        headers: if replaced & 4 == 0 {
            None
        } else {
            let count = number(at + 28) as usize;
            Some((0..count).map(|i| headers + i * 16).map(|h| (bytes(h).unwrap(), bytes(h + 8))).collect())
        },
        text: match action {
            Action::Route | Action::Reject => String::from_utf8(bytes(at + 32).unwrap()).unwrap(),
            _ => String::new(),
        },
    }
}

std::thread_local! {
    static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static METRICS: RefCell<Vec<(String, f64)>> = const { RefCell::new(Vec::new()) };
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn logged(level: Level, line: &str) {
    LOG.with(|log| log.borrow_mut().push((level, line.into())));
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn counted(name: &str, delta: f64) {
    METRICS.with(|metrics| metrics.borrow_mut().push((name.into(), delta)));
}

/// What was logged by this thread since it was last asked.
pub fn take_log() -> Vec<(Level, String)> {
    LOG.with(|log| std::mem::take(&mut *log.borrow_mut()))
}

/// What was counted by this thread since it was last asked.
pub fn take_metrics() -> Vec<(String, f64)> {
    METRICS.with(|metrics| std::mem::take(&mut *metrics.borrow_mut()))
}
