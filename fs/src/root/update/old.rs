//! The older revision on this machine that an update pack can start from.

use std::cmp::Reverse;
use std::sync::Arc;

use wire::manifest::Manifest;

use super::super::kept::KeptRecords;
use crate::chunks::remote::{CacheTiers, chunk_range, objects};
use crate::chunks::update::Old;
use crate::net::address::Address;
use crate::net::object::Object;

/// Of the revisions before `new` of the same profile whose index is here, of the backup or of the
/// records beside the cache, the one that lacks the fewest chunks; of several the newest. `offered`:
/// those from which there are update packs, if the server says it. Nothing of the revision is
/// trusted: the update pack names the index that it starts from, and every chunk is verified against
/// that index.
pub(crate) fn old(
    caches: &CacheTiers,
    kept: Option<&KeptRecords>,
    address: &Address,
    new: &Manifest,
    offered: Option<&[u64]>,
) -> Option<Old> {
    let any = Address {
        revision: None,
        ..address.clone()
    };
    let backup = caches.backup.as_ref();
    let backed_up = backup.and_then(|backup| backup.newest(&any, None));
    let cached = kept.into_iter().flat_map(KeptRecords::bundles);
    let bundles = backed_up.into_iter().chain(cached);
    let manifests = bundles.filter_map(|bundle| Manifest::parse(bundle.manifest.as_bytes()).ok());
    let is_offered =
        |manifest: &Manifest| offered.is_none_or(|offered| offered.contains(&manifest.revision));
    let manifests = manifests.filter(is_offered);
    let found = manifests.filter_map(|manifest| from(caches, kept, new, &manifest));
    found.min_by_key(|old| (lacking(caches, old), Reverse(old.revision)))
}

/// Number of chunks of the revision that are not here.
fn lacking(caches: &CacheTiers, old: &Old) -> usize {
    let ranges = old.index.chunks();
    let ranges = ranges.filter_map(|chunk| chunk_range(&old.objects, &chunk));
    ranges.filter(|range| !caches.knows(range)).count()
}

fn from(
    caches: &CacheTiers,
    kept: Option<&KeptRecords>,
    new: &Manifest,
    manifest: &Manifest,
) -> Option<Old> {
    let is_older = manifest.name() == new.name() && manifest.revision < new.revision;
    let reference = &manifest.index;
    if !is_older || reference.digest == new.index.digest {
        return None;
    }
    let backed_up = caches
        .backup
        .as_ref()
        .and_then(|backup| backup.index(&reference.digest));
    let index = match backed_up {
        Some(index) => index,
        None => {
            let kept = kept?;
            let layer = kept.index(reference);
            let whole = layer.map(|layer| Arc::clone(layer.index()));
            whole
                .or_else(|| caches.raw_index(&reference.digest, |digest| kept.raw_index(digest)))?
        }
    };
    let objects = objects(&index, manifest.pack.as_ref().map(|pack| &pack.digest));
    if let Some(backup) = &caches.backup {
        for layer in manifest.layers.iter().chain(&manifest.borrowed) {
            backup.attach(&Object::layer(&layer.digest).path, layer.len);
        }
        if let Some(pack) = &manifest.pack {
            backup.attach(&Object::pack(&pack.digest).path, pack.len);
        }
    }
    Some(Old {
        revision: manifest.revision,
        digest: reference.digest,
        index,
        objects,
    })
}
