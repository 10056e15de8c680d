//! The pages of udev's hardware database that look-ups read: `hwdb.bin` is a trie of megabytes, and
//! a boot reads a path of it for each device.

use std::collections::BTreeSet;

use super::boot_files::BootFiles;
use crate::limits::{HWDB_DEPTH_MAX, HWDB_PATTERNS_MAX};

const PLACES: [&str; 3] = [
    "/etc/udev/hwdb.bin",
    "/usr/lib/udev/hwdb.bin",
    "/lib/udev/hwdb.bin",
];
const MAGIC: &[u8] = b"KSLPHHRH";
const HEADER_LEN: u64 = 80;
/// Devices of virtual machines and of most physical ones, as udev's rules ask for them.
const DEVICES: [&str; 32] = [
    "pci:v00008086d00001237sv00001AF4sd00001100bc06sc00i00",
    "pci:v00008086d00007000sv00001AF4sd00001100bc06sc01i00",
    "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80",
    "pci:v00008086d00007113sv00001AF4sd00001100bc06sc80i00",
    "pci:v00008086d000029C0sv00001AF4sd00001100bc06sc00i00",
    "pci:v00008086d00002918sv00001AF4sd00001100bc06sc01i00",
    "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
    "pci:v00008086d00002930sv00001AF4sd00001100bc0Csc05i00",
    "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00",
    "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
    "pci:v00001AF4d00001005sv00001AF4sd00000004bc00scFFi00",
    "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
    "pci:v00001AF4d00001044sv00001AF4sd00001100bc00scFFi00",
    "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00",
    "acpi:LNXSYSTM:",
    "acpi:LNXPWRBN:",
    "acpi:PNP0303:",
    "acpi:PNP0501:",
    "acpi:PNP0A03:",
    "acpi:QEMU0002:",
    "dmi:bvnSeaBIOS:bvr1:bd1:br0.0:svnQEMU:pnStandardPC:pvrpc:",
    "OUI:525400123456",
    "evdev:atkbd:dmi:bvnSeaBIOS:bvr1:bd1:svnQEMU:",
    "evdev:name:AT Translated Set 2 keyboard:dmi:bvnSeaBIOS:",
    "evdev:input:b0011v0001p0001eAB41",
    "id-input:modalias:input:b0011v0001p0001eAB41",
    "mouse:ps2::name:ImExPS/2 Generic Explorer Mouse:",
    "touchpad:i8042:v0002p0006:",
    "sensor:modalias:acpi:",
    "virtio:d00000001v00001AF4",
    "input:b0011v0001p0001eAB41-e0,1,4,11,14,k",
    "usb:v1D6Bp0002d0612dc09dsc00dp00ic09isc00ip00in00",
];

/// Adds the pages of the database that look-ups of common devices read.
pub(super) fn add(files: &mut BootFiles<'_>) {
    let found = PLACES.into_iter().find_map(|path| files.tree.file(path));
    let Some(ino) = found else {
        return;
    };
    let tree = files.tree;
    let Some(database) = HardwareTrie::read(|at, len| tree.bytes(ino, at, len)) else {
        return;
    };
    let mut places = BTreeSet::from([0]);
    for device in DEVICES {
        database.look_up(device.as_bytes(), &mut places);
    }
    files.places(ino, places);
}

/// The trie, and the lengths of its records.
struct HardwareTrie<R> {
    read: R,
    node_len: u64,
    child_len: u64,
    value_len: u64,
    root: u64,
}

struct TrieNode {
    prefix: Vec<u8>,
    /// Character and offset of each child.
    children: Vec<(u8, u64)>,
}

impl<R: Fn(u64, u64) -> Option<Vec<u8>>> HardwareTrie<R> {
    fn read(read: R) -> Option<Self> {
        let head = read(0, HEADER_LEN)?;
        let word = |at: usize| word(&head, at);
        let database = Self {
            node_len: word(32)?,
            child_len: word(40)?,
            value_len: word(48)?,
            root: word(56)?,
            read,
        };
        let is_known = head.starts_with(MAGIC)
            && (24..=64).contains(&database.node_len)
            && (16..=64).contains(&database.child_len)
            && (16..=64).contains(&database.value_len);
        is_known.then_some(database)
    }

    /// Follows the path of a device; at each wildcard on the way udev compares all patterns below
    /// it. The offsets that are read are added to `places`.
    fn look_up(&self, device: &[u8], places: &mut BTreeSet<u64>) {
        let (mut at, mut rest) = (self.root, device);
        for _ in 0..HWDB_DEPTH_MAX {
            let Some(node) = self.node(at, places) else {
                return;
            };
            let Some(after) = rest.strip_prefix(node.prefix.as_slice()) else {
                return;
            };
            for (sign, child) in &node.children {
                if matches!(sign, b'*' | b'?' | b'[') {
                    self.patterns(*child, places);
                }
            }
            let Some((next, after)) = after.split_first() else {
                self.values(at, places);
                return;
            };
            let Some((_, child)) = node.children.iter().find(|(sign, _)| sign == next) else {
                return;
            };
            (at, rest) = (*child, after);
        }
    }

    /// Reads all nodes below a wildcard. Nothing follows it in most patterns, so they match.
    fn patterns(&self, top: u64, places: &mut BTreeSet<u64>) {
        let mut waiting = vec![top];
        for count in 0..HWDB_PATTERNS_MAX {
            let Some(node) = waiting.pop().and_then(|at| self.node(at, places)) else {
                return;
            };
            if count == 0 && node.prefix.is_empty() {
                self.values(top, places);
            }
            waiting.extend(node.children.iter().map(|(_, child)| *child));
        }
    }

    fn node(&self, at: u64, places: &mut BTreeSet<u64>) -> Option<TrieNode> {
        let head = (self.read)(at, self.node_len)?;
        let prefix_at = word(&head, 0)?;
        places.extend([at, prefix_at]);
        let prefix = (self.read)(prefix_at, 256)?;
        let end = prefix.iter().position(|byte| *byte == 0)?;
        let (table_at, len) = self.children(at, &head)?;
        places.insert(table_at.checked_add(len)?);
        let table = (self.read)(table_at, len)?;
        let children = table
            .chunks_exact(usize::try_from(self.child_len).ok()?)
            .filter_map(|row| Some((*row.first()?, word(row, 8)?)))
            .collect();
        Some(TrieNode {
            prefix: prefix.get(..end)?.to_vec(),
            children,
        })
    }

    /// The place and the length of the table of a node's children.
    fn children(&self, at: u64, head: &[u8]) -> Option<(u64, u64)> {
        let len = u64::from(*head.get(8)?) * self.child_len;
        Some((at.checked_add(self.node_len)?, len))
    }

    /// Reads the values of the node at `at`.
    fn values(&self, at: u64, places: &mut BTreeSet<u64>) -> Option<()> {
        let head = (self.read)(at, self.node_len)?;
        let (table_at, len) = self.children(at, &head)?;
        let count = word(&head, 16)?.min(64);
        let table = (self.read)(table_at.checked_add(len)?, count * self.value_len)?;
        for row in table.chunks_exact(usize::try_from(self.value_len).ok()?) {
            places.extend(word(row, 0));
            places.extend(word(row, 8));
        }
        Some(())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
