//! Rebuilds the chunks of a boot pack from the layers from which they were packed.

use std::sync::Arc;

use layerfmt::{Chunk, Index};
use tokio::sync::OnceCell;
use wire::manifest::IndexRef;

use super::remote::{CacheTiers, chunk_range};
use crate::net::fetcher::{FetcherShared, fetch};
use crate::net::index_head::index_head;
use crate::net::object::Object;
use crate::store::backup::Backup;

/// The index of the revision without its pack, fetched when first needed.
#[derive(Debug)]
pub(crate) struct Plain {
    reference: IndexRef,
    backup: Option<Arc<Backup>>,
    loaded: OnceCell<(Arc<Index>, Vec<Arc<Object>>)>,
}

/// The source of some bytes of a pack's chunk.
struct RebuildPart {
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
            loaded: OnceCell::new(),
        }
    }

    async fn load(&self, inner: &FetcherShared) -> Result<&(Arc<Index>, Vec<Arc<Object>>), String> {
        let load = || async {
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
                    let _wait = inner.wait_begins();
                    let layer = index_head(inner, &digest, head_len)
                        .await
                        .map_err(|error| error.to_string())?;
                    Arc::clone(layer.index())
                }
            };
            let objects = super::remote::objects(&index, None);
            Ok((index, objects))
        };
        self.loaded.get_or_try_init(load).await
    }

    /// The decoded bytes of chunk `id` of `packed`. Both indexes have the same rows, so a file has
    /// the same bytes at the same offset in both.
    pub(crate) async fn rebuild(
        &self,
        inner: &FetcherShared,
        caches: &CacheTiers,
        packed: &Arc<Index>,
        id: u32,
        raw_len: u32,
    ) -> Result<Vec<u8>, String> {
        let (plain, objects) = self.load(inner).await?;
        if plain.inode_count() != packed.inode_count() {
            return Err(String::from(
                "the index without the pack is of another tree",
            ));
        }
        let indexes = (Arc::clone(packed), Arc::clone(plain));
        // This reads all rows, so it does not run on a thread of the network.
        let parts = tokio::task::spawn_blocking(move || parts(&indexes.0, &indexes.1, id))
            .await
            .map_err(|error| error.to_string())?;
        let mut out = vec![0; raw_len as usize];
        let mut decoded: Option<(u32, Vec<u8>)> = None;
        for part in parts {
            if decoded
                .as_ref()
                .is_none_or(|(chunk, _)| *chunk != part.chunk)
            {
                let chunk = plain.chunk(part.chunk).ok_or("no such chunk")?;
                let raw = decode(inner, caches, objects, &chunk).await?;
                decoded = Some((part.chunk, raw));
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

/// The places of the bytes of chunk `id` of `packed` in `plain`, by chunk.
fn parts(packed: &Index, plain: &Index, id: u32) -> Vec<RebuildPart> {
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
                parts.push(RebuildPart {
                    chunk: below.chunk,
                    from: below.chunk_offset as usize + offset(from - below.file_offset),
                    to: extent.chunk_offset as usize + offset(from - start),
                    len: offset(to.saturating_sub(from)),
                });
            }
        }
    }
    parts.sort_by_key(|part| part.chunk);
    parts
}

/// Decodes a chunk of a layer, from a local cache or from a server.
async fn decode(
    inner: &FetcherShared,
    caches: &CacheTiers,
    objects: &[Arc<Object>],
    chunk: &Chunk,
) -> Result<Vec<u8>, String> {
    let range = chunk_range(objects, chunk).ok_or("a chunk in no layer")?;
    let stored = match caches.get(&range, &inner.counters) {
        Some(bytes) => bytes,
        None => fetch(inner, &range)
            .await
            .map_err(|error| error.to_string())?,
    };
    let mut raw = Vec::new();
    layerfmt::decode_verified_chunk(chunk, &stored, &mut raw).map_err(|error| error.to_string())?;
    Ok(raw)
}

fn offset(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
