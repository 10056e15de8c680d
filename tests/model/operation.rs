//! The operations of the model test, and the tree they begin with.

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

use crate::session::files::{Files as _, Open};
use crate::session::{Errno, New, NewTime, RenameFlags, Result, Session, is_root};
use crate::transport::attribute_name;

const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FIFO: u32 = 0o010_000;

/// One step.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Create(String, usize),
    Write(String, u64, usize, u8),
    Append(String, usize),
    Truncate(String, u64),
    Unlink(String),
    Mkdir(String),
    Rmdir(String),
    Rename(String, String),
    RenameNew(String, String),
    Exchange(String, String),
    Link(String, String),
    Symlink(String, String),
    Fifo(String),
    Chmod(String, u32),
    Chown(String, u32),
    Times(String, i64),
    SetXattr(String, u8, Vec<u8>),
    RemoveXattr(String, u8),
    Punch(String, u64, u64),
    /// Hold a file open, unlink it, write and read through the handle.
    UseUnlinked(String),
    Remount,
}

fn path() -> impl Strategy<Value = String> {
    // Few names, so that operations meet; some of the lower, some new.
    let name = prop::sample::select(vec!["a", "b", "c", "f", "g", "big", "new", "l"]);
    prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"))
}

/// An ordinary user mostly leaves files open to themselves: nothing happens in a shut directory.
fn open_mode(mode: u32, chance: u8) -> u32 {
    match is_root() || chance == 0 {
        true => mode,
        false => mode | 0o700,
    }
}

/// One random step.
pub(crate) fn operations() -> impl Strategy<Value = Operation> {
    use Operation as O;
    prop_oneof![
        4 => (path(), 0..9000_usize).prop_map(|(p, n)| O::Create(p, n)),
        4 => (path(), 0..20_000_u64, 1..9000_usize, any::<u8>())
            .prop_map(|(p, at, n, b)| O::Write(p, at, n, b)),
        2 => (path(), 1..5000_usize).prop_map(|(p, n)| O::Append(p, n)),
        3 => (path(), 0..30_000_u64).prop_map(|(p, n)| O::Truncate(p, n)),
        5 => path().prop_map(O::Unlink),
        4 => path().prop_map(O::Mkdir),
        4 => path().prop_map(O::Rmdir),
        8 => (path(), path()).prop_map(|(a, b)| O::Rename(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| O::RenameNew(a, b)),
        3 => (path(), path()).prop_map(|(a, b)| O::Exchange(a, b)),
        4 => (path(), path()).prop_map(|(a, b)| O::Link(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| O::Symlink(a, b)),
        1 => path().prop_map(O::Fifo),
        4 => (path(), 0..0o10000_u32, 0..4_u8).prop_map(|(p, m, n)| O::Chmod(p, open_mode(m, n))),
        3 => (path(), 0..3_u32).prop_map(|(p, m)| O::Chown(p, m)),
        3 => (path(), 0..1_000_000_000_i64).prop_map(|(p, t)| O::Times(p, t)),
        3 => (path(), 0..3_u8, prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(p, k, v)| O::SetXattr(p, k, v)),
        1 => (path(), 0..3_u8).prop_map(|(p, k)| O::RemoveXattr(p, k)),
        1 => (path(), 0..4_u64, 1..4_u64).prop_map(|(p, a, n)| O::Punch(p, a * 4096, n * 4096)),
        2 => path().prop_map(O::UseUnlinked),
        2 => Just(O::Remount),
    ]
}

/// The outcome of a step: the bytes that it read, or its errno.
pub(crate) type Outcome = Result<Vec<u8>>;

/// Not tried: a pipe would be opened.
const NOT_TRIED: Errno = Errno::from_raw_os_error(4000);

/// Succeeds if `path` is a regular file: others are not opened.
fn regular(fs: &dyn Session, path: &str) -> Result<()> {
    match fs.about(path)?.mode & TYPE == REGULAR {
        true => Ok(()),
        false => Err(NOT_TRIED),
    }
}

/// Carry out one step.
pub(crate) fn apply(fs: &dyn Session, operation: &Operation) -> Outcome {
    use Operation as O;
    match operation {
        O::Create(p, len) => fs.create_new(p)?.write(0, vec![7; *len])?,
        O::Write(p, offset, len, byte) => {
            regular(fs, p)?;
            fs.open_both(p)?.write(*offset, vec![*byte; *len])?;
        }
        O::Append(p, len) => {
            regular(fs, p)?;
            fs.append(p, vec![9; *len])?;
        }
        O::Truncate(p, len) => {
            regular(fs, p)?;
            fs.open_both(p)?.set_len(*len)?;
        }
        O::Unlink(p) => fs.unlink(p)?,
        O::Mkdir(p) => fs.mkdir(p)?,
        O::Rmdir(p) => fs.rmdir(p)?,
        O::Rename(a, b) => fs.mv(a, b)?,
        O::RenameNew(a, b) => fs.mv_with(a, b, RenameFlags::NOREPLACE)?,
        O::Exchange(a, b) => fs.mv_with(a, b, RenameFlags::EXCHANGE)?,
        O::Link(a, b) => fs.hard_link(a, b)?,
        O::Symlink(target, p) => fs.symlink(target, p)?,
        O::Fifo(p) => fs.make(Path::new(p), New::Node(FIFO | 0o644, (0, 0)))?,
        O::Chmod(p, mode) => {
            if fs.is_link(p) {
                return Err(NOT_TRIED);
            }
            fs.chmod(p, *mode)?;
        }
        O::Chown(p, id) => fs.chown(p, Some(*id), Some(*id + 1))?,
        O::Times(p, sec) => fs.set_times(p, NewTime::Exactly((*sec, 5)))?,
        O::SetXattr(p, key, value) => fs.put_xattr(p, xattr_name(*key), value)?,
        O::RemoveXattr(p, key) => fs.drop_xattr(p, xattr_name(*key))?,
        O::Punch(p, offset, len) => {
            regular(fs, p)?;
            fs.open_both(p)?.punch(*offset, *len)?;
        }
        O::UseUnlinked(p) => {
            regular(fs, p)?;
            let file = fs.open_both(p)?;
            fs.unlink(p)?;
            return use_unlinked(&file);
        }
        O::Remount => {}
    }
    Ok(Vec::new())
}

fn use_unlinked(file: &Open<'_, dyn Session + '_>) -> Outcome {
    let before = file.stat()?;
    let mut content = file.read(0, usize::MAX)?;
    file.write(3, b"written after unlink")?;
    let after = file.stat()?;
    content.extend(file.read(0, 64)?);
    content.extend(before.nlink.to_le_bytes());
    content.extend(after.size.to_le_bytes());
    Ok(content)
}

fn xattr_name(key: u8) -> &'static str {
    match key {
        0 => attribute_name("user.one", "trusted.one"),
        1 => attribute_name("user.two", "trusted.two"),
        _ => "trusted.three",
    }
}

fn old(path: &Path, sec: i64) {
    let time = Timespec {
        tv_sec: sec,
        tv_nsec: 123_456_789,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times");
}

/// The lower tree: directories three deep, files of several sizes, a sparse one, links.
pub(crate) fn seed(root: &Path, linked: bool) {
    let bytes = |len: u32| -> Vec<u8> { (0..len).flat_map(|i| (i / 3).to_le_bytes()).collect() };
    for dir in ["a", "a/b", "a/b/c", "b", "c", "c/a"] {
        std::fs::create_dir(root.join(dir)).expect("directory");
        let len = if dir == "a" { 70_000 } else { 9000 };
        for (name, content) in [
            ("f", b"lower f".to_vec()),
            ("g", Vec::new()),
            ("big", bytes(len)),
        ] {
            std::fs::write(root.join(dir).join(name), content).expect("file");
        }
        std::os::unix::fs::symlink("f", root.join(dir).join("l")).expect("link");
    }
    let sparse = File::create(root.join("big")).expect("file");
    sparse.write_all_at(b"end", 40_000).expect("write");
    std::fs::set_permissions(root.join("a/f"), Permissions::from_mode(0o4755)).expect("mode");
    rustix::fs::lsetxattr(
        root.join("a/f"),
        xattr_name(0),
        b"lower",
        XattrFlags::empty(),
    )
    .expect("xattr");
    rustix::fs::lsetxattr(root.join("b"), xattr_name(1), b"dir", XattrFlags::empty())
        .expect("xattr");
    if is_root() {
        std::os::unix::fs::chown(root.join("c/f"), Some(7), Some(8)).expect("owner");
    }
    if linked {
        std::fs::hard_link(root.join("a/f"), root.join("c/new")).expect("hard link");
        std::fs::hard_link(root.join("a/big"), root.join("b/new")).expect("hard link");
        std::fs::hard_link(root.join("a/big"), root.join("a/b/new")).expect("hard link");
    }
    age(root, 1_000_000_000);
}

/// Fixed times, and modes that do not depend on the umask.
fn age(at: &Path, sec: i64) {
    let about = at.symlink_metadata().expect("exists");
    if !about.is_symlink() {
        let mode = about.permissions().mode() & !0o022;
        std::fs::set_permissions(at, Permissions::from_mode(mode)).expect("mode");
    }
    if at.symlink_metadata().expect("exists").is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(at)
            .expect("list")
            .map(|entry| entry.expect("entry").path())
            .collect();
        entries.sort();
        for (number, entry) in entries.iter().enumerate() {
            age(entry, sec + i64::try_from(number).expect("few"));
        }
    }
    old(at, sec);
}

/// An upper's root is what the merged root shows: make it like the lower's.
pub(crate) fn copy_root(lower: &Path, upper: &Path) {
    let meta = lower.metadata().expect("lower");
    std::fs::set_permissions(upper, meta.permissions()).expect("mode");
    old(upper, meta.mtime());
}

/// Sequences that once failed.
pub(crate) fn once_failed() -> Vec<(bool, Vec<Operation>)> {
    use Operation as O;
    let s = str::to_owned;
    vec![
        (
            false,
            vec![
                O::Rename(s("a"), s("new")),
                O::Mkdir(s("a")),
                O::Remount,
                O::Append(s("new/b/big"), 10),
                O::Rename(s("new"), s("b/new")),
                O::Exchange(s("b/new"), s("c")),
                O::Remount,
                O::UseUnlinked(s("c/f")),
            ],
        ),
        (
            true,
            vec![
                O::Chmod(s("a/big"), 0o600),
                O::Rename(s("a/b"), s("new")),
                O::Unlink(s("b/new")),
                O::Remount,
                O::Write(s("new/new"), 100, 10, 1),
                O::UseUnlinked(s("c/new")),
                O::Rename(s("b"), s("a/b")),
            ],
        ),
        // One of three names is in a directory that was moved and not looked up since.
        (
            true,
            vec![
                O::Rename(s("b"), s("l")),
                O::Remount,
                O::Rename(s("a/big"), s("big")),
            ],
        ),
    ]
}
