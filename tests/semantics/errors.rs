//! S14: errors and their messages.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::{Errno, Files as _, Fixture, bytes, mark, set_xattr};
use crate::transport;

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
    let digest = layer.digest().to_string();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&digest)).collect();
    for part in [
        String::from("path=/bad "),
        format!("chunk {} at offset {} of layer", extent.chunk, chunk.offset),
        String::from("promised digest"),
    ] {
        let named = lines.iter().all(|line| line.contains(&part));
        assert!(named && !lines.is_empty(), "no line with {part}: {log}");
    }
    // The kernel reads ahead: one call is several requests there.
    if transport::IN_PROCESS {
        assert_eq!(lines.len(), 1, "{log}");
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

/// "A work directory with an overlayfs index (`index=on`) is refused if one of its files has names
/// in the lower that the upper does not have."
#[test]
fn s14_7_an_index_with_names_that_the_upper_lacks_is_refused() {
    let f = Fixture::new(|lower| fs::write(lower.join("a"), "old").unwrap());
    let (upper, work) = (f.room.dir("u2"), f.room.dir("w2"));
    let indexed = work.join("index/00fb");
    fs::create_dir(work.join("index")).unwrap();
    fs::write(&indexed, "new").unwrap();
    let begin = || f.other(&f.layer, Some((&upper, &work)), "wait=0");
    // As overlayfs notes it: one name more than the file of the upper has.
    set_xattr(&indexed, &mark("overlay.nlink"), b"U+1").unwrap();
    let message = begin().err().unwrap();
    assert!(message.contains("index=on"), "{message}");
    set_xattr(&indexed, &mark("overlay.nlink"), b"U-1").unwrap();
    assert_eq!(begin().unwrap().content("a").unwrap(), b"old");
}
