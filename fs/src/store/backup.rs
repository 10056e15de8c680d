//! The backup: a complete copy on local storage, with which the next start needs no server.
//!
//! The directory has the layout of a store (`docs/PROTOCOL.md`), so it can itself be served. A
//! revision's file in `refs/` is written when all its objects are stored and verified: it marks a
//! complete revision. Incomplete layers are named `….part`.

pub(crate) mod fill;
mod part;
mod sweep;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use layerfmt::{Digest, Index, Layer};
use wire::manifest::{Head, MANIFEST_LEN_MAX, ProfileName, RingRecord};
use wire::paths::{Class, ObjectPath};
use wire::trust::{Bundle, ENVELOPE_LEN_MAX, Envelope};

use self::part::Part;
use crate::limits::INDEX_LEN_MAX;
use crate::net::address::Address;
use crate::net::object::ChunkRange;
use crate::net::status::StatusText;
use crate::store::dir::Dir;

/// Chunks waiting to be written.
const WAITING_MAX: usize = 256;

/// A backup directory in use by a mount.
#[derive(Debug)]
pub(crate) struct Backup {
    dir: Dir,
    /// Current activity, for the status.
    pub state: StatusText,
    /// Complete files by the path that servers give them.
    complete: Mutex<HashMap<String, Arc<File>>>,
    parts: Mutex<HashMap<String, Arc<Part>>>,
    queue: Mutex<Option<SyncSender<(Arc<Part>, u64, Bytes)>>>,
    /// Writing failed: only complete revisions are used.
    broken: AtomicBool,
}

impl Backup {
    /// Opens `dir`; it is made if needed.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub(crate) fn open(dir: &Path) -> std::io::Result<Arc<Backup>> {
        let backup = Arc::new(Backup {
            dir: Dir::open(dir)?,
            state: StatusText::new("waiting"),
            complete: Mutex::default(),
            parts: Mutex::default(),
            queue: Mutex::default(),
            broken: AtomicBool::new(false),
        });
        let (queue, waiting) = sync_channel::<(Arc<Part>, u64, Bytes)>(WAITING_MAX);
        *lock(&backup.queue) = Some(queue);
        let weak = Arc::downgrade(&backup);
        std::thread::Builder::new()
            .name("layerfs-backup".into())
            .spawn(move || {
                for (part, offset, bytes) in waiting {
                    if let Err(error) = part.write(offset, &bytes)
                        && let Some(backup) = weak.upgrade()
                    {
                        backup.fail(&error);
                    }
                }
            })?;
        Ok(backup)
    }

    /// The records of the newest complete revision, or of the requested one, or of the newest that
    /// the ring may have.
    pub(crate) fn newest(&self, address: &Address, ring: Option<&str>) -> Option<Bundle> {
        let name = ProfileName::new(&address.system, &address.profile).ok()?;
        let mut revisions = self.revisions(&name);
        revisions.retain(|revision| address.revision.is_none_or(|wanted| wanted == *revision));
        if let Some(ring) = ring.filter(|_| address.revision.is_none())
            && let Some(rings) = self.rings(&name)
            && let Some(record) = RingRecord::parse(rings.payload.as_bytes()).ok()
            && let Some(ring) = record.ring(ring)
        {
            // A revision that the backup does not have yet must not keep an older one from booting.
            let is_allowed = |revision: &u64| {
                !record.is_quarantined(*revision)
                    && (record.follows_newest(ring) || *revision <= ring.revision)
            };
            revisions.retain(is_allowed);
        }
        // A damaged record must not hide an older good revision.
        revisions
            .iter()
            .rev()
            .find_map(|revision| self.bundle(&name, *revision))
    }

    /// The complete revisions of a history, ascending.
    fn revisions(&self, name: &ProfileName) -> Vec<u64> {
        let directory = ObjectPath::heads_of(name);
        self.numbers(&directory)
    }

    /// The newest ring record of a history.
    fn rings(&self, name: &ProfileName) -> Option<Envelope> {
        let newest = self.numbers(&ObjectPath::rings_of(name)).pop()?;
        let record = self.object(&ObjectPath::Ring(name.clone(), newest), ENVELOPE_LEN_MAX)?;
        Envelope::parse(&record).ok()
    }

    /// The numbers that name the objects in `directory`, ascending.
    fn numbers(&self, directory: &str) -> Vec<u64> {
        let names = self.dir.names(directory);
        let paths = names.iter().map(|name| format!("{directory}/{name}"));
        let mut numbers: Vec<u64> = paths
            .filter_map(|path| ObjectPath::parse(&path)?.number())
            .collect();
        numbers.sort_unstable();
        numbers
    }

    fn object(&self, object: &ObjectPath, len_max: usize) -> Option<Vec<u8>> {
        self.dir.read(&object.to_string(), len_max).ok()
    }

    fn bundle(&self, name: &ProfileName, revision: u64) -> Option<Bundle> {
        let head = ObjectPath::Head(name.clone(), revision);
        let head = Envelope::parse(&self.object(&head, ENVELOPE_LEN_MAX)?).ok()?;
        let record = Head::parse(head.payload.as_bytes()).ok()?;
        let manifest = ObjectPath::Manifest(record.manifest.digest);
        let manifest = self.object(&manifest, MANIFEST_LEN_MAX)?;
        let versions = self.numbers(Class::Keyset.directory()).into_iter();
        let keysets = versions
            .map(|version| {
                let keyset = self.object(&ObjectPath::Keyset(version), ENVELOPE_LEN_MAX)?;
                Envelope::parse(&keyset).ok()
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Bundle {
            keysets,
            head,
            manifest: String::from_utf8(manifest).ok()?,
            rings: self.rings(name),
        })
    }

    /// The index named `digest`, if it is here and undamaged.
    pub(crate) fn index(&self, digest: &Digest) -> Option<Arc<Index>> {
        let bytes = self.object(&ObjectPath::Index(*digest), INDEX_LEN_MAX)?;
        let layer = Layer::from_vec(bytes).ok()?;
        (layer.digest() == *digest).then(|| Arc::clone(layer.index()))
    }

    /// Uses the complete file at `path` (as servers name it), if it is here and as long as it must be.
    pub(crate) fn attach(&self, path: &str, len: u64) -> bool {
        let Ok(file) = self.dir.file(path.trim_start_matches('/')) else {
            return false;
        };
        if file.metadata().map_or(0, |meta| meta.len()) != len {
            return false;
        }
        lock(&self.complete).insert(path.to_owned(), Arc::new(file));
        true
    }

    /// The verified bytes of `range`, if they are here.
    pub(crate) fn read(&self, range: &ChunkRange) -> Option<Bytes> {
        let complete = lock(&self.complete).get(&range.object.path).cloned();
        let mut bytes = vec![0; range.len as usize];
        match complete {
            Some(file) => file.read_exact_at(&mut bytes, range.offset).ok()?,
            None => {
                let part = lock(&self.parts).get(&range.object.path).cloned()?;
                part.read(range.offset, &mut bytes)?;
            }
        }
        if Digest::of(&bytes) != range.digest {
            tracing::warn!(path = %range.object.path, offset = range.offset, "damaged in the backup: fetched from a server instead");
            return None;
        }
        Some(Bytes::from(bytes))
    }

    /// True if `range` is present according to the list of files.
    pub(crate) fn knows(&self, range: &ChunkRange) -> bool {
        if lock(&self.complete).contains_key(&range.object.path) {
            return true;
        }
        lock(&self.parts)
            .get(&range.object.path)
            .is_some_and(|part| part.has(range.offset))
    }

    /// Stores `bytes`, if their layer is being filled.
    pub(crate) fn keep(&self, range: &ChunkRange, bytes: &Bytes) {
        if self.is_broken() {
            return;
        }
        let Some(part) = lock(&self.parts).get(&range.object.path).cloned() else {
            return;
        };
        if let Some(queue) = lock(&self.queue).as_ref() {
            // The filler fetches the bytes again later if there is no room in the queue now.
            let _ = queue.try_send((part, range.offset, bytes.clone()));
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The storage cannot be written: reports this once, and the mount continues without it.
    fn fail(&self, error: &std::io::Error) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            let full = error.kind() == std::io::ErrorKind::StorageFull;
            let what = if full { "full" } else { "broken" };
            tracing::warn!(%error, "the backup's storage is {what}: the mount continues without a backup");
            self.state.set(format!("{what}: {error}"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
