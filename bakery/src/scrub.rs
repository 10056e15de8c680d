//! `bakery verify`: is everything there that the histories promise, and is it what they promise?

use std::collections::BTreeMap;
use std::sync::Arc;

use layerfmt::check::check;
use layerfmt::manifest::ProfileName;
use layerfmt::{Digest, LayerSet};
use serde::Serialize;

use crate::history::{History, Result, Revision};
use crate::publish::objects;
use crate::store::Key;
use crate::sweep::is_swept;

/// A history this long is walked to its end.
const WALK_MAX: usize = 10_000_000;

/// What a scrub found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// Histories walked.
    pub histories: usize,
    /// Revisions whose head and manifest were verified.
    pub revisions: usize,
    /// Of these, revisions whose objects were swept on purpose.
    pub revisions_swept: usize,
    /// Objects that were looked at.
    pub objects: usize,
    /// Layers and indexes of which every byte was verified.
    pub files_read: usize,
    /// What is wrong, one line each.
    pub defects: Vec<String>,
}

/// Verify every history; with `all` also every byte of every object.
///
/// # Errors
/// When the store cannot be read at all. Defects are findings, not errors.
pub fn scrub(history: &History, all: bool, progress: &dyn Fn(&str)) -> Result<Findings> {
    let mut scrub = Scrub {
        history,
        all,
        progress,
        found: Findings::default(),
        seen: BTreeMap::new(),
    };
    for name in history.all_names()? {
        scrub.history_of(&name)?;
    }
    Ok(scrub.found)
}

struct Scrub<'s> {
    history: &'s History,
    all: bool,
    progress: &'s dyn Fn(&str),
    found: Findings,
    /// Objects that were looked at already: whether they are sound.
    seen: BTreeMap<Key, bool>,
}

impl Scrub<'_> {
    fn history_of(&mut self, name: &ProfileName) -> Result<()> {
        (self.progress)(&name.to_string());
        self.found.histories += 1;
        let removed = self.history.is_removed(name)?;
        if !removed && let Err(error) = self.history.head(name) {
            self.found
                .defects
                .push(format!("{name}: the head is not to be believed: {error}"));
        }
        let revisions = match self.history.walk(name, WALK_MAX) {
            Ok(revisions) => revisions,
            Err(error) => {
                self.found.defects.push(format!("{name}: {error}"));
                return Ok(());
            }
        };
        for revision in &revisions {
            self.found.revisions += 1;
            if let Err(error) = self.history.signer_line(name, Some(revision.number())) {
                self.found
                    .defects
                    .push(format!("{}: its head: {error}", revision.name()));
            }
            if removed || is_swept(self.history, &revision.name())? {
                self.found.revisions_swept += 1;
                continue;
            }
            self.revision(revision)?;
        }
        Ok(())
    }

    fn revision(&mut self, revision: &Revision) -> Result<()> {
        for (key, len) in objects(&revision.manifest) {
            if self.seen.contains_key(&key) {
                continue;
            }
            self.found.objects += 1;
            let defect = match self.history.store().len(&key)? {
                None => Some("is missing".to_owned()),
                Some(found) if found != len => Some(format!("has {found} bytes, not {len}")),
                Some(_) if self.all => self.bytes(&key, revision),
                Some(_) => None,
            };
            self.seen.insert(key.clone(), defect.is_none());
            if let Some(defect) = defect {
                self.found
                    .defects
                    .push(format!("{}: {key} {defect}", revision.name()));
            }
        }
        if self.all
            && let Some(defect) = self.tree(revision)
        {
            self.found
                .defects
                .push(format!("{}: {defect}", revision.name()));
        }
        Ok(())
    }

    /// Every byte of one object; what is wrong with it.
    fn bytes(&mut self, key: &Key, revision: &Revision) -> Option<String> {
        (self.progress)(key.as_str());
        self.found.files_read += 1;
        let digest = key.digest()?;
        if key.as_str().starts_with("boot/") {
            let file = self.history.store().file(key).map_err(|e| e.to_string());
            return match file.and_then(|file| digest_of(&file).map_err(|e| e.to_string())) {
                Ok(found) if found == digest => None,
                Ok(found) => Some(format!("has digest {found}")),
                Err(error) => Some(error),
            };
        }
        let layer = match self.history.store().open_layer(key, &digest) {
            Ok(layer) => Arc::new(layer),
            Err(error) => return Some(error.to_string()),
        };
        // An index holds no chunk of its own; its contents are compared with its layers.
        let below = self
            .history
            .layers(&revision.manifest)
            .unwrap_or_else(|_| LayerSet::new([]));
        check(&layer, &below, |_| ())
            .err()
            .map(|error| error.to_string())
    }

    /// The merged index shows what the layers make, and what the manifest promises.
    fn tree(&mut self, revision: &Revision) -> Option<String> {
        let manifest = &revision.manifest;
        let key = Key::index(&manifest.index.digest);
        let layers_sound =
            objects(manifest).all(|(key, _)| self.seen.get(&key).copied().unwrap_or(false));
        if !layers_sound {
            return None;
        }
        let promised = Some(manifest.tree_digest);
        let found = self
            .history
            .flatten(&manifest.layers)
            .map(|merged| merged.tree_digest());
        match found {
            Err(error) => return Some(format!("its layers cannot be stacked: {error}")),
            Ok(found) if found != promised => {
                return Some("its layers do not make the tree of its manifest".into());
            }
            Ok(_) => {}
        }
        match self
            .history
            .merged(manifest)
            .map(|merged| merged.tree_digest())
        {
            Ok(found) if found == promised => None,
            Ok(_) => Some(format!("{key} does not show the tree of its manifest")),
            Err(error) => Some(error.to_string()),
        }
    }
}

fn digest_of(file: &std::path::Path) -> std::io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(file)?, &mut hasher)?;
    Ok(Digest::from(hasher.finalize()))
}
