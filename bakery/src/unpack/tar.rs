//! A tree written as a PAX archive; sparse files in format 1.0, as GNU tar and libarchive read it.

use std::io::{self, Write};
use std::ops::Range;

use layerfmt::tree::Time;
use wire::tar::{Entry, Kind};

use super::{
    ContentReader, Index, Reading, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG,
    UnpackObject, UnpackTarget, Whiteouts, device_of, marked_xattrs,
};

/// An archive being written.
pub(super) struct Archive<'a> {
    index: &'a Index,
    out: wire::tar::Archive<&'a mut dyn Write>,
    whiteouts: Whiteouts,
    reading: Reading,
    sockets: u64,
}

/// The entry of a name without an object of its own.
const BARE: Entry<'static> = Entry {
    path: b"",
    kind: Kind::File(0, None),
    mode: 0,
    uid: 0,
    gid: 0,
    mtime: Time { sec: 0, nsec: 0 },
    xattrs: &[],
};

impl<'a> Archive<'a> {
    pub(super) fn new(
        index: &'a Index,
        out: &'a mut dyn Write,
        whiteouts: Whiteouts,
        reading: Reading,
    ) -> Self {
        Archive {
            index,
            out: wire::tar::Archive::new(out),
            whiteouts,
            reading,
            sockets: 0,
        }
    }

    /// Sockets met, which no archive can hold.
    pub(super) fn sockets(&self) -> u64 {
        self.sockets
    }

    /// Writes the end mark.
    pub(super) fn finish(self) -> io::Result<()> {
        self.out.finish().map(|_| ())
    }

    /// Writes an entry without data.
    fn put(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.out.append(entry, &mut io::empty())
    }

    fn file(
        &mut self,
        entry: &Entry<'_>,
        object: &UnpackObject<'_>,
        reader: &mut ContentReader<'_>,
    ) -> io::Result<u64> {
        let size = object.inode.size;
        let ranges = data_ranges(self.index, object.ino);
        let stored: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let holes = (stored != size).then_some(ranges.as_slice());
        let entry = Entry {
            kind: Kind::File(size, holes),
            ..entry.clone()
        };
        self.out.append_with(&entry, |out, _| {
            reader.runs(object.ino, |_, bytes| out.write_all(bytes))
        })?;
        Ok(stored)
    }

    fn marker(&mut self, path: &[u8]) -> io::Result<()> {
        self.put(&Entry {
            path,
            mode: 0o644,
            ..BARE
        })
    }
}

impl UnpackTarget for Archive<'_> {
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
            let entry = Entry {
                path: &path,
                kind: Kind::HardLink(&link),
                ..BARE
            };
            return self.put(&entry).map(|()| 0);
        }
        let inode = &object.inode;
        let opaque = inode.opaque && self.whiteouts == Whiteouts::Overlayfs;
        let xattrs = marked_xattrs(self.index, object.ino, self.reading, opaque);
        let (major, minor) = device_of(inode, self.reading);
        let kind = match inode.kind() {
            S_IFREG => Kind::File(inode.size, None),
            S_IFDIR => Kind::Directory,
            S_IFLNK => Kind::Symlink(self.index.symlink(object.ino)),
            S_IFCHR => Kind::Char(major, minor),
            S_IFBLK => Kind::Block(inode.rdev.0, inode.rdev.1),
            S_IFIFO => Kind::Fifo,
            _ => {
                self.sockets += 1;
                return Ok(0);
            }
        };
        let entry = Entry {
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
                self.put(&Entry {
                    path: &path,
                    kind: Kind::Char(0, 0),
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

/// Data of a file, neighbours joined.
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
