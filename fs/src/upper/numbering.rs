//! The row numbers after a switch, stored beside the upper: a later mount of the same revision with the
//! same upper has them again. Without them it has the revision's own numbers.
//!
//! The file is `layerfs.numbers-STACK` in the work directory. It holds a header, runs of rows with
//! successive numbers, the rows that marks of the upper name, and the digest of all that.

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use layerfmt::limits::INODES_MAX;
use layerfmt::{Ino, ROOT};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};

use super::Upper;
use super::marks::StackDigest;
use super::origins::EarlierRows;
use crate::limits::{NUMBERING_LEN_MAX, NUMBERS_BASE_MAX};
use crate::sys::{Errno, Result, directory};

const MAGIC: [u8; 8] = *b"\x8fROWS\r\n\x01";
const PREFIX: &str = "layerfs.numbers-";
const DIGEST_LEN: usize = 32;
const HEADER_LEN: usize = 48;
const RUN_LEN: usize = 12;
/// Length of a mark, and of its record: mark, row, type, generation.
const MARK_LEN: usize = 21;
const MARK_RECORD_LEN: usize = MARK_LEN + 12;
/// The record of a mark without a row.
const NO_ROW: Ino = Ino::MAX;

/// The numbers of one revision's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbering {
    /// Names the revision's own rows.
    pub(crate) stack: StackDigest,
    /// The first number of objects that only the upper has.
    pub(crate) base: u64,
    /// Number and generation of each of the revision's rows.
    pub(crate) rows: Vec<(Ino, u32)>,
    /// The rows that marks of the upper from before the switch name.
    pub(crate) marks: Vec<NumberedMark>,
}

/// A mark of the upper, and the row that its objects have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NumberedMark {
    pub(crate) mark: [u8; MARK_LEN],
    /// `None`: its objects have numbers of their own.
    pub(crate) row: Option<NumberedRow>,
}

/// A row that may have no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NumberedRow {
    pub(crate) row: Ino,
    /// The type of its object.
    pub(crate) kind: u32,
    pub(crate) generation: u32,
}

impl Numbering {
    /// The marks as [`super::origins::Origins`] has them.
    pub(crate) fn earlier(&self) -> EarlierRows {
        let row = |known: &NumberedMark| known.row.map(|numbered| numbered.row);
        let marks = self.marks.iter();
        let earlier: HashMap<_, _> = marks
            .map(|known| (known.mark.to_vec(), row(known)))
            .collect();
        earlier
    }

    /// The form of the file, for the upper whose root has this number.
    fn encode(&self, upper: u64) -> Vec<u8> {
        let mut runs: Vec<(u32, Ino, u32)> = Vec::new();
        for (row, generation) in &self.rows {
            match runs.last_mut() {
                Some((count, first, known))
                    if known == generation && first.checked_add(*count) == Some(*row) =>
                {
                    *count += 1;
                }
                _ => runs.push((1, *row, *generation)),
            }
        }
        let len = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.stack.0);
        out.extend_from_slice(&upper.to_le_bytes());
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&len(runs.len()));
        out.extend_from_slice(&len(self.marks.len()));
        for word in runs.iter().flat_map(|run| [run.0, run.1, run.2]) {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for known in &self.marks {
            let row = known.row;
            let words = [
                row.map_or(NO_ROW, |row| row.row),
                row.map_or(0, |row| row.kind),
                row.map_or(0, |row| row.generation),
            ];
            out.extend_from_slice(&known.mark);
            out.extend(words.into_iter().flat_map(u32::to_le_bytes));
        }
        let digest = layerfmt::Digest::of(&out);
        out.extend_from_slice(&digest.0);
        out
    }

    /// Reads a file of [`Numbering::encode`], for a revision of `row_count` rows.
    fn decode(
        bytes: &[u8],
        (stack, upper): (StackDigest, u64),
        row_count: u32,
    ) -> std::result::Result<Numbering, &'static str> {
        const SHORT: &str = "it is too short";
        let (content, digest) = bytes.split_last_chunk::<DIGEST_LEN>().ok_or(SHORT)?;
        if layerfmt::Digest::of(content).0 != *digest {
            return Err("it does not have its digest");
        }
        let (header, mut rest) = content.split_at_checked(HEADER_LEN).ok_or(SHORT)?;
        let mut header = Words(header);
        if header.take::<8>().ok_or(SHORT)? != MAGIC {
            return Err("it has another form");
        }
        if header.take::<16>().ok_or(SHORT)? != stack.0 {
            return Err("it is of another revision");
        }
        if u64::from_le_bytes(header.take().ok_or(SHORT)?) != upper {
            return Err("it is of another upper");
        }
        let base = u64::from_le_bytes(header.take().ok_or(SHORT)?);
        if !base.is_power_of_two() || base <= u64::from(row_count) || base > NUMBERS_BASE_MAX {
            return Err("its numbers have no room");
        }
        let (runs, marks) = (header.word().ok_or(SHORT)?, header.word().ok_or(SHORT)?);
        let runs_len = (runs as usize).checked_mul(RUN_LEN).ok_or(SHORT)?;
        let marks_len = (marks as usize).checked_mul(MARK_RECORD_LEN).ok_or(SHORT)?;
        if runs_len.checked_add(marks_len) != Some(rest.len()) {
            return Err("it has another length");
        }
        let runs = rest.split_off(..runs_len).ok_or(SHORT)?;
        let is_row = |row: Ino| u64::from(row) < base - 1;
        let mut rows: Vec<(Ino, u32)> = Vec::with_capacity(row_count.min(INODES_MAX) as usize);
        for run in runs.chunks_exact(RUN_LEN) {
            let mut run = Words(run);
            let count = run.word().ok_or(SHORT)?;
            let (first, generation) = (run.word().ok_or(SHORT)?, run.word().ok_or(SHORT)?);
            let room = (row_count as usize).saturating_sub(rows.len());
            let end = first.checked_add(count).filter(|_| count as usize <= room);
            let end = end.ok_or("it has other rows")?;
            rows.extend((first..end).map(|row| (row, generation)));
        }
        let distinct: HashSet<Ino> = rows.iter().map(|(row, _)| *row).collect();
        let begins = rows.first().is_some_and(|(row, _)| *row == ROOT);
        let is_sound = begins && distinct.iter().all(|row| is_row(*row));
        if !is_sound || distinct.len() != rows.len() || rows.len() != row_count as usize {
            return Err("it has other rows");
        }
        let mut known = Vec::with_capacity(marks as usize);
        for record in rest.chunks_exact(MARK_RECORD_LEN) {
            let mut record = Words(record);
            let mark = record.take().ok_or(SHORT)?;
            let row = record.word().ok_or(SHORT)?;
            let (kind, generation) = (record.word().ok_or(SHORT)?, record.word().ok_or(SHORT)?);
            if row != NO_ROW && !is_row(row) {
                return Err("it has other rows");
            }
            let row = (row != NO_ROW).then_some(NumberedRow {
                row,
                kind,
                generation,
            });
            known.push(NumberedMark { mark, row });
        }
        Ok(Numbering {
            stack,
            base,
            rows,
            marks: known,
        })
    }
}

/// Numbers, one after the other.
struct Words<'b>(&'b [u8]);

impl Words<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
}

fn name_of(stack: StackDigest) -> String {
    let mut name = String::from(PREFIX);
    for byte in stack.0 {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}

impl Upper {
    fn root_number(&self) -> Result<u64> {
        Ok(rustix::fs::statat(&self.root, c"", AtFlags::EMPTY_PATH)?.st_ino)
    }

    /// The stored numbers of the revision `stack`, which has `row_count` rows of its own, if there
    /// are some. Those of other revisions are removed.
    pub(crate) fn numbering(&self, stack: StackDigest, row_count: u32) -> Option<Numbering> {
        for other in self.keep_numbering_of(stack) {
            tracing::info!(
                file = other,
                "the inode numbers after a switch to another revision are dropped"
            );
        }
        let name = name_of(stack);
        let read = match self.read_numbering(&name) {
            Err(Errno::NOENT) => return None,
            Err(errno) => {
                tracing::warn!(%errno, "the inode numbers after the last switch cannot be read: objects get the numbers of the revision");
                return None;
            }
            Ok(read) => read,
        };
        let of = (stack, self.root_number().ok()?);
        match Numbering::decode(&read, of, row_count) {
            Ok(numbering) => Some(numbering),
            Err(fault) => {
                tracing::warn!(
                    fault,
                    file = name,
                    "the stored inode numbers are not used: objects get the numbers of the revision"
                );
                self.drop_numbering_of(stack);
                None
            }
        }
    }

    fn read_numbering(&self, name: &str) -> Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.work.base(), name, flags, Mode::empty())?;
        let mut bytes = Vec::new();
        let limit = NUMBERING_LEN_MAX as u64 + 1;
        let read = std::fs::File::from(file)
            .take(limit)
            .read_to_end(&mut bytes);
        read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        match bytes.len() > NUMBERING_LEN_MAX {
            true => Err(Errno::FBIG),
            false => Ok(bytes),
        }
    }

    /// Stores numbers: when this returns they survive a power cut.
    ///
    /// # Errors
    /// The file system is full or broken; the numbers are not stored then.
    pub(crate) fn save_numbering(&self, numbering: &Numbering) -> Result<()> {
        let bytes = numbering.encode(self.root_number()?);
        if bytes.len() > NUMBERING_LEN_MAX {
            return Err(Errno::FBIG);
        }
        let staged = self.work.name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(self.work.directory(), &staged[..], flags, mode)?;
        let mut file = std::fs::File::from(file);
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        let written = written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let base: &OwnedFd = self.work.base();
        let name = name_of(numbering.stack);
        let placed = written.and_then(|()| {
            let none = RenameFlags::empty();
            self.work.put(&staged, base, name.as_bytes(), none)
        });
        if placed.is_err() {
            let _ = self.work.remove(&staged);
        }
        placed.and_then(|()| rustix::fs::fsync(base))
    }

    /// The numbers of `stack` are not valid.
    pub(crate) fn drop_numbering_of(&self, stack: StackDigest) {
        let name = name_of(stack);
        let _ = rustix::fs::unlinkat(self.work.base(), &name, AtFlags::empty());
    }

    /// Removes the numbers of all other revisions; returns the names of their files.
    pub(crate) fn keep_numbering_of(&self, stack: StackDigest) -> Vec<String> {
        let kept = name_of(stack);
        let base: &OwnedFd = self.work.base();
        let mut removed = Vec::new();
        for entry in directory::list(base.as_fd()).unwrap_or_default() {
            let name = std::str::from_utf8(&entry.name).unwrap_or_default();
            if name.starts_with(PREFIX) && name != kept {
                let _ = rustix::fs::unlinkat(base, name, AtFlags::empty());
                removed.push(name.to_owned());
            }
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPPER: u64 = 77;

    fn sample() -> Numbering {
        let stack = StackDigest::new(&[3; 32]);
        let mark = |row: u32| stack.origin(row).try_into().unwrap();
        let numbered = NumberedRow {
            row: 9,
            kind: 0o100_000,
            generation: 5,
        };
        Numbering {
            stack,
            base: 1 << 20,
            rows: vec![(0, 1), (1, 1), (7, 1), (8, 2), (4, 2)],
            marks: vec![
                NumberedMark {
                    mark: mark(3),
                    row: Some(numbered),
                },
                NumberedMark {
                    mark: mark(4),
                    row: None,
                },
            ],
        }
    }

    #[test]
    fn numbers_come_back_and_damage_is_found() {
        let numbering = sample();
        let of = (numbering.stack, UPPER);
        let bytes = numbering.encode(UPPER);
        assert_eq!(Numbering::decode(&bytes, of, 5), Ok(numbering.clone()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Numbering::decode(&damaged, of, 5).is_err(), "{at}");
            assert!(Numbering::decode(&bytes[..at], of, 5).is_err(), "{at}");
        }
        let other = StackDigest::new(&[4; 32]);
        for (of, rows) in [((other, UPPER), 5), ((of.0, 78), 5), (of, 4), (of, 6)] {
            assert!(Numbering::decode(&bytes, of, rows).is_err());
        }
    }

    /// Rows of which two have one number, or one has none of a row.
    #[test]
    fn impossible_numbers_are_refused() {
        let twice = vec![(0, 1), (3, 1), (3, 1)];
        let beyond = vec![(0, 1), (1, 1), (1 << 20, 1)];
        let no_root = vec![(1, 1), (2, 1), (3, 1)];
        for rows in [twice, beyond, no_root] {
            let numbering = Numbering { rows, ..sample() };
            let bytes = numbering.encode(UPPER);
            assert!(Numbering::decode(&bytes, (numbering.stack, UPPER), 3).is_err());
        }
        for base in [0, 3, 1 << 40, 4] {
            let numbering = Numbering { base, ..sample() };
            let bytes = numbering.encode(UPPER);
            assert!(Numbering::decode(&bytes, (numbering.stack, UPPER), 5).is_err());
        }
    }
}
