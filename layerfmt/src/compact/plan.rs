//! The plan of a compacted layer. It is complete before any chunk is copied: the lengths of the
//! chunks determine their positions, and these everything else, including the layer's name.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::{KeepBorrowed, create};
use crate::codec::{SectionEffort, verify_chunk};
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::file::{FileParts, sections};
use crate::flatten::rebuild::rebuild;
use crate::flatten::{FlattenInput, MergedIndex};
use crate::index::{Extent, Index, LayerRef};
use crate::layer::{ContentDigests, Meta};
use crate::layout::chunk::{Chunk, ChunkFile};
use crate::layout::superblock::{SUPERBLOCK_LEN, Superblock};
use crate::source::StoredChunks;
use crate::writeback::Writeback;
use crate::writer::LayerInfo;

/// The plan of one layer, made from a merged index.
#[derive(Debug)]
pub struct CompactPlan {
    /// The chunks to copy, as in the merged index, in the order of the file.
    copies: Vec<Chunk>,
    /// The merged index that names these chunks.
    merged: Arc<Index>,
    index: Arc<Index>,
    content: Option<Arc<ContentDigests>>,
    superblock: Superblock,
    sections: Vec<u8>,
}

impl CompactPlan {
    /// Plans one layer with every live chunk of `merged`, except those of the layers in `keep`,
    /// which stay borrowed.
    ///
    /// # Errors
    /// `merged` has chunks of its own, or the result is larger than a layer can be.
    pub fn new(
        merged: &MergedIndex,
        keep: KeepBorrowed<'_>,
        effort: SectionEffort,
        meta: &Meta,
    ) -> Result<CompactPlan> {
        let index = &merged.index;
        let table = table(index, keep)?;
        let compacted = rebuild(index, table.data_end, &table.chunks, |ino, out| {
            out.extend(index.extents(ino, 0..u64::MAX).map(|extent| {
                Extent {
                    chunk: table
                        .rows
                        .get(extent.chunk as usize)
                        .copied()
                        .unwrap_or(u32::MAX),
                    ..extent
                }
            }));
            Ok(())
        })?;
        let content = merged
            .content
            .as_ref()
            .map(|content| renumbered(index, content, &table));
        let (superblock, sections) = sections(
            &compacted,
            content.as_ref(),
            Some(meta),
            table.data_end,
            effort,
        )?;
        Ok(CompactPlan {
            copies: table.copies,
            merged: Arc::clone(index),
            index: Arc::new(compacted),
            content: content.map(Arc::new),
            superblock,
            sections,
        })
    }

    /// Digest and sizes of the layer to be written.
    pub fn info(&self) -> LayerInfo {
        let own_chunks = self.copies.len() as u32;
        LayerInfo {
            digest: Digest::of(&self.superblock.encode()),
            file_len: self.superblock.file_len,
            data_len: self.superblock.data_end - SUPERBLOCK_LEN as u64,
            head_len: self.superblock.head_len(),
            own_chunks,
            borrowed_chunks: self.index.chunk_count() - own_chunks,
            inodes: self.index.inode_count(),
        }
    }

    /// The planned layer as input of a flattening, with its content digests.
    pub fn input(&self) -> FlattenInput {
        FlattenInput {
            index: Arc::clone(&self.index),
            layer: self.info().layer_ref(),
            content: self.content.clone(),
        }
    }

    /// Writes the layer to a new file at `path`, durably. Chunks are copied unchanged and verified.
    /// `progress` gets the bytes copied so far.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]: a chunk cannot be read or the file not be written;
    /// [`crate::ErrorKind::DigestMismatch`]: a chunk is damaged. No usable file is left at
    /// `path`.
    pub fn write(
        &self,
        source: &dyn StoredChunks,
        path: &Path,
        mut progress: impl FnMut(u64),
    ) -> Result<()> {
        let file = create(path)?;
        self.copy(source, &file, &mut progress)?;
        let parts = FileParts {
            file: &file,
            data_end: self.superblock.data_end,
        };
        parts.seal(&self.superblock, &self.sections)
    }

    fn copy(
        &self,
        source: &dyn StoredChunks,
        file: &File,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let failed = |offset| move |e| FormatError::io("file", offset, "cannot write", e);
        let mut offset = SUPERBLOCK_LEN as u64;
        let mut stored = Vec::new();
        let mut writeback = Writeback::of(file).map_err(failed(offset))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.seek(SeekFrom::Start(offset)).map_err(failed(offset))?;
        for chunk in &self.copies {
            source
                .read_stored(&self.merged, chunk, &mut stored)
                .map_err(|e| {
                    let layer = layer_of(&self.merged, chunk).map(|layer| layer.digest);
                    let what = format!("cannot read it from layer {}", layer.unwrap_or_default());
                    FormatError::io("chunk", chunk.offset, what, e)
                })?;
            verify_chunk(chunk, &stored)?;
            out.write_all(&stored).map_err(failed(offset))?;
            writeback.wrote(stored.len() as u64);
            offset += u64::from(chunk.stored_len);
            progress(offset - SUPERBLOCK_LEN as u64);
        }
        out.flush().map_err(failed(offset))?;
        writeback.finish().map(drop).map_err(failed(offset))
    }
}

/// The chunk table of the planned layer.
struct Table {
    /// Own chunks first, in the order of the merged index, then those that stay borrowed.
    chunks: Vec<(Chunk, Option<LayerRef>)>,
    /// Row of the merged index to row of `chunks`.
    rows: Vec<u32>,
    /// The own chunks at their current positions.
    copies: Vec<Chunk>,
    data_end: u64,
}

fn table(index: &Index, keep: KeepBorrowed<'_>) -> Result<Table> {
    let (mut chunks, mut copies, mut borrowed) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = vec![0u32; index.chunk_count() as usize];
    let mut offset = SUPERBLOCK_LEN as u64;
    for (row, chunk) in index.chunks().enumerate() {
        let layer = layer_of(index, &chunk)?;
        if keep.borrowed.contains(&layer.digest) {
            borrowed.push((row, chunk, layer));
            continue;
        }
        set(&mut rows, row, chunks.len() as u32);
        let source = ChunkFile::Own;
        chunks.push((
            Chunk {
                source,
                offset,
                ..chunk
            },
            None,
        ));
        offset += u64::from(chunk.stored_len);
        copies.push(chunk);
    }
    for (row, chunk, layer) in borrowed {
        set(&mut rows, row, chunks.len() as u32);
        chunks.push((chunk, Some(layer)));
    }
    Ok(Table {
        chunks,
        rows,
        copies,
        data_end: offset,
    })
}

fn renumbered(index: &Index, content: &ContentDigests, table: &Table) -> ContentDigests {
    let files = (0..index.inode_count())
        .map(|ino| content.file(ino).0)
        .collect();
    let mut digests = vec![Digest::default(); table.chunks.len()];
    for (old, new) in table.rows.iter().enumerate() {
        if let Some(slot) = digests.get_mut(*new as usize) {
            *slot = content.chunk(old as u32);
        }
    }
    ContentDigests::from_parts(files, &digests)
}

fn layer_of(index: &Index, chunk: &Chunk) -> Result<LayerRef> {
    let layer = match chunk.source {
        ChunkFile::Borrowed(row) => index.layer(row),
        ChunkFile::Own => None,
    };
    layer.ok_or_else(|| FormatError::corrupt("INDEX", 0, "not a merged index"))
}

fn set(rows: &mut [u32], row: usize, value: u32) {
    if let Some(slot) = rows.get_mut(row) {
        *slot = value;
    }
}
