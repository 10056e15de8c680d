//! Finds the end of a zstd file from the headers of its blocks, without decompression (RFC 8878).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// First bytes of a frame.
const MAGIC: u32 = 0xfd2f_b528;
/// The sixteen first words of frames that a decoder skips.
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

/// The end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameEnd {
    /// With the end of a frame.
    Whole,
    /// In the middle of one, or before the first.
    CutOff,
    /// It contains data that is not a frame.
    NoFrames,
}

/// Walks the frames of a file. The work is one short read for each block.
pub(super) fn end(file: &File) -> io::Result<FrameEnd> {
    let len = file.metadata()?.len();
    let mut at = 0;
    if len == 0 {
        return Ok(FrameEnd::CutOff);
    }
    while at < len {
        match frame(file, at)? {
            Some(Some(next)) if next <= len => at = next,
            Some(_) => return Ok(FrameEnd::CutOff),
            None => return Ok(FrameEnd::NoFrames),
        }
    }
    Ok(FrameEnd::Whole)
}

/// The end of the frame that begins at `at`: `None` if none begins there, `Some(None)` if the file
/// ends inside it.
fn frame(file: &File, at: u64) -> io::Result<Option<Option<u64>>> {
    let Some(magic) = number(file, at, 4)? else {
        return Ok(Some(None));
    };
    if SKIPPABLE.contains(&magic) {
        let len = number(file, at + 4, 4)?;
        return Ok(Some(len.map(|len| at + 8 + u64::from(len))));
    }
    if magic != MAGIC {
        return Ok(None);
    }
    let Some(descriptor) = number(file, at + 4, 1)? else {
        return Ok(Some(None));
    };
    let single_segment = descriptor & 0x20 != 0;
    let window_len = u64::from(!single_segment);
    let dictionary_len = match descriptor & 3 {
        3 => 4,
        less => u64::from(less),
    };
    let size_len = match descriptor >> 6 {
        0 => u64::from(single_segment),
        more => 1 << more,
    };
    let checksum_len = if descriptor & 4 != 0 { 4 } else { 0 };
    let mut block = at + 5 + window_len + dictionary_len + size_len;
    loop {
        let Some(header) = number(file, block, 3)? else {
            return Ok(Some(None));
        };
        let (is_last, kind, size) = (header & 1 != 0, header >> 1 & 3, header >> 3);
        let stored = match kind {
            // One byte, repeated.
            1 => 1,
            3 => return Ok(None),
            _ => u64::from(size),
        };
        block += 3 + stored;
        if is_last {
            return Ok(Some(Some(block + checksum_len)));
        }
    }
}

/// A little-endian number of `len` bytes; `None` if the file ends before.
fn number(file: &File, at: u64, len: usize) -> io::Result<Option<u32>> {
    let mut bytes = [0; 4];
    let Some(wanted) = bytes.get_mut(..len) else {
        return Ok(None);
    };
    match file.read_exact_at(wanted, at) {
        Ok(()) => Ok(Some(u32::from_le_bytes(bytes))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn end_of(bytes: &[u8]) -> FrameEnd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        end(&file).unwrap()
    }

    /// Frames of every form that zstd's own library writes, whole and cut at every byte.
    #[test]
    fn only_a_whole_file_is_whole() {
        let noise: Vec<u8> = (0..70_000_u32)
            .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
            .collect();
        for (content, checksum, sized) in [
            (&b""[..], true, true),
            (b"x", false, true),
            (&[7; 300_000][..], true, false),
            (&noise[..], true, false),
            (&noise[..], false, true),
        ] {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(checksum).unwrap();
            if sized {
                encoder
                    .set_pledged_src_size(Some(content.len() as u64))
                    .unwrap();
            }
            encoder.write_all(content).unwrap();
            let frame = encoder.finish().unwrap();
            assert_eq!(end_of(&frame), FrameEnd::Whole);
            let step = (frame.len() / 500).max(1);
            for cut in (0..frame.len()).step_by(step).chain([frame.len() - 1]) {
                assert_eq!(end_of(&frame[..cut]), FrameEnd::CutOff, "cut at {cut}");
            }
            let skippable = [
                &0x184d_2a51_u32.to_le_bytes()[..],
                &3_u32.to_le_bytes(),
                b"abc",
            ]
            .concat();
            let two = [&skippable[..], &frame, &frame].concat();
            assert_eq!(end_of(&two), FrameEnd::Whole);
            assert_eq!(end_of(&two[..two.len() - 1]), FrameEnd::CutOff);
            assert_eq!(end_of(&[&frame[..], b"more"].concat()), FrameEnd::NoFrames);
        }
        assert_eq!(end_of(b"ustar, and no zstd at all"), FrameEnd::NoFrames);
    }
}
