//! The first 1,024 bytes of a layer file. Their BLAKE3 is the layer's digest: it covers the digest
//! of every section, and the INDEX section covers the digest of every chunk.

use crate::digest::{DIGEST_LEN, Digest};
use crate::error::{ErrorKind, FormatError, Result};
use crate::limits;

/// Length of the superblock, bytes.
pub const SUPERBLOCK_LEN: usize = 1024;
/// The first eight bytes of every layer file.
pub const MAGIC: [u8; 8] = *b"\x8fLAYER\r\n";
/// Version of this specification. A reader refuses any other.
pub const VERSION: u32 = 1;
/// Features a reader must know. None is defined yet.
pub(crate) const INCOMPAT_KNOWN: u64 = 0;
/// Number of rows of the section table.
pub const SECTIONS: usize = 8;
/// Length of one row of the section table, bytes.
pub const SECTION_ROW_LEN: usize = 64;
/// Offset of the section table.
pub const SECTION_TABLE_OFFSET: usize = 64;
/// Offset of the superblock's own digest: BLAKE3 of all preceding bytes.
pub const SELF_DIGEST_OFFSET: usize = SUPERBLOCK_LEN - DIGEST_LEN;

/// The kinds of sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SectionId {
    /// The tables a mount needs.
    Index,
    /// Digests of uncompressed content: for the bakery only.
    Content,
    /// Provenance of the layer.
    Meta,
}

impl SectionId {
    /// All sections, in file order.
    pub const ALL: [SectionId; 3] = [SectionId::Index, SectionId::Content, SectionId::Meta];

    /// The number in the section table. 0 is an empty row.
    pub fn code(self) -> u32 {
        match self {
            SectionId::Index => 1,
            SectionId::Content => 2,
            SectionId::Meta => 3,
        }
    }

    /// The section's name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            SectionId::Index => "INDEX",
            SectionId::Content => "CONTENT",
            SectionId::Meta => "META",
        }
    }

    /// Largest raw length, bytes.
    pub(crate) fn raw_len_max(self) -> u64 {
        match self {
            SectionId::Index => limits::INDEX_LEN_MAX,
            SectionId::Content => limits::CONTENT_LEN_MAX,
            SectionId::Meta => limits::META_LEN_MAX,
        }
    }
}

/// One row of the section table. A section is stored as one zstd frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The kind of the section.
    pub id: SectionId,
    /// Offset of its stored bytes in the file.
    pub offset: u64,
    /// Length of the stored bytes.
    pub stored_len: u64,
    /// Length after decompression, bytes.
    pub raw_len: u64,
    /// BLAKE3 of the stored bytes.
    pub digest: Digest,
}

/// The decoded superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Compatible features in use.
    pub compat: u64,
    /// Incompatible features in use.
    pub incompat: u64,
    /// Length of the whole file, bytes.
    pub file_len: u64,
    /// End of the chunk data, which starts at [`SUPERBLOCK_LEN`].
    pub data_end: u64,
    /// The sections, in file order.
    pub sections: Vec<Section>,
}

const NAME: &str = "superblock";

impl Superblock {
    /// The row of section `id`.
    pub fn section(&self, id: SectionId) -> Option<&Section> {
        self.sections.iter().find(|section| section.id == id)
    }

    /// The number of bytes from the start of the file that a client needs if the file has no chunk
    /// data: superblock and INDEX.
    pub fn head_len(&self) -> u64 {
        self.section(SectionId::Index)
            .map_or(0, |index| index.offset + index.stored_len)
    }

    /// The 1,024 bytes.
    pub fn encode(&self) -> [u8; SUPERBLOCK_LEN] {
        let mut out = Vec::with_capacity(SUPERBLOCK_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(SUPERBLOCK_LEN as u32).to_le_bytes());
        for word in [self.compat, self.incompat, self.file_len, self.data_end] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.resize(SECTION_TABLE_OFFSET, 0);
        for section in self.sections.iter().take(SECTIONS) {
            out.extend_from_slice(&section.id.code().to_le_bytes());
            out.extend_from_slice(&0u32.to_le_bytes());
            for word in [section.offset, section.stored_len, section.raw_len] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            out.extend_from_slice(&section.digest.0);
        }
        out.resize(SELF_DIGEST_OFFSET, 0);
        let digest = Digest::of(&out);
        out.extend_from_slice(&digest.0);
        let mut bytes = [0u8; SUPERBLOCK_LEN];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Parses the superblock in `bytes` and checks it against itself. The caller compares
    /// `file_len` with the real length.
    ///
    /// # Errors
    /// [`ErrorKind::NotALayer`], [`ErrorKind::Unsupported`], [`ErrorKind::DigestMismatch`],
    /// [`ErrorKind::Corrupt`], [`ErrorKind::Limit`].
    pub fn decode(bytes: &[u8]) -> Result<Superblock> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC) {
            return Err(FormatError::new(
                ErrorKind::NotALayer,
                NAME,
                0,
                "not a layer file: the magic number is missing",
            ));
        }
        let Some(bytes) = bytes.get(..SUPERBLOCK_LEN) else {
            let what = "file ends inside the superblock";
            return Err(FormatError::new(
                ErrorKind::NotALayer,
                NAME,
                bytes.len() as u64,
                what,
            ));
        };
        let version = u32_at(bytes, 8);
        if version != VERSION {
            let what = format!("format version {version}, this reader knows {VERSION}");
            return Err(FormatError::new(ErrorKind::Unsupported, NAME, 8, what));
        }
        let (body, promised) = bytes.split_at(SELF_DIGEST_OFFSET);
        if Digest::of(body).0 != promised {
            let what = "superblock digest does not match";
            return Err(FormatError::new(
                ErrorKind::DigestMismatch,
                NAME,
                SELF_DIGEST_OFFSET as u64,
                what,
            ));
        }
        if u32_at(bytes, 12) as usize != SUPERBLOCK_LEN {
            return Err(FormatError::corrupt(
                NAME,
                12,
                "superblock length is not 1024",
            ));
        }
        let superblock = Superblock {
            compat: u64_at(bytes, 16),
            incompat: u64_at(bytes, 24),
            file_len: u64_at(bytes, 32),
            data_end: u64_at(bytes, 40),
            sections: sections(bytes)?,
        };
        superblock.check(bytes)?;
        Ok(superblock)
    }

    fn check(&self, bytes: &[u8]) -> Result<()> {
        if self.incompat & !INCOMPAT_KNOWN != 0 {
            let what = format!("unknown incompatible features {:#x}", self.incompat);
            return Err(FormatError::new(ErrorKind::Unsupported, NAME, 24, what));
        }
        if bytes
            .get(48..SECTION_TABLE_OFFSET)
            .is_none_or(|gap| gap.iter().any(|&b| b != 0))
        {
            return Err(FormatError::corrupt(
                NAME,
                48,
                "reserved bytes are not zero",
            ));
        }
        if self.data_end < SUPERBLOCK_LEN as u64 {
            return Err(FormatError::corrupt(
                NAME,
                40,
                "chunk data ends inside the superblock",
            ));
        }
        let mut end = self.data_end;
        for section in &self.sections {
            let what = section.id.name();
            if section.offset != end {
                let what =
                    format!("section {what} does not start at the end of the preceding part");
                return Err(FormatError::corrupt(
                    NAME,
                    SECTION_TABLE_OFFSET as u64,
                    what,
                ));
            }
            end = end.checked_add(section.stored_len).ok_or_else(|| {
                FormatError::corrupt(
                    NAME,
                    SECTION_TABLE_OFFSET as u64,
                    "section length overflows",
                )
            })?;
            if section.raw_len > section.id.raw_len_max() {
                let what = format!("section {what} of {} bytes is too large", section.raw_len);
                return Err(FormatError::limit(NAME, SECTION_TABLE_OFFSET as u64, what));
            }
        }
        if end != self.file_len {
            return Err(FormatError::corrupt(
                NAME,
                32,
                "sections do not end where the file ends",
            ));
        }
        if self.section(SectionId::Index).is_none() {
            let what = "no INDEX section";
            return Err(FormatError::corrupt(
                NAME,
                SECTION_TABLE_OFFSET as u64,
                what,
            ));
        }
        Ok(())
    }
}

fn sections(bytes: &[u8]) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    let mut ended = false;
    let mut last = 0;
    for row in 0..SECTIONS {
        let at = SECTION_TABLE_OFFSET + row * SECTION_ROW_LEN;
        let fail = |what: String| Err(FormatError::corrupt(NAME, at as u64, what));
        let code = u32_at(bytes, at);
        let row_bytes = bytes.get(at..at + SECTION_ROW_LEN).unwrap_or_default();
        if code == 0 {
            if row_bytes.iter().any(|&b| b != 0) {
                return fail("empty section row is not zero".into());
            }
            ended = true;
            continue;
        }
        if ended || code <= last || u32_at(bytes, at + 4) != 0 {
            return fail(format!(
                "section row {row} is out of order or not canonical"
            ));
        }
        last = code;
        let Some(id) = SectionId::ALL.into_iter().find(|id| id.code() == code) else {
            let what = format!("unknown section {code}");
            return Err(FormatError::new(
                ErrorKind::Unsupported,
                NAME,
                at as u64,
                what,
            ));
        };
        let mut digest = [0; DIGEST_LEN];
        digest.copy_from_slice(row_bytes.get(32..64).unwrap_or(&[0; DIGEST_LEN]));
        sections.push(Section {
            id,
            offset: u64_at(bytes, at + 8),
            stored_len: u64_at(bytes, at + 16),
            raw_len: u64_at(bytes, at + 24),
            digest: Digest(digest),
        });
    }
    // The bytes between the table and the digest must be zero.
    let end = SECTION_TABLE_OFFSET + SECTIONS * SECTION_ROW_LEN;
    if bytes
        .get(end..SELF_DIGEST_OFFSET)
        .is_none_or(|gap| gap.iter().any(|&b| b != 0))
    {
        return Err(FormatError::corrupt(
            NAME,
            end as u64,
            "reserved bytes are not zero",
        ));
    }
    Ok(sections)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}
