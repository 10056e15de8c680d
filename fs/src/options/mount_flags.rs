//! The options that mount(8) accepts for every file system: flags of the mount, and options for
//! userspace only.

use rustix::mount::MountFlags;

const NONE: MountFlags = MountFlags::empty();
/// The three access-time flags; a mount has one of them.
const NOATIME: MountFlags = MountFlags::NOATIME;
const RELATIME: MountFlags = MountFlags::RELATIME;
const STRICTATIME: MountFlags = MountFlags::STRICTATIME;
/// Flags of a mount by a member of the right group, or by the owner.
const OWNER: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// Flags of a mount by any user.
const USER: MountFlags = OWNER.union(MountFlags::NOEXEC);

/// Each option with the flags it sets and the flags it clears; the last of several wins.
const FLAGS: [(&str, MountFlags, MountFlags); 29] = [
    ("ro", MountFlags::RDONLY, NONE),
    ("rw", NONE, MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID, NONE),
    ("suid", NONE, MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV, NONE),
    ("dev", NONE, MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC, NONE),
    ("exec", NONE, MountFlags::NOEXEC),
    ("nosymfollow", MountFlags::NOSYMFOLLOW, NONE),
    ("symfollow", NONE, MountFlags::NOSYMFOLLOW),
    ("sync", MountFlags::SYNCHRONOUS, NONE),
    ("async", NONE, MountFlags::SYNCHRONOUS),
    ("dirsync", MountFlags::DIRSYNC, NONE),
    ("silent", MountFlags::SILENT, NONE),
    ("loud", NONE, MountFlags::SILENT),
    ("noatime", NOATIME, RELATIME.union(STRICTATIME)),
    ("atime", NONE, MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME, NONE),
    ("diratime", NONE, MountFlags::NODIRATIME),
    ("relatime", RELATIME, NOATIME.union(STRICTATIME)),
    ("norelatime", NONE, MountFlags::RELATIME),
    ("strictatime", STRICTATIME, NOATIME.union(RELATIME)),
    ("nostrictatime", NONE, MountFlags::STRICTATIME),
    ("lazytime", MountFlags::LAZYTIME, NONE),
    ("nolazytime", NONE, MountFlags::LAZYTIME),
    ("user", USER, NONE),
    ("users", USER, NONE),
    ("owner", OWNER, NONE),
    ("group", OWNER, NONE),
];

/// Options without effect here. The last four would be flags: the kernel has no mandatory locks
/// since 5.15, and FUSE refuses a mount with that flag; the kernel ignores the other.
const WITHOUT_EFFECT: [&str; 18] = [
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "nouser",
    "nousers",
    "noowner",
    "nogroup",
    "comment",
    "helper",
    "uhelper",
    "allow_other",
    "default_permissions",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
];

/// `flags` after option `name`; `None` if it is not an option of mount(8).
pub(super) fn apply(flags: MountFlags, name: &str) -> Option<MountFlags> {
    if let Some((_, sets, clears)) = FLAGS.iter().find(|(known, ..)| *known == name) {
        return Some((flags | *sets) - *clears);
    }
    let known = WITHOUT_EFFECT.contains(&name) || name.starts_with("x-") || name.starts_with("X-");
    known.then_some(flags)
}
