//! Everything one can see of a tree, for comparison.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// `f_type` of overlayfs.
const OVERLAY_MAGIC: rustix::fs::FsWord = 0x794c_7630;

/// Attributes that make an upper an upper.
const MARKS: [&[u8]; 2] = [b"trusted.overlay.", b"trusted.layerfs."];

/// Attributes of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// 0 for directories, whose sizes vary.
    pub(crate) size: u64,
    /// `None`: during the test.
    pub(crate) mtime: Option<(i64, i64)>,
    pub(crate) nlink: u64,
    pub(crate) rdev: u64,
    pub(crate) content: Option<blake3::Hash>,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

/// A tree: its visible content, and the numbers of its objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) objects: BTreeMap<Vec<u8>, Seen>,
    pub(crate) numbers: BTreeMap<Vec<u8>, u64>,
}

/// Look at everything below `root`. Times not before `began` are those of the test itself.
pub(crate) fn take(root: &Path, began: SystemTime) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let began = began
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs().cast_signed());
    visit(root, root, began, &mut snapshot);
    snapshot
}

fn visit(root: &Path, at: &Path, began: i64, snapshot: &mut Snapshot) {
    let overlay = rustix::fs::statfs(at).is_ok_and(|fs| fs.f_type == OVERLAY_MAGIC);
    let meta = at
        .symlink_metadata()
        .unwrap_or_else(|e| panic!("{}: {e}", at.display()));
    let kind = meta.file_type();
    let name = at
        .strip_prefix(root)
        .expect("below root")
        .as_os_str()
        .as_bytes()
        .to_vec();
    let seen = Seen {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        size: if kind.is_dir() { 0 } else { meta.size() },
        mtime: (meta.mtime() < began).then(|| (meta.mtime(), meta.mtime_nsec())),
        nlink: meta.nlink(),
        rdev: if kind.is_char_device() || kind.is_block_device() {
            meta.rdev()
        } else {
            0
        },
        content: kind.is_file().then(|| {
            blake3::hash(&std::fs::read(at).unwrap_or_else(|e| panic!("{}: {e}", at.display())))
        }),
        target: kind.is_symlink().then(|| {
            std::fs::read_link(at)
                .expect("link")
                .as_os_str()
                .as_bytes()
                .to_vec()
        }),
        xattrs: xattrs(at),
    };
    snapshot.objects.insert(name.clone(), seen);
    snapshot.numbers.insert(name, meta.ino());
    if kind.is_dir() {
        let mut listed: Vec<(std::ffi::OsString, u64)> = std::fs::read_dir(at)
            .unwrap_or_else(|e| panic!("{}: {e}", at.display()))
            .map(|entry| {
                let entry = entry.expect("entry");
                let number = std::os::unix::fs::DirEntryExt::ino(&entry);
                (entry.file_name(), number)
            })
            .collect();
        listed.sort();
        for pair in listed.windows(2) {
            assert_ne!(pair[0].0, pair[1].0, "{} lists a name twice", at.display());
        }
        for (name, number) in listed {
            let path = at.join(&name);
            visit(root, &path, began, snapshot);
            let stat = path.symlink_metadata().expect("listed a moment ago");
            // overlayfs gives other numbers in listings unless it wrote the upper itself.
            if !overlay && stat.dev() == meta.dev() {
                assert_eq!(stat.ino(), number, "d_ino of {}", path.display());
            }
        }
    }
}

fn xattrs(at: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65536];
    let len = rustix::fs::llistxattr(at, &mut names[..]).unwrap_or(0);
    names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !MARKS.iter().any(|mark| name.starts_with(mark)))
        .map(|name| {
            let mut value = vec![0; 65536];
            let len = rustix::fs::lgetxattr(at, name, &mut value[..]).unwrap_or_else(|e| {
                panic!("{}: {}: {e}", at.display(), String::from_utf8_lossy(name))
            });
            (
                String::from_utf8_lossy(name).into_owned(),
                value[..len].to_vec(),
            )
        })
        .collect()
}
