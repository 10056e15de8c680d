//! S4, S8, S11–S13, S15: copy-up, times, open files, mappings, durability.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::process::Command;
use std::time::Duration;

use super::{Fixture, bytes};

fn writable(path: &std::path::Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
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
