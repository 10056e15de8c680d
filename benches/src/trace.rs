//! Recorded boots: reading the text files in `benches/traces/`, a tree to replay them on, the replay.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::fixture::{self, Failure};

/// Bytes of one page of a trace.
pub const PAGE_LEN: u64 = 4096;

/// A run of pages of one file, touched one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which of the trace's files.
    pub file: usize,
    /// The first page.
    pub page: u64,
    /// Number of pages.
    pub count: u64,
}

/// First touches of file pages by a boot, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Path below the root and size of each file.
    pub files: Vec<(PathBuf, u64)>,
    /// The recorded accesses.
    pub touches: Vec<Touch>,
}

impl Trace {
    /// Reads the text of `benches/boot/record.py`.
    ///
    /// # Errors
    /// The number of the line that is none.
    pub fn parse(text: &str) -> Result<Trace, Failure> {
        let mut trace = Trace::default();
        for (number, line) in text.lines().enumerate() {
            let wrong = || {
                format!(
                    "line {} of the trace is neither a file nor a touch: {line}",
                    number + 1
                )
            };
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words.as_slice() {
                ["#", ..] => {}
                ["+", size, path] => trace
                    .files
                    .push((PathBuf::from(path), size.parse().map_err(|_| wrong())?)),
                [file, page, count] => {
                    let value = |word: &str| word.parse::<u64>().map_err(|_| wrong());
                    let touch = Touch {
                        file: file.parse().map_err(|_| wrong())?,
                        page: value(page)?,
                        count: value(count)?,
                    };
                    if touch.file >= trace.files.len() {
                        return Err(wrong().into());
                    }
                    trace.touches.push(touch);
                }
                _ => return Err(wrong().into()),
            }
        }
        Ok(trace)
    }

    /// The trace of the `minimal` tree, which is part of the repository.
    ///
    /// # Errors
    /// The file is gone or damaged.
    pub fn minimal() -> Result<Trace, Failure> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/minimal.trace");
        Trace::parse(&fs::read_to_string(path)?)
    }

    /// Bytes the replay reads.
    #[must_use]
    pub fn touched(&self) -> u64 {
        self.touches
            .iter()
            .map(|touch| touch.count * PAGE_LEN)
            .sum()
    }

    /// Makes every file of the trace below `root`, at its size, of bytes that compress like a system's:
    /// for machines that have no Debian tree at hand.
    ///
    /// # Errors
    /// The disk's.
    pub fn make_tree(&self, root: &Path) -> Result<(), Failure> {
        let mut random = SmallRng::seed_from_u64(5);
        for (path, size) in &self.files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            let mut file = File::create(path)?;
            file.write_all(&fixture::bytes(&mut random, usize::try_from(*size)?))?;
        }
        Ok(())
    }

    /// Touches the pages below `root` in order; returns the bytes read.
    ///
    /// Files that `root` lacks are passed over: a tree built later has other versions.
    ///
    /// # Errors
    /// The reads', and a tree that has less than half of the trace's files.
    pub fn replay(&self, root: &Path) -> Result<u64, Failure> {
        let mut open: Vec<Option<Option<File>>> = self.files.iter().map(|_| None).collect();
        let mut buffer = Vec::new();
        let mut bytes = 0;
        for touch in &self.touches {
            let Some((slot, (path, _))) = open.get_mut(touch.file).zip(self.files.get(touch.file))
            else {
                continue;
            };
            let Some(file) = slot.get_or_insert_with(|| File::open(root.join(path)).ok()) else {
                continue;
            };
            buffer.resize(usize::try_from(touch.count * PAGE_LEN)?, 0);
            bytes += file.read_at(&mut buffer, touch.page * PAGE_LEN)? as u64;
        }
        let missing = open
            .iter()
            .filter(|slot| matches!(slot, Some(None)))
            .count();
        if missing * 2 > self.files.len() {
            return Err(format!(
                "{} lacks {missing} of the trace's {} files",
                root.display(),
                self.files.len()
            )
            .into());
        }
        Ok(bytes)
    }
}

/// Reads every byte below `root` once, to see that two mounts agree.
///
/// # Errors
/// The reads'.
pub fn checksum(trace: &Trace, root: &Path) -> Result<layerfmt::Digest, Failure> {
    let mut all = Vec::new();
    for (path, _) in &trace.files {
        if let Ok(mut file) = File::open(root.join(path)) {
            file.read_to_end(&mut all)?;
            all = layerfmt::Digest::of(&all).0.to_vec();
        }
    }
    Ok(layerfmt::Digest::of(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_boot_reads_and_replays() {
        let trace = Trace::minimal().unwrap();
        assert!(
            trace.touched() > 10 << 20,
            "a boot touches more than {} bytes",
            trace.touched()
        );
        let directory = std::env::temp_dir().join(format!("layerfs-trace-{}", std::process::id()));
        trace.make_tree(&directory).unwrap();
        let replayed = trace.replay(&directory);
        let elsewhere = trace.replay(Path::new("/nonexistent"));
        fs::remove_dir_all(&directory).unwrap();
        let least = trace.touched() - trace.files.len() as u64 * PAGE_LEN;
        assert!((least..=trace.touched()).contains(&replayed.unwrap()));
        assert!(elsewhere.unwrap_err().to_string().contains("lacks"));
    }

    #[test]
    fn wrong_lines_are_named() {
        for text in [
            "0 0 1",
            "+ 12 a\n1 0 1",
            "+ x a",
            "+ 12 a\n0 0",
            "# c\n+ 12 a\n0 0 1 2",
        ] {
            let error = Trace::parse(text).unwrap_err().to_string();
            assert!(error.contains("line"), "{error}");
        }
    }
}
