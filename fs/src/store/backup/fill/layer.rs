//! Layers of the backup: their sections first, then each chunk.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use layerfmt::layout::superblock::{SUPERBLOCK_LEN, Superblock};
use layerfmt::update::stored_again;
use layerfmt::{Chunk, ChunkFile, Digest, Layer};
use wire::manifest::ObjectRef;

use super::super::lock;
use super::super::part::Part;
use super::{FillStop, Filler, STEP_LEN};
use crate::limits::SECTIONS_LEN_MAX;
use crate::net::object::{ChunkRange, Object};

/// Chunks on their way at once.
const AHEAD_MAX: usize = 32;
/// Interval of the checks whether more may be requested.
const LOOK: Duration = Duration::from_millis(100);
/// Most requests in a row for chunks of a pack without any of them coming.
const VAIN_ROUNDS_MAX: u32 = 3;

impl Filler<'_> {
    /// Completes one layer.
    pub(super) fn layer(&self, object: Object, reference: &ObjectRef) -> Result<(), FillStop> {
        if self.backup.attach(&object.path, reference.len) {
            return Ok(());
        }
        let path = object.path.trim_start_matches('/').to_owned();
        let part_path = format!("{path}.part");
        let file = self.backup.dir.part(&part_path)?;
        let part = Arc::new(Part::new(file));
        let object = Arc::new(object);
        let chunks = self.sections(&object, reference, &part)?;
        part.recover(&chunks);
        lock(&self.backup.parts).insert(object.path.clone(), Arc::clone(&part));
        self.chunks(&object, &chunks, &part)?;
        part.file.set_len(reference.len)?;
        part.file.sync_all()?;
        let whole = Layer::from_file(part.file.try_clone()?)
            .map_err(|e| FillStop::Damaged(e.to_string()))?;
        if whole.digest() != reference.digest {
            return Err(FillStop::Damaged(format!(
                "{path} differs from the manifest"
            )));
        }
        self.backup.dir.rename(&part_path, &path)?;
        self.backup.attach(&object.path, reference.len);
        lock(&self.backup.parts).remove(&object.path);
        Ok(())
    }

    /// Superblock and sections, verified and written; returns the layer's own chunks.
    fn sections(
        &self,
        object: &Object,
        reference: &ObjectRef,
        part: &Part,
    ) -> Result<Vec<Chunk>, FillStop> {
        let damaged = |what: &str| FillStop::Damaged(format!("{}: {what}", object.path));
        let mut last = damaged("no undamaged copy");
        for _ in 0..3 {
            let head = self.range(&object.path, 0, SUPERBLOCK_LEN as u64)?;
            if Digest::of(&head) != reference.digest {
                last = damaged("its superblock has another digest");
                continue;
            }
            let superblock =
                Superblock::decode(&head).map_err(|e| FillStop::Damaged(e.to_string()))?;
            let sections_len = superblock.file_len.saturating_sub(superblock.data_end);
            if superblock.file_len != reference.len || sections_len > SECTIONS_LEN_MAX {
                return Err(damaged("its length differs from the manifest"));
            }
            part.file.set_len(superblock.file_len)?;
            part.file.write_all_at(&head, 0)?;
            let mut at = superblock.data_end;
            while at < superblock.file_len {
                let len = STEP_LEN.min(superblock.file_len - at);
                part.file
                    .write_all_at(&self.range(&object.path, at, len)?, at)?;
                at += len;
            }
            match Layer::from_file(part.file.try_clone()?) {
                Ok(layer) => {
                    let own = layer
                        .index()
                        .chunks()
                        .filter(|chunk| chunk.source == ChunkFile::Own);
                    return Ok(own.collect());
                }
                Err(error) => last = FillStop::Damaged(error.to_string()),
            }
        }
        Err(last)
    }

    /// Fetches every chunk that the part does not have, through the mount's queue: after all
    /// demand, verified, from any server, and once even if a reader needs it too.
    /// Of a pack, which a mount does without, chunks that no server has right end the attempt.
    fn chunks(&self, object: &Arc<Object>, chunks: &[Chunk], part: &Part) -> Result<(), FillStop> {
        let (mut least, mut vain) = (usize::MAX, 0);
        loop {
            let missing: Vec<&Chunk> = chunks
                .iter()
                .filter(|chunk| !part.has(chunk.offset))
                .collect();
            self.backup.state.set(format!(
                "filling: {} chunks of {} missing",
                missing.len(),
                object.path
            ));
            if missing.is_empty() {
                return Ok(());
            }
            vain = match missing.len() < least {
                true => 0,
                false => vain + 1,
            };
            least = missing.len().min(least);
            if object.optional && vain >= VAIN_ROUNDS_MAX {
                return Err(FillStop::Damaged(format!(
                    "no server has {least} chunks of {}",
                    object.path
                )));
            }
            for chunk in missing {
                if let Some(stored) = self.made_by_update(chunk)? {
                    part.write(chunk.offset, &stored)?;
                    continue;
                }
                let range = ChunkRange {
                    object: Arc::clone(object),
                    offset: chunk.offset,
                    len: chunk.stored_len,
                    digest: chunk.digest,
                };
                loop {
                    let fetcher = self.fetcher()?;
                    if fetcher.suggested() < AHEAD_MAX {
                        fetcher.suggest(std::slice::from_ref(&range));
                        break;
                    }
                    drop(fetcher);
                    std::thread::sleep(LOOK);
                }
            }
            while self.fetcher()?.suggested() > 0 {
                std::thread::sleep(LOOK);
            }
            // The last chunks are still in the queue of the writer thread.
            std::thread::sleep(LOOK);
        }
    }

    /// The stored bytes of a chunk that the update pack makes, if compression of its raw bytes, as a bake or a
    /// boot pack does it, gives exactly these.
    fn made_by_update(&self, chunk: &Chunk) -> Result<Option<Vec<u8>>, FillStop> {
        let Some(update) = self.update.as_ref() else {
            return Ok(None);
        };
        let raw = update.raw(&*self.fetcher()?, &chunk.digest)?;
        Ok(raw.and_then(|raw| stored_again(chunk, &raw)))
    }
}
