//! The drivers and firmware that stay packed, divided into parts, so that `bakery serve` can send one
//! machine only the parts that it needs.
//!
//! Files with the same users are one part. Each part is a complete cpio archive, compressed apart; all
//! of them, one after the other, are the packed file of the initramfs.

use std::collections::{BTreeMap, BTreeSet};

use super::archive::CpioArchive;
use super::compress::Compression;
use super::error::Result;
use super::needs::Needs;
use super::part_table::{DriverParts, PartTable};
use super::{PACKED, PART_TABLE};

/// A file that stays packed.
#[derive(Debug, Clone)]
pub(crate) struct PackedFile {
    /// Path in the archive.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// The modules that it belongs to: the module itself, or those that ask for the firmware.
    pub modules: Vec<String>,
}

/// The number of the disks among the users of a file; drivers follow.
const DISKS: usize = 0;

/// Divides the packed files into parts. Returns the table and an uncompressed cpio archive with both.
///
/// # Errors
/// The compression fails.
pub(crate) fn divide(
    needs: &Needs<'_>,
    files: Vec<PackedFile>,
    (mtime, compression): (i64, Compression),
) -> Result<(PartTable, Vec<u8>)> {
    let drivers = needs.drivers();
    let of_disks = needs.disks();
    let mut parts: BTreeMap<BTreeSet<usize>, CpioArchive> = BTreeMap::new();
    for file in files {
        let needed = |modules: &BTreeSet<&str>| {
            let mut names = file.modules.iter();
            names.any(|name| modules.contains(name.as_str()))
        };
        let mut users = BTreeSet::new();
        if needed(&of_disks) {
            users.insert(DISKS);
        }
        for (number, driver) in (DISKS + 1..).zip(&drivers) {
            if needed(&driver.modules) {
                users.insert(number);
            }
        }
        parts
            .entry(users)
            .or_insert_with(|| CpioArchive::new(mtime))
            .file(&file.path, 0o644, file.bytes);
    }
    let mut table = PartTable::default();
    let mut packed = Vec::new();
    let mut users_of_parts = Vec::new();
    for (users, archive) in parts {
        let bytes = compression.of_data(&archive.finish())?;
        table.parts.push(bytes.len() as u64);
        packed.extend(bytes);
        users_of_parts.push(users);
    }
    let parts_of = |number: usize| -> Vec<usize> {
        let has = users_of_parts.iter().enumerate();
        has.filter(|(_, users)| users.contains(&number))
            .map(|(part, _)| part)
            .collect()
    };
    table.disks = parts_of(DISKS);
    for (number, driver) in (DISKS + 1..).zip(&drivers) {
        let mut aliases: Vec<String> = driver.aliases.iter().map(|one| (*one).into()).collect();
        aliases.sort_unstable();
        aliases.dedup();
        let of_driver = table.drivers.entry(driver.name.to_owned());
        let DriverParts { cards, parts } = of_driver.or_default();
        cards.extend(aliases);
        parts.extend(parts_of(number));
        parts.sort_unstable();
        parts.dedup();
    }
    let mut archive = CpioArchive::new(mtime);
    archive.file(PACKED, 0o644, packed);
    archive.file(PART_TABLE, 0o644, Compression::xz(&table.to_json())?);
    Ok((table, archive.finish()))
}

#[cfg(test)]
mod tests;
