//! A directory as a layer, written by the format's own writer: a test in this process needs no other program.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use layerfmt::layer::Meta;
use layerfmt::tree::{Child, Kind, Metadata, Node, NodeId, ROOT, Time, Xattrs};
use layerfmt::{Content, LayerWriter, Name, Options, Tree};
use rustix::fs::SeekFrom;

struct Baker {
    tree: Tree<Content>,
    writer: LayerWriter,
    /// Files with several names.
    linked: HashMap<(u64, u64), NodeId>,
}

/// Bake the tree at `source` into a new layer.
pub(crate) fn bake(source: &Path, layer: &Path) {
    let options = Options {
        threads: 1,
        ..Options::level(1)
    };
    let mut baker = Baker {
        tree: Tree::new(metadata(source)),
        writer: LayerWriter::create(layer, options, None).unwrap(),
        linked: HashMap::new(),
    };
    baker.directory(source, ROOT);
    baker.writer.finish(baker.tree, &Meta::default()).unwrap();
}

fn metadata(path: &Path) -> Metadata {
    let about = path.symlink_metadata().unwrap();
    let xattrs = xattrs(path);
    Metadata {
        mode: u16::try_from(about.mode() & 0o7777).unwrap(),
        uid: about.uid(),
        gid: about.gid(),
        mtime: Time {
            sec: about.mtime(),
            nsec: u32::try_from(about.mtime_nsec()).unwrap(),
        },
        xattrs: (!xattrs.is_empty()).then(|| Arc::new(xattrs)),
    }
}

fn xattrs(path: &Path) -> Xattrs {
    let mut list = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (Box::from(name), Box::from(&value[..len]))
        })
        .collect()
}

/// The parts of a file that hold data.
fn segments(file: &File, len: u64) -> Vec<(u64, u64)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < len {
        let Ok(begin) = rustix::fs::seek(file, SeekFrom::Data(at)) else {
            break;
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(begin)).unwrap();
        found.push((begin, end - begin));
        at = end;
    }
    found
}

impl Baker {
    fn directory(&mut self, path: &Path, id: NodeId) {
        let entries = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut entries: Vec<_> = entries.collect();
        entries.sort();
        for entry in entries {
            let name = Name::new(entry.file_name().unwrap().as_bytes()).unwrap();
            let about = entry.symlink_metadata().unwrap();
            let number = (about.dev(), about.ino());
            if let Some(node) = self.linked.get(&number) {
                self.tree.set(id, name, Child::Node(*node)).unwrap();
                continue;
            }
            let node = Node {
                meta: metadata(&entry),
                kind: self.kind(&entry, &about),
            };
            let is_directory = node.kind.is_dir();
            let child = self.tree.insert(id, name, node).unwrap();
            if is_directory {
                self.directory(&entry, child);
            } else if about.nlink() > 1 {
                self.linked.insert(number, child);
            }
        }
    }

    fn kind(&mut self, path: &Path, about: &std::fs::Metadata) -> Kind<Content> {
        use std::os::unix::fs::FileTypeExt as _;
        let kind = about.file_type();
        let device = || {
            let rdev = about.rdev();
            (rustix::fs::major(rdev), rustix::fs::minor(rdev))
        };
        match () {
            () if kind.is_dir() => Kind::Directory(Default::default()),
            () if kind.is_symlink() => Kind::Symlink(
                std::fs::read_link(path)
                    .unwrap()
                    .as_os_str()
                    .as_bytes()
                    .into(),
            ),
            () if kind.is_fifo() => Kind::Fifo,
            () if kind.is_socket() => Kind::Socket,
            () if kind.is_char_device() => Kind::Char(device().0, device().1),
            () if kind.is_block_device() => Kind::Block(device().0, device().1),
            () => Kind::File(self.file(path, about.len())),
        }
    }

    fn file(&mut self, path: &Path, len: u64) -> Content {
        let mut file = File::open(path).unwrap();
        let parts = segments(&file, len);
        let mut data = Vec::new();
        for (offset, len) in &parts {
            file.seek(std::io::SeekFrom::Start(*offset)).unwrap();
            (&mut file).take(*len).read_to_end(&mut data).unwrap();
        }
        self.writer
            .add_file(len, &parts, &mut std::io::Cursor::new(data))
            .unwrap()
    }
}
