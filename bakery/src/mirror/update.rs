//! Chunks that the mirror need not fetch: those of the revision that it has, and those that an
//! update pack makes from them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use layerfmt::update::{UpdatePlan, decode_index, stored_again};
use layerfmt::{Chunk, Digest, Index};
use wire::manifest::RevisionName;

use super::object::is_chunk;
use super::{Result, file_error};
use crate::history::History;
use crate::update_pack::{OldEnd, Opened};

/// Raw chunks kept until the layer that holds them is complete, bytes.
const MADE_LEN_MAX: usize = 64 << 20;

/// The sources of chunks in one round of one history.
#[derive(Default)]
pub(super) struct Updates {
    base: Option<KnownBase>,
    made: HashMap<Digest, Vec<u8>>,
    made_len: usize,
    /// The files of the update packs that were used.
    files: Vec<PathBuf>,
    /// Length of the chunks that were made, bytes.
    pub(super) bytes: u64,
}

/// The revision that the mirror has.
struct KnownBase {
    old: OldEnd,
    rows: HashMap<Digest, u32>,
    pack: Option<Pack>,
}

struct Pack {
    /// The revision that it leads to.
    to: u64,
    opened: Opened,
    plan: UpdatePlan,
    /// Units that were applied, or cannot be.
    is_used: Vec<bool>,
}

impl Updates {
    /// From now on chunks come from `old`, and from the update pack in the file, whose record was
    /// verified, to the revision of that number. Without the objects of `old` every chunk is fetched.
    pub(super) fn know(
        &mut self,
        history: &History,
        old: &RevisionName,
        pack: Option<(PathBuf, u64)>,
    ) {
        let used = pack.as_ref().map(|(place, to)| (place.as_path(), *to));
        self.base = match KnownBase::of(history, old, used) {
            Ok(base) => Some(base),
            Err(error) => {
                tracing::info!(%error, from = %old, "no old chunks are used");
                None
            }
        };
        self.files.extend(pack.map(|(place, _)| place));
    }

    /// The revision that the update pack in use leads to; 0 without one.
    pub(super) fn leads_to(&self) -> u64 {
        let pack = self.base.as_ref().and_then(|base| base.pack.as_ref());
        pack.map_or(0, |pack| pack.to)
    }

    /// Removes the files of the update packs, except those that are in the store now.
    pub(super) fn remove_files(&mut self) -> Result<()> {
        for place in self.files.drain(..) {
            match std::fs::remove_file(&place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file_error(&place)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The stored bytes of a chunk, if it is here or an update pack makes exactly them.
    pub(super) fn stored(&mut self, chunk: &Chunk) -> Option<Vec<u8>> {
        let base = self.base.as_mut()?;
        if let Some(row) = base.rows.get(&chunk.digest) {
            let stored = base.old.stored(*row);
            return stored.filter(|stored| is_chunk(chunk, stored));
        }
        if !self.made.contains_key(&chunk.digest) {
            self.make(chunk);
        }
        let raw = self.made.remove(&chunk.digest)?;
        self.made_len -= raw.len();
        let stored = stored_again(chunk, &raw)?;
        self.bytes += stored.len() as u64;
        Some(stored)
    }

    /// Applies the unit that makes the chunk.
    fn make(&mut self, chunk: &Chunk) {
        let Some(KnownBase { old, pack, .. }) = &mut self.base else {
            return;
        };
        let Some(ready) = pack.as_mut().and_then(|pack| pack.apply(old, chunk)) else {
            return;
        };
        if self.made_len > MADE_LEN_MAX {
            self.made.clear();
            self.made_len = 0;
        }
        for ready in ready {
            self.made_len += ready.raw.len();
            if let Some(before) = self.made.insert(ready.digest, ready.raw) {
                self.made_len -= before.len();
            }
        }
    }
}

impl KnownBase {
    fn of(
        history: &History,
        old: &RevisionName,
        pack: Option<(&Path, u64)>,
    ) -> crate::update_pack::Result<KnownBase> {
        let old = OldEnd::of(history, &history.revision(old)?)?;
        let digests = old.index().chunks().map(|chunk| chunk.digest);
        let rows = digests.zip(0..).collect();
        let pack = pack.and_then(|(place, to)| match Pack::of(&old, place, to) {
            Ok(pack) => pack,
            Err(error) => {
                tracing::info!(%error, "no update pack is used");
                None
            }
        });
        Ok(KnownBase { old, rows, pack })
    }
}

impl Pack {
    fn of(old: &OldEnd, place: &Path, to: u64) -> crate::update_pack::Result<Option<Pack>> {
        let opened = Opened::of(place)?;
        let Some(frame) = opened.head.index else {
            return Ok(None);
        };
        let stored = opened.frame(0, frame.stored_len)?;
        let new: Index = decode_index(&frame, &stored, old.index())?;
        let plan = UpdatePlan::new(opened.head.clone(), old.index(), &new)?;
        Ok(Some(Pack {
            to,
            is_used: vec![false; plan.len() as usize],
            opened,
            plan,
        }))
    }

    /// The chunks of the unit that makes `chunk`, the first time that it is asked for.
    fn apply(&mut self, old: &OldEnd, chunk: &Chunk) -> Option<Vec<layerfmt::update::Ready>> {
        let row = self.plan.maker(&chunk.digest)?;
        // What is dropped before its turn is fetched.
        let is_used = self.is_used.get_mut(row as usize).filter(|used| !**used)?;
        *is_used = true;
        let (unit, offset) = self.plan.unit(row)?;
        let frame = self.opened.frame(offset, unit.stored_len).ok()?;
        let mut decoder = old.decoder();
        let ready = self
            .plan
            .apply(row, &frame, |row| decoder.raw_or_missing(row));
        match ready {
            Ok(ready) => Some(ready),
            Err(error) => {
                tracing::info!(%error, "a unit of the update pack cannot be applied: its chunks are fetched");
                None
            }
        }
    }
}
