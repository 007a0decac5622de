//! Decompression of what a broker sends, never beyond a bound.

use std::io::Read;

use bytes::Bytes;

/// The header of snappy-java's framing, which Java's clients write: the name, then two versions.
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;

/// The most that snappy makes of a byte: a copy of 64 bytes takes 3.
const SNAPPY_EXPANSION: usize = 22;

/// How a batch is compressed: the lowest three bits of its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub(crate) fn of_attributes(attributes: i16) -> Result<Codec, String> {
        match attributes & 0x07 {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            n => Err(format!("codec {n} is not known")),
        }
    }
}

/// Decompresses data; an error where it is damaged, or would be larger than `limit` bytes.
/// What is allocated grows with what is really there, not with what a header claims.
pub(crate) fn decompress(codec: Codec, data: &Bytes, limit: usize) -> Result<Bytes, String> {
    match codec {
        Codec::None => Ok(data.clone()),
        Codec::Gzip => bounded(flate2::read::MultiGzDecoder::new(&data[..]), data.len(), limit),
        Codec::Lz4 => bounded(lz4_flex::frame::FrameDecoder::new(&data[..]), data.len(), limit),
        Codec::Zstd => {
            let reader = zstd::stream::read::Decoder::with_buffer(&data[..]).map_err(|err| err.to_string())?;
            bounded(reader, data.len(), limit)
        }
        Codec::Snappy => snappy(data, limit),
    }
}

fn bounded(reader: impl Read, compressed: usize, limit: usize) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(compressed.saturating_mul(3).min(limit));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut out).map_err(|err| err.to_string())?;
    if out.len() > limit {
        return Err(too_large(limit));
    }
    Ok(Bytes::from(out))
}

fn too_large(limit: usize) -> String {
    format!("it decompresses to more than {limit} bytes")
}

/// Reads what Java's clients write, blocks with their lengths, and what others do, one block.
fn snappy(data: &Bytes, limit: usize) -> Result<Bytes, String> {
    let mut out = Vec::new();
    if !data.starts_with(XERIAL) {
        block(data, &mut out, limit)?;
        return Ok(Bytes::from(out));
    }
    let mut rest = data.get(XERIAL_HEADER..).ok_or("its framing is cut off")?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or("the length of a block is cut off")?;
        let length = u32::from_be_bytes(*length) as usize;
        let one = after.get(..length).ok_or("a block is cut off")?;
        block(one, &mut out, limit)?;
        rest = &after[length..];
    }
    Ok(Bytes::from(out))
}

fn block(data: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), String> {
    let length = snap::raw::decompress_len(data).map_err(|err| err.to_string())?;
    if length > limit - out.len() {
        return Err(too_large(limit));
    }
    if length > data.len().saturating_mul(SNAPPY_EXPANSION) {
        return Err("it claims to be larger than it can be".to_owned());
    }
    let at = out.len();
    out.resize(at + length, 0);
    let n = snap::raw::Decoder::new().decompress(data, &mut out[at..]).map_err(|err| err.to_string())?;
    out.truncate(at + n);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMIT: usize = 1 << 20;

    /// Compresses as the clients of other languages do.
    pub(crate) fn compress(codec: Codec, data: &[u8]) -> Bytes {
        match codec {
            Codec::None => Bytes::copy_from_slice(data),
            Codec::Gzip => {
                let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                w.write_all(data).unwrap();
                w.finish().unwrap().into()
            }
            Codec::Snappy => snap::raw::Encoder::new().compress_vec(data).unwrap().into(),
            Codec::Lz4 => {
                let mut w = lz4_flex::frame::FrameEncoder::new(Vec::new());
                w.write_all(data).unwrap();
                w.finish().unwrap().into()
            }
            Codec::Zstd => zstd::encode_all(data, 3).unwrap().into(),
        }
    }

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    #[test]
    fn what_was_compressed_comes_back() {
        let data: Vec<u8> = (0..100_000u32).map(|i| (i / 7 % 251) as u8).collect();
        for codec in ALL {
            assert_eq!(decompress(codec, &compress(codec, &data), LIMIT).unwrap(), data, "{codec:?}");
            assert_eq!(decompress(codec, &compress(codec, b""), LIMIT).unwrap(), b""[..], "{codec:?}");
        }
    }

    #[test]
    fn javas_framing_of_snappy_is_read() {
        let mut framed = XERIAL.to_vec();
        framed.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        for part in [&b"hello "[..], b"world"] {
            let block = compress(Codec::Snappy, part);
            framed.extend((block.len() as u32).to_be_bytes());
            framed.extend(block);
        }
        assert_eq!(decompress(Codec::Snappy, &framed.clone().into(), LIMIT).unwrap(), b"hello world"[..]);
        for cut in XERIAL.len()..framed.len() {
            let got = decompress(Codec::Snappy, &Bytes::copy_from_slice(&framed[..cut]), LIMIT);
            assert!(got.is_err() || got.unwrap().len() < 11, "cut at {cut}");
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let zeros = vec![0u8; LIMIT + 1];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bomb = compress(codec, &zeros);
            assert!(decompress(codec, &bomb, LIMIT).unwrap_err().contains("more than"), "{codec:?}");
            assert!(decompress(codec, &bomb, LIMIT + 1).is_ok(), "{codec:?}");
        }
        // 4 GiB in a few bytes: refused before anything is allocated.
        assert!(
            decompress(Codec::Snappy, &Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]), usize::MAX).is_err()
        );
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let data: Vec<u8> = (0..2_000u32).map(|i| (i % 13) as u8).collect();
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let good = compress(codec, &data);
            for at in 0..good.len() {
                let mut bad = good.to_vec();
                bad[at] ^= 0x5a;
                let _ = decompress(codec, &bad.into(), LIMIT);
                let _ = decompress(codec, &good.slice(..at), LIMIT);
            }
        }
    }
}
