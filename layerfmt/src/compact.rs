//! Merges layers into one: copies live chunks, or cuts and compresses everything again.

mod plan;

use std::fs::File;
use std::path::Path;

pub use self::plan::CompactPlan;
pub use crate::codec::SectionEffort;
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::flatten::MergedIndex;
use crate::layer::Meta;
use crate::source::{ContentReader, StoredChunks};
use crate::tree::{Kind, from_index};
use crate::writer::{Content, LayerInfo, LayerWriter, Options};

/// The chunks that a compaction keeps as borrowed instead of copying them.
#[derive(Debug, Clone, Copy)]
pub struct KeepBorrowed<'k> {
    /// Chunks of these layers stay borrowed: the layers below the compacted range.
    pub borrowed: &'k [Digest],
}

/// Write the merged index as one layer at `path` that holds every live chunk, copied without
/// recompression and verified on the way: a [`CompactPlan`] carried out. Chunks of the layers in `keep`
/// stay borrowed. `progress` gets the bytes copied so far.
///
/// # Errors
/// The errors of [`CompactPlan::new`] and [`CompactPlan::write`].
pub fn copy(
    merged: &MergedIndex,
    source: &dyn StoredChunks,
    path: &Path,
    keep: KeepBorrowed<'_>,
    meta: &Meta,
    progress: impl FnMut(u64),
) -> Result<LayerInfo> {
    let plan = CompactPlan::new(merged, keep, SectionEffort::Small, meta)?;
    plan.write(source, path, progress)?;
    Ok(plan.info())
}

/// Writes the merged tree as one layer at `path`, with every content cut and compressed again with
/// `options`. `progress` gets the raw bytes read so far.
///
/// # Errors
/// The errors of [`copy`].
pub fn recompress(
    merged: &MergedIndex,
    source: &dyn StoredChunks,
    path: &Path,
    options: Options,
    meta: &Meta,
    mut progress: impl FnMut(u64),
) -> Result<LayerInfo> {
    let index = &merged.index;
    let mut writer = LayerWriter::create(path, options, None)?;
    let mut reader = ContentReader::new(index, source);
    let mut tree = from_index::tree(index, |_, inode| {
        Content::new(inode.size, Digest::default(), &[])
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
    writer.finish(tree, meta)
}

fn create(path: &Path) -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path);
    file.map_err(|e| FormatError::io("file", 0, format!("cannot create {}", path.display()), e))
}
