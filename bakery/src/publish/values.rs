//! Values records: each change of the values of a machine is a new signed record.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use wire::manifest::{MachineValue, RECORD_FORMAT, ValuesRecord};
use wire::paths::ObjectPath;
use wire::trust::{ENVELOPE_LEN_MAX, Envelope, VALUES_NAMESPACE};

use super::rings::RingReason;
use super::{ATTEMPTS_MAX, Publisher};
use crate::clock;
use crate::history::{History, HistoryError, Result};
use crate::store::{Created, Key};

impl History {
    /// A values record of a machine with the digest of its payload; `None` for the number: the
    /// newest. Its signature is the clients' concern.
    ///
    /// # Errors
    /// The record is damaged, or the store fails.
    pub fn values_record(
        &self,
        machine: &str,
        number: Option<u64>,
    ) -> Result<Option<(ValuesRecord, layerfmt::Digest)>> {
        let listed = self.store().list(&ObjectPath::values_of(machine))?;
        let mut numbers = listed.iter().filter_map(|entry| entry.key.number());
        let found = match number {
            Some(number) => numbers.find(|one| *one == number),
            None => numbers.max(),
        };
        let Some(number) = found else {
            return Ok(None);
        };
        let key = Key::values(machine, number);
        let bytes = self.store().require(&key, ENVELOPE_LEN_MAX as u64)?;
        let payload = Envelope::parse(&bytes)?.payload;
        let record = ValuesRecord::parse(payload.as_bytes())?;
        if (record.machine.as_str(), record.number) != (machine, number) {
            let what = format!("{key} is record {} of {}", record.number, record.machine);
            return Err(HistoryError::Refused(what));
        }
        Ok(Some((record, layerfmt::Digest::of(payload.as_bytes()))))
    }
}

impl Publisher {
    /// Publishes the values of a machine, unless its newest record has them already; returns the
    /// newest record, and whether it is new.
    ///
    /// # Errors
    /// [`HistoryError::Busy`], or the store fails. No record is created then.
    pub fn publish_values(
        &self,
        machine: &str,
        values: &BTreeMap<String, MachineValue>,
        reason: &RingReason,
    ) -> Result<(ValuesRecord, bool)> {
        for attempt in 0..ATTEMPTS_MAX {
            let before = self.history().values_record(machine, None)?;
            if let Some((before, _)) = before
                .as_ref()
                .filter(|(before, _)| before.values == *values)
            {
                return Ok((before.clone(), false));
            }
            let (number, issued_at, previous) = match before {
                Some((before, digest)) => (before.number, before.issued_at, Some(digest)),
                None => (0, 0, None),
            };
            let issued_at = clock::now().max(issued_at);
            let record = ValuesRecord {
                author: reason.author.clone(),
                expires_at: None,
                format: RECORD_FORMAT,
                issued_at,
                machine: machine.to_owned(),
                message: reason.message.clone(),
                number: number + 1,
                previous,
                values: values.clone(),
            };
            let payload = record.render()?;
            let envelope = self.signer.sign(VALUES_NAMESPACE, &payload)?.render()?;
            let key = Key::values(machine, record.number);
            let created = self.store().create_object(&key, Bytes::from(envelope))?;
            if created == Created::New {
                return Ok((record, true));
            }
            std::thread::sleep(Duration::from_millis(u64::from(attempt % 8) * 5));
        }
        Err(HistoryError::Busy(machine.to_owned(), ATTEMPTS_MAX))
    }
}
