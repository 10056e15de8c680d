//! Merged indexes that the mirror makes itself.
//!
//! A merged index follows from the layers, which the mirror has before it needs the index. Almost
//! every byte of it is in the index of the revision before. So the mirror stacks the layers as the
//! bakery did, and fetches an index only if its own has another digest.

use std::collections::HashMap;

use layerfmt::MergedIndex;
use layerfmt::layout::superblock::SUPERBLOCK_LEN;
use layerfmt::{Digest, FormatError};
use wire::manifest::{IndexRef, Manifest, RevisionName};

use crate::history::{History, Result, stack};
use crate::pack::carry;
use crate::store::Key;

/// The index files of `manifest` that can be made from what `history` has, by their digests.
pub(super) fn indexes(history: &History, manifest: &Manifest) -> HashMap<Digest, Vec<u8>> {
    let mut made = HashMap::new();
    if let Err(error) = add_indexes(history, manifest, &mut made) {
        tracing::debug!(%error, "a merged index is fetched");
    }
    made
}

fn add_indexes(
    history: &History,
    manifest: &Manifest,
    made: &mut HashMap<Digest, Vec<u8>>,
) -> Result<()> {
    let before = before(history, manifest);
    let without_pack = manifest.plain.as_ref().unwrap_or(&manifest.index);
    let Some((merged, file)) = stacked(history, manifest, before.as_ref(), without_pack)? else {
        return Ok(());
    };
    made.insert(without_pack.digest, file);
    if let (Some(pack), Some(before)) = (&manifest.pack, before)
        && before.pack == manifest.pack
    {
        let store = history.store();
        let pack = store.open_layer(&Key::pack(&pack.digest), &pack.digest)?;
        let packed = store.open_layer(&Key::index(&before.index.digest), &before.index.digest)?;
        let packed = MergedIndex::from_layer(&packed, true)?;
        let carried = carry(&pack, &history.merged(&before)?, &packed, &merged);
        if let Some(carried) = carried.transpose()?
            && let Some(file) = file_of(&carried, &manifest.index, Some(&pack.digest()))?
        {
            made.insert(manifest.index.digest, file);
        }
    }
    Ok(())
}

/// The manifest of the revision before, if it can be read.
fn before(history: &History, manifest: &Manifest) -> Option<Manifest> {
    let wanted = RevisionName {
        name: manifest.name(),
        revision: Some(manifest.revision.checked_sub(1).filter(|it| *it > 0)?),
    };
    Some(history.revision(&wanted).ok()?.manifest)
}

/// The merged index of the layers, and its file; `None` if it is not the wanted one.
fn stacked(
    history: &History,
    manifest: &Manifest,
    before: Option<&Manifest>,
    wanted: &IndexRef,
) -> Result<Option<(MergedIndex, Vec<u8>)>> {
    let file = |merged: MergedIndex| -> Result<_> {
        let file = file_of(&merged, wanted, None)?;
        Ok(file.map(|file| (merged, file)))
    };
    if let (Some(before), Some((top, below))) = (before, manifest.layers.split_last())
        && before.layers == below
        && let Some(found) = file(stack(
            Some(&history.merged(before)?),
            &*history.layer(&top.digest)?,
        )?)?
    {
        return Ok(Some(found));
    }
    file(history.flatten(&manifest.layers)?)
}

/// The file of a merged index, if it is the wanted one.
fn file_of(
    merged: &MergedIndex,
    wanted: &IndexRef,
    pack: Option<&Digest>,
) -> std::result::Result<Option<Vec<u8>>, FormatError> {
    let (bytes, _) = merged.to_bytes(pack)?;
    let digest = bytes.get(..SUPERBLOCK_LEN).map(Digest::of);
    Ok((digest == Some(wanted.digest)).then_some(bytes))
}
