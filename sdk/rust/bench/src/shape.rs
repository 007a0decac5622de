//! What a load writes or reads, and what was measured.

use std::fmt;
use std::time::Duration;

/// Why a load did not come to its end.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of records that may wait for their result: as bench's loads of franz-go have them.
pub const BUFFERED: usize = 50_000 * 1024;

/// Shape of a load; both sides of a pair get the same.
pub struct Shape {
    pub broker: String,
    pub ca: String,
    pub transport: String,
    pub topic: String,
    pub records: usize,
    pub size: usize,
}

impl Shape {
    /// Reads flags of the form `-name value`.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failed> {
        let mut shape = Self {
            broker: String::new(),
            ca: String::new(),
            transport: "tcp".into(),
            topic: String::new(),
            records: 100_000,
            size: 1024,
        };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} has no value"))?;
            match flag.as_str() {
                "-broker" => shape.broker = value,
                "-ca" => shape.ca = value,
                "-transport" => shape.transport = value,
                "-topic" => shape.topic = value,
                "-records" => shape.records = value.parse()?,
                "-size" => shape.size = value.parse()?,
                _ => return Err(format!("flag {flag} is not known").into()),
            }
        }
        if shape.broker.is_empty() {
            return Err("-broker: name one".into());
        }
        Ok(shape)
    }

    /// A value that is half random, half zero: what a codec would find to save is known.
    pub fn value(&self) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut value = vec![0; self.size];
        for b in &mut value[..self.size / 2] {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *b = state as u8;
        }
        value
    }

    /// Records that warm up before the clock runs.
    pub fn warm_up(&self) -> usize {
        (self.records / 20).max(100)
    }
}

/// What a load has measured; displayed as bench reads it.
pub struct Measured {
    pub records: usize,
    pub bytes: usize,
    pub took: Duration,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, bytes, took } = self;
        write!(f, r#"{{"records":{records},"bytes":{bytes},"seconds":{}}}"#, took.as_secs_f64())
    }
}
