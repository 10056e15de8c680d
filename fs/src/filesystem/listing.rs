//! Directory listings: first the lower's entries in their order, each with its state in the merged
//! tree, then names that only the upper has, in their own order ([`super::cookie::Spot`]). A name
//! keeps its place through all changes during a listing, and names newer than the listing are
//! skipped.

use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};

use layerfmt::{DirentTarget, Ino, ROOT};

use super::LayerFs;
use super::attributes::attr_of;
use super::cookie::{AFTER_DOT, AFTER_DOT_DOT, Cookie};
use super::far::Failure as _;
use super::reply::{DIRECTORY, DirItem, NodeId, ROOT_ID, lower_id};
use super::tree::{Entry, Name, Tree};
use crate::error::{Error, Result};
use crate::sys::{Errno, directory};

/// Entries collected under one lock.
const BATCH: usize = 64;

/// One entry, before its node is known.
struct Listed {
    name: Name,
    cookie: Cookie,
    kind: u32,
    /// The node; 0 if it is not determined yet, or cannot be.
    id: NodeId,
}

impl Listed {
    /// Sets the node that was found. An entry of the upper that cannot be read is not listed.
    ///
    /// # Errors
    /// No descriptor is left.
    fn set(&mut self, found: Result<Option<NodeId>>) -> Result<()> {
        match found {
            Ok(found) => self.id = found.unwrap_or(0),
            Err(error) if error.lacks_descriptor() => return Err(error),
            Err(error) if error == Errno::NOENT => {}
            Err(error) => unreadable(&self.name, &error),
        }
        Ok(())
    }
}

impl LayerFs {
    /// The entries of directory `id` after `cookie` (0: from the start), until `sink` is full. With
    /// `plus`, attributes are included and each entry counts as a lookup.
    ///
    /// # Errors
    /// ENOTDIR, ESTALE, or the error of the upper's file system.
    pub fn readdir(
        &self,
        id: NodeId,
        cookie: u64,
        plus: bool,
        sink: &mut dyn FnMut(&DirItem<'_>) -> bool,
    ) -> Result<()> {
        let parent = match self.parent_of(id)? {
            Some(parent) => parent,
            None => return Ok(()),
        };
        let mut from = Cookie::decode(cookie);
        if cookie == 0 {
            from.mark = self.begin_listing(id);
            let row = self.numbers.row_of(id);
            if let Some(listed) = row.and_then(|row| self.row_listings.get(row)) {
                listed.store(1, Ordering::Relaxed);
            }
        }
        for (name, ino, place) in [
            (&b"."[..], id, AFTER_DOT),
            (&b".."[..], parent, AFTER_DOT_DOT),
        ] {
            let item = DirItem {
                name,
                ino,
                kind: DIRECTORY,
                cookie: Cookie::after(place, from.mark).encode(),
                attr: None,
            };
            if from.place < place && !sink(&item) {
                return Ok(());
            }
        }
        from.place = from.place.max(AFTER_DOT_DOT);
        let only_lower = self.upper.is_none() || self.read_tree().get(id).is_none();
        if only_lower {
            self.list_lower(
                self.numbers.row_of(id).ok_or(Errno::STALE)?,
                from,
                plus,
                sink,
            );
            return Ok(());
        }
        self.list_merged(id, from, plus, sink)
    }

    /// The kernel is about to forget the listing of directory `id`; false if it has stored none.
    pub fn forget_listing(&self, id: NodeId) -> bool {
        let Some(row) = self.numbers.row_of(id) else {
            return true;
        };
        let listed = self.row_listings.is_known(row);
        if listed && let Some(listed) = self.row_listings.get(row) {
            listed.store(0, Ordering::Relaxed);
        }
        listed
    }

    /// Begins a listing of `id` and returns its mark. The upper's access time changes according to
    /// the mount options.
    fn begin_listing(&self, id: NodeId) -> u32 {
        if self.upper.is_none() {
            return 0;
        }
        let tree = self.read_tree();
        let Some(node) = tree.get(id) else { return 0 };
        if node.in_upper
            && let Ok(directory) = self.directory(&tree, id)
        {
            directory::accessed(directory.as_fd());
        }
        node.listing.clock.begin()
    }

    /// The parent of directory `id`; `None` if the directory was removed.
    pub(super) fn parent_of(&self, id: NodeId) -> Result<Option<NodeId>> {
        let tree = self.upper.is_some().then(|| self.read_tree());
        if let Some(node) = tree.as_ref().and_then(|tree| tree.get(id)) {
            if !node.is_dir() {
                return Err(Errno::NOTDIR.into());
            }
            return Ok(match node.names.first() {
                Some((parent, _)) => Some(*parent),
                None if id == ROOT_ID => Some(ROOT_ID),
                None => None,
            });
        }
        let row = self.numbers.row_of(id).ok_or(Errno::STALE)?;
        let lower = self.lower();
        match lower.index.inode(row) {
            Some(inode) if inode.is_dir() => {}
            Some(_) => return Err(Errno::NOTDIR.into()),
            None => return Err(Errno::STALE.into()),
        }
        let parent = match row {
            ROOT => ROOT,
            row => lower.index.parent(row),
        };
        let id_of = |tree: &Tree| tree.kept_numbers.of_row(parent);
        Ok(Some(tree.as_deref().map_or(lower_id(parent), id_of)))
    }

    fn list_lower(
        &self,
        row: Ino,
        from: Cookie,
        plus: bool,
        sink: &mut dyn FnMut(&DirItem<'_>) -> bool,
    ) {
        let first = from.place.saturating_sub(AFTER_DOT_DOT);
        let lower = self.lower();
        for entry in lower.index.entries(row, first) {
            let DirentTarget::Inode(child) = entry.child else {
                continue;
            };
            let attr = if plus { attr_of(&lower, child) } else { None };
            let kind = lower.index.inode(child).map_or(0, |inode| inode.kind());
            let item = DirItem {
                name: entry.name,
                ino: lower_id(child),
                kind,
                cookie: after_position(entry.position, from.mark).encode(),
                attr,
            };
            if !sink(&item) {
                return;
            }
            if plus && let Some(count) = self.row_lookups.get(child) {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    fn list_merged(
        &self,
        id: NodeId,
        mut from: Cookie,
        plus: bool,
        sink: &mut dyn FnMut(&DirItem<'_>) -> bool,
    ) -> Result<()> {
        loop {
            let (tree, batch) = self.with_descriptors(|| self.next_batch(id, from, plus))?;
            if batch.is_empty() {
                return Ok(());
            }
            for listed in &batch {
                from = listed.cookie;
                if listed.id == 0 {
                    continue;
                }
                let attr = match plus.then(|| self.attr(&tree, listed.id)) {
                    Some(Err(error)) if error.lacks_descriptor() => return Err(error),
                    Some(Err(error)) => {
                        unreadable(&listed.name, &error);
                        continue;
                    }
                    Some(Ok(attr)) => Some(attr),
                    None => None,
                };
                let item = DirItem {
                    name: &listed.name,
                    ino: listed.id,
                    kind: listed.kind,
                    cookie: listed.cookie.encode(),
                    attr,
                };
                if !sink(&item) {
                    return Ok(());
                }
                if plus {
                    self.count_lookup(&tree, listed.id);
                }
            }
        }
    }

    /// The next entries of merged directory `id` with their numbers; with `plus` they are nodes.
    /// The nodes stay in the tree while the returned lock is held: after it, the kernel may forget
    /// them.
    fn next_batch(
        &self,
        id: NodeId,
        from: Cookie,
        plus: bool,
    ) -> Result<(RwLockReadGuard<'_, Tree>, Vec<Listed>)> {
        let tree = self.read_tree();
        let mut batch = self.collect(&tree, id, from);
        if batch.iter().all(|listed| listed.id != 0) {
            return Ok((tree, batch));
        }
        if !plus {
            for listed in batch.iter_mut().filter(|listed| listed.id == 0) {
                let found = self.identify(&tree, id, &listed.name);
                listed.set(found.map(|found| Some(found.id)))?;
            }
            return Ok((tree, batch));
        }
        drop(tree);
        let mut tree = self.write_tree();
        let mut batch = self.collect(&tree, id, from);
        for listed in batch.iter_mut().filter(|listed| listed.id == 0) {
            let found = self.visible(&mut tree, id, &listed.name);
            listed.set(found)?;
        }
        Ok((RwLockWriteGuard::downgrade(tree), batch))
    }

    /// The next entries of merged directory `id`.
    fn collect(&self, tree: &Tree, id: NodeId, from: Cookie) -> Vec<Listed> {
        let lower = self.lower();
        let index = &*lower.index;
        let Some(node) = tree.get(id) else {
            return Vec::new();
        };
        let began = node.listing.clock.began(from.mark);
        let mut batch = Vec::with_capacity(BATCH);
        let first = from.place.saturating_sub(AFTER_DOT_DOT);
        for entry in node
            .row
            .into_iter()
            .flat_map(|row| index.entries(row, first))
        {
            let DirentTarget::Inode(child) = entry.child else {
                continue;
            };
            let (id, kind) = match node.listing.get(entry.name) {
                Some(Entry::Whiteout) => continue,
                Some(Entry::Object { born, .. }) if born > began => continue,
                Some(Entry::Object { id, kind, .. }) => (id, kind),
                None => {
                    let kind = index.inode(child).map_or(0, |inode| inode.kind());
                    (lower_id(child), kind)
                }
            };
            batch.push(Listed {
                name: Arc::from(entry.name),
                cookie: after_position(entry.position, from.mark),
                kind,
                id,
            });
            if batch.len() == BATCH {
                return batch;
            }
        }
        let lower_count = node.row.map_or(0, |row| index.entry_count(row));
        let in_lower = |name: &[u8]| node.in_lower(index, name).is_some();
        let rest = node
            .listing
            .objects_from(from.next(), lower_count, in_lower);
        let mut rest = rest.peekable();
        while let Some((spot, name, entry)) = rest.next() {
            let Entry::Object { id, kind, born, .. } = entry else {
                continue;
            };
            if born > began {
                continue;
            }
            let following = rest.peek().map(|(spot, ..)| *spot);
            batch.push(Listed {
                name: Arc::clone(name),
                cookie: spot.cookie(from.mark, following),
                kind,
                id,
            });
            if batch.len() == BATCH {
                return batch;
            }
        }
        batch
    }
}

/// The cookie after the lower's entry at `position`.
fn after_position(position: u32, mark: u32) -> Cookie {
    Cookie::after(position.saturating_add(AFTER_DOT_DOT + 1), mark)
}

fn unreadable(name: &[u8], error: &Error) {
    let name = String::from_utf8_lossy(name);
    tracing::warn!(%name, %error, "an entry of the upper cannot be read: it is not listed");
}
