//! The model test of switches: random operations and random revisions; after each switch the session
//! equals a new one of the same revision and upper, and open files have their content.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::{REMEMBERED, fresh, look, same};
use layerfs::filesystem::Ours;

use crate::log;
use crate::model::operation::{Operation, apply, operations, seed};
use crate::session::baker::bake;
use crate::session::direct::Direct;
use crate::session::kept::Kept;
use crate::session::paths::Paths;
use crate::session::{Attached as _, Parts};
use crate::transport::Room;

/// Seed of the short run.
const SEED: u64 = 27;

/// One step.
#[derive(Debug, Clone)]
enum Step {
    Change(Operation),
    /// Opens a file, which stays open.
    Open(String),
    Switch(usize),
    Forget,
}

fn steps() -> impl Strategy<Value = Step> {
    let name = prop::sample::select(vec!["a", "b", "c", "f", "g", "big", "new", "l"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    prop_oneof![
        12 => operations().prop_map(Step::Change),
        2 => path.prop_map(Step::Open),
        2 => (0..3_usize).prop_map(Step::Switch),
        1 => Just(Step::Forget),
    ]
}

/// The trees of the revisions: one that is given, and two with random changes.
fn revisions(room: &Room, linked: bool, changes: &[Vec<Operation>]) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    for number in 0..=changes.len() {
        let tree = room.dir(&format!("tree{number}"));
        seed(&tree, linked);
        let session = Paths::new(&tree);
        for change in changes.iter().take(number).flatten() {
            let _ = apply(&session, change);
        }
        session.close_all();
        let layer = room.path(&format!("{number}.layer"));
        bake(&tree, &layer);
        layers.push(layer);
    }
    layers
}

/// Switches, and looks at the open files before and after.
fn switch(session: &Direct, layer: &Path, kept: &[Kept<'_, Direct>]) -> bool {
    let before: Vec<Vec<u8>> = kept.iter().map(Kept::content).collect();
    let force = std::env::var_os("LAYERFS_SWITCH_FORCE").is_none_or(|force| force != "no");
    let (conflicts, done) = session.switch(&[layer.to_owned()], force);
    // A file of the upper whose data is in the lower shows the data of the other revision.
    let follows = conflicts.iter().any(|one| one.ours == Ours::Attributes);
    for (kept, before) in kept.iter().zip(before) {
        kept.assert_content(&before, follows);
    }
    done
}

/// Ends the session and begins it again: every object keeps its number (S19.11).
fn again(room: &Room, session: &Direct) {
    let before = look(session).numbers;
    session.detach();
    session.attach();
    let after = look(session).numbers;
    for (path, number) in before {
        // A switch may have merged it with another lower directory, or with none.
        let of_upper = room.path("u").join(&path).symlink_metadata();
        if !of_upper.is_ok_and(|it| it.is_dir()) {
            assert_eq!(after[&path], number, "{}", path.display());
        }
    }
}

fn run_case(linked: bool, changes: &[Vec<Operation>], steps: &[Step]) {
    let room = Room::new();
    let layers = revisions(&room, linked, changes);
    let parts = Parts {
        layers: vec![layers[0].clone()],
        upper: Some((room.dir("u"), room.dir("w"))),
        options: String::new(),
    };
    log::start();
    let session = Direct::begin(parts, REMEMBERED, log::lines).unwrap();
    let (mut kept, mut shown) = (Vec::new(), 0);
    for step in steps {
        match step {
            Step::Change(Operation::Remount) => {
                kept.clear();
                again(&room, &session);
            }
            Step::Change(change) => {
                let _ = apply(&session, change);
            }
            Step::Open(path) => kept.extend(Kept::open(&session, path)),
            Step::Forget => session.forget(),
            Step::Switch(revision) => {
                if switch(&session, &layers[*revision], &kept) {
                    shown = *revision;
                }
                same(&fresh(&room, &layers[shown]), &look(&session));
            }
        }
    }
    drop(kept);
    same(&fresh(&room, &layers[shown]), &look(&session));
    again(&room, &session);
    same(&fresh(&room, &layers[shown]), &look(&session));
}

#[test]
fn random_switches_give_what_a_new_mount_gives() {
    let setting = |name: &str, short: u32| {
        let text = std::env::var(name).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(short)
    };
    let mut config = Config::with_cases(setting("LAYERFS_SWITCH_CASES", 12));
    if std::env::var_os("LAYERFS_SWITCH_CASES").is_none() {
        // The short run has the same cases each time; a long one has others.
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    config.max_shrink_iters = setting("LAYERFS_MODEL_SHRINK", 0);
    config.failure_persistence = None;
    let strategy = (
        any::<bool>(),
        prop::collection::vec(prop::collection::vec(operations(), 8..20), 2),
        prop::collection::vec(steps(), 60),
    );
    let outcome = TestRunner::new(config).run(&strategy, |(linked, changes, steps)| {
        run_case(linked, &changes, &steps);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
