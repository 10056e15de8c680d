//! A layer file: superblock, sections and the stored bytes of its own chunks.

pub mod content;
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
use crate::codec::decode_section;
use crate::digest::Digest;
use crate::error::{ErrorKind, FormatError, Result};
use crate::index::{Index, LayerRef};
use crate::layout::chunk::Chunk;
use crate::layout::superblock::{SUPERBLOCK_LEN, SectionId, Superblock};

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

/// An open, validated layer. Cheap to share; chunk bytes are read on demand and are **not**
/// verified here: [`crate::decode_chunk`] does that.
#[derive(Debug)]
pub struct Layer {
    bytes: Bytes,
    superblock: Superblock,
    digest: Digest,
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
        let raw = read_section(&bytes, &superblock, SectionId::Index)?.unwrap_or_default();
        let index = Arc::new(Index::decode(raw, superblock.data_end)?);
        Ok(Layer {
            bytes,
            digest: Digest::of(&head),
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
        self.digest
    }

    /// Name and length, as another index refers to this layer.
    pub fn layer_ref(&self) -> LayerRef {
        LayerRef {
            digest: self.digest,
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
        read_section(&self.bytes, &self.superblock, SectionId::Content)?
            .map(|raw| ContentDigests::decode(raw, &self.index))
            .transpose()
    }

    /// Provenance; `None` if the file has none.
    ///
    /// # Errors
    /// When the section is damaged or cannot be read.
    pub fn meta(&self) -> Result<Option<Meta>> {
        read_section(&self.bytes, &self.superblock, SectionId::Meta)?
            .map(|raw| Meta::decode(&raw))
            .transpose()
    }

    /// The file, if the layer was made of bytes in memory ([`Layer::from_vec`]).
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &self.bytes {
            Bytes::Owned(bytes) => Some(bytes),
            Bytes::File(_) | Bytes::Mapped(_) => None,
        }
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

fn open(path: &Path) -> Result<File> {
    File::open(path)
        .map_err(|e| FormatError::io("file", 0, format!("cannot open {}", path.display()), e))
}

fn read_section(bytes: &Bytes, superblock: &Superblock, id: SectionId) -> Result<Option<Vec<u8>>> {
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
    decode_section(section, &stored).map(Some)
}
