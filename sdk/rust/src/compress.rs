//! Compression of record batches.

use std::io::{self, Write};

use bytes::{BufMut, BytesMut};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use crate::builder::Compression;
use crate::error::{Error, Result};

impl Compression {
    /// The number of the codec in a batch's attributes.
    pub(crate) fn number(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The codec's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Appends `plain`, compressed, to `out`.
    pub(crate) fn compress(self, plain: &[u8], out: &mut BytesMut) -> Result<()> {
        let fails = |e: io::Error| Error::Codec { codec: self.name(), reason: e.to_string() };
        match self {
            Compression::None => out.put_slice(plain),
            Compression::Gzip => {
                let mut to = flate2::write::GzEncoder::new(out.writer(), flate2::Compression::default());
                to.write_all(plain).and_then(|()| to.finish().map(drop)).map_err(fails)?;
            }
            Compression::Snappy => {
                let begin = out.len();
                out.resize(begin + snap::raw::max_compress_len(plain.len()), 0);
                let n = snap::raw::Encoder::new()
                    .compress(plain, &mut out[begin..])
                    .map_err(|e| fails(io::Error::other(e)))?;
                out.truncate(begin + n);
            }
            Compression::Lz4 => {
                // Kafka's Java client reads frames of independent blocks alone.
                let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                let mut to = FrameEncoder::with_frame_info(info, out.writer());
                to.write_all(plain).map_err(fails)?;
                to.finish().map_err(|e| fails(io::Error::other(e)))?;
            }
            Compression::Zstd => {
                let mut to =
                    zstd::stream::Encoder::new(out.writer(), zstd::DEFAULT_COMPRESSION_LEVEL).map_err(fails)?;
                to.write_all(plain).and_then(|()| to.finish().map(drop)).map_err(fails)?;
            }
        }
        Ok(())
    }
}
