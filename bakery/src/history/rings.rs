//! The ring records of a history.

use wire::manifest::{ProfileName, RingRecord};
use wire::paths::ObjectPath;
use wire::trust::{
    ENVELOPE_LEN_MAX, Envelope, RING_NAMESPACE, VerifiedRings, public_key_line,
    verify_previous_rings, verify_rings,
};

use super::{History, HistoryError, Result};
use crate::clock;
use crate::store::Key;

impl History {
    /// The newest ring record, verified as by a client; `None` if the history has no rings.
    ///
    /// # Errors
    /// The record is damaged or not signed by a key that may, or the store fails.
    pub fn rings(&self, name: &ProfileName) -> Result<Option<VerifiedRings>> {
        let Some(number) = self.newest_ring_record(name)? else {
            return Ok(None);
        };
        let envelope = self.ring_envelope(name, number)?;
        let (anchors, keyset) = (self.anchors(), Some(self.keyset()));
        let rings = verify_rings(&envelope, anchors, keyset, name, clock::now(), number);
        rings.map(Some).map_err(untrusted(name))
    }

    /// The newest ring record regardless of its signer, for maintaining the store.
    ///
    /// # Errors
    /// The record is damaged, or the store fails.
    pub fn unsigned_rings(&self, name: &ProfileName) -> Result<Option<VerifiedRings>> {
        let Some(number) = self.newest_ring_record(name)? else {
            return Ok(None);
        };
        let envelope = Envelope::parse(&self.ring_envelope(name, number)?)?;
        let record = RingRecord::parse(envelope.payload.as_bytes())?;
        if (record.name(), record.number) != (name.clone(), number) {
            let what = format!(
                "{} is ring record {} of {}",
                Key::ring(name, number),
                record.number,
                record.name()
            );
            return Err(HistoryError::Refused(what));
        }
        Ok(Some(VerifiedRings {
            record,
            digest: layerfmt::Digest::of(envelope.payload.as_bytes()),
            signer: String::new(),
        }))
    }

    /// All ring records of a history, newest first, each confirmed by the one after it.
    ///
    /// # Errors
    /// The first broken link.
    pub fn ring_log(&self, name: &ProfileName) -> Result<Vec<RingRecord>> {
        let Some(newest) = self.unsigned_rings(name)? else {
            return Ok(Vec::new());
        };
        let mut records = vec![newest.record];
        while let Some(last) = records.last()
            && last.number > 1
        {
            let envelope = self.ring_envelope(name, last.number - 1)?;
            let before = verify_previous_rings(last, &envelope).map_err(untrusted(name))?;
            records.push(before.record);
        }
        Ok(records)
    }

    /// The key that signed the newest ring record, as keysets spell it.
    ///
    /// # Errors
    /// The record is damaged, or the store fails.
    pub fn ring_signer_line(&self, name: &ProfileName) -> Result<Option<String>> {
        let Some(number) = self.newest_ring_record(name)? else {
            return Ok(None);
        };
        let envelope = Envelope::parse(&self.ring_envelope(name, number)?)?;
        Ok(Some(public_key_line(&envelope.signed_by(RING_NAMESPACE)?)?))
    }

    fn newest_ring_record(&self, name: &ProfileName) -> Result<Option<u64>> {
        let listed = self.store().list(&ObjectPath::rings_of(name))?;
        Ok(listed.iter().filter_map(|entry| entry.key.number()).max())
    }

    fn ring_envelope(&self, name: &ProfileName, number: u64) -> Result<bytes::Bytes> {
        let key = Key::ring(name, number);
        Ok(self.store().require(&key, ENVELOPE_LEN_MAX as u64)?)
    }
}

fn untrusted(name: &ProfileName) -> impl Fn(wire::trust::TrustError) -> HistoryError + '_ {
    move |source| HistoryError::Untrusted {
        name: format!("the rings of {name}"),
        source,
    }
}
