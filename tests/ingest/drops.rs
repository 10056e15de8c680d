//! Files dropped into `incoming/`: whole, torn, hostile.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use super::OPENING;
use crate::test_bakery::{TestBakery, upload, wait_until};

#[test]
fn a_dropped_file_is_published_when_it_is_complete() {
    let bakery = TestBakery::new();
    let inbox = bakery.spool().join("incoming/kiosk");
    fs::create_dir_all(&inbox).unwrap();
    // One arrived while no watcher was running.
    fs::write(inbox.join("before.tar.zst"), upload("before", b"1")).unwrap();
    // These are not uploads, or not yet.
    fs::write(inbox.join(".hidden.tar.zst"), upload("hidden", b"x")).unwrap();
    fs::write(inbox.join("half.tar.zst.part"), upload("half", b"x")).unwrap();
    let watch = bakery.watch(&[]);
    wait_until(Duration::from_secs(60), || {
        bakery.file("kiosk", "etc/before").is_some()
    });
    // One is written slowly: always open, with pauses longer than the settling time.
    let body = upload("slow", &vec![7; 100_000]);
    let mut file = fs::File::create(inbox.join("slow.tar.zst")).unwrap();
    let (first, second) = body.split_at(body.len() / 2);
    file.write_all(first).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(
        inbox.join("slow.tar.zst").exists(),
        "taken while it was being written"
    );
    file.write_all(second).unwrap();
    drop(file);
    // One is renamed into place, into a profile that does not exist.
    let elsewhere = bakery.path("elsewhere.tar.zst");
    fs::write(&elsewhere, upload("lost", b"3")).unwrap();
    let profile = bakery.spool().join("incoming/kiosk/nowhere");
    fs::create_dir_all(&profile).unwrap();
    fs::rename(&elsewhere, profile.join("lost.tar.zst")).unwrap();
    wait_until(Duration::from_secs(60), || {
        bakery.file("kiosk", "etc/slow").is_some()
    });
    wait_until(Duration::from_secs(60), || {
        bakery.jobs().iter().any(|job| job["at"] == "failed")
    });
    assert!(inbox.join(".hidden.tar.zst").exists() && inbox.join("half.tar.zst.part").exists());
    let failed = bakery
        .jobs()
        .into_iter()
        .find(|job| job["at"] == "failed")
        .unwrap();
    assert!(
        failed["ending"]["error"]
            .as_str()
            .unwrap()
            .contains("no kiosk/nowhere"),
        "{failed}"
    );
    assert_eq!(bakery.revisions("kiosk").len(), 2);
    assert!(watch.terminate(), "SIGTERM is a proper end");
}

/// A tar archive with one entry of this name and kind.
fn entry(name: &[u8], kind: tar::EntryType, link: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.as_ustar_mut().unwrap().linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.extend([0; 1024]);
    zstd::encode_all(&archive[..], 1).unwrap()
}

#[test]
fn hostile_uploads_fail_with_a_report_and_hurt_nobody() {
    let bakery = TestBakery::new();
    let whole = upload("good", &vec![1; 10_000]);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let plain = zstd::decode_all(&whole[..]).unwrap();
    let torn = zstd::encode_all(&plain[..plain.len() / 2], 1).unwrap();
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("garbage", b"this is no archive at all".repeat(100)),
        ("cut", whole[..whole.len() - 9].to_vec()),
        ("damaged", damaged),
        ("torn", torn),
        (
            "outside",
            entry(b"../../etc/passwd", tar::EntryType::Regular, b""),
        ),
        ("deeper", entry(b"a/../../b", tar::EntryType::Regular, b"")),
        (
            "dangling",
            entry(b"etc/x", tar::EntryType::Link, b"etc/nothing"),
        ),
    ];
    let mut jobs = Vec::new();
    for (name, body) in &hostile {
        let job = bakery.receive("kiosk", OPENING, body);
        jobs.push((name, job.unwrap_or_else(|| panic!("{name} was not queued"))));
    }
    // Made on a revision that never existed: the newest is used. Invalid first messages are
    // refused.
    for base in ["99999", "18446744073709551615"] {
        let opening = format!("{{\"version\":1,\"base\":{base}}}");
        bakery.receive("kiosk", &opening, &whole).unwrap();
    }
    let nested = "[".repeat(60_000);
    let long = format!("{{\"version\":1,\"message\":\"{}\"}}", "m".repeat(70_000));
    for opening in [
        nested.as_str(),
        &long,
        "{\"version\":1,\"base\":-1}",
        "{}",
        "null",
    ] {
        assert_eq!(bakery.receive("kiosk", opening, &whole), None);
    }
    let good = bakery.receive("kiosk", OPENING, &whole).unwrap();
    bakery.drain();
    let output = bakery.jobs();
    for (name, job) in &jobs {
        let job = output.iter().find(|one| one["id"] == job.as_str()).unwrap();
        assert_eq!(job["at"], "failed", "{name}: {job}");
        let error = job["ending"]["error"].as_str().unwrap();
        assert!(error.len() > 10, "{name}: {error}");
        let body = bakery
            .spool()
            .join("failed")
            .join(job["id"].as_str().unwrap())
            .join("upper.tar.zst");
        assert!(body.exists(), "{name}: a failed upload is kept");
    }
    let good = output
        .iter()
        .find(|one| one["id"] == good.as_str())
        .unwrap();
    assert_eq!(good["at"], "done", "{good}");
    assert_eq!(bakery.revisions("kiosk").len(), 1);
    assert_eq!(bakery.file("kiosk", "etc/good").unwrap(), vec![1; 10_000]);
}

#[test]
fn an_idle_watcher_compacts_long_stacks() {
    let bakery = TestBakery::new();
    for number in 0..3 {
        let name = format!("file-{number}");
        bakery
            .receive("kiosk", OPENING, &upload(&name, name.as_bytes()))
            .unwrap();
    }
    let watch = bakery.watch(&["--compact-above", "2"]);
    wait_until(Duration::from_secs(90), || {
        let head = bakery
            .history()
            .head(&"kiosk".parse().unwrap())
            .unwrap()
            .unwrap();
        head.manifest.revision == 5 && head.manifest.layers.len() == 1
    });
    let revisions = bakery.revisions("kiosk");
    let (before, after) = (&revisions[2].manifest, &revisions[3].manifest);
    assert_eq!(before.layers.len(), 4);
    assert_eq!(before.tree_digest, after.tree_digest);
    // And leaves it at that.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(bakery.revisions("kiosk").len(), 4);
    assert!(watch.terminate());
}
