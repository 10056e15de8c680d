//! One end of an update pack: the merged index of a revision, and its chunks.

use std::collections::HashMap;
use std::sync::Arc;

use layerfmt::source::{ContentReader, LayerSet, StoredChunks as _};
use layerfmt::update::Span;
use layerfmt::{ChunkFile, Digest, FormatError, Index};
use wire::manifest::{IndexRef, ObjectRef};

use super::Result;
use crate::history::{History, Revision};
use crate::store::Key;

/// Largest cache of decoded chunks, bytes.
const DECODED_LEN_MAX: usize = 96 << 20;

/// One end of an update pack.
pub(crate) struct End {
    pub(super) index: Arc<Index>,
    pub(super) reference: IndexRef,
    pub(super) pack: Option<ObjectRef>,
    layers: LayerSet,
}

impl End {
    /// Opens the merged index of `revision`, whose chunks refer to the boot pack, and its layers.
    pub(crate) fn of(history: &History, revision: &Revision) -> Result<End> {
        let manifest = &revision.manifest;
        let reference = manifest.index;
        let key = Key::index(&reference.digest);
        let layer = history.store().open_layer(&key, &reference.digest)?;
        Ok(End {
            index: Arc::clone(layer.index()),
            reference,
            pack: manifest.pack,
            layers: history.layers(manifest)?,
        })
    }

    /// The merged index.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The stored bytes of chunk `row`, not verified.
    pub(crate) fn stored(&self, row: u32) -> Option<Vec<u8>> {
        let chunk = self.index.chunk(row)?;
        let mut stored = Vec::new();
        self.layers
            .read_stored(&self.index, &chunk, &mut stored)
            .ok()?;
        Some(stored)
    }

    /// True if the boot pack has chunk `row`.
    pub(super) fn is_hot(&self, row: u32) -> bool {
        self.place_in_pack(row).is_some()
    }

    /// Position of chunk `row` in the boot pack, if it is there.
    pub(super) fn place_in_pack(&self, row: u32) -> Option<u64> {
        let (chunk, pack) = (self.index.chunk(row)?, self.pack.as_ref()?);
        let ChunkFile::Borrowed(layer) = chunk.source else {
            return None;
        };
        let layer = self.index.layer(layer)?;
        (layer.digest == pack.digest).then_some(chunk.offset)
    }

    pub(super) fn digests(&self) -> std::collections::HashSet<Digest> {
        self.index.chunks().map(|chunk| chunk.digest).collect()
    }

    pub(super) fn reader(&self) -> ContentReader<'_> {
        ContentReader::new(&self.index, &self.layers)
    }

    pub(crate) fn decoder(&self) -> Decoder<'_> {
        Decoder {
            reader: self.reader(),
            kept: HashMap::new(),
            kept_len: 0,
        }
    }
}

/// Decodes chunks; caches them, because neighboring units share many.
pub(crate) struct Decoder<'e> {
    reader: ContentReader<'e>,
    kept: HashMap<u32, Arc<[u8]>>,
    kept_len: usize,
}

impl Decoder<'_> {
    /// The bytes of spans, one after the other.
    pub(super) fn spans(&mut self, spans: &[Span]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for span in spans {
            let raw = self.raw(span.chunk)?;
            let part = raw
                .get(span.offset as usize..)
                .and_then(|rest| rest.get(..span.len as usize));
            bytes.extend_from_slice(part.unwrap_or_default());
        }
        Ok(bytes)
    }

    /// As [`Decoder::raw`], for [`UpdatePlan::apply`](layerfmt::update::UpdatePlan::apply).
    pub(crate) fn raw_or_missing(&mut self, row: u32) -> layerfmt::error::Result<Arc<[u8]>> {
        self.raw(row).map_err(|error| {
            let kind = layerfmt::ErrorKind::Io;
            FormatError::new(kind, "update pack", row.into(), error.to_string())
        })
    }

    pub(super) fn raw(&mut self, row: u32) -> Result<Arc<[u8]>> {
        if let Some(raw) = self.kept.get(&row) {
            return Ok(Arc::clone(raw));
        }
        let raw: Arc<[u8]> = Arc::from(self.reader.chunk(row)?);
        if self.kept_len + raw.len() > DECODED_LEN_MAX {
            self.kept.clear();
            self.kept_len = 0;
        }
        self.kept_len += raw.len();
        self.kept.insert(row, Arc::clone(&raw));
        Ok(raw)
    }
}
