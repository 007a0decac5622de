//! Decoding that believes no length before it has held it against what is left.
//!
//! The codec allocates arrays of the length that is written before them. In flexible versions, which are all that
//! this crate speaks but for ApiVersions 0 and SaslHandshake, every length is an unsigned varint, and nothing else
//! is but the numbers of tagged fields: a varint that is larger than the bytes that are left ends the decoding.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

use crate::error::{Error, Result};

/// Tag numbers are varints too, and no lengths; those in use are far below.
const LARGEST_TAG: usize = 1 << 10;

/// Reads a message of a flexible version (or of one without arrays).
pub(crate) fn decode<T: Decodable>(what: &str, bytes: &mut Bytes, version: i16) -> Result<T> {
    let mut guarded = Guarded { inner: std::mem::take(bytes), value: 0, shift: 0 };
    let read = T::decode(&mut guarded, version).map_err(|e| Error::malformed(what, e.to_string()));
    *bytes = guarded.inner;
    read
}

/// Bytes that are read, with the varint that is passing.
struct Guarded {
    inner: Bytes,
    value: usize,
    shift: u32,
}

impl Guarded {
    /// Follows one byte of what may be a varint, of which the rest is still to be read.
    fn follow(&mut self, byte: u8, left: usize) -> bool {
        self.value |= usize::from(byte & 0x7f) << self.shift;
        let believed = self.value <= (left + 1).max(LARGEST_TAG);
        if byte & 0x80 != 0 && self.shift < 28 {
            self.shift += 7;
        } else {
            (self.value, self.shift) = (0, 0);
        }
        believed
    }

    fn forget(&mut self) {
        (self.value, self.shift) = (0, 0);
    }
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.inner.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.inner.chunk()
    }

    fn advance(&mut self, n: usize) {
        self.forget();
        self.inner.advance(n);
    }

    /// The codec reads varints, and booleans, by this.
    fn try_get_u8(&mut self) -> std::result::Result<u8, TryGetError> {
        let byte = self.inner.try_get_u8()?;
        let left = self.inner.len();
        if self.follow(byte, left) {
            return Ok(byte);
        }
        self.inner.clear();
        Err(TryGetError { requested: self.value.max(1), available: left })
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, r: std::ops::Range<usize>) -> Bytes {
        self.inner.slice(r)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.forget();
        self.inner.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::MetadataResponse;
    use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    #[test]
    fn an_answer_is_read_as_it_was() {
        let broker = MetadataResponseBroker::default().with_host(StrBytes::from_static_str("a")).with_port(9092);
        let topic = MetadataResponseTopic::default().with_is_internal(true);
        let sent = MetadataResponse::default().with_brokers(vec![broker; 300]).with_topics(vec![topic; 300]);
        let mut bytes = BytesMut::new();
        sent.encode(&mut bytes, 12).unwrap();
        let read: MetadataResponse = decode("metadata", &mut bytes.freeze(), 12).unwrap();
        assert_eq!(read.brokers.len(), 300);
        assert_eq!(read.topics.len(), 300);
    }

    /// Without the guard this asks for 2^32 brokers, and ends the process.
    #[test]
    fn a_length_beyond_the_frame_is_not_believed() {
        let mut bytes = BytesMut::new();
        bytes.put_i32(0); // throttle
        bytes.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        bytes.put_slice(&[0; 64]);
        let read = decode::<MetadataResponse>("metadata", &mut bytes.freeze(), 12);
        assert!(matches!(read, Err(Error::Malformed { .. })), "{read:?}");
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let sent = MetadataResponse::default().with_cluster_id(Some(StrBytes::from_static_str("cluster")));
        let mut bytes = BytesMut::new();
        sent.encode(&mut bytes, 12).unwrap();
        let whole = bytes.freeze();
        for n in 0..whole.len() {
            assert!(decode::<MetadataResponse>("metadata", &mut whole.slice(..n), 12).is_err(), "{n} bytes");
        }
    }
}
