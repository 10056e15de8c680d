//! The mount table of the kernel.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::sys::object::proc_path;

/// The type of our mounts in the kernel's tables.
pub(crate) const TYPE: &str = "fuse.layerfs";

/// The text of `/proc/self/mountinfo`, if there is a /proc.
pub(crate) fn read() -> Option<String> {
    std::fs::read_to_string(proc_path("self/mountinfo")).ok()
}

/// The mount of the daemon below a root that the kernel's overlayfs stacks (`layerfs.upper=…,kernel`).
const LOWER_OF_ROOT: &str = "/run/layerfs/lower";

/// The mount to ask about `mountpoint`: the one below `/` if the kernel's overlayfs is the root.
pub(crate) fn served(mountpoint: &Path) -> &Path {
    let table = read().unwrap_or_default();
    let lower = std::fs::canonicalize(LOWER_OF_ROOT).unwrap_or_default();
    if is_stacked(&table, mountpoint, &lower) {
        Path::new(LOWER_OF_ROOT)
    } else {
        mountpoint
    }
}

/// True if `mountpoint` is the root, an overlayfs, and a layerfs is mounted on `lower`.
fn is_stacked(table: &str, mountpoint: &Path, lower: &Path) -> bool {
    let root = Path::new("/");
    let kinds = kinds(table);
    mountpoint == root
        && kinds.get(root) == Some(&Some("overlay"))
        && kinds.get(lower) == Some(&Some(TYPE))
}

/// True if a file system of the device `major:minor` is mounted anywhere in `table`.
pub(crate) fn lists(table: &str, device: &str) -> bool {
    table
        .lines()
        .any(|line| line.split(' ').nth(2) == Some(device))
}

/// `major:minor` of the topmost mount on `mountpoint` now.
pub(crate) fn device_now(mountpoint: &Path) -> Option<String> {
    device_of(&read()?, mountpoint).map(str::to_owned)
}

/// `major:minor` of the topmost mount on `mountpoint` in `table`.
pub(crate) fn device_of<'t>(table: &'t str, mountpoint: &Path) -> Option<&'t str> {
    let wanted = mountpoint.as_os_str().as_bytes();
    table.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let device = fields.nth(2)?;
        let at = fields.nth(1)?;
        (unescape_octal(at.as_bytes()) == wanted).then_some(device)
    })
}

/// The mount points in `table` at which the last mount is a layerfs, sorted.
pub(crate) fn layerfs_points(table: &str) -> Vec<PathBuf> {
    let mut types = kinds(table);
    types.retain(|_, kind| *kind == Some(TYPE));
    types.into_keys().collect()
}

/// The type of the last mount on each mount point.
fn kinds(table: &str) -> BTreeMap<PathBuf, Option<&str>> {
    let mut types = BTreeMap::new();
    for line in table.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else {
            continue;
        };
        if let Some(point) = mount.split(' ').nth(4) {
            let point = PathBuf::from(OsString::from_vec(unescape_octal(point.as_bytes())));
            types.insert(point, file_system.split(' ').next());
        }
    }
    types
}

/// The mount points at and below `below`, deepest first; `mounts` is the text of `/proc/mounts`.
pub(crate) fn points_below(mounts: &[u8], below: &Path) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mounts
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(1))
        .map(|point| PathBuf::from(OsString::from_vec(unescape_octal(point))))
        .filter(|point| point.starts_with(below))
        .collect();
    points.sort_unstable_by(|a, b| b.cmp(a));
    points
}

/// The tables write blanks as `\040` and the like.
fn unescape_octal(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_mount_with_blanks_in_its_name() {
        let table = "36 35 98:0 / /mnt\\0401 rw - ext3 /dev/root rw\n\
                     37 35 0:55 / /mnt\\0401 rw - fuse.layerfs x rw\n\
                     38 35 0:56 / /other rw - tmpfs x rw\n";
        assert_eq!(device_of(table, Path::new("/mnt 1")), Some("0:55"));
        assert_eq!(device_of(table, Path::new("/mnt")), None);
        assert!(lists(table, "0:56") && !lists(table, "0:5"));
    }

    #[test]
    fn the_root_of_the_kernels_overlayfs_is_served_by_the_mount_below() {
        let table = "20 1 0:30 / / rw - overlay layerfs rw,lowerdir=/low\n\
                     21 20 0:55 / /low ro - fuse.layerfs x ro\n\
                     22 20 0:31 / /other rw - overlay overlay rw\n";
        let (root, low) = (Path::new("/"), Path::new("/low"));
        assert!(is_stacked(table, root, low));
        assert!(!is_stacked(table, Path::new("/other"), low));
        assert!(!is_stacked(table, root, Path::new("/other")));
        let own =
            "20 1 0:55 / / rw - fuse.layerfs x rw\n21 20 0:56 / /low ro - fuse.layerfs x ro\n";
        assert!(!is_stacked(own, root, low));
    }

    #[test]
    fn points_below_a_directory_come_deepest_first() {
        let mounts = b"rootfs / rootfs rw 0 0\nx /oldroot fuse.layerfs rw 0 0\nproc /oldroot/proc proc rw 0 0\n\
            t /oldroot/a\\040b\\134/c tmpfs rw 0 0\nt /oldrooted tmpfs rw 0 0\nt /layerfs/upper tmpfs rw 0 0\n";
        let found = points_below(mounts, Path::new("/oldroot"));
        let expected = ["/oldroot/proc", "/oldroot/a b\\/c", "/oldroot"].map(PathBuf::from);
        assert_eq!(found, expected);
        assert!(points_below(b"", Path::new("/oldroot")).is_empty());
    }
}
