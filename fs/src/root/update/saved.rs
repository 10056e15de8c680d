//! The proofs of raw chunks, stored beside the cache: the signed heads of the update packs that
//! made them.

use std::collections::HashSet;

use layerfmt::update::{PREAMBLE_LEN, Preamble, UpdateHead};
use layerfmt::{Digest, Index};
use wire::manifest::ProfileName;
use wire::trust::verify_kept_update;

use super::super::kept::KeptRecords;
use crate::chunks::remote::CacheTiers;
use crate::chunks::update::Signers;

/// Loads the digests of raw chunks from the stored proofs, and verifies each proof again.
pub(crate) fn load(
    caches: &CacheTiers,
    kept: &KeptRecords,
    signers: &Signers<'_>,
    name: &ProfileName,
) {
    for (file, bytes) in kept.proofs() {
        match read(&bytes, signers, name) {
            Some(head) => caches.believe(&head),
            None => {
                tracing::info!(
                    file,
                    "a stored update record is not valid any more: removed"
                );
                kept.remove_proof(&file);
            }
        }
    }
}

fn read(bytes: &[u8], signers: &Signers<'_>, name: &ProfileName) -> Option<UpdateHead> {
    let preamble = Preamble::decode(bytes).ok()?;
    let place = preamble.head();
    let (start, end) = (
        usize::try_from(place.start).ok()?,
        usize::try_from(place.end).ok()?,
    );
    let record = bytes.get(PREAMBLE_LEN..start)?;
    let record = verify_kept_update(record, signers.anchors, signers.keyset, name).ok()?;
    let stored = bytes.get(start..end)?;
    UpdateHead::decode(stored, record.head.raw_len, &record.head.digest).ok()
}

/// Stores a verified proof with its head, and the raw index that it proves; drops the proofs that
/// have no chunk in `new` and prove no index of the stored records.
pub(crate) fn save(
    kept: &KeptRecords,
    signers: &Signers<'_>,
    name: &ProfileName,
    (proof, head): (&[u8], &UpdateHead),
    new: &Index,
) {
    let used: HashSet<Digest> = new.chunks().map(|chunk| chunk.digest).collect();
    let indexes = kept.indexes();
    for (file, bytes) in kept.proofs() {
        let head = read(&bytes, signers, name);
        let is_used = head.is_some_and(|head| {
            let mut made = head.units.iter().flat_map(|unit| &unit.made);
            let proves_index = head.index.is_some() && indexes.contains(&head.to.to_string());
            proves_index || made.any(|made| used.contains(&made.digest))
        });
        if !is_used {
            kept.remove_proof(&file);
        }
    }
    kept.save_proof(proof);
    if head.index.is_some() {
        kept.save_raw_index(&head.to, &new.raw());
    }
}
