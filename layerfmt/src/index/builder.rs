//! Builds the columns of an INDEX section in canonical order.
//!
//! Whoever builds walks directories in inode order: [`Builder::open`] a directory, then for each
//! entry in name order [`Builder::whiteout`], [`Builder::link`] or [`Builder::object`], which
//! numbers a new inode. The first directory is the root, number 0, made by [`Builder::new`].

use std::collections::HashMap;

use super::{Extent, Index, Ino, LayerRef, tables};
use crate::error::{FormatError, Result};
use crate::layout::chunk::{Chunk, ChunkFile};
use crate::layout::columns::Counts;
use crate::layout::inode::*;
use crate::limits;
use crate::time::Time;

/// Fields of every inode row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) permissions: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// The value returned by [`Builder::xattr_set`]; 0 for none.
    pub(crate) xattrs: u32,
}

/// Fields of one kind of inode.
#[derive(Debug)]
pub(crate) enum Body<'b> {
    Directory {
        opaque: bool,
        parent: Ino,
    },
    /// Extents name rows of the chunk table under construction.
    File {
        size: u64,
        extents: &'b [Extent],
    },
    Symlink(&'b [u8]),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

#[derive(Debug, Default)]
pub(crate) struct Builder {
    inodes: [Vec<u32>; 12],
    dirents: [Vec<u32>; 2],
    extents: [Vec<u32>; 5],
    chunks: [Vec<u32>; 6],
    layers: [Vec<u32>; 2],
    xattr_set_ends: Vec<u32>,
    xattr_pairs: [Vec<u32>; 2],
    xattr_name_ends: Vec<u32>,
    chunk_digests: Vec<u8>,
    layer_digests: Vec<u8>,
    names: Vec<u8>,
    symlinks: Vec<u8>,
    xattr_names: Vec<u8>,
    xattr_values: Vec<u8>,
    known_sets: HashMap<Vec<u8>, u32>,
    known_names: HashMap<Vec<u8>, u32>,
    known_layers: HashMap<crate::digest::Digest, u32>,
    open: Ino,
}

/// Positions of the inode columns, in the order of `Column`.
const NLINK: usize = 8;
const FIRST: usize = 9;
const COUNT: usize = 10;

impl Builder {
    /// Start with the root directory.
    pub(crate) fn new() -> Builder {
        Builder::default()
    }

    /// Number of inodes so far; the next object gets this number.
    pub(crate) fn inode_count(&self) -> u32 {
        self.inodes[0].len() as u32
    }

    pub(crate) fn chunk_count(&self) -> u32 {
        self.chunks[0].len() as u32
    }

    /// Add a row to the chunk table. Own chunks first, in file order.
    pub(crate) fn chunk(&mut self, chunk: &Chunk, layer: Option<LayerRef>) -> Result<u32> {
        let source = match (chunk.source, layer) {
            (ChunkFile::Borrowed(_), Some(layer)) => self.layer(layer)? + 1,
            _ => 0,
        };
        let id = self.chunk_count();
        bound(id, limits::CHUNKS_MAX, "chunks")?;
        let row = [
            source,
            chunk.offset as u32,
            (chunk.offset >> 32) as u32,
            chunk.stored_len,
            chunk.raw_len,
            chunk.codec.code().into(),
        ];
        push(&mut self.chunks, row);
        self.chunk_digests.extend_from_slice(&chunk.digest.0);
        Ok(id)
    }

    fn layer(&mut self, layer: LayerRef) -> Result<u32> {
        if let Some(row) = self.known_layers.get(&layer.digest) {
            return Ok(*row);
        }
        let row = self.layers[0].len() as u32;
        bound(row, limits::LAYERS_MAX, "layers")?;
        push(
            &mut self.layers,
            [layer.file_len as u32, (layer.file_len >> 32) as u32],
        );
        self.layer_digests.extend_from_slice(&layer.digest.0);
        self.known_layers.insert(layer.digest, row);
        Ok(row)
    }

    /// The number of an xattr set; equal sets share one number, and an empty set has 0. `pairs` are
    /// in name order.
    pub(crate) fn xattr_set<'x>(
        &mut self,
        pairs: impl Iterator<Item = (&'x [u8], &'x [u8])> + Clone,
    ) -> Result<u32> {
        let mut key = Vec::new();
        for (name, value) in pairs.clone() {
            key.extend_from_slice(&(name.len() as u32).to_le_bytes());
            key.extend_from_slice(name);
            key.extend_from_slice(&(value.len() as u32).to_le_bytes());
            key.extend_from_slice(value);
        }
        if key.is_empty() {
            return Ok(0);
        }
        if let Some(set) = self.known_sets.get(&key) {
            return Ok(*set);
        }
        for (name, value) in pairs {
            let row = self.xattr_name(name);
            self.xattr_values.extend_from_slice(value);
            push(&mut self.xattr_pairs, [row, self.xattr_values.len() as u32]);
        }
        area(self.xattr_values.len(), "xattr values")?;
        self.xattr_set_ends.push(self.xattr_pairs[0].len() as u32);
        let set = self.xattr_set_ends.len() as u32;
        self.known_sets.insert(key, set);
        Ok(set)
    }

    fn xattr_name(&mut self, name: &[u8]) -> u32 {
        if let Some(row) = self.known_names.get(name) {
            return *row;
        }
        let row = self.xattr_name_ends.len() as u32;
        self.xattr_names.extend_from_slice(name);
        self.xattr_name_ends.push(self.xattr_names.len() as u32);
        self.known_names.insert(name.to_vec(), row);
        row
    }

    /// Adds an inode. The root is the first; every other object also needs a name: use
    /// [`Builder::object`].
    pub(crate) fn inode(&mut self, attributes: &Attributes, body: &Body<'_>) -> Result<Ino> {
        let ino = self.inode_count();
        bound(ino, limits::INODES_MAX, "inodes")?;
        let (kind, flags, size, first, count) = match *body {
            Body::Directory { opaque, parent } => (
                S_IFDIR,
                if opaque { FLAG_OPAQUE } else { 0 },
                parent.into(),
                0,
                0,
            ),
            Body::File { size, extents } => {
                let first = self.extents[0].len() as u32;
                for extent in extents {
                    let row = [
                        extent.file_offset as u32,
                        (extent.file_offset >> 32) as u32,
                        extent.chunk,
                        extent.chunk_offset,
                        extent.len,
                    ];
                    push(&mut self.extents, row);
                }
                bound(self.extents[0].len() as u32, limits::EXTENTS_MAX, "extents")?;
                (S_IFREG, 0, size, first, extents.len() as u32)
            }
            Body::Symlink(target) => {
                let first = self.symlinks.len() as u32;
                self.symlinks.extend_from_slice(target);
                area(self.symlinks.len(), "symbolic link targets")?;
                (S_IFLNK, 0, 0, first, target.len() as u32)
            }
            Body::Char(major, minor) => (S_IFCHR, 0, 0, major, minor),
            Body::Block(major, minor) => (S_IFBLK, 0, 0, major, minor),
            Body::Fifo => (S_IFIFO, 0, 0, 0, 0),
            Body::Socket => (S_IFSOCK, 0, 0, 0, 0),
        };
        let mtime = attributes.mtime.sec.cast_unsigned();
        let row = [
            kind | (attributes.permissions & PERMISSIONS) | u32::from(flags) << 16,
            attributes.uid,
            attributes.gid,
            size as u32,
            (size >> 32) as u32,
            mtime as u32,
            (mtime >> 32) as u32,
            attributes.mtime.nsec,
            if kind == S_IFDIR { 2 } else { 0 },
            first,
            count,
            attributes.xattrs,
        ];
        push(&mut self.inodes, row);
        Ok(ino)
    }

    /// Start the entries of directory `ino`; directories must be opened in inode order.
    pub(crate) fn open(&mut self, ino: Ino) {
        self.open = ino;
        let first = self.dirents[0].len() as u32;
        if let Some(slot) = self.inodes[FIRST].get_mut(ino as usize) {
            *slot = first;
        }
    }

    fn entry(&mut self, name: &[u8], ino: Ino) -> Result<()> {
        self.names.extend_from_slice(name);
        area(self.names.len(), "names")?;
        push(&mut self.dirents, [self.names.len() as u32, ino]);
        bound(self.dirents[0].len() as u32, limits::DIRENTS_MAX, "dirents")?;
        self.bump(COUNT, self.open);
        Ok(())
    }

    fn bump(&mut self, column: usize, ino: Ino) {
        if let Some(slot) = self
            .inodes
            .get_mut(column)
            .and_then(|c| c.get_mut(ino as usize))
        {
            *slot += 1;
        }
    }

    /// An entry that hides `name`.
    pub(crate) fn whiteout(&mut self, name: &[u8]) -> Result<()> {
        self.entry(name, 0)
    }

    /// A further name of an inode that is not a directory.
    pub(crate) fn link(&mut self, name: &[u8], ino: Ino) -> Result<()> {
        self.bump(NLINK, ino);
        self.entry(name, ino)
    }

    /// A new inode and its first name in the open directory.
    pub(crate) fn object(
        &mut self,
        name: &[u8],
        attributes: &Attributes,
        body: &Body<'_>,
    ) -> Result<Ino> {
        let ino = self.inode(attributes, body)?;
        match body {
            Body::Directory { .. } => self.bump(NLINK, self.open),
            _ => self.bump(NLINK, ino),
        }
        self.entry(name, ino)?;
        Ok(ino)
    }

    /// The index, validated.
    pub(crate) fn finish(self, data_end: u64) -> Result<Index> {
        let counts = Counts {
            inodes: self.inodes[0].len() as u32,
            dirents: self.dirents[0].len() as u32,
            extents: self.extents[0].len() as u32,
            chunks: self.chunks[0].len() as u32,
            layers: self.layers[0].len() as u32,
            xattr_sets: self.xattr_set_ends.len() as u32,
            xattr_pairs: self.xattr_pairs[0].len() as u32,
            xattr_names: self.xattr_name_ends.len() as u32,
            names_len: self.names.len() as u32,
            symlinks_len: self.symlinks.len() as u32,
            xattr_names_len: self.xattr_names.len() as u32,
            xattr_values_len: self.xattr_values.len() as u32,
        };
        let columns = (self.inodes.into_iter())
            .chain(self.dirents)
            .chain(self.extents)
            .chain(self.chunks)
            .chain(self.layers)
            .chain([self.xattr_set_ends])
            .chain(self.xattr_pairs)
            .chain([self.xattr_name_ends]);
        let areas = [
            self.chunk_digests,
            self.layer_digests,
            self.names,
            self.symlinks,
            self.xattr_names,
            self.xattr_values,
        ];
        Index::of_tables(tables::assemble(counts, columns, areas), counts, data_end)
    }
}

fn push<const N: usize>(columns: &mut [Vec<u32>; N], row: [u32; N]) {
    for (column, value) in columns.iter_mut().zip(row) {
        column.push(value);
    }
}

fn bound(count: u32, max: u32, what: &str) -> Result<()> {
    if count >= max {
        return Err(FormatError::limit(
            "INDEX",
            count.into(),
            format!("more than {max} {what}"),
        ));
    }
    Ok(())
}

fn area(len: usize, what: &str) -> Result<()> {
    if u32::try_from(len).is_err() {
        return Err(FormatError::limit(
            "INDEX",
            len as u64,
            format!("more than 4 GiB of {what}"),
        ));
    }
    Ok(())
}
