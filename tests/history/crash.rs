//! `kill -9` of a publishing process at random points.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use bakery::graft::Resolution;
use bakery::keys::Keys;
use bakery::publish::{Addition, Publisher};
use bakery::scrub::scrub;
use bakery::store::Store;
use rand::{Rng as _, SeedableRng as _};
use wire::manifest::Action;

use super::world::{World, bake, files, name};

/// Set for the child only: location of the store and the keys.
const CHILD: &str = "LAYERFS_TEST_PUBLISHING_CHILD";
/// Kills per test run; `LAYERFS_TEST_KILLS` sets more.
const KILLS: u32 = 40;
/// A child that was never killed ends by itself.
const PUBLISH_MAX: u32 = 2000;

#[test]
#[ignore = "the child of the test below"]
fn publish_until_killed() {
    let Some(place) = std::env::var_os(CHILD) else {
        return;
    };
    let place = std::path::PathBuf::from(place);
    let location = place.join("store");
    let location = location.to_str().unwrap();
    let keys = Keys::locate(Some(&place.join("keys")), location).unwrap();
    let publisher = Publisher::open(Store::open(location).unwrap(), &keys).unwrap();
    for number in 0..PUBLISH_MAX {
        let head = publisher.history().require_head(&name("alt")).unwrap();
        let merged = publisher.history().merged(&head.manifest).unwrap();
        let layer = place.join(format!("{}-{number}.layer", std::process::id()));
        let text = format!("{} {number}", std::process::id());
        bake(
            &layer,
            Some(&merged),
            &files([("etc/motd", &text), ("bin/sh", "shell")]),
        );
        let revision = publisher
            .add(&Addition {
                name: name("alt"),
                layer: &layer,
                made_on: None,
                action: Action::Bake,
                author: "child".into(),
                message: text,
                resolution: Resolution::Refuse,
            })
            .unwrap();
        println!("acknowledged {}", revision.number());
        std::fs::remove_file(&layer).unwrap();
    }
}

#[test]
fn a_killed_publisher_leaves_whole_revisions_only() {
    let world = World::new();
    world.push("alt", &files([("etc/motd", "0"), ("bin/sh", "shell")]));
    let seed = std::env::var("LAYERFS_TEST_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("LAYERFS_TEST_SEED={seed}");
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    let kills = std::env::var("LAYERFS_TEST_KILLS")
        .ok()
        .and_then(|s| s.parse().ok());
    let mut acknowledged = 0u64;
    // On a busy machine a child needs longer to reach its first revision.
    let mut longest = 120_000;
    for _ in 0..kills.unwrap_or(KILLS) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "history::crash::publish_until_killed",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, world.dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            // The test harness writes its own words in front of the first line.
            let numbers = lines.filter_map(|l| l.rsplit_once("acknowledged ")?.1.parse().ok());
            numbers.max().unwrap_or(0u64)
        });
        std::thread::sleep(Duration::from_micros(random.random_range(5_000..longest)));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = acknowledged.max(reader.join().unwrap());
        if acknowledged <= 1 {
            longest = (2 * longest).min(10_000_000);
        }
        let history = world.history();
        let newest = history.newest(&name("alt")).unwrap().unwrap();
        assert!(
            newest >= acknowledged,
            "{acknowledged} was acknowledged, {newest} is there"
        );
        let found = scrub(&history, false, &|_| ()).unwrap();
        assert!(found.defects.is_empty(), "{:#?}", found.defects);
        assert_eq!(found.revisions as u64, newest, "no number is left out");
    }
    assert!(
        acknowledged > 1,
        "no child came as far as publishing; the kills prove nothing"
    );
    world.assert_sound();
    let (swept, policy) = (
        world.history(),
        bakery::sweep::SweepPolicy {
            keep_last: 3,
            grace: Duration::ZERO,
            ..Default::default()
        },
    );
    let swept = bakery::sweep::sweep(&swept, &policy).unwrap();
    assert!(!swept.busy, "a dead publisher's flag stopped the sweep");
    world.push("alt", &files([("after", "all")]));
    world.assert_sound();
    let left = std::fs::read_dir(world.dir.path().join("store/staging"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "what the killed left behind is gone");
}
