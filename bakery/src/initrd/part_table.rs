//! The table of an initramfs in parts: the parts that each network card needs.
//!
//! The initramfs begins with an uncompressed cpio archive of two files, the packed file and this
//! table; the base follows, compressed. The packed file consists of the parts, one after the other.
//! The bytes of a part, and those of the base, are also a complete initramfs each, so the kernel
//! unpacks any of them one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use wire::machine::PciCard;

use super::archive;
use super::{PACKED, PART_TABLE};
use crate::human;
use crate::limits::{PART_TABLE_LEN_MAX, PARTS_MAX};

const FORMAT: u32 = 1;

/// The table as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartTable {
    format: u32,
    /// Network drivers of PCI cards, by name.
    pub drivers: BTreeMap<String, DriverParts>,
    /// The parts that a disk needs, in ascending order.
    pub disks: Vec<usize>,
    /// Length of each part.
    pub parts: Vec<u64>,
}

/// The cards of a driver, and its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DriverParts {
    /// Aliases of PCI cards, as in `modules.alias`.
    pub cards: Vec<String>,
    /// The parts that they need, in ascending order.
    pub parts: Vec<usize>,
}

impl Default for PartTable {
    fn default() -> Self {
        Self {
            format: FORMAT,
            drivers: BTreeMap::new(),
            disks: Vec::new(),
            parts: Vec::new(),
        }
    }
}

/// The needs of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MachineNeeds {
    /// The card.
    pub card: PciCard,
    /// True if it mounts a disk in the initramfs.
    pub disks: bool,
}

/// Compares a card with an alias, of which only vendor and device are known.
fn matches(card: PciCard, alias: &str) -> Match {
    let fields = || {
        let (vendor, rest) = alias.strip_prefix("pci:v")?.split_once('d')?;
        let (device, _) = rest.split_once("sv")?;
        Some((vendor, device))
    };
    let Some((vendor, device)) = fields() else {
        return Match::Possible;
    };
    let is = |text: &str, number: u16| text == format!("{number:08X}");
    match (vendor, is(device, card.device)) {
        ("*", true) => Match::Possible,
        (_, true) if is(vendor, card.vendor) => Match::Named,
        _ => Match::None,
    }
}

/// What an alias says about a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    /// It is for other cards, or for a class of devices of which the card may not be.
    None,
    /// It may be for the card.
    Possible,
    /// It names vendor and device.
    Named,
}

/// The parts of a whole initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DividedInitramfs {
    table: PartTable,
    /// Where the first part begins.
    packed_at: u64,
    /// The base, which follows the archive of the packed file.
    base: Range<u64>,
}

impl PartTable {
    /// The table as JSON.
    #[must_use]
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Numbers and texts only: it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn parse(compressed: &[u8]) -> io::Result<Self> {
        let mut bytes = Vec::new();
        liblzma::read::XzDecoder::new(compressed)
            .take(PART_TABLE_LEN_MAX + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > PART_TABLE_LEN_MAX {
            return Err(malformed("the table of parts is too long"));
        }
        let table: Self = serde_json::from_slice(&bytes)?;
        if table.format != FORMAT || table.parts.len() > PARTS_MAX {
            return Err(malformed("the table of parts has an unknown form"));
        }
        let lists = table.drivers.values().map(|driver| &driver.parts);
        let most = lists.chain([&table.disks]).flatten().max();
        if most.is_some_and(|number| *number >= table.parts.len()) {
            return Err(malformed(
                "the table of parts names a part that is not there",
            ));
        }
        Ok(table)
    }
}

impl DividedInitramfs {
    /// Reads the table of an initramfs; `None` if it is not in parts.
    ///
    /// # Errors
    /// The initramfs begins with such a table, which is damaged.
    pub(crate) fn read(initramfs: &[u8]) -> io::Result<Option<Self>> {
        let Some((members, end)) = archive::members(initramfs) else {
            return Ok(None);
        };
        let place = |wanted: &str| {
            let mut found = members.iter().filter(|(name, _)| name == wanted);
            found.next().map(|(_, place)| place.clone())
        };
        let (Some(packed), Some(table)) = (place(PACKED), place(PART_TABLE)) else {
            return Ok(None);
        };
        let table = PartTable::parse(initramfs.get(table).unwrap_or_default())?;
        let mut lens = table.parts.iter();
        let total = lens.try_fold(0_u64, |sum, len| sum.checked_add(*len));
        if total != Some(packed.len() as u64) {
            return Err(malformed(
                "the parts do not have the lengths of their table",
            ));
        }
        Ok(Some(Self {
            table,
            packed_at: packed.start as u64,
            base: end as u64..initramfs.len() as u64,
        }))
    }

    /// The bytes of the whole initramfs that are one for this machine, in order. `None` if no driver
    /// names the card: the machine then needs the whole one.
    #[must_use]
    pub(crate) fn cut(&self, machine: MachineNeeds) -> Option<Vec<Range<u64>>> {
        let matches = |driver: &DriverParts| {
            let aliases = driver.cards.iter();
            aliases.map(|alias| matches(machine.card, alias)).max()
        };
        let drivers = self.table.drivers.values();
        let found: Vec<(&DriverParts, Match)> = drivers
            .filter_map(|driver| Some((driver, matches(driver)?)))
            .filter(|(_, found)| *found > Match::None)
            .collect();
        if !found.iter().any(|(_, found)| *found == Match::Named) {
            return None;
        }
        let parts = found.iter().map(|(driver, _)| driver.parts.as_slice());
        Some(self.places(parts, machine.disks))
    }

    /// The lengths for machines of all kinds.
    #[must_use]
    pub(crate) fn lengths(&self) -> MachineLengths {
        let len = |parts: &[usize], disks| -> u64 {
            let places = self.places([parts].into_iter(), disks);
            places.iter().map(|place| place.end - place.start).sum()
        };
        let drivers = self.table.drivers.iter();
        MachineLengths {
            base: len(&[], false),
            disks: len(&[], true) - len(&[], false),
            drivers: drivers
                .map(|(name, driver)| (name.clone(), len(&driver.parts, false)))
                .collect(),
        }
    }

    /// The base and these parts; neighbours are one range.
    fn places<'p>(&self, lists: impl Iterator<Item = &'p [usize]>, disks: bool) -> Vec<Range<u64>> {
        let of_disks: &[usize] = if disks { &self.table.disks } else { &[] };
        let mut wanted: BTreeSet<usize> = lists.flatten().copied().collect();
        wanted.extend(of_disks);
        let mut places: Vec<Range<u64>> = vec![self.base.clone()];
        let mut at = self.packed_at;
        for (number, len) in self.table.parts.iter().enumerate() {
            let end = at + len;
            if wanted.contains(&number) {
                match places.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => places.push(at..end),
                }
            }
            at = end;
        }
        places
    }
}

/// The lengths of an initramfs that is cut to one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MachineLengths {
    /// Of the base, which every machine gets.
    pub base: u64,
    /// Of what a machine that mounts a disk gets in addition; less if its card needs some of it.
    pub disks: u64,
    /// Of the whole answer, by the driver of the card.
    pub drivers: BTreeMap<String, u64>,
}

impl std::fmt::Display for MachineLengths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by_len = |(_, len): &(&String, &u64)| **len;
        let least = self.drivers.iter().min_by_key(by_len);
        let most = self.drivers.iter().max_by_key(by_len);
        let (Some((first, least)), Some((last, most))) = (least, most) else {
            return f.write_str("whole for every card");
        };
        let [least, most, disks] = [*least, *most, self.disks].map(human::length);
        write!(
            f,
            "{least} ({first}) to {most} ({last}), and {disks} for disks"
        )
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
