//! Disk images: finds the partition that holds the system.

use std::fmt::Write as _;
use std::io::{self, Read, Seek, SeekFrom};
use std::iter;

use super::limits::PARTITIONS_MAX;
use super::magic::{HEAD_LEN, SourceForm, form};
use super::walk::damaged;
use super::window::Window;

/// The types of partitions that are root file systems, by processor (Discoverable Partitions
/// Specification): x86-64, AArch64, 32-bit x86.
const ROOT_TYPES: [&str; 3] = [
    "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
    "44479540-F297-41B2-9AF7-D131D5F0458A",
];
const SECTOR_LEN: u64 = 512;

/// A partition of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as the kernel counts.
    pub number: u32,
    /// Start of the partition, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
    /// True if the table marks it as the root file system.
    is_root: bool,
}

/// The partitions of a disk.
#[derive(Debug)]
pub struct Disk {
    partitions: Vec<Partition>,
    /// Names of partitions, as `etc/fstab` has them, by their numbers.
    names: Vec<(u32, String)>,
}

impl Disk {
    /// Reads the partition table of the disk in `image`.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(image: &Window) -> io::Result<Self> {
        for sector_len in [SECTOR_LEN, 4096] {
            let mut mark = [0; 8];
            if image.read_exact_at(&mut mark, sector_len).is_ok() && &mark == b"EFI PART" {
                return gpt_table(image, sector_len);
            }
        }
        mbr_table(image)
    }

    /// The partitions to import from: `wanted`, or the only one of type "root", or all that have a
    /// supported file system.
    ///
    /// # Errors
    /// There is none; the message lists all.
    pub fn systems(&self, image: &Window, wanted: Option<u32>) -> Result<Vec<Partition>, String> {
        if let Some(number) = wanted {
            let found = self.numbered(number).map(|part| vec![part]);
            let problem = || format!("there is no partition {number}; {}", self.listed(image));
            return found.ok_or_else(problem);
        }
        let systems = self.partitions.iter().copied();
        let systems: Vec<Partition> = systems
            .filter(|part| content(image, part).is_some())
            .collect();
        let roots = systems.iter().filter(|part| part.is_root);
        match (systems.as_slice(), roots.collect::<Vec<_>>().as_slice()) {
            ([], _) => Err(format!(
                "no partition has a supported file system; {}",
                self.listed(image)
            )),
            (_, [only]) => Ok(vec![**only]),
            _ => Ok(systems),
        }
    }

    /// All partitions.
    pub(super) fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition of this number.
    pub(super) fn numbered(&self, number: u32) -> Option<Partition> {
        let mut all = self.partitions.iter();
        all.find(|part| part.number == number).copied()
    }

    /// The names of a partition in the table: `PARTUUID=…`, `PARTLABEL=…`.
    pub(super) fn names(&self, number: u32) -> Vec<String> {
        let names = self.names.iter().filter(|(known, _)| *known == number);
        names.map(|(_, name)| name.clone()).collect()
    }

    /// The partitions, for a message.
    pub(super) fn listed(&self, image: &Window) -> String {
        let mut text = "it has".to_owned();
        for (part, separator) in self
            .partitions
            .iter()
            .zip(iter::once("").chain(iter::repeat(",")))
        {
            let mib = part.len.div_ceil(1 << 20);
            let words = words(image, part);
            let _ = write!(text, "{separator} {} ({mib} MiB, {words})", part.number);
        }
        if self.partitions.is_empty() {
            text.push_str(" no partitions");
        }
        text
    }
}

/// The form of a partition's content, or the reason why it is not supported.
fn found(image: &Window, part: &Partition) -> Result<SourceForm, String> {
    let len = usize::try_from(part.len).unwrap_or(HEAD_LEN);
    let mut head = vec![0; HEAD_LEN.min(len)];
    let read = image.read_exact_at(&mut head, part.start);
    read.map_err(|cause| cause.to_string())?;
    form(&head)
}

/// The content of a partition, if it can be a system.
fn content(image: &Window, part: &Partition) -> Option<SourceForm> {
    let form = found(image, part).ok()?;
    let is_system = matches!(
        form,
        SourceForm::Ext
            | SourceForm::Erofs
            | SourceForm::Squashfs
            | SourceForm::Btrfs
            | SourceForm::Xfs
    );
    is_system.then_some(form)
}

/// The content of a partition, for a message: of an unsupported one with the remedy.
fn words(image: &Window, part: &Partition) -> String {
    if let Some(form) = content(image, part) {
        return form.words().to_owned();
    }
    let problem = found(image, part).err().unwrap_or_default();
    match problem.strip_prefix("it is ") {
        Some(known) if !known.starts_with("not ") => known.replace("; ", ": "),
        _ => "nothing supported".to_owned(),
    }
}

/// A window that can seek, for the crate that reads the table.
#[derive(Debug)]
struct Cursor<'w> {
    image: &'w Window,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.image.len().saturating_sub(self.at);
        let count = usize::try_from(rest)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = buffer.get_mut(..count).unwrap_or_default();
        self.image.read_exact_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The crate requires this; nothing is written.
impl io::Write for Cursor<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.image.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fn gpt_table(image: &Window, sector_len: u64) -> io::Result<Disk> {
    let sector = match sector_len {
        SECTOR_LEN => gpt::disk::LogicalBlockSize::Lb512,
        _ => gpt::disk::LogicalBlockSize::Lb4096,
    };
    let config = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(sector);
    let cursor = Cursor { image, at: 0 };
    let table = config
        .open_from_device(cursor)
        .map_err(|error| damaged(format!("its partition table is damaged: {error}")))?;
    let (mut partitions, mut names) = (Vec::new(), Vec::new());
    for (number, part) in table.partitions().iter().take(PARTITIONS_MAX) {
        let start = part.first_lba.checked_mul(sector_len);
        let sectors = (part.last_lba + 1).checked_sub(part.first_lba);
        let len = sectors.and_then(|sectors| sectors.checked_mul(sector_len));
        let (Some(start), Some(len)) = (start, len) else {
            return Err(damaged("a partition is outside the disk"));
        };
        names.push((*number, format!("PARTUUID={}", part.part_guid)));
        names.push((*number, format!("PARTLABEL={}", part.name)));
        let kind = part.part_type_guid.guid.to_string();
        partitions.push(Partition {
            number: *number,
            start,
            len,
            is_root: ROOT_TYPES
                .iter()
                .any(|root| root.eq_ignore_ascii_case(&kind)),
        });
    }
    Ok(Disk { partitions, names })
}

/// A master boot record: four partitions, one of which may hold a chain of more.
fn mbr_table(image: &Window) -> io::Result<Disk> {
    let mut partitions = Vec::new();
    let mut chain = None;
    for (place, (kind, start, len)) in record(image, 0)?.into_iter().enumerate() {
        match kind {
            0 => {}
            0x05 | 0x0f | 0x85 => chain = Some(start),
            _ => partitions.push(partition(place as u32 + 1, start, len)),
        }
    }
    let mut next = chain;
    let (mut number, mut links) = (5, 0);
    while let (Some(at), Some(first)) = (next, chain) {
        links += 1;
        if links > PARTITIONS_MAX {
            return Err(damaged("its chain of partitions does not end"));
        }
        let entries = record(image, at)?;
        next = None;
        for (kind, start, len) in entries.into_iter().take(2) {
            match kind {
                0 => {}
                0x05 | 0x0f | 0x85 => next = Some(first + start),
                _ => {
                    partitions.push(partition(number, at + start, len));
                    number += 1;
                }
            }
        }
    }
    let mut signature = [0; 4];
    image.read_exact_at(&mut signature, 440)?;
    let signature = u32::from_le_bytes(signature);
    let names = partitions.iter().map(|part| {
        let name = format!("PARTUUID={signature:08x}-{:02x}", part.number);
        (part.number, name)
    });
    Ok(Disk {
        names: names.collect(),
        partitions,
    })
}

fn partition(number: u32, start: u64, len: u64) -> Partition {
    Partition {
        number,
        start: start * SECTOR_LEN,
        len: len * SECTOR_LEN,
        is_root: false,
    }
}

/// Kind, first sector and number of sectors of the four entries of a boot record.
fn record(image: &Window, sector: u64) -> io::Result<Vec<(u8, u64, u64)>> {
    let mut record = [0; SECTOR_LEN as usize];
    let offset = sector.checked_mul(SECTOR_LEN);
    image.read_exact_at(&mut record, offset.ok_or(io::ErrorKind::InvalidData)?)?;
    let word = |entry: &[u8], at: usize| {
        let bytes = entry.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
    };
    let entries = record.get(446..510).unwrap_or_default().chunks_exact(16);
    let entries = entries.map(|entry| {
        let kind = entry.get(4).copied().unwrap_or_default();
        (kind, word(entry, 8), word(entry, 12))
    });
    Ok(entries.collect())
}
