//! Layers and boot packs: their sections first, then chunk by chunk.
//!
//! Each chunk is verified when it arrives, so a file that was begun earlier is continued with the
//! chunks that it lacks. A chunk that an update pack makes is not fetched.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use layerfmt::layout::superblock::{self as layout, SUPERBLOCK_LEN};
use layerfmt::{Chunk, ChunkFile, Digest, Layer};
use wire::paths::ObjectPath;

use super::parts::open;
use super::update::Updates;
use super::{MirrorError, MirrorOrigin, Result, file_error};

/// Longest run of chunks in one request, bytes.
const RUN_LEN_MAX: u64 = 16 << 20;
/// Longest sections of one layer, bytes.
const SECTIONS_LEN_MAX: u64 = 4 << 30;

/// Completes the layer in `place`; false if the origin does not have it.
pub(super) fn layer(
    origin: &mut dyn MirrorOrigin,
    (path, len): (&ObjectPath, u64),
    place: &Path,
    updates: &mut Updates,
) -> Result<bool> {
    let file = open(place)?;
    let Some(layer) = sections(origin, (path, len), &file, place)? else {
        return Ok(false);
    };
    let index = layer.index();
    let own = index
        .chunks()
        .filter(|chunk| chunk.source == ChunkFile::Own);
    let mut own: Vec<Chunk> = own.collect();
    own.sort_by_key(|chunk| chunk.offset);
    let mut run: Vec<Chunk> = Vec::new();
    for chunk in own {
        if is_there(&file, &chunk) {
            continue;
        }
        if let Some(stored) = updates.stored(&chunk) {
            file.write_all_at(&stored, chunk.offset)
                .map_err(file_error(place))?;
            continue;
        }
        let follows = run.last().is_none_or(|last| end(last) == chunk.offset);
        let len: u64 = run.iter().map(|chunk| u64::from(chunk.stored_len)).sum();
        let is_full = !follows || len + u64::from(chunk.stored_len) > RUN_LEN_MAX;
        if is_full && !fetch(origin, path, &file, &std::mem::take(&mut run))? {
            return Ok(false);
        }
        run.push(chunk);
    }
    fetch(origin, path, &file, &run)
}

/// True if `stored` are the stored bytes of the chunk.
pub(super) fn is_chunk(chunk: &Chunk, stored: &[u8]) -> bool {
    stored.len() == chunk.stored_len as usize && Digest::of(stored) == chunk.digest
}

fn end(chunk: &Chunk) -> u64 {
    chunk.offset + u64::from(chunk.stored_len)
}

fn is_there(file: &File, chunk: &Chunk) -> bool {
    let mut stored = vec![0; chunk.stored_len as usize];
    let read = file.read_exact_at(&mut stored, chunk.offset);
    read.is_ok() && is_chunk(chunk, &stored)
}

/// Superblock and sections, verified; `None` if the origin does not have the layer.
fn sections(
    origin: &mut dyn MirrorOrigin,
    (path, len): (&ObjectPath, u64),
    file: &File,
    place: &Path,
) -> Result<Option<Layer>> {
    let opened = |file: &File| {
        let layer = Layer::from_file(file.try_clone().ok()?).ok()?;
        (Some(layer.digest()) == path.digest()).then_some(layer)
    };
    if let Some(layer) = opened(file) {
        return Ok(Some(layer));
    }
    let damaged = |origin: &dyn MirrorOrigin, what: String| MirrorError::Damaged {
        origin: origin.name(),
        path: path.to_string(),
        what,
    };
    let mut head = Vec::new();
    let first = 0..(SUPERBLOCK_LEN as u64).min(len);
    let found = origin.range(path, first, &mut |bytes| {
        head.extend_from_slice(bytes);
        Ok(())
    })?;
    if !found {
        return Ok(None);
    }
    if Some(Digest::of(&head)) != path.digest() {
        return Err(damaged(origin, "its superblock has another digest".into()));
    }
    let superblock =
        layout::Superblock::decode(&head).map_err(|it| damaged(origin, it.to_string()))?;
    let sections_len = superblock.file_len.saturating_sub(superblock.data_end);
    if superblock.file_len != len || sections_len > SECTIONS_LEN_MAX {
        return Err(damaged(
            origin,
            "its length is not that in the manifest".into(),
        ));
    }
    file.set_len(len)
        .and_then(|()| file.write_all_at(&head, 0))
        .map_err(file_error(place))?;
    let mut at = superblock.data_end;
    let found = origin.range(path, at..len, &mut |bytes| {
        file.write_all_at(bytes, at)?;
        at += bytes.len() as u64;
        Ok(())
    })?;
    if !found {
        return Ok(None);
    }
    match opened(file) {
        Some(layer) => Ok(Some(layer)),
        None => Err(damaged(origin, "its sections have other digests".into())),
    }
}

/// Fetches adjacent chunks; each is verified before it is written.
fn fetch(
    origin: &mut dyn MirrorOrigin,
    path: &ObjectPath,
    file: &File,
    run: &[Chunk],
) -> Result<bool> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(true);
    };
    let mut chunks = run.iter();
    let mut wanted = chunks.next();
    let mut pending: Vec<u8> = Vec::new();
    origin.range(path, first.offset..end(last), &mut |bytes| {
        pending.extend_from_slice(bytes);
        while let Some(chunk) = wanted
            && pending.len() >= chunk.stored_len as usize
        {
            let rest = pending.split_off(chunk.stored_len as usize);
            if !is_chunk(chunk, &pending) {
                return Err(io::Error::other("a chunk has another digest"));
            }
            file.write_all_at(&pending, chunk.offset)?;
            pending = rest;
            wanted = chunks.next();
        }
        Ok(())
    })
}
