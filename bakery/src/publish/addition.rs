//! The two ways of adding a layer to a history: on top of it, or as a whole new system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use layerfmt::source::LayerSet;
use layerfmt::{Digest, Layer, MergedIndex};
use wire::manifest::{Action, Manifest, ObjectRef, ProfileName, RevisionName};

use super::carry::NewPages;
use super::predicted::{paths_of_others, predicted_pack};
use super::{Draft, DraftIndex, Plain, Publisher, Uploads};
use crate::graft::{Graft, GraftInput, Resolution, graft};
use crate::history::{History, HistoryError, Result, Revision, reference, stack};
use crate::store::Key;

/// A layer to add on top of a history.
#[derive(Debug, Clone)]
pub struct Addition<'a> {
    /// Name of the history.
    pub name: ProfileName,
    /// The layer file. It becomes the store's: its bytes must not change afterwards.
    pub layer: &'a Path,
    /// The revision whose tree it was made on; none: whatever is newest.
    pub made_on: Option<RevisionName>,
    /// The action of the new revision.
    pub action: Action,
    /// Author of the revision.
    pub author: String,
    /// Reason for the revision.
    pub message: String,
    /// Resolution of paths that both sides changed, if the history has advanced since.
    pub resolution: Resolution,
}

/// A whole system from outside.
#[derive(Debug, Clone)]
pub struct Import<'a> {
    /// Which history; it may exist, the import is then its next revision.
    pub name: ProfileName,
    /// The layer files, lowest first: the first has a whole tree, each other one its changes.
    pub layers: &'a [PathBuf],
    /// The kernel file.
    pub kernel: Option<&'a Path>,
    /// The initrd file.
    pub initrd: Option<&'a Path>,
    /// The kernel parameters.
    pub cmdline: String,
    /// Author of the revision.
    pub author: String,
    /// Reason for the revision.
    pub message: String,
    /// The predicted boot pack: how it is made.
    pub predict: Prediction<'a>,
}

/// Settings of the predicted boot pack of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction<'a> {
    /// The revision has no pack.
    No,
    /// The revision has a pack of predicted pages. Traces of other systems in this spool help.
    Yes(Option<&'a Path>),
}

/// The tree on which a layer was made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LayerOrigin<'o> {
    /// The tree of a revision.
    Revision(&'o Revision),
    /// The tree of these layers, lowest first; empty for none.
    Stack(&'o [ObjectRef]),
}

/// A layer that is to be applied to another tree.
#[derive(Debug)]
pub(crate) struct LayerToGraft<'g> {
    pub layer: &'g Arc<Layer>,
    pub origin: LayerOrigin<'g>,
    pub resolution: Resolution,
    /// The path for a rewritten layer.
    pub path: &'g Path,
}

impl LayerOrigin<'_> {
    fn is_tree_of(&self, manifest: &Manifest) -> bool {
        match self {
            LayerOrigin::Revision(revision) => {
                revision.manifest.tree_digest == manifest.tree_digest
            }
            LayerOrigin::Stack(layers) => *layers == manifest.layers,
        }
    }

    fn merged(&self, history: &History) -> Result<Option<MergedIndex>> {
        match self {
            LayerOrigin::Revision(revision) => history.merged(&revision.manifest).map(Some),
            LayerOrigin::Stack([]) => Ok(None),
            LayerOrigin::Stack(layers) => history.flatten(layers).map(Some),
        }
    }
}

impl Publisher {
    /// Publishes a revision with one more layer. If the history has advanced since the layer was
    /// made, it is applied to the new head three ways ([`crate::graft`]).
    ///
    /// # Errors
    /// [`HistoryError::Conflicts`], [`HistoryError::Refused`]: the history already has all of
    /// it; and the errors of [`Publisher::publish`].
    pub fn add(&self, addition: &Addition<'_>) -> Result<Revision> {
        let layer = Arc::new(Layer::map(addition.layer)?);
        let mut uploads = Uploads::default();
        uploads.add(Key::layer(&layer.digest()), addition.layer);
        let staging = self.store().staging()?;
        let made_on = match &addition.made_on {
            Some(name) => Some(self.history().revision(name)?),
            None => None,
        };
        let mut attempt = 0;
        self.publish(&addition.name, uploads, |head, uploads| {
            attempt += 1;
            let path = staging.path().join(format!("{attempt}.layer"));
            let (action, author) = (addition.action, &addition.author);
            let Some(head) = head else {
                let merged = stack(None, &layer)?;
                return Ok(first(action, author, &addition.message, &layer, merged));
            };
            let origin = LayerOrigin::Revision(made_on.as_ref().unwrap_or(head));
            let draft = Draft::like(&head.manifest, action, author, &addition.message);
            let grafting = LayerToGraft {
                layer: &layer,
                origin,
                resolution: addition.resolution,
                path: &path,
            };
            self.put_on(draft, head, &grafting, uploads)
        })
    }

    /// Puts `layer`, which was made on `origin`, on top of *ours*, and returns the draft.
    pub(crate) fn put_on(
        &self,
        mut draft: Draft,
        ours: &Revision,
        grafting: &LayerToGraft<'_>,
        uploads: &mut Uploads<'_>,
    ) -> Result<Draft> {
        let (layer, digest) = (grafting.layer, grafting.layer.digest());
        if draft.layers.iter().any(|known| known.digest == digest) {
            let what = format!("{} has layer {} already", ours.name(), digest.short());
            return Err(HistoryError::Refused(what));
        }
        let ours_merged = self.history().merged(&ours.manifest)?;
        let (layer, merged) = if grafting.origin.is_tree_of(&ours.manifest) {
            (Arc::clone(layer), stack(Some(&ours_merged), layer)?)
        } else {
            let base = grafting.origin.merged(self.history())?;
            let sources = self.history().layers(&ours.manifest)?;
            let ways = GraftInput {
                base: base.as_ref(),
                ours: &ours_merged,
                layer,
                sources: &sources,
            };
            match graft(&ways, grafting.resolution, grafting.path)? {
                Graft::AsItIs(merged) => (Arc::clone(layer), merged),
                Graft::Rewritten(rewritten, merged) => {
                    uploads.add(Key::layer(&rewritten.digest()), grafting.path);
                    (rewritten, merged)
                }
                Graft::Nothing => {
                    let what = format!(
                        "{} has all of layer {} already",
                        ours.name(),
                        digest.short()
                    );
                    return Err(HistoryError::Refused(what));
                }
            }
        };
        draft.layers.push(reference(&layer));
        let sources = self.history().layers(&ours.manifest)?;
        let new = NewPages {
            layers: sources.with(&layer),
            path: &grafting.path.with_extension("pack"),
        };
        let old = (&ours.manifest, &ours_merged);
        self.put_tree_and_pack(&mut draft, merged, old, &new, uploads);
        Ok(draft)
    }

    /// Publish a whole system: the first revision of a history, or one that replaces everything.
    ///
    /// # Errors
    /// The errors of [`Publisher::publish`].
    pub fn import(&self, import: &Import<'_>) -> Result<Revision> {
        let mut uploads = Uploads::default();
        let mut merged = None;
        let mut layers = Vec::new();
        let mut opened = Vec::new();
        for file in import.layers {
            let layer = Arc::new(Layer::map(file)?);
            uploads.add(Key::layer(&layer.digest()), file);
            merged = Some(stack(merged.as_ref(), &layer)?);
            layers.push(reference(&layer));
            opened.push(layer);
        }
        let Some(merged) = merged else {
            return Err(HistoryError::Refused("there is nothing to import".into()));
        };
        let staging = self.store().staging()?;
        let mut boot = |file: Option<&Path>, name: &str| {
            file.map(|file| boot_file(file, &staging.path().join(name), &mut uploads))
                .transpose()
        };
        let kernel = boot(import.kernel, "kernel")?;
        let initrd = boot(import.initrd, "initrd")?;
        let path = staging.path().join("pack.layer");
        let packed = self.predicted(import, &merged, LayerSet::new(opened), &path);
        if let Some((pack, _)) = &packed {
            uploads.add(Key::pack(&pack.digest), &path);
        }
        let (pack, plain, merged) = match packed {
            Some((pack, packed)) => (Some(pack), Some(Plain::New(Box::new(merged))), packed),
            None => (None, None, merged),
        };
        self.publish(&import.name, uploads, |_, _| {
            Ok(Draft {
                action: Action::Import,
                author: import.author.clone(),
                message: import.message.clone(),
                cmdline: import.cmdline.clone(),
                kernel,
                initrd,
                base: None,
                layers: layers.clone(),
                merged: DraftIndex::New(Box::new(merged.clone())),
                pack,
                plain: plain.clone(),
            })
        })
    }

    /// The predicted pack of an import, and the merged index with it. A pack only saves time, so a
    /// failure is no failure of the import.
    fn predicted(
        &self,
        import: &Import<'_>,
        merged: &MergedIndex,
        layers: LayerSet,
        path: &Path,
    ) -> Option<(ObjectRef, MergedIndex)> {
        let Prediction::Yes(spool) = import.predict else {
            return None;
        };
        let others = paths_of_others(self.history(), spool, &import.name);
        match predicted_pack(merged, &layers, &others, path) {
            Ok(packed) => packed.map(|packed| {
                let pack = ObjectRef {
                    digest: packed.pack.digest,
                    len: packed.pack.file_len,
                };
                (pack, packed.index)
            }),
            Err(error) => {
                tracing::warn!("{} gets no predicted boot pack: {error}", import.name);
                None
            }
        }
    }
}

fn first(action: Action, author: &str, message: &str, layer: &Layer, merged: MergedIndex) -> Draft {
    Draft {
        action,
        author: author.into(),
        message: message.into(),
        cmdline: String::new(),
        kernel: None,
        initrd: None,
        base: None,
        layers: vec![reference(layer)],
        merged: DraftIndex::New(Box::new(merged)),
        pack: None,
        plain: None,
    }
}

/// A kernel or initrd by its content, as a copy that is ours alone.
fn boot_file(file: &Path, copy: &Path, uploads: &mut Uploads<'_>) -> Result<ObjectRef> {
    let uncopied = |e| HistoryError::File(format!("cannot copy {}", file.display()), e);
    let len = std::fs::copy(file, copy).map_err(uncopied)?;
    let mut hasher = blake3::Hasher::new();
    let mut opened = std::fs::File::open(copy).map_err(uncopied)?;
    std::io::copy(&mut opened, &mut hasher).map_err(uncopied)?;
    let digest = Digest::from(hasher.finalize());
    uploads.add(Key::boot(&digest), copy);
    Ok(ObjectRef { digest, len })
}
