//! The boot pack: its stream begins while the index arrives.

use std::sync::Arc;

use layerfmt::Index;
use tokio::sync::watch;
use wire::manifest::Manifest;

use super::RootOpening;
use crate::chunks::rebuild::Plain;
use crate::chunks::remote::StatusTexts;
use crate::chunks::update::Update;
use crate::net::object::{ChunkRange, Object};
use crate::net::status::StatusText;
use crate::prefetch::{Policy, pack};
use crate::store::disk::DiskCache;

/// The pack's stream, before its contents are known.
pub(super) struct StartedPack {
    sender: watch::Sender<Option<Vec<ChunkRange>>>,
    state: Arc<StatusText>,
}

impl StartedPack {
    /// Passes the contents to the stream, without the chunks that the update pack makes.
    pub(super) fn start(
        self,
        index: &Index,
        objects: &[Arc<Object>],
        update: Option<&Update>,
        words: &StatusTexts,
    ) {
        words.pack.follow(self.state);
        let mut ranges = pack::ranges(index, objects);
        ranges.retain(|range| !update.is_some_and(|update| update.awaits(&range.digest)));
        let _ = self.sender.send(Some(ranges));
    }
}

impl RootOpening {
    /// Without a server: the manifest of the layers alone, if the backup has their index and not the pack.
    pub(super) fn do_without_pack(&self, manifest: &mut Manifest) {
        let Some(backup) = &self.caches.backup else {
            return;
        };
        if let (Some(pack), Some(plain)) = (&manifest.pack, manifest.plain)
            && !backup.attach(&Object::pack(&pack.digest).path, pack.len)
            && backup.index(&plain.digest).is_some()
        {
            (manifest.index, manifest.plain, manifest.pack) = (plain, None, None);
        }
    }

    /// The way back from the boot pack, if there is one.
    pub(super) fn plain(&self, manifest: &Manifest) -> Option<Plain> {
        let plain = manifest.plain?;
        Some(Plain::new(plain, self.caches.backup.clone()))
    }

    /// Requests the boot pack while the index arrives.
    pub(super) fn start_pack(&self, manifest: &Manifest, offline: bool) -> Option<StartedPack> {
        let reference = manifest.pack.as_ref()?;
        let object = Arc::new(Object::pack(&reference.digest));
        let attached = self
            .caches
            .backup
            .as_ref()
            .is_some_and(|backup| backup.attach(&object.path, reference.len));
        if offline || attached || self.options.prefetch == Policy::None {
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        let say: Arc<StatusText> = Arc::new(StatusText::new("coming"));
        let stream = pack::PackStream {
            inner: Arc::clone(&self.fetcher.inner),
            caches: Arc::clone(&self.caches),
            object: Arc::clone(&object),
            len: reference.len,
            eager: self.caches.disk.as_ref().is_none_or(DiskCache::is_empty),
            state: Arc::clone(&say),
        };
        // Readers before the stream's first byte wait for it instead of sending requests.
        self.fetcher
            .inner
            .queue()
            .stream_at(&object, 0, reference.len);
        self.fetcher.spawn(stream.run(receiver));
        Some(StartedPack { sender, state: say })
    }
}
