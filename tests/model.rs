//! The model test: random operations on layerfs, on kernel overlayfs and in a plain directory.
//! All three are compared after each step, with remounts in between; at the end each upper is
//! mounted by the other implementation.
//!
//! Smallest failing sequence: add `LAYERFS_MODEL_SHRINK=500`. Long setting: `LAYERFS_MODEL_CASES=500 LAYERFS_MODEL_STEPS=100 cargo test -p layerfs-tests model`.

mod operation;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::operation::{Operation, apply, operations, seed};
use crate::harness::mount::{Bench, Mount, Overlay};
use crate::harness::snapshot::{self, Seen, Snapshot};

fn setting(name: &str, short: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(short)
}

/// Look at the whole tree every so many steps; in between only results are compared.
const LOOK_EVERY: usize = 5;

struct World {
    bench: Bench,
    lower: PathBuf,
    plain: PathBuf,
    layerfs: Option<Mount>,
    overlay: Option<Overlay>,
    /// plain number → layerfs number of every object.
    identity: HashMap<u64, u64>,
    began: SystemTime,
    linked: bool,
}

impl World {
    fn new(linked: bool) -> World {
        let bench = Bench::new();
        let lower = bench.dir("lower");
        seed(&lower, linked);
        let plain = bench.dir("plain");
        crate::harness::programs::run(
            std::process::Command::new("cp")
                .arg("-a")
                .arg(lower.join("."))
                .arg(&plain),
        );
        let layer = bench.path("base.layer");
        crate::harness::programs::bake(&lower, &layer);
        for name in ["lu", "lw", "lm", "ou", "ow", "om"] {
            bench.dir(name);
        }
        for upper in ["lu", "ou"] {
            operation::copy_root(&lower, &bench.path(upper));
        }
        let upper = (bench.path("lu"), bench.path("lw"));
        let layerfs = Mount::layerfs(&bench.path("lm"), &[&layer], Some((&upper.0, &upper.1)));
        // Hard links of the lower come apart in overlayfs; then only the plain directory counts.
        let overlay = (!linked).then(|| {
            Overlay::new(
                &bench.path("om"),
                &lower,
                &bench.path("ou"),
                &bench.path("ow"),
            )
        });
        World {
            lower,
            plain,
            layerfs: Some(layerfs),
            overlay,
            identity: HashMap::new(),
            began: SystemTime::now() - Duration::from_secs(60),
            linked,
            bench,
        }
    }

    fn step(&mut self, operation: &Operation) {
        if let Operation::Remount = operation {
            if let Some(layerfs) = &self.layerfs {
                layerfs.again();
            }
            if let Some(overlay) = &self.overlay {
                overlay.again();
            }
            return;
        }
        let expected = apply(&self.plain, operation);
        let found = apply(&self.bench.path("lm"), operation);
        assert_eq!(
            found, expected,
            "layerfs against a plain directory: {operation:?}"
        );
        if self.overlay.is_some() {
            let found = apply(&self.bench.path("om"), operation);
            assert_eq!(
                found, expected,
                "overlayfs against a plain directory: {operation:?}"
            );
        }
    }

    fn look(&mut self) {
        let plain = snapshot::take(&self.plain, self.began);
        let layerfs = snapshot::take(&self.bench.path("lm"), self.began);
        compare("layerfs", &plain, &layerfs, |_| {});
        self.same_objects(&plain, &layerfs);
        if self.overlay.is_some() {
            let overlay = snapshot::take(&self.bench.path("om"), self.began);
            compare("overlayfs", &plain, &overlay, forget_directory_links);
        }
    }

    /// An object keeps its number during its lifetime, and shares it with no other.
    fn same_objects(&mut self, plain: &Snapshot, layerfs: &Snapshot) {
        let mut now = HashMap::new();
        for (path, number) in &plain.numbers {
            let ours = layerfs.numbers[path];
            if let Some(before) = self.identity.get(number) {
                assert_eq!(*before, ours, "number of {}", String::from_utf8_lossy(path));
            }
            if let Some(before) = now.insert(*number, ours) {
                assert_eq!(before, ours, "links of {}", String::from_utf8_lossy(path));
            }
        }
        let different: std::collections::HashSet<u64> = now.values().copied().collect();
        assert_eq!(different.len(), now.len(), "two objects share a number");
        self.identity = now;
    }

    /// Each implementation mounts the upper that the other wrote.
    fn interchange(mut self) {
        let plain = snapshot::take(&self.plain, self.began);
        drop(self.layerfs.take());
        drop(self.overlay.take());
        let (at, work) = (self.bench.dir("xm"), self.bench.dir("xw"));
        {
            let overlay = Overlay::new(&at, &self.lower, &self.bench.path("lu"), &work);
            let seen = snapshot::take(&overlay.at, self.began);
            compare(
                "overlayfs over layerfs' upper",
                &plain,
                &seen,
                forget_directory_links,
            );
        }
        if !self.linked {
            let layer = self.bench.path("base.layer");
            let upper = self.bench.path("ou");
            let mount = Mount::layerfs(&at, &[&layer], Some((&upper, &self.bench.dir("yw"))));
            let seen = snapshot::take(&mount.at, self.began);
            compare("layerfs over overlayfs' upper", &plain, &seen, |_| {});
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
    let names = |s: &Snapshot| -> Vec<String> {
        s.objects
            .keys()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    };
    assert_eq!(names(found), names(expected), "{what}: names");
    for (name, expected) in &expected.objects {
        let (mut expected, mut found) = (expected.clone(), found.objects[name].clone());
        forgive(&mut expected);
        forgive(&mut found);
        if found != expected {
            let name = String::from_utf8_lossy(name);
            panic!("{what}: {name:?}\n   found {found:?}\nexpected {expected:?}");
        }
    }
}

fn run_case(linked: bool, steps: &[Operation]) {
    let mut world = World::new(linked);
    world.look();
    for (number, operation) in steps.iter().enumerate() {
        world.step(operation);
        if number % LOOK_EVERY == 0 {
            world.look();
        }
    }
    world.look();
    world.interchange();
}

#[test]
fn random_operations_give_what_a_plain_directory_gives() {
    let cases = setting("LAYERFS_MODEL_CASES", 6);
    let steps = setting("LAYERFS_MODEL_STEPS", 60);
    let mut config = Config::with_cases(u32::try_from(cases).expect("a sane number"));
    config.max_shrink_iters =
        u32::try_from(setting("LAYERFS_MODEL_SHRINK", 0)).expect("a sane number");
    config.failure_persistence = None;
    let mut runner = TestRunner::new(config);
    let strategy = (
        any::<bool>(),
        proptest::collection::vec(operations(), steps),
    );
    let outcome = runner.run(&strategy, |(linked, steps)| {
        run_case(linked, &steps);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Sequences that once failed stay here.
#[test]
fn sequences_that_once_failed() {
    for (linked, steps) in operation::once_failed() {
        run_case(linked, &steps);
    }
}
