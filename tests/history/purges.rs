//! Removing a secret from history.

use std::path::Path;

use bakery::store::{Key, Store};
use wire::manifest::RevisionName;

use super::verbs::bakery;
use super::world::{Files, World, files, name, revision, with};
use crate::test_bakery::{run, text};

const SECRET: &str =
    "-----BEGIN PRIVATE KEY----- do not tell anybody what is in here, it is 0123456789abcdef";

fn message(world: &World, words: &[&str], code: i32) -> String {
    let output = bakery(world, words).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    text(&output.stdout) + &text(&output.stderr)
}

/// The small files share their chunks with the secret.
fn base() -> Files {
    files([
        ("etc/motd", "welcome"),
        ("etc/fstab", "none"),
        ("usr/words", &"word ".repeat(3000)),
    ])
}

/// `main` with a secret in revision 2 that is deleted in 4, and a profile made from 3.
fn leaked() -> World {
    let world = World::new();
    let one = base();
    world.push("alt", &one);
    let two = with(
        &one,
        [("etc/ssl/key", Some(SECRET)), ("etc/other", Some("o"))],
    );
    world.push("alt", &two);
    let three = with(&two, [("etc/motd", Some("hello")), ("etc/copy", Some("c"))]);
    world.push("alt", &three);
    world
        .publisher()
        .add_profile(&name("alt/lab"), &revision("alt@3"), "admin", "")
        .unwrap();
    world.push("alt/lab", &with(&three, [("lab", Some("l"))]));
    world.push("alt", &with(&three, [("etc/ssl/key", None)]));
    run(&mut bakery(&world, &["tag", "alt@2", "golden"]));
    world
}

fn at(world: &World, name: &str) -> Files {
    let wanted: RevisionName = name.parse().unwrap();
    world.files(&world.history().revision(&wanted).unwrap())
}

/// Layers and packs of a store that show the secret when every chunk is decoded.
fn holders(world: &World) -> Vec<String> {
    let mut holders = Vec::new();
    for entry in std::fs::read_dir(Path::new(world.location()).join("layers")).unwrap() {
        let path = entry.unwrap().path();
        let layer = layerfmt::Layer::open(&path).unwrap();
        for chunk in layer.index().chunks() {
            let (mut stored, mut raw) = (Vec::new(), Vec::new());
            if chunk.source != layerfmt::ChunkFile::Own {
                continue;
            }
            layer.read_stored(&chunk, &mut stored).unwrap();
            layerfmt::decode_chunk(&chunk, &stored, &mut raw).unwrap();
            if raw
                .windows(27)
                .any(|window| window == &SECRET.as_bytes()[..27])
            {
                holders.push(path.display().to_string());
                break;
            }
        }
    }
    holders
}

#[test]
fn a_secret_is_gone_from_every_revision_and_every_byte() {
    let world = leaked();
    let names = ["alt@1", "alt@2", "alt@3", "alt@4", "alt/lab@1", "alt/lab@2"];
    let before: Vec<Files> = names.iter().map(|name| at(&world, name)).collect();
    let log = |profile: &str| {
        let json = text(&run(&mut bakery(&world, &["--json", "log", profile])).stdout);
        let lines: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        let line = |line: &serde_json::Value| {
            (
                line["revision"].clone(),
                line["time"].clone(),
                line["tags"].clone(),
            )
        };
        lines.iter().map(line).collect::<Vec<_>>()
    };
    let logs = [log("alt"), log("alt/lab")];
    assert!(!holders(&world).is_empty());
    let dry = message(&world, &["purge", "alt", "/etc/ssl/key", "--dry-run"], 0);
    assert!(
        dry.contains("would rewrite alt@2\n") && !dry.contains("alt@1\n"),
        "{dry}"
    );
    assert_eq!(at(&world, "alt@2"), before[1]);
    let done = message(&world, &["purge", "alt", "/etc/ssl/key"], 0);
    for name in ["alt@2", "alt@3", "alt@4", "alt/lab@1", "alt/lab@2"] {
        assert!(done.contains(&format!("rewrote {name}\n")), "{done}");
    }
    assert!(!done.contains("rewrote alt@1\n"), "{done}");
    assert!(
        done.contains("`bakery purge --delete`") && done.contains("change it"),
        "{done}"
    );
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(
            at(&world, name),
            with(before, [("etc/ssl/key", None)]),
            "{name}"
        );
    }
    assert_eq!(
        [log("alt"), log("alt/lab")],
        logs,
        "numbers, times and tags are as they were"
    );
    let shown = message(&world, &["show", "alt@2"], 0);
    assert!(shown.contains("purged: /etc/ssl/key"), "{shown}");
    world.assert_sound();
    // A sweep leaves the old objects to machines that run; the second step does not.
    run(&mut bakery(&world, &["gc", "--grace", "1h"]));
    assert!(!holders(&world).is_empty(), "too early");
    let deleted = message(&world, &["purge", "--delete"], 0);
    assert!(
        deleted.starts_with("deleted ") && !deleted.contains("deleted 0"),
        "{deleted}"
    );
    assert_eq!(holders(&world), [""; 0]);
    world.assert_sound();
    // The history continues: a push, a rollback to a purged revision, a rebase.
    run(&mut bakery(&world, &["rollback", "alt@2"]));
    run(&mut bakery(&world, &["rebase", "alt/lab"]));
    world.push("alt", &base());
    world.assert_sound();
    let again = message(&world, &["purge", "alt", "/etc/ssl/key"], 2);
    assert!(
        again.contains("no layer of alt has /etc/ssl/key"),
        "{again}"
    );
}

#[test]
fn layers_shared_with_another_system_are_purged_there_too() {
    let world = leaked();
    world
        .publisher()
        .add_profile(&name("kiosk"), &revision("alt@2"), "admin", "")
        .unwrap();
    world.push(
        "other",
        &with(&base(), [("etc/ssl/key", Some("of its own"))]),
    );
    let done = message(&world, &["purge", "alt", "/etc/ssl/key", "--delete"], 0);
    assert!(
        done.contains("rewrote kiosk@1\n") && !done.contains("other@1"),
        "{done}"
    );
    assert_eq!(at(&world, "other@1")["etc/ssl/key"].0, b"of its own");
    assert_eq!(holders(&world), [""; 0]);
    let done = message(
        &world,
        &["purge", "--all-systems", "/etc/ssl", "--delete"],
        0,
    );
    assert!(done.contains("rewrote other@1\n"), "{done}");
    assert!(!at(&world, "other@1").contains_key("etc/ssl/key"));
    world.assert_sound();
}

#[test]
fn the_same_content_at_another_path_is_told() {
    let world = leaked();
    let more = with(&at(&world, "alt@4"), [("home/backup", Some(SECRET))]);
    world.push("alt", &more);
    let done = message(&world, &["purge", "alt", "/etc/ssl/key"], 0);
    assert!(
        done.contains("the same content is still at alt@5:/home/backup"),
        "{done}"
    );
    let done = message(&world, &["purge", "alt", "/home/backup", "--delete"], 0);
    assert!(!done.contains("still at"), "{done}");
    assert_eq!(holders(&world), [""; 0]);
    world.assert_sound();
}

#[test]
fn compacted_swept_and_packed_histories_are_purged() {
    let world = leaked();
    run(&mut bakery(&world, &["compact", "alt"]));
    run(&mut bakery(&world, &["tag", "alt@2", "golden", "--delete"]));
    run(&mut bakery(
        &world,
        &["gc", "--keep-last", "1", "--grace", "0"],
    ));
    message(&world, &["purge", "alt", "/etc/ssl/key", "--delete"], 0);
    assert_eq!(holders(&world), [""; 0]);
    world.assert_sound();
    assert!(message(&world, &["log", "alt"], 0).contains("(swept)"));
}

#[test]
fn what_is_no_path_is_refused() {
    let world = leaked();
    let not_a_path = "is not a path to purge: write it from the root";
    for (words, why) in [
        (&["alt"][..], "name the path to purge"),
        (&["alt", "etc/ssl/key"], not_a_path),
        (&["alt", "/"], not_a_path),
        (&["alt", "/etc/../x"], not_a_path),
        (
            &["alt", "/etc/ssl/nothing"],
            "no layer of alt has /etc/ssl/nothing",
        ),
        (&["kiosk", "/etc/ssl/key"], "there is no kiosk"),
        (&[], "required arguments were not provided"),
    ] {
        let words = [&["purge"], words].concat();
        let said = message(&world, &words, 2);
        assert!(said.contains(why), "{words:?}: {said}");
    }
    world.assert_sound();
}

/// A purge that is killed while it writes heads: nobody can publish until it is completed.
#[test]
fn a_purge_that_was_killed_is_ended() {
    let world = leaked();
    let store = Store::open(world.location()).unwrap();
    let heads = |world: &World| -> Vec<(Key, Vec<u8>)> {
        let entries = Store::open(world.location()).unwrap().list("refs").unwrap();
        let read = |key: Key| {
            (
                key.clone(),
                std::fs::read(Path::new(world.location()).join(key.as_str())).unwrap(),
            )
        };
        entries.into_iter().map(|entry| read(entry.key)).collect()
    };
    let before = heads(&world);
    message(&world, &["purge", "alt", "/etc/ssl/key"], 0);
    let after = heads(&world);
    // The journal as it was, and half of the heads.
    let record = store.list("purges").unwrap().remove(0);
    let record: serde_json::Value =
        serde_json::from_slice(&store.require(&record.key, 1 << 20).unwrap()).unwrap();
    let changes: Vec<serde_json::Value> = before
        .iter()
        .zip(&after)
        .filter(|(old, new)| old.1 != new.1)
        .map(|((key, old), (_, new))| {
            let parts: Vec<&str> = key.as_str().split('/').collect();
            serde_json::json!({
                "system": parts[1], "profile": parts[2], "revision": key.number().unwrap(),
                "old": layerfmt::Digest::of(old).to_string(), "new": String::from_utf8(new.clone()).unwrap(),
            })
        })
        .collect();
    let journal = serde_json::json!({"record": record, "heads": changes}).to_string();
    store
        .create_object(&bakery::store::guard::journal_key("test"), journal.into())
        .unwrap();
    for ((key, old), at) in before.iter().zip(0..) {
        if at % 2 == 0 {
            store.overwrite(key, old.clone().into()).unwrap();
        }
    }
    let blocked = message(&world, &["gc"], 2);
    assert!(blocked.contains("bakery purge --resume"), "{blocked}");
    let ended = message(&world, &["purge", "--resume"], 0);
    assert!(ended.contains("1 interrupted purge(s)"), "{ended}");
    assert_eq!(heads(&world), after);
    world.assert_sound();
    run(&mut bakery(&world, &["rollback", "alt@1"]));
}
