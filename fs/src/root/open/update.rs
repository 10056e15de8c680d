//! Opens a root with an update pack.

use std::sync::Arc;
use std::time::Duration;

use layerfmt::Index;
use layerfmt::update::UpdatePlan;

use super::super::kept::KeptRecords;
use super::super::update::{Old, load, old, save};
use super::RootOpening;
use crate::chunks::remote::{chunk_range, objects};
use crate::chunks::update::{Asked, Signers, Update, UpdateStream, begin};
use crate::net::records::Records;
use crate::net::status::StatusText;
use crate::prefetch::Policy;

/// Looks at the disk after the last unit, and the time between them.
const WRITTEN_LOOKS: u32 = 60;
const WRITTEN_PAUSE: Duration = Duration::from_secs(1);

impl RootOpening {
    /// The index beside the cache, and the update pack if an update to it is not complete. Without the
    /// index, the update pack from an older revision, which may have made the index.
    pub(super) fn index_or_update(
        &self,
        records: &Records,
        offline: bool,
    ) -> (Option<Arc<Index>>, Option<(Asked, Old)>) {
        if let Some(index) = self.kept_index(records) {
            let update = self.unfinished(records, offline, &index);
            return (Some(index), update);
        }
        let update = self.update(records, offline);
        let made = update.as_ref().and_then(|(asked, _)| asked.index.clone());
        (made, update)
    }

    /// The index beside the cache, if it is that of `records`. Also reads the proofs of earlier
    /// update packs: an index that such a pack made is verified by them.
    fn kept_index(&self, records: &Records) -> Option<Arc<Index>> {
        let kept = self.kept.as_ref()?;
        let manifest = &records.verified.manifest;
        load(&self.caches, kept, &self.signers(records), &manifest.name());
        if let Some(layer) = kept.index(&manifest.index) {
            return Some(Arc::clone(layer.index()));
        }
        let digest = &manifest.index.digest;
        self.caches
            .raw_index(digest, |digest| kept.raw_index(digest))
    }

    /// The update pack again, if an earlier mount ended before it had all of it.
    fn unfinished(&self, records: &Records, offline: bool, index: &Index) -> Option<(Asked, Old)> {
        let kept = self.kept.as_ref()?;
        kept.before()?;
        let pack = records.verified.manifest.pack.as_ref();
        let objects = objects(index, pack.map(|pack| &pack.digest));
        let mut ranges = index.chunks().map(|chunk| chunk_range(&objects, &chunk));
        if ranges.all(|range| range.is_none_or(|range| self.caches.knows(&range))) {
            kept.forget_before();
            return None;
        }
        let update = self.update(records, offline);
        // A server that does not say which packs it has is asked once.
        if update.is_none() && !offline && records.updates.is_none() {
            kept.forget_before();
        }
        update
    }

    /// The update pack from an older revision on this machine, if a server has it.
    fn update(&self, records: &Records, offline: bool) -> Option<(Asked, Old)> {
        if offline || self.options.prefetch == Policy::None {
            return None;
        }
        let manifest = &records.verified.manifest;
        let signers = self.signers(records);
        let old = old(
            &self.caches,
            self.kept.as_deref(),
            &self.options.address,
            manifest,
            records.updates.as_deref(),
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

    /// Starts the stream of the units; stores the proof of the chunks that they make.
    pub(super) fn start_update(
        &self,
        (mut asked, old): (Asked, Old),
        records: &Records,
        index: &Arc<Index>,
    ) -> Option<(Arc<Update>, Arc<StatusText>)> {
        let manifest = &records.verified.manifest;
        let plan = match UpdatePlan::new(asked.head.clone(), &old.index, index) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::warn!(%error, "the update pack is wrong: the mount continues without it");
                return None;
            }
        };
        let signers = self.signers(records);
        self.caches.believe(&asked.head);
        if let Some(kept) = &self.kept {
            let proof = std::mem::take(&mut asked.proof);
            save(
                kept,
                &signers,
                &manifest.name(),
                (&proof, &asked.head),
                index,
            );
        }
        let plain = asked.index.as_ref().map_or(0, |_| manifest.index.head_len);
        let update = Update::new(Arc::clone(&self.caches), &asked, old, plan, index, plain);
        let update = Arc::new(update);
        let only_hot = self.options.prefetch == Policy::Pack || self.caches.disk.is_none();
        let state = Arc::new(StatusText::new("coming"));
        let stream = UpdateStream {
            inner: Arc::clone(&self.fetcher.inner),
            update: Arc::clone(&update),
            only_hot,
            state: Arc::clone(&state),
        };
        let kept = self.kept.clone().filter(|_| !only_hot);
        let streamed = Arc::clone(&update);
        self.fetcher.spawn(async move {
            if stream.run(asked).await
                && let Some(kept) = kept
            {
                forget_before(&kept, &streamed).await;
            }
        });
        Some((update, state))
    }
}

/// Forgets the revision that the update started from when all that it made is on the disk. Chunks are
/// written behind the stream; if some are not, the next mount continues the update.
async fn forget_before(kept: &KeptRecords, update: &Update) {
    for _ in 0..WRITTEN_LOOKS {
        if update.is_on_disk() {
            kept.forget_before();
            return;
        }
        tokio::time::sleep(WRITTEN_PAUSE).await;
    }
}
