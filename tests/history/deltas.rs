//! Index deltas in a store: made at publication, verified, copied, swept and purged
//! (`docs/PROTOCOL.md` §7).

use std::path::PathBuf;
use std::sync::Arc;

use bakery::history::Revision;
use bakery::store::{Key, Store};
use layerfmt::update::{PREAMBLE_LEN, Preamble, UpdateHead, decode_index};
use layerfmt::{Digest, Index};
use wire::trust::verify_update;

use super::verbs::bakery;
use super::world::{Files, World, files, name, with};
use crate::test_bakery::{run, text};

/// A tree with an index that is longer than a record.
fn tree() -> Files {
    let mut tree = files([("etc/motd", "one")]);
    for number in 0..300_u32 {
        let path = format!(
            "usr/share/{number}-{:08x}",
            number.wrapping_mul(2_654_435_761)
        );
        tree = with(&tree, [(path.as_str(), Some(path.as_str()))]);
    }
    tree
}

fn index(world: &World, digest: &Digest) -> Arc<Index> {
    let store = Store::open(world.location()).unwrap();
    let layer = store.open_layer(&Key::index(digest), digest).unwrap();
    Arc::clone(layer.index())
}

fn by_layers(revision: &Revision) -> Digest {
    revision.manifest.by_layers().digest
}

fn path(world: &World, to: &Digest, from: &Digest) -> PathBuf {
    PathBuf::from(world.location()).join(Key::delta(to, from).as_str())
}

/// The delta makes the index, and a key of the history signed it.
fn require_delta(world: &World, to: &Digest, from: &Digest) {
    let bytes = std::fs::read(path(world, to, from)).unwrap();
    let preamble = Preamble::decode(&bytes).unwrap();
    let place = preamble.head();
    let (start, end) = (place.start as usize, place.end as usize);
    let envelope = &bytes[PREAMBLE_LEN..start];
    let history = world.history();
    let (anchors, keyset) = (history.anchors(), Some(history.keyset()));
    let now = bakery::clock::now();
    let record = verify_update(envelope, anchors, keyset, &name("alt"), now).unwrap();
    assert_eq!((record.to.index, record.from.index), (*to, *from));
    assert!(record.from.revision <= record.to.revision);
    let head = UpdateHead::decode(&bytes[start..end], record.head.raw_len, &record.head.digest);
    let head = head.unwrap();
    assert!(head.units.is_empty());
    let (old, new) = (index(world, from), index(world, to));
    let made = decode_index(&head.index.unwrap(), &bytes[end..], &old).unwrap();
    assert_eq!(made.raw(), new.raw());
    let whole = Store::open(world.location()).unwrap();
    let whole = whole.len(&Key::index(to)).unwrap().unwrap();
    assert!((bytes.len() as u64) < whole, "{} of {whole}", bytes.len());
}

/// "A bakery stores index deltas from the last three revisions before it creates the head."
#[test]
fn a_revision_has_deltas_from_the_last_three() {
    let world = World::new();
    let mut tree = tree();
    let mut revisions: Vec<Revision> = Vec::new();
    for number in 0..5 {
        let text = format!("revision {number}");
        tree = with(&tree, [("etc/motd", Some(text.as_str()))]);
        let new = world.push("alt", &tree);
        for (age, old) in revisions.iter().rev().enumerate() {
            let (to, from) = (by_layers(&new), by_layers(old));
            match age {
                0..3 => require_delta(&world, &to, &from),
                _ => assert!(!path(&world, &to, &from).exists()),
            }
        }
        revisions.push(new);
    }
    // A rollback has an index that exists.
    run(&mut bakery(&world, &["rollback", "alt@4"]));
    require_delta(&world, &by_layers(&revisions[3]), &by_layers(&revisions[4]));
    world.assert_sound();
}

/// `verify --all` names a damaged delta, `store copy` does not copy it, `gc` deletes those of which an
/// end is not retained, and a purge leaves none of an index that it rewrites.
#[test]
fn deltas_are_verified_copied_swept_and_purged() {
    let world = World::new();
    let tree = tree();
    let secret = with(&tree, [("usr/the-secret-name", Some("secret"))]);
    let revisions = [
        world.push("alt", &tree),
        world.push("alt", &secret),
        world.push("alt", &with(&secret, [("etc/motd", Some("three"))])),
    ];
    let [one, two, three] = revisions.each_ref().map(by_layers);
    let message = |words: &[&str]| {
        let output = bakery(&world, words).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    assert!(message(&["verify", "--all"]).contains("no errors"));
    let delta = path(&world, &two, &one);
    let key = delta.strip_prefix(world.location()).unwrap();
    let copy = |name: &str| {
        let to = world.dir.path().join(name);
        let said = message(&["store", "copy", world.location(), to.to_str().unwrap()]);
        (said, std::fs::read(to.join(key)).ok())
    };
    let good = std::fs::read(&delta).unwrap();
    assert_eq!(copy("copy").1.as_ref(), Some(&good));
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&delta).unwrap();
    std::fs::write(&delta, &bad).unwrap();
    let verified = message(&["verify", "--all"]);
    assert!(verified.contains("deltas/"), "{verified}");
    let (said, copied) = copy("other");
    assert!(said.contains("damaged") && copied.is_none(), "{said}");
    std::fs::remove_file(&delta).unwrap();
    // Under the name of another pair.
    std::fs::copy(path(&world, &three, &two), &delta).unwrap();
    let verified = message(&["verify"]);
    assert!(verified.contains("deltas/"), "{verified}");
    std::fs::write(&delta, &good).unwrap();
    assert!(message(&["verify", "--all"]).contains("no errors"));
    run(&mut bakery(
        &world,
        &["purge", "alt", "/usr/the-secret-name", "--delete"],
    ));
    for (to, from) in [(&two, &one), (&three, &one), (&three, &two)] {
        assert!(!path(&world, to, from).exists());
    }
    assert!(message(&["verify", "--all"]).contains("no errors"));
    let four = world.push("alt", &with(&tree, [("etc/motd", Some("four"))]));
    let five = world.push("alt", &with(&tree, [("etc/motd", Some("five"))]));
    let (four, five) = (by_layers(&four), by_layers(&five));
    require_delta(&world, &five, &four);
    require_delta(&world, &four, &one);
    run(&mut bakery(
        &world,
        &["gc", "--grace", "0", "--keep-last", "2"],
    ));
    require_delta(&world, &five, &four);
    assert!(!path(&world, &four, &one).exists());
    assert!(message(&["verify", "--all"]).contains("no errors"));
}
