//! Rebuilds a tree over other chunks, for compaction and boot packs.

use crate::error::{FormatError, Result};
use crate::index::builder::{Attributes, Body, Builder};
use crate::index::{DirentTarget, Extent, Index, Ino, LayerRef, ROOT};
use crate::layout::chunk::Chunk;
use crate::layout::inode::*;

/// Rebuild `index` with a new chunk table: `chunks` are its rows in order (own ones first; borrowed
/// ones with their layer), `extents` gives the new extents of each regular file.
///
/// # Errors
/// When the new extents or chunks break a rule of the format.
pub fn rebuild(
    index: &Index,
    data_end: u64,
    chunks: &[(Chunk, Option<LayerRef>)],
    mut extents: impl FnMut(Ino, &mut Vec<Extent>) -> Result<()>,
) -> Result<Index> {
    let mut builder = Builder::new();
    for (chunk, layer) in chunks {
        builder.chunk(chunk, *layer)?;
    }
    let mut buffer = Vec::new();
    let attributes = attributes(index, ROOT, &mut builder)?;
    let opaque = index.inode(ROOT).is_some_and(|root| root.opaque);
    builder.inode(
        &attributes,
        &Body::Directory {
            opaque,
            parent: ROOT,
        },
    )?;
    for dir in 0..index.inode_count() {
        if !index.inode(dir).is_some_and(|inode| inode.is_dir()) {
            continue;
        }
        builder.open(dir);
        for entry in index.entries(dir, 0) {
            match entry.child {
                DirentTarget::Whiteout => builder.whiteout(entry.name)?,
                DirentTarget::Inode(ino) if ino < builder.inode_count() => {
                    builder.link(entry.name, ino)?;
                }
                DirentTarget::Inode(ino) => {
                    buffer.clear();
                    let inode = index.inode(ino).ok_or_else(lost)?;
                    if inode.is_file() {
                        extents(ino, &mut buffer)?;
                    }
                    let body = body(index, ino, dir, &buffer)?;
                    let attributes = self::attributes(index, ino, &mut builder)?;
                    builder.object(entry.name, &attributes, &body)?;
                }
            }
        }
    }
    builder.finish(data_end)
}

fn body<'b>(index: &'b Index, ino: Ino, dir: Ino, extents: &'b [Extent]) -> Result<Body<'b>> {
    let inode = index.inode(ino).ok_or_else(lost)?;
    Ok(match inode.kind() {
        S_IFDIR => Body::Directory {
            opaque: inode.opaque,
            parent: dir,
        },
        S_IFREG => Body::File {
            size: inode.size,
            extents,
        },
        S_IFLNK => Body::Symlink(index.symlink(ino)),
        S_IFCHR => Body::Char(inode.rdev.0, inode.rdev.1),
        S_IFBLK => Body::Block(inode.rdev.0, inode.rdev.1),
        S_IFIFO => Body::Fifo,
        _ => Body::Socket,
    })
}

fn attributes(index: &Index, ino: Ino, builder: &mut Builder) -> Result<Attributes> {
    let inode = index.inode(ino).ok_or_else(lost)?;
    let pairs: Vec<_> = index.xattrs(ino).collect();
    Ok(Attributes {
        permissions: inode.mode & PERMISSIONS,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        xattrs: builder.xattr_set(pairs.iter().copied())?,
    })
}

#[cold]
fn lost() -> FormatError {
    FormatError::corrupt("INDEX", 0, "no such inode")
}
