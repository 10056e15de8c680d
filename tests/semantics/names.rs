//! S1–S3, S5–S7: names, listings, whiteouts, renames, links, numbers.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use super::{Errno, Files as _, Fixture, bytes, lacks_root, mark, set_xattr};
use crate::session::files::Open;
use crate::session::{Attached, New, NewTime, OFlags, RenameFlags, is_root};

const CHARACTER: u32 = 0o020_000;
const FIFO: u32 = 0o010_000;
const TYPE: u32 = 0o170_000;

fn is_whiteout(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn links(f: &Fixture, path: &str) -> u32 {
    f.fs.about(path).unwrap().nlink
}

#[test]
fn s1_1_the_upper_hides_and_directories_merge() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("d/low"), "low").unwrap();
        fs::write(lower.join("d/both"), "low").unwrap();
    });
    f.fs.put("d/high", "high").unwrap();
    f.fs.put("d/both", "high").unwrap();
    f.again();
    assert_eq!(f.fs.names("d"), ["both", "high", "low"]);
    assert_eq!(f.fs.content("d/both").unwrap(), b"high");
    f.fs.detach();
    set_xattr(&f.upper.join("d"), &mark("overlay.opaque"), b"y").unwrap();
    f.fs.attach();
    assert_eq!(f.fs.names("d"), ["both", "high"]);
}

#[test]
fn s1_2_long_names() {
    let f = Fixture::new(|_| {});
    let long = "x".repeat(256);
    assert_eq!(f.fs.about(&long).unwrap_err(), Errno::NAMETOOLONG);
    assert_eq!(f.fs.mkdir(&long).unwrap_err(), Errno::NAMETOOLONG);
    f.fs.put("x".repeat(255), "").unwrap();
}

#[test]
fn s1_3_names_are_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\x01 \n");
    let f = Fixture::new(|lower| fs::write(lower.join(odd), "low").unwrap());
    assert_eq!(f.fs.content(odd).unwrap(), b"low");
    f.fs.put(odd, "up").unwrap();
    assert_eq!(fs::read(f.upper.join(odd)).unwrap(), b"up");
}

#[test]
fn s1_4_a_deep_tree() {
    const DEPTH: usize = 100;
    let f = Fixture::new(|_| {});
    let deep = vec!["d"; DEPTH].join("/");
    f.fs.mkdir_all(&deep).unwrap();
    f.fs.put(format!("{deep}/f"), "deep").unwrap();
    f.again();
    assert_eq!(f.fs.content(format!("{deep}/f")).unwrap(), b"deep");
    f.fs.remove_all("d").unwrap();
    assert!(f.fs.names("").is_empty());
}

#[test]
fn s2_1_and_s2_2_a_listing_has_each_name_once_whatever_happens_meanwhile() {
    let f = Fixture::new(|lower| {
        for i in 0..2000 {
            fs::write(lower.join(format!("low{i:04}")), "").unwrap();
        }
    });
    for i in 0..2000 {
        f.fs.put(format!("up{i:04}"), "").unwrap();
    }
    f.again();
    let mut seen = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let open: Open<'_, dyn Attached> = f.fs.open_with("", flags, 0).unwrap();
    let mut cookie = 0;
    for step in 0.. {
        let some = open.list(cookie, 100).unwrap();
        let Some(last) = some.last() else { break };
        cookie = last.cookie;
        seen.extend(
            some.into_iter()
                .map(|entry| String::from_utf8(entry.name).unwrap()),
        );
        match step {
            2 => {
                for i in (0..2000).step_by(10) {
                    f.fs.put(format!("low{i:04}"), "now in the upper").unwrap();
                }
            }
            5 => {
                for i in (1..2000).step_by(10) {
                    f.fs.unlink(format!("low{i:04}")).unwrap();
                    f.fs.unlink(format!("up{i:04}")).unwrap();
                    f.fs.put(format!("new{i:04}"), "").unwrap();
                }
            }
            _ => {}
        }
    }
    let once: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(once.len(), seen.len(), "a name was listed twice");
    assert!(!seen.iter().any(|name| name.starts_with("new")));
    for kept in (0..2000).filter(|i| i % 10 != 1) {
        for prefix in ["low", "up"] {
            let name = format!("{prefix}{kept:04}");
            assert!(once.contains(&name), "{name} is missing");
        }
    }
}

#[test]
fn s2_3_d_ino_is_st_ino() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("f"), "x").unwrap();
        fs::write(lower.join("g"), "x").unwrap();
    });
    f.fs.put("f", "y").unwrap();
    f.fs.put("new", "y").unwrap();
    f.fs.mv("g", "d/moved").unwrap();
    for _ in 0..2 {
        for dir in ["", "d"] {
            let entries = f.fs.entries(dir).unwrap();
            assert!(!entries.is_empty());
            for entry in entries {
                let path = Path::new(dir).join(String::from_utf8(entry.name).unwrap());
                assert_eq!(entry.ino, f.fs.ino(&path), "{}", path.display());
            }
        }
        f.again();
    }
}

#[test]
fn s3_1_a_removed_name_is_a_whiteout_in_the_upper() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("f"), "x").unwrap();
        fs::create_dir(lower.join("d")).unwrap();
    });
    f.fs.unlink("f").unwrap();
    f.fs.rmdir("d").unwrap();
    assert!(is_whiteout(&f.upper.join("f")) && is_whiteout(&f.upper.join("d")));
    f.again();
    assert!(f.fs.names("").is_empty());
    assert_eq!(f.fs.about("f").unwrap_err(), Errno::NOENT);
}

#[test]
fn s3_2_a_directory_over_a_whiteout_is_opaque() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("d/f"), "x").unwrap();
    });
    f.fs.remove_all("d").unwrap();
    f.fs.mkdir("d").unwrap();
    assert!(f.fs.names("d").is_empty());
    assert_eq!(f.marked("d", "overlay.opaque").unwrap(), b"y");
    f.again();
    assert!(f.fs.names("d").is_empty());
}

#[test]
fn s3_3_a_users_own_device_0_0() {
    if lacks_root("S3.3") {
        return;
    }
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "x").unwrap());
    let make = |path: &str| {
        f.fs.make(Path::new(path), New::Node(CHARACTER | 0o644, (0, 0)))
    };
    make("zero").unwrap();
    f.fs.unlink("f").unwrap();
    make("f").unwrap();
    for _ in 0..2 {
        assert_eq!(f.fs.names(""), ["f", "zero"]);
        for name in ["f", "zero"] {
            let about = f.fs.about(name).unwrap();
            assert_eq!((about.mode & TYPE, about.rdev), (CHARACTER, (0, 0)));
            assert!(!is_whiteout(&f.upper.join(name)));
        }
        f.again();
    }
    f.fs.unlink("f").unwrap();
    assert_eq!(f.fs.names(""), ["zero"]);
}

#[test]
fn s5_1_a_lower_directory_is_renamed_without_copying() {
    let f = Fixture::new(|lower| {
        fs::create_dir_all(lower.join("d/e")).unwrap();
        fs::write(lower.join("d/e/f"), bytes(100_000)).unwrap();
    });
    f.fs.mv("d", "moved").unwrap();
    assert!(!f.upper.join("moved/e").exists(), "something was copied");
    assert_eq!(f.marked("moved", "overlay.redirect").unwrap(), b"/d");
    for _ in 0..2 {
        assert_eq!(f.fs.content("moved/e/f").unwrap(), bytes(100_000));
        assert!(!f.fs.exists("d"));
        f.again();
    }
    f.fs.mv("moved/e", "e").unwrap();
    f.fs.rmdir("moved").unwrap();
    f.again();
    assert_eq!(f.fs.content("e/f").unwrap(), bytes(100_000));
}

#[test]
fn s5_2_flags_of_renameat2() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("a"), "a").unwrap();
        fs::write(lower.join("b"), "b").unwrap();
        fs::create_dir(lower.join("d")).unwrap();
    });
    let refused = f.fs.mv_with("a", "b", RenameFlags::NOREPLACE);
    assert_eq!(refused.unwrap_err(), Errno::EXIST);
    f.fs.mv_with("a", "d", RenameFlags::EXCHANGE).unwrap();
    assert!(f.fs.names("a").is_empty());
    assert_eq!(f.fs.content("d").unwrap(), b"a");
    if is_root() {
        f.fs.mv_with("b", "c", RenameFlags::WHITEOUT).unwrap();
        let about = f.fs.about("b").unwrap();
        assert_eq!((about.mode & TYPE, about.rdev), (CHARACTER, (0, 0)));
    } else {
        f.fs.mv("b", "c").unwrap();
    }
    assert_eq!(f.fs.content("c").unwrap(), b"b");
    let names = f.fs.names("");
    f.again();
    assert_eq!(f.fs.names(""), names);
}

/// S5.3 "A rename is one step, also over an existing name."
#[test]
fn s5_3_a_rename_replaces_in_one_step() {
    let f = Fixture::new(|lower| {
        for name in ["old", "new"] {
            fs::write(lower.join(name), name).unwrap();
        }
        fs::create_dir_all(lower.join("full/in")).unwrap();
        fs::create_dir(lower.join("empty")).unwrap();
    });
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let content = f.fs.content("old").unwrap();
                assert!(content == b"old" || content == b"new", "{content:?}");
            }
        });
        for i in 0..200 {
            let name = format!("next{i}");
            f.fs.put(&name, "new").unwrap();
            f.fs.mv(&name, "old").unwrap();
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    f.fs.mv("new", "old").unwrap();
    assert_eq!(f.fs.mv("empty", "full").unwrap_err(), Errno::NOTEMPTY);
    assert_eq!(f.fs.mv("old", "full").unwrap_err(), Errno::ISDIR);
    assert_eq!(f.fs.mv("full", "old").unwrap_err(), Errno::NOTDIR);
    assert_eq!(f.fs.mv("full", "full/in/x").unwrap_err(), Errno::INVAL);
    f.fs.mv("full", "empty").unwrap();
    f.again();
    assert_eq!(f.fs.names(""), ["empty", "old"]);
    assert_eq!(f.fs.names("empty"), ["in"]);
    assert_eq!(f.fs.content("old").unwrap(), b"new");
    assert_eq!(f.leftovers(), 0);
}

#[test]
fn s6_1_and_s6_2_hard_links_stay_one_file() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("one"), "old").unwrap();
        fs::hard_link(lower.join("one"), lower.join("d/two")).unwrap();
        fs::hard_link(lower.join("one"), lower.join("three")).unwrap();
    });
    f.fs.put("d/two", "new").unwrap();
    for _ in 0..2 {
        for name in ["one", "d/two", "three"] {
            assert_eq!(f.fs.content(name).unwrap(), b"new");
            assert_eq!(links(&f, name), 3);
            assert_eq!(f.fs.ino(name), f.fs.ino("one"));
        }
        f.again();
    }
    f.fs.unlink("one").unwrap();
    assert_eq!(links(&f, "d/two"), 2);
    f.again();
    assert_eq!(links(&f, "three"), 2);
    f.fs.hard_link("three", "four").unwrap();
    assert_eq!(links(&f, "d/two"), 3);
}

/// A directory with further names of a file was moved, or is gone as overlayfs leaves it (the file was not copied for that).
/// Many directories are in the upper: none of them becomes a node for it.
#[test]
fn s6_1_links_in_directories_that_were_moved_or_are_gone() {
    let f = Fixture::new(|lower| {
        for name in ["here", "far", "gone"] {
            fs::create_dir(lower.join(name)).unwrap();
        }
        for i in 0..3 {
            fs::write(lower.join(format!("here/{i}")), "old").unwrap();
            for name in ["far", "gone"] {
                let link = lower.join(format!("{name}/{i}"));
                fs::hard_link(lower.join(format!("here/{i}")), link).unwrap();
            }
        }
    });
    for i in 0..500 {
        f.fs.mkdir_all(format!("many/{i}/x/y")).unwrap();
    }
    f.fs.mv("far", "many/7/x/y/near").unwrap();
    f.fs.detach();
    let gone = f.upper.join("gone");
    let (kind, none) = (
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
    );
    rustix::fs::mknodat(rustix::fs::CWD, &gone, kind, none, 0).unwrap();
    f.fs.attach();
    for i in 0..3 {
        let (here, near) = (format!("here/{i}"), format!("many/7/x/y/near/{i}"));
        f.fs.chmod(&here, 0o600).unwrap();
        f.fs.put(&here, "new").unwrap();
        let about = f.fs.about(&near).unwrap();
        assert_eq!(about.mode & 0o777, 0o600);
        assert_eq!(about.ino, f.fs.ino(&here));
        assert_eq!(f.fs.content(&near).unwrap(), b"new");
        assert_eq!(f.upper.join(&near).metadata().unwrap().nlink(), 2);
    }
    let nodes = f.fs.status()["nodes"].as_u64().unwrap();
    assert!(nodes < 50, "{nodes} nodes for a handful of files");
}

#[test]
fn s6_2_unlinking_one_lower_link_counts_across_a_remount() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("one"), "x").unwrap();
        fs::hard_link(lower.join("one"), lower.join("two")).unwrap();
    });
    let open = f.fs.open_read("one").unwrap();
    f.fs.unlink("one").unwrap();
    assert_eq!(links(&f, "two"), 1);
    assert_eq!(open.stat().unwrap().nlink, 1);
    f.fs.unlink("two").unwrap();
    assert_eq!(open.stat().unwrap().nlink, 0);
}

#[test]
fn s6_3_links_of_directories() {
    let f = Fixture::new(|lower| fs::create_dir_all(lower.join("d/low")).unwrap());
    assert_eq!(links(&f, "d"), 3);
    f.fs.mkdir("d/up").unwrap();
    assert_eq!(links(&f, "d"), 4);
    f.again();
    assert_eq!(links(&f, "d"), 4);
    f.fs.rmdir("d/low").unwrap();
    f.fs.mv("d/up", "up").unwrap();
    assert_eq!((links(&f, "d"), links(&f, "")), (2, 4));
    f.again();
    assert_eq!((links(&f, "d"), links(&f, "")), (2, 4));
}

#[test]
fn s7_1_numbers_do_not_change() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("d/f"), "x").unwrap();
        std::os::unix::fs::symlink("x", lower.join("l")).unwrap();
        let fifo = rustix::fs::FileType::from_raw_mode(FIFO);
        rustix::fs::mknodat(rustix::fs::CWD, lower.join("p"), fifo, 0o644.into(), 0).unwrap();
    });
    f.fs.put("new", "").unwrap();
    let before = ["d", "d/f", "l", "p", "new", ""].map(|path| f.fs.ino(path));
    f.fs.put("d/f", "changed").unwrap();
    // The upper of an ordinary user has no origins of links and pipes: docs/SEMANTICS.md, "As an ordinary user".
    if is_root() {
        f.fs.chown("l", Some(1), None).unwrap();
        f.fs.chown("p", Some(1), None).unwrap();
    }
    // The number of a link that was copied up is kept as long as the mount lives.
    let number = f.fs.ino("l");
    f.fs.set_times("l", NewTime::Exactly((5, 5))).unwrap();
    f.fs.forget();
    assert_eq!(f.fs.ino("l"), number);
    let link = if is_root() { "l2" } else { "l" };
    for (old, new) in [("d/f", "f2"), ("d", "d2"), ("l", link), ("new", "d2/new2")] {
        f.fs.mv(old, new).unwrap();
    }
    for mount in 0..2 {
        let mut after = ["d2", "f2", link, "p", "d2/new2", ""].map(|path| f.fs.ino(path));
        if mount > 0 && !is_root() {
            after[2] = before[2];
        }
        assert_eq!(after, before);
        f.again();
    }
}

/// S7.2 "32-bit programs without large files can stat and list everything while the upper's own numbers leave room for it"
#[test]
fn s7_2_numbers_of_the_upper_are_short() {
    let f = Fixture::new(|lower| fs::write(lower.join("low"), "").unwrap());
    f.fs.put("up", "").unwrap();
    f.fs.mkdir("dir").unwrap();
    for _ in 0..2 {
        for name in ["up", "dir"] {
            let own = f.upper.join(name).metadata().unwrap().ino();
            assert_eq!(f.fs.ino(name), (1 << 20) + own, "{name}");
        }
        let short = |entry: &crate::session::Entry| entry.cookie < 1 << 31;
        assert!(f.fs.entries("").unwrap().iter().all(short));
        f.again();
    }
}
