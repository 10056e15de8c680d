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
