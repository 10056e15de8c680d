//! S19.12: the index of a switch is fetched as its difference to the mounted one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::super::client::{Client, files_below, program};
use super::super::faults::{Fault, FaultServer};
use super::super::site::{SYSTEM, Site};
use super::with_mode;
use crate::scratch::Scratch;

const FILES: u32 = 600;

/// Files of which the content of some depends on `revision`.
fn tree(revision: u32) -> BTreeMap<String, Vec<u8>> {
    let file = |number: u32| {
        let version = if number % 97 < revision { revision } else { 0 };
        let content = format!("{number} {version} ").repeat(2000 + number as usize % 13);
        (format!("file-{number:04}.conf"), content.into_bytes())
    };
    (0..FILES).map(file).collect()
}

/// A server with `count` revisions, and a mount of the first that keeps nothing on a disk.
struct Scene {
    site: Site,
    server: FaultServer,
    client: Client,
    place: Scratch,
}

impl Scene {
    fn new(count: u32) -> Scene {
        let mut site = Site::with(tree(0));
        for revision in 1..count {
            site.publish_files(tree(revision));
        }
        Scene::of(site, 1)
    }

    fn of(site: Site, revision: u64) -> Scene {
        let server = FaultServer::start(site.store());
        let place = Scratch::new();
        let client = mount(&site, &server, place.path(), revision);
        Scene {
            site,
            server,
            client,
            place,
        }
    }

    fn switch(&self, arguments: &[&str]) -> Value {
        let output = Command::new(program("layerfs"))
            .args(["switch", "--json", "--mount"])
            .arg(&self.client.at)
            .args(arguments)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// Requests for index deltas that the server has, and for whole indexes, during a switch to `revision`.
    fn to(&self, revision: u64) -> (usize, usize) {
        let before = self.asked();
        let report = self.switch(&[&format!("@{revision}")]);
        assert_eq!(report["outcome"], "done", "{report}");
        let after = self.asked();
        (after.0 - before.0, after.1 - before.1)
    }

    fn asked(&self) -> (usize, usize) {
        let count = |prefix| self.server.ranges(prefix).len();
        (count("/deltas/"), count("/indexes/"))
    }

    fn deltas(&self) -> Vec<PathBuf> {
        files_below(&self.site.store().join("deltas"))
    }
}

fn mount(site: &Site, server: &FaultServer, place: &Path, revision: u64) -> Client {
    let (upper, work) = (place.join("u"), place.join("w"));
    for directory in [&upper, &work] {
        let _ = std::fs::create_dir(directory);
    }
    let options = format!("upperdir={},workdir={}", upper.display(), work.display());
    let options = with_mode(options);
    let url = format!("{}/{SYSTEM}@{revision}", server.url());
    let arguments = ["--prefetch", "none", "-o", &options];
    Client::mount(&url, &site.allowed_signers(), &arguments)
}

/// "A switch fetches the new index as its difference to the one that is mounted, if a server has that."
#[test]
fn s19_12_a_switch_fetches_the_index_delta() {
    let scene = Scene::new(4);
    let bytes = || scene.client.number("bytes");
    scene.client.compare(&tree(0));
    let (before, report) = (bytes(), scene.switch(&["@2", "--dry-run"]));
    assert_eq!(report["outcome"], "planned", "{report}");
    let whole: u64 = files_below(&scene.site.store().join("indexes"))
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .min()
        .unwrap();
    let fetched = bytes() - before;
    assert!(fetched < whole / 2, "{fetched} of {whole}");
    assert_eq!(scene.to(2), (1, 0));
    scene.client.compare(&tree(1));
    // From tables under other numbers, and past a revision.
    assert_eq!(scene.to(4), (1, 0));
    scene.client.compare(&tree(3));
    // "Otherwise the whole index": no delta leads back.
    assert_eq!(scene.to(1), (0, 1));
    scene.client.compare(&tree(0));
    assert_eq!(scene.to(3), (1, 0));
    scene.client.compare(&tree(2));
    assert_eq!(scene.client.whole_status()["panics"], 0);
}

/// "If the answer is 404, or if a check fails, it fetches the whole index."
#[test]
fn s19_12_a_wrong_delta_costs_one_request() {
    let scene = Scene::new(3);
    let faults = [
        Fault::Corrupt,
        Fault::Truncate,
        Fault::WrongRange,
        Fault::ShiftedBytes,
        Fault::NoRanges,
        Fault::Status(404),
    ];
    for fault in faults {
        scene.server.fail(fault, "/deltas/", 1);
        let (deltas, indexes) = scene.to(2);
        assert_eq!(scene.server.faults(), 1, "{fault:?}");
        // An answer with the whole object is as good as one with its beginning.
        let is_used = fault == Fault::NoRanges;
        assert_eq!(indexes, usize::from(!is_used), "{fault:?}");
        assert!(deltas <= 1, "{fault:?}");
        scene.server.behave();
        scene.client.compare(&tree(1));
        scene.to(1);
    }
    // The delta of another pair, under the name of this one.
    let mut files = scene.deltas();
    files.sort();
    assert_eq!(files.len(), 3);
    let contents: Vec<Vec<u8>> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    for (file, content) in files.iter().zip(contents.iter().cycle().skip(1)) {
        std::fs::write(file, content).unwrap();
    }
    assert_eq!(scene.to(2), (1, 1));
    assert_eq!(scene.to(3), (1, 1));
    scene.client.compare(&tree(2));
    // A server without deltas.
    for file in &files {
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(scene.to(2), (0, 1));
    scene.client.compare(&tree(1));
}

/// A mount that began with the boot pack has another index than its layers.
#[test]
fn s19_12_a_mount_with_a_boot_pack_fetches_deltas_too() {
    let mut site = Site::new();
    let packed = super::super::packs::learn_from(&site, |client| {
        std::fs::read(client.at.join("large")).unwrap();
        std::fs::read(client.at.join("small07")).unwrap();
    });
    let files = site.files.clone();
    let next = site.change(3);
    let scene = Scene::of(site, packed);
    scene.client.compare(&files);
    let (deltas, indexes) = scene.to(next);
    scene.client.compare(&scene.site.files);
    assert_eq!((deltas, indexes), (2, 0));
}

/// After a switch to a revision with a boot pack the mount reads the layers, and has their index.
#[test]
fn s19_12_a_switch_after_one_to_a_boot_pack_fetches_a_delta() {
    let site = Site::new();
    let packed = super::super::packs::learn_from(&site, |client| {
        std::fs::read(client.at.join("large")).unwrap();
    });
    let mut scene = Scene::of(site, 1);
    // The tree is the same.
    assert_eq!(scene.to(packed), (0, 0));
    let next = scene.site.change(3);
    assert_eq!(scene.to(next), (1, 0));
    scene.client.compare(&scene.site.files);
}

/// The files with stored numbers in a work directory.
fn stored(place: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(place.join("w")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with("layerfs.numbers-"))
        .collect()
}

/// S19.11 on a real mount: the numbers of unchanged files after a kill in the middle of a switch.
#[test]
fn s19_11_a_killed_mount_has_the_numbers_of_before() {
    use std::os::unix::fs::MetadataExt as _;

    let scene = Scene::new(2);
    let place = scene.place.path().to_owned();
    let number = |client: &Client, file: &u32| {
        let path = client.at.join(format!("file-{file:04}.conf"));
        path.metadata().unwrap().ino()
    };
    let all: Vec<u32> = (0..FILES).collect();
    let first: Vec<u64> = all.iter().map(|file| number(&scene.client, file)).collect();
    // The names of the files that each revision has.
    scene.to(2);
    let [of_second] = stored(&place).try_into().unwrap();
    let is_same = |file: &u32| number(&scene.client, file) == first[*file as usize];
    let same: Vec<u32> = all.into_iter().filter(is_same).collect();
    assert!(
        (100..FILES as usize).contains(&same.len()),
        "{}",
        same.len()
    );
    scene.to(1);
    let [of_first] = stored(&place).try_into().unwrap();
    let names = [of_first, of_second];
    let before: Vec<u64> = same.iter().map(|file| first[*file as usize]).collect();
    let Scene {
        site,
        server,
        mut client,
        place: _place,
    } = scene;
    let mut shown = 1;
    for round in 0..12 {
        let mut switch = Command::new(program("layerfs"))
            .args(["switch", "--mount"])
            .arg(&client.at)
            .arg(format!("@{}", 3 - shown))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3 * round));
        client.kill();
        let _ = switch.wait();
        let left = stored(&place);
        // With both, the kill came before the moment of the switch, or right after it.
        if !left.contains(&names[usize::try_from(shown - 1).unwrap()]) {
            shown = 3 - shown;
        }
        client = mount(&site, &server, &place, shown);
        let now: Vec<u64> = same.iter().map(|file| number(&client, file)).collect();
        assert_eq!(now, before, "{round}: {left:?}");
        assert_eq!(stored(&place).len(), 1, "{round}");
    }
}
