//! A private mount of a file system that is mounted elsewhere: with its own rules for access times, and in no
//! mount table.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::{MountAttrFlags, MountFlags, OpenTreeFlags};

use super::{Errno, Result};

/// `struct mount_attr` of <linux/mount.h>.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A private clone of the mount of `path`, from that directory on. It ends when the descriptor and
/// all descriptors opened below it are closed.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENOSYS before Linux 5.2.
pub(crate) fn another(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags)
}

/// The number of the mount of `path`.
///
/// # Errors
/// ENOENT; ENOSYS on kernels that do not report it (before 5.8).
pub(crate) fn number_of(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?;
    let has_number = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
    has_number.then_some(stat.stx_mnt_id).ok_or(Errno::NOSYS)
}

/// The flags for access times among `flags`; `None`: there are none.
fn rules(flags: MountFlags) -> Option<MountAttributes> {
    let mut set = MountAttrFlags::empty();
    let mut clear = MountAttrFlags::empty();
    for (flag, rule) in [
        (MountFlags::RELATIME, MountAttrFlags::MOUNT_ATTR_RELATIME),
        (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (
            MountFlags::STRICTATIME,
            MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        ),
    ] {
        if flags.contains(flag) {
            set = rule;
            clear = MountAttrFlags::MOUNT_ATTR__ATIME;
        }
    }
    if flags.contains(MountFlags::NODIRATIME) {
        set |= MountAttrFlags::MOUNT_ATTR_NODIRATIME;
    } else if !clear.is_empty() {
        clear |= MountAttrFlags::MOUNT_ATTR_NODIRATIME;
    }
    let says = !set.is_empty() || !clear.is_empty();
    says.then(|| MountAttributes {
        set: set.bits().into(),
        clear: clear.bits().into(),
        propagation: 0,
        userns_fd: 0,
    })
}

/// Sets the access-time rules of `mount`, one of our own, from `flags` (noatime, relatime,
/// strictatime, nodiratime). Without such flags nothing changes.
///
/// # Errors
/// ENOSYS before Linux 5.12.
pub(crate) fn keep_access_times(mount: &OwnedFd, flags: MountFlags) -> Result<()> {
    let Some(rules) = rules(flags) else {
        return Ok(());
    };
    // SAFETY: the path is a constant string, the attributes are of the length that is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const rules,
            size_of::<MountAttributes>(),
        )
    };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_the_rules_they_set() {
        let rule = |flags| rules(flags).map(|rules| (rules.set, rules.clear));
        assert_eq!(rule(MountFlags::NOSUID | MountFlags::LAZYTIME), None);
        assert_eq!(rule(MountFlags::NOATIME), Some((0x10, 0xf0)));
        assert_eq!(rule(MountFlags::RELATIME), Some((0, 0xf0)));
        assert_eq!(rule(MountFlags::STRICTATIME), Some((0x20, 0xf0)));
        assert_eq!(rule(MountFlags::NODIRATIME), Some((0x80, 0)));
        let both = MountFlags::RELATIME | MountFlags::NODIRATIME;
        assert_eq!(rule(both), Some((0x80, 0x70)));
    }
}
