//! Keys replaced and withdrawn, as the readers of a store see it.

use std::process::Command;

use bakery::cli::{Cli, run};
use bakery::store::{Key, Store};
use clap::Parser as _;
use wire::manifest::MANIFEST_LEN_MAX;
use wire::trust::{AllowedSigners, Bundle, Envelope, HighWater, TrustError, Verified};

use super::world::{World, files, name, with};

/// The bundle that a client would fetch.
fn bundle(world: &World, revision: u64) -> Bundle {
    let store = Store::open(world.location()).unwrap();
    let keysets = store
        .list("keysets")
        .unwrap()
        .into_iter()
        .map(|entry| Envelope::parse(&store.require(&entry.key, 1 << 20).unwrap()).unwrap());
    let head = store
        .require(&Key::head(&name("alt"), revision), 1 << 20)
        .unwrap();
    let head = Envelope::parse(&head).unwrap();
    let record = wire::manifest::Head::parse(head.payload.as_bytes()).unwrap();
    let key = Key::manifest(&record.manifest.digest);
    let manifest = store.require(&key, MANIFEST_LEN_MAX as u64).unwrap();
    let manifest = String::from_utf8(manifest.to_vec()).unwrap();
    Bundle {
        keysets: keysets.collect(),
        head,
        manifest,
        rings: None,
    }
}

/// A client with only the bakery's allowed_signers.
fn boot(world: &World, revision: u64, seen: HighWater) -> Result<Verified, TrustError> {
    let text = std::fs::read_to_string(world.keys().directory().join("allowed_signers")).unwrap();
    let anchors = AllowedSigners::parse(&text).unwrap();
    let now = bakery::clock::now();
    bundle(world, revision).verify(&anchors, &"alt".parse().unwrap(), now, seen)
}

fn bakery(world: &World, line: &str) -> String {
    let keys = world.keys().directory().to_str().unwrap();
    let words = [
        "bakery",
        "--quiet",
        "--store",
        world.location(),
        "--keys",
        keys,
    ];
    let words = words.into_iter().chain(line.split_whitespace());
    format!("{:?}", run(Cli::parse_from(words)))
}

const FAILED: &str = "ExitCode(unix_exit_status(2))";
const DONE: &str = "ExitCode(unix_exit_status(0))";

#[test]
fn a_replayed_old_head_is_refused_by_who_has_seen_a_newer_one() {
    let world = World::new();
    let base = files([("a", "1")]);
    world.push("alt", &base);
    world.push("alt", &with(&base, [("a", Some("2"))]));
    let seen = boot(&world, 2, HighWater::default()).unwrap().high_water;
    assert_eq!(seen.revision, 2);
    assert!(
        boot(&world, 1, HighWater::default()).is_ok(),
        "a stranger cannot know"
    );
    assert!(matches!(
        boot(&world, 1, seen),
        Err(TrustError::RolledBack { seen: 2, .. })
    ));
}

#[test]
fn a_rotated_key_hands_over_without_a_gap() {
    let world = World::new();
    world.push("alt", &files([("a", "1")]));
    let old = std::fs::read(world.keys().directory().join("head")).unwrap();
    assert_eq!(bakery(&world, "key rotate"), DONE);
    let verified = boot(&world, 2, HighWater::default()).unwrap();
    assert_eq!(verified.keyset.unwrap().version, 3);
    assert!(matches!(
        boot(&world, 1, HighWater::default()),
        Err(TrustError::KeyNotValid { .. })
    ));
    assert_ne!(
        std::fs::read(world.keys().directory().join("head")).unwrap(),
        old
    );
    world.push("alt", &files([("a", "2")]));
    assert!(boot(&world, 3, HighWater::default()).is_ok());
    world.assert_sound();
    assert_eq!(bakery(&world, "key rotate"), DONE, "and again");
    assert!(boot(&world, 4, HighWater::default()).is_ok());
}

#[test]
fn a_revoked_key_counts_for_nothing_until_its_heads_are_signed_anew() {
    let world = World::new();
    world.push("alt", &files([("a", "1")]));
    let seen = boot(&world, 1, HighWater::default()).unwrap().high_water;
    let other = world.dir.path().join("other");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&other)
        .status();
    assert!(made.unwrap().success());
    let add = format!("key add second {}.pub --systems alt", other.display());
    assert_eq!(bakery(&world, &add), DONE);
    assert_eq!(bakery(&world, "key revoke bakery"), DONE);
    assert!(matches!(
        boot(&world, 1, seen),
        Err(TrustError::RevokedKey { .. })
    ));
    assert_ne!(bakery(&world, "key revoke nobody"), DONE);
    assert_ne!(
        bakery(&world, "key resign alt"),
        DONE,
        "a withdrawn key signs nothing"
    );
    assert_eq!(world.history().newest(&name("alt")).unwrap(), Some(1));
    let keys = world.keys().directory();
    for suffix in ["", ".pub"] {
        let (from, to) = (
            format!("{}{suffix}", other.display()),
            keys.join(format!("head{suffix}")),
        );
        std::fs::copy(from, to).unwrap();
    }
    assert_ne!(
        bakery(&world, "rollback alt@1"),
        DONE,
        "nothing goes on top of an unbelieved head"
    );
    assert_eq!(bakery(&world, "key resign alt"), DONE);
    let verified = boot(&world, 2, seen).unwrap();
    assert_eq!(verified.manifest.tree_digest, bundle_tree(&world));
    assert_ne!(
        bakery(&world, "profile add other/main --from alt"),
        DONE,
        "the key is for alt only"
    );
    assert_eq!(world.history().newest(&name("other")).unwrap(), None);
}

fn bundle_tree(world: &World) -> layerfmt::Digest {
    let bundle = bundle(world, 1);
    wire::manifest::Manifest::parse(bundle.manifest.as_bytes())
        .unwrap()
        .tree_digest
}

#[test]
fn ssh_keygen_verifies_a_published_head() {
    let world = World::new();
    world.push("alt", &files([("a", "1")]));
    let dir = world.dir.path();
    let head = bundle(&world, 1).head;
    let text = std::fs::read_to_string(world.keys().directory().join("head.pub")).unwrap();
    std::fs::write(
        dir.join("allowed"),
        format!("alt/* namespaces=\"layerfs-head@v1\" {text}"),
    )
    .unwrap();
    std::fs::write(dir.join("sig"), &head.signature).unwrap();
    std::fs::write(dir.join("payload"), &head.payload).unwrap();
    let verified = Command::new("ssh-keygen")
        .args([
            "-Y",
            "verify",
            "-I",
            "alt/main",
            "-n",
            "layerfs-head@v1",
            "-f",
        ])
        .arg(dir.join("allowed"))
        .arg("-s")
        .arg(dir.join("sig"))
        .stdin(std::fs::File::open(dir.join("payload")).unwrap())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn every_verb_answers_on_the_command_line() {
    let world = World::new();
    let base = files([("a", "1")]);
    world.push("alt", &base);
    world.push("alt", &with(&base, [("a", Some("2"))]));
    const NO: &str = "ExitCode(unix_exit_status(1))";
    for (line, expected) in [
        ("init", DONE),
        ("store check", DONE),
        ("log alt", DONE),
        ("--json log alt -n 1", DONE),
        ("show alt@1", DONE),
        ("--json show alt", DONE),
        ("diff alt@1 alt@2", NO),
        ("diff alt@2", DONE),
        ("tag alt@1 golden", DONE),
        ("tag alt@1 golden", FAILED),
        ("tag alt", DONE),
        ("tag alt golden --delete", DONE),
        ("rollback alt -m back", DONE),
        ("profile add alt/lab", DONE),
        ("--json profile list", DONE),
        ("rebase alt/lab", FAILED),
        ("cherry-pick alt@2 --onto alt/lab -m again", DONE),
        ("cherry-pick alt@2 --onto alt/lab", FAILED),
        ("compact alt --if-needed", DONE),
        ("compact alt/lab 0..1", FAILED),
        ("verify", DONE),
        ("verify --all", DONE),
        ("gc --dry-run --grace 0", DONE),
        ("gc", DONE),
        ("key list", DONE),
        ("key export", DONE),
        ("log none", FAILED),
        ("show alt@99", FAILED),
    ] {
        assert_eq!(bakery(&world, line), expected, "bakery {line}");
    }
    let index = world.dir.path().join("store/indexes");
    let index = std::fs::read_dir(index)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::remove_file(index).unwrap();
    assert_eq!(bakery(&world, "verify"), NO);
}

/// A client with its own `allowed_signers`.
fn trusts(world: &World, text: &str, revision: u64) -> Result<Verified, TrustError> {
    let anchors = AllowedSigners::parse(text).unwrap();
    let now = bakery::clock::now();
    bundle(world, revision).verify(&anchors, &"alt".parse().unwrap(), now, HighWater::default())
}

fn anchors_file(world: &World) -> String {
    std::fs::read_to_string(world.keys().directory().join("allowed_signers")).unwrap()
}

#[test]
fn a_rotated_root_is_followed_by_who_trusts_the_old_one() {
    let world = World::new();
    let base = files([("a", "1")]);
    world.push("alt", &base);
    let before = anchors_file(&world);
    assert_eq!(bakery(&world, "key rotate-root"), DONE);
    let after = anchors_file(&world);
    assert_ne!(before, after);
    assert_eq!(after.lines().count(), 1, "{after}");
    world.push("alt", &with(&base, [("a", Some("2"))]));
    for (trust, revision) in [(&before, 1), (&before, 2), (&after, 1), (&after, 2)] {
        trusts(&world, trust, revision).unwrap();
    }
    // Readers accept no further signatures of the old root.
    let keys = world.keys().directory().to_str().unwrap();
    let old = format!("key --root-key {keys}/root.old revoke bakery");
    assert_eq!(bakery(&world, &old), FAILED);
    let store = Store::open(world.location()).unwrap();
    let left = store.len(&Key::keyset(4)).unwrap();
    assert_eq!(left, None, "a keyset that nobody accepts is not published");
    assert_eq!(bakery(&world, "key rotate-root"), DONE, "and again");
    for trust in [&before, &after, &anchors_file(&world)] {
        trusts(&world, trust, 2).unwrap();
    }
    world.assert_sound();
}

#[test]
fn a_rotation_of_the_root_that_was_killed_is_ended_by_the_next() {
    let world = World::new();
    world.push("alt", &files([("a", "1")]));
    let before = anchors_file(&world);
    let store = Store::open(world.location()).unwrap();
    let (old, new) = (
        world.keys().root(None).unwrap(),
        world.keys().new_root().unwrap(),
    );
    bakery::keys::amend(&store, &world.keys().anchors().unwrap(), &old, |keyset| {
        keyset.roots = vec![new.public_line().to_owned()];
        Ok(())
    })
    .unwrap();
    assert_eq!(bakery(&world, "key rotate-root"), DONE);
    assert_eq!(store.list("keysets").unwrap().len(), 3);
    assert!(anchors_file(&world).contains(new.public_line()));
    trusts(&world, &before, 1).unwrap();
    trusts(&world, &anchors_file(&world), 1).unwrap();
}
