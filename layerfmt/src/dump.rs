//! One text line for each node, for tests and users to compare.

use std::fmt::Write as _;

use crate::digest::Digest;
use crate::index::{DirentTarget, Index, Ino, ROOT};
use crate::layer::ContentDigests;
use crate::layout::inode::*;

/// Every entry of an index in path order (a directory before its entries), one line each:
///
/// `PATH TYPE MODE UID:GID MTIME SIZE|TARGET|MAJOR,MINOR [DIGEST] [=PATH] [opaque] [XATTR=VALUE]…`
///
/// `=PATH` names the first path of a hard-linked file. Bytes that are not printable are escaped.
pub fn dump(index: &Index, content: Option<&ContentDigests>) -> String {
    let mut dump = Dump {
        index,
        content,
        out: String::new(),
        first: Default::default(),
    };
    dump.object("/", ROOT);
    dump.directory("", ROOT);
    dump.out
}

struct Dump<'i> {
    index: &'i Index,
    content: Option<&'i ContentDigests>,
    out: String,
    first: std::collections::HashMap<Ino, String>,
}

impl Dump<'_> {
    fn directory(&mut self, base: &str, dir: Ino) {
        // An explicit stack of directories and positions, because trees can be deep.
        let mut open = vec![(base.to_owned(), dir, 0)];
        while let Some((path, dir, position)) = open.pop() {
            let Some(entry) = self.index.entries(dir, position).next() else {
                continue;
            };
            let child_path = format!("{path}/{}", entry.name.escape_ascii());
            open.push((path, dir, position + 1));
            match entry.child {
                DirentTarget::Whiteout => {
                    let _ = writeln!(self.out, "{child_path} whiteout");
                }
                DirentTarget::Inode(ino) => {
                    self.object(&child_path, ino);
                    if self.index.inode(ino).is_some_and(|inode| inode.is_dir()) {
                        open.push((child_path, ino, 0));
                    }
                }
            }
        }
    }

    fn object(&mut self, path: &str, ino: Ino) {
        let Some(inode) = self.index.inode(ino) else {
            return;
        };
        let kind = match inode.kind() {
            S_IFDIR => 'd',
            S_IFREG => 'f',
            S_IFLNK => 'l',
            S_IFCHR => 'c',
            S_IFBLK => 'b',
            S_IFIFO => 'p',
            _ => 's',
        };
        let _ = write!(
            self.out,
            "{path} {kind} {:04o} {}:{} {}.{:09}",
            inode.mode & PERMISSIONS,
            inode.uid,
            inode.gid,
            inode.mtime.sec,
            inode.mtime.nsec
        );
        let _ = match kind {
            'f' => write!(self.out, " {}", inode.size),
            'l' => write!(self.out, " {}", self.index.symlink(ino).escape_ascii()),
            'c' | 'b' => write!(self.out, " {},{}", inode.rdev.0, inode.rdev.1),
            _ => Ok(()),
        };
        if kind == 'f'
            && let Some(content) = self.content
        {
            let digest: Digest = content.file(ino);
            let _ = write!(self.out, " {digest}");
        }
        if kind != 'd' && inode.nlink > 1 {
            let first = self.first.entry(ino).or_insert_with(|| path.to_owned());
            let _ = write!(self.out, " ={first}");
        }
        if inode.opaque {
            self.out.push_str(" opaque");
        }
        for (name, value) in self.index.xattrs(ino) {
            let _ = write!(
                self.out,
                " {}={}",
                name.escape_ascii(),
                value.escape_ascii()
            );
        }
        self.out.push('\n');
    }
}
