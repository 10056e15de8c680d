//! Attributes that a file system keeps for itself and shows to programs as well. They describe its
//! storage, not the tree; another file system cannot set them.

use std::sync::Arc;

use layerfmt::tree::{Metadata, Xattrs};

/// XFS stores ACLs in them, and shows each ACL under its own name, too.
const XFS_LISTS: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];
/// Namespaces: btrfs shows the compression of a file in one; mkfs.xfs sets options of `xfs_scrub`
/// on the root directory.
const NAMESPACES: [&[u8]; 2] = [b"btrfs.", b"trusted.xfs:"];

/// Removes such attributes.
pub fn remove(meta: &mut Metadata) {
    let Some(all) = &meta.xattrs else { return };
    let is_private = |name: &[u8]| {
        let mut spaces = NAMESPACES.iter();
        XFS_LISTS.contains(&name) || spaces.any(|space| name.starts_with(space))
    };
    if !all.keys().any(|name| is_private(name)) {
        return;
    }
    let rest = all.iter().filter(|(name, _)| !is_private(name));
    let rest: Xattrs = rest
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    meta.xattrs = (!rest.is_empty()).then(|| Arc::new(rest));
}
