//! The log: unless its last record is that of an unmount, the image is refused.

use std::io;

use super::superblock::XfsSuperblock;
use crate::fields::{array, be32, be64, byte};
use crate::limits::XFS_LOG_LEN_MAX;
use crate::walk::{damaged, unknown};
use crate::window::Window;

/// Bytes of a block of the log.
const BLOCK_LEN: u64 = 512;
/// First bytes of a record.
const MARK: u32 = 0xfeed_babe;
/// Bytes of a record that one block of its header describes.
const HEADER_BLOCK_COVERS: u32 = 32 << 10;
/// Bytes read at once.
const STEP_LEN: usize = 1 << 20;
/// The flag of an operation that ends the log before an unmount.
const UNMOUNT: u8 = 0x20;

/// The last record of a log.
#[derive(Debug, Default)]
struct LogRecord {
    sequence: u64,
    /// Offset in the log.
    offset: u64,
    operations: u32,
    header_blocks: u64,
}

/// Refuses a file system whose log holds changes. Each block of a record begins with the number of
/// its round, so a block that begins with the mark is a header. A record that was written only in
/// part belongs to changes that were not made yet.
pub(super) fn check_clean(image: &Window, superblock: &XfsSuperblock) -> io::Result<()> {
    let (start, blocks) = superblock.log;
    let len = blocks.saturating_mul(superblock.block_len);
    if len == 0 || len > XFS_LOG_LEN_MAX {
        return Err(damaged("the length of its log is impossible"));
    }
    let Some(last) = last_record(image, start, len)? else {
        // Without a record there is nothing to replay.
        return Ok(());
    };
    let operation = (last.offset + last.header_blocks * BLOCK_LEN) % len;
    let mut header = [0; 12];
    image.read_exact_at(&mut header, start + operation)?;
    if last.operations == 1 && byte(&header, 9)? & UNMOUNT != 0 {
        return Ok(());
    }
    Err(unknown(
        "its log holds changes; mount and unmount it once \
         (`mount -o loop IMAGE DIR && umount DIR` as root), and try again",
    ))
}

fn last_record(image: &Window, start: u64, len: u64) -> io::Result<Option<LogRecord>> {
    let mut last = None;
    let mut buffer = vec![0; STEP_LEN];
    let mut offset = 0;
    while offset < len {
        let step = usize::try_from(len - offset)
            .unwrap_or(STEP_LEN)
            .min(STEP_LEN);
        let part = buffer.get_mut(..step).unwrap_or_default();
        image.read_exact_at(part, start + offset)?;
        for (block, place) in part.chunks_exact(BLOCK_LEN as usize).zip(0..) {
            if array(block, 0)? != MARK.to_be_bytes() {
                continue;
            }
            let record = record(block, offset + place * BLOCK_LEN)?;
            if last
                .as_ref()
                .is_none_or(|last: &LogRecord| last.sequence < record.sequence)
            {
                last = Some(record);
            }
        }
        offset += step as u64;
    }
    Ok(last)
}

fn record(header: &[u8], offset: u64) -> io::Result<LogRecord> {
    let (version, record_len) = (be32(header, 8)?, be32(header, 320)?);
    let header_blocks = match version & 2 {
        0 => 1,
        _ => record_len.div_ceil(HEADER_BLOCK_COVERS).max(1),
    };
    Ok(LogRecord {
        sequence: be64(header, 16)?,
        offset,
        operations: be32(header, 40)?,
        header_blocks: u64::from(header_blocks),
    })
}
