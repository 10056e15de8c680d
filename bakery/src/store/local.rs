//! The store as a directory of plain files.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::local::LocalFileSystem;

use super::{Key, Result, Store, StoreError, ownership};

/// The directory below the root in which files are completed before they get their name.
const STAGING: &str = "staging";

pub(super) fn attach(location: &str, root: &Path) -> Result<Store> {
    let root = fs::canonicalize(root).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => StoreError::NotAStore(location.into()),
        _ => failed("cannot open the store", root, e),
    })?;
    if !root.is_dir() {
        return Err(StoreError::NotAStore(location.into()));
    }
    let objects = LocalFileSystem::new_with_prefix(&root)
        .map_err(|e| StoreError::Failed {
            doing: "cannot open the store",
            key: location.into(),
            source: e.into(),
        })?
        .with_fsync(true);
    let objects = Arc::new(objects);
    Ok(Store {
        objects,
        location: location.into(),
        root: Some(root),
        copies: None,
    })
}

pub(super) fn make_root(location: &Path) -> Result<()> {
    ownership::create_dir_all(&location.join(STAGING))
        .map_err(|e| failed("cannot make the store", location, e))
}

/// A directory on the store's own file system for files that will become objects.
pub(super) fn staging(root: &Path) -> Result<PathBuf> {
    let staging = root.join(STAGING);
    ownership::create_dir_all(&staging).map_err(|e| failed("cannot make", &staging, e))?;
    Ok(staging)
}

/// Minimum age of a leftover upload, regardless of the grace period: a publisher uploads its flag
/// before a sweeper can see it.
const UPLOAD_MAX: Duration = Duration::from_secs(600);

/// Leftovers: everything in the staging directory, and uploads of `object_store`, which it names
/// `NAME#NUMBER` and does not list.
pub(super) fn sweep_staging(root: &Path, grace: Duration) -> Result<()> {
    let unreadable = |e| failed("cannot read", root, e);
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
            let staged = directory.ends_with(STAGING) && directory.parent() == Some(root);
            let partial = path
                .to_string_lossy()
                .rsplit_once('#')
                .is_some_and(|(_, number)| {
                    number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty()
                });
            if !staged && !partial {
                if kind.is_dir() {
                    directories.push(path);
                }
                continue;
            }
            let age = entry
                .metadata()
                .ok()
                .and_then(|m| m.modified().ok()?.elapsed().ok());
            let grace = if staged { grace } else { grace.max(UPLOAD_MAX) };
            if age.is_none_or(|age| age < grace) {
                continue;
            }
            let removed = match kind.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            if let Err(error) = removed {
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
        }
    }
    Ok(())
}

/// Give `file` the name of `key` as well, durably. A file of another file system is copied.
pub(super) fn link(root: &Path, key: &Key, file: &Path) -> Result<()> {
    let target = root.join(key.as_str());
    let directory = target.parent().unwrap_or(root);
    if !directory.is_dir() {
        fs::create_dir_all(directory).map_err(|e| failed("cannot make", directory, e))?;
        sync_directory(directory.parent().unwrap_or(root))?;
    }
    if target.exists() {
        return Ok(());
    }
    seal(file)?;
    let linked = match fs::hard_link(file, &target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let copy = copy_to_staging(root, file)?;
            seal(copy.path())?;
            fs::hard_link(copy.path(), &target)
        }
        linked => linked,
    };
    match linked {
        Ok(()) => {
            inherit(root, key)?;
            sync_directory(directory)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("cannot put into the store", &target, error)),
    }
}

/// The object belongs to the account that owns the store, also when root wrote it.
pub(super) fn inherit(root: &Path, key: &Key) -> Result<()> {
    let file = root.join(key.as_str());
    ownership::inherit(root, &file).map_err(|e| failed("cannot give its owner to", &file, e))
}

/// A copy of an object that shares nothing with the store's own file.
pub(super) fn fetch(root: &Path, key: &Key, to: &Path) -> Result<()> {
    let file = root.join(key.as_str());
    let copied = File::open(&file).and_then(|mut from| {
        let mut to = File::create_new(to)?;
        io::copy(&mut from, &mut to).map(drop)
    });
    match copied {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Missing(key.clone()))
        }
        copied => copied.map_err(|e| failed("cannot copy", &file, e)),
    }
}

/// Makes the file durable before it has a name, and readable for a web server under another
/// account.
fn seal(file: &Path) -> Result<()> {
    let sealed = File::open(file).and_then(|opened| {
        opened.set_permissions(Permissions::from_mode(0o444))?;
        opened.sync_all()
    });
    sealed.map_err(|e| failed("cannot write to disk", file, e))
}

fn copy_to_staging(root: &Path, file: &Path) -> Result<tempfile::NamedTempFile> {
    let staging = staging(root)?;
    let copied = tempfile::NamedTempFile::new_in(&staging).and_then(|mut copy| {
        io::copy(&mut File::open(file)?, copy.as_file_mut())?;
        Ok(copy)
    });
    copied.map_err(|e| failed("cannot copy into the store", file, e))
}

fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(|e| failed("cannot write to disk", directory, e))
}

pub(super) fn failed(doing: &'static str, path: &Path, error: io::Error) -> StoreError {
    StoreError::Failed {
        doing,
        key: path.display().to_string(),
        source: error.into(),
    }
}
