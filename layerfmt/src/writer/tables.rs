//! A tree as an index, in canonical order.

use std::collections::VecDeque;

use super::base::{BASE, Base};
use super::identity::Content;
use super::pipeline::WrittenChunks;
use crate::digest::{DIGEST_LEN, Digest};
use crate::error::{FormatError, Result};
use crate::index::builder::{Attributes, Body, Builder};
use crate::index::{Extent, Index, Ino};
use crate::layer::ContentDigests;
use crate::layout::chunk::ChunkFile;
use crate::tree::{Child, Kind, Metadata, Node, NodeId, ROOT, Tree};

pub(super) struct Tables {
    pub(super) index: Index,
    pub(super) content: ContentDigests,
    pub(super) own_chunks: u32,
}

/// Number of "no row yet".
const NONE: u32 = u32::MAX;

struct Build<'t> {
    tree: &'t Tree<Content>,
    builder: Builder,
    base: Option<&'t Base>,
    /// Reserved number to row of the chunk table, for own and for borrowed chunks.
    own_rows: Vec<u32>,
    borrowed_rows: Vec<u32>,
    chunk_digests: Vec<Digest>,
    file_digests: Vec<[u8; DIGEST_LEN]>,
    /// Inode of every node that has one.
    inodes: Vec<Ino>,
    directories: VecDeque<(NodeId, Ino)>,
    extents: Vec<Extent>,
}

pub(super) fn build(
    tree: &Tree<Content>,
    written: &WrittenChunks,
    raw_digests: &[Digest],
    base: Option<&Base>,
) -> Result<Tables> {
    let mut build = Build {
        tree,
        builder: Builder::new(),
        base,
        own_rows: Vec::new(),
        borrowed_rows: vec![NONE; base.map_or(0, |base| base.index.chunk_count() as usize)],
        chunk_digests: Vec::new(),
        file_digests: Vec::new(),
        inodes: vec![NONE; tree.node_count()],
        directories: VecDeque::new(),
        extents: Vec::new(),
    };
    build.own_chunks(written, raw_digests)?;
    build.root()?;
    while let Some((node, ino)) = build.directories.pop_front() {
        build.directory(node, ino)?;
    }
    let index = build.builder.finish(written.data_end)?;
    Ok(Tables {
        content: ContentDigests::from_parts(build.file_digests, &build.chunk_digests),
        own_chunks: written.chunks.len() as u32,
        index,
    })
}

impl Build<'_> {
    fn own_chunks(&mut self, written: &WrittenChunks, raw_digests: &[Digest]) -> Result<()> {
        for (id, chunk) in &written.chunks {
            let row = self.builder.chunk(chunk, None)?;
            let id = *id as usize;
            if self.own_rows.len() <= id {
                self.own_rows.resize(id + 1, NONE);
            }
            if let Some(slot) = self.own_rows.get_mut(id) {
                *slot = row;
            }
            self.chunk_digests
                .push(raw_digests.get(id).copied().unwrap_or_default());
        }
        Ok(())
    }

    fn root(&mut self) -> Result<()> {
        let root = self
            .tree
            .node(ROOT)
            .ok_or_else(|| unknown("the tree has no root"))?;
        let opaque = self
            .tree
            .directory(ROOT)
            .is_some_and(|directory| directory.opaque);
        let attributes = self.attributes(&root.meta)?;
        let body = Body::Directory {
            opaque,
            parent: crate::index::ROOT,
        };
        let ino = self.builder.inode(&attributes, &body)?;
        self.file_digests.push(Digest::default().0);
        self.directories.push_back((ROOT, ino));
        Ok(())
    }

    fn attributes(&mut self, meta: &Metadata) -> Result<Attributes> {
        let set = meta.xattrs.as_deref();
        let pairs = set
            .into_iter()
            .flatten()
            .map(|(name, value)| (&**name, &**value));
        Ok(Attributes {
            permissions: meta.mode.into(),
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            xattrs: self.builder.xattr_set(pairs)?,
        })
    }

    fn directory(&mut self, id: NodeId, ino: Ino) -> Result<()> {
        self.builder.open(ino);
        let tree = self.tree;
        for (name, child) in tree.entries(id) {
            let name = name.as_bytes();
            match *child {
                Child::Whiteout => self.builder.whiteout(name)?,
                Child::Node(child) => {
                    let node = tree.node(child).ok_or_else(|| unknown("no such node"))?;
                    let known = self.inodes.get(child as usize).copied().unwrap_or(NONE);
                    if known == NONE {
                        self.object(name, child, node, ino)?;
                    } else if node.kind.is_dir() {
                        return Err(unknown("a directory has two names"));
                    } else {
                        self.builder.link(name, known)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn object(&mut self, name: &[u8], id: NodeId, node: &Node<Content>, dir: Ino) -> Result<()> {
        let attributes = self.attributes(&node.meta)?;
        let mut digest = Digest::default();
        let mut extents = std::mem::take(&mut self.extents);
        extents.clear();
        let body = match &node.kind {
            Kind::Directory(directory) => Body::Directory {
                opaque: directory.opaque,
                parent: dir,
            },
            Kind::File(content) => {
                digest = content.digest();
                for extent in content.extents() {
                    extents.push(Extent {
                        chunk: self.row(extent.chunk)?,
                        ..*extent
                    });
                }
                Body::File {
                    size: content.size(),
                    extents: &extents,
                }
            }
            Kind::Symlink(target) => Body::Symlink(target),
            Kind::Char(major, minor) => Body::Char(*major, *minor),
            Kind::Block(major, minor) => Body::Block(*major, *minor),
            Kind::Fifo => Body::Fifo,
            Kind::Socket => Body::Socket,
        };
        let ino = self.builder.object(name, &attributes, &body)?;
        self.extents = extents;
        self.file_digests.push(digest.0);
        if let Some(slot) = self.inodes.get_mut(id as usize) {
            *slot = ino;
        }
        if node.kind.is_dir() {
            self.directories.push_back((id, ino));
        }
        Ok(())
    }

    /// The row of a chunk by the writer's reference; borrowed chunks get theirs at first use.
    fn row(&mut self, reference: u32) -> Result<u32> {
        if reference & BASE == 0 {
            let row = self
                .own_rows
                .get(reference as usize)
                .copied()
                .unwrap_or(NONE);
            return if row == NONE {
                Err(unknown("no such chunk"))
            } else {
                Ok(row)
            };
        }
        let id = reference & !BASE;
        let base = self
            .base
            .ok_or_else(|| unknown("a base chunk without a base"))?;
        let slot = self.borrowed_rows.get(id as usize).copied();
        if let Some(row) = slot.filter(|row| *row != NONE) {
            return Ok(row);
        }
        let chunk = base
            .index
            .chunk(id)
            .ok_or_else(|| unknown("no such base chunk"))?;
        let ChunkFile::Borrowed(layer) = chunk.source else {
            return Err(unknown("the base is not a merged index"));
        };
        let row = self.builder.chunk(&chunk, base.index.layer(layer))?;
        self.chunk_digests.push(base.content.chunk(id));
        if let Some(slot) = self.borrowed_rows.get_mut(id as usize) {
            *slot = row;
        }
        Ok(row)
    }
}

#[cold]
fn unknown(what: &'static str) -> FormatError {
    FormatError::corrupt("tree", 0, what)
}
