//! Work behind an open root: completing the backup, or fetching the rest.

use std::sync::Arc;

use layerfmt::Index;
use wire::manifest::Manifest;

use super::super::options::RemoteOptions;
use crate::chunks::remote::RemoteSource;
use crate::net::object::Object;
use crate::net::records::Records;
use crate::prefetch::{Policy, background};
use crate::store::backup;

pub(super) fn start_background(
    options: &RemoteOptions,
    source: &Arc<RemoteSource>,
    index: &Arc<Index>,
    objects: Vec<Arc<Object>>,
    manifest: &Manifest,
    records: Records,
    offline: bool,
) {
    if let Some(backup) = source.caches.backup.clone() {
        for layer in manifest.layers.iter().chain(&manifest.borrowed) {
            backup.attach(&Object::layer(&layer.digest).path, layer.len);
        }
        if offline {
            backup.state.set("in use: no server");
            return;
        }
        let fetcher = Arc::downgrade(&source.fetcher);
        let update = source.update();
        let update = update.map(|update| Arc::new(update) as Arc<dyn backup::fill::Remade>);
        let started = std::thread::Builder::new()
            .name("layerfs-fill".into())
            .spawn(move || backup::fill::run(&backup, &fetcher, &records, update));
        if let Err(error) = started {
            tracing::warn!(%error, "the backup is not filled");
        }
        // The backup fetches everything already.
        source.words.prefetch.set("left to the backup");
        return;
    }
    let wanted = match options.prefetch {
        Policy::All => true,
        Policy::Auto => source.caches.disk.is_some(),
        Policy::Pack | Policy::None => false,
    };
    if !wanted || offline {
        return;
    }
    // Only as much as the cache can hold without evicting the pages of a boot is fetched.
    let len_max = match &options.cache {
        Some((_, len)) if source.caches.disk.is_some() => *len,
        _ => options.memory_len,
    } / 10
        * 9;
    let run = background::run(Arc::downgrade(source), Arc::clone(index), objects, len_max);
    source.fetcher.spawn(run);
}
