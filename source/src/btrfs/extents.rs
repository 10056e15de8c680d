//! The extents of a file.

use std::io;

use super::compression::ExtentCompression;
use super::tree::{ItemKey, TreePointer, Trees};
use crate::Segments;
use crate::fields::{byte, le16, le64};
use crate::limits::{BTRFS_COMPRESSED_LEN_MAX, BTRFS_EXTENTS_MAX};
use crate::walk::{damaged, unknown};

/// The kind of an extent's item.
const EXTENT_DATA: u8 = 108;
/// Bytes of an item before inline data.
const HEADER_LEN: usize = 21;

/// Consecutive bytes of a file that are stored together. Bytes without an extent are a hole.
#[derive(Debug)]
pub(super) struct FileExtent {
    /// Offset in the file.
    pub(super) offset: u64,
    pub(super) len: u64,
    /// Bytes of the stored extent before those of the file.
    pub(super) skip: u64,
    /// Bytes of the stored extent after decompression.
    pub(super) plain_len: u64,
    pub(super) compression: ExtentCompression,
    pub(super) stored: StoredBytes,
}

/// The stored bytes of an extent.
#[derive(Debug)]
pub(super) enum StoredBytes {
    /// In the item.
    Inside(Vec<u8>),
    /// At an address, with their length.
    At(u64, u64),
}

impl FileExtent {
    /// Offset in the file of the first byte after it.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// The extents of the object `object` of a tree, in order, up to `size`.
pub(super) fn extents(
    trees: &mut Trees,
    tree: TreePointer,
    object: u64,
    size: u64,
) -> io::Result<Vec<FileExtent>> {
    let mut all: Vec<FileExtent> = Vec::new();
    let range = (
        ItemKey::first(object, EXTENT_DATA),
        ItemKey::last(object, EXTENT_DATA),
    );
    trees.scan(tree, range, &mut |key, item| {
        let Some(mut extent) = parse(key.offset, item)? else {
            return Ok(());
        };
        extent.len = extent.len.min(size.saturating_sub(extent.offset));
        if extent.len == 0 {
            return Ok(());
        }
        let begins = all.last().map_or(0, FileExtent::end);
        if extent.offset < begins || all.len() >= BTRFS_EXTENTS_MAX {
            return Err(damaged("its extents are out of order, or too many"));
        }
        all.push(extent);
        Ok(())
    })?;
    Ok(all)
}

/// The data ranges of a file with these extents.
pub(super) fn segments(extents: &[FileExtent]) -> Segments {
    let mut segments = Segments::new();
    for extent in extents {
        match segments.last_mut() {
            Some((offset, len)) if *offset + *len == extent.offset => *len += extent.len,
            _ => segments.push((extent.offset, extent.len)),
        }
    }
    segments
}

/// The extent of an item; none for a hole, and for space that was allocated but not written.
fn parse(offset: u64, item: &[u8]) -> io::Result<Option<FileExtent>> {
    let plain_len = le64(item, 8)?;
    let compression = ExtentCompression::parse(byte(item, 16)?)?;
    if byte(item, 17)? != 0 || le16(item, 18)? != 0 {
        return Err(unknown("it is encrypted"));
    }
    let mut extent = FileExtent {
        offset,
        len: plain_len,
        skip: 0,
        plain_len,
        compression,
        stored: StoredBytes::Inside(Vec::new()),
    };
    match byte(item, 20)? {
        0 => {
            let inside = item.get(HEADER_LEN..).unwrap_or_default();
            extent.stored = StoredBytes::Inside(inside.to_vec());
        }
        1 => {
            let (address, stored_len) = (le64(item, 21)?, le64(item, 29)?);
            (extent.skip, extent.len) = (le64(item, 37)?, le64(item, 45)?);
            if address == 0 {
                return Ok(None);
            }
            if compression == ExtentCompression::None {
                extent.plain_len = stored_len;
            }
            if address.checked_add(stored_len).is_none() {
                return Err(damaged("one of its extents is damaged"));
            }
            extent.stored = StoredBytes::At(address, stored_len);
        }
        2 => return Ok(None),
        other => {
            return Err(unknown(format!(
                "extents of kind {other} are not supported"
            )));
        }
    }
    let fits = extent.skip.checked_add(extent.len);
    let is_bounded =
        compression == ExtentCompression::None || extent.plain_len <= BTRFS_COMPRESSED_LEN_MAX;
    if fits.is_none_or(|end| end > extent.plain_len) || !is_bounded {
        return Err(damaged("one of its extents is damaged"));
    }
    Ok(Some(extent))
}
