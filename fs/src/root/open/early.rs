//! A mount that begins with the early index of a large system. The whole index follows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use layerfmt::Index;
use tokio::sync::Notify;
use wire::manifest::{IndexRef, Manifest};

use super::super::kept::KeptRecords;
use super::RootOpening;
use crate::net::early_index::early_index;
use crate::net::error::FetchError;
use crate::net::fetcher::Fetcher;
use crate::net::index_head::index_head;
use crate::prefetch::Policy;
use crate::sys::process::keep_large_apart;

/// Shorter heads of index files are fetched as a whole at once, bytes.
const HEAD_LEN_MIN: u64 = 1 << 20;
/// Pause after no server had the index.
const PAUSE: Duration = Duration::from_secs(10);

/// The whole index that is to follow an early one.
struct Rest {
    fetcher: Arc<Fetcher>,
    index: Arc<Index>,
    /// Told when a request waits for the index.
    wanted: Arc<Notify>,
    reference: IndexRef,
    kept: Option<Arc<KeptRecords>>,
}

impl RootOpening {
    /// The early index, if there is one. The whole one is fetched from now on, or, without
    /// prefetching, from the moment when a request needs it.
    pub(super) fn early_index(&self, manifest: &Manifest) -> Option<Arc<Index>> {
        let reference = manifest.index;
        if reference.head_len < HEAD_LEN_MIN {
            return None;
        }
        let early = early_index(&self.fetcher.inner, &reference);
        let index = match self.fetcher.run(early).and_then(|early| early) {
            Ok(early) => Arc::new(early?),
            Err(error) => {
                tracing::info!(%error, "no early index: the mount waits for the whole index");
                return None;
            }
        };
        keep_large_apart();
        let rest = Rest {
            fetcher: Arc::clone(&self.fetcher),
            index: Arc::clone(&index),
            wanted: Arc::default(),
            reference,
            kept: self.kept.clone(),
        };
        let wanted = Arc::clone(&rest.wanted);
        let rest = match self.options.prefetch {
            Policy::None => Some(rest),
            _ => {
                rest.start();
                None
            }
        };
        index.when_wanted(Box::new(move || {
            wanted.notify_one();
            if let Some(rest) = rest {
                rest.start();
            }
        }));
        Some(index)
    }
}

impl Rest {
    fn start(self) {
        let index = Arc::clone(&self.index);
        let started = std::thread::Builder::new()
            .name("layerfs-index".into())
            .spawn(move || self.run());
        if let Err(error) = started {
            tracing::error!(%error, "the whole index is not fetched: what is not in the early index gives EIO");
            index.disappoint(true);
        }
    }

    /// Counts as a waiting reader once a request waits.
    async fn say_when_wanted(&self) -> Infallible {
        self.wanted.notified().await;
        self.wanted.notify_one();
        let _wait = self.fetcher.inner.wait_begins();
        std::future::pending().await
    }

    /// Fetches the index until it is here, or the mount ends.
    fn run(self) {
        let digest = self.reference.digest;
        loop {
            let head = async {
                tokio::select! {
                    head = index_head(&self.fetcher.inner, &digest, self.reference.head_len) => head,
                    never = self.say_when_wanted() => match never {},
                }
            };
            let layer = match self.fetcher.run(head).and_then(|layer| layer) {
                Ok(layer) => layer,
                Err(FetchError::Closed) => return self.index.disappoint(true),
                Err(error) => {
                    tracing::error!(%error, "the whole index is unavailable: requests that need it give EIO until it is there");
                    self.index.disappoint(false);
                    let pause = async { tokio::time::sleep(PAUSE).await };
                    let _ = self.fetcher.run(pause);
                    continue;
                }
            };
            if let (Some(kept), Some(head)) = (&self.kept, layer.in_memory()) {
                kept.save_index(&digest, head);
            }
            let whole = Arc::clone(layer.index());
            drop(layer);
            if let Err(error) = self.index.arrive(whole) {
                tracing::error!(%error, "the whole index is refused: what is not in the early index gives EIO");
                self.index.disappoint(true);
            }
            return;
        }
    }
}
