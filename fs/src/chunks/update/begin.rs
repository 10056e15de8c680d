//! Requests an update pack. The first request is for the beginning of the file: the record, the head and
//! the index, and in most packs the hot units too.

use std::ops::Range;
use std::sync::Arc;

use layerfmt::update::{PREAMBLE_LEN, Preamble, UpdateHead, decode_index, decode_index_after};
use layerfmt::{Digest, Index};
use wire::manifest::{Keyset, Manifest, ProfileName, UpdateRecord};
use wire::paths::ObjectPath;
use wire::trust::{AllowedSigners, verify_update};

use super::Old;
use crate::limits::UPDATE_BEGINNING_LEN_MAX;
use crate::net::error::FetchError;
use crate::net::exchange::{Ask, HttpAnswer};
use crate::net::fetcher::FetcherShared;
use crate::net::object::Object;
use crate::net::records::now;
use crate::net::server::Server;
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
    pub(super) answer: Option<UpdateAnswer>,
    /// Bytes of the file that came after the index.
    pub(super) ahead: Vec<u8>,
}

/// Length of the first request, bytes. It has the beginning and the hot units of most packs, and at 20 Mbit/s
/// takes a tenth of a second.
const BEGINNING_LEN: u64 = 256 << 10;

/// Longest text of an answer that there is no pack, bytes.
const ABSENCE_LEN_MAX: usize = 4096;

/// An answer with a part of an update pack.
pub(super) struct UpdateAnswer {
    pub(super) server: usize,
    connection: Arc<Server>,
    pub(super) body: HttpAnswer,
    /// Where the answer ends in the file; `None`: it has the whole file.
    pub(super) end: Option<u64>,
}

impl UpdateAnswer {
    /// Requests `range` of the file, or of it what the file has.
    pub(super) async fn ask(
        inner: &FetcherShared,
        object: &Object,
        range: Range<u64>,
    ) -> Result<UpdateAnswer, FetchError> {
        let (server, connection) = inner.server(0).await?;
        let ask = Ask::range(&object.path, range.clone(), inner.mirrors.stall(server));
        let failed = |error: &FetchError| inner.mirrors.failed(server, &object.path, error);
        let mut body = connection.ask_h1(&ask).await.inspect_err(failed)?;
        match body.check_start(&range) {
            Ok(end) => Ok(UpdateAnswer {
                server,
                connection,
                body,
                end,
            }),
            // The next request goes out on this connection.
            Err(error) if error.is_missing() => {
                let _ = body.collect(ABSENCE_LEN_MAX).await;
                connection.keep(body).await;
                Err(error)
            }
            Err(error) => {
                failed(&error);
                Err(error)
            }
        }
    }

    /// The answer was read to its end: its connection can be used again.
    async fn release(mut self) {
        if matches!(self.body.next().await, Ok(None)) {
            self.connection.keep(self.body).await;
        }
    }
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
    let (mut reading, beginning) = Reading::begin(inner, &object, signers, &new.name()).await?;
    let Beginning {
        record,
        head,
        proof,
        frames_at,
    } = beginning;
    if !fits(&record, old, new) || (head.from, head.to) != (old.digest, new.index.digest) {
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
    let answer = reading.answer;
    Ok(Asked {
        object,
        frames_at: frames_at as u64,
        proof,
        head,
        index: made,
        received: index_end as u64,
        answer: Some(answer),
        ahead,
    })
}

/// An index that an index delta made, and the proof of it.
#[derive(Debug)]
pub(crate) struct MadeIndex {
    /// The index, decoded and checked.
    pub(crate) index: Arc<Index>,
    /// Preamble, record and head.
    pub(crate) proof: Vec<u8>,
    /// The contents of the head.
    pub(crate) head: UpdateHead,
}

/// Asks one server for the index delta from the index `from`, with these raw bytes, to the index `to` of a
/// revision of `name`. Without one, or with a wrong one, the caller fetches the whole index.
///
/// # Errors
/// There is none, or it cannot be used.
pub(crate) async fn index_delta(
    inner: &FetcherShared,
    signers: &Signers<'_>,
    name: &ProfileName,
    (from, raw): (&Digest, &[u8]),
    to: &Digest,
) -> Result<MadeIndex, Refused> {
    let object = Arc::new(Object::update(&ObjectPath::Delta(*to, *from)));
    let (mut reading, beginning) = Reading::begin(inner, &object, signers, name).await?;
    let Beginning {
        record,
        head,
        proof,
        frames_at,
    } = beginning;
    let named = (&record.from.index, &record.to.index);
    if named != (from, to) || (&head.from, &head.to) != (from, to) {
        return Err(Refused::Other);
    }
    let frame = head.index.as_ref().ok_or(Refused::Other)?;
    let end = frames_at.saturating_add(frame.stored_len as usize);
    let whole = reading.upto(end).await?;
    let stored = whole.get(frames_at..).unwrap_or_default();
    let index = Arc::new(decode_index_after(frame, stored, raw)?);
    reading.answer.release().await;
    Ok(MadeIndex { index, proof, head })
}

fn fits(record: &UpdateRecord, old: &Old, new: &Manifest) -> bool {
    (record.from.revision, record.from.index) == (old.revision, old.digest)
        && (record.to.revision, record.to.index) == (new.revision, new.index.digest)
}

struct Reading<'i> {
    inner: &'i FetcherShared,
    object: &'i Object,
    answer: UpdateAnswer,
    bytes: Vec<u8>,
}

/// The beginning of a file, verified.
struct Beginning {
    record: UpdateRecord,
    head: UpdateHead,
    /// The bytes of both, and those before them.
    proof: Vec<u8>,
    frames_at: usize,
}

impl<'i> Reading<'i> {
    /// Asks for the file, and reads its record and its head.
    async fn begin(
        inner: &'i FetcherShared,
        object: &'i Object,
        signers: &Signers<'_>,
        name: &ProfileName,
    ) -> Result<(Reading<'i>, Beginning), Refused> {
        let answer = UpdateAnswer::ask(inner, object, 0..BEGINNING_LEN).await?;
        let mut reading = Reading {
            inner,
            object,
            answer,
            bytes: Vec::new(),
        };
        let preamble = Preamble::decode(reading.upto(PREAMBLE_LEN).await?)?;
        let place = preamble.head();
        let record_end = usize::try_from(place.start).unwrap_or(usize::MAX);
        let record = reading.upto(record_end).await?;
        let record = record.get(PREAMBLE_LEN..).unwrap_or_default();
        let record = verify_update(record, signers.anchors, signers.keyset, name, now())?;
        if record.head.len != preamble.head_len {
            return Err(Refused::Other);
        }
        let frames_at = usize::try_from(place.end).unwrap_or(usize::MAX);
        let proof = reading.upto(frames_at).await?.to_vec();
        let stored = proof.get(record_end..).unwrap_or_default();
        let head = UpdateHead::decode(stored, record.head.raw_len, &record.head.digest)?;
        let beginning = Beginning {
            record,
            head,
            proof,
            frames_at,
        };
        Ok((reading, beginning))
    }

    /// The file up to `end`.
    async fn upto(&mut self, end: usize) -> Result<&[u8], FetchError> {
        if end as u64 > UPDATE_BEGINNING_LEN_MAX {
            return Err(FetchError::TooLong(end));
        }
        while self.bytes.len() < end {
            let Some(part) = self.answer.body.next().await? else {
                self.go_on(end as u64).await?;
                continue;
            };
            Counters::add(&self.inner.counters.bytes, part.len() as u64);
            self.bytes.extend_from_slice(&part);
        }
        Ok(self.bytes.get(..end).unwrap_or_default())
    }

    /// Requests the file from the end of the answer to `end`.
    async fn go_on(&mut self, end: u64) -> Result<(), FetchError> {
        let at = self.bytes.len() as u64;
        if self.answer.end != Some(at) {
            return Err(FetchError::Wrong("an update pack that ends early"));
        }
        self.answer = UpdateAnswer::ask(self.inner, self.object, at..end).await?;
        Ok(())
    }
}
