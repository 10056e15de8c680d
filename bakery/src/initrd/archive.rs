//! The cpio archive that the kernel unpacks: format newc (`070701`), written from a sorted
//! map, so that equal content gives equal bytes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;

const TRAILER: &str = "TRAILER!!!";

/// One name of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CpioEntry {
    /// A directory.
    Directory,
    /// A regular file with its permission bits.
    File(u32, Vec<u8>),
    /// A symbolic link.
    Link(String),
    /// A character device: major, minor.
    Character(u32, u32),
}

/// The archive as it grows.
#[derive(Debug)]
pub(crate) struct CpioArchive {
    entries: BTreeMap<String, CpioEntry>,
    mtime: u32,
}

impl CpioArchive {
    /// An empty archive whose entries all carry this time (newc has 32 bits for it).
    #[must_use]
    pub(crate) fn new(mtime: i64) -> Self {
        Self {
            entries: BTreeMap::new(),
            mtime: u32::try_from(mtime).unwrap_or(0),
        }
    }

    /// Adds `path` (without a leading slash) and the directories above it; a later entry of the
    /// same name replaces an earlier one.
    pub(crate) fn add(&mut self, path: &str, entry: CpioEntry) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            if let Some(above) = path.get(..at) {
                self.entries
                    .entry(above.to_owned())
                    .or_insert(CpioEntry::Directory);
            }
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds a regular file.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, bytes: impl Into<Vec<u8>>) {
        self.add(path, CpioEntry::File(permissions, bytes.into()));
    }

    /// The bytes of the archive, padded to 512 as cpio does.
    #[must_use]
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut number = 0;
        for (path, entry) in &self.entries {
            number += 1;
            let (mode, data, device): (u32, &[u8], (u32, u32)) = match entry {
                CpioEntry::Directory => (0o040_755, &[], (0, 0)),
                CpioEntry::File(permissions, bytes) => (0o100_000 | permissions, bytes, (0, 0)),
                CpioEntry::Link(target) => (0o120_777, target.as_bytes(), (0, 0)),
                CpioEntry::Character(major, minor) => (0o020_600, &[], (*major, *minor)),
            };
            let links = if matches!(entry, CpioEntry::Directory) {
                2
            } else {
                1
            };
            write_entry(
                &mut out,
                path,
                [number, mode, links, self.mtime],
                data,
                device,
            );
        }
        write_entry(&mut out, TRAILER, [0, 0, 1, 0], &[], (0, 0));
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

/// `fields`: inode number, mode, number of links, time.
fn write_entry(out: &mut Vec<u8>, name: &str, fields: [u32; 4], data: &[u8], device: (u32, u32)) {
    let [number, mode, links, mtime] = fields;
    let (len, name_len) = (data.len(), name.len() + 1);
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "070701{number:08x}{mode:08x}{:08x}{:08x}{links:08x}{mtime:08x}{len:08x}{:08x}{:08x}{:08x}{:08x}{name_len:08x}{:08x}",
        0, 0, 0, 0, device.0, device.1, 0
    );
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad4(out);
    out.extend_from_slice(data);
    pad4(out);
}

/// Length of a newc header: a magic and 13 numbers of 8 digits.
const HEADER_LEN: usize = 110;
/// Most members of an archive that [`members`] reads: one with our parts has four.
const MEMBERS_MAX: usize = 64;

/// Name and place of each member.
type Members = Vec<(String, Range<usize>)>;

/// The members of an uncompressed archive at the start of `bytes`, and the place where the next
/// archive begins. `None`: there is no such archive, or it is cut, or has very many members.
pub(crate) fn members(bytes: &[u8]) -> Option<(Members, usize)> {
    let mut members = Vec::new();
    let mut at = 0_usize;
    while members.len() < MEMBERS_MAX {
        let header = bytes.get(at..at.checked_add(HEADER_LEN)?)?;
        let digits = |from: usize| std::str::from_utf8(header.get(from..from + 8)?).ok();
        let number = |from: usize| usize::from_str_radix(digits(from)?, 16).ok();
        if !header.starts_with(b"070701") {
            return None;
        }
        let (len, name_len) = (number(54)?, number(94)?);
        let name_at = at + HEADER_LEN;
        let name = bytes.get(name_at..name_at.checked_add(name_len)?)?;
        let name = std::str::from_utf8(name.strip_suffix(b"\0")?).ok()?;
        let data = (name_at + name_len).next_multiple_of(4);
        let end = data.checked_add(len)?;
        bytes.get(data..end)?;
        at = end.checked_next_multiple_of(4)?;
        if name == TRAILER {
            let fill = bytes.get(at..)?.iter().take_while(|byte| **byte == 0);
            return Some((members, at + fill.count()));
        }
        members.push((name.to_owned(), data..end));
    }
    None
}

fn pad4(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    fn sample() -> CpioArchive {
        let mut archive = CpioArchive::new(1_700_000_000);
        archive.file("/bin/tool", 0o755, "hello");
        archive.add("dev/console", CpioEntry::Character(5, 1));
        archive.add("init", CpioEntry::Link("bin/tool".into()));
        archive.add("run", CpioEntry::Directory);
        archive
    }

    #[test]
    fn order_of_adding_does_not_matter() {
        let mut other = CpioArchive::new(1_700_000_000);
        other.add("run", CpioEntry::Directory);
        other.add("init", CpioEntry::Link("bin/tool".into()));
        other.add("dev/console", CpioEntry::Character(5, 1));
        other.file("bin/tool", 0o755, "other");
        other.file("bin/tool", 0o755, "hello");
        assert_eq!(sample().finish(), other.finish());
    }

    /// GNU cpio reads our archives.
    #[test]
    fn cpio_lists_it() {
        let mut child = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cpio is needed (Debian package cpio)");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&sample().finish())
            .unwrap();
        let mut listing = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut listing)
            .unwrap();
        assert!(child.wait().unwrap().success());
        let lines: Vec<String> = listing
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 2 0 0 0 Nov 14 2023 bin",
                "-rwxr-xr-x 1 0 0 5 Nov 14 2023 bin/tool",
                "drwxr-xr-x 2 0 0 0 Nov 14 2023 dev",
                "crw------- 1 0 0 5, 1 Nov 14 2023 dev/console",
                "lrwxrwxrwx 1 0 0 8 Nov 14 2023 init -> bin/tool",
                "drwxr-xr-x 2 0 0 0 Nov 14 2023 run",
            ]
        );
    }
}
