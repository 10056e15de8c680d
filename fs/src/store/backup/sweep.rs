//! Frees space: removes objects that no complete revision of the backup needs.

use std::collections::HashSet;

use layerfmt::Digest;
use wire::manifest::{Manifest, ProfileName};
use wire::paths::{Class, ObjectPath};

use super::Backup;

/// Number of complete revisions retained of each history: the newest, and the one before it, which
/// may be running.
const REVISIONS_KEPT: usize = 2;

impl Backup {
    /// Removes older revisions and the objects that only they needed. An unreadable manifest stops
    /// it, because its objects are unknown. `present` stays: a ring may have an old revision.
    pub(super) fn sweep(&self, present: u64) {
        let mut needed = HashSet::new();
        for name in self.histories() {
            let revisions = self.revisions(&name);
            let old = revisions.len().saturating_sub(REVISIONS_KEPT);
            let (gone, stay): (Vec<u64>, Vec<u64>) =
                (revisions.iter().copied().take(old)).partition(|revision| *revision != present);
            for revision in &gone {
                let head = ObjectPath::Head(name.clone(), *revision);
                let _ = self.dir.remove(&head.to_string());
            }
            for revision in stay.iter().chain(revisions.iter().skip(old)) {
                let Some(bundle) = self.bundle(&name, *revision) else {
                    return;
                };
                let Ok(manifest) = Manifest::parse(bundle.manifest.as_bytes()) else {
                    return;
                };
                needed.extend(files(&manifest).iter().map(ToString::to_string));
                let digest = Digest::of(bundle.manifest.as_bytes());
                needed.insert(ObjectPath::Manifest(digest).to_string());
            }
        }
        for class in Class::CONTENT {
            for name in self.dir.names(class.directory()) {
                let path = format!("{}/{name}", class.directory());
                if !needed.contains(&path) {
                    let _ = self.dir.remove(&path);
                }
            }
        }
    }

    /// The histories with a complete revision.
    fn histories(&self) -> Vec<ProfileName> {
        let mut histories = Vec::new();
        for system in self.dir.names(Class::Head.directory()) {
            let profiles = format!("{}/{system}", Class::Head.directory());
            for profile in self.dir.names(&profiles) {
                histories.extend(ProfileName::new(&system, &profile));
            }
        }
        histories
    }
}

/// Everything a revision needs.
fn files(manifest: &Manifest) -> Vec<ObjectPath> {
    let layers = manifest.layers.iter().chain(&manifest.borrowed);
    let layers = layers.map(|layer| ObjectPath::Layer(layer.digest));
    let packs = manifest.pack.iter();
    let packs = packs.map(|pack| ObjectPath::Pack(pack.digest));
    let indexes = [Some(&manifest.index), manifest.plain.as_ref()];
    let indexes = indexes.into_iter().flatten();
    let indexes = indexes.map(|index| ObjectPath::Index(index.digest));
    let boot = manifest.kernel.iter().chain(&manifest.initrd);
    let boot = boot.map(|file| ObjectPath::Boot(file.digest));
    layers.chain(packs).chain(indexes).chain(boot).collect()
}
