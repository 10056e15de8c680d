//! Undoes one revision and keeps the later ones.

use layerfmt::Meta;
use wire::manifest::{Action, Manifest, RevisionName};

use super::pick::subject;
use super::{Draft, Publisher, Uploads};
use crate::graft::{Graft, Resolution, Undo, undo};
use crate::history::{Conflict, HistoryError, Result, Revision, reference};
use crate::store::Key;

impl Publisher {
    /// Publishes a revision that undoes the changes of `what`, and keeps later ones: paths by the
    /// rule of [`Publisher::cherry_pick`], kernel, initramfs and parameters if they are still those
    /// of `what`.
    ///
    /// # Errors
    /// [`HistoryError::Conflicts`], [`HistoryError::Refused`]: there is no change to undo; and the
    /// errors of
    /// [`Publisher::publish`].
    pub fn revert(
        &self,
        what: &RevisionName,
        author: &str,
        message: &str,
        resolution: Resolution,
    ) -> Result<Revision> {
        let undone = self.history().revision(what)?;
        if undone.number() == 1 {
            let what = format!(
                "{} is the first revision: there is nothing before it",
                undone.name()
            );
            return Err(HistoryError::Refused(what));
        }
        let before = self.history().revision(&RevisionName {
            name: what.name.clone(),
            revision: Some(undone.number() - 1),
        })?;
        let message = match message {
            "" => format!(
                "revert {}: {}",
                undone.name(),
                subject(&undone.manifest.message)
            ),
            message => message.into(),
        };
        let staging = self.store().staging()?;
        let mut attempt = 0;
        self.publish(&what.name, Uploads::default(), |head, uploads| {
            let head = head.ok_or_else(|| self.history().no_history(&what.name))?;
            attempt += 1;
            let mut draft = Draft::like(&head.manifest, Action::Rollback, author, &message);
            let boot = RevertedBoot {
                undone: &undone.manifest,
                before: &before.manifest,
                resolution,
            };
            let (mut changed, mut conflicts) = boot.undo(&mut draft);
            let path = staging.path().join(format!("{attempt}.layer"));
            match self.undo_tree(head, &undone, &before, resolution, &path) {
                Err(HistoryError::Conflicts(found)) => conflicts.extend(found),
                Err(error) => return Err(error),
                Ok(Graft::Rewritten(layer, merged)) => {
                    changed = true;
                    uploads.add(Key::layer(&layer.digest()), &path);
                    draft.layers.push(reference(&layer));
                    let ours = self.history().merged(&head.manifest)?;
                    self.put_tree(&mut draft, merged, &head.manifest, &ours);
                }
                Ok(Graft::Nothing | Graft::AsItIs(_)) => {}
            }
            match (conflicts.is_empty(), changed) {
                (false, _) => Err(HistoryError::Conflicts(conflicts)),
                (true, true) => Ok(draft),
                (true, false) => Err(HistoryError::Refused(format!(
                    "{} contains no change of {}: there is nothing to undo",
                    head.name(),
                    undone.name()
                ))),
            }
        })
    }

    fn undo_tree(
        &self,
        head: &Revision,
        undone: &Revision,
        before: &Revision,
        resolution: Resolution,
        path: &std::path::Path,
    ) -> Result<Graft> {
        if undone.manifest.tree_digest == before.manifest.tree_digest {
            return Ok(Graft::Nothing);
        }
        let history = self.history();
        let layers = head.manifest.layers.iter();
        let undoing = Undo {
            after: &history.merged(&undone.manifest)?,
            before: &history.merged(&before.manifest)?,
            ours: &history.merged(&head.manifest)?,
            sources: &history.layers(&head.manifest)?,
            meta: Meta {
                base: layers.map(|layer| layer.digest).collect(),
                labels: vec![("reverts".into(), undone.name().to_string())],
                ..Meta::default()
            },
        };
        undo(undoing, resolution, path)
    }
}

/// Changes of a revision to its boot files.
struct RevertedBoot<'b> {
    undone: &'b Manifest,
    before: &'b Manifest,
    resolution: Resolution,
}

impl RevertedBoot<'_> {
    /// Undoes it; returns true if something changed, and the conflicts.
    fn undo(&self, draft: &mut Draft) -> (bool, Vec<Conflict>) {
        let (mut changed, mut conflicts) = (false, Vec::new());
        let files = |manifest: &Manifest| (manifest.kernel, manifest.initrd);
        let ours = (draft.kernel, draft.initrd);
        let kept = |what: &str, conflicts: &mut Vec<Conflict>| match self.resolution {
            Resolution::Refuse => {
                conflicts.push(Conflict::of_boot(what));
                true
            }
            Resolution::Ours => true,
            Resolution::Theirs | Resolution::Force => false,
        };
        let (made, old) = (files(self.undone), files(self.before));
        if made != old
            && ours != old
            && (ours == made || !kept("kernel and initrd", &mut conflicts))
        {
            (draft.kernel, draft.initrd) = old;
            changed = true;
        }
        let (made, old) = (&self.undone.cmdline, &self.before.cmdline);
        let ours = &draft.cmdline;
        if made != old
            && ours != old
            && (ours == made || !kept("kernel parameters", &mut conflicts))
        {
            draft.cmdline.clone_from(old);
            changed = true;
        }
        (changed, conflicts)
    }
}
