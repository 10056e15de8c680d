//! Bounds on untrusted input, each with its reason. Those of pushes are in `jobs/limits.rs`, of
//! requests in `serve/limits.rs`, of images and archives in `source/limits.rs`.

/// Most objects of a source whose ACLs wait for the numbers of their names.
pub(crate) const WAITING_ACLS_MAX: usize = 1 << 20;

/// Longest body of an entry in a survey, bytes: the size and digest of a file.
pub(crate) const LISTING_LINE_LEN_MAX: u64 = 128;

/// Longest listing in a push, bytes: that of a million entries, compressed.
pub(crate) const LISTING_LEN_MAX: u64 = 256 << 20;

/// Most excluded entries of a push that its report names.
pub(crate) const LEFT_OUT_MAX: usize = 1000;

/// Longest command that sshd passes on from a client, bytes.
pub(crate) const COMMAND_LEN_MAX: usize = 512;

/// Most boot reports that are read in one directory: more than `serve` ever stores.
pub(crate) const BOOT_FILES_MAX: usize = 1024;

/// Longest file that `diff --content` compares line by line, bytes.
pub(crate) const DIFF_FILE_LEN_MAX: u64 = 16 << 20;

/// Longest hint of the newest revision, bytes: a decimal number.
pub(crate) const HINT_LEN_MAX: u64 = 32;

/// Longest tag record, bytes.
pub(crate) const TAG_LEN_MAX: u64 = 1024;

/// Most symbolic links in one path: as many as the kernel follows.
pub(crate) const LINK_HOPS_MAX: usize = 40;

/// Largest file of a system of an initramfs, bytes.
pub(crate) const SYSTEM_FILE_LEN_MAX: u64 = 256 << 20;

/// Longest release of a kernel (`uname -r`): the kernel's own bound.
pub(crate) const RELEASE_LEN_MAX: usize = 64;

/// Longest file that an import searches for data of one machine, bytes.
pub(crate) const MACHINE_FILE_LEN_MAX: usize = 64 << 10;

/// Most unpacked bytes of an initramfs that are searched: many times the largest one seen.
pub(crate) const INITRAMFS_LEN_MAX: u64 = 2 << 30;

/// Longest table of the parts of an initramfs, bytes: of the kernel with the most drivers it has 200 KiB.
pub(crate) const PART_TABLE_LEN_MAX: u64 = 8 << 20;

/// Most parts of an initramfs: a kernel has some hundred network drivers.
pub(crate) const PARTS_MAX: usize = 4096;

/// Longest name of a member of a cpio archive: the kernel's own bound.
pub(crate) const CPIO_NAME_LEN_MAX: u64 = 4096;

/// Longest journal and record of a purge, bytes: 1 KiB a head.
pub(crate) const JOURNAL_LEN_MAX: u64 = 1 << 30;

/// Longest small object of a store, bytes: a tag, a mark, a hint, or the record of a purge, which has
/// a line for each revision.
pub(crate) const MARK_LEN_MAX: u64 = 1 << 30;

/// Most revisions of a history that a walk follows: a longer chain is damaged.
pub(crate) const STORE_WALK_MAX: usize = 10_000_000;

/// Longest mark that a mirror reads from its origin, bytes.
pub(crate) const MIRROR_MARK_LEN_MAX: usize = 1 << 20;

/// Longest list of systems that a mirror reads, bytes.
pub(crate) const MIRROR_SYSTEMS_LEN_MAX: usize = 16 << 20;

/// Longest page of an origin about an object that it does not have, bytes.
pub(crate) const MIRROR_MISSING_LEN_MAX: usize = 64 << 10;

/// Longest archive of an export, bytes.
pub(crate) const EXPORT_LEN_MAX: u64 = 1 << 50;

/// Longest tar records about an entry of an export, bytes.
pub(crate) const EXPORT_RECORDS_LEN_MAX: u64 = 64 << 10;

/// Most keysets that a mirror reads from its origin: each is one rotation of keys.
pub(crate) const MIRROR_KEYSETS_MAX: usize = 10_000;

/// Most heads that a mirror looks for after the newest known one.
pub(crate) const MIRROR_HEADS_AHEAD_MAX: u64 = 10_000_000;

/// Most new ring records that a mirror reads in one round.
pub(crate) const MIRROR_RING_RECORDS_MAX: usize = 100_000;

/// Longest object of the check of a bucket, bytes: more than the check writes.
pub(crate) const PROBE_LEN_MAX: u64 = 1024;

/// Longest flag of a publisher or sweeper, bytes.
pub(crate) const FLAG_LEN_MAX: u64 = 1024;

/// Most names of one directory that a prediction of a boot looks at.
pub(crate) const PREDICT_NAMES_MAX: usize = 20_000;

/// Most bytes of a text file that a prediction reads.
pub(crate) const PREDICT_TEXT_LEN_MAX: u64 = 256 << 10;

/// Most raw bytes of a predicted boot pack: twice those of the largest measured desktop boot.
pub(crate) const PREDICT_LEN_MAX: u64 = 96 << 20;

/// Fewest raw bytes of a predicted boot pack: less is fetched in a few requests without a pack.
pub(crate) const PREDICT_LEN_MIN: u64 = 1 << 20;

/// Most other histories whose traces a prediction reads: a trace costs a merged index.
pub(crate) const PREDICT_OTHERS_MAX: usize = 4;

/// Most runs of pages in a prediction.
pub(crate) const PREDICT_FILES_MAX: usize = 1 << 17;

/// Longest data file that a prediction adds whole.
pub(crate) const PREDICT_FILE_LEN_MAX: u64 = 512 << 10;

/// Bytes of a longer data file that a prediction adds.
pub(crate) const PREDICT_HEAD_LEN: u64 = 16 << 10;

/// Most scripts whose commands a prediction follows.
pub(crate) const PREDICT_SCRIPTS_MAX: usize = 500;

/// Most commands of one script that a prediction follows.
pub(crate) const PREDICT_COMMANDS_MAX: usize = 1000;

/// Most systemd units that a prediction loads.
pub(crate) const PREDICT_UNITS_MAX: usize = 4000;

/// Most kernel modules of a predicted boot, bytes.
pub(crate) const PREDICT_MODULES_LEN_MAX: u64 = 4 << 20;

/// Most program headers of an ELF file: linkers make about a dozen.
pub(crate) const ELF_SEGMENTS_MAX: u16 = 128;

/// Longest dynamic section of an ELF file, bytes.
pub(crate) const ELF_DYNAMIC_LEN_MAX: u64 = 64 << 10;

/// Longest table of dynamic names of an ELF file, bytes.
pub(crate) const ELF_NAMES_LEN_MAX: u64 = 4 << 20;

/// Longest table of dynamic symbols of an ELF file, bytes.
pub(crate) const ELF_SYMBOLS_LEN_MAX: u64 = 4 << 20;

/// Most libraries that one ELF file needs.
pub(crate) const ELF_NEEDED_MAX: usize = 512;

/// Most bytes of code and constants of one ELF file in a predicted boot.
pub(crate) const ELF_CODE_LEN_MAX: u64 = 6 << 20;

/// Most nodes of the hardware database below one wildcard.
pub(crate) const HWDB_PATTERNS_MAX: usize = 2000;

/// Most nodes of the hardware database on one path: its keys are shorter.
pub(crate) const HWDB_DEPTH_MAX: usize = 512;

/// Most lines of the console of a rehearsed boot that are kept.
pub(crate) const CONSOLE_LINES_MAX: usize = 200;

/// Longest line of that console, bytes.
pub(crate) const CONSOLE_LINE_LEN_MAX: usize = 400;
