//! Keeps a boot pack for the next tree, so that the first boots after a change have one too.

use layerfmt::MergedIndex;
use wire::manifest::Manifest;

use super::{Draft, DraftIndex, Plain, Publisher};
use crate::history::Result;
use crate::pack;
use crate::store::Key;

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
        (draft.pack, draft.plain) = (None, None);
        let packed = self.repacked(old, before, &merged).unwrap_or_else(|error| {
            tracing::warn!("the boot pack is not kept: {error}");
            None
        });
        draft.merged = match packed {
            None => DraftIndex::New(Box::new(merged)),
            Some(packed) => {
                draft.pack = old.pack;
                draft.plain = Some(Plain::New(Box::new(merged)));
                DraftIndex::New(Box::new(packed))
            }
        };
    }

    fn repacked(
        &self,
        old: &Manifest,
        before: &MergedIndex,
        merged: &MergedIndex,
    ) -> Result<Option<MergedIndex>> {
        let Some(pack) = &old.pack else {
            return Ok(None);
        };
        let pack = self
            .store()
            .open_layer(&Key::pack(&pack.digest), &pack.digest)?;
        let packed = self
            .store()
            .open_layer(&Key::index(&old.index.digest), &old.index.digest)?;
        let packed = MergedIndex::from_layer(&packed, true)?;
        let packed = pack::carry(&pack, before, &packed, merged);
        Ok(packed.transpose()?)
    }
}
