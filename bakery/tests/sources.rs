//! Sources against the real tools that make them: GNU tar, bsdtar, Python, mksquashfs, xorriso and
//! the kernel's overlayfs. Needs root, as trees have devices and attributes of every kind.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

#[path = "../../tests/scratch.rs"]
mod scratch;

mod sources {
    pub mod acls;
    pub mod bombs;
    pub mod btrfs;
    pub mod containers;
    pub mod disks;
    pub mod hostile;
    pub mod images;
    pub mod import;
    pub mod iso;
    pub mod machine;
    pub mod media;
    pub mod names;
    pub mod overlay;
    pub mod spellings;
    pub mod tree;
    pub mod uppers;
    pub mod whiteouts;
    pub mod xfs;
}
