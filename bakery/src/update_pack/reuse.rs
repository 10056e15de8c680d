//! Units of other update packs that serve a new pack as they are.
//!
//! A frame depends on the bytes of its prefix and of its chunks only. The packs to one revision from
//! the last three, and the packs to the next revision, have most of their units in common. Encoding
//! is slow, above all proving recipes, so a unit is encoded once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use layerfmt::update::{Span, Unit};
use layerfmt::{Digest, Index};
use wire::manifest::{ProfileName, RevisionName};

use super::hot::{HotChunks, HotPlace};
use super::offer::{Opened, offers, verify_file};
use super::sources::End;
use super::{Offer, Result};
use crate::history::History;
use crate::store::Key;

/// Number of packs that are searched: reading one costs time.
const PACKS_MAX: usize = 6;

/// A unit of another pack.
pub(super) struct ReusedUnit {
    /// The unit, its spans in the old index of the new pack.
    pub(super) unit: Unit,
    /// Its place in the order of a boot, if it is hot.
    pub(super) hot: Option<HotPlace>,
    pack: Arc<Opened>,
    offset: u64,
}

impl ReusedUnit {
    /// The frame of the unit.
    ///
    /// # Errors
    /// The pack cannot be read.
    pub(super) fn frame(&self) -> Result<Vec<u8>> {
        self.pack.frame(self.offset, self.unit.stored_len)
    }
}

/// The ends of the pack that is made.
struct ReuseSearch<'e> {
    old: &'e End,
    /// The rows of the old chunks.
    rows: HashMap<Digest, u32>,
    hot: &'e HotChunks,
    /// The new chunks without a unit yet.
    missing: HashMap<Digest, u32>,
}

/// The units of other packs of this profile that make new chunks of `new` from chunks of `old`. A pack
/// that cannot be read or verified is passed over.
///
/// # Errors
/// The store cannot list its packs.
pub(super) fn units(
    history: &History,
    name: &ProfileName,
    old: &End,
    new: &End,
    hot: &HotChunks,
) -> Result<Vec<ReusedUnit>> {
    let mut have: HashSet<Digest> = old.digests();
    let rows = old.index.chunks().map(|chunk| chunk.digest).zip(0..);
    let chunks = new.index.chunks().zip(0u32..);
    let missing = chunks.filter(|(chunk, _)| have.insert(chunk.digest));
    let mut wanted = ReuseSearch {
        old,
        hot,
        missing: missing.map(|(chunk, row)| (chunk.digest, row)).collect(),
        rows: rows.collect(),
    };
    let mut packs = offers(history.store())?;
    packs.retain(|offer| offer.record.name() == *name);
    // The pack that was made last has most in common with this one.
    packs.sort_by_key(|offer| {
        std::cmp::Reverse((offer.record.to.revision, offer.record.from.revision))
    });
    let mut units = Vec::new();
    for offer in packs.iter().take(PACKS_MAX) {
        if wanted.missing.is_empty() {
            break;
        }
        if let Err(error) = wanted.add_from(history, offer, &mut units) {
            tracing::info!(%error, key = %offer.key, "no unit of an update pack is used again");
        }
    }
    Ok(units)
}

impl ReuseSearch<'_> {
    fn add_from(
        &mut self,
        history: &History,
        offer: &Offer,
        units: &mut Vec<ReusedUnit>,
    ) -> Result<()> {
        let name = offer.record.name();
        let file = history.store().file(&offer.key)?;
        let record = verify_file(&file, Some((history, &name)))?;
        let from = history.revision(&RevisionName {
            name,
            revision: Some(record.from.revision),
        })?;
        // After a purge the pack starts from an index that is gone.
        let digest = from.manifest.index.digest;
        if digest != record.from.index {
            return Ok(());
        }
        let layer = history.store().open_layer(&Key::index(&digest), &digest)?;
        let pack = Arc::new(Opened::of(&file)?);
        let mut offset = pack.head.index_len();
        for unit in &pack.head.units {
            if let Some((unit, hot)) = self.usable(unit, layer.index()) {
                for made in &unit.made {
                    self.missing.remove(&made.digest);
                }
                units.push(ReusedUnit {
                    unit,
                    hot,
                    pack: Arc::clone(&pack),
                    offset,
                });
            }
            offset += u64::from(unit.stored_len);
        }
        Ok(())
    }

    /// The unit for this pack, and its place in the order of a boot: if all of its chunks are wanted and
    /// alike, and the old revision has every chunk of its prefix. `index`: where its spans are.
    fn usable(&self, unit: &Unit, index: &Index) -> Option<(Unit, Option<HotPlace>)> {
        let rows = unit.made.iter().map(|made| self.missing.get(&made.digest));
        let rows: Vec<u32> = rows.map(Option::<&u32>::copied).collect::<Option<_>>()?;
        // A boot does not wait for a unit that takes long.
        let place = |row: &u32| {
            self.hot
                .place(*row)
                .filter(|place| place.is_packed || !unit.is_costly())
        };
        let places: Vec<Option<HotPlace>> = rows.iter().map(place).collect();
        let is_hot = places.first()?.is_some();
        if !unit.is_supported() || places.iter().any(|it| it.is_some() != is_hot) {
            return None;
        }
        let only_hot = rows
            .iter()
            .any(|row| self.hot.needs_pack_only(self.old, *row));
        let span = |span: &Span| {
            let digest = index.chunk(span.chunk)?.digest;
            let chunk = *self.rows.get(&digest)?;
            let is_near = !only_hot || self.old.is_hot(chunk);
            is_near.then_some(Span { chunk, ..*span })
        };
        let prefix = unit.prefix.iter().map(span).collect::<Option<_>>()?;
        let unit = Unit {
            prefix,
            ..unit.clone()
        };
        Some((unit, places.into_iter().flatten().min()))
    }
}
