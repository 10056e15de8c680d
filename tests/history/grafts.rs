//! Layers on other trees: rollback, cherry-pick, rebase, late pushes; and a model of the rule.

use std::collections::{BTreeMap, BTreeSet};

use bakery::graft::{Graft, GraftInput, Resolution, graft};
use bakery::history::HistoryError;
use bakery::history::stack;
use layerfmt::{Layer, LayerSet};
use proptest::prelude::*;

use super::world::{Files, World, bake, files, name, revision, with};

fn conflicts(
    result: Result<bakery::history::Revision, HistoryError>,
) -> Vec<(String, String, String)> {
    match result {
        Err(HistoryError::Conflicts(list)) => list
            .into_iter()
            .map(|c| (c.path, c.ours, c.theirs))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rollback_is_a_new_revision_with_old_contents() {
    let world = World::new();
    let one = files([("etc/motd", "one"), ("bin/sh", "shell")]);
    world.push("alt", &one);
    world.push("alt", &with(&one, [("etc/motd", Some("two"))]));
    let publisher = world.publisher();
    let back = publisher.rollback(&revision("alt@1"), "admin", "").unwrap();
    assert_eq!(back.number(), 3);
    assert_eq!(world.files(&back), one);
    let again = publisher
        .rollback(&revision("alt@3"), "admin", "")
        .unwrap_err();
    assert!(
        again.to_string().contains("newest revision already"),
        "{again}"
    );
    let none = publisher
        .rollback(&revision("alt@9"), "admin", "")
        .unwrap_err();
    assert!(
        none.to_string().contains("the newest revision is 3"),
        "{none}"
    );
    let log = world.history().log(&name("alt"), 10).unwrap();
    assert_eq!(
        log.iter().map(|r| r.number()).collect::<Vec<_>>(),
        [3, 2, 1]
    );
    world.assert_sound();
}

#[test]
fn a_layer_of_one_profile_goes_on_another() {
    let world = World::new();
    let base = files([("etc/motd", "base"), ("usr/bin/ed", "ed")]);
    world.push("alt", &base);
    let publisher = world.publisher();
    for profile in ["alt/lab", "alt/office"] {
        publisher
            .add_profile(&name(profile), &revision("alt"), "admin", "")
            .unwrap();
    }
    let lab = with(
        &base,
        [("usr/bin/gimp", Some("gimp")), ("usr/bin/ed", None)],
    );
    world.push("alt/lab", &lab);
    let office = with(&base, [("usr/bin/calc", Some("calc"))]);
    world.push("alt/office", &office);
    let picked = publisher
        .cherry_pick(
            "alt/lab@2",
            &name("alt/office"),
            "admin",
            "",
            Resolution::Refuse,
        )
        .unwrap();
    let expected = with(
        &office,
        [("usr/bin/gimp", Some("gimp")), ("usr/bin/ed", None)],
    );
    assert_eq!(world.files(&picked), expected);
    let digest = world.history().require_head(&name("alt/lab")).unwrap();
    let digest = digest.manifest.layers.last().unwrap().digest.to_string();
    let again = publisher.cherry_pick(
        &digest[..8],
        &name("alt/office"),
        "admin",
        "",
        Resolution::Refuse,
    );
    assert!(matches!(again, Err(HistoryError::Refused(_))), "{again:?}");
    let unknown =
        publisher.cherry_pick("00000000", &name("alt/office"), "a", "", Resolution::Refuse);
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .contains("no history has a layer")
    );
    world.assert_sound();
}

#[test]
fn conflicts_are_listed_path_by_path_and_nothing_is_published() {
    let world = World::new();
    let base = files([
        ("a", "a"),
        ("b", "b"),
        ("d/x", "x"),
        ("d/y", "y"),
        ("same", "0"),
    ]);
    world.push("alt", &base);
    let publisher = world.publisher();
    publisher
        .add_profile(&name("alt/lab"), &revision("alt"), "admin", "")
        .unwrap();
    let mut lab = with(
        &base,
        [
            ("a", Some("lab")),
            ("b", None),
            ("d/x", None),
            ("d/y", None),
            ("same", Some("1")),
            ("n", Some("new")),
        ],
    );
    lab.get_mut("same").unwrap().1 = 0o600;
    world.push("alt/lab", &lab);
    let mut main = with(
        &base,
        [
            ("a", Some("main")),
            ("b", Some("B")),
            ("d/y", Some("Y")),
            ("same", Some("1")),
        ],
    );
    main.get_mut("same").unwrap().1 = 0o600;
    world.push("alt", &main);
    let pick =
        |resolution| publisher.cherry_pick("alt/lab@2", &name("alt"), "admin", "", resolution);
    let expected = [
        ("a", "changed the content", "changed the content"),
        ("b", "changed the content", "deleted the file"),
        ("d", "changed things inside", "deleted the directory"),
    ];
    let expected = expected.map(|(p, o, t)| (p.to_owned(), o.to_owned(), t.to_owned()));
    assert_eq!(conflicts(pick(Resolution::Refuse)), expected);
    assert_eq!(
        world.history().newest(&name("alt")).unwrap(),
        Some(2),
        "nothing was published"
    );
    let ours = pick(Resolution::Ours).unwrap();
    assert_eq!(world.files(&ours), with(&main, [("n", Some("new"))]));
    publisher.rollback(&revision("alt@2"), "admin", "").unwrap();
    let theirs = pick(Resolution::Theirs).unwrap();
    let mut taken = with(
        &main,
        [
            ("a", Some("lab")),
            ("b", None),
            ("d/x", None),
            ("d/y", None),
            ("n", Some("new")),
        ],
    );
    taken.get_mut("same").unwrap().1 = 0o600;
    assert_eq!(world.files(&theirs), taken);
    world.assert_sound();
}

#[test]
fn a_push_made_on_an_older_revision_joins_what_came_since() {
    let world = World::new();
    let base = files([("a", "a"), ("b", "b")]);
    world.push("alt", &base);
    let first = world.try_push(
        "alt",
        Some(1),
        &with(&base, [("a", Some("A"))]),
        Resolution::Refuse,
    );
    assert_eq!(first.unwrap().number(), 2);
    let second = world.try_push(
        "alt",
        Some(1),
        &with(&base, [("b", Some("B"))]),
        Resolution::Refuse,
    );
    let second = second.unwrap();
    assert_eq!(world.files(&second), files([("a", "A"), ("b", "B")]));
    let late = world.try_push(
        "alt",
        Some(1),
        &with(&base, [("a", Some("x"))]),
        Resolution::Refuse,
    );
    assert_eq!(conflicts(late).len(), 1);
    let same = world.try_push(
        "alt",
        Some(1),
        &with(&base, [("a", Some("A"))]),
        Resolution::Refuse,
    );
    assert!(matches!(same, Err(HistoryError::Refused(_))), "{same:?}");
    world.assert_sound();
}

#[test]
fn a_profile_stays_where_it_is_until_it_is_rebased() {
    let world = World::new();
    let base = files([
        ("etc/a", "1"),
        ("etc/b", "1"),
        ("usr/x", "x"),
        ("usr/y", "y"),
    ]);
    world.push("alt", &base);
    let publisher = world.publisher();
    publisher
        .add_profile(&name("alt/lab"), &revision("alt"), "admin", "")
        .unwrap();
    let own_one = with(&base, [("usr/gimp", Some("g"))]);
    world.push("alt/lab", &own_one);
    let own_two = with(&own_one, [("etc/b", Some("lab"))]);
    let before = world.push("alt/lab", &own_two);
    let moved = with(&base, [("etc/a", Some("2")), ("usr/x", None)]);
    world.push("alt", &moved);
    assert_eq!(
        world.history().require_head(&name("alt/lab")).unwrap(),
        before
    );
    let rebased = publisher
        .rebase(&name("alt/lab"), None, "admin", "", Resolution::Refuse)
        .unwrap();
    assert_eq!(
        world.files(&rebased),
        with(&moved, [("usr/gimp", Some("g")), ("etc/b", Some("lab"))])
    );
    let on = rebased.manifest.base.as_ref().unwrap();
    assert_eq!(
        (on.revision, on.layers, rebased.manifest.layers.len()),
        (2, 2, 4)
    );
    let again = publisher.rebase(&name("alt/lab"), None, "admin", "", Resolution::Refuse);
    assert!(
        again
            .unwrap_err()
            .to_string()
            .contains("is already based on alt@2")
    );
    world.push("alt", &with(&moved, [("etc/b", Some("main"))]));
    let refused = publisher.rebase(&name("alt/lab"), None, "admin", "", Resolution::Refuse);
    assert_eq!(conflicts(refused)[0].0, "etc/b");
    let theirs = publisher
        .rebase(&name("alt/lab"), None, "admin", "", Resolution::Theirs)
        .unwrap();
    assert_eq!(world.files(&theirs)["etc/b"].0, b"lab");
    let no_base = publisher.rebase(&name("alt"), None, "admin", "", Resolution::Refuse);
    assert!(
        no_base
            .unwrap_err()
            .to_string()
            .contains("is not based on another")
    );
    world.assert_sound();
}

#[test]
fn profiles_are_made_listed_and_removed() {
    let world = World::new();
    world.push("alt", &files([("a", "a")]));
    let publisher = world.publisher();
    publisher
        .add_profile(&name("alt/lab"), &revision("alt@1"), "admin", "")
        .unwrap();
    assert!(
        publisher
            .add_profile(&name("alt/lab"), &revision("alt"), "admin", "")
            .is_err()
    );
    let on_it = publisher
        .remove_profile(&name("alt"))
        .unwrap_err()
        .to_string();
    assert!(on_it.contains("alt/lab is based on alt"), "{on_it}");
    publisher.remove_profile(&name("alt/lab")).unwrap();
    assert_eq!(world.history().names().unwrap(), [name("alt")]);
    let closed = publisher
        .rollback(&revision("alt/lab@1"), "admin", "")
        .unwrap_err();
    assert!(matches!(closed, HistoryError::Removed(_)), "{closed}");
    let back = publisher
        .add_profile(&name("alt/lab"), &revision("alt"), "admin", "")
        .unwrap();
    assert_eq!(back.number(), 2, "numbers are never used again");
    publisher
        .add_profile(&name("copy"), &revision("alt/lab"), "admin", "")
        .unwrap();
    assert_eq!(
        world.history().names().unwrap(),
        [name("alt/lab"), name("alt"), name("copy")]
    );
    world.assert_sound();
}

/// The merge rule for plain files: each path separately.
fn model(base: &Files, ours: &Files, theirs: &Files) -> (Files, BTreeSet<String>) {
    let (mut merged, mut conflicts) = (Files::new(), BTreeSet::new());
    let paths: BTreeSet<&String> = base
        .keys()
        .chain(ours.keys())
        .chain(theirs.keys())
        .collect();
    for path in paths {
        let (b, o, t) = (base.get(path), ours.get(path), theirs.get(path));
        let kept = if t == b || o == t {
            o
        } else if o == b {
            t
        } else {
            conflicts.insert(path.clone());
            o
        };
        if let Some(kept) = kept {
            merged.insert(path.clone(), kept.clone());
        }
    }
    (merged, conflicts)
}

fn tree() -> impl Strategy<Value = Files> {
    let path = prop::sample::select(vec!["a", "b", "c", "d/a", "d/b", "d/e/a", "f/a", "f/b"]);
    let content = (
        prop::sample::select(vec!["1", "2", "3"]),
        prop::sample::select(vec![0o644, 0o600]),
    );
    prop::collection::btree_map(path, content, 1..8).prop_map(|map| {
        let entries = map
            .into_iter()
            .map(|(path, (content, mode))| (path.to_owned(), (content.as_bytes().to_vec(), mode)));
        entries.collect::<BTreeMap<_, _>>()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Files in directories that appear and disappear on both sides. The comparison excludes
    /// directories that one side deleted and the other filled: the rule refuses these.
    #[test]
    fn a_graft_is_the_three_way_rule_path_by_path(base in tree(), ours in tree(), theirs in tree()) {
        let dir = crate::scratch::Scratch::new();
        let at = |name: &str| dir.path().join(name);
        bake(&at("base"), None, &base);
        bake(&at("ours"), None, &ours);
        let base_layer = Layer::map(&at("base")).unwrap();
        let ours_layer = std::sync::Arc::new(Layer::map(&at("ours")).unwrap());
        let base_merged = stack(None, &base_layer).unwrap();
        let ours_merged = stack(None, &ours_layer).unwrap();
        bake(&at("theirs"), Some(&base_merged), &theirs);
        let layer = Layer::map(&at("theirs")).unwrap();
        let sources = LayerSet::new([std::sync::Arc::clone(&ours_layer)]);
        let ways = GraftInput { base: Some(&base_merged), ours: &ours_merged, layer: &layer, sources: &sources };
        let (expected, clashes) = model(&base, &ours, &theirs);
        let result = graft(&ways, Resolution::Refuse, &at("grafted"));
        let merged = match result {
            Err(HistoryError::Conflicts(found)) => {
                // Every conflict is on or above a path for which the model has one, or a directory
                // disappeared on one side.
                for conflict in &found {
                    let inside = |path: &String| path == &conflict.path || path.starts_with(&format!("{}/", conflict.path));
                    let vanished = !ours.keys().any(inside) || !theirs.keys().any(inside);
                    prop_assert!(clashes.iter().any(inside) || vanished, "{conflict}");
                }
                return Ok(());
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
            Ok(Graft::Nothing) => ours_merged.clone(),
            Ok(Graft::AsItIs(merged)) | Ok(Graft::Rewritten(_, merged)) => merged,
        };
        prop_assert!(clashes.is_empty(), "missed {clashes:?}");
        bake(&at("expected"), None, &expected);
        let expected = stack(None, &Layer::map(&at("expected")).unwrap()).unwrap();
        let changes = bakery::graft::changes(&merged, &expected).unwrap();
        // Directories left empty by deletions on both sides are the only difference.
        let changes: Vec<_> = changes.into_iter().filter(|c| !c.what.contains("directory")).collect();
        prop_assert!(changes.is_empty(), "{changes:?}");
    }
}
