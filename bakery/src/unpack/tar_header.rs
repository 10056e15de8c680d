//! One tar header and the PAX records in front of it.

use std::io::{self, Write};

const BLOCK_LEN: usize = 512;
/// Largest number of an eight-byte octal field.
const OCTAL7_MAX: u64 = 0o777_7777;
/// Largest number of a twelve-byte octal field.
const OCTAL11_MAX: u64 = 0o777_7777_7777;

/// An entry's fields; those that do not fit a plain header are written as PAX records.
#[derive(Debug, Default)]
pub(super) struct Header<'h> {
    pub(super) path: &'h [u8],
    /// The type flag.
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of data that follow in the archive.
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    pub(super) link: &'h [u8],
    pub(super) device: (u32, u32),
    /// Further PAX records.
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header<'_> {
    /// Writes the header, after an extended one if that is needed.
    pub(super) fn write(mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut records = std::mem::take(&mut self.records);
        let mut add = |key: &str, value: Vec<u8>| records.push((key.into(), value));
        if self.path.len() > 100 {
            add("path", self.path.to_vec());
        }
        if self.link.len() > 100 {
            add("linkpath", self.link.to_vec());
        }
        for (key, value, max) in [
            ("uid", self.uid.into(), OCTAL7_MAX),
            ("gid", self.gid.into(), OCTAL7_MAX),
            ("size", self.size, OCTAL11_MAX),
            ("SCHILY.devmajor", self.device.0.into(), OCTAL7_MAX),
            ("SCHILY.devminor", self.device.1.into(), OCTAL7_MAX),
        ] {
            if value > max {
                add(key, value.to_string().into_bytes());
            }
        }
        let (sec, nsec) = self.mtime;
        if nsec != 0 || u64::try_from(sec).map_or(true, |sec| sec > OCTAL11_MAX) {
            add("mtime", time(sec, nsec).into_bytes());
        }
        if !records.is_empty() {
            let data: Vec<u8> = records
                .iter()
                .flat_map(|(key, value)| record(key, value))
                .collect();
            let extended = Header {
                path: b"PaxHeader",
                kind: b'x',
                mode: 0o644,
                ..Header::default()
            };
            out.write_all(&extended.block(data.len() as u64))?;
            out.write_all(&data)?;
            pad(out, data.len() as u64)?;
        }
        let size = self.size;
        out.write_all(&self.block(size))
    }

    fn block(&self, size: u64) -> [u8; BLOCK_LEN] {
        let mut block = [0; BLOCK_LEN];
        let mut put = |start: usize, len: usize, bytes: &[u8]| {
            let field = block.iter_mut().skip(start).take(len);
            field.zip(bytes).for_each(|(to, from)| *to = *from);
        };
        let seven = |number: u64| format!("{:07o}", if number > OCTAL7_MAX { 0 } else { number });
        let eleven =
            |number: u64| format!("{:011o}", if number > OCTAL11_MAX { 0 } else { number });
        put(0, 100, self.path);
        put(100, 8, seven(self.mode.into()).as_bytes());
        put(108, 8, seven(self.uid.into()).as_bytes());
        put(116, 8, seven(self.gid.into()).as_bytes());
        put(124, 12, eleven(size).as_bytes());
        put(
            136,
            12,
            eleven(u64::try_from(self.mtime.0).unwrap_or(0)).as_bytes(),
        );
        put(148, 8, b"        ");
        put(156, 1, &[self.kind]);
        put(157, 100, self.link);
        put(257, 8, b"ustar\x0000");
        put(329, 8, seven(self.device.0.into()).as_bytes());
        put(337, 8, seven(self.device.1.into()).as_bytes());
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        let sum = format!("{sum:06o}\0 ");
        block
            .iter_mut()
            .skip(148)
            .zip(sum.as_bytes())
            .for_each(|(to, from)| *to = *from);
        block
    }
}

/// Fills the last block of `len` bytes.
pub(super) fn pad(out: &mut dyn Write, len: u64) -> io::Result<()> {
    let missing = len.next_multiple_of(BLOCK_LEN as u64) - len;
    out.write_all([0; BLOCK_LEN].get(..missing as usize).unwrap_or_default())
}

/// `LEN KEY=VALUE
/// `, where LEN includes itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len.to_string().len() + rest != len {
        len = len.to_string().len() + rest;
    }
    [format!("{len} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

/// A decimal time; before 1970 the fraction counts back from the second.
fn time(sec: i64, nsec: u32) -> String {
    match (sec, nsec) {
        (sec, 0) => format!("{sec}"),
        (sec, nsec) if sec >= 0 => format!("{sec}.{nsec:09}"),
        (sec, nsec) => format!("-{}.{:09}", (sec + 1).unsigned_abs(), 1_000_000_000 - nsec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lengths_count_themselves() {
        for len in [1, 80, 88, 89, 90, 91, 980, 990, 9980, 9990] {
            let record = record(b"path", &vec![b'x'; len]);
            let text = String::from_utf8(record.clone()).unwrap();
            let (count, _) = text.split_once(' ').unwrap();
            assert_eq!(count.parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn times_before_1970() {
        assert_eq!(time(-2, 500_000_000), "-1.500000000");
        assert_eq!(time(-1, 750_000_000), "-0.250000000");
        assert_eq!(time(-1, 0), "-1");
        assert_eq!(time(5, 1), "5.000000001");
    }
}
