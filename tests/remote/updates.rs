//! Update packs over real HTTP: a client of one revision becomes a client of the next.

use std::path::{Path, PathBuf};

use bakery::update_pack::{Made, make};
use layerfmt::update::Preamble;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use wire::manifest::RevisionName;
use wire::paths::ObjectPath;

use super::boots::ask;
use super::client::{Client, files_below};
use super::faults::{Fault, FaultServer};
use super::packs::learn_from;
use super::server::Bakery;
use super::site::{SYSTEM, Site};

/// Makes and stores the update pack between two revisions.
pub(super) fn pack(site: &Site, from: u64, to: u64) -> Made {
    let publisher = site.publisher();
    let revision = |number| RevisionName {
        name: Site::name(),
        revision: Some(number),
    };
    let signer = site.keys().head().unwrap();
    make(publisher.history(), &signer, &revision(from), &revision(to)).unwrap()
}

pub(super) fn pack_file(site: &Site, from: u64, to: u64) -> PathBuf {
    let path = ObjectPath::Update(Site::name(), to, from);
    site.store().join(path.to_string())
}

/// A site, its server, and a client cache with all of revision 1.
pub(super) struct Scene {
    pub(super) site: Site,
    pub(super) server: FaultServer,
    pub(super) url: String,
    pub(super) cache: String,
}

impl Scene {
    pub(super) fn new() -> Scene {
        Scene::of(Site::new())
    }

    pub(super) fn of(site: Site) -> Scene {
        Scene::after_a_mount_of(site, "")
    }

    /// `revision`: empty for the newest, or such as `@1`.
    fn after_a_mount_of(site: Site, revision: &str) -> Scene {
        let server = FaultServer::start(site.store());
        let url = format!("{}/{SYSTEM}", server.url());
        let cache = site.path("cache").to_str().unwrap().to_owned();
        let scene = Scene {
            site,
            server,
            url,
            cache,
        };
        let client = scene.mount_at(revision);
        client.compare(&scene.site.files);
        scene.wait_for_cache();
        client.end();
        scene
    }

    /// Waits until the cache grows no more: chunks are written behind the readers.
    fn wait_for_cache(&self) {
        let mut before = 0;
        for _ in 0..120 {
            std::thread::sleep(std::time::Duration::from_millis(500));
            let now = self.chunks().len();
            if now > 0 && now == before {
                return;
            }
            before = now;
        }
    }

    pub(super) fn mount(&self) -> Client {
        self.mount_at("")
    }

    fn mount_at(&self, revision: &str) -> Client {
        let arguments = ["--cache", &self.cache, "-o", "offline-wait=1"];
        let url = format!("{}{revision}", self.url);
        Client::mount(&url, &self.site.allowed_signers(), &arguments)
    }

    pub(super) fn chunks(&self) -> Vec<PathBuf> {
        files_below(&Path::new(&self.cache).join("chunks-1"))
    }

    /// Moves the cache away, for [`Scene::restore`].
    pub(super) fn save(&self) -> PathBuf {
        let saved = self.site.path("saved");
        std::fs::rename(&self.cache, &saved).unwrap();
        saved
    }

    /// The cache is a copy of what was saved.
    pub(super) fn restore(&self, saved: &Path) {
        let _ = std::fs::remove_dir_all(&self.cache);
        let mut command = std::process::Command::new("cp");
        let status = command.arg("-a").arg(saved).arg(&self.cache).status();
        assert!(status.unwrap().success());
    }
}

pub(super) fn units(client: &Client, field: &str) -> u64 {
    let status = client.status();
    let count = status["update_pack"][field].as_u64();
    count.unwrap_or_else(|| panic!("no update pack: {status}"))
}

/// A client with all of revision 1 gets revision 2 from the update pack alone, and then starts
/// revision 2 without a server.
#[test]
fn a_client_with_the_old_revision_takes_the_update_pack_only() {
    let mut scene = Scene::new();
    assert_eq!(scene.site.change(1), 2);
    let made = pack(&scene.site, 1, 2);
    assert!(made.bytes * 2 < made.plain_bytes, "{made:?}");
    let client = scene.mount();
    client.wait_for("update", "complete");
    assert_eq!(units(&client, "applied"), units(&client, "units"));
    client.compare(&scene.site.files);
    let status = client.status();
    let bytes = status["bytes"].as_u64().unwrap();
    // The client fetched the records, and the pack once.
    assert_eq!(made.chunks_left_out, 0, "{made:?}");
    assert_eq!(status["demanded"], 0, "{status}");
    assert!(bytes < made.bytes + 8_000, "{bytes} bytes: {status}");
    assert!(units(&client, "plain_bytes") <= made.plain_bytes);
    assert!(units(&client, "plain_bytes") > 2 * units(&client, "bytes"));
    drop(client);
    // The same holds after a restart without a server, from the disk only.
    let Scene {
        site,
        server,
        url,
        cache,
        ..
    } = scene;
    drop(server);
    let arguments = ["--cache", &cache, "-o", "offline-wait=1,cache-memory=0"];
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    assert_eq!(client.status()["offline"], true);
    client.compare(&site.files);
}

/// An update also starts from the revision of a pinned mount, whose records are kept apart.
#[test]
fn an_update_starts_from_a_pinned_revision() {
    let mut scene = Scene::after_a_mount_of(Site::new(), "@1");
    assert_eq!(scene.site.change(1), 2);
    pack(&scene.site, 1, 2);
    let client = scene.mount();
    client.wait_for("update", "complete");
    client.compare(&scene.site.files);
    assert_eq!(client.status()["demanded"], 0);
}

/// A client follows several revisions, each by the pack from the previous one.
#[test]
fn updates_follow_each_other() {
    let mut scene = Scene::new();
    for seed in 1..4 {
        let revision = scene.site.change(seed);
        pack(&scene.site, revision - 1, revision);
        let client = scene.mount();
        client.wait_for("update", "complete");
        assert_eq!(units(&client, "given_up"), 0);
        client.compare(&scene.site.files);
    }
}

/// For a missing, evicted or damaged old chunk the client fetches only the chunks that need it.
#[test]
fn missing_and_damaged_old_chunks_are_fetched_around() {
    let mut scene = Scene::new();
    scene.site.change(1);
    pack(&scene.site, 1, 2);
    for (i, file) in scene.chunks().iter().enumerate() {
        match i % 3 {
            0 => std::fs::remove_file(file).unwrap(),
            1 => {
                let mut bytes = std::fs::read(file).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(file, bytes).unwrap();
            }
            _ => {}
        }
    }
    let client = scene.mount();
    client.compare(&scene.site.files);
    client.wait_for("update", "complete");
    assert!(units(&client, "given_up") > 0);
    client.compare(&scene.site.files);
}

/// A pack of other revisions, a damaged pack and a truncated one only cost time.
#[test]
fn wrong_packs_cost_only_time() {
    let mut scene = Scene::new();
    scene.site.change(1);
    pack(&scene.site, 1, 2);
    let file = pack_file(&scene.site, 1, 2);
    let good = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let saved = scene.save();
    let middle = good.len() / 2;
    let mut wrong: Vec<Vec<u8>> = [14, 40, 700, 1200, good.len() - 3]
        .into_iter()
        .map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x21;
            bytes
        })
        .collect();
    wrong.extend([0, 24, 1100, middle].map(|len| good[..len].to_vec()));
    for (i, bytes) in wrong.iter().enumerate() {
        scene.restore(&saved);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, bytes).unwrap();
        let client = scene.mount();
        client.compare(&scene.site.files);
        assert_eq!(
            client.status()["revision"],
            format!("{SYSTEM}/main@2"),
            "{i}"
        );
    }
    // A valid pack under the name of another pair of revisions.
    scene.site.change(2);
    std::fs::remove_file(&file).unwrap();
    let other = pack_file(&scene.site, 1, 3);
    std::fs::create_dir_all(other.parent().unwrap()).unwrap();
    std::fs::write(&other, &good).unwrap();
    scene.restore(&saved);
    let client = scene.mount();
    client.compare(&scene.site.files);
    assert_eq!(client.status()["update"], "none");
}

/// The client continues a broken transfer at the break.
#[test]
fn a_broken_stream_is_continued() {
    let mut scene = Scene::new();
    scene.site.change(1);
    pack(&scene.site, 1, 2);
    scene.server.fail(Fault::ResetAfter(20_000), "/updates", 4);
    let client = scene.mount();
    client.wait_for("update", "complete");
    assert_eq!(units(&client, "applied"), units(&client, "units"));
    client.compare(&scene.site.files);
    let status = client.status();
    assert_eq!(status["demanded"], 0, "{status}");
}

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..len).map(|_| random.random()).collect()
}

/// Every second half of 64 bytes of `old` is other noise.
fn half_changed(old: &[u8], seed: u64) -> Vec<u8> {
    let mut new = noise(seed, old.len());
    for (new, old) in new.chunks_mut(64).zip(old.chunks(64)) {
        let kept = old.len().min(32);
        new[..kept].copy_from_slice(&old[..kept]);
    }
    new
}

/// "A reader requests the beginning of the file, then the rest of the hot units, and when no reader has waited
/// for 15 seconds all others." The boot pack of the new revision has none of the changed files.
#[test]
fn a_boot_gets_the_hot_units_in_its_first_two_requests() {
    let files = |version: u32, hot: &[u8], cold: &[u8]| {
        std::collections::BTreeMap::from([
            (format!("6.1.0-{version}.conf"), hot.to_vec()),
            ("cold".into(), cold.to_vec()),
            ("unchanged".into(), noise(2, 100_000)),
        ])
    };
    let (hot, cold) = (noise(3, 1 << 20), noise(4, 1 << 20));
    let site = Site::with(files(30, &hot, &cold));
    learn_from(&site, |client| {
        for name in ["6.1.0-30.conf", "unchanged"] {
            std::fs::read(client.at.join(name)).unwrap();
        }
    });
    let mut scene = Scene::of(site);
    let changed = files(31, &half_changed(&hot, 5), &half_changed(&cold, 6));
    assert_eq!(scene.site.publish_files(changed), 3);
    let made = pack(&scene.site, 2, 3);
    assert_eq!(made.chunks_left_out, 0, "{made:?}");
    assert!(made.hot_bytes > 400_000, "{made:?}");
    let client = scene.mount();
    let read = std::fs::read(client.at.join("6.1.0-31.conf")).unwrap();
    assert!(read == scene.site.files["6.1.0-31.conf"]);
    client.wait_for("update", "complete");
    client.compare(&scene.site.files);
    assert_eq!(client.status()["demanded"], 0, "{}", client.status());
    let bytes = std::fs::read(pack_file(&scene.site, 2, 3)).unwrap();
    let frames_at = Preamble::decode(&bytes).unwrap().head().end;
    let hot_end = usize::try_from(frames_at + made.index_bytes + made.hot_bytes).unwrap();
    let ranges = scene.server.ranges("/updates");
    assert!(
        ranges[0].start == 0 && ranges[0].end < hot_end,
        "{ranges:?}"
    );
    // On a slow machine a request may be repeated, from where it was.
    let (hot, others): (Vec<_>, Vec<_>) = ranges.iter().partition(|it| it.end <= hot_end);
    assert!(
        hot.iter()
            .any(|it| it.start == ranges[0].end && it.end == hot_end),
        "{ranges:?}"
    );
    assert!(others.iter().all(|it| it.start >= hot_end), "{ranges:?}");
    assert!(
        others
            .iter()
            .any(|it| it.start == hot_end && it.end == bytes.len()),
        "{ranges:?}"
    );
}

/// A second request for a pack that the store has encodes nothing and reports the same.
#[test]
fn a_pack_is_made_once() {
    let mut scene = Scene::new();
    scene.site.change(1);
    let first = pack(&scene.site, 1, 2);
    let file = pack_file(&scene.site, 1, 2);
    let modified = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let before = modified();
    let second = pack(&scene.site, 1, 2);
    assert!(!first.was_there && second.was_there);
    let again = Made {
        was_there: true,
        ..first
    };
    assert_eq!(format!("{second:?}"), format!("{again:?}"));
    assert_eq!(modified(), before);
}

/// Output of a compressor.
fn compressed(program: &str, arguments: &[&str], raw: &[u8]) -> Vec<u8> {
    let place = crate::scratch::Scratch::new();
    let file = place.path().join("raw");
    std::fs::write(&file, raw).unwrap();
    let mut command = std::process::Command::new(program);
    let output = command.args(arguments).arg("-c").arg(&file).output();
    let output = output.unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Kernel modules and manual pages of a revision: names and contents change with `version`.
fn compressed_files(version: u32) -> std::collections::BTreeMap<String, Vec<u8>> {
    let text = |file: u32, lines: u32| -> Vec<u8> {
        (0..lines)
            .flat_map(|line| {
                let changes = u32::from(line % 97 == file % 97) * version;
                let mixed = (line ^ file << 9).wrapping_mul(2_654_435_761);
                format!("{mixed} {changes}\n").into_bytes()
            })
            .collect()
    };
    let xz = [
        "--check=crc32",
        "--lzma2=dict=1MiB",
        "-T2",
        "--block-size=300KiB",
    ];
    let mut files = std::collections::BTreeMap::new();
    for file in 0..4 {
        let raw = text(file, 3_000 + 12_000 * file);
        let name = format!(
            "6.1.0-{version}-driver{}.ko.xz",
            (b'a' + file as u8) as char
        );
        files.insert(name, compressed("xz", &xz, &raw));
        let raw = text(file + 20, 1_500);
        files.insert(
            format!("page{file}.1.gz"),
            compressed("gzip", &["-9n"], &raw),
        );
    }
    files.insert("plain".into(), text(50, 20_000));
    files
}

/// "A unit with codec 2 holds the raw form of such data, and a recipe that makes the compressed
/// form again." The client compresses again what the pack has unpacked, and has every byte.
#[test]
fn compressed_files_are_made_again() {
    let mut scene = Scene::of(Site::with(compressed_files(1)));
    scene.site.publish_files(compressed_files(2));
    let made = pack(&scene.site, 1, 2);
    assert!(made.bytes * 5 < made.plain_bytes, "{made:?}");
    let client = scene.mount();
    client.wait_for("update", "complete");
    assert_eq!(units(&client, "given_up"), 0, "{}", client.status());
    assert_eq!(units(&client, "applied"), units(&client, "units"));
    client.compare(&scene.site.files);
    assert_eq!(client.status()["demanded"], 0, "{}", client.status());
}

/// A backup moves to the next revision by the update pack; its layers are those of the store.
#[test]
fn a_backup_follows_by_the_update_pack() {
    let mut site = Site::baked();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    let backup = site.path("backup");
    let arguments = ["--backup", backup.to_str().unwrap(), "-o", "offline-wait=1"];
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.wait_for("backup", "complete: revision 1");
    drop(client);
    site.change(1);
    let made = pack(&site, 1, 2);
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.wait_for("backup", "complete: revision 2");
    let status = client.status();
    assert_eq!(units(&client, "given_up"), 0, "{status}");
    client.compare(&site.files);
    drop(client);
    for layer in std::fs::read_dir(backup.join("layers")).unwrap() {
        let layer = layer.unwrap();
        let stored = std::fs::read(site.store().join("layers").join(layer.file_name())).unwrap();
        assert!(std::fs::read(layer.path()).unwrap() == stored, "{layer:?}");
    }
    assert!(made.bytes > 0);
}

/// "The answer to the request for the records lists the packs": without a pack the client asks for
/// none.
#[test]
fn a_client_asks_for_no_pack_that_does_not_exist() {
    let mut scene = Scene::new();
    scene.site.change(1);
    let bakery = Bakery::serve(&scene.site);
    let url = format!("{}/{SYSTEM}", bakery.url());
    let mount = || {
        let arguments = ["--cache", &scene.cache, "-o", "offline-wait=1,report=no"];
        Client::mount(&url, &scene.site.allowed_signers(), &arguments)
    };
    let client = mount();
    assert_eq!(client.status()["update"], "none");
    client.compare(&scene.site.files);
    drop(client);
    let (_, metrics) = ask(&bakery, "GET /metrics", b"");
    let refused = metrics
        .lines()
        .filter(|line| line.contains("status=\"4xx\""));
    assert_eq!(refused.collect::<Vec<_>>(), Vec::<&str>::new());
}
