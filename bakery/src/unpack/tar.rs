//! A tree written as a PAX archive; sparse files in format 1.0, as GNU tar and libarchive read it.

use std::io::{self, Write};

use super::tar_header::{Header, pad};
use super::{
    ContentReader, Index, Reading, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG,
    UnpackObject, UnpackTarget, Whiteouts, device_of, marked_xattrs,
};

/// An archive being written.
pub(super) struct Archive<'a> {
    index: &'a Index,
    out: &'a mut dyn Write,
    whiteouts: Whiteouts,
    reading: Reading,
    sockets: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn new(
        index: &'a Index,
        out: &'a mut dyn Write,
        whiteouts: Whiteouts,
        reading: Reading,
    ) -> Self {
        Archive {
            index,
            out,
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
        self.out.write_all(&[0; 1024])?;
        self.out.flush()
    }

    fn header<'h>(&self, path: &'h [u8], object: &UnpackObject<'_>) -> Header<'h> {
        let inode = &object.inode;
        let opaque = inode.opaque && self.whiteouts == Whiteouts::Overlayfs;
        let xattrs = marked_xattrs(self.index, object.ino, self.reading, opaque);
        let records = xattrs
            .into_iter()
            .map(|(name, value)| {
                (
                    [b"SCHILY.xattr.", &*wire::pax::xattr_key(&name)].concat(),
                    value,
                )
            })
            .collect();
        Header {
            path,
            mode: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            mtime: (inode.mtime.sec, inode.mtime.nsec),
            records,
            ..Header::default()
        }
    }

    fn file(
        &mut self,
        header: Header<'_>,
        object: &UnpackObject<'_>,
        reader: &mut ContentReader<'_>,
    ) -> io::Result<u64> {
        let size = object.inode.size;
        let segments = segments(self.index, object.ino);
        let stored: u64 = segments.iter().map(|(_, len)| len).sum();
        let map = if stored == size {
            String::new()
        } else {
            leading_map(&segments, size)
        };
        let name = header.path;
        // The file name for readers without sparse file support.
        let sparse_name = sparse_path(name);
        let mut header = Header {
            kind: b'0',
            size: stored + map.len() as u64,
            ..header
        };
        if stored != size {
            for (key, value) in [
                ("GNU.sparse.major", "1".into()),
                ("GNU.sparse.minor", "0".into()),
                ("GNU.sparse.name", name.to_vec()),
                ("GNU.sparse.realsize", size.to_string().into_bytes()),
            ] {
                header.records.push((key.into(), value));
            }
            header.path = &sparse_name;
        }
        let len = header.size;
        header.write(self.out)?;
        self.out.write_all(map.as_bytes())?;
        let out = &mut *self.out;
        reader.runs(object.ino, |_, bytes| out.write_all(bytes))?;
        pad(self.out, len)?;
        Ok(stored)
    }

    fn marker(&mut self, path: &[u8]) -> io::Result<()> {
        Header {
            path,
            kind: b'0',
            mode: 0o644,
            ..Header::default()
        }
        .write(self.out)
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
            let header = Header {
                path: &path,
                kind: b'1',
                link: &link,
                ..Header::default()
            };
            return header.write(self.out).map(|()| 0);
        }
        let as_directory = [&path, &b"/"[..]].concat();
        let mut header = self.header(&path, object);
        match object.inode.kind() {
            S_IFREG => return self.file(header, object, reader),
            S_IFDIR => {
                header.kind = b'5';
                header.path = if path == b"./" { &path } else { &as_directory };
                header.write(self.out)?;
                if object.inode.opaque && self.whiteouts == Whiteouts::Oci {
                    let marker = [header_directory(&path).as_slice(), b".wh..wh..opq"].concat();
                    self.marker(&marker)?;
                }
                return Ok(0);
            }
            S_IFLNK => {
                header.kind = b'2';
                header.link = self.index.symlink(object.ino);
            }
            S_IFCHR => {
                (header.kind, header.device) = (b'3', device_of(&object.inode, self.reading))
            }
            S_IFBLK => (header.kind, header.device) = (b'4', object.inode.rdev),
            S_IFIFO => header.kind = b'6',
            _ => {
                self.sockets += 1;
                return Ok(0);
            }
        }
        header.write(self.out)?;
        Ok(0)
    }

    fn whiteout(&mut self, path: &[u8], name: &[u8]) -> io::Result<()> {
        match self.whiteouts {
            Whiteouts::Overlayfs => {
                let path = [b"./", path].concat();
                Header {
                    path: &path,
                    kind: b'3',
                    ..Header::default()
                }
                .write(self.out)
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

/// Data runs of a file, neighbors joined.
fn segments(index: &Index, ino: u32) -> Vec<(u64, u64)> {
    let mut segments: Vec<(u64, u64)> = Vec::new();
    for extent in index.extents(ino, 0..u64::MAX) {
        match segments.last_mut() {
            Some((offset, len)) if *offset + *len == extent.file_offset => {
                *len += u64::from(extent.len);
            }
            _ => segments.push((extent.file_offset, extent.len.into())),
        }
    }
    segments
}

/// The map of format 1.0: decimal lines, filled up to whole blocks, closed by an empty piece at
/// the end of the file.
fn leading_map(segments: &[(u64, u64)], size: u64) -> String {
    let ends_in_hole = segments
        .last()
        .is_none_or(|(offset, len)| offset + len < size);
    let end = ends_in_hole.then_some((size, 0));
    let pieces: Vec<(u64, u64)> = segments.iter().copied().chain(end).collect();
    let mut map = format!("{}\n", pieces.len());
    for (offset, len) in pieces {
        map += &format!("{offset}\n{len}\n");
    }
    let padded = map.len().next_multiple_of(512);
    map.extend(std::iter::repeat_n('\0', padded - map.len()));
    map
}

/// `DIR/GNUSparseFile.0/NAME`.
fn sparse_path(path: &[u8]) -> Vec<u8> {
    let slash = path
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |slash| slash + 1);
    let (directory, name) = path.split_at(slash);
    [directory, b"GNUSparseFile.0/", name].concat()
}
