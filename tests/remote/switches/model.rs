//! The model test of switches on a mount: random operations and random revisions, with readers, a
//! lister, a writer, open files and mappings. After each switch the mount shows what a new mount of the
//! same revision and upper shows.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rustix::fs::{Mode, OFlags};

use super::mapper::Mapper;
use super::{Ends, program, with_mode};
use crate::model::operation::{Operation, apply, operations, seed};
use crate::remote::client::Client;
use crate::remote::server::Bakery;
use crate::remote::site::{SYSTEM, Site};
use crate::scratch::Scratch;
use crate::session::Errno;
use crate::session::baker::bake;
use crate::session::files::Files as _;
use crate::session::kept::Kept;
use crate::session::paths::Paths;
use crate::session::snapshot::{self, Snapshot};

/// Seed of the short run.
const SEED: u64 = 27;
/// Cases and steps of the short run.
const CASES: u32 = 3;
const STEPS: usize = 40;
/// The names of the operations, and the writer's own.
const NAMES: [&str; 8] = ["a", "b", "c", "f", "g", "big", "new", "l"];
const OWN: &str = "own";

/// One step.
#[derive(Debug, Clone)]
enum Step {
    Change(Operation),
    /// Opens a file, which stays open.
    Open(String),
    /// Maps a file; the mapping stays.
    Map(String),
    Switch(usize),
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let name = prop::sample::select(NAMES.to_vec());
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let step = prop_oneof![
        12 => operations().prop_map(Step::Change),
        2 => path.clone().prop_map(Step::Open),
        2 => path.prop_map(Step::Map),
        2 => (0..3_usize).prop_map(Step::Switch),
    ];
    prop::collection::vec(step, count)
}

/// A store with three revisions: one tree, and two with random changes.
fn store(linked: bool, changes: &[Vec<Operation>]) -> Site {
    let mut site = Site::empty();
    for number in 0..=changes.len() {
        let tree = site.path(&format!("tree{number}"));
        std::fs::create_dir(&tree).unwrap();
        seed(&tree, linked);
        let session = Paths::new(&tree);
        for change in changes.iter().take(number).flatten() {
            let _ = apply(&session, change);
        }
        session.close_all();
        differ(&tree, number);
        let layer = site.path(&format!("model{number}.layer"));
        bake(&tree, &layer);
        site.publish_layer(&layer);
    }
    site
}

/// Changes most files of a tree, so that each switch changes many names: random operations often fail.
fn differ(directory: &Path, revision: usize) {
    for name in NAMES {
        let path = directory.join(name);
        match path.symlink_metadata() {
            Ok(about) if about.is_dir() => differ(&path, revision),
            Ok(about) if about.is_file() && about.nlink() == 1 && revision > 0 => {
                std::fs::write(
                    &path,
                    format!("{name} of {revision}").repeat(200 + revision),
                )
                .unwrap();
            }
            Err(_) if revision == 1 => std::fs::write(&path, name).unwrap(),
            _ => {}
        }
    }
}

/// A mount, and everything that a new one of the same upper needs.
struct World {
    site: Site,
    bakery: Bakery,
    place: Scratch,
    /// The mount; held for reading while others use it.
    at: Arc<RwLock<PathBuf>>,
    client: Option<Client>,
    shown: usize,
}

impl World {
    fn new(site: Site) -> World {
        let bakery = Bakery::serve(&site);
        let mut world = World {
            site,
            bakery,
            place: Scratch::new(),
            at: Arc::default(),
            client: None,
            shown: 0,
        };
        for name in ["u", "w"] {
            std::fs::create_dir(world.place.path().join(name)).unwrap();
        }
        world.remount();
        world
    }

    fn root(&self) -> PathBuf {
        self.at.read().unwrap().clone()
    }

    fn start(&self, upper: &Path, work: &Path) -> Client {
        let options = format!("upperdir={},workdir={}", upper.display(), work.display());
        let url = format!("{}/{SYSTEM}@{}", self.bakery.url(), self.shown + 1);
        let signers = self.site.allowed_signers();
        Client::mount(&url, &signers, &["-o", &with_mode(options)])
    }

    /// Ends the mount, if there is one, and mounts the same revision and upper.
    fn remount(&mut self) {
        let shared = Arc::clone(&self.at);
        let mut at = shared.write().unwrap();
        if let Some(client) = self.client.take() {
            client.end();
        }
        let place = self.place.path();
        let client = self.start(&place.join("u"), &place.join("w"));
        at.clone_from(&client.at);
        self.client = Some(client);
    }

    /// What a new mount of the revision shows with a copy of the upper.
    fn fresh(&self) -> Snapshot {
        let copies = Scratch::new();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.place.path().join("u"))
            .arg(copies.path())
            .status();
        assert!(copied.unwrap().success());
        std::fs::create_dir(copies.path().join("w")).unwrap();
        let client = self.start(&copies.path().join("u"), &copies.path().join("w"));
        let seen = snapshot::take(&Paths::new(&client.at), i64::MAX, true);
        client.end();
        seen
    }

    /// The mount shows what a new one shows.
    fn compare(&self) {
        let at = self.at.write().unwrap();
        let expected = self.fresh();
        let session = Paths::new(&at);
        same_by_name(&session, &expected);
        let found = snapshot::take(&session, i64::MAX, true);
        let names = |seen: &Snapshot| -> Vec<PathBuf> { seen.objects.keys().cloned().collect() };
        assert_eq!(names(&found), names(&expected), "names");
        for (path, expected) in &expected.objects {
            assert_eq!(&found.objects[path], expected, "{}", path.display());
        }
    }

    /// Switches; true if files of the upper may show the data of the other revision (S19.6).
    fn switch(&mut self, revision: usize) -> bool {
        let output = Command::new(program("layerfs"))
            .args(["switch", "--json", "--force", "--mount"])
            .arg(&self.client.as_ref().unwrap().at)
            .arg(format!("@{}", revision + 1))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let report: serde_json::Value = serde_json::from_str(&said)
            .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
        match report["outcome"].as_str().unwrap() {
            "done" => self.shown = revision,
            "same" | "refused" => {}
            _ => {
                let error = report["error"].as_str().unwrap();
                assert!(error.contains("would lose their data"), "{report}");
            }
        }
        let conflicts = report["conflicts"].as_array().unwrap();
        let of_attributes = |one: &serde_json::Value| one["upper"] == "attributes or name changed";
        conflicts.iter().any(of_attributes)
    }
}

/// Every name leads to the right object, or to none. Before a listing, which gives the kernel the names
/// anew.
fn same_by_name(session: &Paths, expected: &Snapshot) {
    let is_dir = |path: &Path| {
        let seen = expected.objects.get(path);
        seen.is_some_and(|seen| seen.mode & 0o170_000 == 0o040_000)
    };
    let first = NAMES.map(PathBuf::from);
    let second = first
        .iter()
        .flat_map(|dir| NAMES.map(|name| dir.join(name)));
    for path in first.iter().cloned().chain(second) {
        if !is_dir(path.parent().unwrap()) {
            continue;
        }
        let found = session.about(&path).ok();
        let found = found.map(|found| (found.mode, found.nlink, found.size));
        let seen = expected.objects.get(&path);
        let seen = seen.map(|seen| (seen.mode, seen.nlink, seen.size));
        let found = found.map(|(mode, nlink, size)| match is_dir(&path) {
            true => (mode, nlink, 0),
            false => (mode, nlink, size),
        });
        assert_eq!(found, seen, "{}", path.display());
    }
}

/// Reads, lists and writes until the test is over; no call fails in a way that a change cannot cause.
fn disturb(at: &RwLock<PathBuf>, over: &AtomicBool, done: &AtomicU64, number: u64) {
    let may_fail = [
        Errno::NOENT,
        Errno::NOTDIR,
        Errno::LOOP,
        Errno::ISDIR,
        Errno::NXIO,
    ];
    let mut state = number + 1;
    while !over.load(Ordering::Relaxed) {
        let mut choose = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        let path: PathBuf = (0..1 + choose(3))
            .map(|_| NAMES[choose(NAMES.len())])
            .collect();
        let root = at.read().unwrap();
        let path = root.join(path);
        let worked = match number {
            0 => std::fs::write(
                root.join(OWN).join("file"),
                path.to_string_lossy().as_bytes(),
            ),
            1 => std::fs::read_dir(path.parent().unwrap())
                .and_then(|entries| entries.collect::<Result<Vec<_>, _>>().map(drop)),
            _ => read(&path),
        };
        drop(root);
        if let Err(error) = worked {
            let errno = Errno::from_io_error(&error).unwrap();
            assert!(may_fail.contains(&errno), "{}: {error}", path.display());
        }
        done.fetch_add(1, Ordering::Relaxed);
        std::thread::yield_now();
    }
}

/// Reads a file, if it is one.
fn read(path: &Path) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.mode() & 0o170_000 == 0o100_000 {
        std::io::copy(&mut &file, &mut std::io::sink())?;
    }
    Ok(())
}

/// The steps up to the next remount; returns the number of those that were carried out.
fn until_remount(world: &mut World, mapper: &mut Mapper, steps: &[Step]) -> usize {
    let root = world.root();
    let session = Paths::new(&root);
    let mut kept = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Change(Operation::Remount) => return number + 1,
            Step::Change(change) => drop(apply(&session, change)),
            Step::Open(path) => kept.extend(Kept::open(&session, path)),
            Step::Map(path) => drop(mapper.tell(&format!("map {}", root.join(path).display()))),
            Step::Switch(revision) => {
                let before: Vec<Vec<u8>> = kept.iter().map(Kept::content).collect();
                let mapped = mapper.tell("look");
                let follows = world.switch(*revision);
                for (kept, before) in kept.iter().zip(before) {
                    kept.assert_content(&before, follows);
                }
                for ((before, _), (after, links)) in mapped.iter().zip(mapper.tell("look")) {
                    assert!(
                        *before == after || (follows && links > 0),
                        "a mapping changed"
                    );
                }
                world.compare();
            }
        }
    }
    steps.len()
}

fn run_case(linked: bool, changes: &[Vec<Operation>], mut steps: &[Step]) {
    let mut world = World::new(store(linked, changes));
    std::fs::create_dir(world.root().join(OWN)).unwrap();
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut mapper = Mapper::start();
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        for number in 0..4 {
            let (at, over, done) = (Arc::clone(&world.at), &over, &done);
            scope.spawn(move || disturb(&at, over, done, number));
        }
        while !steps.is_empty() {
            let ran = until_remount(&mut world, &mut mapper, steps);
            steps = &steps[ran..];
            mapper.tell("drop");
            world.compare();
            let status = world.client.as_ref().unwrap().whole_status();
            assert_eq!(status["panics"], 0, "{status}");
            assert_eq!(status["chunks"]["failed"], 0, "{status}");
            world.remount();
            world.compare();
        }
    });
    assert!(done.load(Ordering::Relaxed) > 0);
}

#[test]
fn random_switches_of_a_mount_give_what_a_new_mount_gives() {
    let setting = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let cases = setting("LAYERFS_SWITCH_MOUNT_CASES");
    let mut config = Config::with_cases(cases.unwrap_or(CASES));
    if cases.is_none() {
        // The short run has the same cases each time; a long one has others.
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    config.max_shrink_iters = setting("LAYERFS_MODEL_SHRINK").unwrap_or(0);
    config.failure_persistence = None;
    let strategy = (
        any::<bool>(),
        prop::collection::vec(prop::collection::vec(operations(), 8..20), 2),
        steps(STEPS),
    );
    let outcome = TestRunner::new(config).run(&strategy, |(linked, changes, steps)| {
        run_case(linked, &changes, &steps);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
