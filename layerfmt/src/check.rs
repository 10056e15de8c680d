//! Full verification of a layer, which takes too long for opening it.

use std::sync::Arc;

use crate::codec::decode_chunk;
use crate::digest::Digest;
use crate::error::{ErrorKind, FormatError, Result};
use crate::index::{Index, Ino};
use crate::layer::{ContentDigests, Layer};
use crate::layout::chunk::{Chunk, ChunkFile};
use crate::source::{ContentReader, LayerSet, OwnAndBelow, StoredChunks};
use crate::writer::ContentHasher;

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Own chunks, verified, decoded and, if digests of raw bytes exist, compared.
    pub chunks: u32,
    /// Files whose whole content was read and compared.
    pub files: u32,
    /// Files skipped because they borrow from layers that were not given.
    pub files_skipped: u32,
    /// Stored bytes of own chunks that no file uses.
    pub unused: u64,
    /// The layer's own tree digest; `None` without CONTENT section.
    pub tree_digest: Option<Digest>,
}

/// Verify every byte of `layer`. Contents borrowed from layers in `below` are compared as well.
/// `progress` gets the number of own chunks verified so far.
///
/// # Errors
/// The first defect.
pub fn check(
    layer: &Arc<Layer>,
    below: &LayerSet,
    mut progress: impl FnMut(u32),
) -> Result<Report> {
    let index = layer.index();
    let content = layer.content()?;
    if let Some(early) = layer
        .meta()?
        .map(|meta| meta.early())
        .transpose()?
        .flatten()
    {
        early.arrive(Arc::clone(index))?;
    }
    let mut report = Report::default();
    let mut seen = vec![false; index.chunk_count() as usize];
    let mut verified = |report: &mut Report, id: u32, raw: &[u8]| {
        let promised = content.as_ref().map(|content| content.chunk(id));
        if promised.is_some_and(|promised| promised != Digest::of(raw)) {
            let what = format!("raw digest of chunk {id}");
            return Err(mismatch("CONTENT", id.into(), what));
        }
        report.chunks += 1;
        progress(report.chunks);
        Ok(())
    };
    if let Some(content) = &content {
        files(
            layer,
            below,
            content,
            &mut |report, id, raw| {
                let seen = seen.get_mut(id as usize);
                if seen.is_none_or(|seen| std::mem::replace(seen, true)) {
                    return Ok(());
                }
                verified(report, id, raw)
            },
            &mut report,
        )?;
        report.tree_digest = Some(crate::tree_digest::tree_digest(index, content));
    }
    // Chunks that no readable file has used.
    let used = used_chunks(index);
    let (mut stored, mut raw) = (Vec::new(), Vec::new());
    for (id, chunk) in (0..).zip(index.chunks()) {
        if chunk.source != ChunkFile::Own {
            continue;
        }
        let is = |flags: &[bool]| flags.get(id as usize).copied().unwrap_or(false);
        if !is(&seen) {
            own_chunk(layer, &chunk, &mut stored, &mut raw)?;
            verified(&mut report, id, &raw)?;
        }
        if !is(&used) {
            report.unused += u64::from(chunk.stored_len);
        }
    }
    Ok(report)
}

fn own_chunk(layer: &Layer, chunk: &Chunk, stored: &mut Vec<u8>, raw: &mut Vec<u8>) -> Result<()> {
    layer
        .read_stored(chunk, stored)
        .map_err(|e| FormatError::io("chunk", chunk.offset, "cannot read", e))?;
    decode_chunk(chunk, stored, raw)
}

fn used_chunks(index: &Index) -> Vec<bool> {
    let mut used = vec![false; index.chunk_count() as usize];
    for ino in 0..index.inode_count() {
        for extent in index.extents(ino, 0..u64::MAX) {
            if let Some(slot) = used.get_mut(extent.chunk as usize) {
                *slot = true;
            }
        }
    }
    used
}

/// Compares every file. `decoded` is called for each decoding of an own chunk, before its bytes are
/// verified.
fn files(
    layer: &Arc<Layer>,
    below: &LayerSet,
    content: &ContentDigests,
    decoded: &mut dyn FnMut(&mut Report, u32, &[u8]) -> Result<()>,
    report: &mut Report,
) -> Result<()> {
    let index = layer.index();
    let source = OwnAndBelow::new(Arc::clone(layer), below.clone());
    let source: &dyn StoredChunks = &source;
    let mut reader = ContentReader::new(index, source);
    for ino in 0..index.inode_count() {
        let Some(inode) = index.inode(ino) else {
            continue;
        };
        if !inode.is_file() {
            if content.file(ino) != Digest::default() {
                let what = format!("inode {ino} is not a file");
                return Err(mismatch("CONTENT", ino.into(), what));
            }
            continue;
        }
        let mut hasher = ContentHasher::new();
        let mut complete = true;
        for extent in index.extents(ino, 0..u64::MAX) {
            match reader.chunk(extent.chunk) {
                Ok(raw) => {
                    let chunk = index.chunk(extent.chunk);
                    if chunk.is_some_and(|chunk| chunk.source == ChunkFile::Own) {
                        decoded(report, extent.chunk, raw)?;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    complete = false;
                    break;
                }
                Err(error) => return Err(unreadable(ino, error)),
            }
            let bytes = reader.extent(&extent).map_err(|e| unreadable(ino, e))?;
            hasher.update(extent.file_offset, bytes);
        }
        if !complete {
            report.files_skipped += 1;
        } else if hasher.finish(inode.size) == content.file(ino) {
            report.files += 1;
        } else {
            let what = format!("content of inode {ino}");
            return Err(mismatch("CONTENT", ino.into(), what));
        }
    }
    Ok(())
}

/// The error for an unreadable file. A damaged chunk has an error of its own.
#[cold]
fn unreadable(ino: Ino, error: std::io::Error) -> FormatError {
    match error.downcast::<FormatError>() {
        Ok(error) => error,
        Err(error) => FormatError::io("chunk", ino.into(), "cannot read a file", error),
    }
}

#[cold]
fn mismatch(section: &'static str, offset: u64, what: String) -> FormatError {
    let what = format!("{what}: the digest does not match");
    FormatError::new(ErrorKind::DigestMismatch, section, offset, what)
}
