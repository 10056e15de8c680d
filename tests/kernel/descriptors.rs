//! S11.3: a daemon that has no descriptor left.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::process::{Pid, Resource, Rlimit};

use super::Fixture;

/// Open objects; the daemon may have far fewer descriptors.
const OPEN: usize = 100;

#[test]
fn s11_3_what_is_open_can_be_removed_without_a_descriptor() {
    let f = Fixture::new(|lower| {
        for i in 0..OPEN {
            fs::write(lower.join(format!("low{i}")), "low").unwrap();
        }
    });
    let both = |path: &std::path::Path| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).open(path).unwrap()
    };
    let mut files = Vec::new();
    for i in 0..OPEN {
        let (new, low) = (f.at(&format!("new{i}")), f.at(&format!("low{i}")));
        fs::write(&new, format!("new{i}")).unwrap();
        rustix::fs::chmod(&low, 0o600.into()).unwrap();
        files.push((both(&new), format!("new{i}")));
        files.push((File::open(&low).unwrap(), "low".to_owned()));
    }
    let mut directories = Vec::new();
    for i in 0..OPEN {
        fs::create_dir(f.at(&format!("dir{i}"))).unwrap();
        directories.push(File::open(f.at(&format!("dir{i}"))).unwrap());
    }
    let pid = f.mount.pid();
    // Those that are open stay so.
    let few_left = 40;
    let few = Rlimit {
        current: Some(few_left),
        maximum: Some(few_left),
    };
    let daemon = Pid::from_raw(i32::try_from(pid).unwrap());
    rustix::process::prlimit(daemon, Resource::Nofile, few).unwrap();
    for i in 0..OPEN {
        fs::remove_file(f.at(&format!("new{i}"))).unwrap();
        fs::remove_file(f.at(&format!("low{i}"))).unwrap();
        fs::remove_dir(f.at(&format!("dir{i}"))).unwrap();
    }
    assert_eq!(fs::read_dir(&f.mount.at).unwrap().count(), 0);
    for (file, content) in &files {
        let seen = file.metadata().unwrap();
        assert_eq!((seen.nlink(), seen.len()), (0, content.len() as u64));
        let mut found = vec![0; content.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(&found, content.as_bytes());
        if content != "low" {
            file.write_all_at(b"changed", 0).unwrap();
            let mut found = [0; 7];
            file.read_exact_at(&mut found, 0).unwrap();
            assert_eq!(&found, b"changed");
        }
    }
    for directory in &directories {
        assert_eq!(directory.metadata().unwrap().nlink(), 0);
    }
    assert!(f.leftovers() > 0, "enough descriptors for all");
    drop((files, directories));
    for _ in 0..100 {
        if f.leftovers() == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{} objects stay in the work directory", f.leftovers());
}

/// The number of open descriptors of the daemon.
fn open_now(pid: u32) -> u64 {
    let count = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    u64::try_from(count).unwrap()
}

/// Changes to objects of directories that the daemon has not open, one for each way to change something.
fn change_each_way(f: &Fixture, kind: &str) {
    let at = |way: usize, name: &str| f.at(&format!("{kind}{way}/{name}"));
    fs::rename(at(0, "f"), at(0, "renamed")).unwrap();
    fs::hard_link(at(1, "f"), at(1, "linked")).unwrap();
    rustix::fs::chmod(at(2, "f"), 0o640.into()).unwrap();
    let mut writable = OpenOptions::new();
    let writable = writable.write(true).open(at(3, "f")).unwrap();
    writable.set_len(2).unwrap();
    super::set_xattr(&at(4, "f"), "trusted.new", b"value").unwrap();
    fs::write(at(5, "f"), "other").unwrap();
    File::open(at(6, "f"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    fs::rename(at(7, "sub"), f.at(&format!("{kind}-moved"))).unwrap();
    fs::remove_file(at(8, "f")).unwrap();
    fs::write(at(9, "new"), "new").unwrap();
    assert_eq!(fs::read_dir(at(10, "sub")).unwrap().count(), 1);
    let renamed = fs::read(at(0, "renamed")).unwrap();
    let linked = fs::read(at(1, "linked")).unwrap();
    let moved = fs::read(f.at(&format!("{kind}-moved/inside"))).unwrap();
    assert_eq!(
        [renamed, linked, moved],
        ["data", "data", "data"].map(Vec::from)
    );
    assert_eq!(at(2, "f").metadata().unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::read(at(3, "f")).unwrap(), b"da");
    assert_eq!(super::xattr(&at(4, "f"), "trusted.new").unwrap(), b"value");
    assert_eq!(fs::read(at(5, "f")).unwrap(), b"other");
    assert_eq!(at(6, "f").metadata().unwrap().mtime(), 0);
    assert!(!at(8, "f").exists());
    assert_eq!(fs::read(at(9, "new")).unwrap(), b"new");
}

/// Every free descriptor is used as a cache; each change needs at least one more.
#[test]
fn s11_3_what_exists_can_be_changed_without_a_descriptor() {
    let f = Fixture::new(|lower| {
        for way in 0..11 {
            let dir = lower.join(format!("low{way}"));
            fs::create_dir_all(dir.join("sub")).unwrap();
            fs::write(dir.join("f"), "data").unwrap();
            fs::write(dir.join("sub/inside"), "data").unwrap();
        }
    });
    for way in 0..11 {
        let dir = f.at(&format!("up{way}"));
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("f"), "data").unwrap();
        fs::write(dir.join("sub/inside"), "data").unwrap();
    }
    f.mount.again();
    let pid = f.mount.pid();
    for i in 0..50 {
        fs::write(f.at(&format!("kept{i}")), "kept").unwrap();
    }
    let full = Rlimit {
        current: Some(open_now(pid)),
        maximum: Some(open_now(pid)),
    };
    let daemon = Pid::from_raw(i32::try_from(pid).unwrap());
    for kind in ["low", "up"] {
        rustix::process::prlimit(daemon, Resource::Nofile, full).unwrap();
        change_each_way(&f, kind);
        for i in 0..50 {
            fs::write(f.at(&format!("kept{i}")), "again").unwrap();
        }
    }
    f.mount.again();
    assert_eq!(fs::read(f.at("low0/renamed")).unwrap(), b"data");
    assert_eq!(fs::read(f.at("up-moved/inside")).unwrap(), b"data");
}
