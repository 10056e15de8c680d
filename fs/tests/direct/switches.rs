//! S19 in this process: the lower of a session is exchanged under its upper.

mod model;
mod numbers;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use layerfs::filesystem::{Conflict, Ours, Theirs};

use crate::log;
use crate::session::baker::bake;
use crate::session::direct::Direct;
use crate::session::files::Files as _;
use crate::session::snapshot::{self, Snapshot};
use crate::session::{Attached as _, Errno, NewTime, Parts, Session as _};
use crate::transport::Room;

/// Nodes that are cached.
const REMEMBERED: usize = 1024;

/// A session, and the revisions that it can show.
struct Scene {
    fs: Direct,
    revisions: Vec<PathBuf>,
    room: Room,
}

impl Scene {
    /// `fills` make the trees of the revisions; the session shows the first.
    fn new(fills: &[&dyn Fn(&Path)]) -> Scene {
        // Of the whole process, as every session sets it: all trees have equal permissions.
        rustix::process::umask(rustix::fs::Mode::empty());
        let room = Room::new();
        let mut revisions = Vec::new();
        for (number, fill) in fills.iter().enumerate() {
            let tree = room.dir(&format!("tree{number}"));
            fill(&tree);
            let layer = room.path(&format!("{number}.layer"));
            bake(&tree, &layer);
            revisions.push(layer);
        }
        let parts = Parts {
            layers: vec![revisions[0].clone()],
            upper: Some((room.dir("u"), room.dir("w"))),
            options: String::new(),
        };
        log::start();
        Scene {
            fs: Direct::begin(parts, REMEMBERED, log::lines).unwrap(),
            revisions,
            room,
        }
    }

    fn switch(&self, revision: usize) {
        let (conflicts, done) = self.fs.switch(&[self.revisions[revision].clone()], false);
        assert!(done, "{conflicts:?}");
    }

    fn force(&self, revision: usize) -> Vec<Conflict> {
        let (conflicts, done) = self.fs.switch(&[self.revisions[revision].clone()], true);
        assert!(done, "{conflicts:?}");
        conflicts
    }

    /// The session shows what a new one of the same revision and upper shows.
    fn same_as_new(&self, revision: usize) {
        let fresh = fresh(&self.room, &self.revisions[revision]);
        same(&fresh, &look(&self.fs));
    }
}

fn look(session: &Direct) -> Snapshot {
    snapshot::take(session, i64::MAX, true)
}

/// A new session over `layer` with a copy of the upper, as it is seen.
fn fresh(room: &Room, layer: &Path) -> Snapshot {
    let copies = room.dir("copies");
    let _ = fs::remove_dir_all(&copies);
    fs::create_dir(&copies).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(room.path("u"))
        .arg(copies.join("u"))
        .status()
        .unwrap();
    assert!(copied.success());
    fs::create_dir(copies.join("w")).unwrap();
    let parts = Parts {
        layers: vec![layer.to_owned()],
        upper: Some((copies.join("u"), copies.join("w"))),
        options: String::new(),
    };
    let session = Direct::begin(parts, REMEMBERED, log::lines).unwrap();
    let seen = look(&session);
    session.detach();
    seen
}

fn same(expected: &Snapshot, found: &Snapshot) {
    let names = |seen: &Snapshot| -> Vec<PathBuf> { seen.objects.keys().cloned().collect() };
    assert_eq!(names(found), names(expected), "names");
    for (path, expected) in &expected.objects {
        assert_eq!(&found.objects[path], expected, "{}", path.display());
    }
}

fn conflicts(of: &[Conflict]) -> Vec<(String, Ours, Theirs)> {
    of.iter()
        .map(|one| {
            (
                String::from_utf8(one.path.clone()).unwrap(),
                one.ours,
                one.theirs,
            )
        })
        .collect()
}

fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
}

/// Content in chunks of its own: small files share them, and a bake of a whole tree shares them anew.
fn large(text: &str) -> String {
    text.repeat(300_000 / text.len())
}

/// Two trees: some files differ, come and go.
fn first(tree: &Path) {
    for (path, text) in [
        ("same", large("same").as_str()),
        ("changed", "old"),
        ("gone", "gone"),
        ("dir/same", large("same too").as_str()),
        ("dir/changed", "old"),
        ("dir/gone", "gone"),
        ("removed/file", "in a removed directory"),
        ("removed/below/file", "deeper"),
        ("linked", "one file"),
    ] {
        write(tree.join(path), text);
    }
    fs::hard_link(tree.join("linked"), tree.join("dir/linked")).unwrap();
    fs::hard_link(tree.join("same"), tree.join("dir/same-link")).unwrap();
    std::os::unix::fs::symlink("same", tree.join("link")).unwrap();
}

fn second(tree: &Path) {
    for (path, text) in [
        ("same", large("same").as_str()),
        ("changed", "new and longer"),
        ("dir/same", large("same too").as_str()),
        ("dir/changed", "new"),
        ("dir/come", "come"),
        ("come/file", "in a new directory"),
        ("linked", "one file"),
        ("dir/linked", "one file"),
    ] {
        write(tree.join(path), text);
    }
    fs::hard_link(tree.join("same"), tree.join("dir/same-link")).unwrap();
    std::os::unix::fs::symlink("changed", tree.join("link")).unwrap();
}

/// "After a switch the mount shows what a new mount of the other revision with the same upper shows."
#[test]
fn s19_1_a_switched_mount_equals_a_new_one() {
    let scene = Scene::new(&[&first, &second]);
    look(&scene.fs);
    scene.fs.put("mine", "of the upper").unwrap();
    scene.fs.append("dir/same", " and more").unwrap();
    scene.fs.chmod("same", 0o600).unwrap();
    for round in 0..3 {
        scene.switch(1);
        scene.same_as_new(1);
        assert_eq!(scene.fs.content("dir/come").unwrap(), b"come", "{round}");
        scene.switch(0);
        scene.same_as_new(0);
        assert_eq!(scene.fs.content("removed/below/file").unwrap(), b"deeper");
    }
    scene.fs.detach();
    scene.fs.attach();
    scene.same_as_new(0);
}

/// "Open files keep the content that they have until they are closed; their `st_nlink` is 0."
#[test]
fn s19_3_open_files_keep_their_content() {
    let scene = Scene::new(&[&first, &second, &first]);
    let paths = ["changed", "gone", "dir/changed", "removed/below/file"];
    let open = paths.map(|path| (path, scene.fs.open_both(path).unwrap()));
    let before: Vec<Vec<u8>> = open
        .iter()
        .map(|(_, file)| file.read(0, 100).unwrap())
        .collect();
    let directory = scene.fs.about("removed/below").unwrap().ino;
    for revision in [1, 0, 1, 2, 1] {
        scene.switch(revision);
        for ((path, file), before) in open.iter().zip(&before) {
            assert_eq!(&file.read(0, 100).unwrap(), before, "{path}");
            assert_eq!(file.stat().unwrap().nlink, 0, "{path}");
        }
        scene.same_as_new(revision);
    }
    assert_eq!(scene.fs.about("removed").err(), Some(Errno::NOENT));
    assert_ne!(directory, 0);
    for (path, file) in &open {
        file.write(0, b"X").unwrap();
        assert_eq!(file.read(0, 1).unwrap(), b"X", "{path}");
    }
    drop(open);
    scene.same_as_new(1);
}

/// "Unchanged objects keep `st_ino`, changed ones get another."
#[test]
fn s19_4_numbers_of_what_is_the_same_stay() {
    let scene = Scene::new(&[&first, &second]);
    scene.fs.put("mine", "of the upper").unwrap();
    scene.fs.append("dir/same", " and more").unwrap();
    let number = |path: &str| scene.fs.about(path).unwrap().ino;
    let stays = ["", "dir", "same", "dir/same", "dir/same-link", "mine"];
    let changes = ["changed", "dir/changed", "linked", "dir/linked", "link"];
    let (stay, change) = (stays.map(number), changes.map(number));
    for round in 0..3 {
        for revision in [1, 0] {
            scene.switch(revision);
            assert_eq!(stays.map(number), stay, "{round}");
            if revision == 1 {
                for (path, before) in changes.iter().zip(change) {
                    assert_ne!(number(path), before, "{path}");
                }
            }
            scene.fs.forget();
            assert_eq!(stays.map(number), stay, "{round}, forgotten");
        }
    }
}

/// The upper has a mark of the revision that the mount switches to, from an earlier mount of it.
#[test]
fn s19_4_a_mark_of_the_other_revision_changes_no_number() {
    let scene = Scene::new(&[&first, &second]);
    scene.fs.append("same", "more").unwrap();
    scene.fs.detach();
    let (upper, work) = (scene.room.path("u"), scene.room.path("w"));
    let parts = Parts {
        layers: vec![scene.revisions[1].clone()],
        upper: Some((upper, work)),
        options: String::new(),
    };
    let fs = Direct::begin(parts, REMEMBERED, log::lines).unwrap();
    let before = look(&fs).numbers;
    let (_, done) = fs.switch(&[scene.revisions[0].clone()], true);
    assert!(done);
    // Numbers in listings equal those of stat(2), also after the kernel forgot the file.
    assert_eq!(
        look(&fs).numbers[Path::new("same")],
        before[Path::new("same")]
    );
    fs.forget();
    assert_eq!(
        look(&fs).numbers[Path::new("same")],
        before[Path::new("same")]
    );
    fs.detach();
}

/// "The upper wins. A path that both the upper and the revision change is a conflict, and the mount
/// does not switch without force."
#[test]
fn s19_5_conflicts_are_listed_and_refused() {
    let scene = Scene::new(&[&first, &second]);
    let fs = &scene.fs;
    fs.append("changed", " mine").unwrap();
    fs.chmod("dir/changed", 0o600).unwrap();
    fs.unlink("gone").unwrap();
    fs.unlink("linked").unwrap();
    fs.mkdir("come").unwrap();
    fs.chmod("come", 0o700).unwrap();
    fs.put("come/mine", "mine").unwrap();
    fs.put("removed/mine", "mine").unwrap();
    let before = look(fs);
    let (found, done) = fs.switch(&[scene.revisions[1].clone()], false);
    assert!(!done);
    assert_eq!(
        conflicts(&found),
        [
            (String::from("changed"), Ours::Written, Theirs::Changed),
            (String::from("come"), Ours::Directory, Theirs::Added),
            (
                String::from("dir/changed"),
                Ours::Attributes,
                Theirs::Changed
            ),
            // dir/linked is now a file of one name on both sides.
            (String::from("linked"), Ours::Removed, Theirs::Changed),
            (String::from("removed"), Ours::Attributes, Theirs::Removed),
        ]
    );
    same(&before, &look(fs));
    scene.force(1);
    assert_eq!(fs.content("changed").unwrap(), b"old mine");
    assert_eq!(fs.content("dir/changed").unwrap(), b"new");
    assert_eq!(fs.about("dir/changed").unwrap().mode & 0o777, 0o600);
    assert_eq!(fs.content("come/file").unwrap(), b"in a new directory");
    assert_eq!(fs.content("come/mine").unwrap(), b"mine");
    assert_eq!(fs.content("removed/mine").unwrap(), b"mine");
    assert_eq!(fs.about("removed/file").err(), Some(Errno::NOENT));
    scene.same_as_new(1);
    scene.force(0);
    scene.same_as_new(0);
    // Both removed it.
    fs.unlink("dir/gone").unwrap();
    let found = conflicts(&scene.force(1));
    assert!(
        !found.iter().any(|(path, ..)| path == "dir/gone"),
        "{found:?}"
    );
    scene.same_as_new(1);
}

/// "What both made alike is no conflict."
#[test]
fn s19_5_what_both_made_alike_is_no_conflict() {
    let scene = Scene::new(&[&first, &second]);
    let fs = &scene.fs;
    // As on the machine that pushed the second revision.
    let file = |path: &str, text: &str, time: i64| {
        fs.put(path, text).unwrap();
        fs.chmod(path, 0o666).unwrap();
        fs.set_times(path, NewTime::Exactly((time, 0))).unwrap();
    };
    let at = 1_000_000_000;
    file("changed", "new and longer", at);
    file("dir/changed", "new", at);
    file("dir/come", "come", at);
    fs.mkdir("come").unwrap();
    fs.chmod("come", 0o777).unwrap();
    file("come/file", "in a new directory", at);
    fs.unlink("link").unwrap();
    fs.symlink("changed", "link").unwrap();
    for gone in ["gone", "dir/gone"] {
        fs.unlink(gone).unwrap();
    }
    scene.switch(1);
    scene.same_as_new(1);
    scene.force(0);
    // What differs is one.
    file("dir/changed", "new", at + 1);
    file("changed", "new and larger", at);
    fs.chmod("dir/come", 0o600).unwrap();
    fs.set_xattr(Path::new("come"), "user.mine", Some(b"1"))
        .unwrap();
    fs.unlink("link").unwrap();
    fs.symlink("elsewhere", "link").unwrap();
    let (found, done) = fs.switch(&[scene.revisions[1].clone()], false);
    assert!(!done);
    let paths: Vec<&[u8]> = found.iter().map(|one| &one.path[..]).collect();
    let differ = ["come", "dir/changed", "dir/come", "link"];
    assert_eq!(paths, differ.map(str::as_bytes));
    scene.force(1);
    scene.same_as_new(1);
    assert_eq!(fs.content("changed").unwrap(), b"new and larger");
}

/// "If the revision has no such file, its data would be lost: such a switch is refused, also with force."
#[test]
fn s19_6_no_data_is_lost() {
    let scene = Scene::new(&[&first, &second]);
    let fs = &scene.fs;
    fs.chmod("gone", 0o600).unwrap();
    fs.mv("removed/file", "kept").unwrap();
    let (found, done) = fs.switch(&[scene.revisions[1].clone()], true);
    assert!(!done);
    let lost: Vec<&Conflict> = found.iter().filter(|one| one.forbids).collect();
    let paths: Vec<&[u8]> = lost.iter().map(|one| &one.path[..]).collect();
    assert_eq!(paths, [&b"gone"[..], b"kept"]);
    assert_eq!(fs.content("gone").unwrap(), b"gone");
    // With data of their own they are kept.
    fs.append("gone", "!").unwrap();
    fs.append("kept", "!").unwrap();
    scene.force(1);
    assert_eq!(fs.content("kept").unwrap(), b"in a removed directory!");
    assert_eq!(fs.content("gone").unwrap(), b"gone!");
    scene.same_as_new(1);
}

/// "A directory of the upper stays the same directory when a lower directory appears at its place or
/// goes."
#[test]
fn s19_4_a_directory_of_the_upper_keeps_its_number() {
    let with = |tree: &Path| {
        write(tree.join("come/file"), "lower");
        write(tree.join("come/below/file"), "lower");
    };
    let scene = Scene::new(&[&|tree| write(tree.join("same"), "same"), &with]);
    let fs = &scene.fs;
    fs.mkdir("come").unwrap();
    fs.put("come/mine", "mine").unwrap();
    let number = |path: &str| fs.about(path).unwrap().ino;
    let before = number("come");
    let held = fs.open_read("come").unwrap();
    for round in 0..3 {
        scene.force(1);
        assert_eq!(number("come"), before, "{round}");
        assert_eq!(fs.content("come/file").unwrap(), b"lower");
        assert_eq!(held.stat().unwrap().nlink, 3, "the same directory");
        let parent = fs.fs().unwrap().lookup_parent(number("come/below"));
        assert_eq!(parent.unwrap().ino, before);
        scene.same_as_new(1);
        // The parent of a copy is found by its row.
        fs.append("come/below/file", "!").unwrap();
        fs.forget();
        assert_eq!(number("come"), before, "{round}");
        scene.same_as_new(1);
        scene.force(0);
        assert_eq!(number("come"), before, "{round}");
        assert!(held.stat().unwrap().nlink > 0, "the same directory");
        scene.same_as_new(0);
    }
    drop(held);
    fs.unlink("come/below/file").unwrap();
    fs.rmdir("come/below").unwrap();
    fs.unlink("come/mine").unwrap();
    fs.rmdir("come").unwrap();
    fs.mkdir("come").unwrap();
    scene.force(1);
    scene.same_as_new(1);
}

/// "If the upper shows that place too, one lower directory would be shown twice. Refused, also with
/// `--force`."
#[test]
fn s19_6_no_lower_directory_is_shown_twice() {
    let scene = Scene::new(&[&first, &second]);
    let fs = &scene.fs;
    fs.mv("removed", "moved").unwrap();
    scene.force(1);
    // The revision does not have the name, so that nothing hides it any more.
    fs.mkdir("removed").unwrap();
    fs.rmdir("removed").unwrap();
    let (found, done) = fs.switch(&[scene.revisions[0].clone()], true);
    assert!(!done);
    let forbidding: Vec<&Conflict> = found.iter().filter(|one| one.forbids).collect();
    let paths: Vec<&[u8]> = forbidding.iter().map(|one| &one.path[..]).collect();
    assert_eq!(paths, [b"moved"], "{found:?}");
    scene.same_as_new(1);
    fs.rmdir("moved").unwrap();
    scene.force(0);
    scene.same_as_new(0);
    assert_eq!(fs.content("removed/below/file").unwrap(), b"deeper");
}

/// A directory that was moved follows the changes of the revision.
#[test]
fn s19_1_a_moved_directory_shows_the_other_revision() {
    let scene = Scene::new(&[&first, &second]);
    let fs = &scene.fs;
    fs.mv("dir", "moved").unwrap();
    fs.mv("removed", "moved/removed").unwrap();
    scene.force(1);
    assert_eq!(fs.content("moved/come").unwrap(), b"come");
    assert_eq!(fs.entries("moved/removed").unwrap().len(), 0);
    scene.same_as_new(1);
    scene.force(0);
    scene.same_as_new(0);
    assert_eq!(
        fs.content("moved/removed/file").unwrap(),
        b"in a removed directory"
    );
}

/// A mount without an upper switches too.
#[test]
fn s19_1_without_an_upper() {
    let scene = Scene::new(&[&first, &second]);
    let parts = Parts {
        layers: vec![scene.revisions[0].clone()],
        upper: None,
        options: String::new(),
    };
    let fs = Direct::begin(parts, REMEMBERED, log::lines).unwrap();
    let before = look(&fs);
    let open = fs.open_read("changed").unwrap();
    for round in 0..20 {
        assert!(fs.switch(&scene.revisions[1..], false).1);
        assert_eq!(fs.content("changed").unwrap(), b"new and longer", "{round}");
        assert_eq!(open.read(0, 10).unwrap(), b"old");
        assert!(fs.switch(&scene.revisions[..1], false).1);
        same(&before, &look(&fs));
        // As the kernel forgets what has no name.
        fs.forget();
    }
    drop(open);
    let rows = fs.fs().unwrap().lower().index.inode_count();
    assert!(rows < 60, "unused rows are used again: {rows}");
}

#[test]
fn executable_bits_are_a_change() {
    let tool = |mode: u32| {
        move |tree: &Path| {
            write(tree.join("tool"), "x");
            fs::set_permissions(tree.join("tool"), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let scene = Scene::new(&[&tool(0o644), &tool(0o755)]);
    let before = scene.fs.about("tool").unwrap();
    scene.switch(1);
    let after = scene.fs.about("tool").unwrap();
    assert_eq!((before.mode & 0o777, after.mode & 0o777), (0o644, 0o755));
    assert_ne!(before.ino, after.ino);
}
