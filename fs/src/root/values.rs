//! The machine layer: the values of this machine.
//!
//! `docs/FLEET.md` (F12) is the specification, `docs/PROTOCOL.md` §10 that of the records.

use wire::machine::Identity;
use wire::manifest::{Keyset, ProfileName, ValuesRecord};
use wire::paths::ObjectPath;
use wire::trust::{AllowedSigners, ENVELOPE_LEN_MAX, verify_values};

use crate::hardware;
use crate::net::error::FetchError;
use crate::net::exchange::Ask;
use crate::net::fetcher::{Fetcher, STALL_FIRST, get_whole};
use crate::net::records::now;

/// Maximum number of records after the announced one that a client requests.
const NEWER_MAX: u64 = 64;

/// The conditions that a values record must meet.
pub(crate) struct ValuesTerms<'a> {
    /// The trusted signers.
    pub anchors: &'a AllowedSigners,
    /// The verified keyset.
    pub keyset: Option<&'a Keyset>,
    /// The history that the machine boots.
    pub history: ProfileName,
    /// The stored record that the machine used before.
    pub kept: Option<Vec<u8>>,
    /// True if no server answers.
    pub offline: bool,
}

/// The newest values record of a machine with its envelope: from a server, else the stored one.
/// `None`, with a message, if no valid one exists: the machine boots without values.
pub(crate) fn newest(
    fetcher: &Fetcher,
    (machine, number): &(String, u64),
    terms: &ValuesTerms<'_>,
) -> Option<(ValuesRecord, Vec<u8>)> {
    if !is_own(machine, &hardware::identity()) {
        tracing::warn!(
            machine,
            "layerfs.values names another machine: its values are not used"
        );
        return None;
    }
    let verify = |bytes: &[u8], now: u64, seen: u64| {
        let keys = (terms.anchors, terms.keyset);
        verify_values(bytes, keys, &terms.history, machine, now, seen).map(|found| found.record)
    };
    // The stored record was valid when it was signed.
    let issued_at = |bytes: &[u8]| {
        let envelope = wire::trust::Envelope::parse(bytes).ok()?;
        Some(
            ValuesRecord::parse(envelope.payload.as_bytes())
                .ok()?
                .issued_at,
        )
    };
    let kept = terms.kept.clone().and_then(|bytes| {
        let record = verify(&bytes, issued_at(&bytes)?, 0).ok()?;
        Some((record, bytes))
    });
    if terms.offline {
        return kept;
    }
    let seen = kept.as_ref().map_or(0, |(record, _)| record.number);
    let fetched = fetch(fetcher, machine, (*number).max(seen).max(1));
    let found = match fetched {
        Ok(bytes) => verify(&bytes, now(), seen)
            .map(|record| (record, bytes))
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    found
        .inspect_err(|error| {
            tracing::error!(machine, error, "the values of this machine are refused")
        })
        .ok()
        .or(kept)
}

/// True if a machine with these hardware names has the id.
fn is_own(id: &str, identity: &Identity) -> bool {
    let id = id.to_ascii_lowercase();
    let mut uuids = identity
        .uuid
        .iter()
        .flat_map(|uuid| [uuid.to_string(), uuid.swapped().to_string()]);
    let macs: Vec<String> = identity
        .macs
        .iter()
        .map(|mac| mac.to_string().replace(':', "-"))
        .collect();
    // The id of a copy has the address of its card after the UUID.
    let (name, card) = id
        .split_once('_')
        .map_or((id.as_str(), None), |(name, card)| (name, Some(card)));
    let has = |card: &str| macs.iter().any(|mac| mac == card);
    (uuids.any(|uuid| uuid == name) || has(name)) && card.is_none_or(has)
}

fn fetch(fetcher: &Fetcher, machine: &str, announced: u64) -> Result<Vec<u8>, FetchError> {
    fetcher.run(async {
        let inner = &fetcher.inner;
        let get = async |number: u64| {
            let path = ObjectPath::Values(machine.to_owned(), number).url();
            let got = get_whole(inner, &Ask::get(path, STALL_FIRST), ENVELOPE_LEN_MAX).await;
            got.map(|(_, bytes)| bytes)
        };
        // The announced record is nearly always the newest: one round trip shows both.
        let after = announced.saturating_add(1);
        let (first, mut next) = tokio::join!(get(announced), get(after));
        let mut newest = first?;
        for number in (after..=after.saturating_add(NEWER_MAX)).skip(1) {
            match next {
                Ok(bytes) => newest = bytes,
                Err(error) if error.is_missing() => return Ok(newest),
                Err(error) => return Err(error),
            }
            next = get(number).await;
        }
        Ok(newest)
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/FLEET.md F12.2: a machine takes only its own values.
    #[test]
    fn an_id_is_of_its_machine() {
        let own = Identity::of_words(
            "4c4c4544-0042-3510-8051-b4c04f564433",
            "52:54:00:00:00:17",
            "",
        );
        for id in [
            "4c4c4544-0042-3510-8051-b4c04f564433",
            "4C4C4544-0042-3510-8051-B4C04F564433",
            "44454c4c-4200-1035-8051-b4c04f564433",
            "52-54-00-00-00-17",
            "4c4c4544-0042-3510-8051-b4c04f564433_52-54-00-00-00-17",
        ] {
            assert!(is_own(id, &own), "{id}");
        }
        for id in [
            "",
            "4c4c4544-0042-3510-8051-b4c04f564434",
            "52-54-00-00-00-18",
            "4c4c4544-0042-3510-8051-b4c04f564433_52-54-00-00-00-18",
        ] {
            assert!(!is_own(id, &own), "{id}");
        }
    }
}
