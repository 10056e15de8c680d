//! `kill -9` of the daemon while it copies up, renames and removes: afterwards each object is old
//! or new, acknowledged changes exist, and the work directory is empty. At random moments, and
//! before each system call that changes the upper (with strace).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::programs::ends_after;
use crate::kernel::{Fixture, bytes, set_xattr, xattr};

const OBJECTS: usize = 60;
/// More than one change has steps.
const STEPS_MAX: usize = 250;
const CONTENT_LEN: usize = 300_000;
const CAPABILITY: &str = "security.capability";
const CAPABILITIES: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
const OLD_TIME: SystemTime = UNIX_EPOCH;

/// Rounds; long setting: `LAYERFS_CRASH_ROUNDS=200`.
fn rounds() -> usize {
    std::env::var("LAYERFS_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(6)
}

fn fill(lower: &Path, objects: usize) {
    for i in 0..objects {
        let append = lower.join(format!("append{i}"));
        fs::write(&append, bytes(CONTENT_LEN)).unwrap();
        let file = File::options().write(true).open(&append).unwrap();
        file.set_modified(OLD_TIME).unwrap();
        fs::create_dir(lower.join(format!("dir{i}"))).unwrap();
        fs::write(lower.join(format!("dir{i}/file")), "inside").unwrap();
        fs::write(lower.join(format!("gone{i}")), "gone").unwrap();
        fs::write(lower.join(format!("one{i}")), "link").unwrap();
        fs::hard_link(lower.join(format!("one{i}")), lower.join(format!("two{i}"))).unwrap();
        fs::write(lower.join(format!("conf{i}")), "old").unwrap();
        fs::write(lower.join(format!("here{i}")), "carried").unwrap();
        fs::write(lower.join(format!("mode{i}")), "kept").unwrap();
        fs::create_dir(lower.join(format!("full{i}"))).unwrap();
        fs::write(lower.join(format!("full{i}/x")), "x").unwrap();
    }
}

/// The steps on object `i`; stops at the first error, which is the kill.
fn change(at: &Path, i: usize) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .open(at.join(format!("append{i}")))?;
    file.write_all(b"NEW")?;
    fs::rename(at.join(format!("dir{i}")), at.join(format!("moved{i}")))?;
    fs::remove_file(at.join(format!("gone{i}")))?;
    fs::write(at.join(format!("two{i}")), "both")?;
    fs::write(at.join(format!("conf{i}.new")), "new")?;
    fs::rename(at.join(format!("conf{i}.new")), at.join(format!("conf{i}")))?;
    fs::rename(at.join(format!("here{i}")), at.join(format!("there{i}")))?;
    fs::set_permissions(at.join(format!("mode{i}")), Permissions::from_mode(0o600))?;
    fs::remove_dir_all(at.join(format!("full{i}")))?;
    fs::create_dir(at.join(format!("full{i}")))?;
    fs::write(at.join(format!("made{i}")), "made")
}

fn check(at: &Path, i: usize, done: bool) {
    let path = |name: &str| at.join(format!("{name}{i}"));
    let content = fs::read(path("append")).unwrap();
    assert_eq!(
        content[..CONTENT_LEN],
        bytes(CONTENT_LEN),
        "append{i} is torn"
    );
    let tail = &content[CONTENT_LEN..];
    assert!(
        tail.is_empty() && !done || tail == b"NEW",
        "append{i} ends in {tail:?}"
    );
    if tail.is_empty() {
        let time = path("append").metadata().unwrap().modified().unwrap();
        assert_eq!(time, OLD_TIME, "the time of append{i}");
    }
    let (dir, moved) = (path("dir").exists(), path("moved").exists());
    assert!(
        moved && !dir || !done && dir && !moved,
        "dir{i}: {dir} {moved}"
    );
    let shown = if dir { path("dir") } else { path("moved") };
    assert_eq!(fs::read(shown.join("file")).unwrap(), b"inside");
    match fs::read(path("gone")) {
        Ok(content) => assert!(!done && content == b"gone", "gone{i}"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
    let (one, two) = (
        fs::read(path("one")).unwrap(),
        fs::read(path("two")).unwrap(),
    );
    assert_eq!(one, two, "one{i} and two{i} came apart");
    for name in ["one", "two"] {
        let links = path(name).metadata().unwrap().nlink();
        assert_eq!(links, 2, "links of {name}{i}");
    }
    assert!(
        one == b"both" || !done && (one == b"link" || one.is_empty()),
        "one{i}: {one:?}"
    );
    let conf = fs::read(path("conf")).unwrap();
    assert!(
        conf == b"new" || !done && conf == b"old",
        "conf{i}: {conf:?}"
    );
    let (here, there) = (fs::read(path("here")), fs::read(path("there")));
    assert!(here.is_err() || !done, "here{i}");
    let carried = here.ok().xor(there.ok());
    assert_eq!(carried.as_deref(), Some(&b"carried"[..]), "here{i}");
    let mode = path("mode").metadata().unwrap().permissions().mode() & 0o777;
    assert!(mode == 0o600 || !done && mode == 0o644, "mode{i}: {mode:o}");
    assert_eq!(fs::read(path("mode")).unwrap(), b"kept");
    match fs::read_dir(path("full")) {
        Ok(entries) => assert!(entries.count() == 0 || !done, "full{i}"),
        Err(error) => assert!(!done, "full{i}: {error}"),
    }
    assert!(
        !done || fs::read(path("made")).unwrap() == b"made",
        "made{i}"
    );
}

#[test]
fn a_killed_daemon_leaves_the_old_or_the_new() {
    for round in 0..rounds() {
        let f = Fixture::with(|lower| fill(lower, OBJECTS), "volatile");
        let done = AtomicUsize::new(0);
        let delay = Duration::from_micros(2_000 + (round as u64 * 7_919) % 60_000);
        let pid = f.mount.pid();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..OBJECTS {
                    if change(&f.mount.at, i).is_err() {
                        return;
                    }
                    done.store(i + 1, Ordering::Release);
                }
            });
            std::thread::sleep(delay);
            kill(pid);
        });
        f.mount.recover();
        let done = done.load(Ordering::Acquire);
        for i in 0..OBJECTS {
            check(&f.mount.at, i, i < done);
        }
        assert_eq!(f.leftovers(), 0, "round {round}");
    }
}

fn kill(pid: u32) {
    assert!(ends_after(pid, rustix::process::Signal::KILL, 30));
}

/// The system calls that change an upper.
const CHANGES: [&str; 22] = [
    "openat",
    "mkdirat",
    "mknodat",
    "symlinkat",
    "linkat",
    "unlinkat",
    "renameat2",
    "pwrite64",
    "ftruncate",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "utimensat",
    "fdatasync",
    "fsync",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
];

/// Kills a daemon before one of its system calls.
struct Killer(Child);

impl Killer {
    /// The `nth` call from now on will not be made.
    fn lurk(pid: u32, call: &str, nth: usize) -> Killer {
        let mut strace = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-p", &pid.to_string()])
            .args(["-e", &format!("trace={call}")])
            .args([
                "-e",
                &format!("inject={call}:signal=KILL:error=EIO:when={nth}"),
            ])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace (make packages)");
        let mut said = String::new();
        let stderr = strace.stderr.take().unwrap();
        BufReader::new(stderr).read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "strace: {said}");
        Killer(strace)
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_killed_at_each_step_leaves_the_old_or_the_new() {
    // strace counts the calls of each thread apart.
    let f = Fixture::with(|lower| fill(lower, STEPS_MAX), "threads=1");
    let (mut object, mut kills) = (0, 0);
    for call in CHANGES {
        for nth in 1.. {
            let killer = Killer::lurk(f.mount.pid(), call, nth);
            let done = change(&f.mount.at, object).is_ok();
            drop(killer);
            if !done {
                f.mount.recover();
                kills += 1;
            }
            check(&f.mount.at, object, done);
            assert_eq!(f.leftovers(), 0, "{call} {nth}");
            object += 1;
            if done {
                break;
            }
        }
    }
    assert!(kills > 50, "only {kills} steps were tried");
}

/// S4.8: another process sets time and capabilities during the copy of the data; then the daemon is
/// killed. An open for writing starts the copy: during a write the kernel makes others wait.
#[test]
fn what_a_file_had_during_a_copying_outlives_a_kill() {
    const TRIES: usize = 6;
    let content = vec![7; 64 << 20];
    let f = Fixture::with(
        |lower| {
            for i in 0..2 * TRIES {
                let path = lower.join(format!("f{i}"));
                fs::write(&path, &content).unwrap();
                set_xattr(&path, CAPABILITY, &CAPABILITIES).unwrap();
                let file = File::options().write(true).open(&path).unwrap();
                file.set_modified(OLD_TIME).unwrap();
            }
        },
        "passthrough",
    );
    if f.mount.status()["mode"] != "passthrough" {
        eprintln!("this kernel has no passthrough: nothing to try");
        return;
    }
    let time = UNIX_EPOCH + Duration::from_secs(7777);
    let mut changed = CAPABILITIES;
    changed[5] = 0x40;
    for change in [false, true] {
        // An attempt does not count if the copy ended before the kill.
        let cut_short = (0..TRIES).any(|i| {
            let name = format!("f{}", 2 * i + usize::from(change));
            let (path, upper) = (f.at(&name), f.upper.join(&name));
            std::thread::scope(|scope| {
                let opening = scope.spawn(|| OpenOptions::new().append(true).open(&path).is_ok());
                while xattr(&upper, "trusted.layerfs.copying").is_none() && !opening.is_finished() {
                }
                if change {
                    File::open(&path).unwrap().set_modified(time).unwrap();
                    set_xattr(&path, CAPABILITY, &changed).unwrap();
                }
                kill(f.mount.pid());
            });
            let cut_short = xattr(&upper, "trusted.overlay.metacopy").is_some();
            f.mount.recover();
            let (time, capabilities) = if change {
                (time, changed)
            } else {
                (OLD_TIME, CAPABILITIES)
            };
            for at in [&path, &upper] {
                assert_eq!(fs::metadata(at).unwrap().modified().unwrap(), time);
                assert_eq!(xattr(at, CAPABILITY).as_deref(), Some(&capabilities[..]));
            }
            assert_eq!(xattr(&upper, "trusted.layerfs.copying"), None);
            assert!(fs::read(&path).unwrap() == content);
            cut_short
        });
        assert!(cut_short, "no copying was cut short");
    }
}

/// Hard links get their names one after the other. Whatever names were missing at the kill, the next mount gives.
#[test]
fn hard_links_that_a_kill_cut_short_get_all_their_names() {
    let names = ["a/x", "b/y", "c/z"];
    let f = Fixture::new(|lower| {
        for name in names {
            fs::create_dir(lower.join(name).parent().unwrap()).unwrap();
        }
        fs::write(lower.join("a/x"), "linked").unwrap();
        fs::hard_link(lower.join("a/x"), lower.join("b/y")).unwrap();
        fs::hard_link(lower.join("a/x"), lower.join("c/z")).unwrap();
    });
    fs::set_permissions(f.at("a/x"), Permissions::from_mode(0o600)).unwrap();
    let row = f.at("a/x").metadata().unwrap().ino() - 1;
    for missing in [&names[2..], &names[1..], &names[..1]] {
        f.mount.kill();
        let staged = f.work.join(format!("work/links.{row}"));
        let there = names.iter().find(|name| !missing.contains(name)).unwrap();
        fs::hard_link(f.upper.join(there), staged).unwrap();
        for name in missing {
            fs::remove_file(f.upper.join(name)).unwrap();
        }
        f.mount.recover();
        for name in names {
            let meta = f.at(name).metadata().unwrap();
            let seen = (meta.nlink(), meta.ino(), meta.mode() & 0o777);
            assert_eq!(seen, (3, row + 1, 0o600), "{name}, missing {missing:?}");
            let links = f.upper.join(name).metadata().unwrap().nlink();
            assert_eq!(links, 3, "{name} in the upper, missing {missing:?}");
        }
        assert_eq!(f.leftovers(), 0);
    }
}
