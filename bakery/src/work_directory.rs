//! Temporary directories that do not outlive a killed process.
//!
//! Each is locked for as long as it is used. A process that makes one first removes those that
//! killed processes left: their locks are free.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use tempfile::TempDir;

/// A temporary directory; it is removed when the value ends.
#[derive(Debug)]
pub struct WorkDirectory {
    directory: TempDir,
    /// Holds the lock; none where files cannot be locked, or if something else removes the
    /// directories of killed processes.
    _lock: Option<File>,
}

/// Attempts to make a directory that no other process takes for a left one.
const ATTEMPTS: usize = 8;

impl WorkDirectory {
    /// Makes one in the system's directory for temporary files (`TMPDIR`). Its name begins with
    /// `prefix`, which belongs to directories of this kind only.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(prefix: &str) -> io::Result<WorkDirectory> {
        WorkDirectory::new_in(&std::env::temp_dir(), prefix)
    }

    fn new_in(parent: &Path, prefix: &str) -> io::Result<WorkDirectory> {
        remove_left(parent, prefix);
        for _ in 0..ATTEMPTS {
            let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
            match lock(directory.path()) {
                // Another process can remove it before it is locked.
                Ok(None) => {}
                locked => {
                    return Ok(WorkDirectory {
                        directory,
                        _lock: locked.ok().flatten(),
                    });
                }
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl From<TempDir> for WorkDirectory {
    fn from(directory: TempDir) -> Self {
        Self {
            directory,
            _lock: None,
        }
    }
}

/// The locked directory at this path; none if another process has locked or removed it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path);
    let opened = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match opened.try_lock() {
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error),
        Ok(()) => {}
    }
    let is_at_path = fs::symlink_metadata(path).is_ok_and(|there| {
        opened
            .metadata()
            .is_ok_and(|locked| (there.dev(), there.ino()) == (locked.dev(), locked.ino()))
    });
    Ok(is_at_path.then_some(opened))
}

/// Removes the directories of killed processes. One that cannot be removed stays for the next time.
fn remove_left(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    let own = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let is_kind = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(prefix));
        let is_own = |meta: fs::Metadata| meta.is_dir() && meta.uid() == own;
        if !is_kind || !entry.metadata().is_ok_and(is_own) {
            continue;
        }
        let path = entry.path();
        if let Ok(Some(_lock)) = lock(&path) {
            match fs::remove_dir_all(&path) {
                Ok(()) => tracing::debug!("removed {}: its process was killed", path.display()),
                Err(error) => tracing::warn!("cannot remove {}: {error}", path.display()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "work.";

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_used_stays() {
        let parent = tempfile::tempdir().unwrap();
        let used = WorkDirectory::new_in(parent.path(), PREFIX).unwrap();
        fs::write(used.path().join("file"), "used").unwrap();
        let left = parent.path().join("work.left");
        fs::create_dir_all(left.join("below")).unwrap();
        fs::write(left.join("below/file"), "left").unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        fs::write(parent.path().join("work.file"), "no directory").unwrap();
        std::os::unix::fs::symlink("other", parent.path().join("work.link")).unwrap();

        let second = WorkDirectory::new_in(parent.path(), PREFIX).unwrap();
        assert!(!left.exists());
        assert!(used.path().join("file").exists());
        for kept in ["other", "work.file", "work.link"] {
            assert!(
                parent.path().join(kept).symlink_metadata().is_ok(),
                "{kept}"
            );
        }
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
    }
}
