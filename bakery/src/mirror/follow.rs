//! One round of a mirror: for each history, what the origin has and the mirror does not.

use bytes::Bytes;
use layerfmt::Digest;
use wire::manifest::{Head, MANIFEST_LEN_MAX, Manifest, ProfileName, RevisionName};
use wire::paths::{Class, ObjectPath};
use wire::trust::{
    AllowedSigners, ENVELOPE_LEN_MAX, Envelope, verify_head, verify_keysets, verify_manifest,
    verify_previous,
};

use super::merged;
use super::parts::PartialObjects;
use super::update::Updates;
use super::{MirrorError, MirrorOptions, MirrorOrigin, Mirrored, Result};
use crate::clock;
use crate::history::{History, objects};
use crate::limits;
use crate::store::{Created, Key, Store, guard};

/// A store that follows another one.
pub(crate) struct Mirror<'m> {
    pub(crate) store: &'m Store,
    pub(crate) anchors: &'m AllowedSigners,
    pub(crate) options: &'m MirrorOptions,
    pub(crate) origin: &'m mut dyn MirrorOrigin,
}

/// A head that the mirror lacks.
struct NewHead {
    head: Head,
    envelope: Vec<u8>,
}

impl Mirror<'_> {
    /// Brings everything that is new.
    ///
    /// # Errors
    /// The first fault; what is complete until then stays, and the next round continues.
    pub(crate) fn round(&mut self) -> Result<Mirrored> {
        let names = match self.options.names.is_empty() {
            false => self.options.names.clone(),
            true => self.origin.profiles()?.ok_or_else(|| MirrorError::Origin {
                origin: self.origin.name(),
                what: "it lists no systems: name those to follow".into(),
            })?,
        };
        let mut mirrored = Mirrored::default();
        self.keysets()?;
        for name in &names {
            self.history(name, &mut mirrored)?;
        }
        Ok(mirrored)
    }

    fn require(&mut self, path: &ObjectPath, len_max: usize, by: &str) -> Result<Vec<u8>> {
        let found = self.origin.read(path, len_max)?;
        found.ok_or_else(|| self.missing(path, by))
    }

    fn missing(&self, path: &ObjectPath, by: &str) -> MirrorError {
        MirrorError::Missing {
            origin: self.origin.name(),
            path: path.to_string(),
            by: by.to_owned(),
        }
    }

    /// All keysets, verified as one chain before any is stored.
    fn keysets(&mut self) -> Result<()> {
        let mut keysets = Vec::new();
        for version in 1.. {
            let path = ObjectPath::Keyset(version);
            match self.origin.read(&path, ENVELOPE_LEN_MAX)? {
                Some(_) if keysets.len() == limits::MIRROR_KEYSETS_MAX => {
                    return Err(self.endless("keyset versions", limits::MIRROR_KEYSETS_MAX as u64));
                }
                Some(keyset) => keysets.push(keyset),
                None => break,
            }
        }
        if keysets.is_empty() {
            return Err(self.missing(&ObjectPath::Keyset(1), "every head"));
        }
        let all = keysets.iter().map(Vec::as_slice);
        let trust = |path: &ObjectPath| {
            let path = path.to_string();
            move |source| MirrorError::Trust { path, source }
        };
        verify_keysets(all, self.anchors, clock::now(), 0)
            .map_err(trust(&ObjectPath::Keyset(keysets.len() as u64)))?;
        for (version, keyset) in (1..).zip(keysets) {
            let key = Key::keyset(version);
            let bytes = Bytes::from(keyset);
            let created = self.store.create_object(&key, bytes.clone())?;
            let same = || self.store.get(&key, ENVELOPE_LEN_MAX as u64);
            if created == Created::Exists && same()?.as_ref() != Some(&bytes) {
                if !self.options.replace {
                    return Err(self.differs(Class::Keyset.directory(), version));
                }
                self.store.overwrite(&key, bytes)?;
            }
        }
        Ok(())
    }

    pub(super) fn endless(&self, what: &str, most: u64) -> MirrorError {
        MirrorError::Origin {
            origin: self.origin.name(),
            what: format!("it has more than {most} {what}: no store does"),
        }
    }

    fn differs(&self, name: &str, revision: u64) -> MirrorError {
        MirrorError::Differs {
            origin: self.origin.name(),
            name: name.to_owned(),
            revision,
        }
    }

    fn history(&mut self, name: &ProfileName, mirrored: &mut Mirrored) -> Result<()> {
        let Some((newest, envelope)) = self.newest(name)? else {
            let path = ObjectPath::Head(name.clone(), 1);
            return Err(self.missing(&path, &name.to_string()));
        };
        let history = History::open(self.store.clone(), self.anchors.clone())?;
        let here = history.newest(name)?.unwrap_or(0);
        let mut updates = Updates::default();
        for new in self.new_heads(&history, name, (newest, envelope), here)? {
            self.know_chunks(&history, name, (new.head.revision, newest), &mut updates)?;
            let is_newest = new.head.revision == newest;
            self.revision(&history, new, is_newest, &mut updates, mirrored)?;
        }
        // Only a history that is taken over ends earlier than ours.
        for revision in newest + 1..=here {
            self.store.delete(&Key::head(name, revision))?;
        }
        mirrored.made_by_updates += updates.bytes;
        self.rings(&history, name, newest, mirrored)?;
        self.offer_updates(&history, name, newest, mirrored)?;
        self.offer_deltas(&history, name, mirrored)?;
        updates.remove_files()?;
        let removed = ObjectPath::Removed(name.clone());
        if let Some(mark) = self.origin.read(&removed, limits::MIRROR_MARK_LEN_MAX)? {
            self.store
                .overwrite(&Key::removed(name), Bytes::from(mark))?;
        }
        Ok(())
    }

    /// The newest revision of the origin, and its head: the hint says where to look.
    fn newest(&mut self, name: &ProfileName) -> Result<Option<(u64, Vec<u8>)>> {
        let hint = self.origin.read(
            &ObjectPath::Hint(name.clone()),
            limits::HINT_LEN_MAX as usize,
        )?;
        let hint = hint.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok());
        let mut found = None;
        for start in [hint.unwrap_or(1_u64), 1] {
            let last = start.saturating_add(limits::MIRROR_HEADS_AHEAD_MAX);
            for revision in start..=last {
                if revision == last {
                    return Err(self.endless("heads", limits::MIRROR_HEADS_AHEAD_MAX));
                }
                let path = ObjectPath::Head(name.clone(), revision);
                match self.origin.read(&path, ENVELOPE_LEN_MAX)? {
                    Some(envelope) => found = Some((revision, envelope)),
                    None => break,
                }
            }
            if found.is_some() {
                break;
            }
        }
        Ok(found)
    }

    /// The heads after `here`, oldest first, verified as one chain that continues the history here.
    fn new_heads(
        &mut self,
        history: &History,
        name: &ProfileName,
        (newest, envelope): (u64, Vec<u8>),
        here: u64,
    ) -> Result<Vec<NewHead>> {
        let wanted = RevisionName {
            name: name.clone(),
            revision: Some(newest),
        };
        let keyset = Some(history.keyset());
        let verified = verify_head(&envelope, self.anchors, keyset, &wanted, clock::now(), 0);
        let trust = |revision: u64| {
            let path = ObjectPath::Head(name.clone(), revision).to_string();
            move |source| MirrorError::Trust { path, source }
        };
        let verified = verified.map_err(trust(newest))?;
        if newest < here && !self.options.replace {
            return Err(self.differs(&name.to_string(), newest + 1));
        }
        let mut new = Vec::new();
        let mut next = NewHead {
            head: verified.head,
            envelope,
        };
        loop {
            let revision = next.head.revision;
            let there = self
                .store
                .get(&Key::head(name, revision), ENVELOPE_LEN_MAX as u64)?;
            if there.is_some_and(|there| is_same_head(&there, &next.envelope)) {
                break;
            }
            if revision <= here && !self.options.replace {
                return Err(self.differs(&name.to_string(), revision));
            }
            if revision == 1 {
                new.push(next);
                break;
            }
            let path = ObjectPath::Head(name.clone(), revision - 1);
            let envelope = self.require(&path, ENVELOPE_LEN_MAX, &name.to_string())?;
            let previous = verify_previous(&next.head, &envelope).map_err(trust(revision - 1))?;
            let head = previous.head;
            new.push(std::mem::replace(&mut next, NewHead { head, envelope }));
        }
        new.reverse();
        Ok(new)
    }

    /// Brings the objects of a revision, then creates its head.
    fn revision(
        &mut self,
        history: &History,
        new: NewHead,
        is_newest: bool,
        updates: &mut Updates,
        mirrored: &mut Mirrored,
    ) -> Result<()> {
        let (name, revision) = (new.head.name(), new.head.revision);
        let full = RevisionName {
            name: name.clone(),
            revision: Some(revision),
        }
        .to_string();
        let path = ObjectPath::Manifest(new.head.manifest.digest);
        let bytes = self.require(&path, MANIFEST_LEN_MAX, &full)?;
        let manifest = verify_manifest(&bytes, &new.head).map_err(|source| MirrorError::Trust {
            path: path.to_string(),
            source,
        })?;
        let is_whole = self.objects(history, &manifest, &full, updates, mirrored)?;
        if is_newest && !is_whole {
            // The mark is not signed, and clients boot this revision.
            return Err(self.missing(&path, &full));
        }
        self.store
            .create_object(&Key::manifest(&Digest::of(&bytes)), Bytes::from(bytes))?;
        let _guard = guard::publish(self.store)?;
        // A sweep may have deleted objects that no head named yet.
        for (key, len) in objects(&manifest).filter(|_| is_whole) {
            if self.store.len(&key)? != Some(len) {
                return Err(crate::store::StoreError::Missing(key).into());
            }
        }
        let key = Key::head(&name, revision);
        let envelope = Bytes::from(new.envelope);
        if self.store.create_object(&key, envelope.clone())? == Created::Exists {
            self.store.overwrite(&key, envelope)?;
        }
        let hint = Bytes::from(revision.to_string());
        self.store.overwrite(&Key::hint(&name), hint)?;
        mirrored.revisions += 1;
        tracing::info!(revision = full, "mirrored");
        Ok(())
    }

    /// Brings the objects of a revision; false if the origin has deleted some on purpose.
    fn objects(
        &mut self,
        history: &History,
        manifest: &Manifest,
        full: &str,
        updates: &mut Updates,
        mirrored: &mut Mirrored,
    ) -> Result<bool> {
        let parts = PartialObjects::of(self.store)?;
        let mut wanted: Vec<(Key, u64)> = objects(manifest).collect();
        // Indexes last: the mirror makes them from the others.
        let is_index = |key: &Key| key.object().is_some_and(|it| it.class() == Class::Index);
        wanted.sort_by_key(|(key, _)| is_index(key));
        let mut indexes = None;
        for (key, len) in wanted {
            let Some(path) = key.object() else { continue };
            if self.store.len(&key)? == Some(len) {
                continue;
            }
            if is_index(&key) {
                let indexes = indexes.get_or_insert_with(|| merged::indexes(history, manifest));
                let file = key.digest().and_then(|digest| indexes.remove(&digest));
                if let Some(file) = file.filter(|file| file.len() as u64 == len) {
                    self.put(&key, file, mirrored)?;
                    continue;
                }
            }
            let (origin, store) = (&mut *self.origin, self.store);
            if parts.bring(origin, store, (&path, len), updates, mirrored)? {
                continue;
            }
            let swept = ObjectPath::Swept(manifest.name(), manifest.revision);
            let Some(mark) = self.origin.read(&swept, limits::MIRROR_MARK_LEN_MAX)? else {
                return Err(self.missing(&path, full));
            };
            self.store.overwrite(&Key::from(swept), Bytes::from(mark))?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Stores an object that was made here.
    fn put(&self, key: &Key, object: Vec<u8>, mirrored: &mut Mirrored) -> Result<()> {
        let len = object.len() as u64;
        // An object of another length is a leftover of a full disk.
        if self.store.len(key)?.is_some() {
            self.store.delete(key)?;
        }
        self.store.create_object(key, Bytes::from(object))?;
        mirrored.objects += 1;
        mirrored.bytes += len;
        Ok(())
    }
}

/// True if both envelopes hold the same head; signatures may differ.
fn is_same_head(one: &[u8], other: &[u8]) -> bool {
    let payload = |bytes: &[u8]| Some(Envelope::parse(bytes).ok()?.payload);
    one == other || payload(one).is_some_and(|one| payload(other) == Some(one))
}
