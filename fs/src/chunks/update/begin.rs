//! Requests an update pack. The answer begins with the record, the head and the index, and
//! continues with the units.

use std::sync::Arc;

use layerfmt::Index;
use layerfmt::update::{PREAMBLE_LEN, Preamble, UpdateHead, decode_index};
use wire::manifest::{Keyset, Manifest, UpdateRecord};
use wire::paths::ObjectPath;
use wire::trust::{AllowedSigners, verify_update};

use super::Old;
use crate::limits::UPDATE_BEGINNING_LEN_MAX;
use crate::net::error::FetchError;
use crate::net::exchange::{Ask, HttpAnswer};
use crate::net::fetcher::FetcherShared;
use crate::net::object::Object;
use crate::net::records::now;
use crate::net::status::Counters;

/// An update pack whose record, head and index were read and verified.
pub(crate) struct Asked {
    /// The pack.
    pub(crate) object: Arc<Object>,
    /// Where the frames begin in the file.
    pub(crate) frames_at: u64,
    /// Preamble, record and head: the proof of the digests of raw chunks.
    pub(crate) proof: Vec<u8>,
    /// The contents of the head.
    pub(crate) head: UpdateHead,
    /// The new index, if the pack has it.
    pub(crate) index: Option<Arc<Index>>,
    /// Bytes received.
    pub(crate) received: u64,
    /// The rest of the answer.
    pub(super) answer: Option<(usize, HttpAnswer)>,
    /// Bytes of the file that came after the index.
    pub(super) ahead: Vec<u8>,
}

/// The reason why no update pack is used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Trust(#[from] wire::trust::TrustError),
    #[error(transparent)]
    Format(#[from] layerfmt::FormatError),
    #[error("it is of other revisions")]
    Other,
}

/// The keys that may sign, from the records of this mount.
pub(crate) struct Signers<'s> {
    pub(crate) anchors: &'s AllowedSigners,
    pub(crate) keyset: Option<&'s Keyset>,
}

/// Asks one server for the pack from `old` to `new`. Without one, or with a wrong one, the mount
/// continues as if there were none: it is requested once.
///
/// # Errors
/// There is none, or it cannot be used.
pub(crate) async fn begin(
    inner: &FetcherShared,
    signers: &Signers<'_>,
    old: &Old,
    new: &Manifest,
) -> Result<Asked, Refused> {
    let path = ObjectPath::Update(new.name(), new.revision, old.revision);
    let object = Arc::new(Object::update(&path));
    let (index, server) = inner.server(0).await?;
    let ask = Ask::get(object.path.clone(), inner.mirrors.stall(index));
    let answer = server.ask_h1(&ask).await.and_then(|answer| {
        answer.check_status()?;
        Ok(answer)
    });
    let answer = answer.inspect_err(|error| {
        if !error.is_missing() {
            inner.mirrors.failed(index, &object.path, error);
        }
    })?;
    let mut reading = Reading {
        inner,
        answer,
        bytes: Vec::new(),
    };
    let preamble = Preamble::decode(reading.upto(PREAMBLE_LEN).await?)?;
    let place = preamble.head();
    let record_end = usize::try_from(place.start).unwrap_or(usize::MAX);
    let record = reading.upto(record_end).await?;
    let record = record.get(PREAMBLE_LEN..).unwrap_or_default();
    let record = verify_update(record, signers.anchors, signers.keyset, &new.name(), now())?;
    if !fits(&record, old, new) || record.head.len != preamble.head_len {
        return Err(Refused::Other);
    }
    let frames_at = usize::try_from(place.end).unwrap_or(usize::MAX);
    let proof = reading.upto(frames_at).await?.to_vec();
    let stored = proof.get(record_end..).unwrap_or_default();
    let head = UpdateHead::decode(stored, record.head.raw_len, &record.head.digest)?;
    if (head.from, head.to) != (old.digest, new.index.digest) {
        return Err(Refused::Other);
    }
    let mut made = None;
    let mut index_end = frames_at;
    if let Some(frame) = &head.index {
        index_end = frames_at.saturating_add(frame.stored_len as usize);
        let whole = reading.upto(index_end).await?;
        let stored = whole.get(frames_at..).unwrap_or_default();
        made = Some(Arc::new(decode_index(frame, stored, &old.index)?));
    }
    let ahead = reading.bytes.split_off(index_end.min(reading.bytes.len()));
    Ok(Asked {
        object,
        frames_at: place.end,
        proof,
        head,
        index: made,
        received: index_end as u64,
        answer: Some((index, reading.answer)),
        ahead,
    })
}

fn fits(record: &UpdateRecord, old: &Old, new: &Manifest) -> bool {
    (record.from.revision, record.from.index) == (old.revision, old.digest)
        && (record.to.revision, record.to.index) == (new.revision, new.index.digest)
}

struct Reading<'i> {
    inner: &'i FetcherShared,
    answer: HttpAnswer,
    bytes: Vec<u8>,
}

impl Reading<'_> {
    /// The file up to `end`.
    async fn upto(&mut self, end: usize) -> Result<&[u8], FetchError> {
        if end as u64 > UPDATE_BEGINNING_LEN_MAX {
            return Err(FetchError::TooLong(end));
        }
        while self.bytes.len() < end {
            let Some(part) = self.answer.next().await? else {
                return Err(FetchError::Wrong("an update pack that ends early"));
            };
            Counters::add(&self.inner.counters.bytes, part.len() as u64);
            self.bytes.extend_from_slice(&part);
        }
        Ok(self.bytes.get(..end).unwrap_or_default())
    }
}
