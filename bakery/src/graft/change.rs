//! The paths in which two trees differ.

use std::fmt;

use layerfmt::MergedIndex;
use layerfmt::tree::{Child, Kind, NodeId, ROOT, Tree};
use serde::Serialize;

use super::wording::change;
use super::{FileId, merged_tree};
use crate::history::Result;

/// One path in which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TreeChange {
    /// `+` only in the second, `-` only in the first, `*` different.
    pub mark: char,
    /// The path, without a leading slash. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// The same, exactly.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Description of the change.
    pub what: String,
}

impl fmt::Display for TreeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} /{}  ({})", self.mark, self.path, self.what)
    }
}

/// The changes that turn one tree into another, parents first, names in order. Times alone do not
/// count.
///
/// # Errors
/// A tree has no content digests.
pub fn changes(from: &MergedIndex, to: &MergedIndex) -> Result<Vec<TreeChange>> {
    let (from, to) = (merged_tree(from)?, merged_tree(to)?);
    let mut walk = ChangeWalk {
        from: &from,
        to: &to,
        path: Vec::new(),
        found: Vec::new(),
    };
    walk.node(Some(ROOT), Some(ROOT));
    Ok(walk.found)
}

struct ChangeWalk<'w> {
    from: &'w Tree<FileId>,
    to: &'w Tree<FileId>,
    path: Vec<u8>,
    found: Vec<TreeChange>,
}

impl ChangeWalk<'_> {
    /// Both trees come from indexes, which bound the depth of directories.
    fn node(&mut self, from: Option<NodeId>, to: Option<NodeId>) {
        let (before, after) = (
            from.and_then(|id| self.from.node(id)),
            to.and_then(|id| self.to.node(id)),
        );
        let mark = match (before, after) {
            (None, None) => return,
            (None, Some(_)) => Some('+'),
            (Some(_), None) => Some('-'),
            (Some(a), Some(b)) => {
                let kind = match (&a.kind, &b.kind) {
                    (Kind::Directory(_), Kind::Directory(_)) => true,
                    (a, b) => a == b,
                };
                let (a, b) = (&a.meta, &b.meta);
                let meta = (a.mode, a.uid, a.gid, &a.xattrs) == (b.mode, b.uid, b.gid, &b.xattrs);
                (!kind || !meta).then_some('*')
            }
        };
        if let Some(mark) = mark {
            let path = String::from_utf8_lossy(&self.path).into_owned();
            self.found.push(TreeChange {
                mark,
                path,
                bytes: self.path.clone(),
                what: change(before, after),
            });
        }
        self.children(
            from.filter(|_| before.is_some()),
            to.filter(|_| after.is_some()),
        );
    }

    fn children(&mut self, from: Option<NodeId>, to: Option<NodeId>) {
        let (left, right) = (self.from, self.to);
        let names = from
            .into_iter()
            .flat_map(|id| left.entries(id))
            .map(|(name, _)| name);
        let more = to
            .into_iter()
            .flat_map(|id| right.entries(id))
            .map(|(name, _)| name);
        let names: std::collections::BTreeSet<_> = names.chain(more).collect();
        let object = |child| match child {
            Some(Child::Node(id)) => Some(id),
            _ => None,
        };
        for name in names {
            let bytes = name.as_bytes();
            let before = from.and_then(|id| object(left.child(id, bytes)));
            let after = to.and_then(|id| object(right.child(id, bytes)));
            let path_len = self.path.len();
            if path_len > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(bytes);
            self.node(before, after);
            self.path.truncate(path_len);
        }
    }
}
