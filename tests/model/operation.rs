//! The operations of the model test, and the tree they begin with.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::harness::mount::attribute_name;

/// One step of a sequence.
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
        4 => (path(), 0..0o10000_u32).prop_map(|(p, m)| O::Chmod(p, m)),
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

/// The outcome of a step: the bytes it read, or its errno.
pub(crate) type Outcome = Result<Vec<u8>, i32>;

fn io(error: std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(-1)
}

fn rx(result: Result<(), Errno>) -> Outcome {
    result.map(|()| Vec::new()).map_err(Errno::raw_os_error)
}

fn existing(path: &Path) -> OpenOptions {
    let mut options = OpenOptions::new();
    let _ = path;
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// Succeeds if `path` is a regular file: others are not opened (a pipe would block).
fn regular(path: &Path) -> Result<(), i32> {
    let meta = path.symlink_metadata().map_err(io)?;
    if meta.is_file() { Ok(()) } else { Err(-2) }
}

/// Carry out one step below `root`.
#[expect(clippy::too_many_lines, reason = "one arm per operation")]
pub(crate) fn apply(root: &Path, operation: &Operation) -> Outcome {
    use Operation as O;
    let at = |path: &String| -> PathBuf { root.join(path) };
    match operation {
        O::Create(p, len) => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(at(p))
                .map_err(io)?;
            file.write_all_at(&vec![7; *len], 0).map_err(io)?;
            Ok(Vec::new())
        }
        O::Write(p, offset, len, byte) => {
            regular(&at(p))?;
            let file = existing(&at(p)).open(at(p)).map_err(io)?;
            file.write_all_at(&vec![*byte; *len], *offset).map_err(io)?;
            Ok(Vec::new())
        }
        O::Append(p, len) => {
            regular(&at(p))?;
            let mut file = OpenOptions::new().append(true).open(at(p)).map_err(io)?;
            std::io::Write::write_all(&mut file, &vec![9; *len]).map_err(io)?;
            Ok(Vec::new())
        }
        O::Truncate(p, len) => {
            regular(&at(p))?;
            existing(&at(p))
                .open(at(p))
                .and_then(|file| file.set_len(*len))
                .map_err(io)?;
            Ok(Vec::new())
        }
        O::Unlink(p) => rx(rustix::fs::unlink(at(p))),
        O::Mkdir(p) => rx(rustix::fs::mkdir(at(p), 0o755.into())),
        O::Rmdir(p) => rx(rustix::fs::rmdir(at(p))),
        O::Rename(a, b) => rx(rustix::fs::rename(at(a), at(b))),
        O::RenameNew(a, b) => rx(rustix::fs::renameat_with(
            CWD,
            at(a),
            CWD,
            at(b),
            RenameFlags::NOREPLACE,
        )),
        O::Exchange(a, b) => rx(rustix::fs::renameat_with(
            CWD,
            at(a),
            CWD,
            at(b),
            RenameFlags::EXCHANGE,
        )),
        O::Link(a, b) => rx(rustix::fs::linkat(CWD, at(a), CWD, at(b), AtFlags::empty())),
        O::Symlink(target, p) => rx(rustix::fs::symlink(target.as_str(), at(p))),
        O::Fifo(p) => rx(rustix::fs::mknodat(
            CWD,
            at(p),
            rustix::fs::FileType::Fifo,
            0o644.into(),
            0,
        )),
        O::Chmod(p, mode) => {
            if at(p).symlink_metadata().map_err(io)?.is_symlink() {
                return Err(-2);
            }
            std::fs::set_permissions(at(p), Permissions::from_mode(*mode)).map_err(io)?;
            Ok(Vec::new())
        }
        O::Chown(p, id) => {
            std::os::unix::fs::lchown(at(p), Some(*id), Some(*id + 1)).map_err(io)?;
            Ok(Vec::new())
        }
        O::Times(p, sec) => {
            let time = Timespec {
                tv_sec: *sec,
                tv_nsec: 5,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            rx(rustix::fs::utimensat(
                CWD,
                at(p),
                &times,
                AtFlags::SYMLINK_NOFOLLOW,
            ))
        }
        O::SetXattr(p, key, value) => {
            let name = xattr_name(*key);
            rx(rustix::fs::lsetxattr(
                at(p),
                name,
                value,
                XattrFlags::empty(),
            ))
        }
        O::RemoveXattr(p, key) => rx(rustix::fs::lremovexattr(at(p), xattr_name(*key))),
        O::Punch(p, offset, len) => {
            regular(&at(p))?;
            let file = existing(&at(p)).open(at(p)).map_err(io)?;
            let mode =
                rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            rx(rustix::fs::fallocate(&file, mode, *offset, *len))
        }
        O::UseUnlinked(p) => {
            regular(&at(p))?;
            let file = existing(&at(p)).open(at(p)).map_err(io)?;
            std::fs::remove_file(at(p)).map_err(io)?;
            use_unlinked(&file).map_err(io)
        }
        O::Remount => Ok(Vec::new()),
    }
}

fn use_unlinked(file: &File) -> std::io::Result<Vec<u8>> {
    let before = file.metadata()?;
    let mut content = vec![0; usize::try_from(before.len()).unwrap_or(0)];
    file.read_exact_at(&mut content, 0)?;
    file.write_all_at(b"written after unlink", 3)?;
    let after = file.metadata()?;
    let mut head = vec![0; 64.min(usize::try_from(after.len()).unwrap_or(0))];
    file.read_exact_at(&mut head, 0)?;
    content.extend(head);
    content.extend(before.nlink().to_le_bytes());
    content.extend(after.len().to_le_bytes());
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
    let big: Vec<u8> = (0..70_000_u32)
        .flat_map(|i| (i / 3).to_le_bytes())
        .collect();
    for dir in ["a", "a/b", "a/b/c", "b", "c", "c/a"] {
        std::fs::create_dir(root.join(dir)).expect("directory");
        for (name, content) in [("f", &b"lower f"[..]), ("g", &[]), ("big", &big)] {
            std::fs::write(root.join(dir).join(name), content).expect("file");
        }
        std::os::unix::fs::symlink("f", root.join(dir).join("l")).expect("link");
    }
    let sparse = File::create(root.join("big")).expect("file");
    sparse.write_all_at(b"end", 40_000).expect("write");
    std::fs::set_permissions(root.join("a/f"), Permissions::from_mode(0o4755)).expect("mode");
    for (path, key, value) in [("a/f", 0, &b"lower"[..]), ("b", 1, b"dir")] {
        rustix::fs::lsetxattr(root.join(path), xattr_name(key), value, XattrFlags::empty())
            .expect("xattr");
    }
    std::os::unix::fs::chown(root.join("c/f"), Some(7), Some(8)).expect("owner");
    if linked {
        std::fs::hard_link(root.join("a/f"), root.join("c/new")).expect("hard link");
        std::fs::hard_link(root.join("a/big"), root.join("b/new")).expect("hard link");
        std::fs::hard_link(root.join("a/big"), root.join("a/b/new")).expect("hard link");
    }
    age(root, 1_000_000_000);
}

fn age(at: &Path, sec: i64) {
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

/// The root of an upper is visible as the merged root: make it equal to the lower's.
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
        // One of three names is in a directory that was moved and not read since.
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
