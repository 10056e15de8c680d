//! The same on a real S3: SeaweedFS. `make test-s3` installs and starts it.

use bakery::store::{Store, check, conformance};

use super::world::{World, files, name, revision, with};

/// `s3://bucket` of a running store; the `AWS_…` variables say how to reach it.
const PLACE: &str = "LAYERFS_TEST_S3";

fn place(test: &str) -> String {
    let bucket = std::env::var(PLACE).expect("run this through make test-s3");
    format!(
        "{}/{test}-{}",
        bucket.trim_end_matches('/'),
        std::process::id()
    )
}

#[test]
#[ignore = "needs SeaweedFS: make test-s3"]
fn seaweedfs_conforms() {
    let store = Store::create(&place("conformance")).unwrap();
    conformance::run(&store);
    for _ in 0..3 {
        let defects = check::probe(&store)
            .unwrap()
            .into_iter()
            .find(|f| f.defect.is_some());
        assert!(defects.is_none(), "{defects:?}");
    }
}

#[test]
#[ignore = "needs SeaweedFS: make test-s3"]
fn a_whole_history_lives_in_a_bucket() {
    let world = World::at(tempfile::tempdir().unwrap(), place("history"));
    let base = files([("a", "1"), ("b", "1")]);
    world.push("alt", &base);
    let two = world.push("alt", &with(&base, [("a", Some("2"))]));
    assert_eq!(world.files(&two), with(&base, [("a", Some("2"))]));
    let publisher = world.publisher();
    publisher
        .add_profile(&name("alt/lab"), &revision("alt@1"), "admin", "")
        .unwrap();
    publisher.rollback(&revision("alt@1"), "admin", "").unwrap();
    let policy = bakery::sweep::Policy {
        keep_last: 1,
        grace: std::time::Duration::ZERO,
        ..Default::default()
    };
    assert!(
        !bakery::sweep::sweep(&world.history(), &policy)
            .unwrap()
            .objects
            .is_empty()
    );
    world.assert_sound();
}

#[test]
#[ignore = "needs SeaweedFS: make test-s3"]
fn eight_writers_on_a_bucket_have_one_winner_each() {
    let world = World::at(tempfile::tempdir().unwrap(), place("race"));
    let base = files([("base", "0")]);
    world.push("alt", &base);
    let numbers: std::collections::BTreeSet<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (world, base) = (&world, &base);
                scope.spawn(move || {
                    let target = with(base, [(&format!("by/{writer}"), Some("x"))]);
                    let resolution = bakery::graft::Resolution::Refuse;
                    world
                        .try_push("alt", Some(1), &target, resolution)
                        .unwrap()
                        .number()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    assert_eq!(numbers, (2..10).collect());
    world.assert_sound();
}
