//! The canonical digest of a tree: the identity of its visible content, independent of packing.

use crate::digest::Digest;
use crate::index::{DirentTarget, Index, Ino, ROOT};
use crate::layer::ContentDigests;
use crate::layout::inode::*;

/// Starts the hashed text.
const DOMAIN: &[u8] = b"layerfs tree 1\n";

/// The digest of everything a mount of `index` shows, in the order of `docs/FORMAT.md` §9.3:
/// names, types, permissions, owners, times, attributes, contents, targets, devices, which names
/// are hard links of each other, and (for a tree of changes) whiteouts and opaque marks.
pub fn tree_digest(index: &Index, content: &ContentDigests) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN);
    object(&mut hasher, index, content, ROOT);
    // Inode numbers are canonical (first appearance, breadth first), so they represent identity.
    for dir in 0..index.inode_count() {
        for entry in index.entries(dir, 0) {
            hasher.update(&dir.to_le_bytes());
            text(&mut hasher, entry.name);
            match entry.child {
                DirentTarget::Whiteout => hasher.update(&0u32.to_le_bytes()),
                DirentTarget::Inode(ino) => hasher.update(&ino.to_le_bytes()),
            };
        }
    }
    for ino in 1..index.inode_count() {
        object(&mut hasher, index, content, ino);
    }
    hasher.finalize().into()
}

fn object(hasher: &mut blake3::Hasher, index: &Index, content: &ContentDigests, ino: Ino) {
    let Some(inode) = index.inode(ino) else {
        return;
    };
    hasher.update(&inode.mode.to_le_bytes());
    hasher.update(&inode.uid.to_le_bytes());
    hasher.update(&inode.gid.to_le_bytes());
    hasher.update(&inode.mtime.sec.to_le_bytes());
    hasher.update(&inode.mtime.nsec.to_le_bytes());
    hasher.update(&(index.xattrs(ino).count() as u32).to_le_bytes());
    for (name, value) in index.xattrs(ino) {
        text(hasher, name);
        text(hasher, value);
    }
    match inode.kind() {
        S_IFREG => {
            hasher.update(&inode.size.to_le_bytes());
            hasher.update(&content.file(ino).0);
        }
        S_IFLNK => text(hasher, index.symlink(ino)),
        S_IFDIR => {
            hasher.update(&[u8::from(inode.opaque)]);
        }
        _ => {
            hasher.update(&inode.rdev.0.to_le_bytes());
            hasher.update(&inode.rdev.1.to_le_bytes());
        }
    }
}

fn text(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
