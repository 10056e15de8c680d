//! Partitions that the system's `etc/fstab` mounts: the tree shows them at their mount points, as a
//! boot does. Ubuntu and RHEL keep `/boot` on a partition of its own.

use std::io;

use super::disk::{Disk, Partition};
use super::fields::array;
use super::fstab::{self, FSTAB, FstabLine, MountedSubvolume};
use super::magic::{HEAD_LEN, SourceForm, form};
use super::mounted::MountedTree;
use super::walk::FileSystem;
use super::window::Window;
use super::{Limits, file_system};

/// The file systems of a disk.
pub(crate) struct DiskMounts<'d> {
    pub(crate) disk: &'d Disk,
    pub(crate) image: &'d Window,
    /// The partition of the system.
    pub(crate) root: Partition,
    pub(crate) limits: Limits,
}

impl DiskMounts<'_> {
    /// The tree of the system with the partitions that its `etc/fstab` mounts, and notes on them.
    ///
    /// # Errors
    /// The system is damaged. Another partition that cannot be read is a note.
    pub(crate) fn tree(
        &self,
        mut system: Box<dyn FileSystem>,
    ) -> io::Result<(MountedTree, Vec<String>)> {
        let mut lines = fstab::read(&mut system)?;
        let root = lines.iter().find(|line| line.is_root());
        let root = root.map(|line| line.device.clone()).unwrap_or_default();
        lines.retain(|line| !line.is_root() && is_supported(&line.kind));
        // As at a boot, outer directories first.
        lines.sort_by_key(|line| line.place.len());
        let mut tree = MountedTree::new(system);
        let (mut notes, mut used) = (Vec::new(), vec![self.root.number]);
        for line in &lines {
            let Some(part) = self.partition(&line.device, &root)? else {
                continue;
            };
            // Subvolumes of the root are mounted already.
            if used.contains(&part.number) {
                continue;
            }
            let (path, number) = (line.path(), part.number);
            notes.push(match self.mount(&mut tree, line, part)? {
                Ok(()) => {
                    used.push(number);
                    format!("{path} is partition {number}, mounted as in {FSTAB}")
                }
                Err(problem) => format!(
                    "{FSTAB} mounts partition {number} at {path}, which is not read: {problem}"
                ),
            });
        }
        Ok((tree, notes))
    }

    /// Mounts a partition. A text if it cannot be read or mounted.
    fn mount(
        &self,
        tree: &mut MountedTree,
        line: &FstabLine,
        part: Partition,
    ) -> io::Result<Result<(), String>> {
        let window = self.image.another(part.start, part.len)?;
        let form = match form(&window.head(HEAD_LEN)?) {
            Ok(form) => form,
            Err(problem) => return Ok(Err(problem)),
        };
        let subvolume = match &line.subvolume {
            MountedSubvolume::Path(path) => Some(path.as_str()),
            MountedSubvolume::Id(_) | MountedSubvolume::Default => None,
        };
        match file_system::open(window, form, subvolume, self.limits) {
            Ok(Some(system)) => {
                let mounted = tree.mount(&line.place, system)?;
                Ok(mounted.map_err(str::to_owned))
            }
            Ok(None) => Ok(Err(format!("it is {}", form.words()))),
            Err(cause) => Ok(Err(cause.to_string())),
        }
    }

    /// The partition that `device` names; `root` is the device of the system.
    fn partition(&self, device: &str, root: &str) -> io::Result<Option<Partition>> {
        if let Some((device, number)) = numbered(device) {
            let known = numbered(root);
            let is_same = known == Some((device, self.root.number));
            return Ok(self.disk.numbered(number).filter(|_| is_same));
        }
        for part in self.disk.partitions() {
            let window = self.image.another(part.start, part.len)?;
            let mut names = self.disk.names(part.number);
            names.extend(names_of(&window).unwrap_or_default());
            if names.iter().any(|name| is_name(name, device)) {
                return Ok(Some(*part));
            }
        }
        Ok(None)
    }
}

fn is_supported(kind: &str) -> bool {
    matches!(
        kind,
        "auto" | "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "erofs"
    )
}

/// A path such as `/dev/vda2` as the path of the disk and the number of the partition.
fn numbered(device: &str) -> Option<(&str, u32)> {
    let disk = device.trim_end_matches(|digit: char| digit.is_ascii_digit());
    let number = device.get(disk.len()..)?.parse().ok()?;
    disk.starts_with("/dev/").then_some((disk, number))
}

/// True if `device` is `name`; the digits of a UUID have no case.
fn is_name(name: &str, device: &str) -> bool {
    match name.split_once('=') {
        Some(("UUID" | "PARTUUID", _)) => name.eq_ignore_ascii_case(device),
        _ => name == device,
    }
}

/// The UUID and the label of a file system, as `etc/fstab` names them.
fn names_of(window: &Window) -> io::Result<Vec<String>> {
    let head = window.head(HEAD_LEN)?;
    let (uuid_at, label_at, label_len) = match form(&head) {
        Ok(SourceForm::Ext) => (1024 + 104, 1024 + 120, 16),
        Ok(SourceForm::Xfs) => (32, 108, 12),
        Ok(SourceForm::Erofs) => (1024 + 48, 1024 + 64, 16),
        Ok(SourceForm::Btrfs) => (0x1_0020, 0x1_012b, 256),
        _ => return Ok(Vec::new()),
    };
    let uuid = format!("{:032x}", u128::from_be_bytes(array(&head, uuid_at)?));
    let mut name = "UUID=".to_owned();
    for (digit, place) in uuid.chars().zip(0..) {
        if matches!(place, 8 | 12 | 16 | 20) {
            name.push('-');
        }
        name.push(digit);
    }
    let label = head.get(label_at..).unwrap_or_default();
    let label = label.get(..label_len).unwrap_or(label);
    let label = label.split(|&byte| byte == 0).next().unwrap_or_default();
    let mut names = vec![name];
    if let Some(label) = std::str::from_utf8(label)
        .ok()
        .filter(|label| !label.is_empty())
    {
        names.push(format!("LABEL={label}"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_numbers() {
        assert_eq!(numbered("/dev/vda12"), Some(("/dev/vda", 12)));
        assert_eq!(numbered("/dev/nvme0n1p2"), Some(("/dev/nvme0n1p", 2)));
        for other in ["UUID=12", "/dev/vda", "/dev/99999999999", "LABEL=x1"] {
            assert_eq!(numbered(other), None, "{other}");
        }
        assert!(is_name("UUID=aB", "UUID=Ab") && !is_name("LABEL=a", "LABEL=A"));
    }
}
