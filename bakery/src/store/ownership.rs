//! Root works for the account that owns a store: all new files there belong to that account.
//!
//! The services run under their own account, and an operator types `sudo bakery import`. Without
//! this, the services could not write beside the files that root made.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

/// Gives `path`, and the directories between it and `above`, the owner of `above`. Does nothing
/// unless run by root.
///
/// # Errors
/// A file cannot be read or changed.
pub fn inherit(above: &Path, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(above)?;
    let made = path.ancestors().take_while(|place| *place != above);
    for place in made {
        match give(place, &owner) {
            // A sweep that runs at the same time may remove a file that no revision has yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            given => given?,
        }
    }
    Ok(())
}

fn give(place: &Path, owner: &fs::Metadata) -> io::Result<()> {
    let present = fs::symlink_metadata(place)?;
    if (present.uid(), present.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    lchown(place, Some(owner.uid()), Some(owner.gid()))
}

/// Makes a directory with its missing parents; they get the owner of the directory that was there.
///
/// # Errors
/// It cannot be made.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let present = path
        .ancestors()
        .find(|place| place.is_dir())
        .map(Path::to_owned);
    fs::create_dir_all(path)?;
    match present {
        Some(above) if above != path => inherit(&above, path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_belongs_to_the_owner_above() {
        let room = tempfile::tempdir().unwrap();
        if lchown(room.path(), Some(1234), Some(4321)).is_err() {
            return;
        }
        let deep = room.path().join("a/b/c");
        create_dir_all(&deep).unwrap();
        let file = deep.join("file");
        fs::write(&file, "x").unwrap();
        inherit(room.path(), &file).unwrap();
        for place in file.ancestors().take_while(|place| *place != room.path()) {
            let found = fs::metadata(place).unwrap();
            assert_eq!(
                (found.uid(), found.gid()),
                (1234, 4321),
                "{}",
                place.display()
            );
        }
        fs::remove_file(&file).unwrap();
        inherit(room.path(), &file).unwrap();
    }
}
