//! Keeps a boot pack for the next tree, so that the first boots after a change have one too.

use std::path::Path;

use layerfmt::MergedIndex;
use layerfmt::source::LayerSet;
use wire::manifest::{Manifest, ObjectRef};

use super::pack::PublishPackError;
use super::{Draft, DraftIndex, Plain, Publisher, Uploads};
use crate::pack::{CarriedPack, PackError, Packed};
use crate::store::Key;

/// The parts that a pack for changed files needs besides the old pack.
pub(crate) struct NewPages<'n> {
    /// The layers of the new tree.
    pub(crate) layers: LayerSet,
    /// The path for the pack.
    pub(crate) path: &'n Path,
}

/// A boot pack, and the merged index that points into it.
struct Carried {
    pack: ObjectRef,
    index: MergedIndex,
    /// The pack is a new file.
    is_new: bool,
}

impl Publisher {
    /// Gives `draft` its tree, `merged`, and the part of the boot pack of `old` that is still
    /// valid. `before` is the merged index of `old`, without the pack. An unusable pack is dropped:
    /// the traces of the next boots make another.
    pub(crate) fn put_tree(
        &self,
        draft: &mut Draft,
        merged: MergedIndex,
        old: &Manifest,
        before: &MergedIndex,
    ) {
        let carried = self.carried(old, before, &merged, None);
        put(draft, merged, carried);
    }

    /// Gives `draft` its tree like [`Publisher::put_tree`]. If many pages of the boot pack changed, the
    /// pack is written again with the new pages.
    pub(crate) fn put_tree_and_pack(
        &self,
        draft: &mut Draft,
        merged: MergedIndex,
        (old, before): (&Manifest, &MergedIndex),
        new: &NewPages<'_>,
        uploads: &mut Uploads<'_>,
    ) {
        let carried = self.carried(old, before, &merged, Some(new));
        if let Some(carried) = carried.as_ref().filter(|carried| carried.is_new) {
            uploads.add(Key::pack(&carried.pack.digest), new.path);
        }
        put(draft, merged, carried);
    }

    /// A pack only saves time: a failure is no failure of the publishing.
    fn carried(
        &self,
        old: &Manifest,
        before: &MergedIndex,
        merged: &MergedIndex,
        new: Option<&NewPages<'_>>,
    ) -> Option<Carried> {
        self.repacked(old, before, merged, new)
            .unwrap_or_else(|error| {
                tracing::warn!("the boot pack is not kept: {error}");
                None
            })
    }

    fn repacked(
        &self,
        old: &Manifest,
        before: &MergedIndex,
        merged: &MergedIndex,
        new: Option<&NewPages<'_>>,
    ) -> Result<Option<Carried>, PublishPackError> {
        let Some(reference) = old.pack else {
            return Ok(None);
        };
        let store = self.store();
        let pack = store.open_layer(&Key::pack(&reference.digest), &reference.digest)?;
        let packed = store.open_layer(&Key::index(&old.index.digest), &old.index.digest)?;
        let packed = MergedIndex::from_layer(&packed, true).map_err(PackError::from)?;
        let Some(carried) = CarriedPack::of(&pack, before, &packed, merged) else {
            return Ok(None);
        };
        let completed = new.and_then(|new| {
            let completed = carried.complete(&new.layers, new.path);
            completed.unwrap_or_else(|error| {
                tracing::warn!("the boot pack gets no pages of changed files: {error}");
                None
            })
        });
        Ok(Some(match completed {
            Some(Packed { pack, index, .. }) => Carried {
                pack: ObjectRef {
                    digest: pack.digest,
                    len: pack.file_len,
                },
                index,
                is_new: true,
            },
            None => Carried {
                pack: reference,
                index: carried.as_it_is().map_err(PackError::from)?,
                is_new: false,
            },
        }))
    }
}

fn put(draft: &mut Draft, merged: MergedIndex, carried: Option<Carried>) {
    (draft.pack, draft.plain) = (None, None);
    draft.merged = match carried {
        None => DraftIndex::New(Box::new(merged)),
        Some(carried) => {
            draft.pack = Some(carried.pack);
            draft.plain = Some(Plain::New(Box::new(merged)));
            DraftIndex::New(Box::new(carried.index))
        }
    };
}
