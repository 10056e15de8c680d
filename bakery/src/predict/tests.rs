//! Tests of the prediction on small trees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use layerfmt::source::LayerSet;
use layerfmt::tree::{Child, Kind, Metadata, Node, Tree};
use layerfmt::writer::{LayerWriter, Options};
use layerfmt::{Layer, MergedIndex, Meta, Name};

use super::elf_pages::{ElfFile, Usage};
use super::*;
use crate::history::find;

/// A tree: paths with contents; `->` begins the target of a link.
struct SmallTree {
    _dir: tempfile::TempDir,
    merged: MergedIndex,
    layers: LayerSet,
}

impl SmallTree {
    fn new(files: &[(&str, &[u8])]) -> SmallTree {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree.layer");
        let mut writer = LayerWriter::create(&path, Options::level(1), None).unwrap();
        let mut tree = Tree::new(Metadata::default());
        let mut directories = BTreeMap::from([(String::new(), layerfmt::tree::ROOT)]);
        let sorted: BTreeMap<&str, &[u8]> = files.iter().copied().collect();
        for (path, content) in sorted {
            let (mut at, mut walked) = (layerfmt::tree::ROOT, String::new());
            let (parents, name) = path.rsplit_once('/').unwrap();
            for part in parents.split('/').filter(|part| !part.is_empty()) {
                walked = format!("{walked}/{part}");
                at = match directories.get(&walked) {
                    Some(known) => *known,
                    None => {
                        let meta = Metadata {
                            mode: 0o755,
                            ..Metadata::default()
                        };
                        let made = tree
                            .add(Node {
                                meta,
                                kind: Kind::Directory(layerfmt::tree::Directory::default()),
                            })
                            .unwrap();
                        tree.set(at, Name::new(part.as_bytes()).unwrap(), Child::Node(made))
                            .unwrap();
                        directories.insert(walked.clone(), made);
                        made
                    }
                };
            }
            let kind = match content.strip_prefix(b"->") {
                Some(target) => Kind::Symlink(target.into()),
                None => {
                    let segments = [(0, content.len() as u64)];
                    let segments = &segments[..usize::from(!content.is_empty())];
                    Kind::File(
                        writer
                            .add_file(content.len() as u64, segments, &mut &*content)
                            .unwrap(),
                    )
                }
            };
            let meta = Metadata {
                mode: 0o755,
                ..Metadata::default()
            };
            let node = tree.add(Node { meta, kind }).unwrap();
            tree.set(at, Name::new(name.as_bytes()).unwrap(), Child::Node(node))
                .unwrap();
        }
        writer.finish(tree, &Meta::default()).unwrap();
        let layer = Arc::new(Layer::open(&path).unwrap());
        let merged = layerfmt::flatten::flatten_layers([layer.as_ref()], true).unwrap();
        SmallTree {
            _dir: dir,
            merged,
            layers: LayerSet::new([layer]),
        }
    }

    fn predict(&self) -> BootTrace {
        let tree = self.merged.tree_digest().unwrap();
        predict(&self.merged.index, &self.layers, tree, &[])
    }

    /// The files of the prediction among `paths`.
    fn predicted<'p>(&self, paths: &[&'p str]) -> Vec<&'p str> {
        let trace = self.predict();
        let inos: BTreeSet<u32> = trace.touches.iter().map(|touch| touch.ino).collect();
        let has = |path: &&&str| {
            find(&self.merged.index, path.as_bytes(), true).is_ok_and(|ino| inos.contains(&ino))
        };
        paths.iter().filter(has).copied().collect()
    }
}

/// An ELF file of 64 bits with an interpreter, libraries and a page of code between tables.
fn elf(interpreter: Option<&str>, needed: &[&str], search: Option<&str>) -> Vec<u8> {
    let mut names = vec![0u8];
    let mut name = |text: &str| {
        let at = names.len() as u64;
        names.extend_from_slice(text.as_bytes());
        names.push(0);
        at
    };
    let mut dynamic: Vec<(u64, u64)> = needed.iter().map(|text| (1, name(text))).collect();
    dynamic.extend(search.map(|text| (29, name(text))));
    dynamic.extend([
        (5, 0x400),
        (10, names.len() as u64),
        (12, 0x2000),
        (13, 0x4fff),
        (0, 0),
    ]);
    let mut out = vec![0u8; 0x8000];
    out[..6].copy_from_slice(b"\x7fELF\x02\x01");
    out[32..40].copy_from_slice(&64u64.to_le_bytes());
    out[54..56].copy_from_slice(&56u16.to_le_bytes());
    let text = interpreter.unwrap_or_default();
    let mut segments = vec![
        (1u32, 4u32, 0u64, 0x1000u64),
        (1, 5, 0x2000, 0x3000),
        (1, 4, 0x5000, 0x1000),
        (1, 6, 0x7000, 0x1000),
        (2, 6, 0x7000, dynamic.len() as u64 * 16),
    ];
    if interpreter.is_some() {
        segments.push((3, 4, 0x300, text.len() as u64 + 1));
        out[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
    }
    out[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
    for (row, (kind, flags, at, len)) in segments.into_iter().enumerate() {
        let start = 64 + row * 56;
        out[start..start + 4].copy_from_slice(&kind.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&flags.to_le_bytes());
        for (field, value) in [(8, at), (16, at), (32, len)] {
            out[start + field..start + field + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    out[0x400..0x400 + names.len()].copy_from_slice(&names);
    for (row, (tag, value)) in dynamic.into_iter().enumerate() {
        let start = 0x7000 + row * 16;
        out[start..start + 8].copy_from_slice(&tag.to_le_bytes());
        out[start + 8..start + 16].copy_from_slice(&value.to_le_bytes());
    }
    out
}

fn read(bytes: &[u8]) -> Option<ElfFile> {
    ElfFile::read(|at, len| {
        let rest = bytes.get(usize::try_from(at).ok()?..)?;
        Some(rest[..rest.len().min(usize::try_from(len).unwrap_or(usize::MAX))].to_vec())
    })
}

#[test]
fn an_elf_file_gives_its_needs_and_the_pages_of_its_loader_and_code() {
    let bytes = elf(
        Some("/lib/ld.so"),
        &["libc.so.6", "libm.so"],
        Some("$ORIGIN/x:/opt"),
    );
    let file = read(&bytes).unwrap();
    assert_eq!(file.interpreter.as_deref(), Some("/lib/ld.so"));
    assert_eq!(file.needed, ["libc.so.6", "libm.so"]);
    assert_eq!(file.search, ["$ORIGIN/x", "/opt"]);
    let len = bytes.len() as u64;
    // The page of constants is code's; nothing loads page 6.
    assert_eq!(file.pages(Usage::Called, len), [0, 2, 3, 4, 5, 7]);
    assert_eq!(file.pages(Usage::Loaded, len), [0, 2, 4, 7]);
    // A file that is shorter than its headers say.
    assert_eq!(file.pages(Usage::Called, 0x2800), [0, 2]);
}

#[test]
fn every_cut_and_every_wrong_byte_of_an_elf_file_is_survived() {
    let bytes = elf(Some("/lib/ld.so"), &["libc.so.6"], None);
    for len in (0..0x500).chain(0x7000..0x7100) {
        if let Some(file) = read(&bytes[..len]) {
            assert!(file.pages(Usage::Called, len as u64).len() <= 8);
        }
    }
    for at in (0..0x420).chain(0x7000..0x7080) {
        for value in [0, 0x7f, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            if let Some(file) = read(&wrong) {
                assert!(file.pages(Usage::Called, 0x8000).len() <= 8, "{at}");
            }
        }
    }
}

const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// A system with systemd and the given units and files.
fn system(more: &[(&str, &[u8])]) -> SmallTree {
    let init = elf(
        Some("/lib/ld.so"),
        &["libcore.so", "libmissing.so"],
        Some("$ORIGIN"),
    );
    let library = elf(None, &["libfar.so"], None);
    let far = elf(None, &[], None);
    let mut files: Vec<(&str, &[u8])> = vec![
        (SYSTEMD, &init),
        ("/sbin/init", b"->../usr/lib/systemd/systemd"),
        ("/lib/ld.so", &far),
        ("/etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n"),
        ("/etc/ld.so.conf.d/own.conf", b"/opt/lib\n"),
        ("/usr/lib/systemd/libcore.so", &library),
        ("/opt/lib/libfar.so", &far),
        ("/etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
    ];
    files.extend(more);
    SmallTree::new(&files)
}

/// Units, scripts and settings; the other programs are [`PROGRAMS`].
const UNITS: &[(&str, &[u8])] = &[
        ("/usr/lib/systemd/system/default.target", b"->graphical.target"),
        ("/usr/lib/systemd/system/graphical.target", b"[Unit]\nWants=one@a.service\nAfter=named.service gone.service\n"),
        ("/usr/lib/systemd/system/one@.service", b"[Service]\nEnvironmentFile=-/etc/one.env\nExecStart=-/usr/bin/one --with \\\n  /etc/one/table %i\n"),
        ("/usr/lib/systemd/system/named.service", b"[Service]\nExecStart=/usr/bin/named\n"),
        ("/etc/systemd/system/graphical.target.wants/two.service", b"->/etc/systemd/system/two.service"),
        ("/etc/systemd/system/two.service", b"[Unit]\nConditionPathExists=/etc/absent\n[Service]\nExecStart=/usr/bin/two\n"),
        ("/etc/systemd/system/masked.service", b"->/dev/null"),
        ("/etc/systemd/system/graphical.target.wants/masked.service", b"->../masked.service"),
        ("/usr/lib/systemd/system/masked.service", b"[Service]\nExecStart=/usr/bin/masked\n"),
        ("/etc/systemd/system/one@a.service.d/more.conf", b"[Service]\nExecStartPre=/bin/sh -c 'three; exec four'\n"),
        (
            "/etc/systemd/system/graphical.target.wants/any.service",
            b"->../any.service",
        ),
        (
            "/etc/systemd/system/any.service",
            b"[Unit]\nConditionPathExists=|/etc/absent\nConditionDirectoryNotEmpty=|/run/any.d\nConditionVirtualization=!container\n[Service]\nExecStart=/usr/bin/any\n",
        ),
        ("/usr/bin/three", b"#!/usr/bin/env five\nthree\n"),
        ("/usr/bin/four", b"#!/bin/sh\n. /etc/four.sh\nif six | seven; then\nfi\n"),
        ("/etc/four.sh", b"eight\n"),
        ("/etc/one.env", b"A=1\n"),
        ("/etc/one/table", b"1\n"),
        ("/usr/share/never", b"1\n"),
];
/// Programs of these units.
const PROGRAMS: &[&str] = &[
    "/usr/bin/any",
    "/usr/bin/one",
    "/usr/bin/two",
    "/usr/bin/named",
    "/usr/bin/masked",
    "/bin/sh",
    "/usr/bin/env",
    "/usr/bin/five",
    "/usr/bin/six",
    "/usr/bin/seven",
    "/usr/bin/eight",
];

#[test]
fn the_programs_libraries_and_settings_of_started_units_are_predicted() {
    let daemon = elf(Some("/lib/ld.so"), &["libfar.so"], None);
    let programs = PROGRAMS.iter().map(|path| (*path, daemon.as_slice()));
    let files: Vec<(&str, &[u8])> = programs.chain(UNITS.iter().copied()).collect();
    let tree = system(&files);
    let expected = [
        SYSTEMD,
        "/lib/ld.so",
        "/usr/lib/systemd/libcore.so",
        "/opt/lib/libfar.so",
        "/etc/passwd",
        "/usr/bin/one",
        "/etc/one.env",
        "/etc/one/table",
        "/usr/lib/systemd/system/named.service",
        "/etc/systemd/system/two.service",
        "/usr/bin/three",
        "/usr/bin/five",
        "/usr/bin/four",
        "/etc/four.sh",
        "/usr/bin/six",
        "/usr/bin/seven",
        "/usr/bin/eight",
        "/bin/sh",
        "/usr/bin/env",
    ];
    assert_eq!(tree.predicted(&expected), expected);
    let none: [&str; 0] = [];
    let absent = [
        "/usr/bin/two",
        "/usr/bin/any",
        "/usr/bin/named",
        "/usr/bin/masked",
        "/usr/lib/systemd/system/masked.service",
        "/usr/share/never",
    ];
    assert_eq!(tree.predicted(&absent), none);
    let trace = tree.predict();
    assert_eq!(
        trace,
        tree.predict(),
        "the same tree gives the same prediction"
    );
    let init = find(&tree.merged.index, SYSTEMD.as_bytes(), true).unwrap();
    assert_eq!(trace.touches.first().map(|touch| touch.ino), Some(init));
}

#[test]
fn circles_and_hostile_names_end() {
    let tree = system(&[
        ("/usr/lib/systemd/system/default.target", b"[Unit]\nRequires=a.service\n"),
        ("/usr/lib/systemd/system/a.service", b"[Unit]\nRequires=b.service\nAfter=b.service\n[Service]\nExecStart=/usr/bin/loop\n"),
        ("/usr/lib/systemd/system/b.service", b"[Unit]\nWants=a.service ../../etc/passwd.service %.service @.service\n[Service]\nExecStart=/../../usr/bin/round /\nEnvironmentFile=/a/b/c\nExecStart=\nExecStart=-\n"),
        ("/usr/bin/loop", b"#!/usr/bin/loop\nloop\n. /usr/bin/loop\n"),
        ("/usr/bin/round", b"->round"),
        ("/lib/modules/1/modules.dep", b"a.ko: b.ko\nb.ko: a.ko\nkernel/fuse.ko.zst: ../../../etc/passwd\n"),
        ("/lib/modules/1/kernel/fuse.ko.zst", b"module"),
        ("/usr/lib/udev/hwdb.bin", b"KSLPHHRH"),
    ]);
    let expected = [
        "/usr/bin/loop",
        "/usr/lib/systemd/system/b.service",
        "/lib/modules/1/kernel/fuse.ko.zst",
    ];
    assert_eq!(tree.predicted(&expected), expected);
}

#[test]
fn huge_counts_end() {
    let mut wants = String::from("[Unit]\nWants=");
    for number in 0..6000 {
        wants.push_str(&format!("u{number}.service "));
    }
    let many = "x".repeat(100).as_bytes().to_vec();
    let names: Vec<String> = (0..100).map(|number| format!("lib{number}.so")).collect();
    let needed: Vec<&str> = names.iter().map(String::as_str).collect();
    let program = elf(None, &needed, None);
    let tree = system(&[
        ("/usr/lib/systemd/system/default.target", wants.as_bytes()),
        (
            "/usr/lib/systemd/system/u5.service",
            b"[Service]\nExecStart=/usr/bin/many\n",
        ),
        ("/usr/bin/many", &program),
        ("/usr/share/x", &many),
    ]);
    assert_eq!(
        tree.predicted(&["/usr/bin/many", "/usr/share/x"]),
        ["/usr/bin/many"]
    );
}

#[test]
fn other_inits_are_followed_through_their_tables() {
    let busybox = elf(None, &[], None);
    let tree = SmallTree::new(&[
        ("/sbin/init", b"->/bin/busybox"),
        ("/bin/busybox", &busybox),
        ("/bin/sh", b"->busybox"),
        (
            "/etc/inittab",
            b"# x\n::sysinit:/sbin/openrc sysinit\ntty1::respawn:/sbin/getty 38400 tty1\n",
        ),
        ("/sbin/openrc", &busybox),
        ("/sbin/getty", b"#!/bin/sh\n"),
        ("/etc/runlevels/default/sshd", b"->/etc/init.d/sshd"),
        (
            "/etc/init.d/sshd",
            b"#!/sbin/openrc-run\nstart() {\n  checkpath /run\n}\n",
        ),
        ("/etc/conf.d/sshd", b"A=1\n"),
        ("/usr/bin/checkpath", b"#!/bin/sh\n"),
        ("/etc/rc2.d/S01cron", b"->../init.d/cron"),
        ("/etc/init.d/cron", b"#!/bin/sh\nchild\n"),
        ("/usr/bin/child", b"#!/bin/sh\n"),
        ("/etc/runit/1", b"#!/bin/sh\nstage\n"),
        ("/usr/bin/stage", b"#!/bin/sh\n"),
        (
            "/etc/runit/runsvdir/default/web/run",
            b"#!/bin/sh\nserver\n",
        ),
        ("/usr/bin/server", b"#!/bin/sh\n"),
    ]);
    let expected = [
        "/bin/busybox",
        "/etc/inittab",
        "/sbin/openrc",
        "/sbin/getty",
        "/etc/init.d/sshd",
        "/etc/conf.d/sshd",
        "/usr/bin/checkpath",
        "/etc/init.d/cron",
        "/usr/bin/child",
        "/usr/bin/stage",
        "/usr/bin/server",
    ];
    assert_eq!(tree.predicted(&expected), expected);
}

#[test]
fn a_tree_without_an_init_has_no_prediction() {
    let tree = SmallTree::new(&[("/etc/passwd", b"x")]);
    assert!(tree.predict().touches.is_empty());
    assert!(system(&[]).merged.index.inode_count() > 0);
}

#[test]
fn paths_of_other_boots_are_added_by_their_kind() {
    let daemon = elf(Some("/lib/ld.so"), &["libfar.so"], None);
    let tree = system(&[("/usr/bin/desktop", &daemon), ("/usr/share/icon", b"icon")]);
    let digest = tree.merged.tree_digest().unwrap();
    let others = [
        "/usr/bin/desktop".to_owned(),
        "/usr/share/icon".to_owned(),
        "/gone".to_owned(),
    ];
    let more = predict(&tree.merged.index, &tree.layers, digest, &others);
    let had = tree.predict();
    assert_eq!(&more.touches[..had.touches.len()], had.touches);
    assert!(more.touches.len() > had.touches.len() + 1);
}
