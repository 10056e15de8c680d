//! Everything one can see of a tree, for comparison.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::files::Files as _;
use super::{Attr, Object, Result, Session};

/// Attributes that make an upper an upper.
const MARKS: [&str; 3] = ["trusted.overlay.", "trusted.layerfs.", "user.overlay."];
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const DEVICES: [u32; 2] = [0o020_000, 0o060_000];

/// One object; an ordinary user may not read all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// 0 for directories, whose sizes mean nothing.
    pub(crate) size: u64,
    /// `None`: during the test.
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) nlink: u32,
    pub(crate) rdev: (u32, u32),
    pub(crate) content: Option<Result<Content>>,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) xattrs: BTreeMap<String, Result<Vec<u8>>>,
}

/// The bytes of a file; messages show their digest.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content(Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} bytes, BLAKE3 {}",
            self.0.len(),
            blake3::hash(&self.0)
        )
    }
}

/// A tree: its objects as they are seen, and their numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) objects: BTreeMap<PathBuf, Seen>,
    pub(crate) numbers: BTreeMap<PathBuf, u64>,
}

/// Look at everything. Times not before `began` are those of the test itself. `numbers`: those of listings are right.
pub(crate) fn take(session: &dyn Session, began: i64, numbers: bool) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let look = Look {
        session,
        began,
        numbers,
    };
    let root = Path::new("");
    let about = session.stat(Object::Name(root)).unwrap();
    look.visit(root, &about, &mut snapshot);
    snapshot
}

struct Look<'s> {
    session: &'s dyn Session,
    began: i64,
    numbers: bool,
}

impl Look<'_> {
    fn see(&self, at: &Path, about: &Attr) -> Seen {
        let kind = about.mode & TYPE;
        Seen {
            mode: about.mode,
            uid: about.uid,
            gid: about.gid,
            size: if kind == DIRECTORY { 0 } else { about.size },
            mtime: (about.mtime.0 < self.began).then_some(about.mtime),
            nlink: about.nlink,
            rdev: if DEVICES.contains(&kind) {
                about.rdev
            } else {
                (0, 0)
            },
            content: (kind == REGULAR).then(|| self.content(at, about.size)),
            target: (kind == SYMLINK).then(|| self.session.read_link(at).unwrap()),
            xattrs: self.xattrs(at),
        }
    }

    /// Everything up to the end of the file, even if the end is not at `size`.
    fn content(&self, at: &Path, size: u64) -> Result<Content> {
        let file = self.session.open_read(at)?;
        let mut content = file.read(0, size as usize + 1)?;
        if content.len() as u64 > size {
            content.extend(file.read(content.len() as u64, usize::MAX)?);
        }
        Ok(Content(content))
    }

    fn xattrs(&self, at: &Path) -> BTreeMap<String, Result<Vec<u8>>> {
        let names = self.session.xattr_names(at).unwrap_or_default();
        let shown = names
            .into_iter()
            .filter(|name| !MARKS.iter().any(|mark| name.starts_with(mark)));
        shown
            .map(|name| (name.clone(), self.session.xattr(at, &name)))
            .collect()
    }

    fn visit(&self, at: &Path, about: &Attr, snapshot: &mut Snapshot) {
        snapshot.objects.insert(at.to_owned(), self.see(at, about));
        snapshot.numbers.insert(at.to_owned(), about.ino);
        if about.mode & TYPE != DIRECTORY {
            return;
        }
        // An ordinary user may have shut it.
        let Ok(mut entries) = self.session.entries(at) else {
            return;
        };
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        for pair in entries.windows(2) {
            assert_ne!(
                pair[0].name,
                pair[1].name,
                "{} lists a name twice",
                at.display()
            );
        }
        for entry in entries {
            let path = at.join(std::ffi::OsStr::from_bytes(&entry.name));
            let Ok(about) = self.session.stat(Object::Name(&path)) else {
                continue;
            };
            if self.numbers {
                assert_eq!(about.ino, entry.ino, "d_ino of {}", path.display());
            }
            self.visit(&path, &about, snapshot);
        }
    }
}
