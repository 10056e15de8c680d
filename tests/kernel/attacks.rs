//! Faults found by attacking a mount: full uppers during operations, deep trees, many at once.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::Fixture;
use crate::harness::mount::Mount;
use crate::harness::programs::{program, run};

/// A separate upper, as a tmpfs with these options.
struct Small<'f> {
    mount: Mount,
    place: std::path::PathBuf,
    _fixture: &'f Fixture,
}

impl<'f> Small<'f> {
    fn new(fixture: &'f Fixture, options: &std::ffi::CStr) -> Small<'f> {
        let place = fixture.bench.dir("small");
        rustix::mount::mount("small", &place, "tmpfs", MountFlags::empty(), options).unwrap();
        let (upper, work) = (place.join("u"), place.join("w"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            fixture.layer.display(),
            upper.display(),
            work.display()
        );
        Small {
            mount: Mount::with_options(&fixture.bench.dir("m2"), options),
            place,
            _fixture: fixture,
        }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.mount.at.join(path)
    }

    /// Room for everything.
    fn grow(&self) {
        let options = c"nr_inodes=0,size=0";
        rustix::mount::mount_remount(&self.place, MountFlags::empty(), options).unwrap();
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        self.mount.detach();
        let _ = rustix::mount::unmount(&self.place, UnmountFlags::DETACH);
    }
}

fn links(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().nlink()
}

/// The upper is full after some of the names: each link costs a tmpfs an inode.
#[test]
fn s14_2_a_full_upper_copies_all_hard_links_or_none() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("d/0"), "old").unwrap();
        for i in 1..6 {
            fs::hard_link(lower.join("d/0"), lower.join(format!("d/{i}"))).unwrap();
        }
    });
    let all = || (0..6).map(|i| format!("d/{i}"));
    let (mut failed, mut done) = (0, 0);
    for inodes in 8..18 {
        let options = std::ffi::CString::new(format!("nr_inodes={inodes}")).unwrap();
        let small = Small::new(&f, &options);
        let change = || fs::set_permissions(small.at("d/3"), Permissions::from_mode(0o600));
        match change() {
            Ok(()) => done += 1,
            Err(error) => {
                failed += 1;
                assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
                small.mount.again();
                for name in all() {
                    assert_eq!(links(&small.at(&name)), 6, "{inodes} inodes");
                    assert!(!small.place.join("u").join(name).exists());
                }
                small.grow();
                change().unwrap();
            }
        }
        for name in all() {
            let meta = small.at(&name).metadata().unwrap();
            assert_eq!((meta.nlink(), meta.mode() & 0o7777), (6, 0o600));
        }
    }
    assert!(failed > 5 && done > 0, "{failed} failed, {done} done");
}

/// An operation that happened must not return an error: the kernel would believe it and show the
/// old name forever.
#[test]
fn s14_2_a_rename_that_leaves_a_device_happens_or_fails() {
    let f = Fixture::new(|lower| fs::write(lower.join("low"), "x").unwrap());
    let (mut failed, mut done) = (0, 0);
    for taken in 0..12 {
        for name in ["low", "up"] {
            let small = Small::new(&f, c"nr_inodes=18");
            if name == "up" {
                fs::write(small.at(name), "x").unwrap();
            }
            for i in 0..taken {
                let _ = fs::write(small.place.join(i.to_string()), "");
            }
            let flags = RenameFlags::WHITEOUT;
            let moved = small.at("moved");
            match rustix::fs::renameat_with(CWD, small.at(name), CWD, &moved, flags) {
                Ok(()) => {
                    assert_eq!(small.at(name).symlink_metadata().unwrap().rdev(), 0);
                    assert_eq!(fs::read(&moved).unwrap(), b"x");
                    fs::remove_file(moved).unwrap();
                    done += 1;
                }
                Err(errno) => {
                    assert_eq!(errno, Errno::NOSPC, "{taken} taken");
                    assert!(!moved.exists());
                    assert_eq!(fs::read(small.at(name)).unwrap(), b"x");
                    failed += 1;
                }
            }
            let left = fs::read_dir(small.place.join("w/work")).unwrap().count();
            assert_eq!(left, 0, "{taken} taken");
        }
    }
    assert!(failed > 2 && done > 2, "{failed} failed, {done} done");
}

/// Any user may make one. The daemon has fewer descriptors than there are directories.
#[test]
fn s1_4_a_tree_may_be_deeper_than_the_daemons_stack() {
    const DEPTH: usize = 20_000;
    let f = Fixture::new(|_| {});
    f.mount.detach();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        f.layer.display(),
        f.upper.display(),
        f.work.display()
    );
    run(Command::new("prlimit")
        .args(["--nofile=200:200", "--"])
        .arg(program("layerfs"))
        .args(["mount", "-o", &options])
        .arg(&f.mount.at));
    let open = |dir: &OwnedFd, name: &str| {
        rustix::fs::openat(dir, name, OFlags::RDONLY, Mode::empty()).unwrap()
    };
    let root = rustix::fs::openat(CWD, &f.mount.at, OFlags::RDONLY, Mode::empty()).unwrap();
    let mut at = root.try_clone().unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = open(&at, "d");
    }
    for i in 0..100 {
        fs::create_dir_all(f.at(&format!("others/{i}/x"))).unwrap();
    }
    rustix::fs::mkdirat(&at, "last", Mode::RWXU).unwrap();
    drop(open(&at, "last"));
    assert_eq!(f.mount.status()["panics"], 0);
}

/// An ordinary user's mount works with that user's rights: files and directories they may not write, or not even read, are
/// theirs to change, move and remove all the same.
#[test]
fn s9_6_what_ordinary_users_forbid_themselves() {
    const SCRIPT: &str = r#"
cd "$1" || exit
chmod 644 ro-chmod; mv ro-move ro-moved; ln ro-link ro-linked; touch -d @77 ro-touch; rm ro-hard-1
chmod 644 no-chmod; echo more >> no-chmod; mv no-move no-moved; mv no-moved no-again
chmod 0 ro-chmod; chmod 600 ro-chmod
mv d-move d-moved; chmod 755 d-chmod d-shut; mkdir d-chmod/new; chmod 700 d-kept/in; touch d-list/up; chmod 400 d-list; chmod 0 d-chmod/new d-again; rmdir d-gone
"#;
    const LIST: &str = r#"
cd "$1" && stat -c '%n %f %h %u' * */* && stat -c %Y ro-touch && ls -a * && cat no-chmod ro-moved ro-linked ro-hard-2 ro-chmod | cksum
"#;
    let fill = |at: &Path| {
        for (kind, mode) in [("ro", 0o444), ("no", 0)] {
            for name in ["chmod", "move", "link", "touch", "hard-1"] {
                let path = at.join(format!("{kind}-{name}"));
                fs::write(&path, super::bytes(9000)).unwrap();
                fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
        }
        fs::hard_link(at.join("ro-hard-1"), at.join("ro-hard-2")).unwrap();
        for (name, mode) in [
            ("move", 0o555),
            ("chmod", 0o500),
            ("shut", 0),
            ("kept", 0o555),
            ("gone", 0o555),
            ("again", 0o755),
            ("list", 0o755),
        ] {
            let path = at.join(format!("d-{name}"));
            fs::create_dir(&path).unwrap();
            if name != "gone" {
                fs::create_dir(path.join("in")).unwrap();
            }
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        run(Command::new("chown").args(["-R", "65534:65534"]).arg(at));
    };
    let f = Fixture::new(fill);
    f.mount.detach();
    let (plain, at) = (f.bench.dir("plain"), f.bench.dir("at"));
    fill(&plain);
    let own = f.bench.dir("own");
    let there = f.bench.path("layerfs");
    fs::copy(program("layerfs"), &there).unwrap();
    for path in [&at, &own] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let user = |words: &[&std::ffi::OsStr]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        run(command.args(words))
    };
    let shell = |script: &str, at: &Path| {
        let words = ["sh", "-c", script, "sh"].map(std::ffi::OsStr::new);
        let mut words = words.to_vec();
        words.push(at.as_os_str());
        let output = user(&words);
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "",
            "{}",
            at.display()
        );
        String::from_utf8(output.stdout).unwrap()
    };
    shell("mkdir $1/u $1/w", &own);
    let options = format!(
        "lowerdir={},upperdir={1}/u,workdir={1}/w",
        f.layer.display(),
        own.display()
    );
    let layerfs = |words: &[&str]| {
        let mut all = vec![there.as_os_str()];
        all.extend(words.iter().map(std::ffi::OsStr::new));
        all.push(at.as_os_str());
        user(&all);
    };
    layerfs(&["mount", "-o", &options]);
    let left = || fs::read_dir(own.join("w/work")).unwrap().count();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        shell(SCRIPT, &plain);
        shell(SCRIPT, &at);
        assert_eq!(left(), 0);
        layerfs(&["umount"]);
        layerfs(&["mount", "-o", &options]);
        let names = "ls $1/d-list 2>/dev/null || true";
        assert_eq!(shell(names, &at), "in\nup\n");
        let open = "chmod 700 d-again d-chmod/new d-list";
        for place in [&plain, &at] {
            shell(&format!("cd $1 && {open}"), place);
        }
        assert_eq!(shell(LIST, &at), shell(LIST, &plain));
    }));
    layerfs(&["umount"]);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
