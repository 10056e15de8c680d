//! Drops that are incomplete, unreadable or not uploads: none is taken too early or forgotten, and
//! none stops the others.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::test_bakery::{Running, TestBakery, program, run, text, upload, wait_until};

/// An account that owns only the spool, like that of the shipped unit.
const ACCOUNT: u32 = 64_321;

/// A watcher under this account, with its output in a file.
struct Watcher {
    running: Running,
    log: PathBuf,
}

impl Watcher {
    /// Gives everything to the account and starts `bakery watch` under it, without any capability.
    fn start(bakery: &TestBakery, more: &[&str]) -> Self {
        run(Command::new("chown")
            .args(["-R", &format!("{ACCOUNT}:{ACCOUNT}")])
            .arg(bakery.path("")));
        // The build directory may be closed to other accounts.
        let copy = bakery.path("bakery");
        if !copy.exists() {
            fs::copy(program("bakery"), &copy).unwrap();
        }
        let log = bakery.path("watch.log");
        let mut command = Command::new("setpriv");
        let account = ACCOUNT.to_string();
        command
            .args(["--reuid", &account, "--regid", &account, "--clear-groups"])
            .args(["--bounding-set=-all", "--inh-caps=-all"])
            .arg(&copy)
            .arg("--store")
            .arg(bakery.store())
            .args(["watch", "--settle", "100", "--rescan", "1"])
            .args(more)
            .env("BAKERY_SPOOL", bakery.spool())
            .stdin(std::process::Stdio::null())
            .stderr(File::create(&log).unwrap());
        let child = command.spawn().unwrap();
        Self {
            running: Running { child },
            log,
        }
    }

    fn said(&self) -> String {
        text(&fs::read(&self.log).unwrap())
    }

    fn says(&self, words: &str) {
        wait_until(Duration::from_secs(60), || self.said().contains(words));
    }
}

fn inbox(bakery: &TestBakery, name: &str) -> PathBuf {
    let inbox = bakery.spool().join("incoming").join(name);
    fs::create_dir_all(&inbox).unwrap();
    inbox
}

fn published(bakery: &TestBakery, name: &str) {
    let path = format!("etc/{name}");
    wait_until(Duration::from_secs(60), || {
        bakery.file("kiosk", &path).is_some()
    });
}

/// INGEST.md: a file is taken when nobody has it open for writing, also if another account writes
/// it and the kernel grants no lease.
#[test]
fn a_drop_of_another_account_is_left_alone_while_it_is_written() {
    let bakery = TestBakery::new();
    let inbox = inbox(&bakery, "kiosk");
    let body = upload(
        "before",
        &(0..200_000_u32)
            .flat_map(u32::to_le_bytes)
            .collect::<Vec<_>>(),
    );
    let (first, second) = body.split_at(body.len() / 2);
    let early = inbox.join("early.tar.zst");
    // One exists partly when the watcher starts, so no event reveals its writer.
    let mut writer = File::create(&early).unwrap();
    writer.write_all(first).unwrap();
    let watcher = Watcher::start(&bakery, &[]);
    chown(&early, Some(0), Some(0)).unwrap();
    watcher.says("watching");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(early.exists(), "taken with half of its bytes");
    writer.write_all(second).unwrap();
    drop(writer);
    published(&bakery, "before");
    // One is whole, but its writer has not closed it: more may come.
    let late = inbox.join("late.tar.zst");
    let mut writer = File::create(&late).unwrap();
    writer.write_all(&upload("late", b"x")).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(late.exists(), "taken from under its writer");
    drop(writer);
    published(&bakery, "late");
    wait_until(Duration::from_secs(60), || {
        bakery.jobs().iter().all(|job| job["at"] == "done")
    });
    assert!(watcher.running.terminate());
}

/// Permissions change without a change of the file: it is retried, and the problem is reported
/// once.
#[test]
fn a_drop_that_cannot_be_read_is_taken_when_it_can() {
    let bakery = TestBakery::new();
    let inbox = inbox(&bakery, "kiosk");
    let closed = inbox.join("closed.tar.zst");
    let watcher = Watcher::start(&bakery, &[]);
    let part = inbox.join("closed.part");
    fs::write(&part, upload("closed", b"x")).unwrap();
    fs::set_permissions(&part, Permissions::from_mode(0o600)).unwrap();
    fs::rename(&part, &closed).unwrap();
    watcher.says("cannot take");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(closed.exists());
    fs::set_permissions(&closed, Permissions::from_mode(0o644)).unwrap();
    published(&bakery, "closed");
    assert_eq!(
        watcher.said().matches("cannot take").count(),
        1,
        "{}",
        watcher.said()
    );
}

/// An unreadable directory, a wrong name and a file of another kind are reported and do not stop
/// the others.
#[test]
fn what_is_passed_over_is_said() {
    let bakery = TestBakery::new();
    let closed = inbox(&bakery, "lab");
    let kiosk = inbox(&bakery, "kiosk");
    inbox(&bakery, "Wrong Name");
    inbox(&bakery, "kiosk/main/deeper");
    fs::write(kiosk.join("changes.tgz"), "x").unwrap();
    fs::write(kiosk.join("half.tar.zst.part"), "x").unwrap();
    fs::write(bakery.spool().join("incoming/loose.tar.zst"), "x").unwrap();
    let watcher = {
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        let watcher = Watcher::start(&bakery, &[]);
        chown(&closed, Some(0), Some(0)).unwrap();
        watcher
    };
    fs::write(kiosk.join("good.tar.zst"), upload("good", b"x")).unwrap();
    published(&bakery, "good");
    for words in [
        "incoming/lab: it cannot be read: Permission denied",
        "Wrong Name: it is not the name of a system",
        "deeper: it is a directory inside a profile's",
        "changes.tgz: an upload's name ends with .tar.zst",
        "loose.tar.zst: uploads belong in incoming/SYSTEM",
    ] {
        watcher.says(words);
    }
    let said = watcher.said();
    assert_eq!(said.matches("changes.tgz").count(), 1, "{said}");
    assert!(!said.contains(".part"), "{said}");
}

/// A mount point inside `incoming/` is another file system: the upload is copied, then removed there.
#[test]
fn a_mount_point_in_the_inbox_works() {
    let bakery = TestBakery::new();
    let inbox = inbox(&bakery, "kiosk");
    let body = bakery.path("body");
    fs::write(&body, upload("far", b"x")).unwrap();
    let script = "mount -t tmpfs none \"$1\" && cp \"$2\" \"$1/far.tar.zst\" && \"$3\" --store \"$4\" \
                  watch --once --settle 50 --rescan 1 && test -z \"$(ls \"$1\")\"";
    run(Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(&inbox)
        .arg(&body)
        .arg(program("bakery"))
        .arg(bakery.store())
        .env("BAKERY_SPOOL", bakery.spool()));
    assert_eq!(bakery.file("kiosk", "etc/far").unwrap(), b"x");
}
