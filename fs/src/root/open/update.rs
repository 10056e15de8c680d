//! Opening a root by an update pack.

use std::sync::Arc;

use layerfmt::Index;
use layerfmt::update::Plan;

use super::super::kept::Kept;
use super::super::update::{Old, load, old, save};
use super::Opening;
use crate::chunks::update::{Asked, Signers, Stream, Update, begin};
use crate::net::records::Records;
use crate::net::status::Word;
use crate::prefetch::Policy;

impl Opening<'_> {
    /// The update pack from an older revision on this machine, if a server has it. Also takes what
    /// earlier packs told.
    pub(super) fn update(&self, records: &Records, offline: bool) -> Option<(Asked, Old)> {
        let manifest = &records.verified.manifest;
        let signers = self.signers(records);
        if let Some(kept) = &self.kept {
            load(&self.near, kept, &signers, &manifest.name());
        }
        let is_wanted = !offline && self.options.prefetch != Policy::None;
        let is_here = |kept: &Kept| {
            kept.index(&manifest.index).is_some()
                || self
                    .near
                    .raw_index(&manifest.index.digest, |digest| kept.raw_index(digest))
                    .is_some()
        };
        if !is_wanted || self.kept.as_ref().is_some_and(is_here) {
            return None;
        }
        let old = old(
            &self.near,
            self.kept.as_ref(),
            &self.options.address,
            manifest,
        )?;
        let asked = begin(&self.fetcher.inner, &signers, &old, manifest);
        match self.fetcher.run(asked).ok()? {
            Ok(asked) => Some((asked, old)),
            Err(error) => {
                tracing::info!(%error, from = old.revision, "no update pack is used");
                None
            }
        }
    }

    fn signers<'r>(&'r self, records: &'r Records) -> Signers<'r> {
        Signers {
            anchors: &self.anchors,
            keyset: records.verified.keyset.as_ref(),
        }
    }

    /// Starts the stream of the units; keeps the proof of what they make.
    pub(super) fn start_update(
        &self,
        (mut asked, old): (Asked, Old),
        records: &Records,
        index: &Arc<Index>,
    ) -> Option<(Arc<Update>, Arc<Word>)> {
        let manifest = &records.verified.manifest;
        let plan = match Plan::new(asked.head.clone(), &old.index, index) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::warn!(%error, "the update pack is wrong: the mount goes on without");
                return None;
            }
        };
        let signers = self.signers(records);
        self.near.believe(&asked.head);
        if let Some(kept) = &self.kept {
            let proof = std::mem::take(&mut asked.proof);
            save(&self.near, kept, &signers, &manifest.name(), &proof, index);
        }
        let plain = asked.index.as_ref().map_or(0, |_| manifest.index.head_len);
        let update = Update::new(Arc::clone(&self.near), &asked, old, plan, index, plain);
        let update = Arc::new(update);
        let only_hot = self.options.prefetch == Policy::Pack || self.near.disk.is_none();
        let state = Arc::new(Word::new("coming"));
        let stream = Stream {
            inner: Arc::clone(&self.fetcher.inner),
            update: Arc::clone(&update),
            only_hot,
            state: Arc::clone(&state),
        };
        self.fetcher.spawn(stream.run(asked));
        Some((update, state))
    }
}
