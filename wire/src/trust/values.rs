//! Verification of values records. `docs/PROTOCOL.md` §10 numbers the rules.

use super::VALUES_NAMESPACE;
use super::allowed_signers::AllowedSigners;
use super::chain::{Signed, require_fresh, require_signer, rolled_back};
use super::envelope::{Envelope, public_key_line};
use super::error::TrustError;
use crate::manifest::{Keyset, ProfileName, ValuesRecord};
use layerfmt::Digest;

/// A verified values record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedValues {
    /// The record.
    pub record: ValuesRecord,
    /// Digest of its payload: `previous` of the next record.
    pub digest: Digest,
    /// The name of the key that signed it.
    pub signer: String,
}

/// Verifies the newest values record of a machine: a key that may sign heads of the history that the
/// machine boots signed it.
///
/// # Errors
/// It is of another machine, not signed by an allowed key, expired at `now`, or its number is below
/// `high_water`.
pub fn verify_values(
    envelope: &[u8],
    (anchors, keyset): (&AllowedSigners, Option<&Keyset>),
    history: &ProfileName,
    machine: &str,
    now: u64,
    high_water: u64,
) -> Result<VerifiedValues, TrustError> {
    let envelope = Envelope::parse(envelope)?;
    let key = envelope.signed_by(VALUES_NAMESPACE)?;
    let line = public_key_line(&key)?;
    let record = ValuesRecord::parse(envelope.payload.as_bytes())?;
    if record.machine != machine {
        return Err(TrustError::WrongName {
            wanted: format!("the values of {machine}"),
            found: format!("the values of {}", record.machine),
        });
    }
    let signed = format!("values record {} of {machine}", record.number);
    let by = Signed {
        key: &key,
        line: &line,
        namespace: VALUES_NAMESPACE,
        issued_at: record.issued_at,
    };
    let signer = require_signer(&by, history, signed, anchors, keyset, now)?;
    require_fresh("values record", record.expires_at, now)?;
    if record.number < high_water {
        return Err(rolled_back("values record", high_water, record.number));
    }
    let digest = Digest::of(envelope.payload.as_bytes());
    Ok(VerifiedValues {
        record,
        digest,
        signer,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, anchors, key, keyset, signed_keyset, signer};
    use super::super::verify_keysets;
    use super::*;
    use crate::manifest::RECORD_FORMAT;

    fn record(number: u64) -> ValuesRecord {
        ValuesRecord {
            author: "test".into(),
            expires_at: None,
            format: RECORD_FORMAT,
            issued_at: NOW - 5,
            machine: "pc17".into(),
            message: String::new(),
            number,
            previous: (number > 1).then_some(Digest([3; 32])),
            values: [].into(),
        }
    }

    /// docs/PROTOCOL.md M2, M3: only a signed, fresh, new enough record of this machine is accepted.
    #[test]
    fn a_values_record_is_refused_for_each_reason() {
        let keys = vec![signer(1, "alt/*"), signer(3, "other/*")];
        let signed = signed_keyset(&keyset(1, keys), 10);
        let trusted = verify_keysets([signed.as_slice()], &anchors(10), NOW, 0).unwrap();
        let verify =
            |record: &ValuesRecord, namespace: &str, seed: u8, machine: &str, seen: u64| {
                let envelope =
                    Envelope::sign(&record.render().unwrap(), namespace, &key(seed)).unwrap();
                let (anchors, bytes) = (anchors(10), envelope.render().unwrap());
                let history: ProfileName = "alt".parse().unwrap();
                verify_values(
                    &bytes,
                    (&anchors, Some(&trusted)),
                    &history,
                    machine,
                    NOW,
                    seen,
                )
            };
        let good = verify(&record(4), VALUES_NAMESPACE, 1, "pc17", 4).unwrap();
        assert_eq!(good.record, record(4));
        let mut ended = record(4);
        ended.expires_at = Some(NOW - 1);
        for (record, namespace, seed, machine, seen, why) in [
            (record(4), VALUES_NAMESPACE, 1, "pc18", 0, "pc18"),
            (record(4), VALUES_NAMESPACE, 3, "pc17", 0, "no trusted key"),
            (record(4), VALUES_NAMESPACE, 9, "pc17", 0, "key"),
            (
                record(4),
                super::super::RING_NAMESPACE,
                1,
                "pc17",
                0,
                "signed for",
            ),
            (record(4), VALUES_NAMESPACE, 1, "pc17", 5, "values record"),
            (ended, VALUES_NAMESPACE, 1, "pc17", 0, "expired"),
        ] {
            let refused = verify(&record, namespace, seed, machine, seen).unwrap_err();
            assert!(refused.to_string().contains(why), "{why}: {refused}");
        }
    }
}
