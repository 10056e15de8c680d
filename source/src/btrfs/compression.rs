//! Decompression of an extent.

use std::io::{self, Read as _};

use crate::fields::{le32, slice};
use crate::limits::BTRFS_ZSTD_WINDOW_LOG_MAX;
use crate::walk::{damaged, unknown};

/// The compression of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtentCompression {
    None,
    Zlib,
    Lzo,
    Zstd,
}

impl ExtentCompression {
    pub(super) fn parse(code: u8) -> io::Result<Self> {
        match code {
            0 => Ok(ExtentCompression::None),
            1 => Ok(ExtentCompression::Zlib),
            2 => Ok(ExtentCompression::Lzo),
            3 => Ok(ExtentCompression::Zstd),
            other => {
                let problem = format!("compression of kind {other} is not supported");
                Err(unknown(problem))
            }
        }
    }

    /// Decompresses `stored` to `len` bytes; zeros follow the stored bytes.
    pub(super) fn plain(self, stored: &[u8], len: usize, sector_len: usize) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let room = len as u64;
        match self {
            ExtentCompression::None => {
                plain.extend_from_slice(stored.get(..len).unwrap_or(stored));
            }
            ExtentCompression::Zlib => {
                let decoder = flate2::read::ZlibDecoder::new(stored);
                decoder.take(room).read_to_end(&mut plain)?;
            }
            ExtentCompression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(stored)?.single_frame();
                decoder.window_log_max(BTRFS_ZSTD_WINDOW_LOG_MAX)?;
                decoder.take(room).read_to_end(&mut plain)?;
            }
            ExtentCompression::Lzo => lzo(stored, len, sector_len, &mut plain)?,
        }
        plain.resize(len, 0);
        Ok(plain)
    }
}

/// LZO in segments of a sector each: the total length, then the length and the bytes of each segment. The
/// length of a segment does not cross the end of a sector.
fn lzo(stored: &[u8], len: usize, sector_len: usize, plain: &mut Vec<u8>) -> io::Result<()> {
    let all = slice(stored, 0, le32(stored, 0)? as usize)?;
    let mut at = 4;
    while at < all.len() && plain.len() < len {
        let left = sector_len - at % sector_len;
        if left < 4 {
            at += left;
        }
        let segment_len = le32(all, at)? as usize;
        let segment = slice(all, at + 4, segment_len)?;
        at += 4 + segment_len;
        let start = plain.len();
        plain.resize(start + sector_len, 0);
        let room = plain.get_mut(start..).unwrap_or_default();
        let done = lzokay::decompress::decompress(segment, room);
        let done = done.map_err(|error| damaged(format!("LZO: {error}")))?;
        plain.truncate(start + done);
    }
    Ok(())
}
