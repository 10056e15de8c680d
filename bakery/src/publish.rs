//! Publishes layers as a signed revision: objects first, the head last. The creation of the head is
//! the commit point: before it no part of a revision is visible, after it the whole revision is. If
//! another process gets the number first, the publisher builds on that revision and retries.

mod addition;
mod carry;
mod compaction;
mod deltas;
mod draft;
mod indexes;
pub mod pack;
mod parameters;
mod pick;
mod predicted;
mod profile;
mod rebase;
mod rehearsal;
mod renewal;
mod revert;
mod rewriting;
mod rings;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use layerfmt::Digest;
use wire::manifest::{Head, Manifest, ObjectRef, ProfileName, RECORD_FORMAT, RevisionName};
use wire::trust::{HEAD_NAMESPACE, verify_head};

use crate::clock;
use crate::history::{History, HistoryError, Result, Revision, objects};
use crate::keys::{Keys, RecordSigner};
use crate::store::{Created, Key, Store, StoreError, check, guard};

pub use addition::{Addition, Import, Prediction};
pub use compaction::{CompactPolicy, Compacted, Compaction};
pub use draft::{Draft, DraftIndex, Plain};
use indexes::Indexes;
pub use pick::{action_text, pushed_with};
pub use rehearsal::Preview;
use rehearsal::Rehearsal;
pub(crate) use renewal::is_due;
pub use rewriting::Rewritten;
pub use rings::RingReason;
pub use values::ValuesError;

/// Number of retries after a lost race. Every loss means that another publisher succeeded, so this
/// many losses in a row mean a very busy name.
const ATTEMPTS_MAX: u32 = 64;

/// Files to be put into the store for a revision. They must stay until it is published.
#[derive(Default)]
pub struct Uploads<'u> {
    files: Vec<(Key, PathBuf)>,
    writes: Vec<Write<'u>>,
}

impl std::fmt::Debug for Uploads<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let uploads = &mut f.debug_struct("Uploads");
        uploads.field("files", &self.files).finish_non_exhaustive()
    }
}

/// Makes a file that is still to come.
type Write<'u> = Box<dyn FnOnce() -> Result<()> + 'u>;

impl<'u> Uploads<'u> {
    /// One more object.
    pub fn add(&mut self, key: Key, file: impl Into<PathBuf>) {
        self.files.push((key, file.into()));
    }

    /// One more object, whose name is known and whose file `write` will make, while the merged
    /// indexes of the draft are made.
    pub(crate) fn add_later(
        &mut self,
        key: Key,
        file: impl Into<PathBuf>,
        write: impl FnOnce() -> Result<()> + 'u,
    ) {
        self.add(key, file);
        self.writes.push(Box::new(write));
    }

    fn file(&self, wanted: &Key) -> Option<&PathBuf> {
        let found = self.files.iter().find(|(key, _)| key == wanted);
        found.map(|(_, file)| file)
    }

    /// Make the missing objects, and store all of them.
    fn put(&mut self, store: &Store) -> Result<()> {
        for write in self.writes.drain(..) {
            write()?;
        }
        for (key, file) in &self.files {
            store.put_file(key, file)?;
        }
        Ok(())
    }
}

/// Continues the histories of one store.
#[derive(Debug)]
pub struct Publisher {
    history: History,
    signer: RecordSigner,
    /// Lifetime of its heads.
    lifetime: Option<Duration>,
    /// Only compute the revision that would be published.
    rehearsal: Option<Rehearsal>,
}

impl Publisher {
    /// A publisher with the keys in `keys`. A store that is not a local directory is probed first.
    ///
    /// # Errors
    /// The keys cannot be used, or the store cannot keep a history.
    pub fn open(store: Store, keys: &Keys) -> Result<Publisher> {
        if store.root().is_none() {
            check::require_sound(&store)?;
        }
        let signer = keys.head()?;
        let history = History::open(store, keys.anchors()?)?;
        Ok(Publisher {
            history,
            signer,
            lifetime: keys.lifetime()?,
            rehearsal: None,
        })
    }

    /// The current histories.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The store of the histories.
    pub fn store(&self) -> &Store {
        self.history.store()
    }

    /// The same publisher with another head key: for `key rotate`.
    pub(crate) fn with_signer(self, signer: RecordSigner) -> Publisher {
        Publisher { signer, ..self }
    }

    /// Publishes the next revision of `name`. `draft` is called once for every attempt, with the
    /// preceding head; it may refuse.
    ///
    /// # Errors
    /// The error of `draft`, [`HistoryError::Busy`], or the error of the store. Nothing is
    /// published
    /// then.
    pub fn publish<'u>(
        &self,
        name: &ProfileName,
        uploads: Uploads<'u>,
        draft: impl FnMut(Option<&Revision>, &mut Uploads<'u>) -> Result<Draft>,
    ) -> Result<Revision> {
        self.publish_after(name, uploads, false, draft)
    }

    /// Publishes like [`Publisher::publish`]; with `unsigned` also after a head whose signature is
    /// no longer valid.
    fn publish_after<'u>(
        &self,
        name: &ProfileName,
        mut uploads: Uploads<'u>,
        unsigned: bool,
        mut draft: impl FnMut(Option<&Revision>, &mut Uploads<'u>) -> Result<Draft>,
    ) -> Result<Revision> {
        if self.history.is_removed(name)? {
            return Err(HistoryError::Removed(name.to_string()));
        }
        if self.rehearsal.is_none() {
            uploads.put(self.store())?;
        }
        for attempt in 0..ATTEMPTS_MAX {
            let head = match unsigned {
                false => self.history.head(name)?,
                true => self.history.unsigned_head(name)?,
            };
            let mut drafted = Uploads::default();
            let draft = draft(head.as_ref(), &mut drafted)?;
            if let Some(rehearsal) = &self.rehearsal {
                let uploads = [&uploads, &drafted];
                return self.rehearse(rehearsal, name, head.as_ref(), draft, uploads);
            }
            let index = self.upload_beside(name, head.as_ref(), &draft, &mut drafted)?;
            let again = [&uploads, &drafted];
            if let Some(revision) = self.commit(name, head.as_ref(), draft, &index, again)? {
                return Ok(revision);
            }
            std::thread::sleep(Duration::from_millis(u64::from(attempt % 8) * 5));
        }
        Err(HistoryError::Busy(name.to_string(), ATTEMPTS_MAX))
    }

    /// Makes the merged indexes, their deltas and the files of a draft, and stores them, in parallel.
    fn upload_beside(
        &self,
        name: &ProfileName,
        parent: Option<&Revision>,
        draft: &Draft,
        files: &mut Uploads<'_>,
    ) -> Result<Indexes> {
        std::thread::scope(|scope| {
            let indexes = scope.spawn(|| {
                let indexes = self.upload_indexes(draft)?;
                self.upload_deltas(name, parent, draft, &indexes);
                Ok(indexes)
            });
            let put = files.put(self.store());
            let lost = |_| Err(HistoryError::Refused("making an index failed".into()));
            let indexes = indexes.join().unwrap_or_else(lost);
            put.and(indexes)
        })
    }

    /// One attempt; `None` if another process took the number.
    fn commit(
        &self,
        name: &ProfileName,
        parent: Option<&Revision>,
        draft: Draft,
        index: &Indexes,
        uploads: [&Uploads<'_>; 2],
    ) -> Result<Option<Revision>> {
        let manifest = complete(name, parent, draft, index);
        let bytes = manifest.render()?;
        let reference = ObjectRef {
            digest: Digest::of(&bytes),
            len: bytes.len() as u64,
        };
        let head = Head {
            expires_at: self.lifetime.map(|time| manifest.time + time.as_secs()),
            format: RECORD_FORMAT,
            issued_at: manifest.time,
            manifest: reference,
            previous: parent.map(|parent| parent.digest),
            profile: name.profile.clone(),
            revision: manifest.revision,
            system: name.system.clone(),
        };
        let payload = head.render()?;
        let envelope = self.signer.sign(HEAD_NAMESPACE, &payload)?.render()?;
        self.require_believed(name, &envelope)?;
        let guard = guard::publish(self.store())?;
        self.require_objects(&manifest, index, uploads)?;
        self.store()
            .create_object(&Key::manifest(&reference.digest), Bytes::from(bytes))?;
        if !guard.holds() {
            return Ok(None);
        }
        let key = Key::head(name, head.revision);
        let created = self.store().create_object(&key, Bytes::from(envelope))?;
        drop(guard);
        if created == Created::Exists {
            return Ok(None);
        }
        let hint = Bytes::from(head.revision.to_string());
        if let Err(error) = self.store().overwrite(&Key::hint(name), hint) {
            tracing::warn!("{error}: finding the head will take a little longer");
        }
        if let Err(error) = self.carry_quarantine(name, &manifest) {
            let number = manifest.revision;
            tracing::error!(
                "{name}@{number} has the contents of a quarantined revision and is not quarantined: {error}"
            );
        }
        Ok(Some(Revision {
            head,
            digest: Digest::of(&payload),
            manifest,
        }))
    }

    /// A head that readers refuse never continues a history: nothing could be published after it.
    fn require_believed(&self, name: &ProfileName, envelope: &[u8]) -> Result<()> {
        let wanted = RevisionName {
            name: name.clone(),
            revision: None,
        };
        let (anchors, keyset) = (self.history.anchors(), Some(self.history.keyset()));
        verify_head(envelope, anchors, keyset, &wanted, clock::now(), 0)
            .map(drop)
            .map_err(|source| HistoryError::Signer {
                name: name.to_string(),
                source,
            })
    }

    /// Checks that every object of the manifest is in the store with its length; uploads again
    /// those that a sweep deleted.
    fn require_objects(
        &self,
        manifest: &Manifest,
        index: &Indexes,
        uploads: [&Uploads<'_>; 2],
    ) -> Result<()> {
        for (reference, bytes) in index.made() {
            self.store()
                .create_object(&Key::index(&reference.digest), bytes.clone())?;
        }
        for (key, len) in objects(manifest) {
            let found = match self.store().len(&key)? {
                Some(found) => found,
                None => {
                    let file = uploads.iter().find_map(|uploads| uploads.file(&key));
                    let file = file.ok_or_else(|| StoreError::Missing(key.clone()))?;
                    self.store().put_file(&key, file)?;
                    self.store().len(&key)?.unwrap_or_default()
                }
            };
            if found != len {
                let what = format!("{found} bytes long, not {len}");
                return Err(StoreError::Damaged { key, what }.into());
            }
        }
        Ok(())
    }
}

fn complete(
    name: &ProfileName,
    parent: Option<&Revision>,
    draft: Draft,
    index: &Indexes,
) -> Manifest {
    Manifest {
        action: draft.action,
        author: draft.author,
        base: draft.base,
        borrowed: index.borrowed.clone(),
        cmdline: draft.cmdline,
        format: RECORD_FORMAT,
        index: index.reference,
        initrd: draft.initrd,
        kernel: draft.kernel,
        layers: draft.layers,
        message: draft.message,
        pack: draft.pack,
        plain: index.plain.as_ref().map(|plain| plain.0),
        parent: parent.map(|parent| parent.head.manifest.digest),
        profile: name.profile.clone(),
        revision: parent.map_or(0, Revision::number) + 1,
        system: name.system.clone(),
        // If the clock was set back, the times of a history still do not decrease.
        time: clock::now().max(parent.map_or(0, |parent| parent.head.issued_at)),
        tree_digest: index.tree_digest,
    }
}
