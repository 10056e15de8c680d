//! EROFS images, through the crate `erofs-rs`: every compression that mkfs.erofs has.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use erofs_rs::types::Inode;
use layerfmt::tree::{Metadata, Time};

use super::Limits;
use super::walk::{FileSystem, WalkKind, WalkObject, damaged};
use super::window::Window;
use crate::sys::mapping::MappedImage;

/// Longest run that is decompressed at once, bytes.
const RUN_LEN: usize = 12 << 20;

/// An EROFS image.
pub struct Erofs {
    image: erofs_rs::EroFS<MappedImage>,
    /// Paths of the directories found so far: the crate lists by path.
    directories: HashMap<u64, Vec<u8>>,
    /// Most directories to remember.
    directories_max: u64,
    /// The run decompressed last.
    run: ErofsRun,
}

/// A run of a file.
#[derive(Default)]
struct ErofsRun {
    number: u64,
    offset: u64,
    len: usize,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Erofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Erofs").finish_non_exhaustive()
    }
}

fn broken(error: erofs_rs::Error) -> io::Error {
    damaged(error.to_string())
}

impl Erofs {
    /// The image in `window`.
    ///
    /// # Errors
    /// It is damaged, or uses unsupported features.
    pub fn open(window: Window, limits: Limits) -> io::Result<Self> {
        let (file, start, len) = window.into_parts();
        let image = erofs_rs::EroFS::new(MappedImage::new(&file, start, len)?).map_err(broken)?;
        let root = image.super_block().root_inode_id();
        Ok(Erofs {
            image,
            directories: HashMap::from([(root, b"/".to_vec())]),
            directories_max: limits.entries_max,
            run: ErofsRun::default(),
        })
    }

    fn kind(&self, inode: Inode) -> io::Result<WalkKind> {
        let kind = inode.file_type();
        let device = inode.device().unwrap_or_default();
        Ok(if kind.is_dir() {
            WalkKind::Directory
        } else if kind.is_file() {
            let size = inode.data_size();
            let segments = if size == 0 {
                Vec::new()
            } else {
                vec![(0, size)]
            };
            WalkKind::File(size, segments)
        } else if kind.is_symlink() {
            let target = self.image.read_link_inode(inode).map_err(broken)?;
            WalkKind::Symlink(target.as_bytes().into())
        } else if kind.is_char_device() {
            WalkKind::Char(device.0, device.1)
        } else if kind.is_block_device() {
            WalkKind::Block(device.0, device.1)
        } else if kind.is_fifo() {
            WalkKind::Fifo
        } else if kind.is_socket() {
            WalkKind::Socket
        } else {
            return Err(damaged("an object of no kind"));
        })
    }
}

impl FileSystem for Erofs {
    fn root(&self) -> u64 {
        self.image.super_block().root_inode_id()
    }

    fn list(&mut self, directory: u64) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let path = self.directories.get(&directory);
        let path = path.ok_or_else(|| damaged("an unknown directory"))?.clone();
        let mut names = Vec::new();
        for entry in self.image.read_dir(&path).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let (name, number) = (entry.dir_entry.file_name(), entry.inode.id());
            if entry.inode.is_dir() {
                if self.directories.len() as u64 >= self.directories_max {
                    return Err(damaged("more directories than --max-entries allows"));
                }
                let place = [&path, name].join(&b'/');
                self.directories.insert(number, place);
            }
            names.push((name.to_vec(), number));
        }
        Ok(names)
    }

    fn object(&mut self, number: u64) -> io::Result<WalkObject> {
        use std::os::unix::fs::PermissionsExt as _;
        let inode = self.image.get_inode(number).map_err(broken)?;
        let xattrs = self.image.xattrs_inode(inode).map_err(broken)?;
        let xattrs: layerfmt::tree::Xattrs = xattrs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let (sec, nsec) = inode.modified_unix();
        let mode = inode.permissions().mode() & 0o7777;
        Ok(WalkObject {
            meta: Metadata {
                mode: u16::try_from(mode).unwrap_or_default(),
                uid: inode.uid(),
                gid: inode.gid(),
                mtime: Time { sec, nsec },
                xattrs: (!xattrs.is_empty()).then(|| Arc::new(xattrs)),
            },
            links: inode.nlink(),
            kind: self.kind(inode)?,
        })
    }

    fn read_at(&mut self, number: u64, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let run = &mut self.run;
        let inside = offset
            .checked_sub(run.offset)
            .filter(|_| run.number == number);
        let inside = inside.and_then(|inside| usize::try_from(inside).ok());
        let start = match inside.filter(|inside| *inside < run.len) {
            Some(inside) => inside,
            None => {
                let inode = self.image.get_inode(number).map_err(broken)?;
                let file = self.image.open_inode_file(inode).map_err(broken)?;
                run.bytes.resize(RUN_LEN, 0);
                (run.number, run.offset, run.len) = (number, offset, 0);
                run.len = file.read_at(&mut run.bytes, offset)?;
                0
            }
        };
        let rest = run.bytes.get(start..run.len).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }
}
