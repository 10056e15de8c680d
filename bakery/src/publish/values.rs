//! Values records: each change of the values of a machine is a new signed record.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fleet::store::Database;
use wire::manifest::{MachineValue, RECORD_FORMAT, RingAction, ValuesRecord};
use wire::paths::{Class, ObjectPath};
use wire::trust::{ENVELOPE_LEN_MAX, Envelope, VALUES_NAMESPACE, public_key_line};

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

/// Values were not published.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// The fleet's database cannot be used.
    #[error(transparent)]
    Fleet(#[from] fleet::store::StoreError),
    /// The record cannot be published.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Publisher {
    /// Publishes the values that machines have in the database and not in their newest records;
    /// returns the new records.
    ///
    /// # Errors
    /// A machine is unknown, [`HistoryError::Busy`], or the database or the store fails. The
    /// machines before that one have their records.
    pub fn publish_values_of(
        &self,
        database: &Database,
        machines: &[String],
        reason: &RingReason,
    ) -> std::result::Result<Vec<ValuesRecord>, ValuesError> {
        let mut records = Vec::new();
        for id in machines {
            let values = database.effective_values(id)?;
            let known = database.machine(id, fleet::writer::now())?.layer;
            if values.is_empty() && known.is_none() {
                continue;
            }
            let (record, is_new) = self.publish_values(id, &values, reason)?;
            if known != Some(record.number) {
                database.set_layer(id, record.number)?;
            }
            if is_new {
                records.push(record);
            }
        }
        Ok(records)
    }

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
            if let Some(record) = self.create_values(machine, before, values.clone(), reason)? {
                return Ok((record, true));
            }
            std::thread::sleep(Duration::from_millis(u64::from(attempt % 8) * 5));
        }
        Err(HistoryError::Busy(machine.to_owned(), ATTEMPTS_MAX))
    }

    /// Signs the newest values records again with the present key, where `is_old` is true of the key
    /// that signed; returns their number. A record that a newer one has replaced meanwhile is not
    /// signed again.
    ///
    /// # Errors
    /// A record is damaged or its signature is wrong, or the store fails. The machines before that
    /// one have their records.
    pub fn renew_values(&self, author: &str, is_old: impl Fn(&str) -> bool) -> Result<usize> {
        let reason = RingReason::new(RingAction::Renew, author, "signed again");
        let mut newest = BTreeMap::new();
        for entry in self.store().list(Class::Values.directory())? {
            if let Some(ObjectPath::Values(machine, number)) = entry.key.object() {
                let known: &mut u64 = newest.entry(machine).or_default();
                *known = (*known).max(number);
            }
        }
        let mut count = 0;
        for (machine, number) in newest {
            let bytes = self
                .store()
                .require(&Key::values(&machine, number), ENVELOPE_LEN_MAX as u64)?;
            let signer = Envelope::parse(&bytes)?.signed_by(VALUES_NAMESPACE)?;
            if !is_old(&public_key_line(&signer)?) {
                continue;
            }
            let Some(before) = self.history().values_record(&machine, Some(number))? else {
                continue;
            };
            let values = before.0.values.clone();
            let created = self.create_values(&machine, Some(before), values, &reason)?;
            count += usize::from(created.is_some());
        }
        Ok(count)
    }

    /// Creates the record after `before`; `None` if another process was faster.
    fn create_values(
        &self,
        machine: &str,
        before: Option<(ValuesRecord, layerfmt::Digest)>,
        values: BTreeMap<String, MachineValue>,
        reason: &RingReason,
    ) -> Result<Option<ValuesRecord>> {
        let (number, issued_at, previous) = match before {
            Some((before, digest)) => (before.number, before.issued_at, Some(digest)),
            None => (0, 0, None),
        };
        let record = ValuesRecord {
            author: reason.author.clone(),
            expires_at: None,
            format: RECORD_FORMAT,
            issued_at: clock::now().max(issued_at),
            machine: machine.to_owned(),
            message: reason.message.clone(),
            number: number + 1,
            previous,
            values,
        };
        let envelope = self.signer.sign(VALUES_NAMESPACE, &record.render()?)?;
        let key = Key::values(machine, record.number);
        let bytes = Bytes::from(envelope.render()?);
        let created = self.store().create_object(&key, bytes)?;
        Ok((created == Created::New).then_some(record))
    }
}
