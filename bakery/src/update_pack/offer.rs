//! The update packs in a store.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use layerfmt::Digest;
use layerfmt::update::{PREAMBLE_LEN, Preamble, UpdateHead};
use wire::manifest::{ProfileName, UpdateRecord};
use wire::paths::Class;
use wire::trust::{Envelope, verify_update};

use super::{Offer, Result, UpdateError};
use crate::clock;
use crate::history::{History, Revision};
use crate::store::{Key, Store};

/// All update packs of a store. Omits packs with an unreadable record.
///
/// # Errors
/// When the store cannot list.
pub fn offers(store: &Store) -> Result<Vec<Offer>> {
    let mut found = Vec::new();
    for entry in store.list(Class::Update.directory())? {
        let record = store.file(&entry.key).map_err(UpdateError::from);
        let record = record.and_then(|file| read_record(&file));
        match record {
            Ok((record, _)) => found.push(Offer {
                key: entry.key,
                len: entry.len,
                modified: entry.modified,
                record,
            }),
            Err(error) => {
                tracing::debug!(key = %entry.key, %error, "an update pack cannot be read")
            }
        }
    }
    Ok(found)
}

/// The record of the update pack in `file`, and its envelope. Does not check the signature.
///
/// # Errors
/// When the file is not an update pack.
pub(crate) fn read_record(file: &Path) -> Result<(UpdateRecord, Vec<u8>)> {
    let mut file = File::open(file)?;
    let mut first = [0; PREAMBLE_LEN];
    file.read_exact(&mut first)?;
    let preamble = Preamble::decode(&first)?;
    let mut record = vec![0; preamble.record_len as usize];
    file.read_exact(&mut record)?;
    let envelope = Envelope::parse(&record)?;
    Ok((UpdateRecord::parse(envelope.payload.as_bytes())?, record))
}

/// Verifies every byte of the update pack in `file` against its own record, with `history` also the
/// signature; returns the record.
///
/// # Errors
/// When the file cannot be read, or the first check that fails.
pub(crate) fn verify_file(
    file: &Path,
    history: Option<(&History, &ProfileName)>,
) -> Result<UpdateRecord> {
    let (record, envelope) = read_record(file)?;
    if let Some((history, name)) = history {
        let (anchors, keyset) = (history.anchors(), Some(history.keyset()));
        verify_update(&envelope, anchors, keyset, name, clock::now())?;
    }
    let wrong = |what: &str| UpdateError::Pair(format!("the update pack is damaged: {what}"));
    let (head, mut file) = head_of(file, &record, &envelope)?;
    if (head.from, head.to) != (record.from.index, record.to.index) {
        return Err(wrong("its head names other revisions"));
    }
    let frames = head.units.iter().map(|unit| (unit.stored_len, unit.digest));
    let index = head.index.map(|frame| (frame.stored_len, frame.digest));
    for (len, digest) in index.into_iter().chain(frames) {
        let mut hasher = blake3::Hasher::new();
        let read = io::copy(&mut (&mut file).take(u64::from(len)), &mut hasher)?;
        if read != u64::from(len) || Digest::from(hasher.finalize()) != digest {
            return Err(wrong("a frame has another digest"));
        }
    }
    if file.read(&mut [0])? != 0 || head.frames_len() != record.frames_len {
        return Err(wrong("its length is not the length of its frames"));
    }
    Ok(record)
}

/// The head of the update pack in `file`, verified against the record. Does not check the signature.
///
/// # Errors
/// When the file is not an update pack, or its head is damaged.
pub(super) fn read_head(file: &Path) -> Result<UpdateHead> {
    let (record, envelope) = read_record(file)?;
    head_of(file, &record, &envelope).map(|(head, _)| head)
}

/// An update pack whose record and head were read.
pub(crate) struct Opened {
    pub(crate) head: UpdateHead,
    /// Where the frames begin in the file.
    pub(crate) frames_at: u64,
    pub(crate) file: File,
}

impl Opened {
    /// Opens the file, whose record the caller has verified.
    ///
    /// # Errors
    /// When the file is not an update pack, or its head is damaged.
    pub(crate) fn of(file: &Path) -> Result<Opened> {
        let (record, envelope) = read_record(file)?;
        let (head, mut file) = head_of(file, &record, &envelope)?;
        Ok(Opened {
            head,
            frames_at: file.stream_position()?,
            file,
        })
    }

    /// `len` bytes of the frames from `offset` on.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn frame(&self, offset: u64, len: u32) -> Result<Vec<u8>> {
        let mut frame = vec![0; len as usize];
        self.file
            .read_exact_at(&mut frame, self.frames_at + offset)?;
        Ok(frame)
    }
}

/// The head, and the file at the frames.
fn head_of(file: &Path, record: &UpdateRecord, envelope: &[u8]) -> Result<(UpdateHead, File)> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start((PREAMBLE_LEN + envelope.len()) as u64))?;
    let mut stored = vec![0; record.head.len as usize];
    file.read_exact(&mut stored)?;
    let head = UpdateHead::decode(&stored, record.head.raw_len, &record.head.digest)?;
    Ok((head, file))
}

/// True if `offer` leads from one of the last `count` revisions of a history to its present newest
/// one. `revisions`: the history, newest first.
pub fn is_wanted(offer: &Offer, revisions: &[Revision], count: usize) -> bool {
    let fits = |revision: &Revision, end: &wire::manifest::UpdateEnd| {
        revision.number() == end.revision && revision.manifest.index.digest == end.index
    };
    let Some((newest, older)) = revisions.split_first() else {
        return false;
    };
    fits(newest, &offer.record.to)
        && older
            .iter()
            .take(count)
            .any(|revision| fits(revision, &offer.record.from))
}

/// True if the store has the pack from `from` to `to` and its record names the present indexes. A
/// purge rewrites revisions under their old numbers.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn is_there(history: &History, to: &Revision, from: &Revision) -> Result<bool> {
    let store = history.store();
    let key = Key::update(&to.manifest.name(), to.number(), from.number());
    if store.len(&key)?.is_none() {
        return Ok(false);
    }
    let record = read_record(&store.file(&key)?);
    Ok(record.is_ok_and(|(record, _)| {
        (record.from.index, record.to.index)
            == (from.manifest.index.digest, to.manifest.index.digest)
    }))
}

/// The revisions without an update pack to the newest, among the last `count` before it; newest
/// first. A revision with the index of the newest needs no pack.
///
/// # Errors
/// When the history or the store cannot be read.
pub fn missing(history: &History, name: &ProfileName, count: usize) -> Result<Vec<u64>> {
    let revisions = history.log(name, count + 1)?;
    let Some((newest, older)) = revisions.split_first() else {
        return Ok(Vec::new());
    };
    let mut missing = Vec::new();
    for revision in older {
        if revision.manifest.index == newest.manifest.index {
            continue;
        }
        let swept = history.is_swept(&revision.name())?;
        if !swept && !is_there(history, newest, revision)? {
            missing.push(revision.number());
        }
    }
    Ok(missing)
}
