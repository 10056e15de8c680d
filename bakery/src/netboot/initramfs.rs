//! Detects if an initramfs mounts a layerfs root. One of a distribution does not, and would end
//! in its own emergency shell.
//!
//! The archive is read as by the kernel: cpio archives one after the other, each plain or
//! compressed. Only the presence of the client matters, not the program that made the archive
//! (`bakery initrd`, initramfs-tools, dracut, make-initrd).

use std::io::{self, BufRead, BufReader, Read};

use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

use crate::limits::{CPIO_NAME_LEN_MAX, INITRAMFS_LEN_MAX};

/// Length of the header of a member: a magic and 13 numbers of 8 digits.
const HEADER_LEN: usize = 110;
/// Longest block of lz4's old format, which the kernel reads, unpacked.
const LZ4_BLOCK_LEN: usize = 8 << 20;
/// Most memory for the dictionary of an xz stream.
const XZ_MEMORY_MAX: u64 = 256 << 20;
/// Path of the client, in any directory of programs.
const CLIENT: &[u8] = b"bin/layerfs";

/// True if an initramfs contains the client. `None` if part of it has an unsupported compression.
///
/// # Errors
/// The archive is damaged or exceeds the bounds.
pub(crate) fn has_client(archive: &[u8]) -> io::Result<Option<bool>> {
    let mut rest = archive;
    loop {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        rest = rest.get(zeros..).unwrap_or_default();
        let found = match rest {
            [] => return Ok(Some(false)),
            [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] => in_archive(&mut rest)?,
            [0x1f, 0x8b, ..] => in_archives(flate2::bufread::GzDecoder::new(&mut rest))?,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let frame = zstd::stream::read::Decoder::with_buffer(&mut rest)?;
                in_archives(frame.single_frame())?
            }
            [0xfd, b'7', b'z', b'X', b'Z', ..] => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, 0);
                let stream = stream.map_err(io::Error::other)?;
                in_archives(XzDecoder::new_stream(&mut rest, stream))?
            }
            [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => {
                rest = blocks;
                in_archives(Lz4::new(&mut rest))?
            }
            _ => return Ok(None),
        };
        if found {
            return Ok(Some(true));
        }
    }
}

/// Archives one after the other, to the end of the unpacked data.
fn in_archives(unpacked: impl Read) -> io::Result<bool> {
    let mut unpacked = BufReader::with_capacity(1 << 16, unpacked.take(INITRAMFS_LEN_MAX));
    loop {
        let bytes = unpacked.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if bytes.is_empty() {
            break;
        }
        if zeros == 0 && in_archive(&mut unpacked)? {
            return Ok(true);
        }
        unpacked.consume(zeros);
    }
    match unpacked.into_inner().limit() {
        0 => Err(malformed("longer than an initramfs may be")),
        _ => Ok(false),
    }
}

/// One archive, to the end of its trailer.
fn in_archive(archive: &mut impl Read) -> io::Result<bool> {
    loop {
        let mut header = [0; HEADER_LEN];
        archive.read_exact(&mut header)?;
        if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
            return Err(malformed("a cpio archive is expected here"));
        }
        let mode = number(&header, 14)?;
        let (len, name_len) = (number(&header, 54)?, number(&header, 94)?);
        if name_len > CPIO_NAME_LEN_MAX {
            return Err(malformed("a name is too long"));
        }
        let mut name = vec![0; name_len as usize];
        archive.read_exact(&mut name)?;
        skip(archive, padding(HEADER_LEN as u64 + name_len))?;
        let name = name.strip_suffix(b"\0").unwrap_or(&name);
        if name == b"TRAILER!!!" {
            return Ok(false);
        }
        let is_file = mode & 0o170_000 == 0o100_000;
        let outside = name.strip_suffix(CLIENT);
        if is_file
            && outside.is_some_and(|before| before.is_empty() || b"/s".contains(&last(before)))
        {
            return Ok(true);
        }
        skip(archive, len + padding(len))?;
    }
}

fn last(bytes: &[u8]) -> u8 {
    bytes.last().copied().unwrap_or_default()
}

fn number(header: &[u8], at: usize) -> io::Result<u64> {
    let digits = header
        .get(at..at + 8)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| malformed("a header without numbers"))
}

/// Bytes up to the next multiple of four.
fn padding(len: u64) -> u64 {
    len.wrapping_neg() % 4
}

fn skip(archive: &mut impl Read, len: u64) -> io::Result<()> {
    if io::copy(&mut archive.by_ref().take(len), &mut io::sink())? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// lz4's old format: blocks, each after its length, without an end mark.
struct Lz4<'r, 'a> {
    rest: &'r mut &'a [u8],
    block: io::Cursor<Vec<u8>>,
}

impl<'r, 'a> Lz4<'r, 'a> {
    fn new(rest: &'r mut &'a [u8]) -> Self {
        Lz4 {
            rest,
            block: io::Cursor::default(),
        }
    }

    /// Unpacks the next block; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        let Some((len, rest)) = self.rest.split_first_chunk::<4>() else {
            return Ok(false);
        };
        let len = u32::from_le_bytes(*len) as usize;
        // Zeros or another archive: the length of a block is none of them.
        let Some((block, rest)) = rest
            .split_at_checked(len)
            .filter(|_| len > 0 && len <= LZ4_BLOCK_LEN)
        else {
            return Ok(false);
        };
        let unpacked = lz4_flex::block::decompress(block, LZ4_BLOCK_LEN);
        self.block = io::Cursor::new(unpacked.map_err(io::Error::other)?);
        *self.rest = rest;
        Ok(true)
    }
}

impl Read for Lz4<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let len = self.block.read(out)?;
            if len > 0 || out.is_empty() || !self.next()? {
                return Ok(len);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initrd::compress::Compression;
    use std::io::Write as _;

    fn member(name: &str, mode: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            1, 0, 0, 1, 0, body.len(), 0, 0, 0, 0, name.len() + 1, 0
        )
        .into_bytes();
        bytes.extend(name.bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in names {
            bytes.extend(member(name, 0o100_755, b"program"));
        }
        bytes.extend(member("TRAILER!!!", 0, b""));
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let block = lz4_flex::block::compress(bytes);
        let len = u32::try_from(block.len()).unwrap().to_le_bytes();
        [&[0x02, 0x21, 0x4c, 0x18][..], &len, &block].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_client_is_found_in_every_form() {
        let early = archive(&["kernel/x86/microcode/GenuineIntel.bin"]);
        let with = archive(&["init", "usr/bin/layerfs", "etc/x"]);
        let without = archive(&[
            "init",
            "usr/share/layerfs",
            "bin/layerfs-helper",
            "usr/mybin/layerfs",
        ]);
        let forms: [fn(&[u8]) -> Vec<u8>; 6] = [
            <[u8]>::to_vec,
            gzip,
            lz4,
            |bytes| zstd::bulk::compress(bytes, 3).unwrap(),
            |bytes| Compression::Xz { x86: true }.of_programs(bytes).unwrap(),
            |bytes| Compression::xz(bytes).unwrap(),
        ];
        for form in forms {
            for (main, found) in [(&with, true), (&without, false)] {
                assert_eq!(has_client(&form(main)).unwrap(), Some(found));
                let both = [early.clone(), form(main)].concat();
                assert_eq!(has_client(&both).unwrap(), Some(found), "after microcode");
                let two = [form(&early), form(main)].concat();
                assert_eq!(has_client(&two).unwrap(), Some(found), "two compressed");
            }
        }
        let link = [member("bin/layerfs", 0o120_777, b"x"), archive(&["init"])].concat();
        assert_eq!(
            has_client(&link).unwrap(),
            Some(false),
            "a link is no program"
        );
    }

    #[test]
    fn what_is_none_is_told_apart() {
        assert_eq!(has_client(b"").unwrap(), Some(false));
        assert_eq!(has_client(b"BZh9 something").unwrap(), None);
        let good = archive(&["init"]);
        assert!(has_client(good.get(..200).unwrap()).is_err(), "cut");
        let zstd = zstd::bulk::compress(&good, 3).unwrap();
        assert!(
            has_client(zstd.get(..zstd.len() - 4).unwrap()).is_err(),
            "cut"
        );
        let long = member("x", 0o100_644, b"")
            .iter()
            .map(|byte| if *byte == b'2' { b'f' } else { *byte })
            .collect::<Vec<_>>();
        assert!(has_client(&long).is_err(), "no trailer");
    }
}
