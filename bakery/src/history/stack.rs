//! The objects of a revision, and its layers as one tree.

use layerfmt::flatten::{FlattenInput, MergedIndex, flatten};
use layerfmt::{Digest, Layer};
use wire::manifest::{Manifest, ObjectRef};

use super::Result;
use crate::store::Key;

/// Every object a manifest names, and its length.
pub fn objects(manifest: &Manifest) -> impl Iterator<Item = (Key, u64)> + '_ {
    let layers = manifest.layers.iter().chain(&manifest.borrowed);
    let layers = layers.map(|layer| (Key::layer(&layer.digest), layer.len));
    let indexes = [Some(&manifest.index), manifest.plain.as_ref()]
        .into_iter()
        .flatten();
    let indexes = indexes.map(|index| (Key::index(&index.digest), index.len));
    let pack = manifest
        .pack
        .iter()
        .map(|pack| (Key::pack(&pack.digest), pack.len));
    let boot = manifest.kernel.iter().chain(&manifest.initrd);
    let boot = boot.map(|file| (Key::boot(&file.digest), file.len));
    layers.chain(indexes).chain(pack).chain(boot)
}

/// The name and length of an open layer.
pub fn reference(layer: &Layer) -> ObjectRef {
    let layer = layer.layer_ref();
    ObjectRef {
        digest: layer.digest,
        len: layer.file_len,
    }
}

/// The merged index of `below` with one layer more on top.
///
/// # Errors
/// When the result is too large, or the layer's content digests are damaged.
pub fn stack(below: Option<&MergedIndex>, top: &Layer) -> Result<MergedIndex> {
    let mut inputs = Vec::with_capacity(2);
    if let Some(below) = below {
        inputs.push(merged_input(below));
    }
    inputs.push(FlattenInput::of(top, true)?);
    Ok(flatten(&inputs)?)
}

/// A merged index as a layer to be flattened. It has no chunks of its own, so nothing can borrow
/// from it and its name does not matter.
pub(crate) fn merged_input(merged: &MergedIndex) -> FlattenInput {
    FlattenInput {
        index: std::sync::Arc::clone(&merged.index),
        layer: layerfmt::LayerRef {
            digest: Digest::default(),
            file_len: 0,
        },
        content: merged.content.clone().map(std::sync::Arc::new),
    }
}
