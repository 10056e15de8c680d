//! The verbs that look at revisions and take them back, typed as people type them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use bakery::graft::Resolution;
use bakery::history::HistoryError;
use bakery::sweep::{SweepPolicy, sweep};

use super::world::{World, files, name, revision, with};
use crate::test_bakery::{program, run, text};

/// `bakery` on the store of `world`.
pub(super) fn bakery(world: &World, words: &[&str]) -> Command {
    let mut command = Command::new(program("bakery"));
    command.arg("--store").arg(world.location());
    command.arg("--keys").arg(world.keys().directory());
    command.args(words);
    command
}

fn out(world: &World, words: &[&str]) -> String {
    text(&run(&mut bakery(world, words)).stdout)
}

fn fails(world: &World, words: &[&str], code: i32) -> String {
    let output: Output = bakery(world, words).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    text(&output.stdout) + &text(&output.stderr)
}

/// Every file of a store but the locks.
fn store_files(world: &World) -> BTreeSet<String> {
    let root = Path::new(world.location());
    let mut directories = vec![root.to_owned()];
    let mut found = BTreeSet::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found
}

#[test]
fn one_revision_of_the_middle_is_undone() {
    let world = World::new();
    let one = files([("a", "a"), ("b", "b"), ("gone", "was here"), ("d/x", "x")]);
    world.push("alt", &one);
    let bad = with(
        &one,
        [
            ("a", Some("bad")),
            ("gone", None),
            ("new", Some("n")),
            ("d/x", None),
            ("d/y", Some("y")),
        ],
    );
    world.push("alt", &bad);
    let since = with(&bad, [("b", Some("since")), ("later", Some("l"))]);
    world.push("alt", &since);
    let publisher = world.publisher();
    let undo = |what: &str, resolution| publisher.revert(&revision(what), "admin", "", resolution);
    let undone = undo("alt@2", Resolution::Refuse).unwrap();
    assert_eq!(undone.number(), 4);
    assert_eq!(
        world.files(&undone),
        with(&one, [("b", Some("since")), ("later", Some("l"))])
    );
    assert_eq!(undone.manifest.message, "revert alt@2: 4 files");
    let again = undo("alt@2", Resolution::Refuse).unwrap_err();
    assert!(again.to_string().contains("nothing to undo"), "{again}");
    let first = undo("alt@1", Resolution::Refuse).unwrap_err();
    assert!(first.to_string().contains("first revision"), "{first}");
    // The undoing is undone as anything else.
    let back = undo("alt@4", Resolution::Refuse).unwrap();
    assert_eq!(world.files(&back), since);
    world.assert_sound();
}

#[test]
fn a_revert_has_the_conflicts_of_a_cherry_pick() {
    let world = World::new();
    let one = files([("a", "a"), ("b", "b")]);
    world.push("alt", &one);
    let two = with(&one, [("a", Some("A")), ("c", Some("c"))]);
    world.push("alt", &two);
    let three = with(&two, [("a", Some("again"))]);
    world.push("alt", &three);
    let publisher = world.publisher();
    let undo = |resolution| publisher.revert(&revision("alt@2"), "admin", "", resolution);
    let Err(HistoryError::Conflicts(conflicts)) = undo(Resolution::Refuse) else {
        panic!("no conflict")
    };
    let shown: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["/a: ours changed the content, theirs changed the content"]
    );
    assert_eq!(world.history().newest(&name("alt")).unwrap(), Some(3));
    let ours = undo(Resolution::Ours).unwrap();
    assert_eq!(world.files(&ours), with(&three, [("c", None)]));
    publisher.rollback(&revision("alt@3"), "admin", "").unwrap();
    let theirs = undo(Resolution::Theirs).unwrap();
    assert_eq!(world.files(&theirs), one);
    let output = fails(&world, &["revert", "alt@2"], 2);
    assert!(output.contains("nothing to undo"), "{output}");
    publisher.rollback(&revision("alt@3"), "admin", "").unwrap();
    let output = fails(&world, &["revert", "alt@2"], 1);
    assert!(
        output.contains("/a: ours") && output.contains("--theirs"),
        "{output}"
    );
    world.assert_sound();
}

#[test]
fn a_revert_takes_contents_from_layers_that_compaction_left_behind() {
    let world = World::new();
    let one = files([("a", "a first text"), ("b", "b")]);
    world.push("alt", &one);
    world.push("alt", &with(&one, [("a", None)]));
    out(&world, &["compact", "alt"]);
    let undone = world.publisher();
    let undone = undone
        .revert(&revision("alt@2"), "admin", "", Resolution::Refuse)
        .unwrap();
    assert_eq!(world.files(&undone), one);
    // Objects from which only the undoing revision borrows survive a sweep.
    let policy = SweepPolicy {
        keep_last: 1,
        grace: std::time::Duration::ZERO,
        ..SweepPolicy::default()
    };
    sweep(&world.history(), &policy).unwrap();
    assert_eq!(world.files(&undone), one);
    world.assert_sound();
}

#[test]
fn files_of_a_revision_are_read_and_listed() {
    let world = World::new();
    let one = files([("etc/motd", "one\n"), ("usr/bin/ed", "ed"), ("empty", "")]);
    world.push("alt", &one);
    world.push("alt", &with(&one, [("etc/motd", Some("two\n"))]));
    assert_eq!(
        out(&world, &["cat", "alt@1:/etc/motd", "alt:/etc/motd"]),
        "one\ntwo\n"
    );
    assert_eq!(out(&world, &["cat", "alt:/usr/../usr/./bin/ed"]), "ed");
    assert_eq!(out(&world, &["cat", "alt:/empty"]), "");
    let listed = out(&world, &["ls", "alt@1"]);
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert_eq!(names, ["empty", "etc", "usr"], "{listed}");
    let line = out(&world, &["ls", "alt@1:/etc/motd"]);
    assert_eq!(
        line,
        "-rw-r--r--   1 0:0                4 2023-11-14 22:13 UTC motd\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&out(&world, &["--json", "ls", "alt:/usr/bin"])).unwrap();
    assert_eq!(
        (&json[0]["name"], &json[0]["size"]),
        (&"ed".into(), &2.into())
    );
    let absent = fails(&world, &["cat", "alt@1:/etc/nothing/x"], 2);
    assert!(
        absent.contains("there is no /etc/nothing") && absent.contains("bakery ls alt@1:/"),
        "{absent}"
    );
    let directory = fails(&world, &["cat", "alt:/etc"], 2);
    assert!(
        directory.contains("is a directory: `bakery ls alt:/etc`"),
        "{directory}"
    );
    let through = fails(&world, &["cat", "alt:/etc/motd/x"], 2);
    assert!(
        through.contains("/etc/motd is not a directory"),
        "{through}"
    );
    let relative = fails(&world, &["cat", "alt:etc/motd"], 2);
    assert!(
        relative.contains("SYSTEM[/PROFILE][@REV]:/PATH"),
        "{relative}"
    );
}

#[test]
fn links_are_followed_inside_the_tree() {
    let world = World::new();
    let tree = world.dir.path().join("tree");
    std::fs::create_dir_all(tree.join("usr/bin")).unwrap();
    std::fs::create_dir_all(tree.join("sbin")).unwrap();
    std::fs::write(tree.join("sbin/init"), "init").unwrap();
    std::fs::write(tree.join("usr/bin/sh"), "shell").unwrap();
    for (target, link) in [
        ("usr/bin", "bin"),
        ("/bin/sh", "usr/absolute"),
        ("../../../../bin/sh", "usr/up"),
        ("loop", "loop"),
    ] {
        std::os::unix::fs::symlink(target, tree.join(link)).unwrap();
    }
    let tree = tree.to_str().unwrap();
    out(&world, &["import", "alt", tree, "--no-default-excludes"]);
    for path in ["/bin/sh", "/usr/absolute", "/usr/up"] {
        assert_eq!(
            out(&world, &["cat", &format!("alt:{path}")]),
            "shell",
            "{path}"
        );
    }
    let turning = fails(&world, &["cat", "alt:/loop"], 2);
    assert!(turning.contains("symbolic links"), "{turning}");
    let listed = out(&world, &["ls", "alt"]);
    assert!(
        listed.contains(" bin -> usr/bin\n") && listed.contains("lrwxrwxrwx"),
        "{listed}"
    );
}

#[test]
fn lines_that_differ_are_shown() {
    let world = World::new();
    let long = |middle: &str| format!("1\n2\n3\n4\n{middle}\n6\n7\n8\n9\n");
    let one = files([
        ("etc/a", &long("five")),
        ("etc/b", "b\n"),
        ("bin/x", "\0one"),
        ("o", "o\n"),
    ]);
    world.push("alt", &one);
    let two = with(
        &one,
        [
            ("etc/a", Some(&long("FIVE"))),
            ("etc/b", None),
            ("bin/x", Some("\0two!")),
            ("o", Some("p\n")),
        ],
    );
    world.push("alt", &two);
    let shown = fails(
        &world,
        &[
            "diff",
            "alt@1",
            "alt@2",
            "--content",
            "/etc",
            "--content",
            "bin",
        ],
        1,
    );
    assert_eq!(
        shown,
        "* /bin/x  (changed the content)\nBinary contents differ: 4 B, then 5 B\n\
         * /etc/a  (changed the content)\n--- alt@1:/etc/a\n+++ alt@2:/etc/a\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-five\n+FIVE\n 6\n 7\n 8\n\
         - /etc/b  (deleted the file)\n--- alt@1:/etc/b\n+++ alt@2:/etc/b\n@@ -1,1 +0,0 @@\n-b\n"
            .replace("-1,1 +0,0", if shown.contains("-1,1 ") { "-1,1 +0,0" } else { "-1 +0,0" })
    );
    let nothing = out(&world, &["diff", "alt@1", "alt@2", "--content", "/et"]);
    assert_eq!(nothing, "", "a directory is no prefix of letters");
}

#[test]
fn the_log_of_a_path_and_of_an_author() {
    let world = World::new();
    let one = files([("etc/motd", "1"), ("usr/x", "x")]);
    world.push("alt", &one);
    let two = with(&one, [("etc/motd", Some("2"))]);
    world.push("alt", &two);
    world.push("alt", &with(&two, [("usr/x", Some("X"))]));
    world
        .publisher()
        .rollback(&revision("alt@1"), "Ann Admin", "")
        .unwrap();
    let numbers = |words: &[&str]| -> Vec<u64> {
        let json = out(&world, &[&["--json", "log", "alt"], words].concat());
        let lines: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        lines
            .iter()
            .map(|line| line["revision"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(numbers(&["--path", "/etc/motd"]), [4, 2, 1]);
    assert_eq!(numbers(&["--path", "usr"]), [4, 3, 1]);
    assert_eq!(numbers(&["--path", "/nothing"]), [0; 0]);
    assert_eq!(numbers(&["--author", "ann"]), [4]);
    assert_eq!(
        numbers(&["--path", "/etc", "--author", "TESTER", "-n", "1"]),
        [2]
    );
}

#[test]
fn layer_verbs_take_revisions() {
    let world = World::new();
    let one = files([("etc/motd", "one"), ("b", "b")]);
    world.push("alt", &one);
    let two = world.push("alt", &with(&one, [("b", None)]));
    let dumped = out(&world, &["dump", "alt@1"]);
    assert!(
        dumped.contains("/etc/motd f ") && dumped.contains("/b f "),
        "{dumped}"
    );
    assert!(
        !out(&world, &["dump", "alt@2"]).contains("/b"),
        "whiteouts are applied"
    );
    let output = out(&world, &["inspect", "alt@2"]);
    assert!(
        output.contains(&two.manifest.tree_digest.to_string()),
        "{output}"
    );
    let at = |name: &str| world.dir.path().join(name).display().to_string();
    out(&world, &["unpack", "alt@1", &at("out")]);
    assert_eq!(
        std::fs::read(world.dir.path().join("out/etc/motd")).unwrap(),
        b"one"
    );
    let quiet = run(&mut bakery(&world, &["-q", "unpack", "alt", &at("quiet")]));
    assert_eq!((quiet.stdout, quiet.stderr), (vec![], vec![]));
    assert!(world.dir.path().join("quiet/etc/motd").is_file());
    let layer = world.bake(None, &one).display().to_string();
    out(&world, &["unpack", &layer, &at("typed")]);
    assert_eq!(
        std::fs::read(world.dir.path().join("typed/b")).unwrap(),
        b"b"
    );
    out(&world, &["unpack", &layer, &at("x.tar")]);
    let alone = fails(&world, &["unpack", &layer], 2);
    assert!(alone.contains("bakery unpack LAYER… DIR"), "{alone}");
    let swapped = fails(&world, &["unpack", &layer, &layer], 2);
    assert!(
        swapped.contains("is a file, not a destination"),
        "{swapped}"
    );
    let both = fails(&world, &["dump", &layer, "alt@1"], 2);
    assert!(
        both.contains("a revision must be the only argument"),
        "{both}"
    );
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let world = World::new();
    let one = files([("a", "a"), ("b", "b")]);
    world.push("alt", &one);
    let two = with(&one, [("a", Some("A")), ("n", Some("n"))]);
    world.push("alt", &two);
    world
        .publisher()
        .add_profile(&name("alt/lab"), &revision("alt@1"), "admin", "")
        .unwrap();
    world.push("alt/lab", &with(&one, [("lab", Some("l"))]));
    let before = store_files(&world);
    let dry = |words: &[&str]| out(&world, &[words, &["--dry-run"]].concat());
    let output = dry(&["rollback", "alt@1"]);
    assert!(
        output.starts_with("would publish alt@3  rollback"),
        "{output}"
    );
    assert!(
        output.contains("* /a  (") && output.contains("- /n  ("),
        "{output}"
    );
    assert!(
        output.ends_with("2 path(s) would change, 1 layer(s); nothing was published\n"),
        "{output}"
    );
    let output = dry(&["revert", "alt@2"]);
    assert!(
        output.contains("would publish alt@3  rollback  revert alt@2"),
        "{output}"
    );
    let output = dry(&["rebase", "alt/lab"]);
    assert!(
        output.contains("would publish alt/lab@3  rebase") && output.contains("+ /n"),
        "{output}"
    );
    let output = dry(&["cherry-pick", "alt/lab@2", "--onto", "alt"]);
    assert!(
        output.contains("would publish alt@3  cherry-pick") && output.contains("+ /lab"),
        "{output}"
    );
    let output = dry(&["compact", "alt"]);
    assert!(
        output.contains("2 layers in one") && output.contains("0 path(s) would change, 1 layer(s)"),
        "{output}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&dry(&["--json", "rollback", "alt@1"])).unwrap();
    assert_eq!(json["would_publish"], "alt@3");
    assert_eq!(json["changes"][0]["path"], "a");
    let refused = fails(&world, &["rollback", "alt@2", "-n"], 2);
    assert!(refused.contains("newest revision already"), "{refused}");
    assert_eq!(store_files(&world), before);
}
