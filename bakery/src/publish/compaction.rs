//! Merges several layers of a history. The tree stays the same, or nothing is published.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use layerfmt::compact::{self, CompactPlan, KeepBorrowed, SectionEffort};
use layerfmt::flatten::{FlattenInput, flatten, squash};
use layerfmt::{Chunk, ChunkFile, Digest, Layer, LayerInfo, LayerSet, MergedIndex, Meta, Options};
use wire::manifest::{Action, Manifest, ObjectRef, ProfileName};

use super::{Draft, Publisher, Uploads};
use crate::history::{History, HistoryError, Result, Revision};
use crate::store::Key;

/// Parameters of a compaction.
#[derive(Debug, Clone)]
pub struct Compaction {
    /// Name of the history.
    pub name: ProfileName,
    /// The layers after the first revision, up to the second; `None`: all of the history's own.
    pub revisions: Option<(u64, u64)>,
    /// Cut and compress everything again, at a higher level, instead of copying the chunks.
    pub recompress: bool,
    /// Author of the revision.
    pub author: String,
    /// Reason for the revision.
    pub message: String,
}

/// When a history needs compaction.
#[derive(Debug, Clone, Copy)]
pub struct CompactPolicy {
    /// Stacks with more layers than this are compacted.
    pub layers_max: usize,
    /// A layer is compacted if a smaller share of its stored bytes is still visible, per cent.
    pub visible_percent_min: u64,
}

impl Default for CompactPolicy {
    fn default() -> Self {
        CompactPolicy {
            layers_max: 64,
            visible_percent_min: 50,
        }
    }
}

/// The result of a compaction.
#[derive(Debug, Clone)]
pub struct Compacted {
    /// The new revision.
    pub revision: Revision,
    /// Number of layers that became one.
    pub layer_count: usize,
    /// Bytes of chunks in the new layer.
    pub data_len: u64,
}

impl Publisher {
    /// Merges several layers.
    ///
    /// # Errors
    /// [`HistoryError::Refused`]: there are no layers to compact, or the tree would not be
    /// the same; and the errors of [`Publisher::publish`].
    pub fn compact(&self, compaction: &Compaction, progress: &dyn Fn(u64)) -> Result<Compacted> {
        let staging = self.store().staging()?;
        let mut done = (0, 0);
        let mut attempt = 0;
        let revision = self.publish(&compaction.name, Uploads::default(), |head, uploads| {
            let head = head.ok_or_else(|| self.history().no_history(&compaction.name))?;
            attempt += 1;
            let path = staging.path().join(format!("{attempt}.layer"));
            let range = self.range(head, compaction)?;
            let stack = Stack::of(self.history(), &head.manifest, range.clone())?;
            let (layer, info) = if compaction.recompress && stack.below.is_empty() {
                stack.recompress(&path, uploads, progress)?
            } else {
                stack.copy(&path, uploads, progress)?
            };
            done = (range.len(), info.data_len);
            self.compacted_draft(head, range, layer, compaction)
        })?;
        Ok(Compacted {
            revision,
            layer_count: done.0,
            data_len: done.1,
        })
    }

    /// The reason to compact a history, if any.
    ///
    /// # Errors
    /// Its index or a layer cannot be read.
    pub fn needs_compaction(
        &self,
        manifest: &Manifest,
        policy: &CompactPolicy,
    ) -> Result<Option<String>> {
        let own = own_layers(manifest);
        if own.len() < 2 {
            return Ok(None);
        }
        if manifest.layers.len() > policy.layers_max {
            let (count, max) = (manifest.layers.len(), policy.layers_max);
            return Ok(Some(format!(
                "the stack has {count} layers, more than {max}"
            )));
        }
        let merged = self.history().merged(manifest)?;
        let visible = visible_lens(&merged);
        for layer in manifest.layers.get(own).unwrap_or_default() {
            let seen = visible.get(&layer.digest).copied().unwrap_or_default();
            let stored = self.history().layer(&layer.digest)?.superblock().data_end;
            if stored > 1 << 20 && seen * 100 < stored * policy.visible_percent_min {
                let percent = seen * 100 / stored;
                let short = layer.digest.short();
                return Ok(Some(format!(
                    "only {percent} % of layer {short} is still visible"
                )));
            }
        }
        Ok(None)
    }

    /// Which layers of the head become one.
    fn range(&self, head: &Revision, compaction: &Compaction) -> Result<Range<usize>> {
        let layers = &head.manifest.layers;
        let range = match compaction.revisions {
            None => own_layers(&head.manifest),
            Some((from, to)) => {
                let depth = |revision: u64| -> Result<usize> {
                    if revision == 0 {
                        return Ok(0);
                    }
                    let name = wire::manifest::RevisionName {
                        name: compaction.name.clone(),
                        revision: Some(revision),
                    };
                    let old = self.history().revision(&name)?.manifest.layers;
                    if layers.starts_with(&old) {
                        return Ok(old.len());
                    }
                    let what = format!("the head no longer contains the layers of {name}");
                    Err(HistoryError::Refused(what))
                };
                depth(from)?..depth(to)?
            }
        };
        if range.len() < 2 {
            let what = format!("{} has fewer than two layers to compact there", head.name());
            return Err(HistoryError::Refused(what));
        }
        Ok(range)
    }

    /// The new stack, which was checked to show the same tree.
    fn compacted_draft(
        &self,
        head: &Revision,
        range: Range<usize>,
        layer: FlattenInput,
        compaction: &Compaction,
    ) -> Result<Draft> {
        let (author, message) = (&compaction.author, &compaction.message);
        let mut draft = Draft::like(&head.manifest, Action::Compact, author, message);
        if draft.message.is_empty() {
            draft.message = format!("compact {} layers", range.len());
        }
        if let Some(base) = draft
            .base
            .take_if(|base| range.start < base.layers as usize)
        {
            let what = format!(
                "layers of the base ({}) cannot be compacted in a profile",
                base.profile
            );
            return Err(HistoryError::Refused(what));
        }
        let start = range.start;
        let reference = ObjectRef {
            digest: layer.layer.digest,
            len: layer.layer.file_len,
        };
        draft.layers.splice(range, [reference]);
        let mut layer = Some(layer);
        let mut inputs = Vec::new();
        for (at, reference) in draft.layers.iter().enumerate() {
            inputs.push(match layer.take_if(|_| at == start) {
                Some(layer) => layer,
                None => FlattenInput::of(&*self.history().layer(&reference.digest)?, true)?,
            });
        }
        let merged = flatten(&inputs)?;
        let (before, after) = (head.manifest.tree_digest, merged.tree_digest());
        if after != Some(before) {
            let after = after.map_or("none".into(), |digest| digest.to_string());
            return Err(HistoryError::Refused(format!(
                "compaction would change the tree of {} (digest {before} to {after}); nothing was \
                 published, please report this",
                head.name()
            )));
        }
        let before = self.history().merged(&head.manifest)?;
        self.put_tree(&mut draft, merged, &head.manifest, &before);
        Ok(draft)
    }
}

/// Consecutive layers of a history, merged, with the data for writing them as one.
struct Stack {
    merged: MergedIndex,
    sources: LayerSet,
    /// The layers below; their chunks stay borrowed.
    below: Vec<Digest>,
    meta: Meta,
}

impl Stack {
    fn of(history: &History, manifest: &Manifest, range: Range<usize>) -> Result<Stack> {
        let references = manifest.layers.get(range.clone()).unwrap_or_default();
        let below = manifest.layers.get(..range.start).unwrap_or_default();
        let below: Vec<Digest> = below.iter().map(|layer| layer.digest).collect();
        let mut inputs = Vec::new();
        for layer in references {
            inputs.push(FlattenInput::of(&*history.layer(&layer.digest)?, true)?);
        }
        let merged = if below.is_empty() {
            flatten(&inputs)?
        } else {
            squash(&inputs)?
        };
        let mut sources = manifest.clone();
        (sources.pack, sources.plain) = (None, None);
        let meta = Meta {
            generator: format!("bakery {}", env!("CARGO_PKG_VERSION")),
            base: below.clone(),
            labels: references
                .iter()
                .map(|layer| ("compacted-from".to_owned(), layer.digest.to_string()))
                .collect(),
        };
        Ok(Stack {
            merged,
            sources: history.layers(&sources)?,
            below,
            meta,
        })
    }

    /// A layer whose chunks are copied later, in parallel with the merged index. No client waits
    /// for its own INDEX: clients fetch the merged one.
    fn copy<'u>(
        self,
        path: &Path,
        uploads: &mut Uploads<'u>,
        progress: &'u dyn Fn(u64),
    ) -> Result<(FlattenInput, LayerInfo)> {
        let keep = KeepBorrowed {
            borrowed: &self.below,
        };
        let plan = CompactPlan::new(&self.merged, keep, SectionEffort::Quick, &self.meta)?;
        let made = (plan.input(), plan.info());
        let (path, sources) = (path.to_owned(), self.sources);
        uploads.add_later(Key::layer(&made.1.digest), path.clone(), move || {
            plan.write(&sources, &path, progress)?;
            // The current contents were proved to show the same tree.
            let written = Layer::map(&path)?.digest();
            if written != plan.info().digest {
                let what = format!("wrote layer {written} instead of another; please report this");
                return Err(HistoryError::Refused(what));
            }
            Ok(())
        });
        Ok(made)
    }

    fn recompress(
        &self,
        path: &Path,
        uploads: &mut Uploads<'_>,
        progress: &dyn Fn(u64),
    ) -> Result<(FlattenInput, LayerInfo)> {
        let options = Options::compact();
        let info = compact::recompress(
            &self.merged,
            &self.sources,
            path,
            options,
            &self.meta,
            progress,
        )?;
        uploads.add(Key::layer(&info.digest), path);
        Ok((FlattenInput::of(&Layer::map(path)?, true)?, info))
    }
}

/// The layers a history put on its base itself.
fn own_layers(manifest: &Manifest) -> Range<usize> {
    let from = manifest
        .base
        .as_ref()
        .map_or(0, |base| base.layers as usize);
    from.min(manifest.layers.len())..manifest.layers.len()
}

/// Stored bytes of each layer that the merged tree still uses.
fn visible_lens(merged: &MergedIndex) -> HashMap<Digest, u64> {
    let index = &merged.index;
    let mut visible = HashMap::new();
    for Chunk {
        source, stored_len, ..
    } in index.chunks()
    {
        if let ChunkFile::Borrowed(row) = source
            && let Some(layer) = index.layer(row)
        {
            *visible.entry(layer.digest).or_default() += u64::from(stored_len);
        }
    }
    visible
}
