//! The way back from a boot pack: its chunks, made from the layers they were packed from.

use std::sync::{Arc, OnceLock};

use layerfmt::manifest::IndexRef;
use layerfmt::{Chunk, Index};

use super::fetcher::Fetcher;
use super::index_head::index_head;
use super::object::Object;
use crate::backup::Backup;

/// The index of the revision without its pack, fetched when first needed.
#[derive(Debug)]
pub(crate) struct Plain {
    reference: IndexRef,
    backup: Option<Arc<Backup>>,
    loaded: OnceLock<(Arc<Index>, Vec<Arc<Object>>)>,
}

/// Where some bytes of a pack's chunk come from.
struct Part {
    /// Chunk of the plain index.
    chunk: u32,
    from: usize,
    to: usize,
    len: usize,
}

impl Plain {
    pub(crate) fn new(reference: IndexRef, backup: Option<Arc<Backup>>) -> Plain {
        Plain {
            reference,
            backup,
            loaded: OnceLock::new(),
        }
    }

    fn load(&self, fetcher: &Fetcher) -> Result<&(Arc<Index>, Vec<Arc<Object>>), String> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let kept = self
            .backup
            .as_ref()
            .and_then(|backup| backup.index(&self.reference.digest));
        let index = match kept {
            Some(index) => index,
            None => {
                let IndexRef {
                    digest, head_len, ..
                } = self.reference;
                let fetched = fetcher.wait_for(index_head(&fetcher.inner, &digest, head_len));
                let layer = fetched
                    .and_then(|fetched| fetched)
                    .map_err(|error| error.to_string())?;
                Arc::clone(layer.index())
            }
        };
        let objects = super::source::objects(&index, None);
        Ok(self.loaded.get_or_init(|| (index, objects)))
    }

    /// The decoded bytes of chunk `id` of `packed`. Both indexes have the same rows, so what a file
    /// has at some offset in one it has there in the other.
    pub(crate) fn rebuild(
        &self,
        fetcher: &Fetcher,
        packed: &Index,
        id: u32,
        raw_len: u32,
        decode: impl Fn(&[Arc<Object>], &Chunk) -> Result<Vec<u8>, String>,
    ) -> Result<Vec<u8>, String> {
        let (plain, objects) = self.load(fetcher)?;
        if plain.inode_count() != packed.inode_count() {
            return Err(String::from(
                "the index without the pack is of another tree",
            ));
        }
        let mut parts = Vec::new();
        for ino in 0..packed.inode_count() {
            for extent in packed
                .extents(ino, 0..u64::MAX)
                .filter(|extent| extent.chunk == id)
            {
                let start = extent.file_offset;
                let end = start + u64::from(extent.len);
                for below in plain.extents(ino, start..end) {
                    let from = below.file_offset.max(start);
                    let to = (below.file_offset + u64::from(below.len)).min(end);
                    parts.push(Part {
                        chunk: below.chunk,
                        from: below.chunk_offset as usize + offset(from - below.file_offset),
                        to: extent.chunk_offset as usize + offset(from - start),
                        len: offset(to.saturating_sub(from)),
                    });
                }
            }
        }
        parts.sort_by_key(|part| part.chunk);
        let mut out = vec![0; raw_len as usize];
        let mut decoded: Option<(u32, Vec<u8>)> = None;
        for part in parts {
            if decoded
                .as_ref()
                .is_none_or(|(chunk, _)| *chunk != part.chunk)
            {
                let chunk = plain.chunk(part.chunk).ok_or("no such chunk")?;
                decoded = Some((part.chunk, decode(objects, &chunk)?));
            }
            let raw = decoded.as_ref().map_or(&[][..], |(_, raw)| raw);
            let from = raw
                .get(part.from..part.from + part.len)
                .ok_or("an extent outside its chunk")?;
            let to = out
                .get_mut(part.to..part.to + part.len)
                .ok_or("an extent outside its chunk")?;
            to.copy_from_slice(from);
        }
        Ok(out)
    }
}

fn offset(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
