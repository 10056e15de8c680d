//! S4, S8, S11, S13, S15: copy-up, times, open files, durability.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::{Duration, UNIX_EPOCH};

use super::{Files as _, Fixture, bytes, mark, set_xattr};
use crate::session::{FallocateFlags, NewTime, is_root};

const METACOPY: &str = "overlay.metacopy";

#[test]
fn s4_1_metadata_changes_copy_no_data() {
    let f = Fixture::new(|lower| {
        for i in 0..6 {
            fs::write(lower.join(format!("f{i}")), bytes(1 << 20)).unwrap();
        }
    });
    let owner = if is_root() {
        (5, 6)
    } else {
        let lower = f.fs.about("f1").unwrap();
        (lower.uid, lower.gid)
    };
    f.fs.chmod("f0", 0o600).unwrap();
    f.fs.chown("f1", Some(owner.0), Some(owner.1)).unwrap();
    f.fs.set_times("f2", NewTime::Exactly((77, 5))).unwrap();
    f.fs.put_xattr("f3", super::attribute(), b"v").unwrap();
    f.fs.hard_link("f4", "f4b").unwrap();
    f.fs.mv("f5", "f5b").unwrap();
    for _ in 0..2 {
        for name in ["f0", "f1", "f2", "f3", "f4", "f4b", "f5b"] {
            assert!(
                f.marked(name, METACOPY).is_some(),
                "{name} has its data in the upper"
            );
            // An attribute block is no data.
            let blocks = f.upper.join(name).metadata().unwrap().blocks();
            assert!(blocks <= 8, "{name}: {blocks}");
            assert_eq!(f.fs.content(name).unwrap(), bytes(1 << 20), "{name}");
        }
        f.again();
    }
    assert_eq!(f.fs.mode("f0"), 0o600);
    assert_eq!(f.fs.about("f1").unwrap().uid, owner.0);
    assert_eq!(f.fs.about("f2").unwrap().mtime, (77, 5));
}

#[test]
fn s4_2_the_first_write_copies_truncation_to_nothing_does_not() {
    let f = Fixture::new(|lower| {
        for name in ["w", "t", "half", "fall"] {
            fs::write(lower.join(name), bytes(300_000)).unwrap();
        }
    });
    f.fs.open_both("w").unwrap().write(150_000, b"XY").unwrap();
    let mut expected = bytes(300_000);
    expected[150_000..150_002].copy_from_slice(b"XY");
    assert!(f.marked("w", METACOPY).is_none());
    let fall = f.fs.open_both("fall").unwrap();
    fall.allocate(400_000).unwrap();
    assert!(f.marked("fall", METACOPY).is_none());
    assert_eq!(fall.stat().unwrap().size, 400_000);
    f.fs.open_both("half").unwrap().set_len(1000).unwrap();
    f.fs.truncate("half", 2000).unwrap();
    let reads = || f.fs.status()["chunks"]["stored_len"].as_u64().unwrap();
    let before = reads();
    f.fs.put("t", "short").unwrap();
    let copied = reads() > before;
    assert!(
        !copied || f.fs.status()["mode"] == "passthrough",
        "truncating to nothing read the lower file"
    );
    drop(fall);
    for _ in 0..2 {
        assert_eq!(f.fs.content("w").unwrap(), expected);
        assert_eq!(f.fs.content("t").unwrap(), b"short");
        assert_eq!(f.fs.content("fall").unwrap()[..300_000], bytes(300_000));
        let half = f.fs.content("half").unwrap();
        assert_eq!(
            (&half[..1000], &half[1000..]),
            (&bytes(1000)[..], &[0; 1000][..])
        );
        f.again();
    }
}

/// S4.3 "nothing is left in the work directory once it is mounted again"
/// "After a copy that `kill -9` interrupts, the file has its previous times and capabilities, and
/// any that were set meanwhile."
#[test]
fn s4_8_an_interrupted_copy_changes_no_time() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), bytes(300_000)).unwrap());
    let set = (1_000_000_007, 123_456_789);
    f.fs.set_times("f", NewTime::Exactly(set)).unwrap();
    f.fs.detach();
    // As the end in the middle of a copy leaves it: some of the data, with its time, and the note.
    let copy = f.upper.join("f");
    let file = File::options().write(true).open(&copy).unwrap();
    file.write_all_at(&bytes(100_000), 0).unwrap();
    let mut note = vec![1];
    note.extend_from_slice(&i64::to_le_bytes(set.0));
    note.extend_from_slice(&u32::to_le_bytes(set.1));
    note.push(0);
    set_xattr(&copy, &mark("layerfs.copying"), &note).unwrap();
    assert_ne!(copy.metadata().unwrap().mtime(), set.0);
    f.fs.attach();
    assert_eq!(f.fs.about("f").unwrap().mtime, set);
    assert_eq!(copy.metadata().unwrap().mtime(), set.0);
    assert_eq!(f.marked("f", "layerfs.copying"), None);
    assert_eq!(f.fs.content("f").unwrap(), bytes(300_000));
    f.fs.append("f", "more").unwrap();
    assert_eq!(f.fs.about("f").unwrap().size, 300_004);
}

#[test]
fn s4_3_leftovers_of_a_crash_go_when_the_upper_is_used_again() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), bytes(9000)).unwrap());
    f.fs.put("f", "changed").unwrap();
    f.fs.detach();
    let work = f.work.join("work");
    fs::write(work.join("0"), "staged when the power went").unwrap();
    fs::create_dir_all(work.join("1/of/a/directory")).unwrap();
    f.fs.attach();
    assert_eq!(f.leftovers(), 0);
    assert_eq!(f.fs.content("f").unwrap(), b"changed");
    for i in 0..20 {
        f.fs.put(format!("new{i}"), "").unwrap();
        f.fs.mv(format!("new{i}"), "f").unwrap();
    }
    assert_eq!(f.leftovers(), 0);
}

#[test]
fn s4_4_open_files_see_later_writes() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), bytes(8192)).unwrap());
    let reader = f.fs.open_read("f").unwrap();
    reader.read(100, 1).unwrap();
    f.fs.open_both("f").unwrap().write(100, b"!").unwrap();
    assert_eq!(reader.read(100, 1).unwrap(), b"!");
}

#[test]
fn s4_5_parents_keep_their_times() {
    let f = Fixture::new(|lower| {
        fs::create_dir_all(lower.join("a/b")).unwrap();
        fs::write(lower.join("a/b/f"), "x").unwrap();
        for dir in ["a/b", "a"] {
            File::open(lower.join(dir))
                .unwrap()
                .set_modified(UNIX_EPOCH + Duration::from_secs(99))
                .unwrap();
        }
    });
    f.fs.chmod("a/b/f", 0o600).unwrap();
    for dir in ["a", "a/b"] {
        assert_eq!(f.fs.about(dir).unwrap().mtime.0, 99, "{dir}");
        assert_eq!(f.upper.join(dir).metadata().unwrap().mtime(), 99, "{dir}");
    }
}

#[test]
fn s4_6_holes_stay_holes() {
    let f = Fixture::new(|lower| {
        let file = File::create(lower.join("sparse")).unwrap();
        file.write_all_at(&bytes(4096), 8 << 20).unwrap();
    });
    assert!(f.fs.about("sparse").unwrap().blocks < 100);
    let file = f.fs.open_both("sparse").unwrap();
    assert_eq!(file.seek(0, false).unwrap(), 8 << 20);
    file.write(0, b"x").unwrap();
    assert!(f.upper.join("sparse").metadata().unwrap().blocks() < 100);
    assert!(file.seek(0, true).unwrap() < 1 << 20);
    file.punch(0, 4096).unwrap();
    let read = f.fs.content("sparse").unwrap();
    assert_eq!((read.len(), read[0]), ((8 << 20) + 4096, 0));
    assert_eq!(read[8 << 20..], bytes(4096));
}

#[test]
fn s4_10_bytes_and_length_are_the_lowers_until_they_are_copied() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("short"), bytes(9000)).unwrap();
        fs::write(lower.join("long"), bytes(9000)).unwrap();
    });
    for name in ["short", "long"] {
        f.fs.chmod(name, 0o600).unwrap();
    }
    f.fs.detach();
    // The next revision of the stack.
    let lower = f.room.dir("lower2");
    fs::write(lower.join("short"), "short").unwrap();
    fs::write(lower.join("long"), bytes(20_000)).unwrap();
    let layer = f.room.path("next.layer");
    crate::transport::bake(&lower, &layer);
    let next = f.other(&layer, Some((&f.upper, &f.work)), "").unwrap();
    for (name, content) in [("short", b"short".to_vec()), ("long", bytes(20_000))] {
        let about = next.about(name).unwrap();
        assert_eq!(about.size, content.len() as u64, "{name}");
        assert_eq!(about.mode & 0o7777, 0o600, "{name}");
        assert_eq!(next.content(name).unwrap(), content, "{name}");
        next.append(name, b" and more").unwrap();
    }
    next.detach();
    next.attach();
    assert_eq!(next.content("short").unwrap(), b"short and more");
    let expected = [&bytes(20_000)[..], b" and more"].concat();
    assert_eq!(next.content("long").unwrap(), expected);
}

#[test]
fn s8_1_and_s8_2_times() {
    let f = Fixture::new(|lower| {
        let file = File::create(lower.join("f")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789))
            .unwrap();
        File::create(lower.join("old"))
            .unwrap()
            .set_modified(UNIX_EPOCH - Duration::from_secs(86_400 * 365))
            .unwrap();
    });
    let about = f.fs.about("f").unwrap();
    assert_eq!(about.mtime, (1_000_000_000, 123_456_789));
    assert_eq!((about.atime, about.ctime), (about.mtime, about.mtime));
    let old = (-86_400 * 365, 0);
    assert_eq!(f.fs.about("old").unwrap().mtime, old);
    f.fs.put_xattr("old", super::attribute(), b"1").unwrap();
    assert_eq!(f.fs.about("old").unwrap().mtime, old);
    f.fs.set_times("f", NewTime::Exactly((-7, 999_999_999)))
        .unwrap();
    f.again();
    assert_eq!(f.fs.about("f").unwrap().mtime, (-7, 999_999_999));
}

#[test]
fn s11_1_unlinked_open_files_work() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("read"), "lower").unwrap();
        fs::write(lower.join("write"), "lower").unwrap();
    });
    f.fs.put("up", "upper").unwrap();
    for (name, content) in [("read", "lower"), ("write", "lower"), ("up", "upper")] {
        let file = f.fs.open_both(name).unwrap();
        f.fs.unlink(name).unwrap();
        assert_eq!(file.read(0, 5).unwrap(), content.as_bytes());
        assert_eq!(file.stat().unwrap().nlink, 0);
        if name != "read" {
            file.write(5, b"!").unwrap();
            assert_eq!(file.read(0, 6).unwrap(), format!("{content}!").as_bytes());
            assert_eq!(file.stat().unwrap().size, 6);
        }
    }
}

#[test]
fn s13_1_synced_data_is_in_the_upper() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "x").unwrap());
    let file = f.fs.open_both("f").unwrap();
    file.write(0, b"synced").unwrap();
    file.sync().unwrap();
    assert_eq!(fs::read(f.upper.join("f")).unwrap(), b"synced");
    f.fs.open_read("").unwrap().sync().unwrap();
    // As long as a descriptor is there, also of an object without a name.
    f.fs.unlink("f").unwrap();
    file.sync().unwrap();
}

#[test]
fn s15_1_statfs_is_the_uppers() {
    let f = Fixture::new(|_| {});
    let (ours, theirs) = (
        f.fs.space().unwrap(),
        rustix::fs::statvfs(&f.upper).unwrap(),
    );
    assert_eq!(
        (ours.blocks, u64::from(ours.block_len)),
        (theirs.f_blocks, theirs.f_bsize)
    );
    let bare = f.other(&f.layer, None, "").unwrap();
    assert_eq!(
        (bare.space().unwrap().blocks, bare.space().unwrap().files),
        (0, 1)
    );
}

/// S4.2 "The first write, truncate or fallocate copies the data", and copy_file_range reads either side.
#[test]
fn s4_2_ranges_are_copied_between_lower_and_upper() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("one"), bytes(50_000)).unwrap();
        fs::write(lower.join("two"), bytes(10_000)).unwrap();
    });
    f.fs.put("three", "upper").unwrap();
    // A passthrough mount copies a file up when it is opened for writing.
    let one = f.fs.open_read("one").unwrap();
    let [two, three] = ["two", "three"].map(|name| f.fs.open_both(name).unwrap());
    let done =
        f.fs.copy((one.handle(), 1000), (two.handle(), 5), 20_000)
            .unwrap();
    let part = two.read(5, done).unwrap();
    assert!(done > 0 && part == bytes(50_000)[1000..1000 + done]);
    assert!(f.marked("one", METACOPY).is_none() && !f.upper.join("one").exists());
    let one = f.fs.open_both("one").unwrap();
    let done =
        f.fs.copy((three.handle(), 0), (one.handle(), 0), 5)
            .unwrap();
    assert_eq!((done, one.read(0, 5).unwrap()), (5, b"upper".to_vec()));
    let keep = FallocateFlags::KEEP_SIZE;
    f.fs.allocate(two.handle(), keep, 0..100_000).unwrap();
    assert!(two.stat().unwrap().size < 100_000);
}
