//! The model test: random operations on layerfs, on kernel overlayfs and in a plain directory.
//! All three are compared after each step, with remounts in between; at the end each upper is
//! mounted by the other implementation. In the process, without overlayfs, it needs no root.
//!
//! Smallest failing sequence: add `LAYERFS_MODEL_SHRINK=500`. Long setting: `LAYERFS_MODEL_CASES=500 LAYERFS_MODEL_STEPS=100 cargo test -p layerfs-tests model`.

pub(crate) mod operation;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{Mode, OFlags};

use self::operation::{Operation, apply, operations, seed};
use crate::session::paths::Paths;
use crate::session::snapshot::{self, Seen, Snapshot};
use crate::session::{Attached, Parts, is_root};
use crate::transport::{self, Room};

/// Starts layerfs.
pub(crate) type Begin = fn(&Room, Parts) -> Result<Box<dyn Attached>, String>;
/// Makes a layer of a tree.
pub(crate) type Bake = fn(&Path, &Path);

fn setting(name: &str, short: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(short)
}

/// Look at the whole tree every so many steps; in between only results are compared.
const LOOK_EVERY: usize = 10;

/// The tree with which every case begins, and its layer.
struct Beginning {
    linked: bool,
    lower: PathBuf,
    layer: PathBuf,
    _room: Room,
}

impl Beginning {
    fn new(linked: bool, bake: Bake) -> Beginning {
        let room = Room::new();
        let (lower, layer) = (room.dir("lower"), room.path("base.layer"));
        seed(&lower, linked);
        bake(&lower, &layer);
        Beginning {
            linked,
            lower,
            layer,
            _room: room,
        }
    }
}

struct World<'b> {
    beginning: &'b Beginning,
    plain: Paths,
    layerfs: Box<dyn Attached>,
    /// Kernel overlayfs, where it can be mounted.
    overlay: Option<Box<dyn Attached>>,
    /// plain number → layerfs number of every object.
    identity: HashMap<u64, u64>,
    began: i64,
    /// Time in calls of `layerfs`.
    spent: Duration,
    /// The objects of the plain directory at the last look: their numbers are not given to others.
    held: Vec<OwnedFd>,
    room: Room,
}

impl World<'_> {
    fn new(beginning: &Beginning, begin: Begin, rival: bool) -> World<'_> {
        let (linked, lower) = (beginning.linked, &beginning.lower);
        let room = Room::new();
        let plain = room.dir("plain");
        seed(&plain, linked);
        let upper = (room.dir("lu"), room.dir("lw"));
        operation::copy_root(lower, &upper.0);
        let parts = Parts {
            layers: vec![beginning.layer.clone()],
            upper: Some(upper),
            options: transport::MODEL_OPTIONS.to_owned(),
        };
        // Hard links of the lower come apart in overlayfs; then only the plain directory counts.
        let overlay = (rival && !linked).then(|| {
            let (upper, work) = (room.dir("ou"), room.dir("ow"));
            operation::copy_root(lower, &upper);
            transport::overlayfs(&room, lower, &upper, &work)
        });
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock");
        let start = Instant::now();
        let layerfs = begin(&room, parts).expect("layerfs");
        World {
            plain: Paths::new(&plain),
            layerfs,
            spent: start.elapsed(),
            overlay: overlay.flatten(),
            beginning,
            identity: HashMap::new(),
            held: Vec::new(),
            began: now.as_secs().cast_signed() - 60,
            room,
        }
    }

    fn step(&mut self, operation: &Operation) {
        if let Operation::Remount = operation {
            self.plain.close_all();
            if let Some(overlay) = &self.overlay {
                overlay.detach();
                overlay.attach();
            }
            let start = Instant::now();
            self.layerfs.detach();
            self.layerfs.attach();
            self.spent += start.elapsed();
            return;
        }
        let expected = apply(&self.plain, operation);
        let start = Instant::now();
        let found = apply(&*self.layerfs, operation);
        self.spent += start.elapsed();
        assert_eq!(
            found, expected,
            "layerfs against a plain directory: {operation:?}"
        );
        if let Some(overlay) = &self.overlay {
            let found = apply(&**overlay, operation);
            assert_eq!(
                found, expected,
                "overlayfs against a plain directory: {operation:?}"
            );
        }
    }

    fn look(&mut self) {
        let plain = snapshot::take(&self.plain, self.began, true);
        let start = Instant::now();
        let layerfs = snapshot::take(&*self.layerfs, self.began, true);
        self.spent += start.elapsed();
        compare("layerfs", &plain, &layerfs, |_| {});
        self.same_objects(&plain, &layerfs);
        if let Some(overlay) = &self.overlay {
            // overlayfs gives other numbers in listings unless it wrote the upper itself.
            let overlay = snapshot::take(&**overlay, self.began, false);
            compare("overlayfs", &plain, &overlay, forget_directory_links);
        }
    }

    /// An object keeps its number as long as it lives, and shares it with no other.
    fn same_objects(&mut self, plain: &Snapshot, layerfs: &Snapshot) {
        let mut now = HashMap::new();
        for (path, number) in &plain.numbers {
            // Links and pipes of an ordinary user have new numbers in the next mount (docs/SEMANTICS.md).
            let kind = plain.objects[path].mode & 0o170_000;
            if !is_root() && !matches!(kind, 0o040_000 | 0o100_000) {
                continue;
            }
            let ours = layerfs.numbers[path];
            if let Some(before) = self.identity.get(number) {
                assert_eq!(*before, ours, "number of {}", path.display());
            }
            if let Some(before) = now.insert(*number, ours) {
                assert_eq!(before, ours, "links of {}", path.display());
            }
        }
        let different: std::collections::HashSet<u64> = now.values().copied().collect();
        assert_eq!(different.len(), now.len(), "two objects share a number");
        self.identity = now;
        let plain_root = self.room.path("plain");
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open =
            |path: &PathBuf| rustix::fs::open(plain_root.join(path), flags, Mode::empty()).ok();
        self.held = plain.numbers.keys().filter_map(open).collect();
    }

    /// Each implementation mounts what the other wrote.
    fn interchange(self) {
        let plain = snapshot::take(&self.plain, self.began, true);
        self.layerfs.detach();
        let lower = &self.beginning.lower;
        let ours = (self.room.path("lu"), self.room.dir("xw"));
        if let Some(overlay) = transport::overlayfs(&self.room, lower, &ours.0, &ours.1) {
            let seen = snapshot::take(&*overlay, self.began, false);
            compare(
                "overlayfs over layerfs' upper",
                &plain,
                &seen,
                forget_directory_links,
            );
            overlay.detach();
        }
        if let Some(overlay) = self.overlay {
            overlay.detach();
            let parts = Parts {
                layers: vec![self.beginning.layer.clone()],
                upper: Some((self.room.path("ou"), self.room.dir("yw"))),
                options: String::new(),
            };
            let session = transport::begin(&self.room, parts).expect("layerfs");
            let seen = snapshot::take(&*session, self.began, true);
            compare("layerfs over overlayfs' upper", &plain, &seen, |_| {});
            session.detach();
        }
    }
}

/// overlayfs shows 1 for merged directories.
fn forget_directory_links(seen: &mut Seen) {
    if seen.mode & 0o170_000 == 0o040_000 {
        seen.nlink = 0;
    }
}

fn compare(what: &str, expected: &Snapshot, found: &Snapshot, forgive: impl Fn(&mut Seen)) {
    let names = |s: &Snapshot| -> Vec<PathBuf> { s.objects.keys().cloned().collect() };
    assert_eq!(names(found), names(expected), "{what}: names");
    for (name, expected) in &expected.objects {
        let (mut expected, mut found) = (expected.clone(), found.objects[name].clone());
        forgive(&mut expected);
        forgive(&mut found);
        if found != expected {
            panic!("{what}: {name:?}\n   found {found:?}\nexpected {expected:?}");
        }
    }
}

/// One case with layerfs as `begin` starts it; `rival`: with kernel overlayfs as well. Returns the
/// time in calls of layerfs.
fn run_case(beginning: &Beginning, steps: &[Operation], begin: Begin, rival: bool) -> Duration {
    let mut world = World::new(beginning, begin, rival);
    world.look();
    for (number, operation) in steps.iter().enumerate() {
        world.step(operation);
        if number % LOOK_EVERY == 0 {
            world.look();
        }
    }
    world.look();
    let spent = world.spent;
    world.interchange();
    spent
}

#[test]
fn random_operations_give_what_a_plain_directory_gives() {
    let cases = setting("LAYERFS_MODEL_CASES", transport::MODEL_CASES);
    let steps = setting("LAYERFS_MODEL_STEPS", 60);
    random(cases, steps, transport::bake, &|beginning, steps| {
        run_case(beginning, steps, transport::begin, true);
    });
}

/// Random cases; a seed of proptest's own choice.
fn random(cases: usize, steps: usize, bake: Bake, run: &dyn Fn(&Beginning, &[Operation])) {
    let mut config = Config::with_cases(u32::try_from(cases).expect("a sane number"));
    config.max_shrink_iters =
        u32::try_from(setting("LAYERFS_MODEL_SHRINK", 0)).expect("a sane number");
    config.failure_persistence = None;
    let mut runner = TestRunner::new(config);
    let strategy = (
        any::<bool>(),
        proptest::collection::vec(operations(), steps),
    );
    let beginnings = [false, true].map(|linked| Beginning::new(linked, bake));
    let outcome = runner.run(&strategy, |(linked, steps)| {
        run(&beginnings[usize::from(linked)], &steps);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// The durations of a measured model test.
pub(crate) struct ModelTime {
    /// The whole test, with the plain directory and the comparisons.
    pub(crate) whole: Duration,
    /// The calls of layerfs.
    pub(crate) calls: Duration,
}

/// Runs random cases on one kind of session alone.
pub(crate) fn measure(cases: usize, steps: usize, begin: Begin, bake: Bake) -> ModelTime {
    let start = Instant::now();
    let calls = std::cell::Cell::new(Duration::ZERO);
    random(cases, steps, bake, &|beginning, steps| {
        calls.set(calls.get() + run_case(beginning, steps, begin, false));
    });
    ModelTime {
        whole: start.elapsed(),
        calls: calls.get(),
    }
}

/// Sequences that once failed stay here.
#[test]
fn sequences_that_once_failed() {
    for (linked, steps) in operation::once_failed() {
        let beginning = Beginning::new(linked, transport::bake);
        run_case(&beginning, &steps, transport::begin, true);
    }
}
