//! S14: what goes wrong, and how it is said.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::{Errno, Files as _, Fixture, bytes};

#[test]
fn s14_1_a_damaged_chunk_is_eio_with_a_log_line() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("good"), bytes(3 << 20)).unwrap();
        let other: Vec<u8> = bytes(5 << 20).iter().map(|b| b ^ 0x5a).collect();
        fs::write(lower.join("bad"), other).unwrap();
    });
    f.fs.detach();
    let layer = layerfmt::Layer::open(&f.layer).unwrap();
    let index = layer.index();
    let row = match index.lookup(layerfmt::ROOT, b"bad").unwrap().child {
        layerfmt::DirentTarget::Inode(row) => row,
        layerfmt::DirentTarget::Whiteout => panic!("a whiteout"),
    };
    let extent = index.extents(row, 0..u64::MAX).nth(2).unwrap();
    let chunk = index.chunk(extent.chunk).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&f.layer).unwrap();
    file.write_all_at(b"damage", chunk.offset + 5).unwrap();
    f.fs.attach();
    assert_eq!(f.fs.content("good").unwrap(), bytes(3 << 20));
    let bad = f.fs.open_read("bad").unwrap();
    let error = bad.read(extent.file_offset + 1, 10).unwrap_err();
    assert_eq!(error, Errno::IO);
    let log = f.fs.log();
    for part in [
        layer.digest().to_string(),
        format!("offset={}", chunk.offset),
        "chunk=".to_owned(),
    ] {
        assert!(log.contains(&part), "the log does not name {part}: {log}");
    }
}

#[test]
fn s14_3_without_an_upper_changes_are_erofs() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "x").unwrap());
    let bare = f.other(&f.layer, None, "").unwrap();
    assert_eq!(bare.put("f", "y"), Err(Errno::ROFS));
    assert_eq!(bare.mkdir("d"), Err(Errno::ROFS));
    assert_eq!(bare.mv("f", "g"), Err(Errno::ROFS));
    assert_eq!(bare.chmod("f", 0o600), Err(Errno::ROFS));
    assert_eq!(bare.unlink("f"), Err(Errno::ROFS));
    assert_eq!(
        bare.put_xattr("f", super::attribute(), b"1"),
        Err(Errno::ROFS)
    );
    assert_eq!(bare.content("f").unwrap(), b"x");
}

#[test]
fn s14_6_a_work_directory_in_use_is_refused_with_its_holder() {
    let f = Fixture::new(|_| {});
    let other = f.other(&f.layer, Some((&f.upper, &f.work)), "wait=0");
    let message = other.err().unwrap();
    let holder = f.fs.status()["pid"].to_string();
    assert!(message.contains(&holder), "{message}");
    assert!(message.contains("another mount namespace"), "{message}");
}
