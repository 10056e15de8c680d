//! Writes trees as layers: contents are added as a stream, the tree at the end.
//!
//! [`LayerWriter::add_file`] cuts a content into chunks, or finds it in this layer or in the base;
//! chunks are compressed in parallel and written in the order they were cut, so the bytes of a
//! layer do not depend on the number of threads.

mod base;
mod content;
mod identity;
mod options;
mod pipeline;
mod tables;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use self::base::BASE;
pub use self::base::Base;
pub use self::content::{BLOCK_LEN, ContentHasher};
use self::content::{Data, Spool};
pub use self::identity::Content;
use self::identity::Identity;
pub use self::options::{LargeFiles, Options};
pub use self::pipeline::StoredChunk;
use self::pipeline::{ChunkKind, Pipeline};
pub use crate::codec::{Effort, Tuned};
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::file::FileParts;
use crate::index::{Extent, LayerRef};
use crate::layer::Meta;
use crate::layout::superblock::SUPERBLOCK_LEN;
use crate::tree::Tree;

/// Digest and sizes of a written layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerInfo {
    /// The layer's name.
    pub digest: Digest,
    /// Length of the file, bytes.
    pub file_len: u64,
    /// Bytes of chunk data in the file.
    pub data_len: u64,
    /// Superblock and INDEX, bytes.
    pub head_len: u64,
    /// Chunks in the file.
    pub own_chunks: u32,
    /// Chunks borrowed from the base.
    pub borrowed_chunks: u32,
    /// Inodes in the index.
    pub inodes: u32,
}

impl LayerInfo {
    /// Name and length, as an index refers to this layer.
    pub fn layer_ref(&self) -> LayerRef {
        LayerRef {
            digest: self.digest,
            file_len: self.file_len,
        }
    }
}

/// Counters of a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes of content given, holes not counted.
    pub raw: u64,
    /// Of these, bytes found to be there already.
    pub deduplicated: u64,
    /// Bytes compressed and written so far.
    pub stored: u64,
}

/// Writes one layer file.
#[derive(Debug)]
pub struct LayerWriter {
    file: File,
    spool_dir: PathBuf,
    pipeline: Pipeline,
    options: Options,
    base: Option<Base>,
    /// One open bundle of small contents for each class.
    bundles: [Bundle; 2],
    known_files: HashSet<Content>,
    known_sizes: HashSet<u64>,
    known_chunks: HashMap<Digest, u32>,
    /// Raw digests of own chunks, in the order they were cut.
    raw_digests: Vec<Digest>,
    progress: Progress,
}

/// Small contents that will share a chunk. Their extents are patched when it is closed.
#[derive(Debug, Default)]
struct Bundle {
    raw: Vec<u8>,
    /// Reserved number of the chunk-to-be; own chunks are renumbered in cutting order at the end.
    id: Option<u32>,
}

impl LayerWriter {
    /// Write into `file`, which should be empty, readable and on its way to be renamed. Contents
    /// too large for memory are spooled in `spool_dir` while they are looked up.
    ///
    /// # Errors
    /// When a compressor cannot be set up.
    pub fn new(
        file: File,
        spool_dir: &Path,
        options: Options,
        base: Option<Base>,
    ) -> Result<LayerWriter> {
        let data = file
            .try_clone()
            .map_err(|e| FormatError::io("file", 0, "cannot duplicate the descriptor", e))?;
        Ok(LayerWriter {
            pipeline: Pipeline::start(data, options)?,
            file,
            spool_dir: spool_dir.to_owned(),
            options,
            base,
            bundles: Default::default(),
            known_files: HashSet::new(),
            known_sizes: HashSet::new(),
            known_chunks: HashMap::new(),
            raw_digests: Vec::new(),
            progress: Progress::default(),
        })
    }

    /// Create `path` (it must not exist) and write into it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when it cannot be created.
    pub fn create(path: &Path, options: Options, base: Option<Base>) -> Result<LayerWriter> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path);
        let file = file.map_err(|e| {
            FormatError::io("file", 0, format!("cannot create {}", path.display()), e)
        })?;
        let spool_dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        Self::new(file, spool_dir.unwrap_or(Path::new(".")), options, base)
    }

    /// The base given at creation.
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// The current counters.
    pub fn progress(&self) -> Progress {
        Progress {
            stored: self.pipeline.stored(),
            ..self.progress
        }
    }

    /// Adds the content of one regular file: `size` bytes of which `segments` (offset, length;
    /// ascending, not overlapping) hold data, which `reader` yields one after the other. Aligned
    /// blocks of [`BLOCK_LEN`] zero bytes become holes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]: `reader` fails or ends early or the layer cannot be written;
    /// [`crate::ErrorKind::Corrupt`]: the segments are not as described.
    pub fn add_file(
        &mut self,
        size: u64,
        segments: &[(u64, u64)],
        reader: &mut dyn io::Read,
    ) -> Result<Content> {
        let data = Data::new(size, segments, reader)?;
        if data.len() <= content::MEMORY_LEN_MAX {
            let runs = data.into_memory()?;
            return self.add_runs(size, &runs);
        }
        if !self.sizes_match(size) {
            return self.add_stream(data);
        }
        // It may be a content we have: look before it is cut.
        let mut spool = Spool::new(data, &self.spool_dir)?;
        if let Some(content) = self.find(spool.digest(), size) {
            self.progress.raw += spool.len();
            self.progress.deduplicated += spool.len();
            return Ok(content);
        }
        let mut again = spool.rewind()?;
        let segments = again.segments.clone();
        let data = Data::new(size, &segments, &mut again.file)?;
        self.add_stream(data)
    }

    fn sizes_match(&self, size: u64) -> bool {
        self.known_sizes.contains(&size)
            || self
                .base
                .as_ref()
                .is_some_and(|base| base.sizes.contains(&size))
    }

    fn find(&self, digest: Digest, size: u64) -> Option<Content> {
        if let Some(content) = self.known_files.get(&Identity { size, digest }) {
            return Some(content.clone());
        }
        let base = self.base.as_ref()?;
        let ino = base.files.get(&(digest, size))?;
        Some(Content::new(size, digest, &base.extents(*ino)))
    }

    fn know(&mut self, content: &Content) {
        self.known_files.insert(content.clone());
        self.known_sizes.insert(content.size());
    }

    /// A cutter for a file of `size` bytes.
    fn cutter(&self, size: u64) -> content::Cutter {
        let large = self.options.large;
        let large = large.filter(|large| size >= large.file_len_min);
        let chunk_len = large.map_or(self.options.chunk_len, |large| large.chunk_len);
        content::Cutter::new(chunk_len, large.is_some())
    }

    /// A content that fits in memory.
    fn add_runs(&mut self, size: u64, runs: &content::Runs) -> Result<Content> {
        let digest = runs.digest();
        let len = runs.bytes.len() as u64;
        self.progress.raw += len;
        if let Some(content) = self.find(digest, size) {
            self.progress.deduplicated += len;
            return Ok(content);
        }
        let mut extents = Vec::new();
        let x86 = content::is_x86(&runs.bytes);
        if runs.bytes.len() < self.options.chunk_len as usize {
            self.bundle(runs, x86, &mut extents)?;
        } else {
            let mut cut = self.cutter(size);
            let mut taken = 0;
            for &(offset, len) in &runs.table {
                let bytes = runs
                    .bytes
                    .get(taken..taken + len as usize)
                    .unwrap_or_default();
                taken += len as usize;
                for block in bytes.chunks(BLOCK_LEN) {
                    let at = offset + (block.as_ptr() as u64 - bytes.as_ptr() as u64);
                    if let Some(full) = cut.push(at, block) {
                        self.close(full, x86, &mut extents)?;
                    }
                }
            }
            self.close(cut.finish(), x86, &mut extents)?;
        }
        let content = Content::new(size, digest, &extents);
        self.know(&content);
        Ok(content)
    }

    /// A content too large for memory.
    fn add_stream(&mut self, mut data: Data<'_>) -> Result<Content> {
        let size = data.size;
        let mut cut = self.cutter(size);
        let mut hasher = ContentHasher::new();
        let mut extents = Vec::new();
        let mut x86 = None;
        while let Some((offset, block)) = data.next_block()? {
            let x86 = *x86.get_or_insert_with(|| offset == 0 && content::is_x86(block));
            hasher.update(offset, block);
            self.progress.raw += block.len() as u64;
            if let Some(full) = cut.push(offset, block) {
                self.close(full, x86, &mut extents)?;
            }
        }
        self.close(cut.finish(), x86.unwrap_or(false), &mut extents)?;
        let content = Content::new(size, hasher.finish(size), &extents);
        self.know(&content);
        Ok(content)
    }

    fn bundle(&mut self, runs: &content::Runs, x86: bool, out: &mut Vec<Extent>) -> Result<()> {
        if runs.bytes.is_empty() {
            return Ok(());
        }
        let class = usize::from(x86);
        let limit = self.options.chunk_len as usize;
        let full = |bundle: &Bundle| bundle.raw.len() + runs.bytes.len() > limit;
        if self.bundles.get(class).is_some_and(full) {
            self.flush(class)?;
        }
        let Some(bundle) = self.bundles.get_mut(class) else {
            return Ok(());
        };
        let chunk = *bundle.id.get_or_insert_with(|| self.pipeline.reserve());
        let mut chunk_offset = bundle.raw.len() as u32;
        for &(file_offset, len) in &runs.table {
            out.push(Extent {
                file_offset,
                chunk,
                chunk_offset,
                len: len as u32,
            });
            chunk_offset += len as u32;
        }
        bundle.raw.extend_from_slice(&runs.bytes);
        Ok(())
    }

    fn flush(&mut self, class: usize) -> Result<()> {
        let Some(bundle) = self.bundles.get_mut(class).map(std::mem::take) else {
            return Ok(());
        };
        let Some(id) = bundle.id else { return Ok(()) };
        let kind = ChunkKind {
            x86: class == 1,
            large: false,
        };
        self.submit(id, bundle.raw, kind)
    }

    fn know_raw(&mut self, id: u32, digest: Digest) {
        let slot = id as usize;
        if self.raw_digests.len() <= slot {
            self.raw_digests.resize(slot + 1, Digest::default());
        }
        if let Some(slot) = self.raw_digests.get_mut(slot) {
            *slot = digest;
        }
    }

    fn submit(&mut self, id: u32, raw: Vec<u8>, kind: ChunkKind) -> Result<()> {
        self.know_raw(id, Digest::of(&raw));
        self.pipeline.submit(id, raw, kind)
    }

    /// Close one cut: its chunk may be there already.
    fn close(&mut self, cut: content::Cut, x86: bool, out: &mut Vec<Extent>) -> Result<()> {
        if cut.raw.is_empty() {
            return Ok(());
        }
        let digest = Digest::of(&cut.raw);
        let known = self.known_chunks.get(&digest).copied().or_else(|| {
            let base = self.base.as_ref()?;
            base.chunks.get(&digest).map(|id| id | BASE)
        });
        let chunk = match known {
            Some(chunk) => {
                self.progress.deduplicated += cut.raw.len() as u64;
                chunk
            }
            None => {
                let id = self.pipeline.reserve();
                self.known_chunks.insert(digest, id);
                let large = cut.large;
                self.submit(id, cut.raw, ChunkKind { x86, large })?;
                id
            }
        };
        let mut chunk_offset = 0;
        for (file_offset, len) in cut.runs {
            out.push(Extent {
                file_offset,
                chunk,
                chunk_offset,
                len,
            });
            chunk_offset += len;
        }
        Ok(())
    }

    /// Adds one chunk of raw bytes that belongs to no file of the tree, for packs. Returns its row
    /// in the chunk table of the finished layer, if only packs are written.
    ///
    /// # Errors
    /// `raw` is empty or too long, or the layer cannot be written.
    pub fn add_chunk(&mut self, raw: Vec<u8>, x86: bool) -> Result<u32> {
        if raw.is_empty() || raw.len() > crate::limits::CHUNK_RAW_LEN_MAX as usize {
            let what = format!("a chunk of {} bytes", raw.len());
            return Err(FormatError::limit("chunk", 0, what));
        }
        let id = self.pipeline.reserve();
        self.submit(id, raw, ChunkKind { x86, large: false })?;
        Ok(id)
    }

    /// Adds a chunk of another layer as it is, like [`LayerWriter::add_chunk`]. The caller has verified
    /// its bytes and the digest of its raw bytes.
    ///
    /// # Errors
    /// The layer cannot be written.
    pub fn add_stored_chunk(&mut self, chunk: StoredChunk, raw_digest: Digest) -> Result<u32> {
        let id = self.pipeline.reserve();
        self.know_raw(id, raw_digest);
        self.pipeline.submit_stored(id, chunk)?;
        Ok(id)
    }

    /// Writes the tree, the sections and the superblock, and makes all of it durable.
    ///
    /// # Errors
    /// The tree is larger than an index can be or the file cannot be written.
    pub fn finish(mut self, tree: Tree<Content>, meta: &Meta) -> Result<LayerInfo> {
        for class in 0..self.bundles.len() {
            self.flush(class)?;
        }
        // A large tree and its tables need much memory, and so does their compression.
        drop((self.known_files, self.known_sizes, self.known_chunks));
        let written = self.pipeline.finish()?;
        let tables = tables::build(&tree, &written, &self.raw_digests, self.base.as_ref())?;
        drop(tree);
        let file = FileParts {
            file: &self.file,
            data_end: written.data_end,
        };
        file.finish(&tables.index, Some(&tables.content), Some(meta))
            .map(|superblock| LayerInfo {
                digest: Digest::of(&superblock.encode()),
                file_len: superblock.file_len,
                data_len: superblock.data_end - SUPERBLOCK_LEN as u64,
                head_len: superblock.head_len(),
                own_chunks: tables.own_chunks,
                borrowed_chunks: tables.index.chunk_count() - tables.own_chunks,
                inodes: tables.index.inode_count(),
            })
    }
}
