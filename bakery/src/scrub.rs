//! `bakery verify`: checks that all objects of the histories exist and are intact.

use std::collections::BTreeMap;
use std::sync::Arc;

use layerfmt::check::check;
use layerfmt::{Digest, LayerSet};
use serde::Serialize;
use wire::manifest::ProfileName;
use wire::paths::{Class, ObjectPath};

use crate::history::{History, Result, Revision, objects};
use crate::limits::STORE_WALK_MAX;
use crate::store::Key;
use crate::update_pack::{delta_record, read_record, verify_file};

/// The result of a scrub.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// Number of histories read.
    pub histories: usize,
    /// Revisions whose head and manifest were verified.
    pub revisions: usize,
    /// Of these, revisions whose objects were swept on purpose.
    pub revisions_swept: usize,
    /// Ring records whose chain was verified.
    pub ring_records: usize,
    /// Objects that were looked at.
    pub objects: usize,
    /// Layers and indexes of which every byte was verified.
    pub files_read: usize,
    /// Defects, one line each.
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
        suspects: Vec::new(),
    };
    for name in history.all_names()? {
        scrub.history_of(&name)?;
    }
    scrub.deltas()?;
    scrub.judge();
    Ok(scrub.found)
}

struct Scrub<'s> {
    history: &'s History,
    all: bool,
    progress: &'s dyn Fn(&str),
    found: Findings,
    /// Objects that were already checked: true if intact.
    seen: BTreeMap<Key, bool>,
    suspects: Vec<Suspect>,
}

/// An object that is intact by itself, but not together with the layers from which it borrows.
struct Suspect {
    line: String,
    lenders: Vec<Key>,
}

/// The defect of an object.
enum Defect {
    /// It is damaged itself.
    Own(String),
    /// It, or a layer it borrows from.
    Borrowed(String),
}

impl Scrub<'_> {
    fn history_of(&mut self, name: &ProfileName) -> Result<()> {
        (self.progress)(&name.to_string());
        self.found.histories += 1;
        let removed = self.history.is_removed(name)?;
        if !removed && let Err(error) = self.history.head(name) {
            self.found
                .defects
                .push(format!("{name}: the head cannot be trusted: {error}"));
        }
        let revisions = match self.history.walk(name, STORE_WALK_MAX) {
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
            if removed || self.history.is_swept(&revision.name())? {
                self.found.revisions_swept += 1;
                continue;
            }
            self.revision(revision)?;
        }
        if !removed {
            self.rings(name, &revisions)?;
        }
        self.updates(name)
    }

    /// The chain of ring records; the newest must be valid for clients, and the revisions of its
    /// rings must be there.
    fn rings(&mut self, name: &ProfileName, revisions: &[Revision]) -> Result<()> {
        let newest = match self.history.rings(name) {
            Ok(None) => return Ok(()),
            Ok(Some(newest)) => newest.record,
            Err(error) => {
                let line = format!("{name}: the ring record cannot be trusted: {error}");
                self.found.defects.push(line);
                return Ok(());
            }
        };
        match self.history.ring_log(name) {
            Ok(records) => self.found.ring_records += records.len(),
            Err(error) => self.found.defects.push(format!("{name}: {error}")),
        }
        for ring in &newest.rings {
            let of_ring = |revision: &&Revision| revision.number() == ring.revision;
            let place = format!("{name}: the ring {} has {}", ring.name, ring.revision);
            let found = revisions.iter().find(of_ring);
            let defect = match found {
                None => Some("which does not exist"),
                Some(found) if self.history.is_swept(&found.name())? => Some("which was swept"),
                Some(found) if found.digest != ring.head => {
                    Some("but names another head of it; `bakery ring renew` signs it again")
                }
                Some(_) => None,
            };
            if let Some(defect) = defect {
                self.found.defects.push(format!("{place}, {defect}"));
            }
        }
        Ok(())
    }

    /// Checks the update packs of a history; without `all` only that their records name them.
    fn updates(&mut self, name: &ProfileName) -> Result<()> {
        let store = self.history.store();
        for entry in store.list(&ObjectPath::updates_of(name))? {
            self.found.objects += 1;
            let file = store.file(&entry.key)?;
            let verified = match self.all {
                true => verify_file(&file, Some((self.history, name))).map(drop),
                false => read_record(&file).map(drop),
            };
            if let Err(error) = verified {
                let key = &entry.key;
                self.found.defects.push(format!(
                    "{key}: {error}; delete it: clients do not need it, and `bakery update-pack` makes it again"
                ));
            }
        }
        Ok(())
    }

    /// Checks the index deltas like the update packs.
    fn deltas(&mut self) -> Result<()> {
        let store = self.history.store();
        for entry in store.list(Class::Delta.directory())? {
            self.found.objects += 1;
            let key = &entry.key;
            let record = delta_record(store, key);
            let verified = match record.map(|record| record.name()) {
                None => Err("its record does not name it".to_owned()),
                Some(name) if self.all => {
                    verify_file(&store.file(key)?, Some((self.history, &name)))
                        .map(drop)
                        .map_err(|error| error.to_string())
                }
                Some(_) => Ok(()),
            };
            if let Err(error) = verified {
                self.found
                    .defects
                    .push(format!("{key}: {error}; delete it: clients do not need it"));
            }
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
                None => Some(Defect::Own("is missing".to_owned())),
                Some(found) if found != len => {
                    Some(Defect::Own(format!("has {found} bytes, not {len}")))
                }
                Some(_) if self.all => self.bytes(&key, revision),
                Some(_) => None,
            };
            self.seen.insert(key.clone(), defect.is_none());
            let line = |what| format!("{}: {key} {what}", revision.name());
            match defect {
                None => {}
                Some(Defect::Own(what)) => self.found.defects.push(line(what)),
                Some(Defect::Borrowed(what)) => self.suspects.push(Suspect {
                    line: line(what),
                    lenders: lenders(&key, revision),
                }),
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

    /// Reports a suspect only if no layer from which it borrows is damaged: that layer is reported
    /// already.
    fn judge(&mut self) {
        for suspect in std::mem::take(&mut self.suspects) {
            let is_sound = |key: &Key| self.seen.get(key).copied().unwrap_or(true);
            if suspect.lenders.iter().all(is_sound) {
                self.found.defects.push(suspect.line);
            }
        }
    }

    /// Every byte of one object; returns its defect.
    fn bytes(&mut self, key: &Key, revision: &Revision) -> Option<Defect> {
        self.read(key, revision).err()
    }

    fn read(&mut self, key: &Key, revision: &Revision) -> std::result::Result<(), Defect> {
        (self.progress)(key.as_str());
        self.found.files_read += 1;
        let Some(digest) = key.digest() else {
            return Ok(());
        };
        let own = |error: &dyn std::fmt::Display| Defect::Own(error.to_string());
        if let Some(ObjectPath::Boot(_)) = key.object() {
            let file = self.history.store().file(key).map_err(|e| own(&e))?;
            return match digest_of(&file).map_err(|e| own(&e))? {
                found if found == digest => Ok(()),
                found => Err(Defect::Own(format!("has digest {found}"))),
            };
        }
        let layer = self.history.store().open_layer(key, &digest);
        let layer = Arc::new(layer.map_err(|e| own(&e))?);
        // An index holds no chunk of its own; its contents are compared with its layers.
        let below = self
            .history
            .layers(&revision.manifest)
            .unwrap_or_else(|_| LayerSet::new([]));
        let Err(error) = check(&layer, &below, |_| ()) else {
            return Ok(());
        };
        // Alone it shows only its own contents.
        check(&layer, &LayerSet::new([]), |_| ()).map_err(|e| own(&e))?;
        Err(Defect::Borrowed(error.to_string()))
    }

    /// The merged index shows the tree of the layers and of the manifest.
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
                return Some("its layers do not show the tree of its manifest".into());
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

/// The layers that an object of a revision may borrow from.
fn lenders(key: &Key, revision: &Revision) -> Vec<Key> {
    let manifest = &revision.manifest;
    let layers = manifest.layers.iter().chain(&manifest.borrowed);
    let layers = layers.map(|layer| Key::layer(&layer.digest));
    layers.filter(|layer| layer != key).collect()
}

fn digest_of(file: &std::path::Path) -> std::io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(file)?, &mut hasher)?;
    Ok(Digest::from(hasher.finalize()))
}
