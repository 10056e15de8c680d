//! The superblock and its mirrors.

use std::io;

use super::checksum::{SUM_LEN_MAX, SumAlgorithm};
use super::tree::TreePointer;
use crate::fields::{array, byte, le16, le32, le64, slice};
use crate::walk::{damaged, unknown};
use crate::window::Window;

/// Offsets of the superblock and of its mirrors.
const PLACES: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const LEN: usize = 4096;
const MARK: &[u8; 8] = b"_BHRfS_M";

/// Features that change the reading. Supported: references of two kinds, a default subvolume, data beside
/// metadata, LZO, zstd, large blocks, long references, short references, no entries for holes, a UUID of
/// metadata, three and four copies, quotas without a tree. RAID 5 and 6 are refused by the chunk that uses
/// them.
const KNOWN: u64 = 0x1
    | 0x2
    | 0x4
    | 0x8
    | 0x10
    | 0x20
    | 0x40
    | 0x80
    | 0x100
    | 0x200
    | METADATA_UUID
    | 0x800
    | 0x1_0000;
/// Blocks have another UUID than the file system.
const METADATA_UUID: u64 = 0x400;
/// Dumps of metadata, and changes of the UUID or of checksums that were not completed.
const UNFINISHED: u64 = 0xf << 33 | 0x7 << 38;

/// The fields of the superblock.
#[derive(Debug, Clone)]
pub(super) struct BtrfsSuperblock {
    pub(super) algorithm: SumAlgorithm,
    /// The UUID in each block.
    pub(super) uuid: [u8; 16],
    /// Bytes of a sector, which has one checksum.
    pub(super) sector_len: usize,
    /// Bytes of a block of a tree.
    pub(super) node_len: usize,
    /// The tree of the roots of the other trees.
    pub(super) roots: TreePointer,
    /// The tree of chunks.
    pub(super) chunks: TreePointer,
    /// The chunks that hold the tree of chunks.
    pub(super) first_chunks: Vec<u8>,
    /// The directory of the tree of roots that names the default subvolume.
    pub(super) default_directory: u64,
    /// Number of the device.
    pub(super) device: u64,
    /// The UUID of the file system in hexadecimal digits, and its label.
    names: (String, Vec<u8>),
}

impl BtrfsSuperblock {
    /// Reads the superblock, or its first intact mirror.
    pub(super) fn read(image: &Window) -> io::Result<Self> {
        let mut bytes = vec![0; LEN];
        for place in PLACES {
            if place + LEN as u64 > image.len() {
                break;
            }
            image.read_exact_at(&mut bytes, place)?;
            if is_sound(&bytes, place)? {
                return BtrfsSuperblock::parse(&bytes, image.len());
            }
        }
        Err(damaged("its superblock does not match its checksum"))
    }

    fn parse(bytes: &[u8], image_len: u64) -> io::Result<Self> {
        let features = le64(bytes, 188)?;
        if features & !KNOWN != 0 {
            let features = features & !KNOWN;
            let problem = format!(
                "it uses unsupported features ({features:#x}); mount it read-only and name the directory"
            );
            return Err(unknown(problem));
        }
        if le64(bytes, 56)? & UNFINISHED != 0 {
            return Err(unknown(
                "it is a dump of metadata, or `btrfstune` did not complete a change of it",
            ));
        }
        let devices = le64(bytes, 136)?;
        if devices != 1 {
            let problem =
                format!("it spans {devices} devices; mount it read-only and name the directory");
            return Err(unknown(problem));
        }
        if le64(bytes, 96)? != 0 {
            return Err(unknown(
                "its log holds changes; mount and unmount it once \
                 (`mount -o loop IMAGE DIR && umount DIR` as root), and try again",
            ));
        }
        let (sector_len, node_len) = (le32(bytes, 144)?, le32(bytes, 148)?);
        let is_len = |len: u32| len.is_power_of_two() && (4096..=65_536).contains(&len);
        if !is_len(sector_len) || !is_len(node_len) {
            return Err(damaged("its superblock is impossible"));
        }
        let device_len = le64(bytes, 209)?;
        if device_len > image_len {
            let problem = format!(
                "the image is truncated: its file system has {device_len} bytes, it has {image_len}"
            );
            return Err(damaged(problem));
        }
        let uuid = match features & METADATA_UUID {
            0 => 32,
            _ => 571,
        };
        let chunks_len = le32(bytes, 160)? as usize;
        Ok(BtrfsSuperblock {
            algorithm: SumAlgorithm::parse(le16(bytes, 196)?)?,
            uuid: array(bytes, uuid)?,
            sector_len: sector_len as usize,
            node_len: node_len as usize,
            roots: TreePointer::root(le64(bytes, 80)?, byte(bytes, 198)?, le64(bytes, 72)?),
            chunks: TreePointer::root(le64(bytes, 88)?, byte(bytes, 199)?, le64(bytes, 164)?),
            first_chunks: slice(bytes, 811, chunks_len.min(2048))?.to_vec(),
            default_directory: le64(bytes, 128)?,
            device: le64(bytes, 201)?,
            names: names(bytes)?,
        })
    }

    /// True if `device` is `UUID=` or `LABEL=` with the name of this file system.
    pub(super) fn has_name(&self, device: &str) -> bool {
        let (uuid, label) = &self.names;
        match device.split_once('=') {
            Some(("UUID", name)) => name.replace('-', "").eq_ignore_ascii_case(uuid),
            Some(("LABEL", name)) => name.as_bytes() == label,
            _ => false,
        }
    }
}

/// The UUID that programs see, and the label.
fn names(bytes: &[u8]) -> io::Result<(String, Vec<u8>)> {
    let uuid = u128::from_be_bytes(array(bytes, 32)?);
    let label = slice(bytes, 299, 256)?.split(|&byte| byte == 0).next();
    Ok((format!("{uuid:032x}"), label.unwrap_or_default().to_vec()))
}

/// True if this is the superblock that belongs to `place`, with the right checksum.
fn is_sound(bytes: &[u8], place: u64) -> io::Result<bool> {
    if bytes.get(64..72) != Some(MARK) || le64(bytes, 48)? != place {
        return Ok(false);
    }
    let algorithm = SumAlgorithm::parse(le16(bytes, 196)?)?;
    let (stored, rest) = bytes.split_at(SUM_LEN_MAX);
    Ok(algorithm.matches(rest, stored))
}
