use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags};

use super::client::{Client, files_below};
use super::faults::FaultServer;
use super::site::{SYSTEM, Site};
use crate::harness::programs::program;

/// Cached data needs no server; torn files of a power cut are detected and fetched again.
#[test]
fn the_cache_serves_without_a_server_and_heals_after_a_power_cut() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let address = server.address;
    let url = format!("{}/{SYSTEM}", server.url());
    let cache = site.path("cache");
    let arguments = [
        "--prefetch",
        "none",
        "--cache",
        cache.to_str().unwrap(),
        "-o",
        "offline-wait=1,cache-memory=0",
    ];
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.compare(&site.files);
    drop(client);
    drop(server);
    let place = site.path("").display().to_string();
    std::fs::create_dir_all(site.path("upper")).unwrap();
    std::fs::create_dir_all(site.path("work")).unwrap();
    let upper = format!("upperdir={place}/upper,workdir={place}/work");
    let writable = [&arguments[..], &["-o", &upper]].concat();
    let client = Client::mount(&url, &site.allowed_signers(), &writable);
    assert_eq!(client.status()["offline"], true);
    client.compare(&site.files);
    // S10.4: "If no server takes it, the result is EHOSTUNREACH." It is no fault of the mount.
    let hello = Command::new(program("layerfs"))
        .arg("hello")
        .arg(&client.at)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&hello.stderr).into_owned();
    assert!(said.contains("no server accepted the hello"), "{said}");
    let log = std::fs::read_to_string(client.at.with_file_name("log")).unwrap();
    assert!(!log.contains("a request failed"), "{log}");
    drop(client);
    // Power failed: some files are empty, some truncated, some contain zeros.
    let files = files_below(&cache.join("chunks-1"));
    assert!(files.len() > 8, "{} chunks cached", files.len());
    for (i, file) in files.iter().enumerate() {
        let mut bytes = std::fs::read(file).unwrap();
        match i % 4 {
            0 => bytes.clear(),
            1 => bytes.truncate(bytes.len() / 3),
            2 => bytes[4096.min(i)..].fill(0),
            _ => continue,
        }
        std::fs::write(file, bytes).unwrap();
    }
    let server = FaultServer::start_at(site.store(), address);
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.compare(&site.files);
    assert!(client.number("cache_damaged") >= files.len() as u64 / 2);
    drop(client);
    drop(server);
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.compare(&site.files);
    assert_eq!(client.number("cache_damaged"), 0);
}

/// The backup is completed in the background, carries a start without a server, moves on to the next
/// revision when that is complete, and is itself a store that can be served.
#[test]
fn a_backup_starts_without_a_server_and_follows_the_history() {
    let mut site = Site::new();
    let server = FaultServer::start(site.store());
    let address = server.address;
    let url = format!("{}/{SYSTEM}", server.url());
    let backup = site.path("backup");
    let arguments = ["--backup", backup.to_str().unwrap(), "-o", "offline-wait=1"];
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.wait_for("backup", "complete: revision 1");
    drop(client);
    drop(server);
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    assert_eq!(client.status()["offline"], true);
    client.compare(&site.files);
    drop(client);
    let server = FaultServer::start(backup.clone());
    let from_backup = format!("{}/{SYSTEM}", server.url());
    Client::mount(&from_backup, &site.allowed_signers(), &[]).compare(&site.files);
    drop(server);
    // The next revision is filled only partly: a start uses the old one.
    let old = site.files.clone();
    assert_eq!(site.publish(), 2);
    let server = FaultServer::start_at(site.store(), address);
    server.fail(
        super::faults::Fault::ResetAfter(50_000),
        "/layers",
        u64::MAX,
    );
    let slow = [&arguments[..], &["--prefetch-rate", "50K"]].concat();
    let client = Client::mount(&url, &site.allowed_signers(), &slow);
    assert_eq!(client.status()["revision"], format!("{SYSTEM}/main@2"));
    std::thread::sleep(std::time::Duration::from_secs(1));
    drop(client);
    drop(server);
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    assert_eq!(client.status()["revision"], format!("{SYSTEM}/main@1"));
    client.compare(&old);
    drop(client);
    let server = FaultServer::start_at(site.store(), address);
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.wait_for("backup", "complete: revision 2");
    drop(client);
    drop(server);
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.compare(&site.files);
}

/// A boot pack that is damaged on every server: the backup does without it, as a mount does.
#[test]
fn a_backup_is_complete_without_a_damaged_pack() {
    let site = Site::new();
    let revision = super::packs::learn_from(&site, |client| {
        std::fs::read(client.at.join("large")).unwrap();
    });
    let packs = super::client::files_below(&site.store().join("packs"));
    for pack in &packs {
        let mut bytes = std::fs::read(pack).unwrap();
        // In the first chunk, behind the superblock.
        bytes[1024 + 100] ^= 1;
        std::fs::write(pack, bytes).unwrap();
    }
    assert!(!packs.is_empty());
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    let backup = site.path("backup");
    let arguments = ["--backup", backup.to_str().unwrap(), "-o", "offline-wait=1"];
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.wait_for("backup", &format!("complete: revision {revision}"));
    client.compare(&site.files);
    drop(client);
    drop(server);
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    assert_eq!(client.status()["offline"], true);
    client.compare(&site.files);
}

/// Full, read-only and missing storage: the mount continues without it and reports this.
#[test]
fn broken_backup_storage_is_said_and_does_not_matter() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    let small = site.path("small");
    std::fs::create_dir(&small).unwrap();
    rustix::mount::mount("backup", &small, "tmpfs", MountFlags::empty(), c"size=256k")
        .expect("a tmpfs");
    let client = Client::mount(
        &url,
        &site.allowed_signers(),
        &["--backup", small.to_str().unwrap()],
    );
    client.wait_for("backup", "full");
    client.compare(&site.files);
    drop(client);
    rustix::mount::unmount(&small, UnmountFlags::DETACH).unwrap();
    let nowhere = [
        "--backup",
        "/proc/nowhere/backup",
        "--cache",
        "/proc/nowhere/cache",
    ];
    let client = Client::mount(&url, &site.allowed_signers(), &nowhere);
    assert_eq!(client.status()["backup"], "none");
    assert!(
        client.status()["cache"]
            .as_str()
            .unwrap()
            .contains("unusable")
    );
    client.compare(&site.files);
}
