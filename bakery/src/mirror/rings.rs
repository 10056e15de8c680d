//! The ring records of a mirror: each is durable only after the heads that it names.

use bytes::Bytes;
use wire::manifest::{ProfileName, RingRecord};
use wire::paths::ObjectPath;
use wire::trust::{ENVELOPE_LEN_MAX, Envelope, TrustError, verify_previous_rings, verify_rings};

use super::follow::Mirror;
use super::{MirrorError, Mirrored, Result};
use crate::clock;
use crate::history::History;
use crate::limits;
use crate::store::Key;

/// A ring record that the mirror lacks.
struct NewRecord {
    record: RingRecord,
    envelope: Vec<u8>,
}

impl Mirror<'_> {
    /// Brings the ring records of a history whose newest revision here is `newest`.
    pub(super) fn rings(
        &mut self,
        history: &History,
        name: &ProfileName,
        newest: u64,
        mirrored: &mut Mirrored,
    ) -> Result<()> {
        let known = history.unsigned_rings(name)?;
        let known = known.map_or(0, |rings| rings.record.number);
        // A history that is taken over may have other records under the same numbers.
        let here = match self.options.replace {
            true => 0,
            false => known,
        };
        let (new, end) = self.new_records(name, here, newest)?;
        let Some(last) = new.last() else {
            return Ok(());
        };
        let path = |number| ObjectPath::Ring(name.clone(), number).to_string();
        let trust = |number| {
            move |source| MirrorError::Trust {
                path: path(number),
                source,
            }
        };
        let number = last.record.number;
        verify_rings(
            &last.envelope,
            self.anchors,
            Some(history.keyset()),
            name,
            clock::now(),
            here,
        )
        .map_err(trust(number))?;
        for pair in new.windows(2) {
            if let [before, after] = pair {
                verify_previous_rings(&after.record, &before.envelope)
                    .map_err(trust(before.record.number))?;
            }
        }
        if let Some(first) = new.first().filter(|first| first.record.number > 1) {
            let before = first.record.number - 1;
            let envelope = self
                .store
                .require(&Key::ring(name, before), ENVELOPE_LEN_MAX as u64)?;
            verify_previous_rings(&first.record, &envelope).map_err(trust(before))?;
        }
        for NewRecord { record, envelope } in new {
            let (key, envelope) = (Key::ring(name, record.number), Bytes::from(envelope));
            let there = self.store.get(&key, ENVELOPE_LEN_MAX as u64)?;
            if there.as_ref() == Some(&envelope) {
                continue;
            }
            match there {
                Some(_) => self.store.overwrite(&key, envelope)?,
                None => drop(self.store.create_object(&key, envelope)?),
            }
            mirrored.ring_records += 1;
        }
        // Only a history that is taken over has fewer records than ours.
        for number in end.into_iter().flat_map(|end| end..=known) {
            self.store.delete(&Key::ring(name, number))?;
        }
        Ok(())
    }

    /// The records after `here` that name only revisions up to `newest`, oldest first: a later one
    /// waits for the next round. Also the first number that the origin does not have, if it was
    /// reached.
    fn new_records(
        &mut self,
        name: &ProfileName,
        here: u64,
        newest: u64,
    ) -> Result<(Vec<NewRecord>, Option<u64>)> {
        let mut new = Vec::new();
        for number in here + 1.. {
            let path = ObjectPath::Ring(name.clone(), number);
            let Some(envelope) = self.origin.read(&path, ENVELOPE_LEN_MAX)? else {
                return Ok((new, Some(number)));
            };
            if new.len() == limits::MIRROR_RING_RECORDS_MAX {
                return Err(self.endless("ring records", limits::MIRROR_RING_RECORDS_MAX as u64));
            }
            let record = Envelope::parse(&envelope)
                .and_then(|envelope| Ok(RingRecord::parse(envelope.payload.as_bytes())?))
                .map_err(|source: TrustError| MirrorError::Trust {
                    path: path.to_string(),
                    source,
                })?;
            if record.number != number {
                return Err(MirrorError::Damaged {
                    origin: self.origin.name(),
                    path: path.to_string(),
                    what: format!("it is ring record {}", record.number),
                });
            }
            if record.rings.iter().any(|ring| ring.revision > newest) {
                break;
            }
            new.push(NewRecord { record, envelope });
        }
        Ok((new, None))
    }
}
