//! S19.11: the numbers after a switch survive a remount.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{REMEMBERED, Scene, first, fresh, look, second};
use crate::log;
use crate::session::direct::Direct;
use crate::session::files::Files as _;
use crate::session::{Attached as _, Errno, Parts};

/// Number and generation of each object.
type Handles = BTreeMap<PathBuf, (u64, u32)>;

fn handles(session: &Direct) -> Handles {
    let paths = look(session).numbers.into_keys();
    let handle = |path: PathBuf| {
        let about = session.about(path.to_str().unwrap()).unwrap();
        (path, (about.ino, about.generation))
    };
    paths.map(handle).collect()
}

/// The number of the object that the kernel gets for a handle.
fn open(session: &Direct, (id, generation): (u64, u32)) -> Result<u64, Errno> {
    let fs = session.fs().unwrap();
    let about = match fs.lookup_self(id).map_err(Errno::from)? {
        Some(about) => about,
        None => fs.search_self(id).map_err(Errno::from)?,
    };
    fs.forget(id, 1);
    match about.generation == generation {
        true => Ok(about.ino),
        false => Err(Errno::STALE),
    }
}

fn again(session: &Direct) {
    session.detach();
    session.attach();
}

/// The files with stored numbers.
fn stored(scene: &Scene) -> Vec<PathBuf> {
    let entries = fs::read_dir(scene.room.path("w")).unwrap();
    let entries = entries.map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("layerfs.numbers-")
    };
    entries.filter(is_it).collect()
}

/// A session of another revision with the upper of the scene.
fn begin(scene: &Scene, revision: usize) -> Direct {
    let parts = Parts {
        layers: vec![scene.revisions[revision].clone()],
        upper: Some((scene.room.path("u"), scene.room.path("w"))),
        options: String::new(),
    };
    Direct::begin(parts, REMEMBERED, log::lines).unwrap()
}

/// The lower objects have the numbers of a mount that has never switched.
fn has_own_numbers(scene: &Scene, session: &Direct, revision: usize) {
    let expected = fresh(&scene.room, &scene.revisions[revision]).numbers;
    let found = look(session).numbers;
    for (path, number) in &expected {
        if !scene
            .room
            .path("u")
            .join(path)
            .symlink_metadata()
            .is_ok_and(|it| it.is_file())
        {
            assert_eq!(found[path], *number, "{}", path.display());
        }
    }
}

/// "The next mounts of that revision with the same upper have the same numbers, and file handles
/// (S7.3) stay valid."
#[test]
fn s19_11_numbers_survive_a_remount() {
    let scene = Scene::new(&[&first, &second]);
    let fs = &scene.fs;
    fs.put("mine", "of the upper").unwrap();
    fs.append("dir/same", " and more").unwrap();
    // Both change it; the object of the upper keeps the number of a row that has no name.
    fs.append("dir/changed", " here too").unwrap();
    fs.append("gone", " but not here").unwrap();
    let number = |path: &str| fs.about(path).unwrap().ino;
    let stays = [
        "",
        "dir",
        "same",
        "dir/same",
        "dir/same-link",
        "mine",
        "dir/changed",
        "gone",
    ];
    let before = stays.map(number);
    let began = handles(fs);
    for round in 0..3 {
        for revision in [1, 0] {
            scene.force(revision);
            let switched = handles(fs);
            again(fs);
            assert_eq!(handles(fs), switched, "{round} {revision}");
            fs.forget();
            assert_eq!(stays.map(number), before, "{round} {revision}");
            for (path, handle) in &switched {
                assert_eq!(open(fs, *handle), Ok(handle.0), "{}", path.display());
            }
            again(fs);
            assert_eq!(handles(fs), switched, "{round} {revision}: mounted twice");
            assert_eq!(stored(&scene).len(), 1);
            scene.same_as_new(revision);
            // A copy under these numbers keeps its own, too.
            fs.chmod("same", 0o600 + round).unwrap();
        }
    }
    // Objects that are gone stay gone.
    let (path, handle) = began
        .iter()
        .find(|(path, _)| path.ends_with("removed"))
        .unwrap();
    assert_ne!(number(path.to_str().unwrap()), handle.0);
    assert_eq!(open(fs, *handle), Err(Errno::STALE));
}

/// "A mount of another revision drops them."
#[test]
fn s19_11_a_mount_of_another_revision_drops_the_numbers() {
    let third = |tree: &Path| super::write(tree.join("a/new/file"), "third");
    let scene = Scene::new(&[&first, &second, &third]);
    scene.switch(1);
    assert_eq!(stored(&scene).len(), 1);
    scene.fs.detach();
    let between = begin(&scene, 2);
    assert_eq!(stored(&scene), Vec::<PathBuf>::new());
    has_own_numbers(&scene, &between, 2);
    between.detach();
    scene.fs.attach();
    has_own_numbers(&scene, &scene.fs, 1);
    // The next switch begins with these.
    scene.switch(2);
    scene.switch(1);
    let switched = handles(&scene.fs);
    again(&scene.fs);
    assert_eq!(handles(&scene.fs), switched);
}

/// "Without them, objects have the numbers of S7, and the daemon logs it."
#[test]
fn s19_11_damaged_numbers_are_not_used() {
    let scene = Scene::new(&[&first, &second]);
    for damage in ["byte", "short", "upper", "missing"] {
        scene.switch(1);
        scene.fs.detach();
        let [file] = stored(&scene).try_into().unwrap();
        let mut bytes = fs::read(&file).unwrap();
        match damage {
            "byte" => bytes[60] ^= 1,
            "short" => bytes.truncate(100),
            // Whole, but of an upper with another root.
            "upper" => {
                let len = bytes.len() - 32;
                bytes[24] ^= 1;
                let digest = layerfmt::Digest::of(&bytes[..len]);
                bytes[len..].copy_from_slice(&digest.0);
            }
            _ => fs::remove_file(&file).unwrap(),
        }
        if damage != "missing" {
            fs::write(&file, &bytes).unwrap();
        }
        let lines = log::lines().len();
        scene.fs.attach();
        has_own_numbers(&scene, &scene.fs, 1);
        let said = log::lines()[lines..].contains("inode numbers are not used");
        assert_eq!(said, damage != "missing", "{damage}");
        scene.switch(0);
    }
}

/// "S19.7: a switch that fails leaves the revision of before", and its numbers, also if the daemon is
/// killed between the two steps.
#[test]
fn s19_11_a_switch_that_does_not_end_changes_no_number() {
    let scene = Scene::new(&[&first, &second]);
    scene.switch(1);
    let [second] = stored(&scene).try_into().unwrap();
    let next = fs::read(&second).unwrap();
    scene.switch(0);
    let shown = handles(&scene.fs);
    assert!(!second.exists());
    fs::write(&second, next).unwrap();
    assert_eq!(stored(&scene).len(), 2);
    again(&scene.fs);
    assert_eq!(handles(&scene.fs), shown);
    assert_eq!(stored(&scene).len(), 1);
}

/// "If they cannot be stored, the mount switches all the same."
#[test]
fn s19_11_a_full_upper_does_not_forbid_a_switch() {
    let scene = Scene::new(&[&first, &second]);
    scene.switch(1);
    let [file] = stored(&scene).try_into().unwrap();
    scene.switch(0);
    // A directory cannot be replaced by a file.
    fs::create_dir_all(file.join("below")).unwrap();
    let lines = log::lines().len();
    scene.switch(1);
    assert!(log::lines()[lines..].contains("inode numbers cannot be stored"));
    again(&scene.fs);
    has_own_numbers(&scene, &scene.fs, 1);
    scene.same_as_new(1);
}
