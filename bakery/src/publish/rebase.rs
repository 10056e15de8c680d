//! A profile moved to another revision of its base.

use std::path::Path;
use std::sync::Arc;

use layerfmt::{LayerSet, MergedIndex};
use wire::manifest::{Action, BaseRevision, Manifest, ObjectRef, ProfileName, RevisionName};

use super::{Draft, Publisher, Uploads};
use crate::graft::{Graft, GraftInput, Resolution, graft};
use crate::history::{HistoryError, Result, Revision, reference, stack};
use crate::store::Key;

impl Publisher {
    /// Moves profile `name` to `onto`, a revision of its base: every layer of its own is applied to
    /// the new base three ways, in order. Nothing is published if one of them conflicts.
    ///
    /// # Errors
    /// [`HistoryError::Conflicts`] of the first such layer; [`HistoryError::Refused`]: the
    /// history is not a profile or already has this base.
    pub fn rebase(
        &self,
        name: &ProfileName,
        onto: Option<&RevisionName>,
        author: &str,
        message: &str,
        resolution: Resolution,
    ) -> Result<Revision> {
        let staging = self.store().staging()?;
        let mut attempt = 0;
        self.publish(name, Uploads::default(), |head, uploads| {
            let head = head.ok_or_else(|| self.history().no_history(name))?;
            attempt += 1;
            let prefix = staging.path().join(attempt.to_string());
            let target = self.new_base(head, onto)?;
            let mut draft = self.moved(head, &target, resolution, &prefix, uploads)?;
            draft.author = author.into();
            draft.message = match message {
                "" => format!("rebase onto {}", target.name()),
                message => message.into(),
            };
            Ok(draft)
        })
    }

    /// The revision to move to: the one named, or the newest of the base.
    fn new_base(&self, head: &Revision, onto: Option<&RevisionName>) -> Result<Revision> {
        let Some(base) = &head.manifest.base else {
            let what = format!("{} is not based on another profile", head.head.name());
            return Err(HistoryError::Refused(what));
        };
        let name = ProfileName::new(&head.head.system, &base.profile)?;
        let wanted = onto.cloned().unwrap_or(RevisionName {
            name: name.clone(),
            revision: None,
        });
        if wanted.name.system != name.system || wanted.name == head.head.name() {
            let what = format!("{wanted} cannot be the base of {}", head.head.name());
            return Err(HistoryError::Refused(what));
        }
        let target = self.history().revision(&wanted)?;
        if wanted.name == name && target.number() == base.revision {
            let what = format!("{} is already based on {}", head.head.name(), target.name());
            return Err(HistoryError::Refused(what));
        }
        Ok(target)
    }

    fn moved(
        &self,
        head: &Revision,
        target: &Revision,
        resolution: Resolution,
        prefix: &Path,
        uploads: &mut Uploads<'_>,
    ) -> Result<Draft> {
        let profile = &head.manifest;
        let base_count = profile.base.as_ref().map_or(0, |base| base.layers) as usize;
        let (below, own) = profile
            .layers
            .split_at_checked(base_count)
            .unwrap_or((&[], &[]));
        let mut draft = self.draft_on(profile, target)?;
        let mut base = self.history().flatten(below)?;
        let target_merged = self.history().merged(&target.manifest)?;
        let mut ours = target_merged.clone();
        let sources = self.sources(profile, &target.manifest)?;
        for (number, reference) in own.iter().enumerate() {
            let layer = self.history().layer(&reference.digest)?;
            let ways = GraftInput {
                base: Some(&base),
                ours: &ours,
                layer: &layer,
                sources: &sources,
            };
            let path = prefix.with_extension(format!("{number}.layer"));
            let grafted = if draft.layers.contains(reference) {
                Graft::Nothing
            } else {
                graft(&ways, resolution, &path)?
            };
            if let Some((put, merged)) = self.take(grafted, reference, &path, uploads) {
                draft.layers.push(put);
                ours = merged;
            }
            base = stack(Some(&base), &layer)?;
        }
        self.put_tree(&mut draft, ours, &target.manifest, &target_merged);
        Ok(draft)
    }

    fn take(
        &self,
        grafted: Graft,
        as_it_is: &ObjectRef,
        path: &Path,
        uploads: &mut Uploads<'_>,
    ) -> Option<(ObjectRef, MergedIndex)> {
        match grafted {
            Graft::Nothing => None,
            Graft::AsItIs(merged) => Some((*as_it_is, merged)),
            Graft::Rewritten(layer, merged) => {
                uploads.add(Key::layer(&layer.digest()), path);
                Some((reference(&layer), merged))
            }
        }
    }

    /// The new base with the profile's own kernel and parameters.
    fn draft_on(&self, profile: &Manifest, target: &Revision) -> Result<Draft> {
        let old = profile.base.as_ref().map(|base| {
            let name = ProfileName::new(&profile.system, &base.profile)?;
            self.history().revision(&RevisionName {
                name,
                revision: Some(base.revision),
            })
        });
        let old = old.transpose()?.map(|old| old.manifest);
        let mut draft = Draft::like(&target.manifest, Action::Rebase, "", "");
        if old
            .as_ref()
            .is_some_and(|old| old.cmdline != profile.cmdline)
        {
            draft.cmdline.clone_from(&profile.cmdline);
        }
        let boot = |m: &Manifest| (m.kernel, m.initrd);
        if old.as_ref().is_some_and(|old| boot(old) != boot(profile)) {
            (draft.kernel, draft.initrd) = boot(profile);
        }
        draft.base = Some(BaseRevision {
            layers: target.manifest.layers.len() as u64,
            profile: target.head.profile.clone(),
            revision: target.number(),
        });
        Ok(draft)
    }

    fn sources(&self, profile: &Manifest, target: &Manifest) -> Result<LayerSet> {
        let references = [profile, target].into_iter();
        let references = references.flat_map(|m| m.layers.iter().chain(&m.borrowed));
        let layers = references.map(|layer| self.history().layer(&layer.digest));
        Ok(LayerSet::new(layers.collect::<Result<Vec<Arc<_>>>>()?))
    }
}
