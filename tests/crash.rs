//! `kill -9` of the daemon while it copies up, renames and removes: afterwards each object is the
//! old or the new one, what was acknowledged is there, and nothing is left in the work directory.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::semantics::{Fixture, bytes};

const OBJECTS: usize = 60;
const CONTENT_LEN: usize = 300_000;

/// Rounds; long setting: `LAYERFS_CRASH_ROUNDS=200`.
fn rounds() -> usize {
    std::env::var("LAYERFS_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(6)
}

fn fill(lower: &Path) {
    for i in 0..OBJECTS {
        fs::write(lower.join(format!("append{i}")), bytes(CONTENT_LEN)).unwrap();
        fs::create_dir(lower.join(format!("dir{i}"))).unwrap();
        fs::write(lower.join(format!("dir{i}/file")), "inside").unwrap();
        fs::write(lower.join(format!("gone{i}")), "gone").unwrap();
        fs::write(lower.join(format!("one{i}")), "link").unwrap();
        fs::hard_link(lower.join(format!("one{i}")), lower.join(format!("two{i}"))).unwrap();
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
    assert!(
        one == b"both" || !done && (one == b"link" || one.is_empty()),
        "one{i}: {one:?}"
    );
    assert!(
        !done || fs::read(path("made")).unwrap() == b"made",
        "made{i}"
    );
}

#[test]
fn a_killed_daemon_leaves_the_old_or_the_new() {
    for round in 0..rounds() {
        let f = Fixture::with(fill, "volatile");
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
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut ends = [rustix::event::PollFd::new(
        &handle,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut ends, Some(&limit)), Ok(1));
}
