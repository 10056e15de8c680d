//! Records stored beside the chunk cache: the newest seen revision, and the records for a mount
//! without a server.

use layerfmt::{Digest, Layer};
use serde::{Deserialize, Serialize};
use wire::manifest::IndexRef;
use wire::trust::{BUNDLE_LEN_MAX, Bundle, HighWater};

use crate::net::address::Address;
use crate::store::dir::Dir;

/// Version of this layout.
const ROOT: &str = "records-1";
/// Maximum length of a stored index head.
const INDEX_LEN_MAX: usize = 512 << 20;

/// The newest numbers seen, as stored.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    keyset: u64,
    revision: u64,
}

/// The records of one history below a cache directory.
#[derive(Debug)]
pub(crate) struct Kept {
    dir: Dir,
    base: String,
}

impl Kept {
    pub(crate) fn new(dir: Dir, address: &Address) -> Kept {
        Kept {
            dir,
            base: format!("{ROOT}/{}/{}", address.system, address.profile),
        }
    }

    /// The stored revision numbers; empty at first and if the file is damaged.
    pub(crate) fn high_water(&self) -> HighWater {
        let bytes = self
            .dir
            .read(&format!("{}/seen", self.base), 4096)
            .unwrap_or_default();
        let seen: Option<Seen> = serde_json::from_slice(&bytes).ok();
        seen.map_or_else(HighWater::default, |seen| HighWater {
            keyset: seen.keyset,
            revision: seen.revision,
        })
    }

    /// Stores the newest seen revision, and the records for a start without a server.
    pub(crate) fn save(&self, bundle: &Bundle, seen: HighWater) {
        let result = bundle
            .render()
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                self.dir
                    .write(&format!("{}/bundle", self.base), &bytes)
                    .map_err(|e| e.to_string())
            })
            .and_then(|()| {
                let seen = Seen {
                    keyset: seen.keyset,
                    revision: seen.revision,
                };
                serde_json::to_vec(&seen).map_err(|error| error.to_string())
            })
            .and_then(|bytes| {
                self.dir
                    .write(&format!("{}/seen", self.base), &bytes)
                    .map_err(|e| e.to_string())
            });
        if let Err(error) = result {
            tracing::warn!(%error, "cannot store the records beside the cache; the mount continues");
        }
    }

    pub(crate) fn bundle(&self) -> Option<Bundle> {
        let bytes = self
            .dir
            .read(&format!("{}/bundle", self.base), BUNDLE_LEN_MAX)
            .ok()?;
        Bundle::parse(&bytes).ok()
    }

    /// The head of an index file, if it is stored and has its digest.
    pub(crate) fn index(&self, reference: &IndexRef) -> Option<Layer> {
        let bytes = self
            .dir
            .read(&self.index_path(&reference.digest), INDEX_LEN_MAX)
            .ok()?;
        let layer = Layer::from_vec(bytes).ok()?;
        (layer.digest() == reference.digest).then_some(layer)
    }

    /// Stores the head of an index file, replacing older ones.
    pub(crate) fn save_index(&self, digest: &Digest, bytes: &[u8]) {
        let path = self.index_path(digest);
        if let Err(error) = self.dir.write(&path, bytes) {
            tracing::warn!(%error, "cannot store the index beside the cache; the mount continues");
            return;
        }
        for name in self.dir.names(&self.base) {
            if name.starts_with("index-") && !path.ends_with(&name) {
                let _ = self.dir.remove(&format!("{}/{name}", self.base));
            }
        }
    }

    fn index_path(&self, digest: &Digest) -> String {
        format!("{}/index-{digest}", self.base)
    }
}
