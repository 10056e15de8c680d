//! Unpacks layers to plain trees: a directory, or a tar archive.

mod directory;
mod tar;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use layerfmt::layout::inode::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG};
use layerfmt::{ContentReader, DirentTarget, Index, Ino, Inode, ROOT, StoredChunks};

use crate::assemble::Reading;

/// The form of whiteouts in a tree of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Whiteouts {
    /// Devices 0:0 and trusted.overlay attributes, as an upper directory has them
    Overlayfs,
    /// Files named .wh.NAME and .wh..wh..opq, as container layers have them
    Oci,
}

/// The reason why a tree cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// At one object.
    #[error("cannot unpack \"{path}\": {source}")]
    At {
        /// Path of the object.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The place to unpack to.
    #[error("cannot unpack to {place}: {source}")]
    Place {
        /// The affected place.
        place: String,
        /// The system's error.
        source: io::Error,
    },
    /// The place is not empty.
    #[error("cannot unpack to {0}: it is not empty; name a new directory")]
    NotEmpty(String),
}

/// Counters of the written tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Unpacked {
    /// Names, the root's not counted.
    pub entries: u64,
    /// Bytes of content.
    pub content_len: u64,
    /// Number of omitted sockets, which a tar archive cannot hold.
    pub sockets_left_out: u64,
}

/// One object to write.
struct UnpackObject<'o> {
    ino: Ino,
    inode: layerfmt::Inode,
    /// The first path of an object that was written already: this is a hard link to it.
    first: Option<&'o [u8]>,
}

/// Receives the objects of a tree, parents first.
trait UnpackTarget {
    /// An object at `path`, whose last component is `name`.
    fn object(
        &mut self,
        path: &[u8],
        name: &[u8],
        object: &UnpackObject<'_>,
        reader: &mut ContentReader<'_>,
    ) -> io::Result<u64>;

    /// A whiteout of `path`.
    fn whiteout(&mut self, path: &[u8], name: &[u8]) -> io::Result<()>;

    /// Called when all objects of the directory that was entered last are written.
    fn leave(&mut self) -> io::Result<()>;
}

/// Unpacks a tree into the directory `place`, which is created or must be empty. `reading` is the
/// interpretation of the result.
///
/// # Errors
/// The object that cannot be written, and the reason; written objects stay for inspection.
pub(crate) fn to_directory(
    index: &Index,
    chunks: &dyn StoredChunks,
    place: &Path,
    reading: Reading,
    progress: &dyn Fn(u64),
) -> Result<Unpacked, UnpackError> {
    let mut target = directory::DirectoryTarget::create(index, place, reading)?;
    walk(index, chunks, &mut target, progress)
}

/// Writes a tree as a tar archive in PAX format. `reading` is the interpretation of the result.
///
/// # Errors
/// The object that cannot be read or written, and the reason.
pub(crate) fn to_tar(
    index: &Index,
    chunks: &dyn StoredChunks,
    out: &mut dyn Write,
    whiteouts: Whiteouts,
    reading: Reading,
    progress: &dyn Fn(u64),
) -> Result<Unpacked, UnpackError> {
    let mut target = tar::TarTarget::new(index, out, whiteouts, reading);
    let mut unpacked = walk(index, chunks, &mut target, progress)?;
    unpacked.sockets_left_out = target.sockets();
    target.finish().map_err(|source| UnpackError::Place {
        place: "the archive".into(),
        source,
    })?;
    Ok(unpacked)
}

/// Passes every object to `target`: a directory, then its contents, names in order.
fn walk(
    index: &Index,
    chunks: &dyn StoredChunks,
    target: &mut dyn UnpackTarget,
    progress: &dyn Fn(u64),
) -> Result<Unpacked, UnpackError> {
    let mut reader = ContentReader::new(index, chunks);
    let mut first_paths: HashMap<Ino, Vec<u8>> = HashMap::new();
    let mut unpacked = Unpacked::default();
    let at = |path: &[u8]| {
        let path = path.escape_ascii().to_string();
        move |source| UnpackError::At { path, source }
    };
    let Some(root) = index.inode(ROOT) else {
        return Ok(unpacked);
    };
    let object = UnpackObject {
        ino: ROOT,
        inode: root,
        first: None,
    };
    target
        .object(b"", b"", &object, &mut reader)
        .map_err(at(b"/"))?;
    let mut path: Vec<u8> = Vec::new();
    let mut open = vec![(ROOT, 0, 0usize)];
    while let Some((dir, position, len)) = open.pop() {
        path.truncate(len);
        let Some(entry) = index.entries(dir, position).next() else {
            target.leave().map_err(at(&path))?;
            continue;
        };
        open.push((dir, position + 1, len));
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.name);
        unpacked.entries += 1;
        let DirentTarget::Inode(ino) = entry.child else {
            target.whiteout(&path, entry.name).map_err(at(&path))?;
            continue;
        };
        let Some(inode) = index.inode(ino) else {
            continue;
        };
        let first = first_paths.get(&ino).map(Vec::as_slice);
        let object = UnpackObject { ino, inode, first };
        let len = target
            .object(&path, entry.name, &object, &mut reader)
            .map_err(at(&path))?;
        progress(len);
        unpacked.content_len += len;
        if inode.is_dir() {
            open.push((ino, 0, path.len()));
        } else if inode.nlink > 1 {
            first_paths.entry(ino).or_insert_with(|| path.clone());
        }
    }
    Ok(unpacked)
}

/// The attributes of an object. In a tree of changes overlayfs' own names are escaped, as the
/// kernel does for an overlay inside an overlay, and the opaque mark is added; in a whole tree they
/// stay unchanged.
fn marked_xattrs(
    index: &Index,
    ino: Ino,
    reading: Reading,
    opaque: bool,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    if reading == Reading::Whole {
        let plain = index.xattrs(ino);
        return plain
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
    }
    let escaped = |name: &[u8]| match name.strip_prefix(b"trusted.overlay.") {
        Some(rest) => [b"trusted.overlay.overlay.", rest].concat(),
        None => name.to_vec(),
    };
    let mut all: Vec<_> = index
        .xattrs(ino)
        .map(|(name, value)| (escaped(name), value.to_vec()))
        .collect();
    if opaque {
        all.push((b"trusted.overlay.opaque".to_vec(), b"y".to_vec()));
    }
    if index.inode(ino).is_some_and(|inode| stands_in(&inode)) {
        all.push((b"trusted.layerfs.device".to_vec(), b"0:0".to_vec()));
    }
    all
}

/// True if a reader of a tree of changes would mistake a node for a whiteout.
fn stands_in(inode: &Inode) -> bool {
    inode.kind() == S_IFCHR && inode.rdev == (0, 0)
}

/// The device number to write for a node: in a tree of changes a device 0:0 becomes the stand-in of
/// a mount, with its true number in an attribute.
fn device_of(inode: &Inode, reading: Reading) -> (u32, u32) {
    match reading {
        Reading::Changes if stands_in(inode) => (0, 1),
        _ => inode.rdev,
    }
}
