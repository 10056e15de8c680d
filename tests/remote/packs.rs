use std::os::unix::fs::FileExt;

use bakery::graft::Resolution;
use bakery::publish::Addition;
use wire::manifest::Action;

use super::client::Client;
use super::faults::{Fault, FaultServer};
use super::server::Bakery;
use super::site::{SYSTEM, Site};
use crate::transport::PAGE_CACHE;

/// The reads of the simulated boot, in this order: offsets and lengths.
const BOOT: [(&str, u64, usize); 6] = [
    ("large", 2_000_000, 20_000),
    ("small50", 0, 9_000),
    ("sparse", 500_000, 50_000),
    ("large", 100_000, 40_960),
    ("middle", 0, 4_096),
    ("small59", 4_096, 30_000),
];

fn boot(client: &Client, site: &Site) {
    for (name, offset, len) in BOOT {
        let file = std::fs::File::open(client.at.join(name)).unwrap();
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).unwrap();
        assert!(
            bytes == site.files[name][offset as usize..offset as usize + len],
            "{name} at {offset}"
        );
    }
}

fn learn(site: &Site) -> u64 {
    learn_from(site, |client| boot(client, site))
}

/// Records and sends a boot; the bakery makes a pack of it and publishes; returns the new revision.
pub(super) fn learn_from(site: &Site, boot: impl Fn(&Client)) -> u64 {
    let bakery = Bakery::serve(site);
    let url = format!("{}/{SYSTEM}", bakery.url());
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
    boot(&client);
    let sent = client.run("push-trace");
    assert!(
        sent.status.success(),
        "{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    let sources = bakery::publish::pack::Sources {
        spool: Some(site.path("spool")),
        files: Vec::new(),
        share: 25,
        predict: false,
    };
    let report =
        bakery::publish::pack::publish(&site.publisher(), &Site::name(), &sources, false).unwrap();
    assert_eq!((report.traces, report.refused, report.covered), (1, 0, 0));
    let again =
        bakery::publish::pack::publish(&site.publisher(), &Site::name(), &sources, false).unwrap();
    assert_eq!(
        (again.revision, again.covered),
        (None, 100),
        "a good pack must be left alone"
    );
    report.revision.unwrap()
}

/// A site whose system has a pack, and the address of its server.
fn packed() -> (Site, Bakery, String) {
    let site = Site::new();
    learn(&site);
    let bakery = Bakery::serve(&site);
    let url = format!("{}/{SYSTEM}", bakery.url());
    (site, bakery, url)
}

#[test]
fn a_recorded_boot_becomes_a_pack_that_brings_the_next_boot_in_one_request() {
    let site = Site::new();
    assert_eq!(learn(&site), 2);
    let bakery = Bakery::serve(&site);
    let url = format!("{}/{SYSTEM}", bakery.url());
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "pack"]);
    assert_eq!(client.status()["revision"], format!("{SYSTEM}/main@2"));
    boot(&client, &site);
    client.wait_for("pack", "complete");
    let status = client.status();
    assert_eq!(
        status["demanded"], 0,
        "the boot asked for something the pack should have: {status}"
    );
    assert!(status["pack_chunks"].as_u64() > Some(0));
    assert!(status["requests"].as_u64() <= Some(4), "{status}");
    client.compare(&site.files);
    assert_eq!(client.number("rebuilt"), 0);
}

/// The number of reads that the mount received.
fn reads(client: &Client) -> u64 {
    let status = client.whole_status();
    let requests = status["requests"].as_array().unwrap();
    let read = requests.iter().find(|request| request["name"] == "read");
    read.map_or(0, |read| read["count"].as_u64().unwrap())
}

/// The reads so far, once two seconds pass without another: the kernel follows advice in the
/// background. Waits at most a minute.
fn reads_at_rest(client: &Client) -> u64 {
    let (mut before, mut quiet) = (reads(client), 0);
    for _ in 0..120 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let now = reads(client);
        quiet = if now > 0 && now == before {
            quiet + 1
        } else {
            0
        };
        before = now;
        // On a loaded machine a request may take longer than one look.
        if quiet == 4 {
            break;
        }
    }
    before
}

fn read_ahead_kib(client: &Client) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata(&client.at).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    std::fs::read_to_string(path)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// `layerfs initramfs warm` reads the pack's pages into the page cache: the boot then requests none of them
/// from the daemon.
#[test]
fn a_warmed_boot_finds_its_pages_in_the_page_cache() {
    let _kept = PAGE_CACHE.read();
    let (site, _bakery, url) = packed();
    let client = Client::mount(&url, &site.allowed_signers(), &[]);
    assert_eq!(reads(&client), 0);
    assert_eq!(read_ahead_kib(&client), 4);
    let warmed = client.run("initramfs warm");
    assert!(warmed.status.success(), "{warmed:?}");
    assert_eq!(read_ahead_kib(&client), 32);
    client.wait_for("pack", "complete");
    let before = reads_at_rest(&client);
    assert!(before > 0 && before < 40, "{before}");
    boot(&client, &site);
    assert_eq!(reads(&client), before, "the boot had to ask again");
    client.compare(&site.files);
    let bare = Client::mount(&format!("{url}@1"), &site.allowed_signers(), &[]);
    let warmed = bare.run("initramfs warm");
    assert_eq!(warmed.status.code(), Some(2), "{warmed:?}");
    assert!(String::from_utf8_lossy(&warmed.stderr).contains("no boot pack"));
}

/// An empty upper, and the mount options for it.
fn upper() -> (crate::scratch::Scratch, String) {
    let upper = crate::scratch::Scratch::new();
    for name in ["rw", "wk"] {
        std::fs::create_dir(upper.path().join(name)).unwrap();
    }
    let place = upper.path().display();
    let options = format!("upperdir={place}/rw,workdir={place}/wk");
    (upper, options)
}

/// Runs `layerfs initramfs warm --before-use` once the pack is here.
fn warm_before_use(client: &Client) {
    client.wait_for("pack", "complete");
    let warmed = client.run_with("initramfs warm", &["--before-use"]);
    assert!(warmed.status.success(), "{warmed:?}");
    assert_eq!(warmed.stdout, b"ready\n");
}

/// S17.1 Between the mount and its first use the pack's pages are stored in the page cache without a read.
#[test]
fn before_anybody_uses_a_mount_its_pack_is_stored_without_a_read() {
    let _kept = PAGE_CACHE.read();
    let (site, _bakery, url) = packed();
    let client = Client::mount(&url, &site.allowed_signers(), &[]);
    warm_before_use(&client);
    boot(&client, &site);
    assert_eq!(reads(&client), 0, "the boot had to ask");
    assert_eq!(read_ahead_kib(&client), 32);
    client.compare(&site.files);
}

/// S17.2 A file that the upper has is not stored from the pack.
#[test]
fn what_the_upper_has_is_not_stored_from_the_pack() {
    let _kept = PAGE_CACHE.read();
    let (site, _bakery, url) = packed();
    let (_upper, options) = upper();
    let mut files = site.files.clone();
    {
        let client = Client::mount(&url, &site.allowed_signers(), &["-o", &options]);
        let file = std::fs::File::options()
            .write(true)
            .open(client.at.join("large"));
        file.unwrap().write_all_at(b"changed", 2_000_000).unwrap();
        files.get_mut("large").unwrap()[2_000_000..2_000_007].copy_from_slice(b"changed");
        let short = std::fs::File::options()
            .write(true)
            .open(client.at.join("small50"));
        short.unwrap().set_len(5_000).unwrap();
        files.get_mut("small50").unwrap().truncate(5_000);
        std::fs::rename(client.at.join("sparse"), client.at.join("moved")).unwrap();
        let moved = files.remove("sparse").unwrap();
        files.insert("moved".into(), moved);
    }
    let client = Client::mount(&url, &site.allowed_signers(), &["-o", &options]);
    warm_before_use(&client);
    client.compare(&files);
}

/// S17.3 After any change through the mount no page is stored, even if the caller promises that
/// nobody uses it.
#[test]
fn a_mount_in_use_has_nothing_stored_over_it() {
    let (site, _bakery, url) = packed();
    let (_upper, options) = upper();
    let client = Client::mount(&url, &site.allowed_signers(), &["-o", &options]);
    std::fs::write(client.at.join("new"), b"x").unwrap();
    warm_before_use(&client);
    assert!(reads_at_rest(&client) > 0, "it was stored");
    boot(&client, &site);
}

/// The first files of the pack's chunks are deleted on this machine: the others are still read,
/// with one wait for each chunk.
#[test]
fn what_is_gone_keeps_nothing_else_cold() {
    let _kept = PAGE_CACHE.read();
    let (site, _bakery, url) = packed();
    let (_upper, options) = upper();
    let client = Client::mount(&url, &site.allowed_signers(), &["-o", &options]);
    std::fs::remove_file(client.at.join("large")).unwrap();
    let warmed = client.run("initramfs warm");
    assert!(warmed.status.success(), "{warmed:?}");
    client.wait_for("pack", "complete");
    let before = reads_at_rest(&client);
    let kept = BOOT.iter().filter(|(name, ..)| *name != "large");
    for (name, offset, len) in kept {
        let file = std::fs::File::open(client.at.join(name)).unwrap();
        let mut bytes = vec![0; *len];
        file.read_exact_at(&mut bytes, *offset).unwrap();
        let expected = &site.files[*name][*offset as usize..*offset as usize + len];
        assert!(bytes == expected, "{name} at {offset}");
    }
    assert!(before > 0);
    assert_eq!(reads(&client), before, "the boot had to ask again");
}

/// The pack of the next revision has the same pages of files that the change did not touch.
#[test]
fn the_next_revision_takes_the_pack_along() {
    let mut site = Site::new();
    learn(&site);
    let publisher = site.publisher();
    let before = publisher.history().require_head(&Site::name()).unwrap();
    let merged = publisher.history().merged(&before.manifest).unwrap();
    let middle = site.files["large"][..50_000].to_vec();
    site.files.insert("middle".into(), middle);
    site.files.remove("small11");
    let files = site.files.iter();
    let files = files.map(|(name, bytes)| (name.clone(), (bytes.clone(), 0o600)));
    let layer = site.path("next.layer");
    crate::history::world::bake(&layer, Some(&merged), &files.collect());
    let next = publisher
        .add(&Addition {
            name: Site::name(),
            layer: &layer,
            made_on: None,
            action: Action::Bake,
            author: "test".into(),
            message: "a change".into(),
            resolution: Resolution::Refuse,
        })
        .unwrap();
    assert_eq!(next.manifest.pack, before.manifest.pack);
    assert_ne!(next.manifest.plain, before.manifest.plain);
    let bakery = Bakery::serve(&site);
    let url = format!("{}/{SYSTEM}", bakery.url());
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "pack"]);
    assert_eq!(client.status()["revision"], format!("{SYSTEM}/main@3"));
    client.wait_for("pack", "complete");
    boot(&client, &site);
    // Of the pages of that boot only the one of `middle` is new.
    assert_eq!(client.number("demanded"), 1, "{}", client.status());
    client.compare(&site.files);
    let found = bakery::scrub::scrub(publisher.history(), true, &|_| ()).unwrap();
    assert!(found.defects.is_empty(), "{:#?}", found.defects);
    // A tree with almost none of its pages gets no pack.
    let revision = site.publish();
    let other = publisher.history().require_head(&Site::name()).unwrap();
    assert_eq!((other.number(), other.manifest.pack), (revision, None));
}

/// Missing, corrupt, truncated, reset, hanging packs: every byte is the same, only time is lost.
#[test]
fn a_bad_pack_only_loses_time() {
    let site = Site::new();
    learn(&site);
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    for (fault, times) in [
        (Fault::Status(404), u64::MAX),
        (Fault::Corrupt, u64::MAX),
        (Fault::ShiftedBytes, u64::MAX),
        (Fault::WrongRange, u64::MAX),
        (Fault::Corrupt, 1),
        (Fault::Truncate, 2),
        (Fault::ResetAfter(5_000), 3),
        (Fault::Hang, 1),
    ] {
        server.fail(fault, "/packs", times);
        let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "pack"]);
        boot(&client, &site);
        client.compare(&site.files);
        assert!(server.faults() > 0, "{fault:?} was not shown");
        if times == u64::MAX {
            assert!(
                client.number("rebuilt") > 0,
                "{fault:?}: nothing was rebuilt: {}",
                client.status()
            );
        }
    }
    // The pack of another tree does not help: the data is rebuilt from the layers.
    server.behave();
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
    client.compare(&site.files);
}
