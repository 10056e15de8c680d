//! Objects that gc deletes, and objects that it must not delete.

use std::time::Duration;

use bakery::sweep::{SweepPolicy, Swept, sweep};

use super::world::{World, files, name, revision, with};

fn gc(world: &World, keep_last: usize) -> Swept {
    let policy = SweepPolicy {
        keep_last,
        grace: Duration::ZERO,
        ..Default::default()
    };
    let swept = sweep(&world.history(), &policy).unwrap();
    assert!(!swept.busy && !swept.unfinished);
    swept
}

fn world() -> World {
    let world = World::new();
    let base = files([("a", "0"), ("b", "0")]);
    world.push("alt", &base);
    for n in 1..6 {
        world.push("alt", &with(&base, [("a", Some(&n.to_string()))]));
    }
    world
}

#[test]
fn retained_revisions_stay_whole_and_the_rest_is_known_to_be_gone() {
    let world = world();
    let head = world.history().require_head(&name("alt")).unwrap();
    let before = world.files(&head);
    world.history().tag(&revision("alt@2"), "golden").unwrap();
    let swept = gc(&world, 2);
    // Layers stay in the stack of the head; indexes of 1, 3 and 4 go, and the deltas from and to them.
    assert_eq!(swept.revisions_swept, ["alt@1", "alt@3", "alt@4"]);
    assert!(
        swept
            .objects
            .iter()
            .all(|key| key.starts_with("indexes/") || key.starts_with("deltas/")),
        "{:?}",
        swept.objects
    );
    assert_eq!(world.files(&head), before);
    world.assert_sound();
    let log = world.history().log(&name("alt"), 100).unwrap();
    assert_eq!(log.len(), 6, "the history itself stays");
    let publisher = world.publisher();
    publisher.rollback(&revision("alt@2"), "admin", "").unwrap();
    let gone = publisher
        .rollback(&revision("alt@3"), "admin", "")
        .unwrap_err()
        .to_string();
    assert!(
        gone.contains("was swept") && gone.contains("indexes/"),
        "{gone}"
    );
    world.history().untag(&name("alt"), "golden").unwrap();
    assert!(world.history().untag(&name("alt"), "golden").is_err());
    world.assert_sound();
}

#[test]
fn a_compacted_history_loses_its_old_layers_only_when_nobody_needs_them() {
    let world = world();
    let publisher = world.publisher();
    publisher
        .add_profile(&name("alt/lab"), &revision("alt@6"), "admin", "")
        .unwrap();
    let compaction = bakery::publish::Compaction {
        name: name("alt"),
        revisions: None,
        recompress: false,
        author: "admin".into(),
        message: String::new(),
    };
    publisher.compact(&compaction, &|_| ()).unwrap();
    let kept = gc(&world, 1);
    assert!(
        !kept.objects.iter().any(|key| key.starts_with("layers/")),
        "the profile stands on them"
    );
    world.assert_sound();
    publisher.remove_profile(&name("alt/lab")).unwrap();
    let taken = gc(&world, 1);
    let layers = taken
        .objects
        .iter()
        .filter(|key| key.starts_with("layers/"))
        .count();
    assert_eq!(layers, 6, "{:?}", taken.objects);
    world.assert_sound();
}

#[test]
fn young_objects_wait_and_a_dry_run_touches_nothing() {
    let world = world();
    let policy = SweepPolicy {
        keep_last: 1,
        ..Default::default()
    };
    let waiting = sweep(&world.history(), &policy).unwrap();
    assert!(
        waiting.objects.is_empty() && waiting.objects_waiting > 0,
        "{waiting:?}"
    );
    let dry = SweepPolicy {
        keep_last: 1,
        grace: Duration::ZERO,
        dry_run: true,
        ..Default::default()
    };
    let dry = sweep(&world.history(), &dry).unwrap();
    assert!(!dry.objects.is_empty());
    assert_eq!(
        gc(&world, 1).objects,
        dry.objects,
        "the dry run said what would go"
    );
}

#[test]
fn a_broken_history_is_not_swept() {
    let world = world();
    let head = world.history().require_head(&name("alt")).unwrap();
    let old = world.history().revision(&revision("alt@2")).unwrap();
    let manifest = world
        .dir
        .path()
        .join(format!("store/manifests/{}", old.head.manifest.digest));
    std::fs::remove_file(&manifest).unwrap();
    let policy = SweepPolicy {
        keep_last: 1,
        grace: Duration::ZERO,
        ..Default::default()
    };
    let error = sweep(&world.history(), &policy).unwrap_err().to_string();
    assert!(error.contains("has no manifests/"), "{error}");
    assert!(world.files(&head).contains_key("a"), "nothing was deleted");
}

#[test]
fn publishing_and_sweeping_at_once_loses_nothing() {
    let world = super::world::shared();
    let base = files([("a", "0")]);
    world.push("alt", &base);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..12 {
                world.push("alt", &with(&base, [("a", Some(&format!("{}", n + 1)))]));
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        scope.spawn(|| {
            let end = std::time::Instant::now() + Duration::from_secs(60);
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                assert!(
                    std::time::Instant::now() < end,
                    "publishing does not get through"
                );
                let policy = SweepPolicy {
                    keep_last: 1,
                    grace: Duration::ZERO,
                    ..Default::default()
                };
                sweep(&world.history(), &policy).unwrap();
                std::thread::sleep(Duration::from_millis(40));
            }
        });
    });
    world.assert_sound();
}

#[test]
fn every_kind_of_damage_is_found_and_named() {
    for kind in ["layers", "indexes", "manifests", "refs/alt/main"] {
        for damage in ["missing", "flipped"] {
            let world = world();
            let directory = world.dir.path().join("store").join(kind);
            let mut objects: Vec<_> = std::fs::read_dir(&directory)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect();
            objects.sort();
            let victim = objects.swap_remove(objects.len() / 2);
            if damage == "missing" {
                std::fs::remove_file(&victim).unwrap();
            } else {
                let mut bytes = std::fs::read(&victim).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::remove_file(&victim).unwrap();
                std::fs::write(&victim, bytes).unwrap();
            }
            let found = bakery::scrub::scrub(&world.history(), true, &|_| ()).unwrap();
            assert!(
                !found.defects.is_empty(),
                "{damage} {} was not found",
                victim.display()
            );
        }
    }
}
