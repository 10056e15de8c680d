//! A tree with everything, programs to pack it, and bakes to compare.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bakery::assemble::Reading;
use bakery::bake::{BakeReport, BaseStack, Recipe, bake};
use layerfmt::Layer;
use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};
use source::open::{SourceOptions, open};
use wire::exclude::Excludes;

use crate::scratch::Scratch;

/// Runs a program and insists on its success.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; see .ci/packages"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn shell(script: &str, directory: &Path) {
    let script = format!("set -eu; cd '{}'; {script}", directory.display());
    run("sh", &["-c", &script]);
}

fn set_time(path: &Path, sec: i64, nsec: i64) {
    let time = Timespec {
        tv_sec: sec,
        tv_nsec: nsec,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// `setfacl -m u:54321:r--,g:54322:rwx` on a mode of 0640; ids without a name on any machine.
pub const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 49, 212, 0, 0, 4, 0, 4, 0, 255, 255,
    255, 255, 8, 0, 7, 0, 50, 212, 0, 0, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255,
    255, 255,
];
/// `cap_net_raw=ep`.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A tree of every kind of object, attribute and name.
pub fn everything(root: &Path) {
    for directory in ["usr/bin", "etc", "var/empty", "dev"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(
        root.join("usr/bin/tool"),
        b"#!/bin/sh\nexit 0\n".repeat(3000),
    )
    .unwrap();
    fs::set_permissions(
        root.join("usr/bin/tool"),
        fs::Permissions::from_mode(0o4755),
    )
    .unwrap();
    set_xattr(
        &root.join("usr/bin/tool"),
        "security.capability",
        CAPABILITY,
    );
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/again")).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("aaa-link")).unwrap();
    fs::write(root.join("etc/acl"), b"listed").unwrap();
    fs::set_permissions(root.join("etc/acl"), fs::Permissions::from_mode(0o640)).unwrap();
    set_xattr(&root.join("etc/acl"), "system.posix_acl_access", ACL);
    set_xattr(
        &root.join("etc/acl"),
        "user.binary",
        &[0, 1, 255, b'\n', b'='],
    );
    fs::write(root.join("etc/empty"), b"").unwrap();
    lchown(root.join("etc/empty"), Some(3_000_000), Some(2_500_000)).unwrap();
    symlink("../usr/bin/tool", root.join("etc/short")).unwrap();
    symlink("x/".repeat(150), root.join("etc/long-target")).unwrap();
    let deep = root.join("n".repeat(150)).join("m".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("\u{444}\u{430}\u{439}\u{43b} \u{6587}"), b"deep").unwrap();
    let raw = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(root.join(raw), b"latin").unwrap();
    sparse(&root.join("var/sparse"));
    let node = |name: &str, kind, device| {
        let path = root.join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            kind,
            Mode::from_raw_mode(0o640),
            device,
        )
        .unwrap();
    };
    node(
        "dev/tty9",
        FileType::CharacterDevice,
        rustix::fs::makedev(4, 9),
    );
    node(
        "dev/loop7",
        FileType::BlockDevice,
        rustix::fs::makedev(7, 7),
    );
    node("dev/pipe", FileType::Fifo, 0);
    set_time(&root.join("etc/empty"), 1_000_000_000, 123_456_789);
    set_time(&root.join("etc/short"), 1_100_000_000, 5);
    // libarchive writes a wrong fraction before 1970; unit tests have those.
    set_time(&root.join("etc/acl"), -100, 0);
    set_time(&root.join("etc"), 1_200_000_000, 987_654_321);
    fs::set_permissions(root.join("var/empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    set_time(root, 1_300_000_000, 1);
}

/// A file with 40 islands (more than one old GNU header and one extension block hold), a hole at
/// its end, and bytes that begin and end inside blocks.
fn sparse(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(64 << 20).unwrap();
    for island in 0..40u64 {
        let bytes = vec![island as u8 + 1; 5000];
        file.write_all_at(&bytes, island * (1 << 20) + 4096 * (island % 3))
            .unwrap();
    }
}

pub fn recipe<'e>(excludes: &'e Excludes, reading: Reading) -> Recipe<'e> {
    Recipe {
        excludes,
        options: layerfmt::Options::level(1),
        labels: Vec::new(),
        reading,
        machine: None,
        is_upload: false,
        progress: &bakery::bake::no_progress,
    }
}

/// Bakes anything: changes to the base, or a whole tree.
pub fn try_bake(
    source: &Path,
    base: Option<&BaseStack>,
    output: &Path,
) -> anyhow::Result<BakeReport> {
    let reading = match base {
        Some(_) => Reading::Changes,
        None => Reading::Whole,
    };
    bake_as(reading, source, base, output)
}

/// Bakes changes without their base.
pub fn baked_changes(source: &Path, output: &Path) -> Arc<Layer> {
    bake_as(Reading::Changes, source, None, output)
        .unwrap_or_else(|error| panic!("{}: {error:#}", source.display()));
    Arc::new(Layer::open(output).unwrap())
}

pub fn bake_as(
    reading: Reading,
    source: &Path,
    base: Option<&BaseStack>,
    output: &Path,
) -> anyhow::Result<BakeReport> {
    let excludes = Excludes::default();
    let mut source = open(source, &SourceOptions::default())?;
    Ok(bake(
        &mut *source,
        base,
        &recipe(&excludes, reading),
        output,
    )?)
}

pub fn baked(source: &Path, base: Option<&BaseStack>, output: &Path) -> Arc<Layer> {
    try_bake(source, base, output)
        .unwrap_or_else(|error| panic!("{}: {error:#}", source.display()));
    Arc::new(Layer::open(output).unwrap())
}

pub fn dump(layer: &Layer) -> String {
    layerfmt::dump::dump(layer.index(), layer.content().unwrap().as_ref())
}

/// Lines without features that a format cannot store: attributes, and the fraction of times.
pub fn coarse(dump: &str) -> String {
    // SECONDS.NANOSECONDS, always nine digits.
    let is_time = |word: &str| {
        word.split_once('.').is_some_and(|(sec, nsec)| {
            nsec.len() == 9
                && nsec.bytes().all(|digit| digit.is_ascii_digit())
                && sec
                    .trim_start_matches('-')
                    .bytes()
                    .all(|digit| digit.is_ascii_digit())
        })
    };
    let mut out = String::new();
    for line in dump.lines() {
        let mut words = Vec::new();
        for word in line.split(' ') {
            // Attributes are NAME=VALUE and end the line; a hard link is =PATH.
            if word.find('=').is_some_and(|at| at > 0) {
                break;
            }
            let whole = word.split('.').next().unwrap_or_default();
            words.push(if is_time(word) { whole } else { word });
        }
        out += &words.join(" ");
        out.push('\n');
    }
    out
}

/// Reports the differing line.
pub fn assert_same(what: &str, expected: &str, got: &str) {
    if expected != got {
        let missing: Vec<&str> = expected
            .lines()
            .filter(|line| !got.contains(line))
            .take(6)
            .collect();
        let extra: Vec<&str> = got
            .lines()
            .filter(|line| !expected.contains(line))
            .take(6)
            .collect();
        panic!(
            "{what}: expected\n{}\ngot\n{}",
            missing.join("\n"),
            extra.join("\n")
        );
    }
}

pub fn scratch() -> (Scratch, PathBuf) {
    let directory = Scratch::new();
    let path = directory.path().to_owned();
    (directory, path)
}

/// A failed bake leaves no files.
pub fn assert_nothing_left(directory: &Path) {
    let left: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
