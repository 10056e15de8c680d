//! The parts of layers that an export leaves out: chunks that an update pack makes.

use std::ops::Range;

use layerfmt::layout::superblock::SUPERBLOCK_LEN;
use layerfmt::{Chunk, ChunkFile};
use wire::manifest::{ProfileName, RevisionName};
use wire::paths::Class;

use super::update::Updates;
use super::{MirrorError, Result};
use crate::history::History;
use crate::store::{Key, Store};

/// The chunks that a reader with an older revision and the update pack need not get.
pub(super) struct Delta {
    updates: Updates,
}

impl Delta {
    /// The chunks of revision `since`, and those that the update pack from it to `newest` makes.
    ///
    /// # Errors
    /// The store does not have that pack.
    pub(super) fn of(
        history: &History,
        name: &ProfileName,
        (since, newest): (u64, u64),
    ) -> Result<Delta> {
        let store = history.store();
        let key = Key::update(name, newest, since);
        if store.len(&key)?.is_none() {
            return Err(MirrorError::Origin {
                origin: store.location().to_string(),
                what: format!(
                    "there is no update pack from {name}@{since} to {name}@{newest}: make it with `bakery update-pack {name}@{since}`"
                ),
            });
        }
        let old = RevisionName {
            name: name.clone(),
            revision: Some(since),
        };
        let mut updates = Updates::default();
        updates.know(history, &old, Some((store.file(&key)?, newest)));
        Ok(Delta { updates })
    }

    /// The ranges of a layer or a boot pack that the reader needs; `None` for another object, and
    /// for one that needs to be whole.
    pub(super) fn ranges(&mut self, store: &Store, key: &Key) -> Option<Vec<Range<u64>>> {
        let class = key.object()?.class();
        if !matches!(class, Class::Layer | Class::Pack) {
            return None;
        }
        let layer = store.open_layer(key, &key.digest()?).ok()?;
        let own = layer.index().chunks();
        let mut own: Vec<Chunk> = own.filter(|it| it.source == ChunkFile::Own).collect();
        own.sort_by_key(|chunk| chunk.offset);
        let mut ranges = Vec::new();
        ranges.push(0..SUPERBLOCK_LEN as u64);
        let mut end = SUPERBLOCK_LEN as u64;
        for chunk in own {
            end = chunk.offset + u64::from(chunk.stored_len);
            if self.updates.stored(&chunk).is_none() {
                push(&mut ranges, chunk.offset..end);
            }
        }
        push(&mut ranges, end..layer.layer_ref().file_len);
        Some(ranges)
    }
}

/// Adds a range; extends the last one if the two are adjacent.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}
