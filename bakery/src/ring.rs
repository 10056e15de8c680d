//! The rings of a history: the changes that an operator or the promotion makes.
//!
//! `docs/FLEET.md` (F9) is the specification, `docs/PROTOCOL.md` (§9) that of the records. The
//! functions here change a record; [`Publisher::change_rings`](crate::publish::Publisher::change_rings)
//! signs it.

use wire::manifest::{DEFAULT_RING, ProfileName, Ring, RingPolicy, RingRecord};

use crate::history::{HistoryError, Result};

fn refused<T>(what: String) -> Result<T> {
    Err(HistoryError::Refused(what))
}

/// The place of a ring, which must exist.
fn place(record: &RingRecord, ring: &str) -> Result<usize> {
    let found = record.place(ring);
    found.ok_or_else(|| {
        let names: Vec<&str> = record.rings.iter().map(|one| one.name.as_str()).collect();
        let (name, names) = (record.name(), names.join(", "));
        HistoryError::Refused(format!("{name} has no ring '{ring}'; it has {names}"))
    })
}

/// The ring at a place that [`place`] gave.
fn at(record: &mut RingRecord, place: usize) -> Result<&mut Ring> {
    let missing = || HistoryError::Refused("the ring record has no such ring".into());
    record.rings.get_mut(place).ok_or_else(missing)
}

/// The present revision of the ring at a place.
fn current(record: &RingRecord, place: usize, newest: u64) -> u64 {
    let ring = record.rings.get(place);
    ring.map_or(newest, |ring| record.current(ring, newest))
}

/// Adds a ring in front of another. In front of the first ring, the new ring gets each newest revision
/// from then on, and the former first ring keeps its own. In any other place it begins with the
/// revision of the ring after it.
pub fn add(record: &mut RingRecord, ring: &str, before: &str, newest: u64) -> Result<()> {
    ProfileName::new(&record.system, ring)?;
    if record.place(ring).is_some() {
        return refused(format!("{} has a ring '{ring}' already", record.name()));
    }
    let place = place(record, before)?;
    let revision = current(record, place, newest);
    at(record, place)?.revision = revision;
    let new = Ring {
        head: layerfmt::Digest::default(),
        name: ring.to_owned(),
        paused: false,
        policy: None,
        revision,
    };
    record.rings.insert(place, new);
    Ok(())
}

/// Removes a ring: its machines belong to `all`. If it was the first, the next one keeps its
/// revision: it is paused until it is resumed.
pub fn remove(record: &mut RingRecord, ring: &str, newest: u64) -> Result<()> {
    if ring == DEFAULT_RING {
        return refused("the ring 'all' is the ring of machines without a ring: it stays".into());
    }
    let place = place(record, ring)?;
    record.rings.remove(place);
    if place == 0 {
        let follows = current(record, 0, newest);
        let first = at(record, 0)?;
        first.policy = None;
        first.paused |= first.revision != follows;
    }
    Ok(())
}

/// Gives a ring a revision: `to`, or that of the ring before it.
pub fn promote(record: &mut RingRecord, ring: &str, to: Option<u64>, newest: u64) -> Result<u64> {
    let place = place(record, ring)?;
    let to = match (to, place.checked_sub(1)) {
        (Some(to), _) => to,
        (None, Some(before)) => current(record, before, newest),
        (None, None) => {
            return refused(format!(
                "'{ring}' is the first ring: it gets new revisions by itself; to give it another one, name it: {}@REV",
                record.name()
            ));
        }
    };
    if record.is_quarantined(to) {
        return refused(format!(
            "{}@{to} is quarantined; `bakery ring release {}@{to}` lifts that",
            record.name(),
            record.name()
        ));
    }
    if !(1..=newest).contains(&to) {
        let wanted = format!("{}@{to}", record.name());
        return Err(HistoryError::NoRevision { wanted, newest });
    }
    if current(record, place, newest) == to {
        return refused(format!("the ring '{ring}' has revision {to} already"));
    }
    let ring = at(record, place)?;
    ring.revision = to;
    // Otherwise the first ring would get the newest revision at once.
    ring.paused |= place == 0 && to != newest;
    Ok(to)
}

/// Pauses a ring: it keeps its revision.
pub fn pause(record: &mut RingRecord, ring: &str, newest: u64) -> Result<()> {
    let place = place(record, ring)?;
    let revision = current(record, place, newest);
    let ring = at(record, place)?;
    if ring.paused {
        return refused(format!("the ring '{}' is paused already", ring.name));
    }
    ring.revision = revision;
    ring.paused = true;
    Ok(())
}

/// Ends the pause of a ring.
pub fn resume(record: &mut RingRecord, ring: &str) -> Result<()> {
    let place = place(record, ring)?;
    let ring = at(record, place)?;
    if !ring.paused {
        return refused(format!("the ring '{}' is not paused", ring.name));
    }
    ring.paused = false;
    Ok(())
}

/// Sets the conditions of the promotion into a ring; `None`: by hand.
pub fn set_policy(record: &mut RingRecord, ring: &str, policy: Option<RingPolicy>) -> Result<()> {
    let place = place(record, ring)?;
    if place == 0 && policy.is_some() {
        return refused(format!(
            "'{ring}' is the first ring: it gets new revisions by themselves, without conditions"
        ));
    }
    at(record, place)?.policy = policy;
    Ok(())
}

/// Quarantines a revision: every ring that has it gets `good`.
pub fn quarantine(record: &mut RingRecord, revision: u64, good: u64, newest: u64) -> Result<()> {
    let name = record.name();
    if record.is_quarantined(revision) {
        return refused(format!("{name}@{revision} is quarantined already"));
    }
    if !(1..=newest).contains(&revision) {
        let wanted = format!("{name}@{revision}");
        return Err(HistoryError::NoRevision { wanted, newest });
    }
    if good == 0 || good >= revision || record.is_quarantined(good) {
        return refused(format!(
            "{name}@{revision} cannot be quarantined: there is no older revision to return to"
        ));
    }
    let had: Vec<bool> = (0..record.rings.len())
        .map(|place| current(record, place, newest) == revision)
        .collect();
    for (ring, had) in record.rings.iter_mut().zip(had) {
        if had || ring.revision == revision {
            ring.revision = good;
        }
    }
    record.quarantined.push(revision);
    record.quarantined.sort_unstable();
    Ok(())
}

/// Succeeds if the history has ring records.
pub fn require_any(record: &RingRecord) -> Result<()> {
    match record.number {
        0 => refused(format!(
            "{} has no rings (`bakery ring add`)",
            record.name()
        )),
        _ => Ok(()),
    }
}

/// Lifts a quarantine. Rings do not change, except that the first may have the newest again.
pub fn release(record: &mut RingRecord, revision: u64) -> Result<()> {
    if !record.is_quarantined(revision) {
        return refused(format!("{}@{revision} is not quarantined", record.name()));
    }
    record.quarantined.retain(|one| *one != revision);
    Ok(())
}

#[cfg(test)]
mod tests;
