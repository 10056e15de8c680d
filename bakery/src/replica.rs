//! Copies a store to another place: a backup, a restore, a move to a bucket.
//!
//! Objects are copied first and heads last, as by a publisher, so the copy is a valid store at
//! every moment. Existing objects are not sent again, so the next copy continues an interrupted
//! one. Each object is verified against its name.

mod object;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use wire::manifest::{Head, MANIFEST_LEN_MAX, Manifest};
use wire::paths::{Class, ObjectPath};
use wire::trust::{ENVELOPE_LEN_MAX, Envelope, TrustError};

pub(crate) use object::verify as verify_object;

use crate::history::objects;
use crate::limits::MARK_LEN_MAX;
use crate::store::{Created, Key, ObjectEntry, Store, StoreError};

/// Records that are created and deleted: the copy has exactly those of the source.
const MARKS: [Class; 4] = [Class::Tag, Class::Removed, Class::Swept, Class::Purge];
/// Number of objects that are copied at the same time.
const WORKER_COUNT: usize = 4;

/// The reason why a store could not be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplicaError {
    /// One of the stores failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The destination holds something else.
    #[error(
        "{place} is not a copy of {source_place}: its {key} differs; copy to an empty place, or use --replace to overwrite it"
    )]
    Differs {
        /// Location of the destination.
        place: String,
        /// Location of the source.
        source_place: String,
        /// The first record that differs.
        key: Key,
    },
    /// Both are one.
    #[error("{0} is the source itself")]
    Same(String),
}

/// Which objects of the destination are read back and verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ReadBack {
    /// Objects that this run copies.
    #[default]
    New,
    /// All objects, also those that DST already has.
    All,
    /// No objects: each is verified only before it is sent.
    None,
}

/// Options of a copy.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReplicaOptions {
    /// Objects to read back.
    pub read_back: ReadBack,
    /// Overwrite heads, ring records and keysets of the destination that are others.
    pub replace: bool,
}

/// The result of a copy.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Copied {
    /// Objects copied now.
    pub objects: usize,
    /// Their length, bytes.
    pub bytes: u64,
    /// Objects that were there already.
    pub objects_there: usize,
    /// Heads, ring records and keysets that are in the copy.
    pub records: usize,
    /// Defects of the source, one line each: damaged or missing objects.
    pub defects: Vec<String>,
}

/// Copies every object of `from` to `to`. `progress` gets the bytes copied.
///
/// # Errors
/// When a store fails or `to` holds another history. Damage in the source is a defect of the result, and is not copied.
pub(crate) fn copy(
    from: &Store,
    to: &Store,
    options: ReplicaOptions,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Copied, ReplicaError> {
    if from.location() == to.location() || (from.root().is_some() && from.root() == to.root()) {
        return Err(ReplicaError::Same(to.location().into()));
    }
    // The heads of this moment: all that they name is there before, so it is in the listings that follow.
    // A ring record names heads that were there before it.
    let rings = from.list(Class::Ring.directory())?;
    let heads = from.list(Class::Head.directory())?;
    let mut copied = Copied::default();
    let copying = Copying {
        from,
        to,
        options,
        progress,
    };
    copying.objects(&mut copied)?;
    for entry in from.list(Class::Keyset.directory())? {
        copying.record(&entry.key)?;
        copied.records += 1;
    }
    for class in MARKS {
        copying.marks(class.directory())?;
    }
    copying.updates(&mut copied)?;
    for head in &heads {
        copying.head(&head.key, &mut copied)?;
    }
    for entry in from.list(Class::Values.directory())? {
        copying.record(&entry.key)?;
        copied.records += 1;
    }
    for record in &rings {
        copying.record(&record.key)?;
        copied.records += 1;
    }
    for hint in from.list(Class::Hint.directory())? {
        if let Some(bytes) = from.get(&hint.key, MARK_LEN_MAX)? {
            to.overwrite(&hint.key, bytes)?;
        }
    }
    Ok(copied)
}

struct Copying<'c> {
    from: &'c Store,
    to: &'c Store,
    options: ReplicaOptions,
    progress: &'c (dyn Fn(u64) + Sync),
}

impl Copying<'_> {
    fn objects(&self, copied: &mut Copied) -> Result<(), ReplicaError> {
        let mut wanted = VecDeque::new();
        for class in Class::CONTENT {
            let directory = class.directory();
            let there = self.to.list(directory)?.into_iter();
            let there: BTreeMap<Key, u64> = there.map(|entry| (entry.key, entry.len)).collect();
            for entry in self.from.list(directory)? {
                let is_there = there.get(&entry.key) == Some(&entry.len);
                copied.objects_there += usize::from(is_there);
                if !is_there || self.options.read_back == ReadBack::All {
                    wanted.push_back((entry, is_there));
                }
            }
        }
        let (queue, result) = (Mutex::new(wanted), Mutex::new((Ok(()), &mut *copied)));
        std::thread::scope(|scope| {
            for _ in 0..WORKER_COUNT {
                scope.spawn(|| {
                    while let Some((entry, is_there)) = next(&queue) {
                        let done = self.object(&entry, is_there);
                        let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
                        let (failure, copied) = &mut *result;
                        match done {
                            Ok(None) if is_there => {}
                            Ok(None) => {
                                copied.objects += 1;
                                copied.bytes += entry.len;
                            }
                            Ok(Some(defect)) => {
                                copied.defects.push(format!("{}: {defect}", entry.key))
                            }
                            Err(error) => {
                                *failure = Err(error);
                                queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                            }
                        }
                    }
                });
            }
        });
        let (failure, copied) = result.into_inner().unwrap_or_else(PoisonError::into_inner);
        copied.defects.sort();
        failure
    }

    /// Copies one object; returns its defect.
    fn object(&self, entry: &ObjectEntry, is_there: bool) -> Result<Option<String>, ReplicaError> {
        if !is_there {
            let staging = self.to.staging()?;
            let file = staging.path().join("object");
            match self.from.fetch(&entry.key, &file) {
                // It was swept meanwhile; the heads show if it is missing.
                Err(StoreError::Missing(_)) => return Ok(None),
                fetched => fetched?,
            }
            if let Err(defect) = object::verify(&entry.key, &file) {
                return Ok(Some(format!(
                    "damaged in {}: {defect}",
                    self.from.location()
                )));
            }
            // An object of another length is a leftover of a killed upload or a full disk.
            if self.to.len(&entry.key)?.is_some() {
                self.to.delete(&entry.key)?;
            }
            self.to.put_file(&entry.key, &file)?;
            (self.progress)(entry.len);
        }
        let again = match self.options.read_back {
            // On a local store this is the file that was verified.
            ReadBack::New => !is_there && self.to.root().is_none(),
            ReadBack::All => true,
            ReadBack::None => false,
        };
        if again {
            let staging = self.to.staging()?;
            let file = staging.path().join("copy");
            self.to.fetch(&entry.key, &file)?;
            if let Err(defect) = object::verify(&entry.key, &file) {
                let place = self.to.location();
                return Ok(Some(format!(
                    "damaged in {place}: {defect}; delete it there and copy again"
                )));
            }
        }
        Ok(None)
    }

    /// Copies update packs and index deltas. Their names describe their purpose, so one of the same name and length
    /// counts as the same.
    fn updates(&self, copied: &mut Copied) -> Result<(), ReplicaError> {
        let mut entries = self.from.list(Class::Update.directory())?;
        entries.extend(self.from.list(Class::Delta.directory())?);
        for entry in entries {
            if self.to.len(&entry.key)? == Some(entry.len) {
                copied.objects_there += 1;
                continue;
            }
            let staging = self.to.staging()?;
            let file = staging.path().join("update");
            match self.from.fetch(&entry.key, &file) {
                Err(StoreError::Missing(_)) => continue,
                fetched => fetched?,
            }
            if let Err(error) = crate::update_pack::verify_file(&file, None) {
                let place = self.from.location();
                let key = &entry.key;
                copied
                    .defects
                    .push(format!("{key}: damaged in {place}: {error}"));
                continue;
            }
            self.to.delete(&entry.key)?;
            self.to.put_file(&entry.key, &file)?;
            copied.objects += 1;
            copied.bytes += entry.len;
            (self.progress)(entry.len);
        }
        Ok(())
    }

    /// A record that is created once.
    fn record(&self, key: &Key) -> Result<(), ReplicaError> {
        let bytes = self.from.require(key, ENVELOPE_LEN_MAX as u64)?;
        if self.to.create_object(key, bytes.clone())? == Created::New {
            return Ok(());
        }
        if self.to.get(key, ENVELOPE_LEN_MAX as u64)?.as_ref() == Some(&bytes) {
            return Ok(());
        }
        if self.options.replace {
            return Ok(self.to.overwrite(key, bytes)?);
        }
        Err(ReplicaError::Differs {
            place: self.to.location().into(),
            source_place: self.from.location().into(),
            key: key.clone(),
        })
    }

    fn marks(&self, directory: &str) -> Result<(), ReplicaError> {
        let wanted = self.from.list(directory)?;
        for entry in self.to.list(directory)? {
            if !wanted.iter().any(|mark| mark.key == entry.key) {
                self.to.delete(&entry.key)?;
            }
        }
        for mark in wanted {
            if let Some(bytes) = self.from.get(&mark.key, MARK_LEN_MAX)? {
                self.to.overwrite(&mark.key, bytes)?;
            }
        }
        Ok(())
    }

    /// A head, after all that it names was looked for.
    fn head(&self, key: &Key, copied: &mut Copied) -> Result<(), ReplicaError> {
        let bytes = self.from.require(key, ENVELOPE_LEN_MAX as u64)?;
        match self.missing(&bytes) {
            Ok(missing) => {
                let is_swept = match swept_mark(key) {
                    Some(mark) => self.to.len(&mark)?.is_some(),
                    None => false,
                };
                for (object, what) in missing.iter().filter(|_| !is_swept) {
                    copied.defects.push(format!("{key}: {object} {what}"));
                }
            }
            Err(error) => copied.defects.push(format!("{key}: {error}")),
        }
        self.record(key)?;
        copied.records += 1;
        Ok(())
    }

    /// Objects that a head names and the copy does not have.
    fn missing(&self, head: &[u8]) -> Result<Vec<(Key, &'static str)>, TrustError> {
        let envelope = Envelope::parse(head)?;
        let head = Head::parse(envelope.payload.as_bytes())?;
        let key = Key::manifest(&head.manifest.digest);
        let Ok(Some(manifest)) = self.to.get(&key, MANIFEST_LEN_MAX as u64) else {
            return Ok(vec![(key, "is missing")]);
        };
        let manifest = Manifest::parse(&manifest)?;
        let missing = objects(&manifest).filter_map(|(key, len)| match self.to.len(&key) {
            Ok(Some(found)) if found == len => None,
            Ok(Some(_)) => Some((key, "has another length")),
            _ => Some((key, "is missing")),
        });
        Ok(missing.collect())
    }
}

fn next(queue: &Mutex<VecDeque<(ObjectEntry, bool)>>) -> Option<(ObjectEntry, bool)> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop_front()
}

/// The mark that says that parts of a head's revision were deleted on purpose.
fn swept_mark(head: &Key) -> Option<Key> {
    match head.object()? {
        ObjectPath::Head(name, revision) => Some(Key::swept(&name, revision)),
        _ => None,
    }
}
