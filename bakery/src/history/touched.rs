//! Finds the revisions that changed a path.

use layerfmt::{DirentTarget, Index, Ino, MergedIndex};

use super::{History, HistoryError, Result, Revision, find};

/// The change of a path by a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// The revision changed the path, or something below it.
    Yes,
    /// The revision did not change it.
    No,
    /// Its tree, or the tree before it, was swept.
    Unknown,
}

impl History {
    /// Compares `path` in `newer` with the preceding revision; times do not count. For the first
    /// revision, every path is a change.
    ///
    /// # Errors
    /// An index is missing or damaged.
    pub fn touched(
        &self,
        path: &[u8],
        newer: &Revision,
        older: Option<&Revision>,
    ) -> Result<Touched> {
        let same = |older: &Revision| older.manifest.tree_digest == newer.manifest.tree_digest;
        if older.is_some_and(same) {
            return Ok(Touched::No);
        }
        let Some(after) = self.tree_of(newer)? else {
            return Ok(Touched::Unknown);
        };
        let before = match older.map(|older| self.tree_of(older)).transpose()? {
            Some(None) => return Ok(Touched::Unknown),
            Some(before) => before,
            None => None,
        };
        let at = |tree: &MergedIndex| find(&tree.index, path, false).ok();
        let alike = match (before.as_ref().and_then(at), at(&after)) {
            (None, None) => true,
            (Some(old), Some(new)) => before.is_some_and(|before| alike(&before, old, &after, new)),
            _ => false,
        };
        Ok(if alike { Touched::No } else { Touched::Yes })
    }

    fn tree_of(&self, revision: &Revision) -> Result<Option<MergedIndex>> {
        match self.merged(&revision.manifest) {
            Ok(merged) => Ok(Some(merged)),
            Err(HistoryError::Swept { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// True if two objects, with everything below them, are the same except for times.
fn alike(left: &MergedIndex, a: Ino, right: &MergedIndex, b: Ino) -> bool {
    let mut pairs = vec![(a, b)];
    // Both trees are finite and every directory has one parent, so the list ends.
    while let Some((a, b)) = pairs.pop() {
        if !same_object(left, a, right, b) {
            return false;
        }
        let (mut old, mut new) = (left.index.entries(a, 0), right.index.entries(b, 0));
        loop {
            match (old.next(), new.next()) {
                (None, None) => break,
                (Some(a), Some(b)) if a.name == b.name => match (a.child, b.child) {
                    (DirentTarget::Inode(a), DirentTarget::Inode(b)) => pairs.push((a, b)),
                    (a, b) if a == b => {}
                    _ => return false,
                },
                _ => return false,
            }
        }
    }
    true
}

fn same_object(left: &MergedIndex, a: Ino, right: &MergedIndex, b: Ino) -> bool {
    let (Some(old), Some(new)) = (left.index.inode(a), right.index.inode(b)) else {
        return false;
    };
    let content = |merged: &MergedIndex, ino| merged.content.as_ref().map(|all| all.file(ino));
    let attributes = |index: &Index, ino| -> Vec<(Vec<u8>, Vec<u8>)> {
        let all = index.xattrs(ino);
        all.map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect()
    };
    (old.mode, old.uid, old.gid, old.size, old.rdev)
        == (new.mode, new.uid, new.gid, new.size, new.rdev)
        && left.index.symlink(a) == right.index.symlink(b)
        && (!old.is_file() || content(left, a) == content(right, b))
        && attributes(&left.index, a) == attributes(&right.index, b)
}
