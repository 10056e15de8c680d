//! A layer file: superblock, sections and the stored bytes of its own chunks.

pub mod content;
mod early;
pub mod meta;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

pub use self::content::ContentDigests;
pub use self::meta::Meta;
use crate::codec::steps::{FrameReader, Unsuitable};
use crate::codec::{decode_section, verify_section};
use crate::digest::Digest;
use crate::error::{ErrorKind, FormatError, Result};
use crate::index::tables::{self, PACKED_LEN_MIN, Packer};
use crate::index::{Index, LayerRef};
use crate::layout::chunk::Chunk;
use crate::layout::columns::{Columns, Counts, HEADER_LEN};
use crate::layout::superblock::{SUPERBLOCK_LEN, Section, SectionId, Superblock};

/// The storage of a layer's bytes.
#[derive(Debug)]
enum Bytes {
    File(File),
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn len(&self) -> io::Result<u64> {
        Ok(match self {
            Bytes::File(file) => file.metadata()?.len(),
            Bytes::Mapped(map) => map.len() as u64,
            Bytes::Owned(bytes) => bytes.len() as u64,
        })
    }

    /// `len` bytes from `offset` on, if they are in memory.
    fn slice(&self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        let slice: &[u8] = match self {
            Bytes::File(_) => return Ok(None),
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match slice.get(start..).and_then(|rest| rest.get(..len)) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        if let Bytes::File(file) = self {
            return file.read_exact_at(out, offset);
        }
        if let Some(bytes) = self.slice(offset, out.len())? {
            out.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Reads like [`Bytes::read_exact_at`]; bytes in memory are borrowed.
    fn get(&self, offset: u64, len: usize) -> io::Result<Cow<'_, [u8]>> {
        if let Some(bytes) = self.slice(offset, len)? {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(Cow::Owned(bytes))
    }
}

/// The file of a layer, without its tables.
#[derive(Debug)]
pub struct LayerFile {
    bytes: Bytes,
    digest: Digest,
}

impl LayerFile {
    /// The layer's name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Reads the stored bytes of one of this layer's own chunks into `out` (replaced). Unverified.
    ///
    /// # Errors
    /// The error of the operating system; a file that became too short gives `UnexpectedEof`.
    pub fn read_stored(&self, chunk: &Chunk, out: &mut Vec<u8>) -> io::Result<()> {
        // Every byte is overwritten below.
        out.resize(chunk.stored_len as usize, 0);
        self.bytes.read_exact_at(out, chunk.offset)
    }
}

/// An open, validated layer. Cheap to share; chunk bytes are read on demand and are **not**
/// verified here: [`crate::decode_chunk`] does that.
#[derive(Debug)]
pub struct Layer {
    file: Arc<LayerFile>,
    superblock: Superblock,
    index: Arc<Index>,
}

impl Layer {
    /// Opens a layer file; chunks are read with `pread`, so that truncation by another process
    /// causes an error instead of SIGBUS.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or the fault of the file.
    pub fn open(path: &Path) -> Result<Layer> {
        Self::from_bytes(Bytes::File(open(path)?))
    }

    /// Opens a layer like [`Layer::open`], but maps the file: for files that nobody truncates, such
    /// as those of a store.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or the fault of the file.
    pub fn map(path: &Path) -> Result<Layer> {
        let map = crate::sys::map(&open(path)?)
            .map_err(|error| FormatError::io("file", 0, "cannot map", error))?;
        Self::from_bytes(Bytes::Mapped(map))
    }

    /// A layer from an open file; see [`Layer::open`].
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or the fault of the file.
    pub fn from_file(file: File) -> Result<Layer> {
        Self::from_bytes(Bytes::File(file))
    }

    /// A layer in memory. `bytes` may end after the INDEX section ([`Superblock::head_len`]);
    /// reading later bytes then fails.
    ///
    /// # Errors
    /// The fault of the bytes.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Layer> {
        Self::from_bytes(Bytes::Owned(bytes))
    }

    fn from_bytes(bytes: Bytes) -> Result<Layer> {
        let len = bytes
            .len()
            .map_err(|e| FormatError::io("file", 0, "cannot read", e))?;
        let mut head = vec![0; SUPERBLOCK_LEN.min(usize::try_from(len).unwrap_or(SUPERBLOCK_LEN))];
        bytes
            .read_exact_at(&mut head, 0)
            .map_err(|e| FormatError::io("superblock", 0, "cannot read", e))?;
        let superblock = Superblock::decode(&head)?;
        let want = match bytes {
            Bytes::Owned(_) if len < superblock.file_len => superblock.head_len(),
            _ => superblock.file_len,
        };
        if len != want {
            let what = format!("the file has {len} bytes, its superblock says {want}");
            return Err(FormatError::corrupt("superblock", 32, what));
        }
        let index = Arc::new(read_index(&bytes, &superblock)?);
        let digest = Digest::of(&head);
        Ok(Layer {
            file: Arc::new(LayerFile { bytes, digest }),
            superblock,
            index,
        })
    }

    /// The validated superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The layer's name: BLAKE3 of its superblock, which covers the whole file.
    pub fn digest(&self) -> Digest {
        self.file.digest
    }

    /// The file, which can be kept without the tables.
    pub fn file(&self) -> &Arc<LayerFile> {
        &self.file
    }

    /// The index, which the caller may change if nobody else has it.
    pub(crate) fn into_index(self) -> Arc<Index> {
        self.index
    }

    /// Name and length, as another index refers to this layer.
    pub fn layer_ref(&self) -> LayerRef {
        LayerRef {
            digest: self.digest(),
            file_len: self.superblock.file_len,
        }
    }

    /// The validated index.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The digests of uncompressed content; `None` if the file has none.
    ///
    /// # Errors
    /// When the section is damaged or cannot be read.
    pub fn content(&self) -> Result<Option<ContentDigests>> {
        read_section(&self.file.bytes, &self.superblock, SectionId::Content)?
            .map(|raw| ContentDigests::decode(raw, &self.index))
            .transpose()
    }

    /// Provenance; `None` if the file has none.
    ///
    /// # Errors
    /// When the section is damaged or cannot be read.
    pub fn meta(&self) -> Result<Option<Meta>> {
        read_section(&self.file.bytes, &self.superblock, SectionId::Meta)?
            .map(|raw| Meta::decode(&raw))
            .transpose()
    }

    /// The file, if the layer was made of bytes in memory ([`Layer::from_vec`]).
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &self.file.bytes {
            Bytes::Owned(bytes) => Some(bytes),
            Bytes::File(_) | Bytes::Mapped(_) => None,
        }
    }

    /// Reads a chunk like [`LayerFile::read_stored`].
    ///
    /// # Errors
    /// The errors of that function.
    pub fn read_stored(&self, chunk: &Chunk, out: &mut Vec<u8>) -> io::Result<()> {
        self.file.read_stored(chunk, out)
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path)
        .map_err(|e| FormatError::io("file", 0, format!("cannot open {}", path.display()), e))
}

/// The index of a file. A large one is decoded in steps, so that its raw bytes are never in memory as
/// a whole.
fn read_index(bytes: &Bytes, superblock: &Superblock) -> Result<Index> {
    let Some((section, stored)) = stored_section(bytes, superblock, SectionId::Index)? else {
        return Index::decode(Vec::new(), superblock.data_end);
    };
    if section.raw_len >= PACKED_LEN_MIN as u64
        && let Ok((counts, packer)) = in_steps(&stored, section.raw_len)
    {
        drop(stored);
        return Index::packed(packer, counts, superblock.data_end);
    }
    Index::decode(decode_section(section, &stored)?, superblock.data_end)
}

/// Packs the tables of a verified section while it is decoded.
fn in_steps(stored: &[u8], raw_len: u64) -> std::result::Result<(Counts, Packer), Unsuitable> {
    let mut reader = FrameReader::new(stored)?;
    let mut header = [0; HEADER_LEN];
    reader.fill(&mut header)?;
    let counts = Counts::decode(&header).map_err(|_| Unsuitable)?;
    let layout = Columns::new(counts);
    if layout.len() as u64 != raw_len {
        return Err(Unsuitable);
    }
    let packer = tables::pack(&layout, |place| reader.fill(place))?;
    reader.finish()?;
    Ok((counts, packer))
}

fn read_section(bytes: &Bytes, superblock: &Superblock, id: SectionId) -> Result<Option<Vec<u8>>> {
    stored_section(bytes, superblock, id)?
        .map(|(section, stored)| decode_section(section, &stored))
        .transpose()
}

/// A section's row and its stored bytes, verified.
fn stored_section<'b>(
    bytes: &'b Bytes,
    superblock: &'b Superblock,
    id: SectionId,
) -> Result<Option<(&'b Section, Cow<'b, [u8]>)>> {
    let Some(section) = superblock.section(id) else {
        return Ok(None);
    };
    let len = bytes
        .len()
        .map_err(|e| FormatError::io(id.name(), 0, "cannot read", e))?;
    let end = section.offset.checked_add(section.stored_len);
    if end.is_none_or(|end| end > len) {
        let what = "the file ends inside this section";
        return Err(FormatError::new(
            ErrorKind::Corrupt,
            id.name(),
            section.offset,
            what,
        ));
    }
    let stored = bytes
        .get(
            section.offset,
            usize::try_from(section.stored_len).unwrap_or(0),
        )
        .map_err(|e| FormatError::io(id.name(), section.offset, "cannot read", e))?;
    verify_section(section, &stored)?;
    Ok(Some((section, stored)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/FORMAT.md 6: a section is one zstd frame of exactly its raw length.
    #[test]
    fn a_section_decoded_in_steps_has_the_tables_of_the_whole() {
        let index = Index::empty();
        let raw = index.raw();
        let frame = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
        let (counts, packer) = in_steps(&frame(&raw), raw.len() as u64).unwrap();
        let packed = Index::packed(packer, counts, SUPERBLOCK_LEN as u64).unwrap();
        assert_eq!(packed.raw(), raw);
        assert_eq!(packed.inode(0), index.inode(0));
        let longer = [&raw[..], b"x"].concat();
        assert!(in_steps(&frame(&longer), raw.len() as u64).is_err());
        assert!(in_steps(&frame(&longer), longer.len() as u64).is_err());
        assert!(in_steps(&frame(&raw)[1..], raw.len() as u64).is_err());
        assert!(in_steps(&frame(&raw[..40]), 40).is_err());
    }
}
