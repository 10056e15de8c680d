//! Bounds on untrusted input, each with its reason. Those of pushes are in `jobs/limits.rs`, of
//! requests in `serve/limits.rs`, of images and archives in `source/limits.rs`.

/// Most objects with such lists.
pub(crate) const WAITING_LINKS_MAX: usize = 1 << 20;

/// Longest body of a file in a listing.
pub(crate) const LISTING_LINE_LEN_MAX: u64 = 128;

/// Longest listing, bytes: that of a million entries, compressed.
pub(crate) const LISTING_LEN_MAX: u64 = 256 << 20;

/// Maximum number of reported excluded entries.
pub(crate) const LEFT_OUT_MAX: usize = 1000;

/// Longest command we read.
pub(crate) const COMMAND_LEN_MAX: usize = 512;

/// Number of files read in one directory: more than `serve` ever stores.
pub(crate) const BOOT_FILES_MAX: usize = 1024;

/// Longer files are not compared line by line, bytes.
pub(crate) const DIFF_FILE_LEN_MAX: u64 = 16 << 20;

/// Longest hint, bytes: a decimal number.
pub(crate) const HINT_LEN_MAX: u64 = 32;

/// Longest tag record, bytes.
pub(crate) const TAG_LEN_MAX: u64 = 1024;

/// The number of symbolic links that the kernel follows in one path.
pub(crate) const LINK_HOPS_MAX: usize = 40;

/// Bound on the size of a file in an initramfs.
pub(crate) const SYSTEM_FILE_LEN_MAX: u64 = 256 << 20;

/// No release (`uname -r`) is longer: the kernel's own bound.
pub(crate) const RELEASE_LEN_MAX: usize = 64;

/// Longest file that is looked into.
pub(crate) const MACHINE_FILE_LEN_MAX: usize = 64 << 10;

/// Most bytes looked at, unpacked: many times the largest initramfs seen.
pub(crate) const INITRAMFS_LEN_MAX: u64 = 2 << 30;

/// Longest name of a member: the kernel's own bound.
pub(crate) const CPIO_NAME_LEN_MAX: u64 = 4096;

/// Longest journal and record: 1 KiB a head.
pub(crate) const JOURNAL_LEN_MAX: u64 = 1 << 30;

/// Longest tag, mark, hint or record of a purge, bytes: the last has a line for each revision.
pub(crate) const MARK_LEN_MAX: u64 = 1 << 30;

/// A history this long is walked to its end; longer ones are damaged.
pub(crate) const STORE_WALK_MAX: usize = 10_000_000;

/// Longest mark that a mirror reads from its origin, bytes.
pub(crate) const MIRROR_MARK_LEN_MAX: usize = 1 << 20;

/// Longest list of systems that a mirror reads, bytes.
pub(crate) const MIRROR_SYSTEMS_LEN_MAX: usize = 16 << 20;

/// Longest archive of an export, bytes.
pub(crate) const EXPORT_LEN_MAX: u64 = 1 << 50;

/// Longest tar records about an entry of an export, bytes.
pub(crate) const EXPORT_RECORDS_LEN_MAX: u64 = 64 << 10;

/// Most keysets that a mirror reads from its origin: each is one rotation of keys.
pub(crate) const MIRROR_KEYSETS_MAX: usize = 10_000;

/// Most heads that a mirror looks for after the newest one it was told of.
pub(crate) const MIRROR_HEADS_AHEAD_MAX: u64 = 10_000_000;

/// Most new ring records that a mirror reads in one round.
pub(crate) const MIRROR_RING_RECORDS_MAX: usize = 100_000;

/// More than any probe writes.
pub(crate) const PROBE_LEN_MAX: u64 = 1024;

/// Longest flag, bytes.
pub(crate) const FLAG_LEN_MAX: u64 = 1024;
