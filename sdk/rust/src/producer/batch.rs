//! Record batches (magic 2), as they are filled and sent.
//!
//! ```text
//! offset size field                 big-endian
//! 0      8    base offset           0; the broker's
//! 8      4    length                of all that follows
//! 12     4    leader epoch          -1; the broker's
//! 16     1    magic                 2
//! 17     4    crc32c                of all that follows
//! 21     2    attributes            codec, and whether it is of a transaction
//! 23     4    last offset delta
//! 27     8    base timestamp
//! 35     8    largest timestamp
//! 43     8    producer id
//! 51     2    producer epoch
//! 53     4    base sequence
//! 57     4    count
//! 61          records
//! ```

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;

use crate::builder::Compression;
use crate::error::Result;
use crate::producer::outcome::Outcome;
use crate::record::Record;

/// Bytes before the records.
pub(super) const HEAD: usize = 61;
/// What a record's framing takes at most, beside its fields: varints of length, deltas and lengths of fields.
const RECORD_OVERHEAD: usize = 36;
const HEADER_OVERHEAD: usize = 10;
const TRANSACTIONAL: i16 = 1 << 4;

/// Who produces; -1 where producing is not idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl Identity {
    pub(crate) const NONE: Identity = Identity { id: -1, epoch: -1 };
}

/// Bytes that a record takes in a batch at most.
pub(super) fn size_of(r: &Record) -> usize {
    RECORD_OVERHEAD + HEADER_OVERHEAD * r.headers.len() + r.bytes()
}

/// A batch: filled first, then sealed and sent, perhaps more than once.
pub(super) struct Batch {
    buffer: BytesMut, // HEAD bytes, then records; empty once sealed
    sealed: Bytes,    // as it is sent, but for what the head says of the producer
    pub(super) count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    pub(super) created: Instant,
    pub(super) reserved: usize, // bytes of the producer's budget
    pub(super) outcome: Arc<Outcome>,
    pub(super) order: u64, // within its partition
    pub(super) sequence: Option<(Identity, i32)>,
    pub(super) sent: bool, // it may have been written
    pub(super) attempts: u32,
    pub(super) last_error: Option<crate::error::Error>,
}

impl Batch {
    pub(super) fn new(order: u64, capacity: usize, now: Instant) -> Self {
        let mut buffer = BytesMut::with_capacity(capacity.max(HEAD));
        buffer.resize(HEAD, 0);
        Batch {
            buffer,
            sealed: Bytes::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            created: now,
            reserved: 0,
            outcome: Arc::default(),
            order,
            sequence: None,
            sent: false,
            attempts: 0,
            last_error: None,
        }
    }

    /// Bytes before compression.
    pub(super) fn len(&self) -> usize {
        self.buffer.len().max(self.sealed.len())
    }

    /// Adds a record, and returns its number in the batch.
    pub(super) fn push(&mut self, r: &Record, timestamp: i64) -> i32 {
        if self.count == 0 {
            (self.base_timestamp, self.max_timestamp) = (timestamp, timestamp);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let delta = timestamp.wrapping_sub(self.base_timestamp);
        let number = self.count;
        let mut length =
            1 + varint_len(delta) + varint_len(i64::from(number)) + field_len(&r.key) + field_len(&r.value);
        length += varint_len(r.headers.len() as i64);
        for (name, value) in &r.headers {
            length += varint_len(name.len() as i64) + name.len() + field_len(value);
        }
        let b = &mut self.buffer;
        b.reserve(length + 5);
        put_varint(b, length as i64);
        b.put_i8(0);
        put_varint(b, delta);
        put_varint(b, i64::from(number));
        put_field(b, &r.key);
        put_field(b, &r.value);
        put_varint(b, r.headers.len() as i64);
        for (name, value) in &r.headers {
            put_varint(b, name.len() as i64);
            b.put_slice(name.as_bytes());
            put_field(b, value);
        }
        self.count += 1;
        number
    }

    /// The batch as it is to be sent. What is compressed is compressed the first time.
    pub(super) fn seal(&mut self, compression: Compression, transactional: bool) -> Result<Bytes> {
        let mut out = if self.sealed.is_empty() {
            let plain = std::mem::take(&mut self.buffer);
            let packed = pack(&plain, compression)?;
            let codec = if packed.is_some() { compression.number() } else { 0 };
            let mut out = packed.unwrap_or(plain);
            let attributes = codec | if transactional { TRANSACTIONAL } else { 0 };
            let length = out.len() as i32 - 12;
            out[8..12].copy_from_slice(&length.to_be_bytes());
            out[12..16].copy_from_slice(&(-1i32).to_be_bytes());
            out[16] = 2;
            out[21..23].copy_from_slice(&attributes.to_be_bytes());
            out[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
            out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
            out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
            out[57..61].copy_from_slice(&self.count.to_be_bytes());
            out
        } else {
            // The request before may still hold it: copied then.
            std::mem::take(&mut self.sealed).try_into_mut().unwrap_or_else(|held| BytesMut::from(&held[..]))
        };
        let (producer, sequence) = self.sequence.unwrap_or((Identity::NONE, -1));
        out[43..51].copy_from_slice(&producer.id.to_be_bytes());
        out[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
        out[53..57].copy_from_slice(&sequence.to_be_bytes());
        let crc = crc32c::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        self.sealed = out.freeze();
        Ok(self.sealed.clone())
    }

    /// Number of the record after the last, in the sequence of a producer.
    pub(super) fn sequence_after(&self, first: i32) -> i32 {
        ((i64::from(first) + i64::from(self.count)) & i64::from(i32::MAX)) as i32 // wraps to 0
    }
}

/// A batch whose records are compressed; `None`: that makes it no smaller.
fn pack(plain: &BytesMut, compression: Compression) -> Result<Option<BytesMut>> {
    if compression == Compression::None {
        return Ok(None);
    }
    let mut out = BytesMut::with_capacity(HEAD + plain.len() / 2);
    out.resize(HEAD, 0);
    compression.compress(&plain[HEAD..], &mut out)?;
    Ok(Some(out).filter(|o| o.len() < plain.len()))
}

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

fn varint_len(v: i64) -> usize {
    (64 - (zigzag(v) | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(b: &mut BytesMut, v: i64) {
    let mut v = zigzag(v);
    while v >= 0x80 {
        b.put_u8(v as u8 | 0x80);
        v >>= 7;
    }
    b.put_u8(v as u8);
}

fn field_len(f: &Option<Bytes>) -> usize {
    f.as_ref().map_or(1, |f| varint_len(f.len() as i64) + f.len())
}

fn put_field(b: &mut BytesMut, f: &Option<Bytes>) {
    match f {
        Some(f) => {
            put_varint(b, f.len() as i64);
            b.put_slice(f);
        }
        None => put_varint(b, -1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(i: usize) -> Record {
        Record::to("t").key(format!("key {i}")).value("v".repeat(i)).header("h", "x").timestamp(1_000 + i as i64)
    }

    fn filled(n: usize) -> Batch {
        let mut b = Batch::new(0, 0, Instant::now());
        for i in 0..n {
            assert_eq!(b.push(&record(i), 1_000 + i as i64), i as i32);
        }
        b
    }

    #[test]
    fn a_varint_takes_the_bytes_that_were_reckoned() {
        for v in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut b = BytesMut::new();
            put_varint(&mut b, v);
            assert_eq!(b.len(), varint_len(v), "{v}");
        }
    }

    #[test]
    fn a_record_is_no_larger_than_was_reckoned() {
        for i in [0, 1, 100, 70_000] {
            let mut b = Batch::new(0, 0, Instant::now());
            let before = b.len();
            b.push(&record(i), i64::MAX / 2);
            assert!(b.len() - before <= size_of(&record(i)));
        }
    }

    #[test]
    fn every_codec_makes_a_batch_whose_crc_and_length_hold() {
        for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let mut batch = filled(100);
            let producer = Identity { id: 7, epoch: 3 };
            batch.sequence = Some((producer, 42));
            let sent = batch.seal(codec, true).unwrap();
            assert_eq!(i32::from_be_bytes(sent[8..12].try_into().unwrap()) as usize, sent.len() - 12);
            assert_eq!(u32::from_be_bytes(sent[17..21].try_into().unwrap()), crc32c::crc32c(&sent[21..]));
            assert_eq!(i16::from_be_bytes(sent[21..23].try_into().unwrap()), codec.number() | TRANSACTIONAL);
            // Sent again by another epoch it is the same but for the producer and the CRC.
            batch.sequence = Some((Identity { id: 7, epoch: 4 }, 0));
            let again = batch.seal(codec, true).unwrap();
            assert_eq!(sent[57..], again[57..]);
            assert_eq!(u32::from_be_bytes(again[17..21].try_into().unwrap()), crc32c::crc32c(&again[21..]));
        }
    }

    #[test]
    fn sequences_begin_again_after_the_largest() {
        let batch = filled(3);
        assert_eq!(batch.sequence_after(0), 3);
        assert_eq!(batch.sequence_after(i32::MAX - 1), 1);
    }
}
