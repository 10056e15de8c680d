//! Law 1 against the kernel: random stacks, unpacked as directories and mounted with overlayfs,
//! show the result of `apply`. Needs root.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use layerfmt::tree::apply::apply;
use layerfmt::tree::{Child, Kind, Metadata, Node, ROOT};
use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    lgetxattr, lsetxattr, makedev, mknodat, utimensat,
};

use crate::arbitrary::{Model, changes, model};

/// A mount that is removed with the test.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, options: &str, at: &Path) -> Mounted {
        let run = Command::new("mount")
            .args(["-t", kind, "-o", options, "none"])
            .arg(at)
            .output();
        let output = run.unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "mount -t {kind} -o {options} (as root?): {error}"
        );
        Mounted(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Attributes that an ordinary file system accepts: none on special files, only `user.` elsewhere.
fn user_xattrs(node: &Node<Vec<u8>>) -> Vec<(&[u8], &[u8])> {
    match node.kind {
        Kind::Directory(_) | Kind::File(_) => node
            .meta
            .xattrs()
            .filter(|(name, _)| name.starts_with(b"user."))
            .collect(),
        _ => Vec::new(),
    }
}

/// Writes a layer in the form of overlayfs.
fn unpack(tree: &Model, to: &Path) {
    let mut first: std::collections::HashMap<u32, PathBuf> = Default::default();
    let mut made = Vec::new();
    tree.walk(|visit| {
        let path = to.join(std::ffi::OsStr::from_bytes(visit.path));
        let Some((id, node)) = visit.node else {
            mknodat(
                CWD,
                &path,
                FileType::CharacterDevice,
                Mode::empty(),
                makedev(0, 0),
            )
            .unwrap();
            return Ok::<(), std::convert::Infallible>(());
        };
        if id != ROOT
            && let Some(have) = first.get(&id)
        {
            fs::hard_link(have, &path).unwrap();
            return Ok(());
        }
        let special = |kind, device| mknodat(CWD, &path, kind, Mode::RUSR, device).unwrap();
        match &node.kind {
            Kind::Directory(directory) => {
                fs::create_dir_all(&path).unwrap();
                if directory.opaque {
                    let name = "trusted.overlay.opaque";
                    lsetxattr(&path, name, b"y", XattrFlags::empty()).unwrap();
                }
            }
            Kind::File(bytes) => fs::write(&path, bytes).unwrap(),
            Kind::Symlink(target) => {
                symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap();
            }
            Kind::Char(a, b) => special(FileType::CharacterDevice, makedev(*a, *b)),
            Kind::Block(a, b) => special(FileType::BlockDevice, makedev(*a, *b)),
            Kind::Fifo => special(FileType::Fifo, 0),
            Kind::Socket => special(FileType::Socket, 0),
        }
        for (name, value) in user_xattrs(node) {
            let name = std::str::from_utf8(name).unwrap();
            lsetxattr(&path, name, value, XattrFlags::empty()).unwrap();
        }
        first.insert(id, path.clone());
        made.push((path, id));
        Ok(())
    })
    .unwrap();
    for (path, id) in made.iter().rev() {
        settle(path, tree.node(*id).unwrap());
    }
}

fn settle(path: &Path, node: &Node<Vec<u8>>) {
    let Metadata {
        mode,
        uid,
        gid,
        mtime,
        ..
    } = node.meta;
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(CWD, path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if !matches!(node.kind, Kind::Symlink(_)) {
        chmodat(
            CWD,
            path,
            Mode::from_raw_mode(mode.into()),
            AtFlags::empty(),
        )
        .unwrap();
    }
    let time = Timespec {
        tv_sec: mtime.sec,
        tv_nsec: mtime.nsec.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// One line of the common text, with the attributes that both sides have.
fn line(path: &[u8], kind: &str, mode: u32, meta: (u32, u32, i64, i64), rest: &str) -> String {
    let mode = if kind == "l" { 0 } else { mode };
    format!("{} {kind} {mode:04o} {meta:?} {rest}", path.escape_ascii())
}

fn model_text(tree: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    tree.walk(|visit| {
        let Some((_, node)) = visit.node else {
            panic!("a merged tree has no whiteout")
        };
        let (kind, mut rest) = match &node.kind {
            Kind::Directory(_) => ("d", String::new()),
            Kind::File(bytes) => ("f", format!("{} {}", bytes.len(), blake3::hash(bytes))),
            Kind::Symlink(target) => ("l", target.escape_ascii().to_string()),
            Kind::Char(a, b) => ("c", format!("{a},{b}")),
            Kind::Block(a, b) => ("b", format!("{a},{b}")),
            Kind::Fifo => ("p", String::new()),
            Kind::Socket => ("s", String::new()),
        };
        if user_xattrs(node).iter().any(|(name, _)| name == b"user.a") {
            rest.push_str(" user.a");
        }
        let Metadata {
            mode,
            uid,
            gid,
            mtime,
            ..
        } = node.meta;
        let meta = (uid, gid, mtime.sec, mtime.nsec.into());
        lines.push(line(visit.path, kind, mode.into(), meta, &rest));
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap();
    lines.sort();
    lines
}

fn mounted_text(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        // In a directory of only one layer, the kernel lists whiteouts, although their lookup is
        // ENOENT: they do not exist.
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let kind = meta.file_type();
        let device = || {
            format!(
                "{},{}",
                rustix::fs::major(meta.rdev()),
                rustix::fs::minor(meta.rdev())
            )
        };
        let (letter, mut rest) = if kind.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            ("d", String::new())
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            ("f", format!("{} {}", bytes.len(), blake3::hash(&bytes)))
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            (
                "l",
                target.as_os_str().as_bytes().escape_ascii().to_string(),
            )
        } else if kind.is_char_device() {
            ("c", device())
        } else if kind.is_block_device() {
            ("b", device())
        } else if kind.is_fifo() {
            ("p", String::new())
        } else {
            ("s", String::new())
        };
        let mut value = [0u8; 64];
        if lgetxattr(&path, "user.a", &mut value).is_ok() {
            rest.push_str(" user.a");
        }
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        let times = (meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
        lines.push(line(name, letter, meta.mode() & 0o7777, times, &rest));
    }
    lines.sort();
    lines
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("KERNEL_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(60);
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    /// Law 1: up to 8 layers.
    #[test]
    fn law_1_overlayfs_shows_what_apply_says(
        stack in prop::collection::vec(changes(12), 1..8)
    ) {
        let dir = crate::scratch::Scratch::new();
        let work = Mounted::new("tmpfs", "mode=755", dir.path());
        let merged = work.0.join("merged");
        fs::create_dir(&merged).unwrap();
        // Overlayfs needs at least two lower directories: the lowest is empty.
        let mut lower = vec![work.0.join("bottom")];
        fs::create_dir(&lower[0]).unwrap();
        let mut want = Model::new(Metadata::default());
        for (number, steps) in stack.iter().enumerate() {
            let layer = model(steps);
            let to = work.0.join(number.to_string());
            unpack(&layer, &to);
            lower.insert(0, to);
            want = apply(&want, &layer).unwrap();
        }
        // The model may contain a whiteout of a missing name; apply drops it as overlayfs does.
        prop_assert!(want.entries(ROOT).all(|(_, child)| *child != Child::Whiteout));
        let list: Vec<_> = lower.iter().map(|l| l.to_str().unwrap()).collect();
        let options = format!("ro,lowerdir={}", list.join(":"));
        let overlay = Mounted::new("overlay", &options, &merged);
        prop_assert_eq!(mounted_text(&merged), model_text(&want));
        drop(overlay);
    }
}
