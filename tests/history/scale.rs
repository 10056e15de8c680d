//! Fifty layers over a hundred thousand inodes: the bars of the project, in a release build.

use std::time::{Duration, Instant};

use bakery::graft::Resolution;
use bakery::publish::Compaction;

use super::world::{Files, World, name, revision};

const INODES: usize = 100_000;
const LAYERS: usize = 50;
/// Bar for rollback and cherry-pick.
const PUBLISH_MAX: Duration = Duration::from_secs(1);
/// Files per directory.
const FANOUT: usize = 100;

fn content(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u64 * 0x9e37_79b9_7f4a_7c15 + 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    let took = start.elapsed();
    println!("{what:<32} {:>8.3} s", took.as_secs_f64());
    (done, took)
}

#[test]
#[ignore = "long; in a release build: make test-history-scale"]
fn rollback_cherry_pick_and_compaction_keep_their_bars() {
    let world = World::new();
    let mut tree = Files::new();
    for n in 0..INODES {
        let path = format!("usr/{:03}/{:02}", n / FANOUT, n % FANOUT);
        tree.insert(path, (content(n, 2000 + n % 4000), 0o644));
    }
    timed("import", || world.push("alt", &tree));
    let publisher = world.publisher();
    publisher
        .add_profile(&name("alt/lab"), &revision("alt"), "admin", "")
        .unwrap();
    for layer in 1..LAYERS {
        for n in 0..200 {
            let path = format!(
                "usr/{:03}/{:02}",
                (layer * 17 + n) % (INODES / FANOUT),
                n % FANOUT
            );
            tree.insert(path, (content(layer * 1000 + n, 3000), 0o644));
        }
        world.push("alt", &tree);
    }
    let mut lab = world.files(&publisher.history().require_head(&name("alt/lab")).unwrap());
    lab.insert("opt/lab".into(), (b"lab".to_vec(), 0o755));
    world.push("alt/lab", &lab);
    let (_, rollback) = timed("rollback", || {
        publisher
            .rollback(&revision("alt@40"), "admin", "")
            .unwrap()
    });
    publisher
        .rollback(&revision("alt@50"), "admin", "")
        .unwrap();
    let (_, pick) = timed("cherry-pick, other base", || {
        publisher
            .cherry_pick("alt/lab@2", &name("alt"), "admin", "", Resolution::Refuse)
            .unwrap()
    });
    let (_, rebase) = timed("rebase onto the newest", || {
        publisher
            .rebase(
                &name("alt/lab"),
                Some(&revision("alt@50")),
                "a",
                "",
                Resolution::Refuse,
            )
            .unwrap()
    });
    let compaction = Compaction {
        name: name("alt"),
        revisions: None,
        recompress: false,
        author: "admin".into(),
        message: String::new(),
    };
    let (done, compact) = timed("compact", || {
        publisher.compact(&compaction, &|_| ()).unwrap()
    });
    let layer = done.revision.manifest.layers[0];
    let file = world
        .dir
        .path()
        .join(format!("store/layers/{}.layer", layer.digest));
    let (_, copy) = timed("cp of the result", || {
        let target = world.dir.path().join("copy");
        assert!(
            std::process::Command::new("cp")
                .arg(&file)
                .arg(&target)
                .status()
                .unwrap()
                .success()
        );
        std::fs::File::open(&target).unwrap().sync_all().unwrap();
    });
    let len = layer.len as f64 / (1 << 20) as f64;
    let ratio = copy.as_secs_f64() / compact.as_secs_f64();
    println!("compaction of {len:.0} MiB runs at {ratio:.2} of cp, index and proof included");
    println!("rebase took {:.3} s", rebase.as_secs_f64());
    assert!(rollback <= PUBLISH_MAX, "rollback took {rollback:?}");
    assert!(pick <= PUBLISH_MAX, "cherry-pick took {pick:?}");
}
