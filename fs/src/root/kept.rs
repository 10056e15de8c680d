//! Records stored beside the chunk cache: the newest revision that this machine has seen, and the
//! records for a mount without a server.

use layerfmt::{Digest, Layer};
use serde::{Deserialize, Serialize};
use wire::manifest::{Head, IndexRef, Manifest};
use wire::trust::{BUNDLE_LEN_MAX, Bundle, ENVELOPE_LEN_MAX, HighWater};

use crate::limits::{INDEX_LEN_MAX, PROOF_COUNT_MAX, PROOF_LEN_MAX};
use crate::net::address::Address;
use crate::store::dir::Dir;

/// Version of this layout.
const ROOT: &str = "records-1";

/// File of the records of the newest revision.
const NEWEST: &str = "bundle";
/// File of the records of the revision that the last mount of a pinned revision had.
const PINNED: &str = "pinned";
/// File of the records of the revision that an update to the newest one starts from, until the update
/// is complete.
const BEFORE: &str = "before";
/// Directory of the proofs of raw chunks.
const PROOFS: &str = "updates";

/// The newest numbers seen, as stored.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    keyset: u64,
    revision: u64,
    #[serde(default)]
    ring: u64,
}

fn values_path(machine: &str) -> String {
    format!("{ROOT}/values-{machine}")
}

/// The records of one history below a cache directory.
#[derive(Debug)]
pub(crate) struct KeptRecords {
    dir: Dir,
    base: String,
}

impl KeptRecords {
    pub(crate) fn new(dir: Dir, address: &Address) -> KeptRecords {
        KeptRecords {
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
            ring: seen.ring,
        })
    }

    /// Stores the newest seen numbers, and the records for a start without a server. A mount of a
    /// pinned revision has records of its own, and lowers no number.
    pub(crate) fn save(&self, bundle: &Bundle, seen: HighWater, pinned: bool) {
        let name = if pinned { PINNED } else { NEWEST };
        if !pinned {
            self.save_before(bundle);
        }
        let result = bundle
            .render()
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                self.dir
                    .write(&format!("{}/{name}", self.base), &bytes)
                    .map_err(|e| e.to_string())
            });
        match result {
            Ok(()) => self.save_seen(seen),
            Err(error) => {
                tracing::warn!(%error, "cannot store the records beside the cache; the mount continues");
            }
        }
    }

    /// Stores the newest seen numbers; lowers none.
    pub(super) fn save_seen(&self, seen: HighWater) {
        let seen = seen.newest(self.high_water());
        let seen = Seen {
            keyset: seen.keyset,
            revision: seen.revision,
            ring: seen.ring,
        };
        let result = serde_json::to_vec(&seen)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                self.dir
                    .write(&format!("{}/seen", self.base), &bytes)
                    .map_err(|e| e.to_string())
            });
        if let Err(error) = result {
            tracing::warn!(%error, "cannot store the newest revision seen; the mount continues");
        }
    }

    /// Keeps the records of the newest revision so far beside those of a later one. If that one was
    /// not complete, the revision before it stays: an update starts best from a whole revision.
    fn save_before(&self, next: &Bundle) {
        let revision = |bundle: &Bundle| Head::parse(bundle.head.payload.as_bytes()).ok();
        let Some(newest) = self.bundle_of(NEWEST).filter(|_| self.before().is_none()) else {
            return;
        };
        let (now, next) = (revision(&newest), revision(next));
        if now.map(|head| head.revision) < next.map(|head| head.revision)
            && let Ok(bytes) = newest.render()
            && let Err(error) = self.dir.write(&format!("{}/{BEFORE}", self.base), &bytes)
        {
            tracing::warn!(%error, "cannot store the records of the revision before beside the cache; the mount continues");
        }
    }

    /// The records of the revision that an unfinished update starts from.
    pub(crate) fn before(&self) -> Option<Bundle> {
        self.bundle_of(BEFORE)
    }

    /// The update is complete.
    pub(crate) fn forget_before(&self) {
        let _ = self.dir.remove(&format!("{}/{BEFORE}", self.base));
    }

    /// The records for a start without a server: of the newest revision, or of the pinned one.
    pub(crate) fn bundle(&self, pinned: Option<u64>) -> Option<Bundle> {
        let Some(pinned) = pinned else {
            return self.bundle_of(NEWEST);
        };
        let is_it = |bundle: &Bundle| {
            let head = Head::parse(bundle.head.payload.as_bytes());
            head.is_ok_and(|head| head.revision == pinned)
        };
        self.bundles().find(is_it)
    }

    /// The stored records: of the pinned revision, of the newest, and of the one before.
    pub(crate) fn bundles(&self) -> impl Iterator<Item = Bundle> {
        [PINNED, NEWEST, BEFORE]
            .iter()
            .filter_map(|name| self.bundle_of(name))
    }

    fn bundle_of(&self, name: &str) -> Option<Bundle> {
        let path = format!("{}/{name}", self.base);
        let bytes = self.dir.read(&path, BUNDLE_LEN_MAX).ok()?;
        Bundle::parse(&bytes).ok()
    }

    /// The digests of the indexes that the stored records name.
    pub(super) fn indexes(&self) -> Vec<String> {
        let manifests = self
            .bundles()
            .filter_map(|bundle| Manifest::parse(bundle.manifest.as_bytes()).ok());
        manifests
            .map(|manifest| manifest.index.digest.to_string())
            .collect()
    }

    /// The envelope of the values record that a machine used before.
    pub(crate) fn values(&self, machine: &str) -> Option<Vec<u8>> {
        self.dir.read(&values_path(machine), ENVELOPE_LEN_MAX).ok()
    }

    /// Stores the envelope of the newest values record of a machine.
    pub(crate) fn save_values(&self, machine: &str, envelope: &[u8]) {
        if let Err(error) = self.dir.write(&values_path(machine), envelope) {
            tracing::warn!(%error, "cannot store the values record beside the cache; the mount continues");
        }
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

    /// Stores the head of an index file, replacing older ones that the stored records do not name.
    pub(crate) fn save_index(&self, digest: &Digest, bytes: &[u8]) {
        self.save_as(&self.index_path(digest), bytes);
    }

    fn save_as(&self, path: &str, bytes: &[u8]) {
        if let Err(error) = self.dir.write(path, bytes) {
            tracing::warn!(%error, "cannot store the index beside the cache; the mount continues");
            return;
        }
        let named = self.indexes();
        for name in self.dir.names(&self.base) {
            let digest = name.rsplit('-').next().unwrap_or_default();
            let is_new = path.ends_with(digest);
            let is_needed = !is_new && named.iter().any(|one| one == digest);
            if name.starts_with("index-") && !is_needed && !path.ends_with(&name) {
                let _ = self.dir.remove(&format!("{}/{name}", self.base));
            }
        }
    }

    /// The raw INDEX that an update pack made, as it is stored; not verified.
    pub(crate) fn raw_index(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.raw_index_path(digest);
        self.dir.read(&path, INDEX_LEN_MAX).ok()
    }

    /// Stores a raw INDEX, in place of older ones and of index files.
    pub(crate) fn save_raw_index(&self, digest: &Digest, raw: &[u8]) {
        self.save_as(&self.raw_index_path(digest), raw);
    }

    fn raw_index_path(&self, digest: &Digest) -> String {
        format!("{}/index-raw-{digest}", self.base)
    }

    /// The stored proofs of raw chunks: name and bytes of each.
    pub(crate) fn proofs(&self) -> Vec<(String, Vec<u8>)> {
        let directory = format!("{}/{PROOFS}", self.base);
        let mut names = self.dir.names(&directory);
        names.sort_unstable();
        names.truncate(PROOF_COUNT_MAX);
        let read = |name: String| {
            let bytes = self.dir.read(&format!("{directory}/{name}"), PROOF_LEN_MAX);
            bytes.ok().map(|bytes| (name, bytes))
        };
        names.into_iter().filter_map(read).collect()
    }

    /// Stores a proof, under the digest of its bytes.
    pub(crate) fn save_proof(&self, bytes: &[u8]) {
        let path = format!("{}/{PROOFS}/{}", self.base, Digest::of(bytes));
        if let Err(error) = self.dir.write(&path, bytes) {
            tracing::warn!(%error, "cannot store the record of an update beside the cache; the mount continues");
        }
    }

    /// Removes a proof.
    pub(crate) fn remove_proof(&self, name: &str) {
        let _ = self.dir.remove(&format!("{}/{PROOFS}/{name}", self.base));
    }

    fn index_path(&self, digest: &Digest) -> String {
        format!("{}/index-{digest}", self.base)
    }
}
