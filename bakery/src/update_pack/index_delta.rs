//! Index deltas: update packs that hold only the new index, made when a revision is published. A
//! running mount that switches fetches one instead of the whole index.

use layerfmt::update::{IndexEffort, Preamble, UpdateHead, encode_index};
use layerfmt::{Digest, Index};
use wire::manifest::{ProfileName, RECORD_FORMAT, UpdateEnd, UpdateHeadRef, UpdateRecord};
use wire::trust::UPDATE_NAMESPACE;

use super::{Result, read_record};
use crate::clock;
use crate::keys::RecordSigner;
use crate::store::{Key, Store};

/// One end of an index delta.
pub(crate) struct DeltaEnd<'i> {
    pub(crate) index: &'i Index,
    pub(crate) end: UpdateEnd,
}

/// The file of the index delta from `from` to `to`; `None` if it would not be shorter than `plain_len`,
/// the length of the index by itself.
///
/// # Errors
/// When the key cannot sign, or zstd fails.
pub(crate) fn encode(
    signer: &RecordSigner,
    name: &ProfileName,
    from: &DeltaEnd<'_>,
    to: &DeltaEnd<'_>,
    plain_len: u64,
) -> Result<Option<Vec<u8>>> {
    let Some((frame, stored)) = encode_index(from.index, to.index, IndexEffort::Quick)? else {
        return Ok(None);
    };
    let head = UpdateHead {
        from: from.end.index,
        to: to.end.index,
        index: Some(frame),
        hot_count: 0,
        units: Vec::new(),
    };
    let (stored_head, raw_len) = head.encode()?;
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let record = UpdateRecord {
        format: RECORD_FORMAT,
        frames_len: head.frames_len(),
        from: from.end,
        head: UpdateHeadRef {
            digest: Digest::of(&stored_head),
            len: len(&stored_head),
            raw_len,
        },
        issued_at: clock::now(),
        plain_len,
        profile: name.profile.clone(),
        system: name.system.clone(),
        to: to.end,
    };
    let envelope = signer.sign(UPDATE_NAMESPACE, &record.render()?)?.render()?;
    let preamble = Preamble {
        record_len: len(&envelope),
        head_len: len(&stored_head),
    };
    let parts = [&preamble.encode()[..], &envelope, &stored_head, &stored];
    let file = parts.concat();
    let is_shorter = (file.len() as u64) < plain_len;
    Ok(is_shorter.then_some(file))
}

/// The record of the index delta `key`, if it is one. Does not check the signature.
pub(crate) fn delta_record(store: &Store, key: &Key) -> Option<UpdateRecord> {
    let (record, _) = read_record(&store.file(key).ok()?).ok()?;
    let named = Key::delta(&record.to.index, &record.from.index);
    (named == *key).then_some(record)
}
