//! S4, S8, S11–S13, S15: copy-up, times, open files, mappings, durability.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use super::{Fixture, bytes, set_xattr, xattr};

const METACOPY: &str = "trusted.overlay.metacopy";

fn writable(path: &std::path::Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

#[test]
fn s4_1_metadata_changes_copy_no_data() {
    let f = Fixture::new(|lower| {
        for i in 0..6 {
            fs::write(lower.join(format!("f{i}")), bytes(1 << 20)).unwrap();
        }
    });
    fs::set_permissions(f.at("f0"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(f.at("f1"), Some(5), Some(6)).unwrap();
    File::open(f.at("f2"))
        .unwrap()
        .set_modified(UNIX_EPOCH + Duration::from_secs(77))
        .unwrap();
    set_xattr(&f.at("f3"), "trusted.x", b"v").unwrap();
    fs::hard_link(f.at("f4"), f.at("f4b")).unwrap();
    fs::rename(f.at("f5"), f.at("f5b")).unwrap();
    for _ in 0..2 {
        for name in ["f0", "f1", "f2", "f3", "f4", "f4b", "f5b"] {
            let upper = f.upper.join(name);
            assert!(
                xattr(&upper, METACOPY).is_some(),
                "{name} has its data in the upper"
            );
            assert_eq!(upper.metadata().unwrap().blocks(), 0, "{name}");
            assert_eq!(fs::read(f.at(name)).unwrap(), bytes(1 << 20), "{name}");
        }
        f.mount.again();
    }
    assert_eq!(f.at("f0").metadata().unwrap().mode() & 0o7777, 0o600);
    assert_eq!(f.at("f1").metadata().unwrap().uid(), 5);
    assert_eq!(f.at("f2").metadata().unwrap().mtime(), 77);
}

#[test]
fn s4_2_the_first_write_copies_truncation_to_nothing_does_not() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("w"), bytes(300_000)).unwrap();
        fs::write(lower.join("t"), bytes(300_000)).unwrap();
        fs::write(lower.join("half"), bytes(300_000)).unwrap();
    });
    writable(&f.at("w")).write_all_at(b"XY", 150_000).unwrap();
    let mut expected = bytes(300_000);
    expected[150_000..150_002].copy_from_slice(b"XY");
    assert!(xattr(&f.upper.join("w"), METACOPY).is_none());
    writable(&f.at("half")).set_len(1000).unwrap();
    writable(&f.at("half")).set_len(2000).unwrap();
    let reads = || f.mount.status()["chunks"]["stored_len"].as_u64().unwrap();
    let before = reads();
    fs::write(f.at("t"), "short").unwrap();
    let copied = reads() > before;
    assert!(
        !copied || f.mount.status()["mode"] == "passthrough",
        "truncating to nothing read the lower file"
    );
    for _ in 0..2 {
        assert_eq!(fs::read(f.at("w")).unwrap(), expected);
        assert_eq!(fs::read(f.at("t")).unwrap(), b"short");
        let half = fs::read(f.at("half")).unwrap();
        assert_eq!(
            (&half[..1000], &half[1000..]),
            (&bytes(1000)[..], &[0; 1000][..])
        );
        f.mount.again();
    }
}

#[test]
fn s4_4_open_files_and_mappings_see_later_writes() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), bytes(8192)).unwrap());
    let reader = File::open(f.at("f")).unwrap();
    let mut byte = [0];
    reader.read_exact_at(&mut byte, 100).unwrap();
    writable(&f.at("f")).write_all_at(b"!", 100).unwrap();
    reader.read_exact_at(&mut byte, 100).unwrap();
    assert_eq!(&byte, b"!");
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
    fs::set_permissions(f.at("a/b/f"), fs::Permissions::from_mode(0o600)).unwrap();
    for dir in ["a", "a/b"] {
        assert_eq!(f.at(dir).metadata().unwrap().mtime(), 99, "{dir}");
        assert_eq!(f.upper.join(dir).metadata().unwrap().mtime(), 99, "{dir}");
    }
}

#[test]
fn s4_6_holes_stay_holes() {
    let f = Fixture::new(|lower| {
        let file = File::create(lower.join("sparse")).unwrap();
        file.write_all_at(&bytes(4096), 8 << 20).unwrap();
    });
    assert!(f.at("sparse").metadata().unwrap().blocks() < 100);
    let mut file = File::open(f.at("sparse")).unwrap();
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert_eq!(data, 8 << 20);
    file.rewind().unwrap();
    writable(&f.at("sparse")).write_all_at(b"x", 0).unwrap();
    assert!(f.upper.join("sparse").metadata().unwrap().blocks() < 100);
    let read = fs::read(f.at("sparse")).unwrap();
    assert_eq!((read.len(), read[0]), ((8 << 20) + 4096, b'x'));
    assert_eq!(read[8 << 20..], bytes(4096));
}

#[test]
fn s8_1_and_s8_2_times() {
    let old = UNIX_EPOCH - Duration::from_secs(86_400 * 365);
    let f = Fixture::new(|lower| {
        let file = File::create(lower.join("f")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789))
            .unwrap();
        File::create(lower.join("old"))
            .unwrap()
            .set_modified(old)
            .unwrap();
    });
    let meta = f.at("f").metadata().unwrap();
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec()),
        (1_000_000_000, 123_456_789)
    );
    assert_eq!((meta.atime(), meta.ctime()), (meta.mtime(), meta.mtime()));
    assert_eq!(f.at("old").metadata().unwrap().modified().unwrap(), old);
    set_xattr(&f.at("old"), "trusted.x", b"1").unwrap();
    assert_eq!(f.at("old").metadata().unwrap().modified().unwrap(), old);
}

#[test]
fn s11_1_unlinked_open_files_work() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("read"), "lower").unwrap();
        fs::write(lower.join("write"), "lower").unwrap();
    });
    fs::write(f.at("up"), "upper").unwrap();
    for (name, content) in [("read", "lower"), ("write", "lower"), ("up", "upper")] {
        let file = writable(&f.at(name));
        fs::remove_file(f.at(name)).unwrap();
        let mut have = vec![0; 5];
        file.read_exact_at(&mut have, 0).unwrap();
        assert_eq!(have, content.as_bytes());
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        if name != "read" {
            file.write_all_at(b"!", 5).unwrap();
            have.push(0);
            file.read_exact_at(&mut have, 0).unwrap();
            assert_eq!(have, format!("{content}!").as_bytes());
            assert_eq!(file.metadata().unwrap().len(), 6);
        }
    }
}

#[test]
fn s11_2_locks() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "x").unwrap());
    let (one, two) = (writable(&f.at("f")), writable(&f.at("f")));
    one.lock().unwrap();
    assert!(two.try_lock().is_err());
    one.unlock().unwrap();
    two.try_lock().unwrap();
}

#[test]
fn s12_1_programs_run_and_are_busy() {
    let f = Fixture::new(|lower| assert!(fs::copy("/bin/sleep", lower.join("sleep")).unwrap() > 0));
    let mut child = Command::new(f.at("sleep")).arg("5").spawn().unwrap();
    let refused = OpenOptions::new()
        .write(true)
        .open(f.at("sleep"))
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ExecutableFileBusy);
    child.kill().unwrap();
    child.wait().unwrap();
    let status = Command::new(f.at("sleep")).arg("0").status().unwrap();
    assert!(status.success());
}

#[test]
fn s13_1_fsync_reaches_the_upper() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "x").unwrap());
    let before = requests(&f, "fsync");
    let mut file = File::create(f.at("new")).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    File::open(f.at("")).unwrap().sync_all().unwrap();
    // A request is counted just after its answer.
    let counted = (0..100).find(|_| {
        std::thread::sleep(Duration::from_millis(10));
        requests(&f, "fsync") - before == 3
    });
    assert!(
        counted.is_some(),
        "{} requests",
        requests(&f, "fsync") - before
    );
}

fn requests(f: &Fixture, name: &str) -> u64 {
    f.mount.status()["requests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|request| request["name"] == name)
        .map_or(0, |request| request["count"].as_u64().unwrap())
}

#[test]
fn s15_1_statfs_is_the_uppers() {
    let f = Fixture::new(|_| {});
    let (ours, theirs) = (
        rustix::fs::statvfs(f.at("")).unwrap(),
        rustix::fs::statvfs(&f.upper).unwrap(),
    );
    assert_eq!(
        (ours.f_blocks, ours.f_bsize),
        (theirs.f_blocks, theirs.f_bsize)
    );
}

/// docs/ARCHITECTURE.md: "A decoded chunk is evicted once all of its bytes have been returned to the kernel".
#[test]
fn a_chunk_that_was_read_to_its_end_is_kept_no_longer() {
    const PIECE: usize = 4096;
    let f = Fixture::new(|lower| fs::write(lower.join("f"), bytes(40 * PIECE)).unwrap());
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(f.at("f"))
        .unwrap();
    let chunks = |key: &str| f.mount.status()["chunks"][key].as_u64().unwrap();
    for number in 0..40 {
        let mut piece = [0; PIECE];
        file.read_exact_at(&mut piece, (number * PIECE) as u64)
            .unwrap();
        assert_eq!(piece, bytes(40 * PIECE)[number * PIECE..][..PIECE]);
        assert_eq!(chunks("held_len") > 0, number < 39, "after piece {number}");
        assert_eq!(chunks("decoded"), 1, "after piece {number}");
    }
}

#[test]
fn s4_10_bytes_and_length_are_the_lowers_until_they_are_copied() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("short"), bytes(9000)).unwrap();
        fs::write(lower.join("long"), bytes(9000)).unwrap();
    });
    for name in ["short", "long"] {
        fs::set_permissions(f.at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    f.mount.detach();
    // The next revision of the stack.
    let lower = f.bench.dir("lower2");
    fs::write(lower.join("short"), "short").unwrap();
    fs::write(lower.join("long"), bytes(20_000)).unwrap();
    let (layer, at) = (f.bench.path("next.layer"), f.bench.dir("m2"));
    crate::harness::programs::bake(&lower, &layer);
    let mount = crate::harness::mount::Mount::layerfs(&at, &[&layer], Some((&f.upper, &f.work)));
    for (name, content) in [("short", b"short".to_vec()), ("long", bytes(20_000))] {
        let metadata = at.join(name).metadata().unwrap();
        assert_eq!(metadata.len(), content.len() as u64, "{name}");
        assert_eq!(metadata.mode() & 0o7777, 0o600, "{name}");
        assert_eq!(fs::read(at.join(name)).unwrap(), content, "{name}");
        let mut file = OpenOptions::new().append(true).open(at.join(name)).unwrap();
        file.write_all(b" and more").unwrap();
    }
    mount.again();
    assert_eq!(fs::read(at.join("short")).unwrap(), b"short and more");
    let expected = [&bytes(20_000)[..], b" and more"].concat();
    assert_eq!(fs::read(at.join("long")).unwrap(), expected);
}
