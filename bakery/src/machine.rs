//! Data of one machine in a tree that many machines boot.
//!
//! A tree that was installed on a machine contains its disks, its cards and its identity. `import`
//! makes it a tree that a fleet can share: [`identity`] empties the machine's identity and prevents
//! first boots, [`mounts`] masks lines that wait for a disk, and [`checks`] reports further data of
//! one machine.

pub(crate) mod checks;
mod error;
pub(crate) mod identity;
pub(crate) mod mounts;
mod view;

use std::collections::HashMap;

use layerfmt::tree::{Kind, ROOT, Tree};
use wire::exclude::Excludes;

use crate::assemble::Contents;
use source::{Data, EntryPath};

pub(crate) use self::error::MachineError;
use self::view::View;

/// The searched files of a tree, by path, each up to
/// [`MACHINE_FILE_LEN_MAX`](crate::limits::MACHINE_FILE_LEN_MAX).
pub(crate) type MachineFiles = HashMap<Box<[u8]>, Vec<u8>>;

/// Treatment of data that belongs to one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineChoice {
    /// True to keep `etc/fstab` and `etc/crypttab` unchanged.
    pub keep_fstab: bool,
}

/// Messages about the changes to a tree and the remaining work.
#[derive(Debug, Default)]
pub(crate) struct MachineNotes {
    /// Harmless changes.
    pub notes: Vec<String>,
    /// Findings for the user to inspect.
    pub warnings: Vec<String>,
}

/// True if the content of the file at `path` is needed.
#[must_use]
pub(crate) fn is_read(path: &EntryPath) -> bool {
    let path = path.as_bytes();
    mounts::TABLES
        .iter()
        .any(|table| table.path.as_bytes() == path)
        || checks::is_read(path)
}

/// Makes a whole tree one that many machines boot.
///
/// # Errors
/// What is written cannot be stored, or the tree grows too large.
pub(crate) fn prepare<C: Contents>(
    tree: &mut Tree<C::Content>,
    files: &mut MachineFiles,
    excludes: &Excludes,
    contents: &mut C,
    choice: MachineChoice,
) -> Result<MachineNotes, MachineError> {
    let mut said = MachineNotes::default();
    let mut writing = Writing { tree, contents };
    for table in mounts::TABLES {
        let Some(text) = files.get(table.path.as_bytes()) else {
            continue;
        };
        let masked = mounts::mask(table, text);
        if masked.lines.is_empty() {
            continue;
        }
        said.warnings
            .extend(mounts::said(table, &masked.lines, choice.keep_fstab));
        if !choice.keep_fstab {
            writing.rewrite(table.path, &masked.text)?;
            files.insert(table.path.as_bytes().into(), masked.text);
        }
    }
    identity::prepare(&mut writing, excludes, &mut said)?;
    let view = View::new(writing.tree, files);
    said.warnings.extend(checks::findings(&view)?);
    Ok(said)
}

/// A tree, and the receiver of the bytes of added files.
struct Writing<'w, C: Contents> {
    tree: &'w mut Tree<C::Content>,
    contents: &'w mut C,
}

impl<C: Contents> Writing<'_, C> {
    fn store(&mut self, path: &str, bytes: &[u8]) -> Result<C::Content, MachineError> {
        let size = bytes.len() as u64;
        let mut reader = bytes;
        let data = Data {
            size,
            segments: if size == 0 {
                Vec::new()
            } else {
                vec![(0, size)]
            },
            reader: &mut reader,
        };
        let path = EntryPath::parse(path.as_bytes())?;
        Ok(self.contents.take("bakery", &path, data)?)
    }

    /// Replaces the bytes of the regular file at `path`.
    fn rewrite(&mut self, path: &str, bytes: &[u8]) -> Result<(), MachineError> {
        let Some(id) = self.tree.resolve(path.as_bytes()) else {
            return Ok(());
        };
        let content = self.store(path, bytes)?;
        if let Some(node) = self.tree.node_mut(id)
            && matches!(node.kind, Kind::File(_))
        {
            node.kind = Kind::File(content);
        }
        Ok(())
    }

    fn is_directory(&self, path: &str) -> bool {
        let id = self.tree.resolve(path.as_bytes());
        id.is_some_and(|id| self.tree.directory(id).is_some())
    }

    fn has(&self, path: &str) -> bool {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = match parent {
            "" => Some(ROOT),
            parent => self.tree.resolve(parent.as_bytes()),
        };
        parent.is_some_and(|id| self.tree.child(id, name.as_bytes()).is_some())
    }
}
