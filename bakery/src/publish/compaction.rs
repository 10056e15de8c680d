//! Several layers of a history made one. The tree stays the same, or nothing is published.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use layerfmt::flatten::{Input, flatten, squash};
use layerfmt::manifest::{Action, Manifest, ObjectRef, ProfileName};
use layerfmt::{Chunk, Digest, MergedIndex, Meta, Options, Source, compact};

use super::{Draft, Publisher, Uploads};
use crate::history::{HistoryError, Result, Revision};
use crate::store::Key;

/// What to compact.
#[derive(Debug, Clone)]
pub struct Compaction {
    /// Which history.
    pub name: ProfileName,
    /// The layers that came after the first revision, up to the second; none: all of the
    /// history's own.
    pub revisions: Option<(u64, u64)>,
    /// Cut and compress everything anew, harder, instead of copying the chunks.
    pub recompress: bool,
    /// Who.
    pub author: String,
    /// Why.
    pub message: String,
}

/// When a history needs compaction.
#[derive(Debug, Clone, Copy)]
pub struct CompactPolicy {
    /// Longer stacks are compacted.
    pub layers_max: usize,
    /// A layer of whose stored bytes fewer percent are still visible is compacted.
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

/// What a compaction did.
#[derive(Debug, Clone)]
pub struct Compacted {
    /// The new revision.
    pub revision: Revision,
    /// How many layers became one.
    pub layer_count: usize,
    /// Bytes of chunks in the new layer.
    pub data_len: u64,
}

impl Publisher {
    /// Make several layers one.
    ///
    /// # Errors
    /// [`HistoryError::Refused`] when there is nothing to compact, or when the tree would not be
    /// the same; and as of [`Publisher::publish`].
    pub fn compact(&self, compaction: &Compaction, progress: &dyn Fn(u64)) -> Result<Compacted> {
        let staging = self.store().staging()?;
        let mut done = (0, 0);
        let mut attempt = 0;
        let revision = self.publish(&compaction.name, &Uploads::default(), |head, uploads| {
            let head = head.ok_or_else(|| HistoryError::NoHistory(compaction.name.to_string()))?;
            attempt += 1;
            let path = staging.path().join(format!("{attempt}.layer"));
            let range = self.range(head, compaction)?;
            let (layer, data_len) =
                self.write(&head.manifest, range.clone(), compaction, &path, progress)?;
            done = (range.len(), data_len);
            uploads.add(Key::layer(&layer.digest), &path);
            self.compacted_draft(head, range, layer, compaction, &path)
        })?;
        Ok(Compacted {
            revision,
            layer_count: done.0,
            data_len: done.1,
        })
    }

    /// Whether a history should be compacted, and why.
    ///
    /// # Errors
    /// When its index or a layer cannot be read.
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
                    "of layer {short} only {percent} % are still visible"
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
                    let name = layerfmt::manifest::RevisionName {
                        name: compaction.name.clone(),
                        revision: Some(revision),
                    };
                    let old = self.history().revision(&name)?.manifest.layers;
                    if layers.starts_with(&old) {
                        return Ok(old.len());
                    }
                    let what = format!("the head does not stand on the layers of {name} any more");
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

    fn write(
        &self,
        manifest: &Manifest,
        range: Range<usize>,
        compaction: &Compaction,
        path: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<(ObjectRef, u64)> {
        let references = manifest.layers.get(range.clone()).unwrap_or_default();
        let below = manifest.layers.get(..range.start).unwrap_or_default();
        let mut inputs = Vec::new();
        for layer in references {
            inputs.push(Input::of(&*self.history().layer(&layer.digest)?, true)?);
        }
        let merged = if below.is_empty() {
            flatten(&inputs)?
        } else {
            squash(&inputs)?
        };
        let mut sources = manifest.clone();
        (sources.pack, sources.plain) = (None, None);
        let sources = self.history().layers(&sources)?;
        let below: Vec<Digest> = below.iter().map(|layer| layer.digest).collect();
        let meta = Meta {
            generator: format!("bakery {}", env!("CARGO_PKG_VERSION")),
            base: below.clone(),
            labels: references
                .iter()
                .map(|layer| ("compacted-from".to_owned(), layer.digest.to_string()))
                .collect(),
        };
        let info = if compaction.recompress && below.is_empty() {
            compact::recompress(&merged, &sources, path, Options::compact(), &meta, progress)?
        } else {
            let keep = compact::Keep { borrowed: &below };
            compact::copy(&merged, &sources, path, keep, &meta, progress)?
        };
        Ok((
            ObjectRef {
                digest: info.digest,
                len: info.file_len,
            },
            info.data_len,
        ))
    }

    /// The new stack, proved to show the same tree.
    fn compacted_draft(
        &self,
        head: &Revision,
        range: Range<usize>,
        layer: ObjectRef,
        compaction: &Compaction,
        path: &Path,
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
        draft.layers.splice(range, [layer]);
        let mut inputs = Vec::new();
        for (at, reference) in draft.layers.iter().enumerate() {
            let input = if at == start {
                Input::of(&layerfmt::Layer::map(path)?, true)?
            } else {
                Input::of(&*self.history().layer(&reference.digest)?, true)?
            };
            inputs.push(input);
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
        if let Source::Borrowed(row) = source
            && let Some(layer) = index.layer(row)
        {
            *visible.entry(layer.digest).or_default() += u64::from(stored_len);
        }
    }
    visible
}
