//! S19 on real mounts: a running mount takes another revision.

mod deltas;
mod mapper;
mod model;
mod news;
mod units;

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use super::client::{Client, program};
use super::faults::{Fault, FaultServer};
use super::server::Bakery;
use super::site::{SYSTEM, Site};
use crate::scratch::Scratch;
use crate::transport::PAGE_CACHE;

/// A mount with an upper, and its server.
struct Scene {
    site: Site,
    client: Client,
    upper: PathBuf,
    bakery: Bakery,
    _place: Scratch,
}

/// The mode that `LAYERFS_TEST_OPTIONS` gives every mount.
fn with_mode(options: String) -> String {
    match std::env::var("LAYERFS_TEST_OPTIONS") {
        Ok(more) => format!("{options},{more}"),
        Err(_) => options,
    }
}

impl Scene {
    fn new(site: Site) -> Scene {
        let bakery = Bakery::serve(&site);
        let place = Scratch::new();
        let (upper, work) = (place.path().join("u"), place.path().join("w"));
        std::fs::create_dir(&upper).unwrap();
        std::fs::create_dir(&work).unwrap();
        let options = format!("upperdir={},workdir={}", upper.display(), work.display());
        let url = format!("{}/{SYSTEM}", bakery.url());
        let options = with_mode(options);
        let client = Client::mount(&url, &site.allowed_signers(), &["-o", &options]);
        Scene {
            site,
            client,
            upper,
            bakery,
            _place: place,
        }
    }

    fn output(&self, arguments: &[&str]) -> Output {
        Command::new(program("layerfs"))
            .arg("switch")
            .arg("--mount")
            .arg(&self.client.at)
            .args(arguments)
            .output()
            .unwrap()
    }

    fn switch(&self, arguments: &[&str]) -> Value {
        let output = self.output(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&said)
            .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn to(&self, revision: u64) -> Value {
        let report = self.switch(&[&format!("@{revision}")]);
        assert_eq!(report["outcome"], "done", "{report}");
        report
    }

    fn at(&self, name: &str) -> PathBuf {
        self.client.at.join(name)
    }
}

fn files(of: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    let owned = |(name, bytes): &(&str, &[u8])| (String::from(*name), bytes.to_vec());
    of.iter().map(owned).collect()
}

/// "After a switch the mount shows what a new mount of the other revision with the same upper shows."
#[test]
fn s19_1_a_mount_switches_there_and_back() {
    let mut site = Site::new();
    let first = site.files.clone();
    let second_number = site.change(5);
    let second = site.files.clone();
    let scene = Scene::new(site);
    scene.client.compare(&second);
    for _ in 0..3 {
        scene.to(1);
        scene.client.compare(&first);
        scene.to(second_number);
        scene.client.compare(&second);
    }
    let report = scene.switch(&[]);
    assert_eq!(report["outcome"], "same", "{report}");
    let status = scene.client.status();
    let shown = status["revision"].as_str().unwrap();
    assert_eq!(shown, format!("{SYSTEM}/main@{second_number}"));
    assert_eq!(scene.client.whole_status()["panics"], 0);
}

/// "Open files, mappings and running programs keep the content that they have until they are
/// closed; their `st_nlink` is 0." "Unchanged objects keep `st_ino`, changed ones get another."
#[test]
fn s19_3_open_files_keep_their_content() {
    let content = vec![7; 300_000];
    let mut site = Site::with(files(&[
        ("same", &content),
        ("changed", b"old"),
        ("gone", b"gone"),
    ]));
    let same = content.clone();
    site.publish_files(files(&[
        ("same", &same),
        ("changed", b"new, longer"),
        ("come", b"come"),
    ]));
    let scene = Scene::new(site);
    assert_eq!(std::fs::read(scene.at("changed")).unwrap(), b"new, longer");
    assert!(
        std::fs::metadata(scene.at("gone")).is_err(),
        "a cached absence"
    );
    scene.to(1);
    assert_eq!(std::fs::read(scene.at("changed")).unwrap(), b"old");
    assert_eq!(std::fs::read(scene.at("gone")).unwrap(), b"gone");
    assert_eq!(std::fs::read(scene.at("same")).unwrap(), content);
    let number = |name: &str| std::fs::metadata(scene.at(name)).unwrap().ino();
    let before = (number("same"), number("changed"));
    let mut open = std::fs::File::open(scene.at("changed")).unwrap();
    let gone = std::fs::File::open(scene.at("gone")).unwrap();

    let report = scene.to(2);
    assert!(report["in_use"].as_u64().unwrap() >= 2, "{report}");
    let mine = u64::from(std::process::id());
    let programs = report["programs"].as_array().unwrap();
    assert!(
        programs.iter().any(|program| program["pid"] == mine),
        "{report}"
    );

    assert_eq!(std::fs::read(scene.at("same")).unwrap(), content);
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    assert_eq!(gone.metadata().unwrap().nlink(), 0);
    assert_eq!(std::fs::read(scene.at("changed")).unwrap(), b"new, longer");
    assert_eq!(number("same"), before.0);
    assert_ne!(number("changed"), before.1);
    let mut names: Vec<String> = std::fs::read_dir(&scene.client.at)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["changed", "come", "same"]);
    scene.to(1);
    open.seek(SeekFrom::Start(0)).unwrap();
    text.clear();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");
}

/// "Readers of unchanged files ask the daemon for nothing; before Linux 6.18, or if the kernel may have
/// stored the listing of their directory, once for its attributes if it has a changed name."
#[test]
fn s19_2_readers_of_unchanged_files_ask_for_nothing() {
    // In chunks of its own.
    let numbers = (0..300_000_u32).map(|number| number.wrapping_mul(2_654_435_761));
    let content: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
    let mut site = Site::with(files(&[("same", &content), ("changed", b"old")]));
    site.publish_files(files(&[("same", &content), ("changed", b"new")]));
    let scene = Scene::new(site);
    scene.to(1);
    let read = |name: &str| std::fs::read(scene.at(name)).unwrap();
    assert_eq!(
        (read("same"), read("changed")),
        (content.clone(), b"old".to_vec())
    );
    // With `passthrough` each open(2) is a request.
    let kinds = ["lookup", "getattr", "read", "readdir"];
    let asked = || -> u64 { kinds.map(|kind| requests(&scene.client, kind)).iter().sum() };
    let name = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let version = |text: &str| -> Vec<u32> {
        let numbers = text.split(|char: char| !char.is_ascii_digit());
        let numbers = numbers.map_while(|number| number.parse().ok());
        numbers.take(2).collect()
    };
    let prunes = version(&name) >= vec![6, 18];
    for listed in [false, true] {
        let mut counts = Vec::new();
        // The kernel may have forgotten something by itself.
        for _ in 0..10 {
            let _stays = PAGE_CACHE.read();
            if listed {
                // The kernel stores the listing, and then forgets the directory with it.
                assert_eq!(std::fs::read_dir(&scene.client.at).unwrap().count(), 2);
            }
            // A read of the mount marks the time of the last access as old; later ones do not.
            assert_eq!(read("same"), content);
            scene.to(2);
            let before = asked();
            assert_eq!(read("same"), content);
            counts.push(asked() - before);
            assert_eq!(read("changed"), b"new");
            if listed {
                assert_eq!(std::fs::read_dir(&scene.client.at).unwrap().count(), 2);
            }
            scene.to(1);
            assert_eq!(read("changed"), b"old");
            if counts.last().is_some_and(|count| *count == 0) {
                break;
            }
        }
        let least = counts.iter().min().unwrap();
        let most = u64::from(listed || !prunes);
        assert!(*least <= most, "{counts:?} ({name}, listed: {listed})");
    }
}

/// Number of requests of a kind.
fn requests(client: &Client, kind: &str) -> u64 {
    let status = client.whole_status();
    let all = status["requests"].as_array().unwrap();
    let found = all.iter().find(|one| one["name"] == kind);
    found.map_or(0, |one| one["count"].as_u64().unwrap())
}

/// "The upper wins. A path that both the upper and the revision change is a conflict: the command
/// lists what each of them did, and switches only with `--force`."
#[test]
fn s19_5_conflicts_need_force() {
    // In chunks of its own.
    let same = vec![7; 300_000];
    let mut site = Site::with(files(&[("a", b"old"), ("b", b"old"), ("c", &same)]));
    site.publish_files(files(&[("a", b"new"), ("b", b"new"), ("c", &same)]));
    let scene = Scene::new(site);
    scene.to(1);
    std::fs::write(scene.at("a"), b"mine").unwrap();
    std::fs::write(scene.at("c"), b"mine").unwrap();
    let output = scene.output(&["@2"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("/a: written in the upper, the revision changes it"),
        "{said}"
    );
    assert!(said.contains("--force"), "{said}");
    assert!(!said.contains("/c"), "{said}");
    assert_eq!(std::fs::read(scene.at("b")).unwrap(), b"old");
    let report = scene.switch(&["@2", "--dry-run", "--force"]);
    assert_eq!(report["outcome"], "planned", "{report}");
    assert_eq!(std::fs::read(scene.at("b")).unwrap(), b"old");
    let report = scene.switch(&["@2", "--force"]);
    assert_eq!(report["outcome"], "done", "{report}");
    assert_eq!(std::fs::read(scene.at("a")).unwrap(), b"mine");
    assert_eq!(std::fs::read(scene.at("b")).unwrap(), b"new");
    assert_eq!(std::fs::read(scene.at("c")).unwrap(), b"mine");
    assert!(scene.upper.join("a").exists());
}

/// "A switch that fails leaves the revision of before."
#[test]
fn s19_7_a_revision_that_does_not_exist_changes_nothing() {
    let scene = Scene::new(Site::new());
    let output = scene.output(&["@77"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the mount keeps kiosk/main@1"), "{said}");
    let output = scene.output(&["not a name"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    scene.client.compare(&scene.site.files);
    assert!(!scene.bakery.url().is_empty());
    // A mount of local layers says so.
    let other = Scratch::new();
    let output = Command::new(program("layerfs"))
        .args(["switch", "--mount"])
        .arg(other.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not a layerfs mount"), "{said}");
}

/// "A switch to the newest revision is refused if that is older than one that the mount has seen, with or
/// without a cache": a mirror that is behind, or an old copy of the store, switches nothing back.
#[test]
fn s19_7_an_older_newest_revision_is_refused() {
    let second = files(&[("a", b"new")]);
    let mut scene = Scene::new(Site::with(files(&[("a", b"old")])));
    assert_eq!(scene.site.publish_files(second.clone()), 2);
    assert_eq!(scene.switch(&[])["outcome"], "done");
    scene.client.compare(&second);
    let store = scene.site.store();
    let head = format!("refs/{SYSTEM}/main/{:020}", 2);
    std::fs::remove_file(store.join(head)).unwrap();
    std::fs::write(store.join(format!("hints/{SYSTEM}/main")), "1").unwrap();
    wait_for(|| {
        let report = scene.switch(&[]);
        assert_ne!(report["outcome"], "done", "{report}");
        report["error"]
            .as_str()
            .is_some_and(|said| said.contains("an old copy"))
    });
    scene.client.compare(&second);
}

/// "A switch that fails (no server, …) leaves the revision of before": the server falls silent at each
/// request in turn.
#[test]
fn s19_7_a_server_lost_at_any_request_leaves_the_revision() {
    let first = files(&[("a", b"old"), ("b", b"old")]);
    let second = files(&[("a", b"new"), ("c", b"new")]);
    let mut site = Site::with(first.clone());
    site.publish_files(second.clone());
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}@1", server.url());
    let place = Scratch::new();
    let (upper, work) = (place.path().join("u"), place.path().join("w"));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    let options = format!("upperdir={},workdir={}", upper.display(), work.display());
    let options = with_mode(options);
    let arguments = ["--timeout", "1", "-o", &options];
    let client = Client::mount(&url, &site.allowed_signers(), &arguments);
    client.compare(&first);
    let switch = || {
        let output = Command::new(program("layerfs"))
            .args(["switch", "@2", "--json", "--mount"])
            .arg(&client.at)
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["outcome"].as_str().unwrap().to_owned()
    };
    let mut lost = 0;
    loop {
        server.fail_after(Fault::Hang, lost);
        let outcome = switch();
        server.behave();
        if outcome == "done" {
            break;
        }
        assert_eq!(outcome, "failed", "{lost}");
        client.compare(&first);
        // The client leaves a server alone for some seconds after a failure.
        wait_for(|| {
            let check = Command::new(program("layerfs"))
                .args(["status", "--check"])
                .arg(&client.at)
                .output();
            check.unwrap().status.success()
        });
        lost += 1;
        assert!(lost < 30, "it never ends");
    }
    assert!(lost >= 2, "the head and the index: {lost}");
    client.compare(&second);
    assert_eq!(client.whole_status()["panics"], 0);
}

/// Readers, listers and a writer during many switches: each file has the content of one revision,
/// and no call fails.
#[test]
fn s19_2_readers_see_one_revision_or_the_other() {
    let revision = |seed: u8| -> BTreeMap<String, Vec<u8>> {
        (0..40)
            .map(|number| {
                let changes = number % 4 == 0;
                let byte = if changes { seed } else { 0 };
                (format!("f{number:02}"), vec![byte; 5000 + number * 100])
            })
            .collect()
    };
    let mut site = Site::with(revision(1));
    site.publish_files(revision(2));
    let scene = Scene::new(site);
    let over = AtomicBool::new(false);
    let read = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        for start in 0..2_usize {
            let (scene, over, read) = (&scene, &over, &read);
            scope.spawn(move || {
                for number in (0..40).cycle().skip(start * 20) {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let bytes = std::fs::read(scene.at(&format!("f{number:02}"))).unwrap();
                    assert_eq!(bytes.len(), 5000 + number * 100);
                    assert!(
                        bytes.iter().all(|byte| *byte == bytes[0]),
                        "two revisions in one file"
                    );
                    read.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            for number in 0_u64.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                std::fs::write(scene.at("mine"), number.to_string()).unwrap();
                let names = std::fs::read_dir(&scene.client.at).unwrap().count();
                assert!(names >= 40, "{names}");
            }
        });
        for _ in 0..15 {
            scene.to(1);
            scene.to(2);
        }
    });
    assert!(read.load(Ordering::Relaxed) > 0);
    let status = scene.client.whole_status();
    assert_eq!(status["panics"], 0, "{status}");
    assert_eq!(status["chunks"]["failed"], 0, "{status}");
    for (name, bytes) in revision(2) {
        assert!(std::fs::read(scene.at(&name)).unwrap() == bytes, "{name}");
    }
}

/// "The executable files run before and after each switch. If one of them fails before the switch,
/// there is none."
#[test]
fn hooks_run_around_a_switch() {
    let mut site = Site::with(files(&[("a", b"old")]));
    site.publish_files(files(&[("a", b"new")]));
    let scene = Scene::new(site);
    let place = Scratch::new();
    let hook = place.path().join("hook");
    let write = |end: &str| {
        let log = place.path().join("log");
        let at = scene.at("a");
        let text = format!(
            "#!/bin/sh\necho $1 $2 $3 $(cat {}) >> {}\n{end}\n",
            at.display(),
            log.display()
        );
        std::fs::write(&hook, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&hook, mode).unwrap();
    };
    let hooks = ["--hooks", place.path().to_str().unwrap()];
    write("exit 0");
    let report = scene.switch(&[&["@1"], &hooks[..]].concat());
    assert_eq!(report["outcome"], "done", "{report}");
    write("test $1 != before");
    let output = scene.output(&[&["@2"], &hooks[..]].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("hook does not allow the switch to kiosk/main@2"),
        "{said}"
    );
    assert_eq!(std::fs::read(scene.at("a")).unwrap(), b"old");
    // One that is mounted already is no switch.
    let report = scene.switch(&[&["@1"], &hooks[..]].concat());
    assert_eq!(report["outcome"], "same", "{report}");
    let log = std::fs::read_to_string(place.path().join("log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines,
        [
            "before kiosk/main@2 kiosk/main@1 new",
            "after kiosk/main@2 kiosk/main@1 old",
            "before kiosk/main@1 kiosk/main@2 old",
        ]
    );
}

/// "kiosk/main@12 is out; names that differ: 214, conflicts: 3, programs that would use old files: 5".
#[test]
fn a_dry_run_names_what_would_change() {
    let mut site = Site::with(files(&[("a", b"old"), ("b", b"old")]));
    site.publish_files(files(&[("a", b"new"), ("b", b"new")]));
    let scene = Scene::new(site);
    let check = |scene: &Scene| {
        let output = Command::new(program("layerfs"))
            .args(["status", "--check"])
            .arg(&scene.client.at)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().last().unwrap().to_owned()
    };
    assert_eq!(
        check(&scene),
        "the newest revision is mounted: kiosk/main@2"
    );
    scene.to(1);
    let held = std::fs::File::open(scene.at("a")).unwrap();
    std::fs::write(scene.at("b"), "mine").unwrap();
    // A process that another test starts has the descriptors of this one for a moment.
    let said = check(&scene);
    assert!(
        said.starts_with("kiosk/main@2 is out; names that differ: 2, conflicts: 1, programs that would use old files: "),
        "{said}"
    );
    let dry = Command::new(program("layerfs"))
        .args(["switch", "--dry-run", "--mount"])
        .arg(&scene.client.at)
        .output()
        .unwrap();
    let said = String::from_utf8(dry.stdout).unwrap();
    assert!(
        said.starts_with("kiosk/main@1 to kiosk/main@2: names that differ: 2, conflicts: 1"),
        "{said}"
    );
    let report = scene.switch(&["--dry-run"]);
    assert_eq!(report["outcome"], "refused", "{report}");
    let programs = report["programs"].as_array().unwrap();
    let mine = u64::from(std::process::id());
    assert!(programs.iter().any(|one| one["pid"] == mine), "{report}");
    drop(held);
}

/// "Commands that ask at the same moment take turns."
#[test]
fn commands_take_turns() {
    let mut site = Site::with(files(&[("a", b"old")]));
    site.publish_files(files(&[("a", b"new")]));
    let scene = Scene::new(site);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let report = scene.switch(&["@1", "--dry-run"]);
                    let outcome = report["outcome"].as_str().unwrap();
                    assert!(["planned", "same"].contains(&outcome), "{report}");
                }
            });
        }
        for _ in 0..10 {
            scene.to(1);
            scene.to(2);
        }
    });
}

fn wait_for(is: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !is() {
        assert!(since.elapsed().as_secs() < 120, "never");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// A program that ends with its test.
struct Following(std::process::Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// "It announces each new revision once; with auto it also switches, unless there are conflicts."
#[test]
fn follow_announces_and_takes_new_revisions() {
    let site = Site::with(files(&[("a", b"1"), ("b", b"1")]));
    let mut scene = Scene::new(site);
    let shows = |scene: &Scene, name: &str| std::fs::read(scene.at(name)).unwrap();
    let log = scene.upper.with_file_name("log");
    let start = |mode: &str, scene: &Scene| {
        let out = std::fs::File::create(&log).unwrap();
        let child = Command::new(program("layerfs"))
            .args(["follow", "--mode", mode, "--every", "1"])
            .arg(&scene.client.at)
            .stdout(out)
            .spawn()
            .unwrap();
        Following(child)
    };
    let said = || std::fs::read_to_string(&log).unwrap();
    let notify = start("notify", &scene);
    scene.site.publish_files(files(&[("a", b"2"), ("b", b"1")]));
    let offer = "kiosk/main@2 is out;";
    wait_for(|| said().contains(offer));
    assert_eq!(shows(&scene, "a"), b"1");
    drop(notify);
    let auto = start("auto", &scene);
    wait_for(|| shows(&scene, "a") == b"2");
    // The upper and the revision change one file: it stays at the revision before.
    std::fs::write(scene.at("b"), "mine").unwrap();
    scene.site.publish_files(files(&[("a", b"3"), ("b", b"3")]));
    wait_for(|| said().contains("/b: written in the upper"));
    assert_eq!(shows(&scene, "a"), b"2");
    std::fs::remove_file(scene.at("b")).unwrap();
    scene.site.publish_files(files(&[("a", b"4")]));
    wait_for(|| shows(&scene, "a") == b"4");
    drop(auto);
    assert_eq!(
        said().matches("kiosk/main@3 is out").count(),
        1,
        "{}",
        said()
    );
}

/// Ends the other threads of a test also when it fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
