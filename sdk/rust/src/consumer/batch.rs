//! Record batches (v2) as a broker sends them.
//!
//! ```text
//! offset size field               big-endian
//! 0      8    base offset
//! 8      4    length              of all that follows
//! 12     4    partition leader epoch
//! 16     1    magic               2
//! 17     4    crc32c              of all that follows
//! 21     2    attributes          bits 0-2 codec, 3 log append time, 4 transactional, 5 control
//! 23     4    last offset delta
//! 27     8    base timestamp
//! 35     8    max timestamp
//! 43     8    producer id
//! 51     2    producer epoch
//! 53     4    base sequence
//! 57     4    records
//! 61          the records, compressed
//! ```
//!
//! Every length is checked before it is used, and a CRC before what it covers: what a broker
//! sends may be an error, and never a panic.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::decompress::{Codec, decompress};
use super::record::ConsumerRecord;

const LENGTH_END: usize = 12;
const CRC_AT: usize = 17;
const CRC_END: usize = 21;
const HEADER: usize = 61;
const MAGIC: i8 = 2;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
/// The least that a record takes: its length and six fields of a byte.
const SMALLEST_RECORD: usize = 7;
/// The least that a header of a record takes.
const SMALLEST_HEADER: usize = 2;
/// A control record's type that ends a transaction in vain.
const ABORT: i16 = 0;

/// Says that what a broker sent is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Corruption {
    /// The base offset of the batch.
    pub(crate) offset: i64,
    pub(crate) reason: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the batch at offset {} is damaged: {}", self.offset, self.reason)
    }
}

/// What is to be read of the records of one partition of an answer.
pub(crate) struct Wanted<'a> {
    pub(crate) topic: &'a Arc<str>,
    pub(crate) partition: i32,
    /// Records before it are passed over: an answer begins with the batch that holds it.
    pub(crate) from: i64,
    /// Producer ids and first offsets of aborted transactions, by first offset; `None`: all that
    /// is there is wanted.
    pub(crate) aborted: Option<Vec<(i64, i64)>>,
    /// Bytes that a batch may decompress to.
    pub(crate) limit: usize,
}

/// The records of one partition of an answer.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) records: Vec<ConsumerRecord>,
    /// Where to read on.
    pub(crate) next: i64,
    /// The leader epoch of the last batch that was read; -1: none was.
    pub(crate) epoch: i32,
}

/// Reads the batches of an answer. Where one is damaged those before it are returned, and the error
/// comes when reading begins with it.
pub(crate) fn read(mut data: Bytes, wanted: Wanted<'_>) -> Result<Records, Corruption> {
    let mut aborts = Aborts::new(wanted.aborted.as_deref());
    let mut out = Records { records: Vec::new(), next: wanted.from, epoch: -1 };
    loop {
        match Batch::split(&mut data).and_then(|batch| match batch {
            Some(batch) => batch.read(&wanted, &mut aborts, &mut out).map(|()| true),
            None => Ok(false),
        }) {
            Ok(true) => {}
            Ok(false) => return Ok(out),
            Err(corruption) if out.next == wanted.from => return Err(corruption),
            Err(_) => return Ok(out),
        }
    }
}

/// The transactions that were aborted, of those that are open where reading is.
struct Aborts {
    wanted: bool,
    ahead: VecDeque<(i64, i64)>,
    open: HashSet<i64>,
}

impl Aborts {
    fn new(aborted: Option<&[(i64, i64)]>) -> Aborts {
        let mut ahead: Vec<_> = aborted.unwrap_or_default().to_vec();
        ahead.sort_by_key(|&(_, first)| first);
        Aborts { wanted: aborted.is_some(), ahead: ahead.into(), open: HashSet::new() }
    }

    /// Reports whether a batch is of an aborted transaction.
    fn covers(&mut self, batch: &Batch) -> bool {
        while self.ahead.front().is_some_and(|&(_, first)| first <= batch.last_offset()) {
            self.open.extend(self.ahead.pop_front().map(|(producer, _)| producer));
        }
        self.wanted && batch.attributes & TRANSACTIONAL != 0 && self.open.contains(&batch.producer_id)
    }

    fn ended(&mut self, producer: i64) {
        self.open.remove(&producer);
    }
}

struct Batch {
    base_offset: i64,
    leader_epoch: i32,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    count: i32,
    records: Bytes,
}

impl Batch {
    /// Takes the first batch off the data; `None`: there is none, or it is cut off.
    fn split(data: &mut Bytes) -> Result<Option<Batch>, Corruption> {
        if data.len() < LENGTH_END {
            return Ok(None);
        }
        let base_offset = i64::from_be_bytes(field(data, 0));
        let corrupt = |reason: &str| Corruption { offset: base_offset, reason: reason.to_owned() };
        let length = i32::from_be_bytes(field(data, 8));
        let length = usize::try_from(length).map_err(|_| corrupt("its length is negative"))?;
        if length < HEADER - LENGTH_END {
            return Err(corrupt("its length is less than its header's"));
        }
        if data.len() - LENGTH_END < length {
            return Ok(None);
        }
        let batch = data.split_to(LENGTH_END + length);
        if i8::from_be_bytes(field(&batch, 16)) != MAGIC {
            return Err(corrupt("it is of a format before or after v2, which Kafka has written since 0.11"));
        }
        if crc32c::crc32c(&batch[CRC_END..]) != u32::from_be_bytes(field(&batch, CRC_AT)) {
            return Err(corrupt("its checksum is another"));
        }
        let parsed = Batch {
            base_offset,
            leader_epoch: i32::from_be_bytes(field(&batch, 12)),
            attributes: i16::from_be_bytes(field(&batch, 21)),
            last_offset_delta: i32::from_be_bytes(field(&batch, 23)),
            base_timestamp: i64::from_be_bytes(field(&batch, 27)),
            max_timestamp: i64::from_be_bytes(field(&batch, 35)),
            producer_id: i64::from_be_bytes(field(&batch, 43)),
            count: i32::from_be_bytes(field(&batch, 57)),
            records: batch.slice(HEADER..),
        };
        if base_offset < 0
            || parsed.last_offset_delta < 0
            || base_offset.checked_add(i64::from(parsed.last_offset_delta) + 1).is_none()
        {
            return Err(corrupt("its offsets are not in range"));
        }
        if parsed.count < 0 {
            return Err(corrupt("its number of records is negative"));
        }
        Ok(Some(parsed))
    }

    fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    fn read(&self, wanted: &Wanted<'_>, aborts: &mut Aborts, out: &mut Records) -> Result<(), Corruption> {
        let corrupt = |reason: String| Corruption { offset: self.base_offset, reason };
        let aborted = aborts.covers(self);
        if self.attributes & CONTROL != 0 {
            if self.control_type(wanted.limit).map_err(corrupt)? == Some(ABORT) {
                aborts.ended(self.producer_id);
            }
        } else if !aborted && self.last_offset() >= wanted.from {
            let before = out.records.len();
            if let Err(reason) = self.records(wanted, &mut out.records) {
                out.records.truncate(before);
                return Err(corrupt(reason));
            }
        }
        out.next = out.next.max(self.last_offset() + 1);
        out.epoch = self.leader_epoch;
        Ok(())
    }

    fn records(&self, wanted: &Wanted<'_>, out: &mut Vec<ConsumerRecord>) -> Result<(), String> {
        let data = decompress(Codec::of_attributes(self.attributes)?, &self.records, wanted.limit)?;
        let count = self.count as usize; // not negative: see split
        if count > data.len() / SMALLEST_RECORD {
            return Err(format!("{count} records do not go into {} bytes", data.len()));
        }
        out.reserve(count);
        let mut reader = Reader { data: &data, at: 0, end: data.len() };
        for _ in 0..count {
            let record = reader.record(self, wanted)?;
            if record.offset >= wanted.from {
                out.push(record);
            }
        }
        match reader.at == reader.end {
            true => Ok(()),
            false => Err(format!("{} bytes are behind its last record", reader.end - reader.at)),
        }
    }

    /// The type of a control batch, which has one record; `None` where it is empty.
    fn control_type(&self, limit: usize) -> Result<Option<i16>, String> {
        if self.count == 0 {
            return Ok(None); // a compacted one
        }
        let nowhere: Arc<str> = Arc::from("");
        let mut records = Vec::new();
        self.records(&Wanted { topic: &nowhere, partition: 0, from: i64::MIN, aborted: None, limit }, &mut records)?;
        // Its key is a version and the type.
        let key = records.first().and_then(|r| r.key.clone()).unwrap_or_default();
        match key.get(2..4) {
            Some(kind) => Ok(Some(i16::from_be_bytes([kind[0], kind[1]]))),
            None => Err("a control record has no type".to_owned()),
        }
    }
}

/// A field of a length that was checked before.
fn field<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&data[at..at + N]);
    out
}

/// Reads varints and what they measure, between `at` and `end`.
struct Reader<'a> {
    data: &'a Bytes,
    at: usize,
    end: usize,
}

impl Reader<'_> {
    fn record(&mut self, batch: &Batch, wanted: &Wanted<'_>) -> Result<ConsumerRecord, String> {
        let length = usize::try_from(self.varint()?).map_err(|_| "a record's length is negative")?;
        if length > self.end - self.at {
            return Err("a record is cut off".to_owned());
        }
        let whole = std::mem::replace(&mut self.end, self.at + length);
        self.byte()?; // attributes, of which none is used
        let timestamp = self.varint()?;
        let offset = self.varint()?;
        if offset < 0 || offset > i64::from(batch.last_offset_delta) {
            return Err("a record's offset is outside its batch".to_owned());
        }
        let key = self.bytes()?;
        let value = self.bytes()?;
        let count = usize::try_from(self.varint()?).map_err(|_| "a record's number of headers is negative")?;
        if count > (self.end - self.at) / SMALLEST_HEADER {
            return Err("a record has fewer headers than it claims".to_owned());
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.bytes()?.ok_or("a header has no name")?;
            let name = String::from_utf8_lossy(&name).into_owned();
            headers.push((name, self.bytes()?));
        }
        if self.at != self.end {
            return Err("a record is longer than its fields".to_owned());
        }
        self.end = whole;
        Ok(ConsumerRecord {
            topic: Arc::clone(wanted.topic),
            partition: wanted.partition,
            offset: batch.base_offset + offset,
            leader_epoch: batch.leader_epoch,
            timestamp: match batch.attributes & LOG_APPEND_TIME {
                0 => batch.base_timestamp.wrapping_add(timestamp),
                _ => batch.max_timestamp,
            },
            key,
            value,
            headers,
        })
    }

    fn byte(&mut self) -> Result<u8, String> {
        if self.at >= self.end {
            return Err("a record is shorter than its fields".to_owned());
        }
        self.at += 1;
        Ok(self.data[self.at - 1])
    }

    /// A zigzag varint of up to ten bytes.
    fn varint(&mut self) -> Result<i64, String> {
        let mut raw = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            raw |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        Err("a number is longer than ten bytes".to_owned())
    }

    /// Bytes behind their length, of which -1 is null.
    fn bytes(&mut self) -> Result<Option<Bytes>, String> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| "a length is negative")?;
        if length > self.end - self.at {
            return Err("a key, value or header is longer than its record".to_owned());
        }
        self.at += length;
        Ok(Some(self.data.slice(self.at - length..self.at)))
    }
}

#[cfg(test)]
#[path = "batch_test.rs"]
mod tests;
