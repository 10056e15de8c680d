//! The form of an input, by its magic bytes.
//!
//! The magic bytes decide, not the name, and no form is assumed by elimination: a file that begins
//! with zeros is not an archive just because an archive ends with zeros.

use super::limits::EMPTY_ARCHIVE_LEN_MAX;
use super::tar;

/// Bytes that distinguish the forms: the magic of btrfs ends at 65,608.
pub const HEAD_LEN: usize = 66 << 10;

/// The recognized form of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceForm {
    /// A tar archive, not compressed.
    Tar,
    /// Something compressed with zstd.
    Zstd,
    /// A squashfs image.
    Squashfs,
    /// An ISO 9660 image.
    Iso,
    /// An ext2, ext3 or ext4 file system.
    Ext,
    /// An EROFS image.
    Erofs,
    /// A btrfs file system.
    Btrfs,
    /// An XFS file system.
    Xfs,
    /// A disk with a partition table.
    Disk,
    /// A disk in QEMU's qcow2 format.
    Qcow2,
}

impl SourceForm {
    /// The form in words, with its article.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            SourceForm::Tar => "a tar archive",
            SourceForm::Zstd => "a zstd file",
            SourceForm::Squashfs => "a squashfs image",
            SourceForm::Iso => "an ISO image",
            SourceForm::Ext => "an ext4 file system",
            SourceForm::Erofs => "an EROFS image",
            SourceForm::Btrfs => "a btrfs file system",
            SourceForm::Xfs => "an XFS file system",
            SourceForm::Disk => "a disk image",
            SourceForm::Qcow2 => "a qcow2 disk image",
        }
    }
}

/// Magic bytes of unsupported forms, with the remedy.
const STRANGERS: [(usize, &[u8], &str); 22] = [
    (
        0,
        &[0x1f, 0x8b],
        "it is compressed with gzip, only zstd is read; try `zcat FILE | bakery … -`",
    ),
    (
        0,
        b"\xfd7zXZ",
        "it is compressed with xz, only zstd is read; try `xzcat FILE | bakery … -`",
    ),
    (
        0,
        b"BZh",
        "it is compressed with bzip2, only zstd is read; try `bzcat FILE | bakery … -`",
    ),
    (
        0,
        &[0x04, 0x22, 0x4d, 0x18],
        "it is compressed with lz4, only zstd is read; try `lz4cat FILE | bakery … -`",
    ),
    (
        0,
        b"sqsh",
        "it is a big-endian squashfs of version 3 or older, which is not supported",
    ),
    (
        0,
        b"070701",
        "it is a cpio archive; unpack it as root with `cpio -idm` and name the directory",
    ),
    (
        0,
        b"070702",
        "it is a cpio archive; unpack it as root with `cpio -idm` and name the directory",
    ),
    (
        0,
        b"070707",
        "it is a cpio archive; unpack it as root with `cpio -idm` and name the directory",
    ),
    (
        0,
        b"PK\x03\x04",
        "it is a zip archive, which has no owners and links",
    ),
    (
        0,
        b"7z\xbc\xaf\x27\x1c",
        "it is a 7z archive, which has no owners and links",
    ),
    (
        0,
        b"!<arch>\n",
        "it is an ar archive, such as a Debian package; try `dpkg-deb --fsys-tarfile FILE | bakery … -`",
    ),
    (0, b"\xed\xab\xee\xdb", "it is an RPM package, not a system"),
    (
        0,
        b"KDMV",
        "it is a VMware disk; convert it first: `qemu-img convert -O raw FILE disk.img`",
    ),
    (
        0,
        b"vhdxfile",
        "it is a Hyper-V disk; convert it first: `qemu-img convert -O raw FILE disk.img`",
    ),
    (
        0,
        b"conectix",
        "it is a Hyper-V disk; convert it first: `qemu-img convert -O raw FILE disk.img`",
    ),
    (
        0x40,
        &[0x7f, 0x10, 0xda, 0xbe],
        "it is a VirtualBox disk; convert it first: `qemu-img convert -O raw FILE disk.img`",
    ),
    (
        0,
        b"LUKS\xba\xbe",
        "it is encrypted (LUKS); open it with cryptsetup, mount it and name the directory",
    ),
    (
        512,
        b"LABELONE",
        "it is an LVM physical volume; activate it, mount the volume and name the directory",
    ),
    (
        1024,
        &[0x10, 0x20, 0xf5, 0xf2],
        "it is an F2FS file system; mount it read-only and name the directory",
    ),
    (
        0x8001,
        b"BEA01",
        "it is a UDF image without an ISO 9660 part; mount it read-only and name the directory",
    ),
    (0, b"\x7fELF", "it is a program, not a system"),
    (
        0x36,
        b"FAT",
        "it is a FAT file system, which cannot hold a system",
    ),
];

/// The form of an input that begins with `head`: all of the input, or its first [`HEAD_LEN`] bytes.
///
/// # Errors
/// It is unsupported; the message gives a conversion if there is one.
pub fn form(head: &[u8]) -> Result<SourceForm, String> {
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    // An archive's header has a checksum, so it cannot be mistaken for anything else; marks further
    // behind may be a member's.
    let first = [
        (at(0, b"hsqs"), SourceForm::Squashfs),
        (
            at(0, &[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(head),
            SourceForm::Zstd,
        ),
        (tar::begins_archive(head), SourceForm::Tar),
        (at(0, b"QFI\xfb"), SourceForm::Qcow2),
        (at(0, b"XFSB"), SourceForm::Xfs),
        // A hybrid ISO has a partition table as well.
        (at(0x8001, b"CD001"), SourceForm::Iso),
        (at(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), SourceForm::Erofs),
        (at(0x10040, b"_BHRfS_M"), SourceForm::Btrfs),
        (is_ext(head), SourceForm::Ext),
    ];
    if let Some((_, form)) = first.iter().find(|(fits, _)| *fits) {
        return Ok(*form);
    }
    // A damaged archive: its reader reports the fault of the first header.
    if at(257, b"ustar") {
        return Ok(SourceForm::Tar);
    }
    if let Some((.., problem)) = STRANGERS
        .iter()
        .find(|(offset, magic, _)| at(*offset, magic))
    {
        return Err((*problem).to_owned());
    }
    if at(512, b"EFI PART") || at(4096, b"EFI PART") || has_partitions(head) {
        return Ok(SourceForm::Disk);
    }
    if head.is_empty() {
        return Err("it is empty".into());
    }
    if head.iter().all(|&byte| byte == 0) {
        let len = head.len();
        if len.is_multiple_of(tar::BLOCK_LEN) && (1024..=EMPTY_ARCHIVE_LEN_MAX).contains(&len) {
            return Ok(SourceForm::Tar);
        }
        return Err("it begins with zeros only, so its format is unknown".into());
    }
    Err("it is not a tar archive (plain or zstd), ISO, squashfs, EROFS, ext4, XFS, btrfs or disk image".into())
}

/// zstd's skippable frames, which pzstd puts in front.
fn is_skippable_frame(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The two bytes of ext's mark are few: block size and inode count must be possible ones, too.
fn is_ext(head: &[u8]) -> bool {
    let Some(block) = head.get(1024..2048) else {
        return false;
    };
    let word = |at: usize| {
        let bytes = block.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    block.get(0x38..0x3a) == Some(&[0x53, 0xef]) && word(0) > 0 && word(24) <= 6
}

/// A master boot record with at least one partition in its table.
fn has_partitions(head: &[u8]) -> bool {
    let Some(table) = head.get(446..510) else {
        return false;
    };
    let mut entries = table.chunks_exact(16);
    let mark = head.get(510..512) == Some(&[0x55, 0xaa]);
    let sound = entries.clone().all(|entry| matches!(entry, [0 | 0x80, ..]));
    let used = entries.any(|entry| entry.get(4) != Some(&0) && entry.get(12..) != Some(&[0; 4]));
    mark && sound && used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_an_archive_only_where_nothing_else_could_be() {
        for len in [1024, 10_240] {
            assert_eq!(form(&vec![0; len]), Ok(SourceForm::Tar), "{len}");
        }
        for len in [1, 512, 1000, 10_752, HEAD_LEN] {
            assert!(form(&vec![0; len]).is_err(), "{len}");
        }
        let mut later = vec![0; HEAD_LEN];
        later[40_000] = 1;
        assert!(form(&later).is_err());
    }

    #[test]
    fn a_boot_record_without_partitions_is_no_disk() {
        let mut head = vec![0; 1024];
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert!(form(&head).is_err());
        head[446..462].copy_from_slice(&[0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
        assert_eq!(form(&head), Ok(SourceForm::Disk));
    }
}
