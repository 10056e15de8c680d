//! Ring records: each change of the rings of a history is a new signed record.

use std::time::Duration;

use bytes::Bytes;
use layerfmt::Digest;
use wire::manifest::{
    Action, DEFAULT_RING, Manifest, ProfileName, QUARANTINED_MAX, RECORD_FORMAT, RevisionName,
    Ring, RingAction, RingRecord,
};
use wire::trust::{RING_NAMESPACE, VerifiedRings, verify_rings};

use super::{ATTEMPTS_MAX, Publisher, is_due};
use crate::clock;
use crate::history::{HistoryError, Result, Revision, objects};
use crate::store::{Created, Key, StoreError, guard};

/// Longest author and message of a ring record, bytes.
const TEXT_LEN_MAX: usize = 256;

/// The reason for a new ring record.
#[derive(Debug, Clone)]
pub struct RingReason {
    /// The kind of change.
    pub action: RingAction,
    /// Its author.
    pub author: String,
    /// The author's words.
    pub message: String,
}

impl RingReason {
    /// Creates a reason; control characters and the end of a long text are dropped.
    #[must_use]
    pub fn new(action: RingAction, author: &str, message: &str) -> RingReason {
        let line = |text: &str| {
            let mut line: String = text.chars().filter(|c| !c.is_control()).collect();
            while line.len() > TEXT_LEN_MAX {
                line.pop();
            }
            line
        };
        RingReason {
            action,
            author: line(author),
            message: line(message),
        }
    }
}

impl Publisher {
    /// Creates the next ring record of a history: the newest one after `change`. `change` gets the
    /// newest revision; it is called once for every attempt, and may refuse. A history without
    /// ring records has the ring `all`.
    ///
    /// # Errors
    /// The error of `change`; a ring has a revision that is not there; [`HistoryError::Busy`]; or
    /// the store fails. No record is created then.
    pub fn change_rings(
        &self,
        name: &ProfileName,
        reason: &RingReason,
        mut change: impl FnMut(&mut RingRecord, u64) -> Result<()>,
    ) -> Result<RingRecord> {
        for attempt in 0..ATTEMPTS_MAX {
            let newest = match reason.action {
                RingAction::Renew => self.history().unsigned_head(name)?,
                _ => self.history().head(name)?,
            };
            let newest = newest.ok_or_else(|| self.history().no_history(name))?;
            // A renewal continues a record also if the key that signed it was withdrawn.
            let before = match reason.action {
                RingAction::Renew => self.history().unsigned_rings(name)?,
                _ => self.history().rings(name)?,
            };
            let record = self.next_rings(&newest, before.as_ref(), reason, &mut change)?;
            if self.rehearsal.is_some() {
                return Ok(record);
            }
            if self.create_rings(name, &record, before.as_ref())? {
                return Ok(record);
            }
            std::thread::sleep(Duration::from_millis(u64::from(attempt % 8) * 5));
        }
        Err(HistoryError::Busy(name.to_string(), ATTEMPTS_MAX))
    }

    /// Signs the rings of a history again, with the present key; `None` if it has none.
    ///
    /// # Errors
    /// The errors of [`Publisher::change_rings`].
    pub fn renew_rings(&self, name: &ProfileName, author: &str) -> Result<Option<RingRecord>> {
        if self.history().unsigned_rings(name)?.is_none() {
            return Ok(None);
        }
        let reason = RingReason::new(RingAction::Renew, author, "signed again");
        self.change_rings(name, &reason, |_, _| Ok(())).map(Some)
    }

    /// Renews the rings of a history if their record is about to expire.
    ///
    /// # Errors
    /// The errors of [`Publisher::change_rings`].
    pub fn renew_rings_in_time(
        &self,
        name: &ProfileName,
        author: &str,
    ) -> Result<Option<RingRecord>> {
        let (Some(lifetime), Some(rings)) = (self.lifetime, self.history().unsigned_rings(name)?)
        else {
            return Ok(None);
        };
        match is_due(rings.record.expires_at, lifetime, clock::now()) {
            true => self.renew_rings(name, author),
            false => Ok(None),
        }
    }

    fn next_rings(
        &self,
        newest: &Revision,
        before: Option<&VerifiedRings>,
        reason: &RingReason,
        change: &mut impl FnMut(&mut RingRecord, u64) -> Result<()>,
    ) -> Result<RingRecord> {
        let mut record = match before {
            Some(before) => before.record.clone(),
            None => without_rings(newest),
        };
        change(&mut record, newest.number())?;
        let surplus = record.quarantined.len().saturating_sub(QUARANTINED_MAX);
        record.quarantined.drain(..surplus);
        let unchanged = before.map(|before| before.record.rings.as_slice());
        for ring in &mut record.rings {
            let known = unchanged.unwrap_or_default().iter();
            let known = known.filter(|_| reason.action != RingAction::Renew);
            ring.head = match known.clone().find(|old| old.revision == ring.revision) {
                Some(old) => old.head,
                None => self.head_digest(newest, ring.revision)?,
            };
        }
        let issued_at = before.map_or(0, |before| before.record.issued_at);
        record.action = reason.action;
        record.author.clone_from(&reason.author);
        record.message.clone_from(&reason.message);
        record.issued_at = clock::now().max(issued_at);
        record.expires_at = self
            .lifetime
            .map(|lifetime| record.issued_at + lifetime.as_secs());
        record.number = before.map_or(0, |before| before.record.number) + 1;
        record.previous = before.map(|before| before.digest);
        Ok(record)
    }

    /// The digest of the head of a revision that a ring gets.
    fn head_digest(&self, newest: &Revision, number: u64) -> Result<Digest> {
        if number == newest.number() {
            return Ok(newest.digest);
        }
        let wanted = RevisionName {
            name: newest.manifest.name(),
            revision: Some(number),
        };
        Ok(self.history().walk_to(&wanted)?.digest)
    }

    /// Signs and creates a record; false if another process took the number.
    fn create_rings(
        &self,
        name: &ProfileName,
        record: &RingRecord,
        before: Option<&VerifiedRings>,
    ) -> Result<bool> {
        let payload = record.render()?;
        let envelope = self.signer.sign(RING_NAMESPACE, &payload)?.render()?;
        let (anchors, keyset) = (self.history().anchors(), Some(self.history().keyset()));
        verify_rings(&envelope, anchors, keyset, name, clock::now(), 0).map_err(|source| {
            HistoryError::Signer {
                name: name.to_string(),
                source,
            }
        })?;
        let guard = guard::publish(self.store())?;
        let kept = before.map(|before| before.record.rings.as_slice());
        let had = |ring: &Ring| {
            let kept = kept.unwrap_or_default();
            kept.iter().any(|old| old.revision == ring.revision)
        };
        for ring in record.rings.iter().filter(|ring| !had(ring)) {
            self.require_whole(name, ring.revision)?;
        }
        if !guard.holds() {
            return Ok(false);
        }
        let key = Key::ring(name, record.number);
        let created = self.store().create_object(&key, Bytes::from(envelope))?;
        Ok(created == Created::New)
    }

    /// Refuses a revision for a ring if parts of it are not in the store.
    fn require_whole(&self, name: &ProfileName, number: u64) -> Result<()> {
        let wanted = RevisionName {
            name: name.clone(),
            revision: Some(number),
        };
        let revision = self.history().walk_to(&wanted)?;
        for (key, len) in objects(&revision.manifest) {
            if self.store().len(&key)? != Some(len) {
                let missing = StoreError::Missing(key);
                return Err(self.history().swept_or(&wanted, missing));
            }
        }
        Ok(())
    }

    /// A revision with the contents of a quarantined one is quarantined as well: a renewed head, a
    /// boot pack or a compaction does not mend a revision.
    pub(super) fn carry_quarantine(&self, name: &ProfileName, manifest: &Manifest) -> Result<()> {
        let same = matches!(
            manifest.action,
            Action::Resign | Action::Pack | Action::Compact
        );
        if !same || manifest.revision < 2 {
            return Ok(());
        }
        let (parent, number) = (manifest.revision - 1, manifest.revision);
        let rings = self.history().unsigned_rings(name)?;
        if !rings.is_some_and(|rings| rings.record.is_quarantined(parent)) {
            return Ok(());
        }
        let message = format!("{number} has the contents of {parent}");
        let reason = RingReason::new(RingAction::Quarantine, &manifest.author, &message);
        self.change_rings(name, &reason, |record, _| {
            if record.is_quarantined(parent) && !record.is_quarantined(number) {
                record.quarantined.push(number);
                record.quarantined.sort_unstable();
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// The rings of a history that has no record yet: `all`, with the newest revision.
fn without_rings(newest: &Revision) -> RingRecord {
    let ProfileName { system, profile } = newest.manifest.name();
    RingRecord {
        action: RingAction::Add,
        author: String::new(),
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: 0,
        message: String::new(),
        number: 0,
        previous: None,
        profile,
        quarantine_after: 0,
        quarantined: Vec::new(),
        rings: vec![Ring {
            head: newest.digest,
            name: DEFAULT_RING.to_owned(),
            paused: false,
            policy: None,
            revision: newest.number(),
        }],
        system,
    }
}
