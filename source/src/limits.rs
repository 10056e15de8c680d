//! Bounds on what an image or archive may demand, each with its reason.

/// Largest extended PAX header or GNU long name, bytes: every xattr of one file (64 KiB each).
pub(crate) const HEADER_DATA_LEN_MAX: u64 = 4 << 20;

/// Longest path of an entry, bytes. Linux' `PATH_MAX` is 4096; relative walks may go deeper.
pub(crate) const PATH_LEN_MAX: usize = 32 << 10;

/// Largest `/etc/passwd` or `/etc/group`, bytes: a hundred thousand users.
pub const ACCOUNTS_LEN_MAX: usize = 8 << 20;

/// Most entries of one ACL; the kernel accepts no more than fit into 64 KiB.
pub(crate) const ACL_ENTRIES_MAX: usize = 8000;

/// Most partitions of a disk image.
pub(crate) const PARTITIONS_MAX: usize = 128;

/// Most images inside one another: a qcow2 disk, its partition, a packed image, the image in it.
pub(crate) const NESTING_MAX: u32 = 5;

/// Most names an ISO may list; a DVD with a full package repository has 30,000.
pub(crate) const ISO_NAMES_MAX: usize = 1_000_000;

/// Largest kernel or initrd.
pub(crate) const BOOT_FILE_LEN_MAX: u64 = 2 << 30;

/// Longest boot menu file of a medium, bytes.
pub(crate) const MENU_TEXT_LEN_MAX: u64 = 256 << 10;

/// Most boot menu files of a medium that are read.
pub(crate) const MENU_TEXTS_MAX: usize = 32;

/// Longest archive without an entry: one record of GNU tar, all zeros.
pub(crate) const EMPTY_ARCHIVE_LEN_MAX: usize = 10_240;

/// Most bytes of a helper program's standard error that are stored.
pub(crate) const STDERR_LEN_MAX: u64 = 64 << 10;

/// Largest directory of ext4, bytes.
pub(crate) const EXT_DIRECTORY_LEN_MAX: u64 = 1 << 30;

/// Longest value of an ext4 attribute with an inode of its own, bytes.
pub(crate) const EXT_ATTRIBUTE_LEN_MAX: u64 = 64 << 10;

/// Most extents of one file of an image.
pub(crate) const IMAGE_EXTENTS_MAX: usize = 2 << 20;

/// Most mapping blocks of an ext4 file.
pub(crate) const EXT_NODES_MAX: u64 = 1 << 20;

/// Most block groups of ext4: 16 TiB in groups of 128 MiB.
pub(crate) const EXT_GROUPS_MAX: u64 = 1 << 17;

/// Largest directory of XFS, bytes.
pub(crate) const XFS_DIRECTORY_LEN_MAX: u64 = 1 << 30;

/// Most nodes of a tree of extents of XFS.
pub(crate) const XFS_NODES_MAX: u64 = 1 << 20;

/// Longest log of XFS, bytes.
pub(crate) const XFS_LOG_LEN_MAX: u64 = 2 << 30;

/// Longest target of a symbolic link of XFS, bytes.
pub(crate) const XFS_TARGET_LEN_MAX: u64 = 1024;

/// Longest run of blocks with a part of such a target, bytes: two blocks of 64 KiB.
pub(crate) const XFS_TARGET_RUN_LEN_MAX: u64 = 128 << 10;

/// Most chunks of btrfs; one has some MiB at least.
pub(crate) const BTRFS_CHUNKS_MAX: usize = 1 << 20;

/// Most extents of a file of btrfs.
pub(crate) const BTRFS_EXTENTS_MAX: usize = 2 << 20;

/// Longest compressed extent of btrfs, before and after decompression, bytes. The kernel's limit is
/// 128 KiB.
pub(crate) const BTRFS_COMPRESSED_LEN_MAX: u64 = 1 << 20;

/// Largest window of a zstd frame of btrfs; the kernel's is 17.
pub(crate) const BTRFS_ZSTD_WINDOW_LOG_MAX: u32 = 20;

/// Longest target of a symbolic link of btrfs, bytes.
pub(crate) const BTRFS_TARGET_LEN_MAX: u64 = 4095;

/// Longest `etc/fstab` that is read, bytes.
pub(crate) const FSTAB_LEN_MAX: u64 = 1 << 20;
