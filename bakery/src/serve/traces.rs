//! Boot traces and reports that clients send, kept in the spool for the pack builder.
//!
//! Anyone on the network may post here, so everything is bounded: one trace's length, their
//! number per revision, the space of all. A trace can only make a boot pack better or worse,
//! never wrong: a pack's bytes are verified like any others.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::limits;

/// Why a trace was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Enough traces of this revision are here.
    #[error("revision has its {} traces already", limits::TRACES_PER_REVISION_MAX)]
    Enough,
    /// The spool's share for traces is used up.
    #[error("the spool holds {} bytes of traces already", limits::TRACES_LEN_MAX)]
    Full,
    /// The spool cannot be written.
    #[error("cannot store the trace in {path}: {source}")]
    Spool {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The directory of traces: `<system>/<profile>/<revision>/<ulid>`.
#[derive(Debug)]
pub struct Traces {
    root: PathBuf,
    /// Bytes in the directory; counted at start and kept up here.
    len: Mutex<u64>,
}

impl Traces {
    /// Opens the directory, making it if needed.
    ///
    /// # Errors
    /// It can neither be read nor made.
    pub fn open(root: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        let len = Mutex::new(len_below(&root, 4)?);
        Ok(Self { root, len })
    }

    /// Stores one trace; names are checked by the caller.
    pub fn put(
        &self,
        system: &str,
        profile: &str,
        revision: u64,
        body: &[u8],
    ) -> Result<(), TraceError> {
        let directory = self
            .root
            .join(system)
            .join(profile)
            .join(revision.to_string());
        let failed = |source| TraceError::Spool {
            path: directory.clone(),
            source,
        };
        // One at a time: the counts below must hold while we write.
        let mut len = self.len.lock().unwrap_or_else(PoisonError::into_inner);
        let grown = len.saturating_add(body.len() as u64);
        if grown > limits::TRACES_LEN_MAX {
            return Err(TraceError::Full);
        }
        std::fs::create_dir_all(&directory).map_err(failed)?;
        if std::fs::read_dir(&directory).map_err(failed)?.count() >= limits::TRACES_PER_REVISION_MAX
        {
            return Err(TraceError::Enough);
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.root).map_err(failed)?;
        file.write_all(body).map_err(failed)?;
        file.persist_noclobber(directory.join(ulid::Ulid::generate().to_string()))
            .map_err(|error| failed(error.error))?;
        *len = grown;
        Ok(())
    }
}

/// Bytes of the files in a directory, not deeper than `depth`.
fn len_below(directory: &Path, depth: usize) -> std::io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() && depth > 0 {
            total += len_below(&entry.path(), depth - 1)?;
        } else if meta.is_file() {
            total += meta.len();
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_bounded_in_number_and_space() {
        let spool = tempfile::tempdir().unwrap();
        let traces = Traces::open(spool.path().join("traces")).unwrap();
        for _ in 0..limits::TRACES_PER_REVISION_MAX {
            traces.put("kiosk", "main", 7, b"0123456789").unwrap();
        }
        assert!(matches!(
            traces.put("kiosk", "main", 7, b"x"),
            Err(TraceError::Enough)
        ));
        traces.put("kiosk", "main", 8, b"x").unwrap();
        let expected = limits::TRACES_PER_REVISION_MAX as u64 * 10 + 1;
        assert_eq!(*traces.len.lock().unwrap(), expected);
        // The count survives a restart.
        let again = Traces::open(spool.path().join("traces")).unwrap();
        assert_eq!(*again.len.lock().unwrap(), expected);
        *again.len.lock().unwrap() = limits::TRACES_LEN_MAX;
        assert!(matches!(
            again.put("kiosk", "main", 9, b"x"),
            Err(TraceError::Full)
        ));
    }
}
