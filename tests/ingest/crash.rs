//! SIGKILL at random points; no acknowledged push is lost or published twice.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};

use super::OPENING;
use crate::test_bakery::{Running, TestBakery, program, run, text, upload, wait_until};

/// The number of revisions that name each job.
fn published(bakery: &TestBakery, name: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for revision in bakery.revisions(name) {
        let message = revision.manifest.message;
        let job = message
            .lines()
            .last()
            .and_then(|line| line.strip_prefix("Job: "));
        *counts
            .entry(job.unwrap_or_else(|| panic!("{message:?}")).to_owned())
            .or_insert(0) += 1;
    }
    counts
}

/// The processes below one of ours.
fn children(of: u32) -> Vec<i32> {
    let path = format!("/proc/{of}/task/{of}/children");
    let list = fs::read_to_string(path).unwrap_or_default();
    list.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// 20 kills and 8 uploads in CI; `make test-crash` uses 200 and 20.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn kills_at_random_points_lose_and_double_nothing() {
    let (kills, uploads) = (setting("LAYERFS_KILLS", 20), setting("LAYERFS_UPLOADS", 8));
    let bakery = TestBakery::new();
    let seed = setting("LAYERFS_SEED", kills);
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed as u64);
    let mut acknowledged = Vec::new();
    let mut watch = bakery.watch(&[]);
    for round in 0..kills.max(uploads) + 1 {
        // Spread over the kills, so that there is always something to hit.
        if acknowledged.len() < uploads && acknowledged.len() * kills <= round * uploads {
            // Enough to bake that a kill finds the baker at work.
            let mut content = vec![0_u8; 2 << 20];
            random.fill(&mut content[..]);
            let number = acknowledged.len();
            let body = upload(&format!("file-{number}"), &content);
            acknowledged.push((
                number,
                content,
                bakery.receive("kiosk", OPENING, &body).unwrap(),
            ));
        }
        if round < kills {
            std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
            let bakers = children(watch.child.id());
            // The baker alone, the watcher alone (its baker lives on), or both.
            let choice = random.random_range(0..3);
            if choice != 1 {
                for baker in &bakers {
                    // A child without wait keeps its number, so the signal cannot reach another
                    // process.
                    let pid = rustix::process::Pid::from_raw(*baker).unwrap();
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            if choice != 0 {
                watch.kill();
                watch = bakery.watch(&[]);
            }
        }
    }
    // The last watcher completes the remaining jobs.
    wait_until(Duration::from_secs(60 + 10 * kills as u64), || {
        bakery
            .jobs()
            .iter()
            .all(|job| job["at"] == "done" || job["at"] == "failed")
    });
    assert!(watch.terminate());
    let counts = published(&bakery, "kiosk");
    for (number, content, job) in &acknowledged {
        assert_eq!(counts.get(job), Some(&1), "upload {number}, job {job}");
        assert!(bakery.file("kiosk", &format!("etc/file-{number}")).unwrap() == *content);
    }
    assert_eq!(counts.len(), acknowledged.len());
    assert_eq!(bakery.revisions("kiosk").len(), acknowledged.len());
    for job in bakery.jobs() {
        assert_eq!(job["ending"]["state"], "published", "{job}");
    }
    // Heads point to complete revisions, every byte of them is correct, and a sweep can delete
    // leftovers of killed processes.
    bakery.assert_sound();
    run(bakery.command().args(["gc", "--grace", "0s"]));
    bakery.assert_sound();
    for layer in fs::read_dir(bakery.store().join("layers")).unwrap() {
        let path = layer.unwrap().path();
        let opened = layerfmt::Layer::map(&path).unwrap();
        assert_eq!(
            path.file_stem().unwrap().to_str().unwrap(),
            opened.digest().to_string()
        );
    }
}

#[test]
fn a_receiver_that_is_killed_leaves_no_job() {
    let bakery = TestBakery::new();
    let mut receive = bakery.command();
    receive
        .args(["receive", "--key", "test", "--systems", "*"])
        .env("SSH_ORIGINAL_COMMAND", "layerfs-push kiosk")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null());
    let mut receive = receive.spawn().unwrap();
    let input = receive.stdin.as_mut().unwrap();
    std::io::Write::write_all(input, format!("{OPENING}\n\x04\0\0\0torn").as_bytes()).unwrap();
    let parts = bakery.spool().join("incoming/.parts");
    wait_until(Duration::from_secs(10), || {
        fs::read_dir(&parts).is_ok_and(|parts| {
            parts.flatten().any(|part| {
                fs::metadata(part.path().join("upper.tar.zst")).is_ok_and(|meta| meta.len() == 4)
            })
        })
    });
    // A watcher that starts meanwhile must leave it alone.
    bakery.drain();
    assert_eq!(fs::read_dir(&parts).unwrap().count(), 1);
    receive.kill().unwrap();
    receive.wait().unwrap();
    bakery.drain();
    assert_eq!(fs::read_dir(&parts).unwrap().count(), 0);
    assert!(bakery.jobs().is_empty());
}

#[test]
fn two_bakeries_on_one_store_publish_everything_once() {
    let bakery = TestBakery::new();
    let mut jobs = Vec::new();
    let spools = [bakery.path("spool-a"), bakery.path("spool-b")];
    for (index, spool) in spools.iter().enumerate() {
        let inbox = spool.join("incoming/kiosk");
        fs::create_dir_all(&inbox).unwrap();
        for number in 0..4 {
            let name = format!("from-{index}-{number}");
            fs::write(
                inbox.join(format!("{name}.tar.zst")),
                upload(&name, name.as_bytes()),
            )
            .unwrap();
            jobs.push(name);
        }
    }
    let mut running: Vec<Running> = spools
        .iter()
        .map(|spool| {
            let mut command = Command::new(program("bakery"));
            command
                .arg("--store")
                .arg(bakery.store())
                .arg("watch")
                .arg("--spool")
                .arg(spool);
            Running::start(command.args(["--settle", "50", "--rescan", "1", "--once"]))
        })
        .collect();
    for one in &mut running {
        wait_until(Duration::from_secs(120), || {
            one.child.try_wait().unwrap().is_some()
        });
    }
    let counts = published(&bakery, "kiosk");
    assert_eq!(counts.len(), jobs.len());
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    for name in &jobs {
        assert_eq!(
            bakery.file("kiosk", &format!("etc/{name}")).unwrap(),
            name.as_bytes()
        );
    }
}

#[test]
fn one_watcher_per_spool() {
    let bakery = TestBakery::new();
    let _first = bakery.watch(&[]);
    // A published job shows that the first one is at work; before that, the second could be first.
    let upload_of = |name: &str| {
        bakery
            .receive("kiosk", OPENING, &upload(name, b"x"))
            .unwrap();
        wait_until(Duration::from_secs(60), || {
            bakery.file("kiosk", &format!("etc/{name}")).is_some()
        });
    };
    upload_of("x");
    let second = bakery.command().args(["watch", "--once"]).output().unwrap();
    assert!(!second.status.success());
    assert!(
        text(&second.stderr).contains("another `bakery watch`"),
        "{}",
        text(&second.stderr)
    );
    // The first one continues nevertheless.
    upload_of("y");
    run(bakery.command().arg("jobs"));
}
