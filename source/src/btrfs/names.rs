//! Items that hold names: entries of directories, and attributes.

use std::io;

use super::tree::ItemKey;
use crate::fields::{le16, slice};

/// Kinds of items: an attribute, and an entry by the hash of its name and by its order.
pub(super) const XATTR_ITEM: u8 = 24;
pub(super) const DIR_ITEM: u8 = 84;
pub(super) const DIR_INDEX: u8 = 96;
/// Bytes before the name.
const HEADER_LEN: usize = 30;

/// A name, the key it leads to, and the value of an attribute.
#[derive(Debug)]
pub(super) struct NamedItem<'i> {
    pub(super) target: ItemKey,
    pub(super) name: &'i [u8],
    pub(super) value: &'i [u8],
}

/// The names in an item: several if their hashes are equal.
pub(super) fn names(item: &[u8]) -> impl Iterator<Item = io::Result<NamedItem<'_>>> {
    let mut rest = item;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = take(rest);
        rest = match &taken {
            Ok((_, behind)) => behind,
            Err(_) => &[],
        };
        Some(taken.map(|(named, _)| named))
    })
}

fn take(bytes: &[u8]) -> io::Result<(NamedItem<'_>, &[u8])> {
    let value_len = usize::from(le16(bytes, 25)?);
    let name_len = usize::from(le16(bytes, 27)?);
    let named = NamedItem {
        target: ItemKey::parse(bytes, 0)?,
        name: slice(bytes, HEADER_LEN, name_len)?,
        value: slice(bytes, HEADER_LEN + name_len, value_len)?,
    };
    let behind = bytes.get(HEADER_LEN + name_len + value_len..);
    Ok((named, behind.unwrap_or_default()))
}
