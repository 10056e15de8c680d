//! S1–S3, S5–S7: names, listings, whiteouts, renames, links, numbers.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{
    DirEntryExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use rustix::io::Errno;

use super::{Fixture, xattr};

fn number(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

fn links(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().nlink()
}

fn listed(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn is_whiteout(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn s1_1_the_upper_hides_and_directories_merge() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("d/low"), "low").unwrap();
        fs::write(lower.join("d/both"), "low").unwrap();
    });
    fs::write(f.at("d/high"), "high").unwrap();
    fs::write(f.at("d/both"), "high").unwrap();
    f.mount.again();
    assert_eq!(listed(&f.at("d")), ["both", "high", "low"]);
    assert_eq!(fs::read(f.at("d/both")).unwrap(), b"high");
    f.mount.detach();
    super::set_xattr(&f.upper.join("d"), "trusted.overlay.opaque", b"y").unwrap();
    f.mount.recover();
    assert_eq!(listed(&f.at("d")), ["both", "high"]);
}

#[test]
fn s1_2_long_names() {
    let f = Fixture::new(|_| {});
    let long = "x".repeat(256);
    assert_eq!(
        rustix::fs::stat(f.at(&long)).unwrap_err(),
        Errno::NAMETOOLONG
    );
    assert_eq!(
        rustix::fs::mkdir(f.at(&long), 0o755.into()).unwrap_err(),
        Errno::NAMETOOLONG
    );
    fs::write(f.at(&"x".repeat(255)), "").unwrap();
}

#[test]
fn s1_3_names_are_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\x01 \n");
    let f = Fixture::new(|lower| fs::write(lower.join(odd), "low").unwrap());
    assert_eq!(fs::read(f.mount.at.join(odd)).unwrap(), b"low");
    fs::write(f.mount.at.join(odd), "up").unwrap();
    assert_eq!(fs::read(f.upper.join(odd)).unwrap(), b"up");
}

#[test]
fn s2_1_and_s2_2_a_listing_has_each_name_once_whatever_happens_meanwhile() {
    let f = Fixture::new(|lower| {
        for i in 0..2000 {
            fs::write(lower.join(format!("low{i:04}")), "").unwrap();
        }
    });
    for i in 0..2000 {
        fs::write(f.at(&format!("up{i:04}")), "").unwrap();
    }
    f.mount.again();
    let mut seen = Vec::new();
    for (count, entry) in fs::read_dir(&f.mount.at).unwrap().enumerate() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        match count {
            300 => {
                for i in (0..2000).step_by(10) {
                    fs::write(f.at(&format!("low{i:04}")), "now in the upper").unwrap();
                }
            }
            600 => {
                for i in (1..2000).step_by(10) {
                    fs::remove_file(f.at(&format!("low{i:04}"))).unwrap();
                    fs::remove_file(f.at(&format!("up{i:04}"))).unwrap();
                    fs::write(f.at(&format!("new{i:04}")), "").unwrap();
                }
            }
            _ => {}
        }
        seen.push(name);
    }
    let once: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(once.len(), seen.len(), "a name was listed twice");
    for kept in (0..2000).filter(|i| i % 10 != 1) {
        for prefix in ["low", "up"] {
            assert!(
                once.contains(&format!("{prefix}{kept:04}")),
                "{prefix}{kept:04} is missing"
            );
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
    fs::write(f.at("f"), "y").unwrap();
    fs::write(f.at("new"), "y").unwrap();
    fs::rename(f.at("g"), f.at("d/moved")).unwrap();
    for _ in 0..2 {
        for dir in ["", "d"] {
            for entry in fs::read_dir(f.at(dir)).unwrap() {
                let entry = entry.unwrap();
                assert_eq!(entry.ino(), number(&entry.path()), "{:?}", entry.path());
            }
        }
        f.mount.again();
    }
}

#[test]
fn s3_1_a_removed_name_is_a_whiteout_in_the_upper() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("f"), "x").unwrap();
        fs::create_dir(lower.join("d")).unwrap();
    });
    fs::remove_file(f.at("f")).unwrap();
    fs::remove_dir(f.at("d")).unwrap();
    assert!(is_whiteout(&f.upper.join("f")) && is_whiteout(&f.upper.join("d")));
    f.mount.again();
    assert!(listed(&f.mount.at).is_empty());
    assert_eq!(rustix::fs::stat(f.at("f")).unwrap_err(), Errno::NOENT);
}

#[test]
fn s3_2_a_directory_over_a_whiteout_is_opaque() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("d/f"), "x").unwrap();
    });
    fs::remove_dir_all(f.at("d")).unwrap();
    fs::create_dir(f.at("d")).unwrap();
    assert!(listed(&f.at("d")).is_empty());
    assert_eq!(
        xattr(&f.upper.join("d"), "trusted.overlay.opaque").unwrap(),
        b"y"
    );
    f.mount.again();
    assert!(listed(&f.at("d")).is_empty());
}

#[test]
fn s3_3_a_users_own_device_0_0() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "x").unwrap());
    let make =
        |path| rustix::fs::mknodat(CWD, f.at(path), FileType::CharacterDevice, 0o644.into(), 0);
    make("zero").unwrap();
    fs::remove_file(f.at("f")).unwrap();
    make("f").unwrap();
    for _ in 0..2 {
        assert_eq!(listed(&f.mount.at), ["f", "zero"]);
        for name in ["f", "zero"] {
            let meta = f.at(name).symlink_metadata().unwrap();
            assert!(meta.file_type().is_char_device());
            assert_eq!(meta.rdev(), 0);
            assert!(!is_whiteout(&f.upper.join(name)));
        }
        f.mount.again();
    }
    fs::remove_file(f.at("f")).unwrap();
    assert_eq!(listed(&f.mount.at), ["zero"]);
}

#[test]
fn s5_1_a_lower_directory_is_renamed_without_copying() {
    let f = Fixture::new(|lower| {
        fs::create_dir_all(lower.join("d/e")).unwrap();
        fs::write(lower.join("d/e/f"), super::bytes(100_000)).unwrap();
    });
    fs::rename(f.at("d"), f.at("moved")).unwrap();
    assert!(!f.upper.join("moved/e").exists(), "something was copied");
    assert_eq!(
        xattr(&f.upper.join("moved"), "trusted.overlay.redirect").unwrap(),
        b"/d"
    );
    for _ in 0..2 {
        assert_eq!(fs::read(f.at("moved/e/f")).unwrap(), super::bytes(100_000));
        assert!(!f.at("d").exists());
        f.mount.again();
    }
    fs::rename(f.at("moved/e"), f.at("e")).unwrap();
    fs::remove_dir(f.at("moved")).unwrap();
    f.mount.again();
    assert_eq!(fs::read(f.at("e/f")).unwrap(), super::bytes(100_000));
}

#[test]
fn s5_2_flags_of_renameat2() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("a"), "a").unwrap();
        fs::write(lower.join("b"), "b").unwrap();
        fs::create_dir(lower.join("d")).unwrap();
    });
    let rename = |from: &str, to: &str, flags| {
        rustix::fs::renameat_with(CWD, f.at(from), CWD, f.at(to), flags)
    };
    assert_eq!(
        rename("a", "b", RenameFlags::NOREPLACE).unwrap_err(),
        Errno::EXIST
    );
    rename("a", "d", RenameFlags::EXCHANGE).unwrap();
    assert!(f.at("a").is_dir());
    assert_eq!(fs::read(f.at("d")).unwrap(), b"a");
    rename("b", "c", RenameFlags::WHITEOUT).unwrap();
    assert_eq!(fs::read(f.at("c")).unwrap(), b"b");
    assert_eq!(f.at("b").symlink_metadata().unwrap().rdev(), 0);
    assert!(
        f.at("b")
            .symlink_metadata()
            .unwrap()
            .file_type()
            .is_char_device()
    );
    f.mount.again();
    assert_eq!(listed(&f.mount.at), ["a", "b", "c", "d"]);
}

#[test]
fn s6_1_and_s6_2_hard_links_stay_one_file() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("one"), "old").unwrap();
        fs::hard_link(lower.join("one"), lower.join("d/two")).unwrap();
        fs::hard_link(lower.join("one"), lower.join("three")).unwrap();
    });
    fs::write(f.at("d/two"), "new").unwrap();
    for _ in 0..2 {
        for name in ["one", "d/two", "three"] {
            assert_eq!(fs::read(f.at(name)).unwrap(), b"new");
            assert_eq!(links(&f.at(name)), 3);
            assert_eq!(number(&f.at(name)), number(&f.at("one")));
        }
        f.mount.again();
    }
    fs::remove_file(f.at("one")).unwrap();
    assert_eq!(links(&f.at("d/two")), 2);
    f.mount.again();
    assert_eq!(links(&f.at("three")), 2);
    fs::hard_link(f.at("three"), f.at("four")).unwrap();
    assert_eq!(links(&f.at("d/two")), 3);
}

/// A directory with further names of a file was moved, or removed as overlayfs leaves it (the file
/// was not copied for that). The upper has many directories: none of them becomes a node for it.
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
        fs::create_dir_all(f.at(&format!("many/{i}/x/y"))).unwrap();
    }
    fs::rename(f.at("far"), f.at("many/7/x/y/near")).unwrap();
    f.mount.kill();
    let gone = f.upper.join("gone");
    rustix::fs::mknodat(CWD, &gone, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    f.mount.recover();
    for i in 0..3 {
        let (here, near) = (f.at(&format!("here/{i}")), format!("many/7/x/y/near/{i}"));
        fs::set_permissions(&here, Permissions::from_mode(0o600)).unwrap();
        fs::write(&here, "new").unwrap();
        let meta = f.at(&near).metadata().unwrap();
        assert_eq!(meta.mode() & 0o777, 0o600);
        assert_eq!(meta.ino(), number(&here));
        assert_eq!(fs::read(f.at(&near)).unwrap(), b"new");
        assert_eq!(links(&f.upper.join(&near)), 2);
    }
    let nodes = f.mount.status()["nodes"].as_u64().unwrap();
    assert!(nodes < 50, "{nodes} nodes for a handful of files");
}

#[test]
fn s6_2_unlinking_one_lower_link_counts_across_a_remount() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("one"), "x").unwrap();
        fs::hard_link(lower.join("one"), lower.join("two")).unwrap();
    });
    let open = fs::File::open(f.at("one")).unwrap();
    fs::remove_file(f.at("one")).unwrap();
    assert_eq!(links(&f.at("two")), 1);
    assert_eq!(open.metadata().unwrap().nlink(), 1);
    fs::remove_file(f.at("two")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
}

#[test]
fn s6_3_links_of_directories() {
    let f = Fixture::new(|lower| fs::create_dir_all(lower.join("d/low")).unwrap());
    assert_eq!(links(&f.at("d")), 3);
    fs::create_dir(f.at("d/up")).unwrap();
    assert_eq!(links(&f.at("d")), 4);
    f.mount.again();
    assert_eq!(links(&f.at("d")), 4);
    fs::remove_dir(f.at("d/low")).unwrap();
    fs::rename(f.at("d/up"), f.at("up")).unwrap();
    assert_eq!((links(&f.at("d")), links(&f.at(""))), (2, 4));
    f.mount.again();
    assert_eq!((links(&f.at("d")), links(&f.at(""))), (2, 4));
}

#[test]
fn s7_1_numbers_do_not_change() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("d/f"), "x").unwrap();
        std::os::unix::fs::symlink("x", lower.join("l")).unwrap();
        rustix::fs::mknodat(CWD, lower.join("p"), FileType::Fifo, 0o644.into(), 0).unwrap();
    });
    fs::write(f.at("new"), "").unwrap();
    let before: Vec<u64> = ["d", "d/f", "l", "p", "new", ""]
        .map(|p| number(&f.at(p)))
        .to_vec();
    fs::write(f.at("d/f"), "changed").unwrap();
    std::os::unix::fs::lchown(f.at("l"), Some(1), None).unwrap();
    std::os::unix::fs::lchown(f.at("p"), Some(1), None).unwrap();
    for (old, new) in [("d/f", "f2"), ("d", "d2"), ("l", "l2"), ("new", "d2/new2")] {
        fs::rename(f.at(old), f.at(new)).unwrap();
    }
    for _ in 0..2 {
        let after: Vec<u64> = ["d2", "f2", "l2", "p", "d2/new2", ""]
            .map(|p| number(&f.at(p)))
            .to_vec();
        assert_eq!(after, before);
        f.mount.again();
    }
}
