use wire::manifest::Head;
use wire::trust::{Envelope, HEAD_NAMESPACE};

use super::client::Client;
use super::faults::FaultServer;
use super::site::{SYSTEM, Site};

fn head_path(site: &Site, revision: u64) -> std::path::PathBuf {
    site.store()
        .join(format!("refs/{SYSTEM}/main/{revision:020}"))
}

fn refused(site: &Site, server: &FaultServer, arguments: &[&str]) -> String {
    let url = format!("{}/{SYSTEM}", server.url());
    match Client::attempt(&url, &site.allowed_signers(), arguments) {
        Ok(_) => panic!("it was mounted"),
        Err(said) => said,
    }
}

/// A server that shows an old state of its store to a client that has seen a newer one.
#[test]
fn a_replayed_old_head_is_refused() {
    let mut site = Site::new();
    let server = FaultServer::start(site.store());
    let cache = site.path("cache");
    let arguments = [
        "--prefetch",
        "none",
        "--cache",
        cache.to_str().unwrap(),
        "-o",
        "offline-wait=1",
    ];
    assert_eq!(site.publish(), 2);
    let url = format!("{}/{SYSTEM}", server.url());
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.compare(&site.files);
    drop(client);
    let newest = head_path(&site, 2);
    let kept = std::fs::read(&newest).unwrap();
    std::fs::remove_file(&newest).unwrap();
    std::fs::write(site.store().join(format!("hints/{SYSTEM}/main")), "1").unwrap();
    // It starts from local data with a message, instead of going back.
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    assert_eq!(client.status()["offline"], true);
    assert_eq!(client.status()["revision"], format!("{SYSTEM}/main@2"));
    drop(client);
    // Without local records there is no memory; min-revision is set by the initramfs.
    let said = refused(&site, &server, &["-o", "min-revision=2"]);
    assert!(said.contains("an old copy"), "{said}");
    std::fs::write(&newest, kept).unwrap();
    let client = Client::mount(&url, &site.allowed_signers(), &["-o", "min-revision=2"]);
    client.compare(&site.files);
}

/// docs/PROTOCOL.md §5: a mount of a pinned revision lowers no number that a reader has seen, and
/// leaves what a start of the newest revision without a server needs.
#[test]
fn a_pinned_mount_leaves_the_memory_of_the_newest() {
    let mut site = Site::new();
    let server = FaultServer::start(site.store());
    let cache = site.path("cache");
    let cache = cache.to_str().unwrap();
    let arguments = ["--cache", cache, "-o", "offline-wait=1"];
    let old_files = site.files.clone();
    assert_eq!(site.publish(), 2);
    let url = format!("{}/{SYSTEM}", server.url());
    let pinned = format!("{url}@1");
    for (url, files) in [(&url, &site.files), (&pinned, &old_files)] {
        Client::mount(url, &site.allowed_signers(), &arguments).compare(files);
    }
    // A replay of revision 1 is not accepted: the mount starts from what it kept of revision 2.
    let newest = head_path(&site, 2);
    let kept = std::fs::read(&newest).unwrap();
    std::fs::remove_file(&newest).unwrap();
    std::fs::write(site.store().join(format!("hints/{SYSTEM}/main")), "1").unwrap();
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    assert_eq!(client.status()["offline"], true);
    assert_eq!(client.status()["revision"], format!("{SYSTEM}/main@2"));
    drop(client);
    std::fs::write(&newest, kept).unwrap();
    drop(server);
    for (url, revision) in [(&url, 2), (&pinned, 1)] {
        let client = Client::mount(url, &site.allowed_signers(), &arguments);
        assert_eq!(client.status()["offline"], true);
        let name = format!("{SYSTEM}/main@{revision}");
        assert_eq!(client.status()["revision"], name);
    }
}

#[test]
fn an_unknown_signer_is_refused() {
    let (site, stranger) = (Site::new(), Site::new());
    let server = FaultServer::start(stranger.store());
    let said = refused(&site, &server, &[]);
    assert!(said.contains("key"), "{said}");
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Gives the first head of the site an end.
fn end_at(site: &Site, expires_at: u64) {
    let path = head_path(site, 1);
    let envelope = Envelope::parse(&std::fs::read(&path).unwrap()).unwrap();
    let mut head = Head::parse(envelope.payload.as_bytes()).unwrap();
    head.issued_at = head.issued_at.min(expires_at - 1);
    head.expires_at = Some(expires_at);
    let signer = site.keys().head().unwrap();
    let signed = signer
        .sign(HEAD_NAMESPACE, &head.render().unwrap())
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, signed.render().unwrap()).unwrap();
}

#[test]
fn an_expired_head_is_refused() {
    let site = Site::new();
    end_at(&site, now() - 1);
    let server = FaultServer::start(site.store());
    let said = refused(&site, &server, &[]);
    assert!(said.contains("expired"), "{said}");
}

/// An expired head from a server is refused, but local data is mounted: with that server, and
/// without any.
#[test]
fn what_is_kept_starts_after_its_head_has_ended() {
    let site = Site::new();
    let end = now() + 15;
    end_at(&site, end);
    let server = FaultServer::start(site.store());
    let cache = site.path("cache");
    let arguments = ["--cache", cache.to_str().unwrap(), "-o", "offline-wait=1"];
    let url = format!("{}/{SYSTEM}", server.url());
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    assert_eq!(client.status()["offline"], false);
    client.compare(&site.files);
    drop(client);
    while now() < end {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    assert_eq!(client.status()["offline"], true);
    client.compare(&site.files);
    drop(client);
    drop(server);
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    assert_eq!(client.status()["offline"], true);
    client.compare(&site.files);
}

#[test]
fn a_changed_manifest_is_refused() {
    let site = Site::new();
    let manifests = site.store().join("manifests");
    for entry in std::fs::read_dir(manifests).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, text.replace("version 1", "version 2")).unwrap();
    }
    let server = FaultServer::start(site.store());
    let said = refused(&site, &server, &[]);
    assert!(said.contains("digest"), "{said}");
}
