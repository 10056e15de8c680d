//! A directory that is opened once and then used by its descriptor: its path may disappear with the old root.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// An open directory. Paths are relative to it, with `/` between names, never above it.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Opens `path`, and creates it if missing.
    ///
    /// # Errors
    /// It cannot be created or is not a directory.
    pub(crate) fn open(path: &Path) -> std::io::Result<Dir> {
        std::fs::create_dir_all(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Dir {
            fd: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// The errors of open(2).
    pub(crate) fn file(&self, path: &str) -> std::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(openat(&self.fd, path, flags, Mode::empty())?.into())
    }

    /// Opens a file for reading and writing; makes it, and the directories above it, if needed.
    ///
    /// # Errors
    /// The errors of open(2).
    pub(crate) fn part(&self, path: &str) -> std::io::Result<File> {
        self.make_parents(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(openat(&self.fd, path, flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// Reads a file of at most `len_max` bytes.
    ///
    /// # Errors
    /// When it is not there, cannot be read or is longer.
    pub(crate) fn read(&self, path: &str, len_max: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(len_max).unwrap_or(u64::MAX).saturating_add(1);
        self.file(path)?.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() > len_max {
            return Err(std::io::Error::other(format!(
                "longer than {len_max} bytes"
            )));
        }
        Ok(bytes)
    }

    /// Writes a file atomically: after a power cut it has the new or the old contents.
    ///
    /// # Errors
    /// The storage is full or broken.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) -> std::io::Result<()> {
        let stage = format!("{path}.{}.new", std::process::id());
        let mut file = self.part(&stage)?;
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all())
            .and_then(|()| self.rename(&stage, path));
        if written.is_err() {
            let _ = unlinkat(&self.fd, &stage, AtFlags::empty());
        }
        written
    }

    /// Renames a file within the directory, durably.
    ///
    /// # Errors
    /// The errors of rename(2) and fsync(2).
    pub(crate) fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.make_parents(to)?;
        renameat(&self.fd, from, &self.fd, to)?;
        let parent = to.rsplit_once('/').map_or(".", |(parent, _)| parent);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat(&self.fd, parent, flags, Mode::empty())?;
        rustix::fs::fsync(&parent)?;
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// The errors of unlink(2).
    pub(crate) fn remove(&self, path: &str) -> std::io::Result<()> {
        Ok(unlinkat(&self.fd, path, AtFlags::empty())?)
    }

    /// The names in a directory; none if it is not there.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = openat(&self.fd, path, flags, Mode::empty()) else {
            return Vec::new();
        };
        let Ok(entries) = rustix::fs::Dir::read_from(&dir) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| name != "." && name != "..")
            .collect()
    }

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// The errors of statvfs(2).
    pub(crate) fn free(&self) -> std::io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.fd)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn make_parents(&self, path: &str) -> std::io::Result<()> {
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default();
            match mkdirat(&self.fd, parent, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_whole_files_in_new_directories_and_reads_them_back() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(&place.path().join("made")).unwrap();
        dir.write("a/b/c", b"one").unwrap();
        dir.write("a/b/c", b"two").unwrap();
        assert_eq!(dir.read("a/b/c", 3).unwrap(), b"two");
        assert!(dir.read("a/b/c", 2).is_err());
        assert_eq!(dir.names("a/b"), ["c"]);
        assert!(dir.names("nowhere").is_empty());
        assert!(dir.free().unwrap() > 0);
        dir.remove("a/b/c").unwrap();
        assert!(dir.file("a/b/c").is_err());
    }
}
