//! Files that appear under their name complete, or not at all.

use std::fs::File;
use std::io;
use std::path::Path;

use super::error::BakeError;
use crate::failed::Doing as _;

/// A file that does not have its name yet; dropping it removes it.
#[derive(Debug)]
pub struct Partial(tempfile::NamedTempFile);

impl Partial {
    /// Creates a file beside `output`, so that it can be renamed to it.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn beside(output: &Path) -> Result<Self, BakeError> {
        let directory = Partial::directory_of(output);
        let file = tempfile::Builder::new()
            .prefix(".bakery-")
            .suffix(".partial")
            .tempfile_in(directory)
            .doing(|| format!("cannot make a file in {}", directory.display()))?;
        Ok(Partial(file))
    }

    /// The file, for reading and writing.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn file(&self) -> io::Result<File> {
        self.0.as_file().try_clone()
    }

    /// Its temporary path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The directory a file of this name is in.
    #[must_use]
    pub(crate) fn directory_of(output: &Path) -> &Path {
        match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Gives the complete, durable file at `path` the name `output`, durably.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub(crate) fn adopt(path: &Path, output: &Path) -> Result<(), BakeError> {
        std::fs::rename(path, output)
            .doing(|| format!("cannot rename a file to {}", output.display()))?;
        Self::sync_directory(output)
    }

    fn sync_directory(output: &Path) -> Result<(), BakeError> {
        let directory = Self::directory_of(output);
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .doing(|| format!("cannot sync {}", directory.display()))?;
        Ok(())
    }

    /// Renames the file to its name, durably, replacing a previous file.
    ///
    /// # Errors
    /// It cannot be renamed or synced.
    pub fn publish(self, output: &Path) -> Result<(), BakeError> {
        use std::os::unix::fs::PermissionsExt as _;
        let place = output.display();
        let file = self.0.as_file();
        // A temporary file is private; a layer is as public as the umask lets files be.
        let mode = 0o666 & !umask();
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .and_then(|()| file.sync_all())
            .doing(|| format!("cannot make {place} durable"))?;
        self.0
            .persist(output)
            .map_err(|failed| failed.error)
            .doing(|| format!("cannot rename a file to {place}"))?;
        Self::sync_directory(output)
    }
}

/// The file mode creation mask, read without changing it.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok())
        .unwrap_or(0o022)
}
