//! S4.5, S8.4: the attributes of directories while something in them is copied up, and of the upper while it is only used.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Attr, Files as _, Fixture, MODES, Object, bytes};
use crate::session::{Attached, NewTime, Protection, Result};

/// Copies the file up and changes no directory.
type InPlace = fn(&dyn Attached, &str) -> Result<()>;

const IN_PLACE: [(&str, InPlace); 9] = [
    ("utimes", |fs, path| fs.set_times(path, NewTime::Now)),
    ("chmod", |fs, path| fs.chmod(path, 0o600)),
    ("chown", |fs, path| {
        let about = fs.about(path)?;
        fs.chown(path, Some(about.uid), Some(about.gid))
    }),
    ("setxattr", |fs, path| {
        fs.put_xattr(path, super::attribute(), b"1")
    }),
    ("append", |fs, path| fs.append(path, "more")),
    ("replace", |fs, path| fs.put(path, "new")),
    ("truncate", |fs, path| fs.truncate(path, 100)),
    ("fallocate", |fs, path| fs.open_both(path)?.allocate(9000)),
    ("protect", |fs, path| {
        let protection = Protection {
            append_only: true,
            immutable: false,
        };
        fs.protect(Path::new(path), protection)?;
        fs.protect(Path::new(path), Protection::default())
    }),
];

fn all(fs: &dyn Attached, paths: &[&str]) -> Vec<Attr> {
    let stat = |path: &&str| fs.stat(Object::Name(Path::new(path))).unwrap();
    paths.iter().map(stat).collect()
}

#[test]
fn s4_5_a_copy_up_changes_nothing_of_the_directories_above() {
    for options in MODES {
        let f = Fixture::with(
            |lower| {
                let deep = lower.join("a/b/c");
                fs::create_dir_all(&deep).unwrap();
                for at in 0..IN_PLACE.len() {
                    fs::write(deep.join(format!("f{at}")), bytes(300)).unwrap();
                }
                fs::write(deep.join("one"), "linked").unwrap();
                fs::hard_link(deep.join("one"), lower.join("a/two")).unwrap();
            },
            options,
        );
        f.fs.put("a/b/c/new", "a change of c, and of it alone")
            .unwrap();
        let above = ["", "a", "a/b", "a/b/c"];
        let before = all(&*f.fs, &above);
        for (at, (name, change)) in IN_PLACE.iter().enumerate() {
            change(&*f.fs, &format!("a/b/c/f{at}")).unwrap();
            assert_eq!(all(&*f.fs, &above), before, "{name} {options}");
            f.fs.forget();
            assert_eq!(all(&*f.fs, &above), before, "{name} {options}, asked again");
        }
        f.fs.chmod("a/b/c/one", 0o600).unwrap();
        f.fs.forget();
        assert_eq!(all(&*f.fs, &above), before, "a hard link {options}");
        f.again();
        assert_eq!(all(&*f.fs, &above), before, "after a remount {options}");
        // What really changes a directory is seen.
        f.fs.chmod("a/b", 0o700).unwrap();
        f.fs.put("a/new", "").unwrap();
        f.fs.put_xattr("a", super::attribute(), b"1").unwrap();
        let now = all(&*f.fs, &above);
        let changed: Vec<bool> = now
            .iter()
            .zip(&before)
            .map(|(now, before)| now.ctime > before.ctime)
            .collect();
        assert_eq!(changed, [false, true, true, false], "{options}");
        f.again();
        assert_ne!(all(&*f.fs, &above)[1..3], before[1..3]);
    }
}

#[test]
fn s4_5_opening_for_writing_changes_no_time() {
    for options in MODES {
        let f = Fixture::with(
            |lower| fs::write(lower.join("f"), bytes(10_000)).unwrap(),
            options,
        );
        let times = || {
            let about = f.fs.about("f").unwrap();
            (about.atime, about.mtime, about.ctime)
        };
        let before = times();
        drop(f.fs.open_both("f").unwrap());
        assert_eq!(times(), before, "{options}");
        f.again();
        assert_eq!(times(), before, "{options}");
        f.fs.open_both("f").unwrap().write(0, b"x").unwrap();
        let (_, mtime, ctime) = times();
        assert!(ctime >= mtime && ctime > before.2);
    }
}

#[test]
fn s8_4_a_mount_changes_no_attribute() {
    let f = Fixture::with(
        |lower| {
            fs::create_dir(lower.join("d")).unwrap();
            fs::write(lower.join("d/f"), "x").unwrap();
        },
        "noatime",
    );
    f.fs.append("d/f", "more").unwrap();
    f.fs.mkdir("new").unwrap();
    f.fs.put("new/f", "x").unwrap();
    let paths = ["", "d", "d/f", "new", "new/f"];
    let kept = || {
        ["", "d", "new", "new/f"].map(|path| {
            let about = f.upper.join(path).symlink_metadata().unwrap();
            (
                about.mode(),
                about.mtime(),
                about.mtime_nsec(),
                about.ctime(),
                about.ctime_nsec(),
            )
        })
    };
    // Who looks changes the times of access; `noatime` keeps them in a mount of root's.
    let shown = || {
        let mut shown = all(&*f.fs, &paths);
        shown.iter_mut().for_each(|about| about.atime = (0, 0));
        shown
    };
    let (first, before) = (shown(), kept());
    for _ in 0..2 {
        f.again();
        assert_eq!(shown(), first);
        for dir in ["", "d", "new"] {
            f.fs.names(dir);
        }
        assert_eq!(kept(), before);
    }
}
