//! Many layers into one: live chunks copied as they are, or everything cut and compressed anew.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use crate::codec::verify_chunk;
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::flatten::MergedIndex;
use crate::flatten::rebuild::rebuild;
use crate::index::{Index, LayerRef};
use crate::layer::Meta;
use crate::layout::chunk::{Chunk, Source};
use crate::layout::superblock::SUPERBLOCK_LEN;
use crate::source::{ChunkSource, ContentReader};
use crate::tree::{Kind, from_index};
use crate::writer::{Content, FileParts, LayerInfo, LayerWriter, Options};

/// Which chunks a compaction keeps as borrowed instead of copying them.
#[derive(Debug, Clone, Copy)]
pub struct Keep<'k> {
    /// Chunks of these layers stay borrowed: the layers below the compacted range.
    pub borrowed: &'k [Digest],
}

/// Write the merged index as one layer at `path` that holds every live chunk, copied without
/// recompression and verified on the way. Chunks of the layers in `keep` stay borrowed.
/// `progress` gets the bytes copied so far.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when a chunk cannot be read or the file not be written,
/// [`crate::ErrorKind::DigestMismatch`] when a chunk is damaged. Nothing usable is left at `path`.
pub fn copy(
    merged: &MergedIndex,
    source: &dyn ChunkSource,
    path: &Path,
    keep: Keep<'_>,
    meta: &Meta,
    mut progress: impl FnMut(u64),
) -> Result<LayerInfo> {
    let index = &merged.index;
    let file = create(path)?;
    let copied = chunks(index, source, &file, keep, &mut progress)?;
    let compacted = rebuild(index, copied.data_end, &copied.chunks, |ino, out| {
        out.extend(index.extents(ino, 0..u64::MAX).map(|extent| {
            crate::index::Extent {
                chunk: copied
                    .rows
                    .get(extent.chunk as usize)
                    .copied()
                    .unwrap_or(u32::MAX),
                ..extent
            }
        }));
        Ok(())
    })?;
    let content = merged.content.as_ref().map(|content| {
        let files: Vec<Digest> = (0..index.inode_count())
            .map(|ino| content.file(ino))
            .collect();
        let mut digests = vec![Digest::default(); copied.chunks.len()];
        for (old, new) in copied.rows.iter().enumerate() {
            if let Some(slot) = digests.get_mut(*new as usize) {
                *slot = content.chunk(old as u32);
            }
        }
        crate::layer::ContentDigests::from_parts(&files, &digests)
    });
    let parts = FileParts {
        file: &file,
        data_end: copied.data_end,
    };
    let superblock = parts.finish(&compacted, content.as_ref(), Some(meta))?;
    Ok(LayerInfo {
        digest: Digest::of(&superblock.encode()),
        file_len: superblock.file_len,
        data_len: copied.data_end - SUPERBLOCK_LEN as u64,
        head_len: superblock.head_len(),
        own_chunks: copied.own,
        borrowed_chunks: compacted.chunk_count() - copied.own,
        inodes: compacted.inode_count(),
    })
}

/// The chunk table of a compacted layer, its own chunks already written.
struct Copied {
    chunks: Vec<(Chunk, Option<LayerRef>)>,
    /// Row of the merged index to row of `chunks`.
    rows: Vec<u32>,
    own: u32,
    data_end: u64,
}

/// Copy every live chunk into `file`, verified: own chunks first, in the order of the merged
/// index, then those that stay borrowed.
fn chunks(
    index: &Index,
    source: &dyn ChunkSource,
    file: &File,
    keep: Keep<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Copied> {
    let (mut own, mut borrowed) = (Vec::new(), Vec::new());
    let mut rows = vec![0u32; index.chunk_count() as usize];
    let mut offset = SUPERBLOCK_LEN as u64;
    let mut stored = Vec::new();
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let failed = |offset| move |e| FormatError::io("file", offset, "cannot write", e);
    out.seek(SeekFrom::Start(offset)).map_err(failed(offset))?;
    for (row, chunk) in index.chunks().enumerate() {
        let layer = layer_of(index, &chunk)?;
        if keep.borrowed.contains(&layer.digest) {
            borrowed.push((row, chunk, layer));
            continue;
        }
        source
            .read_stored(index, &chunk, &mut stored)
            .map_err(|e| FormatError::io("chunk", chunk.offset, at(&layer), e))?;
        verify_chunk(&chunk, &stored)?;
        out.write_all(&stored).map_err(failed(offset))?;
        set(&mut rows, row, own.len() as u32);
        own.push((
            Chunk {
                source: Source::Own,
                offset,
                ..chunk
            },
            None,
        ));
        offset += u64::from(chunk.stored_len);
        progress(offset - SUPERBLOCK_LEN as u64);
    }
    out.flush().map_err(failed(offset))?;
    let own_count = own.len() as u32;
    let mut chunks = own;
    for (row, chunk, layer) in borrowed {
        set(&mut rows, row, chunks.len() as u32);
        chunks.push((chunk, Some(layer)));
    }
    Ok(Copied {
        chunks,
        rows,
        own: own_count,
        data_end: offset,
    })
}

/// Write the merged tree as one layer at `path`, every content cut and compressed anew with
/// `options`. `progress` gets the raw bytes read so far.
///
/// # Errors
/// As [`copy`].
pub fn recompress(
    merged: &MergedIndex,
    source: &dyn ChunkSource,
    path: &Path,
    options: Options,
    meta: &Meta,
    mut progress: impl FnMut(u64),
) -> Result<LayerInfo> {
    let index = &merged.index;
    let mut writer = LayerWriter::create(path, options, None)?;
    let mut reader = ContentReader::new(index, source);
    let mut tree = from_index::tree(index, |_, inode| Content {
        size: inode.size,
        digest: Digest::default(),
        extents: [].into(),
    })?;
    for ino in 0..index.inode_count() {
        let Some(inode) = index.inode(ino).filter(|inode| inode.is_file()) else {
            continue;
        };
        let mut stream = reader.stream(ino);
        let segments = stream.segments();
        let content = writer.add_file(inode.size, &segments, &mut stream)?;
        if let Some(node) = tree.node_mut(ino) {
            node.kind = Kind::File(content);
        }
        progress(writer.progress().raw);
    }
    writer.finish(&tree, meta)
}

fn create(path: &Path) -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path);
    file.map_err(|e| FormatError::io("file", 0, format!("cannot create {}", path.display()), e))
}

fn layer_of(index: &Index, chunk: &Chunk) -> Result<LayerRef> {
    let layer = match chunk.source {
        Source::Borrowed(row) => index.layer(row),
        Source::Own => None,
    };
    layer.ok_or_else(|| FormatError::corrupt("INDEX", 0, "not a merged index"))
}

fn at(layer: &LayerRef) -> String {
    format!("cannot read it from layer {}", layer.digest)
}

fn set(rows: &mut [u32], row: usize, value: u32) {
    if let Some(slot) = rows.get_mut(row) {
        *slot = value;
    }
}
