//! The rings of histories, for bundles, menus and metrics. Not verified: it is our own store.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use wire::manifest::{DEFAULT_RING, ProfileName, RingRecord};
use wire::paths::{Class, ObjectPath};
use wire::trust::Envelope;

use super::heads::{self, damaged};
use super::limits;
use super::object::{ObjectError, Objects};

/// The newest ring record of a history.
#[derive(Debug)]
pub(super) struct Rings {
    /// As it is stored.
    pub(super) envelope: Envelope,
    /// Its content.
    pub(super) record: RingRecord,
}

/// The newest ring record; `None` if the history has no rings.
///
/// # Errors
/// The record is damaged, or the store fails.
pub(super) async fn newest(
    objects: &Objects,
    name: &ProfileName,
) -> Result<Option<Rings>, ObjectError> {
    let listed = objects.list(&ObjectPath::rings_of(name)).await?;
    let Some(number) = listed.iter().filter_map(ObjectPath::number).max() else {
        return Ok(None);
    };
    let path = ObjectPath::Ring(name.clone(), number).to_string();
    let envelope = Envelope::parse(&objects.read(&path).await?);
    let envelope = envelope.map_err(|error| damaged(&path, &error))?;
    let record = RingRecord::parse(envelope.payload.as_bytes());
    let record = record.map_err(|error| damaged(&path, &error))?;
    Ok(Some(Rings { envelope, record }))
}

impl Rings {
    /// The revision of a ring; without such a ring, that of `all`.
    pub(super) fn current(&self, ring: &str, newest: u64) -> u64 {
        let ring = self.record.ring(ring);
        ring.map_or(newest, |ring| self.record.current(ring, newest))
    }
}

/// The ring in the query of a request for a bundle; `None` from a client that knows no rings.
pub(super) fn of_query(query: Option<&str>) -> Option<String> {
    let mut pairs = query?.split('&');
    let ring = pairs.find_map(|pair| pair.strip_prefix("ring="))?;
    // The same rule as for profiles.
    let is_name = ProfileName::new(DEFAULT_RING, ring).is_ok();
    Some(if is_name { ring } else { DEFAULT_RING }.to_owned())
}

/// The rings of every history, for Prometheus; empty without rings.
///
/// # Errors
/// A record is damaged, or the store fails.
pub(super) async fn metrics(objects: &Objects) -> Result<String, ObjectError> {
    let listed = objects.list(Class::Ring.directory()).await?;
    let names = listed.into_iter().filter_map(|path| match path {
        ObjectPath::Ring(name, _) => Some(name),
        _ => None,
    });
    let names: BTreeSet<ProfileName> = names.collect();
    let mut series: [(&str, &str, String); 4] = [
        ("revision", "Revision of each ring", String::new()),
        ("paused", "1 if the ring is paused", String::new()),
        (
            "newest_revision",
            "Newest revision of the history",
            String::new(),
        ),
        ("quarantined", "Quarantined revisions", String::new()),
    ];
    let [revisions, paused, newests, quarantined] = &mut series;
    for name in names.iter().take(limits::LISTING_MAX) {
        let Some(rings) = newest(objects, name).await? else {
            continue;
        };
        let number = heads::newest(objects, name).await?;
        let history = format!("history=\"{}\"", name.full());
        let _ = writeln!(
            newests.2,
            "bakery_ring_newest_revision{{{history}}} {number}"
        );
        for ring in &rings.record.rings {
            let label = format!("{history},ring=\"{}\"", ring.name);
            let revision = rings.record.current(ring, number);
            let _ = writeln!(revisions.2, "bakery_ring_revision{{{label}}} {revision}");
            let is_paused = u8::from(ring.paused);
            let _ = writeln!(paused.2, "bakery_ring_paused{{{label}}} {is_paused}");
        }
        for revision in &rings.record.quarantined {
            let label = format!("{history},revision=\"{revision}\"");
            let _ = writeln!(quarantined.2, "bakery_ring_quarantined{{{label}}} 1");
        }
    }
    let mut page = String::new();
    for (name, help, lines) in series.iter().filter(|(.., lines)| !lines.is_empty()) {
        let _ = write!(
            page,
            "# HELP bakery_ring_{name} {help}.\n# TYPE bakery_ring_{name} gauge\n{lines}"
        );
    }
    Ok(page)
}
