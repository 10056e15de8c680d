//! Sources of stored chunks, and readers of contents.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crate::codec::decode_chunk;
use crate::digest::Digest;
use crate::index::{Extent, Index, Ino};
use crate::layer::{Layer, LayerFile};
use crate::layout::chunk::{Chunk, ChunkFile};

/// A source of stored chunks. The caller always verifies the bytes.
pub trait StoredChunks: Send + Sync {
    /// Reads the stored bytes of `chunk`, which is one of `index`, into `out` (cleared first).
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]: the layer is unknown; else the error of reading.
    fn read_stored(&self, index: &Index, chunk: &Chunk, out: &mut Vec<u8>) -> io::Result<()>;
}

/// Files of local layers by digest: the source for the merged index of a stack of files. Their tables
/// are not kept.
#[derive(Debug, Default, Clone)]
pub struct LayerSet {
    layers: HashMap<Digest, Arc<LayerFile>>,
}

impl LayerSet {
    /// The given layers.
    pub fn new(layers: impl IntoIterator<Item = Arc<Layer>>) -> LayerSet {
        let mut set = LayerSet::default();
        for layer in layers {
            set.add(layer.file());
        }
        set
    }

    /// These layers and another one.
    #[must_use]
    pub fn with(mut self, layer: &Layer) -> LayerSet {
        self.add(layer.file());
        self
    }

    /// Adds the file of a layer.
    pub fn add(&mut self, file: &Arc<LayerFile>) {
        self.layers.insert(file.digest(), Arc::clone(file));
    }

    /// The file of the layer with this digest.
    pub fn get(&self, digest: &Digest) -> Option<&Arc<LayerFile>> {
        self.layers.get(digest)
    }
}

impl StoredChunks for LayerSet {
    fn read_stored(&self, index: &Index, chunk: &Chunk, out: &mut Vec<u8>) -> io::Result<()> {
        let ChunkFile::Borrowed(row) = chunk.source else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "not a merged index",
            ));
        };
        let digest = index
            .layer(row)
            .map(|layer| layer.digest)
            .unwrap_or_default();
        let layer = self.layers.get(&digest).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("layer {digest} is not available"),
            )
        })?;
        layer.read_stored(chunk, out)
    }
}

/// A single layer read with its own index: own chunks from the file, borrowed ones from `below`.
#[derive(Debug, Clone)]
pub struct OwnAndBelow {
    layer: Arc<Layer>,
    below: LayerSet,
}

impl OwnAndBelow {
    /// `layer` over the layers it borrows from.
    pub fn new(layer: Arc<Layer>, below: LayerSet) -> OwnAndBelow {
        OwnAndBelow { layer, below }
    }
}

impl StoredChunks for OwnAndBelow {
    fn read_stored(&self, index: &Index, chunk: &Chunk, out: &mut Vec<u8>) -> io::Result<()> {
        match chunk.source {
            ChunkFile::Own => self.layer.read_stored(chunk, out),
            ChunkFile::Borrowed(_) => self.below.read_stored(index, chunk, out),
        }
    }
}

/// Number of decoded chunks in the cache of a [`ContentReader`]: neighboring small files share
/// chunks.
const CHUNKS_KEPT: usize = 8;

/// Reads contents file by file, verifying every chunk.
pub struct ContentReader<'s> {
    index: &'s Index,
    source: &'s dyn StoredChunks,
    /// Most recently used last.
    decoded: Vec<(u32, Vec<u8>)>,
    stored: Vec<u8>,
}

impl std::fmt::Debug for ContentReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentReader").finish_non_exhaustive()
    }
}

impl<'s> ContentReader<'s> {
    /// A reader of the files of `index`.
    pub fn new(index: &'s Index, source: &'s dyn StoredChunks) -> Self {
        ContentReader {
            index,
            source,
            decoded: Vec::new(),
            stored: Vec::new(),
        }
    }

    /// Returns the decoded bytes of chunk `id`.
    ///
    /// # Errors
    /// The error of the source; [`io::ErrorKind::InvalidData`]: the chunk is damaged.
    pub fn chunk(&mut self, id: u32) -> io::Result<&[u8]> {
        if let Some(at) = self.decoded.iter().position(|(have, _)| *have == id) {
            let entry = self.decoded.remove(at);
            self.decoded.push(entry);
        } else {
            let mut raw = match self.decoded.len() {
                CHUNKS_KEPT.. => self.decoded.remove(0).1,
                _ => Vec::new(),
            };
            let chunk = self.index.chunk(id).ok_or(io::ErrorKind::NotFound)?;
            self.source
                .read_stored(self.index, &chunk, &mut self.stored)?;
            decode_chunk(&chunk, &self.stored, &mut raw)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.decoded.push((id, raw));
        }
        Ok(self.decoded.last().map_or(&[], |(_, raw)| raw))
    }

    /// Calls `data` with every run of file `ino`: offset in the file and bytes.
    ///
    /// # Errors
    /// The errors of [`ContentReader::chunk`], or of `data`.
    pub fn runs(
        &mut self,
        ino: Ino,
        mut data: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let index = self.index;
        for extent in index.extents(ino, 0..u64::MAX) {
            data(extent.file_offset, self.extent(&extent)?)?;
        }
        Ok(())
    }

    /// The bytes of one extent.
    ///
    /// # Errors
    /// The errors of [`ContentReader::chunk`].
    pub fn extent(&mut self, extent: &Extent) -> io::Result<&[u8]> {
        let start = extent.chunk_offset as usize;
        let bytes = self
            .chunk(extent.chunk)?
            .get(start..start + extent.len as usize);
        bytes.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// A plain reader over the data runs of file `ino`, without holes.
    pub fn stream(&mut self, ino: Ino) -> ContentStream<'_, 's> {
        let extents: Vec<Extent> = self.index.extents(ino, 0..u64::MAX).collect();
        ContentStream {
            reader: self,
            extents,
            extent: 0,
            used: 0,
        }
    }
}

/// The data runs of one file as [`io::Read`]; see [`ContentReader::stream`].
#[derive(Debug)]
pub struct ContentStream<'r, 's> {
    reader: &'r mut ContentReader<'s>,
    extents: Vec<Extent>,
    extent: usize,
    used: usize,
}

impl ContentStream<'_, '_> {
    /// The runs that will be read: offset in the file and length.
    pub fn segments(&self) -> Vec<(u64, u64)> {
        self.extents
            .iter()
            .map(|e| (e.file_offset, e.len.into()))
            .collect()
    }
}

impl io::Read for ContentStream<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(extent) = self.extents.get(self.extent) else {
            return Ok(0);
        };
        let bytes = self
            .reader
            .extent(extent)?
            .get(self.used..)
            .unwrap_or_default();
        let len = bytes.len().min(out.len());
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.used += len;
        if self.used == extent.len as usize {
            self.extent += 1;
            self.used = 0;
        }
        Ok(len)
    }
}
