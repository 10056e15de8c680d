//! The index deltas to a new revision, stored before its head: whoever sees the head finds them.

use std::sync::Arc;

use layerfmt::Index;
use wire::limits::DELTA_INDEX_LEN_MAX;
use wire::manifest::{IndexRef, ProfileName, UpdateEnd};

use super::indexes::Indexes;
use super::{Draft, DraftIndex, Plain, Publisher};
use crate::history::{HistoryError, Result, Revision};
use crate::store::Key;
use crate::update_pack::{DeltaEnd, encode_delta};

/// The number of revisions before the new one from which there are index deltas.
const DELTAS_COUNT: usize = 3;

impl Publisher {
    /// Makes and stores the index deltas to the revision of `draft`, after `parent`. Without one,
    /// clients fetch the whole index, so nothing fails here.
    pub(super) fn upload_deltas(
        &self,
        name: &ProfileName,
        parent: Option<&Revision>,
        draft: &Draft,
        made: &Indexes,
    ) {
        // A person who is asked for each signature signs the head only.
        if !self.signer.asks_nobody() {
            return;
        }
        if let Err(error) = self.make_deltas(name, parent, draft, made) {
            tracing::warn!(
                "{name}: {error}: the index delta is missing, and switches fetch the whole index"
            );
        }
    }

    fn make_deltas(
        &self,
        name: &ProfileName,
        parent: Option<&Revision>,
        draft: &Draft,
        made: &Indexes,
    ) -> Result<()> {
        let revision = parent.map_or(0, Revision::number) + 1;
        let packed = (made.reference, merged(&draft.merged));
        let (reference, index) = match (&made.plain, &draft.plain) {
            (Some((reference, _)), Some(Plain::New(plain))) => (*reference, Some(&plain.index)),
            (Some((reference, _)), _) => (*reference, None),
            (None, _) => packed,
        };
        if reference.head_len > DELTA_INDEX_LEN_MAX {
            return Ok(());
        }
        let mut new = Lazy {
            publisher: self,
            reference,
            index: index.cloned(),
        };
        let end = |index: &IndexRef, revision| UpdateEnd {
            index: index.digest,
            revision,
        };
        // A mount that began with the boot pack has the other index of its revision.
        if made.plain.is_some() {
            let mut packed = Lazy {
                publisher: self,
                reference: packed.0,
                index: packed.1.cloned(),
            };
            let from = end(&packed.reference, revision);
            self.delta(
                name,
                (&mut packed, from),
                (&mut new, end(&reference, revision)),
            )?;
        }
        for before in self.revisions_before(parent)? {
            let manifest = &before.manifest;
            let mut old = Lazy {
                publisher: self,
                reference: *manifest.by_layers(),
                index: None,
            };
            let from = end(manifest.by_layers(), before.number());
            self.delta(
                name,
                (&mut old, from),
                (&mut new, end(&reference, revision)),
            )?;
        }
        Ok(())
    }

    /// The last revisions up to `parent`, newest first.
    fn revisions_before(&self, parent: Option<&Revision>) -> Result<Vec<Revision>> {
        let Some(parent) = parent else {
            return Ok(Vec::new());
        };
        self.history.before(parent, DELTAS_COUNT)
    }

    /// Makes and stores one index delta, if the store does not have it.
    fn delta(
        &self,
        name: &ProfileName,
        (old, from): (&mut Lazy<'_>, UpdateEnd),
        (new, to): (&mut Lazy<'_>, UpdateEnd),
    ) -> Result<()> {
        let key = Key::delta(&to.index, &from.index);
        let is_same = from.index == to.index;
        if is_same
            || old.reference.head_len > DELTA_INDEX_LEN_MAX
            || self.store().len(&key)?.is_some()
        {
            return Ok(());
        }
        let plain_len = new.reference.head_len;
        let (old, new) = (old.get()?, new.get()?);
        let file = encode_delta(
            &self.signer,
            name,
            &DeltaEnd {
                index: &old,
                end: from,
            },
            &DeltaEnd {
                index: &new,
                end: to,
            },
            plain_len,
        );
        let file = file.map_err(|error| HistoryError::Refused(error.to_string()))?;
        if let Some(file) = file {
            self.store().create_object(&key, file.into())?;
        }
        Ok(())
    }
}

fn merged(draft: &DraftIndex) -> Option<&Arc<Index>> {
    match draft {
        DraftIndex::New(merged) => Some(&merged.index),
        DraftIndex::Same { .. } => None,
    }
}

/// A merged index that is read when it is needed.
struct Lazy<'p> {
    publisher: &'p Publisher,
    reference: IndexRef,
    index: Option<Arc<Index>>,
}

impl Lazy<'_> {
    fn get(&mut self) -> Result<Arc<Index>> {
        if let Some(index) = &self.index {
            return Ok(Arc::clone(index));
        }
        let digest = &self.reference.digest;
        let layer = self
            .publisher
            .store()
            .open_layer(&Key::index(digest), digest)?;
        let index = Arc::clone(layer.index());
        self.index = Some(Arc::clone(&index));
        Ok(index)
    }
}
