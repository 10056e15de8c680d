//! S14: errors and their messages.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::{Duration, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::{Fixture, bytes, set_xattr, xattr};
use crate::harness::mount::{Bench, Mount};
use crate::harness::programs::{bake, run};

#[test]
fn s14_2_a_full_upper_is_enospc_and_harms_nothing() {
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let f = Fixture::new(|lower| {
        fs::write(lower.join("f"), bytes(6 << 20)).unwrap();
        set_xattr(&lower.join("f"), "security.capability", &capability).unwrap();
        let file = fs::File::options().write(true).open(lower.join("f"));
        let old = UNIX_EPOCH + Duration::from_secs(99);
        file.unwrap().set_modified(old).unwrap();
    });
    f.mount.detach();
    let small = f.bench.dir("small");
    rustix::mount::mount("small", &small, "tmpfs", MountFlags::empty(), c"size=2m").unwrap();
    let (upper, work) = (small.join("u"), small.join("w"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let at = f.bench.dir("m2");
    {
        // With passthrough the data is copied at open: there is no write, and the capabilities
        // must stay.
        let options = format!(
            "lowerdir={},upperdir={},workdir={},passthrough",
            f.layer.display(),
            upper.display(),
            work.display()
        );
        let mount = Mount::with_options(&at, options);
        let opened = fs::OpenOptions::new().write(true).open(at.join("f"));
        let error = opened
            .and_then(|file| file.write_all_at(b"x", 0))
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
        assert_eq!(fs::read(at.join("f")).unwrap(), bytes(6 << 20));
        fs::write(at.join("small"), "still works").unwrap();
        mount.again();
        assert_eq!(fs::read(at.join("f")).unwrap(), bytes(6 << 20));
        assert_eq!(at.join("f").metadata().unwrap().mtime(), 99);
        assert_eq!(
            xattr(&at.join("f"), "security.capability").unwrap(),
            capability
        );
        assert_eq!(fs::read(at.join("small")).unwrap(), b"still works");
    }
    let _ = rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH);
}

/// The kernel reports only afterwards that nobody has the removed file open: the next request finds
/// its space.
#[test]
fn s14_2_what_is_removed_leaves_its_room_at_once() {
    // The kernel writes by itself then: deviation m.
    if std::env::var("LAYERFS_TEST_OPTIONS").is_ok_and(|more| more.contains("passthrough")) {
        return;
    }
    let bench = Bench::new();
    let small = bench.dir("small");
    rustix::mount::mount("small", &small, "tmpfs", MountFlags::empty(), c"size=96m").unwrap();
    {
        let (lower, upper, work) = (bench.dir("lower"), small.join("u"), small.join("w"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let layer = bench.path("base.layer");
        bake(&lower, &layer);
        let at = bench.dir("m");
        let mount = Mount::layerfs(&at, &[&layer], Some((&upper, &work)));
        let block = vec![b'x'; 1 << 20];
        for round in 0..20 {
            let filled = fs::File::create(at.join("fill")).unwrap();
            let error = (0..).find_map(|i| filled.write_all_at(&block, i << 20).err());
            assert_eq!(error.unwrap().kind(), std::io::ErrorKind::StorageFull);
            drop(filled);
            fs::remove_file(at.join("fill")).unwrap();
            fs::write(at.join("next"), &block).unwrap_or_else(|e| panic!("round {round}: {e}"));
            fs::remove_file(at.join("next")).unwrap();
        }
        mount.detach();
    }
    let _ = rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH);
}

#[test]
fn s14_5_kill_and_mount_again_over_it() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "lower").unwrap());
    fs::write(f.at("new"), "kept").unwrap();
    fs::write(f.at("f"), "changed").unwrap();
    f.mount.kill();
    assert_eq!(rustix::fs::stat(f.at("new")).unwrap_err(), Errno::NOTCONN);
    f.mount.recover();
    assert_eq!(fs::read(f.at("new")).unwrap(), b"kept");
    assert_eq!(fs::read(f.at("f")).unwrap(), b"changed");
    assert_eq!(f.leftovers(), 0);
}

#[test]
fn wrong_requests_are_one_clear_error_each() {
    let f = Fixture::new(|_| {});
    let at = f.bench.dir("m2");
    let (layer, u, w) = (f.layer.display(), f.bench.dir("u2"), f.bench.dir("w2"));
    let text = f.bench.path("text");
    fs::write(&text, "no layer").unwrap();
    let cut = f.bench.path("cut.layer");
    let whole = fs::read(&f.layer).unwrap();
    fs::write(&cut, &whole[..whole.len() - 7]).unwrap();
    let (u, w) = (u.display(), w.display());
    for (options, part) in [
        (format!("lowerdir={layer},upprdir=/x"), "upprdir"),
        (format!("lowerdir={layer},upperdir={u}"), "workdir"),
        (
            format!("lowerdir={layer},upperdir={u},workdir={u}"),
            "neither inside the other",
        ),
        (
            format!("lowerdir={layer},upperdir={u},workdir=/proc"),
            "not on the file system",
        ),
        (
            format!("lowerdir={layer},upperdir=/nonexistent,workdir={w}"),
            "/nonexistent",
        ),
        (
            "lowerdir=/nonexistent.layer".to_owned(),
            "/nonexistent.layer",
        ),
        (format!("lowerdir={u}"), "bake"),
        (format!("lowerdir={}", text.display()), "text"),
        (format!("lowerdir={}", cut.display()), "cut.layer"),
        ("ro".to_owned(), "lowerdir"),
    ] {
        let output = Mount::attempt(&at, &options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{options}: {said}");
        assert!(said.contains(part), "{options}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{options}: {said}");
    }
}

/// The kernel's own overlay makes the index.
#[test]
fn s14_7_an_index_with_names_that_the_upper_lacks_is_refused() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("a"), "old").unwrap();
        fs::hard_link(lower.join("a"), lower.join("b")).unwrap();
    });
    let (upper, work, at) = (f.bench.dir("u2"), f.bench.dir("w2"), f.bench.dir("m2"));
    let overlay = |script: &str| {
        let script = format!(
            "set -eu; mount -t overlay overlay -o index=on,lowerdir={},upperdir={},workdir={} {at}; \
             trap 'umount {at}' EXIT; cd {at}; {script}; cd /",
            f.bench.path("lower").display(),
            upper.display(),
            work.display(),
            at = at.display(),
        );
        run(std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]));
    };
    overlay("echo new > a");
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        f.layer.display(),
        upper.display(),
        work.display()
    );
    let refused = Mount::attempt(&at, &options);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("index=on"),
        "{message}"
    );
    // With all names in the upper no name is missing.
    overlay("touch b");
    let mount = Mount::with_options(&at, options);
    assert_eq!(fs::read(at.join("b")).unwrap(), b"new\n");
    mount.detach();
}
