//! Disks that are full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::OPENING;
use crate::test_bakery::{TestBakery, run, upload, wait_until};

/// A small tmpfs, unmounted with the value.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"])
            .arg(at));
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    use rand::{Rng as _, SeedableRng as _};
    let mut bytes = vec![0; len];
    rand::rngs::SmallRng::seed_from_u64(7).fill(&mut bytes[..]);
    bytes
}

#[test]
fn a_full_spool_refuses_and_keeps_nothing() {
    let bakery = TestBakery::new();
    let _small = Small::mount(&bakery.spool(), "1M");
    let refused = bakery.receive("kiosk", OPENING, &upload("big", &noise(4 << 20)));
    assert_eq!(refused, None);
    assert!(bakery.jobs().is_empty());
    assert_eq!(
        fs::read_dir(bakery.spool().join("incoming/.parts"))
            .unwrap()
            .count(),
        0
    );
    // There is room for a small one.
    assert!(
        bakery
            .receive("kiosk", OPENING, &upload("small", b"x"))
            .is_some()
    );
    bakery.drain();
    assert_eq!(bakery.file("kiosk", "etc/small").unwrap(), b"x");
}

#[test]
fn a_full_store_makes_a_job_wait() {
    let bakery = TestBakery::new();
    let small = bakery.path("small");
    let _small = Small::mount(&small, "6M");
    let store = small.join("store");
    bakery.fill(&store);
    let ballast = small.join("ballast");
    fs::write(&ballast, noise(9 << 19)).unwrap();
    let spool = bakery.spool();
    let inbox = spool.join("incoming/kiosk");
    fs::create_dir_all(&inbox).unwrap();
    let content = noise(2 << 20);
    fs::write(inbox.join("big.tar.zst"), upload("big", &content)).unwrap();
    let mut watch = Command::new(crate::test_bakery::program("bakery"));
    watch
        .arg("--store")
        .arg(&store)
        .arg("watch")
        .arg("--spool")
        .arg(&spool);
    watch.args(["--settle", "50", "--rescan", "1"]);
    let _watch = crate::test_bakery::Running::start(&mut watch);
    // It tries, complains in the job's log, and waits.
    wait_until(Duration::from_secs(60), || {
        ["running", "queued"].iter().any(|state| {
            fs::read_dir(spool.join(state)).is_ok_and(|jobs| {
                jobs.flatten().any(|job| {
                    fs::read_to_string(job.path().join("log"))
                        .unwrap_or_default()
                        .contains("another attempt")
                })
            })
        })
    });
    assert_eq!(fs::read_dir(spool.join("failed")).unwrap().count(), 0);
    assert_eq!(
        fs::read_dir(store.join("refs/kiosk/main")).unwrap().count(),
        1,
        "nothing half published"
    );
    fs::remove_file(&ballast).unwrap();
    wait_until(Duration::from_secs(90), || {
        fs::read_dir(spool.join("done")).unwrap().count() == 1
    });
    assert_eq!(
        fs::read_dir(store.join("refs/kiosk/main")).unwrap().count(),
        2
    );
}
