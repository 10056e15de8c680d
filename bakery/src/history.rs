//! The histories of a store: signed, numbered revisions that never change.

mod conflict;
mod content;
mod error;
mod missing;
mod names;
mod place;
mod revision;
mod rings;
mod stack;
mod swept;
mod tag;
mod touched;

use std::collections::BTreeSet;
use std::sync::Arc;

use layerfmt::flatten::{MergedIndex, flatten_layers};
use layerfmt::{Digest, Layer, LayerSet};
use wire::manifest::{
    Head, Keyset, MANIFEST_LEN_MAX, Manifest, ObjectRef, ProfileName, RevisionName,
};
use wire::paths::ObjectPath;
use wire::trust::{
    AllowedSigners, ENVELOPE_LEN_MAX, Envelope, HEAD_NAMESPACE, TrustError, VerifiedHead,
    public_key_line, verify_head, verify_manifest, verify_previous,
};

use crate::clock;
use crate::keys;
use crate::limits::HINT_LEN_MAX;
use crate::store::{Key, Store};

pub use conflict::Conflict;
pub(crate) use content::write_content;
pub use error::HistoryError;
pub use place::{Lost, TreePlace, find};
pub use revision::Revision;
pub(crate) use stack::merged_input;
pub use stack::{objects, reference, stack};
pub use tag::Tag;
pub use touched::Touched;

/// `Result` with a [`HistoryError`].
pub type Result<T> = std::result::Result<T, HistoryError>;

/// All histories of one store, read with the keys of its readers.
#[derive(Debug)]
pub struct History {
    store: Store,
    anchors: AllowedSigners,
    keyset: Keyset,
}

impl History {
    /// The histories of `store`, verified as by a reader with `anchors`.
    ///
    /// # Errors
    /// The store has no keyset that `anchors` trust.
    pub fn open(store: Store, anchors: AllowedSigners) -> Result<History> {
        let keyset =
            keys::newest(&store, &anchors)?.ok_or(HistoryError::Trust(TrustError::NoKeyset))?;
        Ok(History {
            store,
            anchors,
            keyset,
        })
    }

    /// The store of this history.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The newest keyset when the store was opened.
    pub fn keyset(&self) -> &Keyset {
        &self.keyset
    }

    /// The keys that may sign keysets.
    pub fn anchors(&self) -> &AllowedSigners {
        &self.anchors
    }

    /// The number of the newest revision: the hint gives the starting point, the heads decide.
    ///
    /// # Errors
    /// The store fails.
    pub fn newest(&self, name: &ProfileName) -> Result<Option<u64>> {
        let hint = self
            .store
            .get(&Key::hint(name), HINT_LEN_MAX)
            .ok()
            .flatten();
        let hint = hint.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok());
        if let Some(mut newest) = hint
            && newest > 0
            && self.store.len(&Key::head(name, newest))?.is_some()
        {
            while self.store.len(&Key::head(name, newest + 1))?.is_some() {
                newest += 1;
            }
            return Ok(Some(newest));
        }
        let listed = self.store.list(&ObjectPath::heads_of(name))?;
        Ok(listed.iter().filter_map(|entry| entry.key.number()).max())
    }

    /// The newest revision, its signature checked as a client would; `None` for a new history.
    ///
    /// # Errors
    /// When a record is missing, damaged or not signed by a key that may.
    pub fn head(&self, name: &ProfileName) -> Result<Option<Revision>> {
        let Some(newest) = self.newest(name)? else {
            return Ok(None);
        };
        let wanted = RevisionName {
            name: name.clone(),
            revision: Some(newest),
        };
        let envelope = self.envelope(name, newest)?;
        let (anchors, keyset) = (&self.anchors, Some(&self.keyset));
        let head = verify_head(&envelope, anchors, keyset, &wanted, clock::now(), 0);
        Ok(Some(self.revision_of(
            head.map_err(|e| HistoryError::of(&wanted, e))?,
        )?))
    }

    /// Reads the head like [`History::head`], regardless of its signer, for replacing keys.
    ///
    /// # Errors
    /// A record is missing or damaged.
    pub(crate) fn unsigned_head(&self, name: &ProfileName) -> Result<Option<Revision>> {
        let Some(newest) = self.newest(name)? else {
            return Ok(None);
        };
        let envelope = Envelope::parse(&self.envelope(name, newest)?)?;
        let head = Head::parse(envelope.payload.as_bytes())?;
        let wanted = RevisionName {
            name: name.clone(),
            revision: Some(newest),
        };
        let found = RevisionName {
            name: head.name(),
            revision: Some(head.revision),
        };
        if wanted != found {
            let (wanted, found) = (wanted.to_string(), found.to_string());
            return Err(TrustError::WrongName { wanted, found }.into());
        }
        let digest = Digest::of(envelope.payload.as_bytes());
        let signer = String::new();
        Ok(Some(self.revision_of(VerifiedHead {
            head,
            digest,
            signer,
        })?))
    }

    /// The key that signed a revision's head, by default the newest one's, as keysets spell it.
    ///
    /// # Errors
    /// When the head is missing or damaged.
    pub fn signer_line(&self, name: &ProfileName, revision: Option<u64>) -> Result<Option<String>> {
        let number = match revision {
            Some(number) => Some(number),
            None => self.newest(name)?,
        };
        let Some(number) = number else {
            return Ok(None);
        };
        let envelope = Envelope::parse(&self.envelope(name, number)?)?;
        let key = envelope.signed_by(HEAD_NAMESPACE)?;
        Ok(Some(public_key_line(&key)?))
    }

    /// A revision that must exist: the newest, or an older one reached through the chain, so that
    /// it is valid even after its key was withdrawn.
    ///
    /// # Errors
    /// [`HistoryError::NoHistory`], [`HistoryError::NoRevision`], and the errors of
    /// [`History::head`].
    pub fn revision(&self, wanted: &RevisionName) -> Result<Revision> {
        let mut found = self.require_head(&wanted.name)?;
        let number = wanted.revision.unwrap_or(found.number());
        if number > found.number() {
            let newest = found.number();
            return Err(HistoryError::NoRevision {
                wanted: wanted.to_string(),
                newest,
            });
        }
        let mut newer = found.head.clone();
        while newer.revision > number {
            newer = self.previous_head(&newer)?.head;
        }
        if newer.revision != found.number() {
            let digest = Digest::of(&newer.render()?);
            found = self.revision_of(VerifiedHead {
                head: newer,
                digest,
                signer: String::new(),
            })?;
        }
        Ok(found)
    }

    /// Reads the head like [`History::head`], of a history that must exist.
    ///
    /// # Errors
    /// [`HistoryError::NoHistory`], and the errors of [`History::head`].
    pub fn require_head(&self, name: &ProfileName) -> Result<Revision> {
        self.head(name)?.ok_or_else(|| self.no_history(name))
    }

    /// The revisions of a history, newest first, at most `count_max`.
    ///
    /// # Errors
    /// The errors of [`History::head`], at the first broken link.
    pub fn log(&self, name: &ProfileName, count_max: usize) -> Result<Vec<Revision>> {
        self.chain(self.require_head(name)?, count_max)
    }

    /// Lists revisions like [`History::log`], regardless of the head's signer: for maintaining the
    /// store, not for booting.
    ///
    /// # Errors
    /// The first broken link.
    pub fn walk(&self, name: &ProfileName, count_max: usize) -> Result<Vec<Revision>> {
        let head = self.unsigned_head(name)?;
        let head = head.ok_or_else(|| self.no_history(name))?;
        self.chain(head, count_max)
    }

    /// The revision that [`History::walk`] meets.
    ///
    /// # Errors
    /// When there is none, or a link is broken.
    pub(crate) fn walk_to(&self, wanted: &RevisionName) -> Result<Revision> {
        let mut revisions = self.walk(&wanted.name, usize::MAX)?;
        let newest = revisions.first().map_or(0, Revision::number);
        revisions.retain(|revision| Some(revision.number()) == wanted.revision);
        let found = revisions.pop();
        found.ok_or_else(|| HistoryError::NoRevision {
            wanted: wanted.to_string(),
            newest,
        })
    }

    /// The revisions of a history that have tags.
    ///
    /// # Errors
    /// When a tag cannot be read.
    pub(crate) fn tagged(&self, name: &ProfileName) -> Result<BTreeSet<u64>> {
        Ok(self
            .tags(name)?
            .into_iter()
            .map(|tag| tag.revision)
            .collect())
    }

    /// Lists `revision` and those before it, newest first, `count_max` in all.
    ///
    /// # Errors
    /// The first broken link.
    pub(crate) fn before(&self, revision: &Revision, count_max: usize) -> Result<Vec<Revision>> {
        self.chain(revision.clone(), count_max)
    }

    fn chain(&self, head: Revision, count_max: usize) -> Result<Vec<Revision>> {
        let mut revisions = vec![head];
        while let Some(last) = revisions.last()
            && last.number() > 1
            && revisions.len() < count_max
        {
            let previous = self.previous_head(&last.head)?;
            revisions.push(self.revision_of(previous)?);
        }
        Ok(revisions)
    }

    /// The merged index of a revision, with content digests and no chunk in a boot pack.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn merged(&self, manifest: &Manifest) -> Result<MergedIndex> {
        Ok(MergedIndex::from_layer(&self.index_file(manifest)?, true)?)
    }

    /// The file of the merged index of a revision: as of [`History::merged`].
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub(crate) fn index_file(&self, manifest: &Manifest) -> Result<Layer> {
        let digest = &manifest.plain.as_ref().unwrap_or(&manifest.index).digest;
        let layer = self.store.open_layer(&Key::index(digest), digest);
        layer.map_err(|error| self.or_swept(manifest, error))
    }

    /// The merged index of a stack, lowest first.
    ///
    /// # Errors
    /// When a layer is missing or damaged.
    pub fn flatten(&self, stack: &[ObjectRef]) -> Result<MergedIndex> {
        let layers = stack.iter().map(|layer| self.layer(&layer.digest));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        Ok(flatten_layers(layers.iter().map(|layer| &**layer), true)?)
    }

    /// One layer of the store.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn layer(&self, digest: &Digest) -> Result<Arc<Layer>> {
        Ok(Arc::new(
            self.store.open_layer(&Key::layer(digest), digest)?,
        ))
    }

    /// All layers that a revision's chunks are in.
    ///
    /// # Errors
    /// When one is missing or damaged.
    pub fn layers(&self, manifest: &Manifest) -> Result<LayerSet> {
        let references = manifest.layers.iter().chain(&manifest.borrowed);
        let layers = references.map(|layer| self.layer_of(manifest, &layer.digest));
        let mut layers = layers.collect::<Result<Vec<_>>>()?;
        if let Some(pack) = &manifest.pack {
            layers.push(Arc::new(
                self.store
                    .open_layer(&Key::pack(&pack.digest), &pack.digest)?,
            ));
        }
        Ok(LayerSet::new(layers))
    }

    fn previous_head(&self, newer: &Head) -> Result<VerifiedHead> {
        let name = newer.name();
        let envelope = self.envelope(&name, newer.revision - 1)?;
        verify_previous(newer, &envelope).map_err(|e| {
            let wanted = RevisionName {
                name,
                revision: Some(newer.revision - 1),
            };
            HistoryError::of(&wanted, e)
        })
    }

    fn envelope(&self, name: &ProfileName, revision: u64) -> Result<bytes::Bytes> {
        Ok(self
            .store
            .require(&Key::head(name, revision), ENVELOPE_LEN_MAX as u64)?)
    }

    fn revision_of(&self, verified: VerifiedHead) -> Result<Revision> {
        let key = Key::manifest(&verified.head.manifest.digest);
        let bytes = self.store.require(&key, MANIFEST_LEN_MAX as u64)?;
        let manifest = verify_manifest(&bytes, &verified.head).map_err(|e| {
            let revision = Some(verified.head.revision);
            HistoryError::of(
                &RevisionName {
                    name: verified.head.name(),
                    revision,
                },
                e,
            )
        })?;
        Ok(Revision {
            head: verified.head,
            digest: verified.digest,
            manifest,
        })
    }
}
