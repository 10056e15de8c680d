//! Update packs in a store: every pair of revisions, missing old chunks, verify, copies, sweeps and
//! purges (`docs/FORMAT.md` §18, `docs/PROTOCOL.md` §7).

use std::path::PathBuf;
use std::sync::Arc;

use bakery::history::Revision;
use bakery::store::{Key, Store};
use bakery::update_pack::{Made, make};
use layerfmt::source::{ContentReader, LayerSet};
use layerfmt::update::{PREAMBLE_LEN, Preamble, UpdateHead, UpdatePlan, decode_index};
use layerfmt::{Digest, ErrorKind, FormatError, Index};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use wire::trust::Envelope;

use super::verbs::bakery;
use super::world::{Files, World, files, revision, with};
use crate::test_bakery::{run, text};

fn words(seed: u64, count: usize) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|_| format!("{} ", random.random::<u32>()))
        .collect()
}

/// A history of random changes: files that are new, changed, moved or gone.
fn history(world: &World, seed: u64, count: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut tree: Files = files([
        ("usr/lib/libfoo.so.1.2", words(1, 20_000).as_str()),
        ("usr/share/words", &words(2, 3_000)),
        ("etc/motd", "one"),
    ]);
    for i in 0..8 {
        let text = words(10 + i, 500);
        tree = with(
            &tree,
            [(format!("usr/bin/tool-{i}.0").as_str(), Some(text.as_str()))],
        );
    }
    for revision in 0..count {
        world.push("alt", &tree);
        let names: Vec<String> = tree.keys().cloned().collect();
        for name in names {
            let (bytes, _) = tree[&name].clone();
            let old = String::from_utf8(bytes).unwrap();
            let at = random.random_range(0..=old.len());
            let change = match random.random_range(0..6) {
                0 => None,
                1 | 2 => Some(format!("{}{revision}{}", &old[..at], &old[at..])),
                _ => continue,
            };
            let moves = random.random_bool(0.3);
            if moves || change.is_none() {
                tree = with(&tree, [(name.as_str(), None)]);
            }
            let place = match moves {
                true => format!("usr/moved/{}", name.rsplit('/').next().unwrap()),
                false => name,
            };
            if let Some(change) = change {
                tree = with(&tree, [(place.as_str(), Some(change.as_str()))]);
            }
        }
    }
}

struct End {
    index: Arc<Index>,
    layers: LayerSet,
}

fn end(world: &World, revision: &Revision) -> End {
    let digest = revision.manifest.index.digest;
    let store = Store::open(world.location()).unwrap();
    let layer = store.open_layer(&Key::index(&digest), &digest).unwrap();
    End {
        index: Arc::clone(layer.index()),
        layers: world.history().layers(&revision.manifest).unwrap(),
    }
}

fn file(world: &World, to: u64, from: u64) -> PathBuf {
    let key = Key::update(&"alt".parse().unwrap(), to, from);
    PathBuf::from(world.location()).join(key.as_str())
}

/// Every pair of revisions of random histories has a pack whose units make exactly their chunks;
/// with random old chunks missing, exactly the units that need them fail.
#[test]
fn every_pair_of_revisions_is_reached() {
    let histories = std::env::var("LAYERFS_UPDATE_POINTS").map_or(3, |it| it.parse().unwrap());
    for seed in 0..histories {
        let world = World::new();
        history(&world, seed, 4);
        require_pairs(&world, seed);
    }
}

/// Every pair of revisions in the store has a pack that leads from the one to the other. Leaves out
/// revisions whose objects were deleted.
pub(super) fn require_pairs(world: &World, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let signer = world.keys().head().unwrap();
    let store = Store::open(world.location()).unwrap();
    for name in world.history().names().unwrap() {
        let mut revisions = world.history().log(&name, usize::MAX).unwrap();
        revisions.retain(|it| !world.history().is_swept(&it.name()).unwrap());
        for (at, to) in revisions.iter().enumerate() {
            for from in &revisions[at + 1..] {
                let made = make(&world.history(), &signer, &from.name(), &to.name()).unwrap();
                let key = Key::update(&name, to.number(), from.number());
                require_reached(world, (from, to), &key, &made, &mut random);
                store.delete(&key).unwrap();
            }
        }
    }
}

/// The pack in the store makes the index and every new chunk; without random old chunks, exactly the
/// units fail that need them.
fn require_reached(
    world: &World,
    (old, new): (&Revision, &Revision),
    key: &Key,
    made: &Made,
    random: &mut StdRng,
) {
    let (old, new) = (end(world, old), end(world, new));
    let bytes = std::fs::read(PathBuf::from(world.location()).join(key.as_str())).unwrap();
    let preamble = Preamble::decode(&bytes).unwrap();
    let place = preamble.head();
    let record = &bytes[PREAMBLE_LEN..place.start as usize];
    let payload = Envelope::parse(record).unwrap().payload;
    let record = wire::manifest::UpdateRecord::parse(payload.as_bytes()).unwrap();
    let stored = &bytes[place.start as usize..place.end as usize];
    let head = UpdateHead::decode(stored, record.head.raw_len, &record.head.digest).unwrap();
    let frames = &bytes[place.end as usize..];
    let frame = head.index.unwrap();
    let index = &frames[..frame.stored_len as usize];
    let index = decode_index(&frame, index, &old.index).unwrap();
    assert_eq!(index.raw(), new.index.raw());
    let plan = UpdatePlan::new(head, &old.index, &index).unwrap();
    let gone: Vec<bool> = (0..old.index.chunk_count())
        .map(|_| random.random_bool(0.3))
        .collect();
    let mut reader = ContentReader::new(&old.index, &old.layers);
    let mut chunks = 0;
    for row in 0..plan.len() {
        let (unit, offset) = plan.unit(row).unwrap();
        let frame = &frames[offset as usize..][..unit.stored_len as usize];
        let read = |reader: &mut ContentReader<'_>, row: u32| {
            reader.chunk(row).map(<[u8]>::to_vec).unwrap()
        };
        let ready = plan.apply(row, frame, |row| Ok(read(&mut reader, row)));
        for ready in ready.unwrap() {
            assert_eq!(Digest::of(&ready.raw), ready.raw_digest);
            chunks += 1;
        }
        let needs = unit.prefix.iter().any(|span| gone[span.chunk as usize]);
        let holed = plan.apply(row, frame, |row| {
            if gone[row as usize] {
                return Err(FormatError::new(ErrorKind::Io, "test", 0, "it is gone"));
            }
            Ok(read(&mut reader, row))
        });
        assert_eq!(holed.is_err(), needs);
    }
    assert_eq!(chunks, made.chunks);
}

/// A unit is encoded once: the pack from an older revision, and the one to the next revision, take it
/// from the pack that has it, and lead to the same chunks.
#[test]
fn units_are_encoded_once() {
    let world = World::new();
    let first = files([
        ("usr/words", words(1, 30_000).as_str()),
        ("etc/motd", "one"),
    ]);
    world.push("alt", &first);
    let second = with(&first, [("etc/motd", Some("two"))]);
    world.push("alt", &second);
    let text = format!("{}and more", words(1, 30_000));
    let third = with(&second, [("usr/words", Some(text.as_str()))]);
    world.push("alt", &third);
    world.push("alt", &with(&third, [("etc/motd", Some("four"))]));
    let signer = world.keys().head().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut reused = Vec::new();
    for (from, to) in [(2, 3), (1, 3), (1, 4), (3, 4)] {
        let named = |number: u64| revision(&format!("alt@{number}"));
        let (old, new) = (named(from), named(to));
        let made = make(&world.history(), &signer, &old, &new).unwrap();
        let ends = [&old, &new].map(|name| world.history().revision(name).unwrap());
        let key = Key::update(&"alt".parse().unwrap(), to, from);
        require_reached(&world, (&ends[0], &ends[1]), &key, &made, &mut random);
        reused.push(made.units_reused > 0);
    }
    assert_eq!(reused, [false, true, true, false]);
    // A damaged pack gives none.
    for from in [1, 2] {
        let path = file(&world, 3, from);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::remove_file(file(&world, 4, 1)).unwrap();
    let made = make(
        &world.history(),
        &signer,
        &revision("alt@1"),
        &revision("alt@4"),
    );
    assert_eq!(made.unwrap().units_reused, 0);
}

/// `verify --all` names a damaged pack, `store copy` does not copy it, `gc` deletes packs to a
/// revision that is not the newest, and a purge leaves no pack with the purged content.
#[test]
fn packs_are_verified_copied_swept_and_purged() {
    let world = World::new();
    let one = files([("etc/motd", "one"), ("usr/words", words(1, 5_000).as_str())]);
    world.push("alt", &one);
    let secret = format!("{}the secret", words(1, 5_000));
    world.push("alt", &with(&one, [("usr/words", Some(secret.as_str()))]));
    let message = |words: &[&str]| {
        let output = bakery(&world, words).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    run(&mut bakery(&world, &["update-pack", "alt@1", "alt@2"]));
    assert!(message(&["verify", "--all"]).contains("no errors"));
    let log = message(&["show", "alt@2"]);
    assert!(log.contains("update"), "{log}");
    let to = world.dir.path().join("copy").display().to_string();
    assert!(message(&["store", "copy", world.location(), &to]).contains("no errors"));
    let pack = file(&world, 2, 1);
    let key = pack.strip_prefix(world.location()).unwrap();
    let good = std::fs::read(&pack).unwrap();
    assert_eq!(std::fs::read(PathBuf::from(&to).join(key)).unwrap(), good);
    // Damage in the last frame.
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, &bad).unwrap();
    let verified = message(&["verify", "--all"]);
    assert!(
        verified.contains("updates/alt/main") && !verified.contains("no errors"),
        "{verified}"
    );
    let to = world.dir.path().join("other").display().to_string();
    let copied = message(&["store", "copy", world.location(), &to]);
    assert!(copied.contains("damaged"), "{copied}");
    assert!(!PathBuf::from(&to).join(key).exists());
    std::fs::write(&pack, &good).unwrap();
    // A purge rewrites both revisions: their pack is of no use, and holds the content.
    run(&mut bakery(
        &world,
        &["purge", "alt", "/usr/words", "--delete"],
    ));
    assert!(!pack.exists());
    assert!(message(&["verify", "--all"]).contains("no errors"));
    run(&mut bakery(&world, &["update-pack", "alt", "--last", "3"]));
    assert!(message(&["verify", "--all"]).contains("no errors"));
    // With a newer revision the packs to this one go.
    world.push("alt", &with(&one, [("etc/motd", Some("three"))]));
    let newest = world
        .history()
        .newest(&"alt".parse().unwrap())
        .unwrap()
        .unwrap();
    run(&mut bakery(&world, &["update-pack", "alt", "--last", "3"]));
    run(&mut bakery(&world, &["gc", "--grace", "0"]));
    let updates = PathBuf::from(world.location()).join("updates/alt/main");
    let left: Vec<String> = std::fs::read_dir(&updates)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| std::fs::read_dir(entry.path()).unwrap().next().is_some())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, [format!("{newest:020}")]);
    assert!(message(&["verify", "--all"]).contains("no errors"));
}
