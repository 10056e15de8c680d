//! The merge: directories breadth first. The sorted entries of all contributing layers are merged
//! by name; the topmost layer wins.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use super::{FlattenInput, MergedIndex};
use crate::digest::{DIGEST_LEN, Digest};
use crate::error::{FormatError, Result};
use crate::index::builder::{Attributes, Body, Builder};
use crate::index::{Dirent, DirentTarget, Extent, Index, Ino, LayerRef, ROOT};
use crate::layer::ContentDigests;
use crate::layout::chunk::{Chunk, ChunkFile};
use crate::layout::inode::*;
use crate::layout::superblock::SUPERBLOCK_LEN;

/// A directory of the merged tree: its parts, topmost first.
struct MergedDirectory {
    ino: Ino,
    parts: Vec<(usize, Ino)>,
    /// No name below the lowest part is visible.
    closed: bool,
}

struct LayerPart<'s> {
    input: &'s FlattenInput,
    chunk_rows: Vec<u32>,
    xattr_sets: Vec<u32>,
    inodes: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl<'s> LayerPart<'s> {
    fn new(input: &'s FlattenInput) -> LayerPart<'s> {
        let index = &input.index;
        LayerPart {
            input,
            chunk_rows: vec![NONE; index.chunk_count() as usize],
            xattr_sets: vec![NONE; index.counts().xattr_sets as usize + 1],
            inodes: vec![NONE; index.inode_count() as usize],
        }
    }
}

struct LayerMerge<'s> {
    sides: Vec<LayerPart<'s>>,
    bottom: bool,
    builder: Builder,
    known_chunks: HashMap<(Digest, u64), u32>,
    directories: VecDeque<MergedDirectory>,
    extents: Vec<Extent>,
    /// Digests of files and of chunks.
    content: Option<(Vec<[u8; DIGEST_LEN]>, Vec<Digest>)>,
}

pub(super) fn merge(stack: &[FlattenInput], bottom: bool) -> Result<MergedIndex> {
    let with_content = stack.iter().all(|input| input.content.is_some());
    let mut merge = LayerMerge {
        sides: stack.iter().map(LayerPart::new).collect(),
        bottom,
        builder: Builder::new(),
        known_chunks: HashMap::new(),
        directories: VecDeque::new(),
        extents: Vec::new(),
        content: with_content.then(Default::default),
    };
    merge.root()?;
    while let Some(directory) = merge.directories.pop_front() {
        merge.directory(&directory)?;
    }
    let index = merge.builder.finish(SUPERBLOCK_LEN as u64)?;
    let content = merge
        .content
        .map(|(files, chunks)| ContentDigests::from_parts(files, &chunks));
    Ok(MergedIndex {
        index: Arc::new(index),
        content,
    })
}

/// One entry of one contributing layer.
struct MergeHead<'s> {
    name: &'s [u8],
    /// Rank among the parts: 0 is the topmost.
    rank: usize,
    child: DirentTarget,
}

impl PartialEq for MergeHead<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.rank) == (other.name, other.rank)
    }
}
impl Eq for MergeHead<'_> {}
impl PartialOrd for MergeHead<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for MergeHead<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.name, self.rank).cmp(&(other.name, other.rank))
    }
}

impl<'s> LayerMerge<'s> {
    fn root(&mut self) -> Result<()> {
        let Some(top) = self.sides.len().checked_sub(1) else {
            return Err(FormatError::corrupt(
                "stack",
                0,
                "a stack needs at least one layer",
            ));
        };
        let mut parts = Vec::new();
        let mut closed = false;
        for side in (0..=top).rev() {
            parts.push((side, ROOT));
            if self
                .index(side)
                .inode(ROOT)
                .is_some_and(|inode| inode.opaque)
            {
                closed = true;
                break;
            }
        }
        let attributes = self.attributes(top, ROOT)?;
        let body = Body::Directory {
            opaque: closed && !self.bottom,
            parent: ROOT,
        };
        let ino = self.builder.inode(&attributes, &body)?;
        self.file_digest(Digest::default());
        self.directories
            .push_back(MergedDirectory { ino, parts, closed });
        Ok(())
    }

    fn index(&self, side: usize) -> &'s Index {
        static NOTHING: std::sync::OnceLock<Index> = std::sync::OnceLock::new();
        match self.sides.get(side) {
            Some(side) => &side.input.index,
            // Unreachable: this module numbers the sides. An empty index keeps the function total.
            None => NOTHING.get_or_init(Index::empty),
        }
    }

    fn attributes(&mut self, side: usize, ino: Ino) -> Result<Attributes> {
        let index = self.index(side);
        let inode = index.inode(ino).ok_or_else(|| lost("inode"))?;
        let set = index.xattr_set(ino) as usize;
        let known = self
            .sides
            .get(side)
            .and_then(|s| s.xattr_sets.get(set))
            .copied();
        let xattrs = match known.unwrap_or(NONE) {
            NONE => {
                let pairs: Vec<_> = index.xattrs(ino).collect();
                let number = self.builder.xattr_set(pairs.iter().copied())?;
                let slot = self
                    .sides
                    .get_mut(side)
                    .and_then(|s| s.xattr_sets.get_mut(set));
                if let Some(slot) = slot {
                    *slot = number;
                }
                number
            }
            known => known,
        };
        Ok(Attributes {
            permissions: inode.mode & PERMISSIONS,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs,
        })
    }

    fn directory(&mut self, directory: &MergedDirectory) -> Result<()> {
        self.builder.open(directory.ino);
        if let [(side, ino)] = directory.parts.as_slice() {
            for entry in self.index(*side).entries(*ino, 0) {
                self.entry(directory, entry.name, &[(*side, entry.child)])?;
            }
            return Ok(());
        }
        let mut lists: Vec<_> = directory
            .parts
            .iter()
            .map(|(side, ino)| self.index(*side).entries(*ino, 0))
            .collect();
        let mut heads = BinaryHeap::with_capacity(lists.len());
        let head = |rank, entry: Dirent<'s>| {
            Reverse(MergeHead {
                name: entry.name,
                rank,
                child: entry.child,
            })
        };
        for (rank, list) in lists.iter_mut().enumerate() {
            heads.extend(list.next().map(|entry| head(rank, entry)));
        }
        let mut same = Vec::new();
        while let Some(Reverse(first)) = heads.pop() {
            same.clear();
            let name = first.name;
            let mut next = Some(first);
            while let Some(found) = next {
                let side = directory.parts.get(found.rank).map_or(0, |(side, _)| *side);
                same.push((side, found.child));
                let more = lists.get_mut(found.rank).and_then(Iterator::next);
                heads.extend(more.map(|entry| head(found.rank, entry)));
                next = match heads.peek() {
                    Some(Reverse(head)) if head.name == name => heads.pop().map(|head| head.0),
                    _ => None,
                };
            }
            self.entry(directory, name, &same)?;
        }
        Ok(())
    }

    /// One name: the entry of each layer that has it, topmost first.
    fn entry(
        &mut self,
        directory: &MergedDirectory,
        name: &[u8],
        layers: &[(usize, DirentTarget)],
    ) -> Result<()> {
        let Some(&(side, child)) = layers.first() else {
            return Ok(());
        };
        let ino = match child {
            DirentTarget::Inode(ino) => ino,
            DirentTarget::Whiteout if self.bottom || directory.closed => return Ok(()),
            DirentTarget::Whiteout => return self.builder.whiteout(name),
        };
        let inode = self.index(side).inode(ino).ok_or_else(|| lost("inode"))?;
        if !inode.is_dir() {
            return self.object(side, ino, &inode, name);
        }
        let mut parts = Vec::new();
        let mut closed = directory.closed;
        for &(side, child) in layers {
            let part = match child {
                DirentTarget::Inode(ino) => self.index(side).inode(ino).map(|inode| (ino, inode)),
                DirentTarget::Whiteout => None,
            };
            let Some((ino, inode)) = part.filter(|(_, inode)| inode.is_dir()) else {
                closed = true;
                break;
            };
            parts.push((side, ino));
            if inode.opaque {
                closed = true;
                break;
            }
        }
        let opaque = closed && !directory.closed && !self.bottom;
        let attributes = self.attributes(side, ino)?;
        let body = Body::Directory {
            opaque,
            parent: directory.ino,
        };
        let ino = self.builder.object(name, &attributes, &body)?;
        self.file_digest(Digest::default());
        self.directories
            .push_back(MergedDirectory { ino, parts, closed });
        Ok(())
    }

    fn object(
        &mut self,
        side: usize,
        ino: Ino,
        inode: &crate::index::Inode,
        name: &[u8],
    ) -> Result<()> {
        let known = self
            .sides
            .get(side)
            .and_then(|s| s.inodes.get(ino as usize))
            .copied();
        if let Some(known) = known.filter(|known| *known != NONE) {
            return self.builder.link(name, known);
        }
        let attributes = self.attributes(side, ino)?;
        let index = self.index(side);
        let mut extents = std::mem::take(&mut self.extents);
        extents.clear();
        let body = match inode.kind() {
            S_IFREG => {
                for extent in index.extents(ino, 0..u64::MAX) {
                    extents.push(Extent {
                        chunk: self.chunk(side, extent.chunk)?,
                        ..extent
                    });
                }
                Body::File {
                    size: inode.size,
                    extents: &extents,
                }
            }
            S_IFLNK => Body::Symlink(index.symlink(ino)),
            S_IFCHR => Body::Char(inode.rdev.0, inode.rdev.1),
            S_IFBLK => Body::Block(inode.rdev.0, inode.rdev.1),
            S_IFIFO => Body::Fifo,
            _ => Body::Socket,
        };
        let new = self.builder.object(name, &attributes, &body)?;
        self.extents = extents;
        let digest = self.sides.get(side).and_then(|s| s.input.content.as_ref());
        self.file_digest(digest.map_or(Digest::default(), |content| content.file(ino)));
        let slot = self
            .sides
            .get_mut(side)
            .and_then(|s| s.inodes.get_mut(ino as usize));
        if let Some(slot) = slot {
            *slot = new;
        }
        Ok(())
    }

    fn file_digest(&mut self, digest: Digest) {
        if let Some((files, _)) = &mut self.content {
            files.push(digest.0);
        }
    }

    /// The merged row of a layer's chunk. One stored chunk has one row, for all of its borrowers.
    fn chunk(&mut self, side: usize, id: u32) -> Result<u32> {
        let Some(from) = self.sides.get_mut(side) else {
            return Err(lost("layer"));
        };
        let Some(slot) = from.chunk_rows.get_mut(id as usize) else {
            return Err(lost("chunk"));
        };
        if *slot != NONE {
            return Ok(*slot);
        }
        let index = &from.input.index;
        let chunk = index.chunk(id).ok_or_else(|| lost("chunk"))?;
        let layer: LayerRef = match chunk.source {
            ChunkFile::Own => from.input.layer,
            ChunkFile::Borrowed(row) => index.layer(row).ok_or_else(|| lost("layer"))?,
        };
        let key = (layer.digest, chunk.offset);
        let row = match self.known_chunks.get(&key) {
            Some(row) => *row,
            None => {
                let borrowed = Chunk {
                    source: ChunkFile::Borrowed(0),
                    ..chunk
                };
                let row = self.builder.chunk(&borrowed, Some(layer))?;
                self.known_chunks.insert(key, row);
                if let Some((_, chunks)) = &mut self.content {
                    let content = from.input.content.as_ref();
                    chunks.push(content.map_or(Digest::default(), |c| c.chunk(id)));
                }
                row
            }
        };
        *slot = row;
        Ok(row)
    }
}

#[cold]
fn lost(what: &'static str) -> FormatError {
    FormatError::corrupt("stack", 0, format!("no such {what}"))
}
