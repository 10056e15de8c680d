//! The end of a layer file: sections, then the superblock that names them.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use crate::codec::{SectionEffort, encode_section};
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::index::Index;
use crate::layer::{ContentDigests, Meta};
use crate::layout::superblock::{Section, SectionId, Superblock};

/// A file whose chunk data is complete, waiting for sections and superblock.
pub(crate) struct FileParts<'f> {
    pub(crate) file: &'f File,
    pub(crate) data_end: u64,
}

impl FileParts<'_> {
    pub(crate) fn finish(
        &self,
        index: &Index,
        content: Option<&ContentDigests>,
        meta: Option<&Meta>,
    ) -> Result<Superblock> {
        let effort = SectionEffort::Small;
        let (superblock, sections) = sections(index, content, meta, self.data_end, effort)?;
        self.seal(&superblock, &sections)?;
        Ok(superblock)
    }

    /// Write sections and superblock made before, and make the file durable.
    pub(crate) fn seal(&self, superblock: &Superblock, sections: &[u8]) -> Result<()> {
        let io = |e| FormatError::io("file", self.data_end, "cannot write", e);
        let mut file = self.file;
        file.seek(SeekFrom::Start(self.data_end)).map_err(io)?;
        file.write_all(sections).map_err(io)?;
        file.write_all_at(&superblock.encode(), 0).map_err(io)?;
        file.set_len(superblock.file_len).map_err(io)?;
        file.sync_all().map_err(io)
    }
}

/// The sections of a layer in file order, and the superblock that names them.
pub(crate) fn sections(
    index: &Index,
    content: Option<&ContentDigests>,
    meta: Option<&Meta>,
    data_end: u64,
    effort: SectionEffort,
) -> Result<(Superblock, Vec<u8>)> {
    let mut raw: Vec<(SectionId, std::borrow::Cow<'_, [u8]>)> =
        vec![(SectionId::Index, index.raw())];
    if let Some(content) = content {
        raw.push((SectionId::Content, content.as_bytes().into()));
    }
    if let Some(meta) = meta {
        raw.push((SectionId::Meta, meta.encode()?.into()));
    }
    let mut out = Vec::new();
    let mut table = Vec::new();
    for (id, raw) in raw {
        if raw.len() as u64 > id.raw_len_max() {
            return Err(FormatError::limit(
                id.name(),
                0,
                format!("{} bytes", raw.len()),
            ));
        }
        let stored = encode_section(id, &raw, effort)?;
        table.push(Section {
            id,
            offset: data_end + out.len() as u64,
            stored_len: stored.len() as u64,
            raw_len: raw.len() as u64,
            digest: Digest::of(&stored),
        });
        out.extend_from_slice(&stored);
    }
    let superblock = Superblock {
        compat: 0,
        incompat: 0,
        file_len: data_end + out.len() as u64,
        data_end,
        sections: table,
    };
    Ok((superblock, out))
}
