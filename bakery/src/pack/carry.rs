//! A pack under another tree: hot pages whose bytes are there as before point into it as before.

use std::collections::HashMap;

use layerfmt::layout::chunk::Source;
use layerfmt::trace::PAGE_LEN;
use layerfmt::{Digest, FormatError, Index, Layer, MergedIndex};

use super::{Place, Places, repoint};

/// Less than this of what the pack had is not worth a pack.
const KEPT_PERCENT_MIN: usize = 50;

/// `merged`, a tree without a pack, with its pages in `pack` where they are those of the tree `before`,
/// which is `packed` with the pack. `None`: too little of it is left.
pub fn carry(
    pack: &Layer,
    before: &MergedIndex,
    packed: &MergedIndex,
    merged: &MergedIndex,
) -> Option<Result<MergedIndex, FormatError>> {
    let hot = hot_pages(pack, &before.index, &packed.index);
    // Chunks are the same where their bytes are: by digest, whatever layer has them.
    let chunks: HashMap<Digest, u32> = merged
        .index
        .chunks()
        .zip(0u32..)
        .map(|(chunk, id)| (chunk.digest, id))
        .collect();
    let places: Places = hot
        .iter()
        .filter_map(|(digest, offset, place)| Some(((*chunks.get(digest)?, *offset), *place)))
        .collect();
    if places.is_empty() || places.len() * 100 < hot.len() * KEPT_PERCENT_MIN {
        return None;
    }
    let raw = raw_digests(pack, packed);
    Some(repoint(merged, pack, &places, &raw))
}

/// Every hot page: the chunk it is in without the pack, its place there, and its place in the pack.
fn hot_pages(pack: &Layer, before: &Index, packed: &Index) -> Vec<(Digest, u32, Place)> {
    let own: HashMap<Digest, u32> = pack
        .index()
        .chunks()
        .zip(0u32..)
        .map(|(chunk, id)| (chunk.digest, id))
        .collect();
    let name = pack.digest();
    let in_pack = |chunk: u32| {
        let chunk = packed.chunk(chunk)?;
        let Source::Borrowed(row) = chunk.source else {
            return None;
        };
        packed.layer(row).filter(|layer| layer.digest == name)?;
        own.get(&chunk.digest).copied()
    };
    let mut found = Vec::new();
    // The trees are the same, so are their rows.
    for ino in 0..packed.inode_count().min(before.inode_count()) {
        for hot in packed.extents(ino, 0..u64::MAX) {
            let Some(chunk) = in_pack(hot.chunk) else {
                continue;
            };
            let end = hot.file_offset + u64::from(hot.len);
            for plain in before.extents(ino, hot.file_offset..end) {
                let Some(digest) = before.chunk(plain.chunk).map(|chunk| chunk.digest) else {
                    continue;
                };
                let mut at = plain.file_offset.max(hot.file_offset);
                let stop = (plain.file_offset + u64::from(plain.len)).min(end);
                while at < stop {
                    let next = stop.min((at / PAGE_LEN + 1) * PAGE_LEN);
                    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                    let place = Place {
                        chunk,
                        offset: hot.chunk_offset + narrow(at - hot.file_offset),
                        len: narrow(next - at),
                    };
                    let offset = plain.chunk_offset + narrow(at - plain.file_offset);
                    found.push((digest, offset, place));
                    at = next;
                }
            }
        }
    }
    found
}

/// The content digests of the pack's chunks, in its order.
fn raw_digests(pack: &Layer, packed: &MergedIndex) -> Vec<Digest> {
    let Some(content) = &packed.content else {
        return vec![Digest::default(); pack.index().chunk_count() as usize];
    };
    let known: HashMap<Digest, Digest> = packed
        .index
        .chunks()
        .zip(0u32..)
        .map(|(chunk, id)| (chunk.digest, content.chunk(id)))
        .collect();
    let chunks = pack.index().chunks();
    chunks
        .map(|chunk| known.get(&chunk.digest).copied().unwrap_or_default())
        .collect()
}
