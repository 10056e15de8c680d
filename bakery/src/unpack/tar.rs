//! Writes a tree as a PAX archive; sparse files in format 1.0, which GNU tar and libarchive read.

use std::io::{self, Write};
use std::ops::Range;

use layerfmt::tree::Time;
use wire::tar::{ArchiveEntry, ArchiveKind};

use super::{
    ContentReader, Index, Reading, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG,
    UnpackObject, UnpackTarget, Whiteouts, device_of, marked_xattrs,
};

/// An archive being written.
pub(super) struct TarTarget<'a> {
    index: &'a Index,
    out: wire::tar::Archive<&'a mut dyn Write>,
    whiteouts: Whiteouts,
    reading: Reading,
    sockets: u64,
}

/// The fields of an entry that describes no object.
const BARE: ArchiveEntry<'static> = ArchiveEntry {
    path: b"",
    kind: ArchiveKind::File(0, None),
    mode: 0,
    uid: 0,
    gid: 0,
    mtime: Time { sec: 0, nsec: 0 },
    xattrs: &[],
};

impl<'a> TarTarget<'a> {
    pub(super) fn new(
        index: &'a Index,
        out: &'a mut dyn Write,
        whiteouts: Whiteouts,
        reading: Reading,
    ) -> Self {
        TarTarget {
            index,
            out: wire::tar::Archive::new(out),
            whiteouts,
            reading,
            sockets: 0,
        }
    }

    /// Number of sockets, which an archive cannot hold.
    pub(super) fn sockets(&self) -> u64 {
        self.sockets
    }

    /// Writes the end mark.
    pub(super) fn finish(self) -> io::Result<()> {
        self.out.finish().map(|_| ())
    }

    /// Writes an entry without data.
    fn put(&mut self, entry: &ArchiveEntry<'_>) -> io::Result<()> {
        self.out.append(entry, &mut io::empty())
    }

    fn file(
        &mut self,
        entry: &ArchiveEntry<'_>,
        object: &UnpackObject<'_>,
        reader: &mut ContentReader<'_>,
    ) -> io::Result<u64> {
        let size = object.inode.size;
        let ranges = data_ranges(self.index, object.ino);
        let stored: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let holes = (stored != size).then_some(ranges.as_slice());
        let entry = ArchiveEntry {
            kind: ArchiveKind::File(size, holes),
            ..entry.clone()
        };
        self.out.append_with(&entry, |out, _| {
            reader.runs(object.ino, |_, bytes| out.write_all(bytes))
        })?;
        Ok(stored)
    }

    fn marker(&mut self, path: &[u8]) -> io::Result<()> {
        self.put(&ArchiveEntry {
            path,
            mode: 0o644,
            ..BARE
        })
    }
}

impl UnpackTarget for TarTarget<'_> {
    fn object(
        &mut self,
        path: &[u8],
        _name: &[u8],
        object: &UnpackObject<'_>,
        reader: &mut ContentReader<'_>,
    ) -> io::Result<u64> {
        let path = [b"./", path].concat();
        if let Some(first) = object.first {
            let link = [b"./", first].concat();
            let entry = ArchiveEntry {
                path: &path,
                kind: ArchiveKind::HardLink(&link),
                ..BARE
            };
            return self.put(&entry).map(|()| 0);
        }
        let inode = &object.inode;
        let opaque = inode.opaque && self.whiteouts == Whiteouts::Overlayfs;
        let xattrs = marked_xattrs(self.index, object.ino, self.reading, opaque);
        let (major, minor) = device_of(inode, self.reading);
        let kind = match inode.kind() {
            S_IFREG => ArchiveKind::File(inode.size, None),
            S_IFDIR => ArchiveKind::Directory,
            S_IFLNK => ArchiveKind::Symlink(self.index.symlink(object.ino)),
            S_IFCHR => ArchiveKind::Char(major, minor),
            S_IFBLK => ArchiveKind::Block(inode.rdev.0, inode.rdev.1),
            S_IFIFO => ArchiveKind::Fifo,
            _ => {
                self.sockets += 1;
                return Ok(0);
            }
        };
        let entry = ArchiveEntry {
            path: &path,
            kind,
            mode: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            mtime: Time {
                sec: inode.mtime.sec,
                nsec: inode.mtime.nsec,
            },
            xattrs: &xattrs,
        };
        if inode.kind() == S_IFREG {
            return self.file(&entry, object, reader);
        }
        self.put(&entry)?;
        if inode.is_dir() && inode.opaque && self.whiteouts == Whiteouts::Oci {
            let marker = [header_directory(&path).as_slice(), b".wh..wh..opq"].concat();
            self.marker(&marker)?;
        }
        Ok(0)
    }

    fn whiteout(&mut self, path: &[u8], name: &[u8]) -> io::Result<()> {
        match self.whiteouts {
            Whiteouts::Overlayfs => {
                let path = [b"./", path].concat();
                self.put(&ArchiveEntry {
                    path: &path,
                    kind: ArchiveKind::Char(0, 0),
                    ..BARE
                })
            }
            Whiteouts::Oci => {
                let parent = path.get(..path.len() - name.len()).unwrap_or_default();
                self.marker(&[b"./", parent, b".wh.", name].concat())
            }
        }
    }

    fn leave(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory's path with exactly one slash at its end.
fn header_directory(path: &[u8]) -> Vec<u8> {
    match path.last() {
        Some(b'/') => path.to_vec(),
        _ => [path, b"/"].concat(),
    }
}

/// The data ranges of a file; adjacent ones are joined.
fn data_ranges(index: &Index, ino: u32) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for extent in index.extents(ino, 0..u64::MAX) {
        let end = extent.file_offset + u64::from(extent.len);
        match ranges.last_mut() {
            Some(last) if last.end == extent.file_offset => last.end = end,
            _ => ranges.push(extent.file_offset..end),
        }
    }
    ranges
}
