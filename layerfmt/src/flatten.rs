//! A stack of layers as one index whose chunks are all borrowed: the merge rule over indexes.
//!
//! `tree::apply` is the reference; this is the fast form, one pass over the merged tree.

mod merge;
pub mod rebuild;

use std::sync::Arc;

use crate::codec::SectionEffort;
use crate::digest::Digest;
use crate::error::{ErrorKind, FormatError, Result};
use crate::file::sections;
use crate::index::{Index, LayerRef};
use crate::layer::{ContentDigests, Layer, Meta};
use crate::layout::chunk::ChunkFile;
use crate::layout::superblock::SUPERBLOCK_LEN;

/// One layer of a stack to flatten.
#[derive(Debug, Clone)]
pub struct FlattenInput {
    /// The index of the layer.
    pub index: Arc<Index>,
    /// Name and length, for borrowing its own chunks.
    pub layer: LayerRef,
    /// Its content digests, if the merged index needs some.
    pub content: Option<Arc<ContentDigests>>,
}

impl FlattenInput {
    /// A layer file, with its content digests if `with_content`.
    ///
    /// # Errors
    /// When the CONTENT section is damaged.
    pub fn of(layer: &Layer, with_content: bool) -> Result<FlattenInput> {
        let content = if with_content {
            layer.content()?.map(Arc::new)
        } else {
            None
        };
        Ok(FlattenInput {
            index: Arc::clone(layer.index()),
            layer: layer.layer_ref(),
            content,
        })
    }
}

/// A flattened stack.
#[derive(Debug, Clone)]
pub struct MergedIndex {
    /// The visible tree; every chunk is borrowed.
    pub index: Arc<Index>,
    /// Digests of its contents, if every layer had them.
    pub content: Option<ContentDigests>,
}

/// Flattens a stack, base first. The result has no whiteouts and no opaque directories.
///
/// # Errors
/// [`ErrorKind::Limit`]: the merged tree is larger than an index can be.
pub fn flatten(stack: &[FlattenInput]) -> Result<MergedIndex> {
    merge::merge(stack, true)
}

/// Flatten consecutive layers of a longer stack: whiteouts and opaque marks stay.
///
/// # Errors
/// The errors of [`flatten`].
pub fn squash(stack: &[FlattenInput]) -> Result<MergedIndex> {
    merge::merge(stack, false)
}

/// Flatten open layer files.
///
/// # Errors
/// The errors of [`flatten`], and when a CONTENT section is damaged.
pub fn flatten_layers<'l>(
    layers: impl IntoIterator<Item = &'l Layer>,
    with_content: bool,
) -> Result<MergedIndex> {
    let inputs: Result<Vec<FlattenInput>> = layers
        .into_iter()
        .map(|layer| FlattenInput::of(layer, with_content))
        .collect();
    flatten(&inputs?)
}

/// Flattens the tables of open layer files, base first, which are needed no more: at the end only the
/// merged ones are in memory.
///
/// # Errors
/// The errors of [`flatten`].
pub fn flatten_into_one(layers: Vec<Layer>) -> Result<Arc<Index>> {
    let parts = layers.into_iter();
    let parts = parts.map(|layer| (layer.layer_ref(), layer.into_index()));
    let mut parts: Vec<(LayerRef, Arc<Index>)> = parts.collect();
    if let [(layer, index)] = parts.as_mut_slice()
        && Arc::get_mut(index).is_some_and(|index| index.lend(*layer))
    {
        return Ok(Arc::clone(index));
    }
    let inputs = parts.into_iter().map(|(layer, index)| FlattenInput {
        index,
        layer,
        content: None,
    });
    Ok(flatten(&inputs.collect::<Vec<_>>())?.index)
}

impl MergedIndex {
    /// Reads a merged index from its file.
    ///
    /// # Errors
    /// The file has chunks of its own, or its CONTENT section is damaged.
    pub fn from_layer(layer: &Layer, with_content: bool) -> Result<MergedIndex> {
        if layer
            .index()
            .chunk(0)
            .is_some_and(|chunk| chunk.source == ChunkFile::Own)
        {
            let what = "not a merged index: it has chunks of its own";
            return Err(FormatError::new(ErrorKind::Corrupt, "INDEX", 0, what));
        }
        let content = if with_content { layer.content()? } else { None };
        Ok(MergedIndex {
            index: Arc::clone(layer.index()),
            content,
        })
    }

    /// Encodes the merged index as a layer file without chunk data: superblock, INDEX, then CONTENT
    /// if present. A large one also has an early index in META, with the files that borrow from the
    /// boot pack `pack`. Also returns the number of bytes that a client needs: superblock and INDEX.
    ///
    /// # Errors
    /// A section is larger than its limit.
    pub fn to_bytes(&self, pack: Option<&Digest>) -> Result<(Vec<u8>, u64)> {
        let data_end = SUPERBLOCK_LEN as u64;
        let (index, content) = (&self.index, self.content.as_ref());
        let effort = SectionEffort::Small;
        let meta = Meta::of_merged(index, pack)?;
        let (superblock, sections) = sections(index, content, meta.as_ref(), data_end, effort)?;
        let mut bytes = superblock.encode().to_vec();
        bytes.extend_from_slice(&sections);
        Ok((bytes, superblock.head_len()))
    }

    /// The stack's tree digest; `None` without content digests.
    pub fn tree_digest(&self) -> Option<Digest> {
        let content = self.content.as_ref()?;
        Some(crate::tree_digest::tree_digest(&self.index, content))
    }
}
