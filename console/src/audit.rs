//! The audit log: one JSON line before each action, and one after it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::text::now;

/// Bytes at the end of the log that a page reads.
const TAIL_LEN: u64 = 1 << 20;

/// One line of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// The account; empty before a log-in.
    pub(crate) who: String,
    /// The address of the browser.
    pub(crate) from: String,
    /// The text of the action, which is also the message of the revision that it makes.
    pub(crate) what: String,
    /// `begins`, `done`, or the error.
    pub(crate) result: String,
}

/// The log of one console.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    file: Mutex<File>,
}

impl Audit {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(state: &Path) -> io::Result<Audit> {
        let path = state.join("audit.log");
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o640).open(&path)?;
        Ok(Audit {
            path,
            file: Mutex::new(file),
        })
    }

    /// Writes one line; it is on the disk afterwards.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, who: &str, from: &str, what: &str, result: &str) -> io::Result<()> {
        let entry = Entry {
            time: now(),
            who: who.to_owned(),
            from: from.to_owned(),
            what: what.to_owned(),
            result: result.to_owned(),
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)?;
        file.sync_data()
    }

    /// The last entries, newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn tail(&self, count_max: usize) -> io::Result<Vec<Entry>> {
        let mut file = File::open(&self.path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_LEN)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_LEN).read_to_end(&mut bytes)?;
        let lines = bytes.split(|byte| *byte == b'\n').rev();
        let entries = lines.filter_map(|line| serde_json::from_slice(line).ok());
        Ok(entries.take(count_max).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_and_cannot_be_forged() {
        let room = tempfile::tempdir().unwrap();
        let audit = Audit::open(room.path()).unwrap();
        audit
            .write("ann", "::1", "roll back\n{\"who\":\"eve\"}", "begins")
            .unwrap();
        audit.write("ann", "::1", "roll back", "done").unwrap();
        let again = Audit::open(room.path()).unwrap();
        let entries = again.tail(10).unwrap();
        let results: Vec<&str> = entries.iter().map(|one| one.result.as_str()).collect();
        assert_eq!(results, ["done", "begins"]);
        assert!(entries.iter().all(|one| one.who == "ann"));
        assert_eq!(again.tail(1).unwrap().len(), 1);
    }
}
