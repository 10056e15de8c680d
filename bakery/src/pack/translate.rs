//! Translates a trace of one tree to the numbers of another: boots before and after an update read
//! mostly the same files.

use layerfmt::{Digest, DirentTarget, Index, Ino, ROOT};
use wire::trace::{BootTrace, PAGE_LEN, Touch};

/// `trace`, made on `old`, translated to `new`: by path; deleted and truncated files are dropped.
pub(crate) fn translate(trace: &BootTrace, old: &Index, new: &Index, tree: Digest) -> BootTrace {
    let rows = rows(old, new);
    let touches = trace.touches.iter().filter_map(|touch| {
        let ino = rows.get(touch.ino as usize).copied().flatten()?;
        let pages = new.inode(ino)?.size.div_ceil(PAGE_LEN);
        let end = u64::from(touch.page) + u64::from(touch.count);
        let count = end
            .min(pages)
            .checked_sub(u64::from(touch.page))
            .filter(|count| *count > 0)?;
        Some(Touch {
            ino,
            page: touch.page,
            count: u32::try_from(count).ok()?,
        })
    });
    BootTrace {
        tree,
        touches: touches.collect(),
    }
}

/// For each row of `old` the row of `new` with the same path, if both are of one kind.
fn rows(old: &Index, new: &Index) -> Vec<Option<Ino>> {
    let mut rows: Vec<Option<Ino>> = vec![None; old.inode_count() as usize];
    if let Some(root) = rows.first_mut() {
        *root = Some(ROOT);
    }
    // Directories are numbered before their contents.
    for dir in 0..old.inode_count() {
        let Some(there) = rows.get(dir as usize).copied().flatten() else {
            continue;
        };
        for entry in old.entries(dir, 0) {
            let (DirentTarget::Inode(from), Some(found)) =
                (entry.child, new.lookup(there, entry.name))
            else {
                continue;
            };
            let DirentTarget::Inode(to) = found.child else {
                continue;
            };
            let kind = |index: &Index, ino| index.inode(ino).map(|inode| inode.kind());
            if kind(old, from) == kind(new, to)
                && let Some(slot) = rows.get_mut(from as usize)
            {
                slot.get_or_insert(to);
            }
        }
    }
    rows
}
