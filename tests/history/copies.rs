//! A store copied to another place, and back.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::verbs::bakery;
use super::world::{World, files, name, revision, with};
use crate::test_bakery::{program, run, text};

/// `bakery` on another store with the keys of `world`.
fn at(world: &World, store: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program("bakery"));
    command
        .args(["--store", store, "--keys"])
        .arg(world.keys().directory())
        .args(words);
    command
}

fn copy(world: &World, from: &str, to: &str, more: &[&str]) -> (i32, String) {
    let output = bakery(world, &[&["store", "copy", from, to], more].concat())
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

fn object(store: &Path, directory: &str) -> PathBuf {
    let mut found: Vec<_> = std::fs::read_dir(store.join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found.remove(0)
}

/// Other bytes of the same length behind the superblock.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let start = bytes.len() / 3;
    for byte in bytes.iter_mut().skip(start) {
        *byte ^= 0x55;
    }
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, bytes).unwrap();
}

/// A store with two histories, a tag, a swept revision and a removed profile.
fn full() -> World {
    let world = World::new();
    let one = files([("etc/motd", "one"), ("usr/words", &"word ".repeat(5000))]);
    world.push("alt", &one);
    world.push("alt", &with(&one, [("etc/motd", Some("two"))]));
    let publisher = world.publisher();
    publisher
        .add_profile(&name("alt/lab"), &revision("alt"), "admin", "")
        .unwrap();
    publisher
        .add_profile(&name("alt/old"), &revision("alt"), "admin", "")
        .unwrap();
    publisher.remove_profile(&name("alt/old")).unwrap();
    run(&mut bakery(&world, &["tag", "alt@1", "golden"]));
    world
}

#[test]
fn a_copy_is_a_store_of_its_own_that_stands_alone() {
    let world = full();
    let from = world.location();
    let to = world.dir.path().join("backup").display().to_string();
    let (code, output) = copy(&world, from, &to, &[]);
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains("0 existed") && output.contains("no errors"),
        "{output}"
    );
    let mut verify = at(&world, &to, &["verify", "--all"]);
    assert!(text(&run(&mut verify).stdout).contains("no errors"));
    let list = |store: &str, words: &[&str]| text(&run(&mut at(&world, store, words)).stdout);
    for words in [
        &["log", "alt"][..],
        &["profile", "list"],
        &["tag", "alt"],
        &["key", "list"],
    ] {
        assert_eq!(list(from, words), list(&to, words), "{words:?}");
    }
    // The copies share no file: damage to one does not affect the other.
    let layer = object(Path::new(from), "layers");
    let theirs = Path::new(&to).join(layer.strip_prefix(from).unwrap());
    use std::os::unix::fs::MetadataExt as _;
    assert_ne!(
        layer.metadata().unwrap().ino(),
        theirs.metadata().unwrap().ino()
    );
    // A restore is a copy in the other direction, and the history continues there.
    let restored = world.dir.path().join("restored").display().to_string();
    assert_eq!(copy(&world, &to, &restored, &[]).0, 0);
    run(&mut at(&world, &restored, &["rollback", "alt@1"]));
}

#[test]
fn a_copy_that_was_cut_short_is_continued() {
    let world = full();
    let from = world.location();
    let to = world.dir.path().join("backup");
    let target = to.display().to_string();
    assert_eq!(copy(&world, from, &target, &[]).0, 0);
    let (_, output) = copy(&world, from, &target, &[]);
    assert!(output.starts_with("0 objects copied, 0 B"), "{output}");
    // As a kill leaves it: an object missing, one cut, no head yet.
    std::fs::remove_file(object(&to, "layers")).unwrap();
    let index = object(&to, "indexes");
    let bytes = std::fs::read(&index).unwrap();
    std::fs::remove_file(&index).unwrap();
    std::fs::write(&index, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::remove_dir_all(to.join("refs/alt/main")).unwrap();
    let (code, output) = copy(&world, from, &target, &[]);
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("2 objects copied"), "{output}");
    // New objects are copied; a deleted tag is deleted.
    world.push("alt", &files([("new", "n")]));
    run(&mut bakery(&world, &["tag", "alt", "golden", "--delete"]));
    assert_eq!(copy(&world, from, &target, &[]).0, 0);
    assert!(!to.join("tags/alt/main/golden").exists());
    let mut verify = at(&world, &target, &["verify", "--all"]);
    run(&mut verify);
    assert!(text(&run(&mut at(&world, &target, &["log", "alt"])).stdout).starts_with("    3  "));
}

#[test]
fn damage_is_not_copied() {
    let world = full();
    let from = world.location();
    let layer = object(Path::new(from), "layers");
    damage(&layer);
    let to = world.dir.path().join("backup").display().to_string();
    let (code, output) = copy(&world, from, &to, &[]);
    assert_eq!(code, 1, "{output}");
    let file = layer.file_name().unwrap().to_str().unwrap();
    assert!(
        output.contains(&format!("layers/{file}: damaged in {from}")),
        "{output}"
    );
    assert!(
        output.contains(&format!("layers/{file} is missing")) && output.contains("DEFECTS"),
        "{output}"
    );
    assert!(!Path::new(&to).join("layers").join(file).exists());
    // Later damage to the copy is detected when it is read back.
    let world = full();
    let to = world.dir.path().join("backup").display().to_string();
    assert_eq!(copy(&world, world.location(), &to, &[]).0, 0);
    damage(&object(Path::new(&to), "layers"));
    assert_eq!(
        copy(&world, world.location(), &to, &[]).0,
        0,
        "lengths alone say nothing"
    );
    let (code, output) = copy(&world, world.location(), &to, &["--read-back", "all"]);
    assert_eq!(code, 1, "{output}");
    assert!(output.contains(&format!("damaged in {to}")), "{output}");
}

#[test]
fn another_history_is_not_overwritten_unasked() {
    let world = full();
    let to = world.dir.path().join("backup").display().to_string();
    assert_eq!(copy(&world, world.location(), &to, &[]).0, 0);
    run(&mut at(
        &world,
        &to,
        &["rollback", "alt@1", "-m", "only there"],
    ));
    world.push("alt", &files([("x", "x")]));
    let (code, output) = copy(&world, world.location(), &to, &[]);
    assert_eq!(code, 2, "{output}");
    assert!(
        output.contains("is not a copy of") && output.contains("--replace"),
        "{output}"
    );
    let (code, output) = copy(&world, world.location(), &to, &["--replace"]);
    assert_eq!(code, 0, "{output}");
    run(&mut at(&world, &to, &["verify", "--all"]));
    let (code, output) = copy(&world, world.location(), world.location(), &[]);
    assert!(
        code == 2 && output.contains("is the source itself"),
        "{output}"
    );
    let (code, output) = copy(&world, "/nonexistent/store", &to, &[]);
    assert!(code == 2 && output.contains("is not a store"), "{output}");
}
