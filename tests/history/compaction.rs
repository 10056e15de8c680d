//! Compaction shows the same tree, or is not published.

use bakery::history::HistoryError;
use bakery::publish::{CompactPolicy, Compaction};

use super::world::{World, files, name, revision, with};

fn compaction(target: &str, revisions: Option<(u64, u64)>) -> Compaction {
    let author = "admin".into();
    Compaction {
        name: name(target),
        revisions,
        recompress: false,
        author,
        message: String::new(),
    }
}

fn world() -> World {
    let world = World::new();
    let mut tree = files([("a", "0"), ("dir/b", "0"), ("dir/c", "0"), ("old/x", "x")]);
    world.push("alt", &tree);
    for n in 1..8 {
        let text = n.to_string();
        tree = with(
            &tree,
            [("a", Some(&text)), (&format!("new/{n}"), Some("n"))],
        );
        if n == 3 {
            tree.remove("old/x");
        }
        if n == 5 {
            tree.insert("old/x".into(), (b"again".to_vec(), 0o600));
        }
        world.push("alt", &tree);
    }
    world
}

#[test]
fn many_layers_become_one_with_the_same_tree() {
    let world = world();
    let before = world.history().require_head(&name("alt")).unwrap();
    let files = world.files(&before);
    let done = world
        .publisher()
        .compact(&compaction("alt", None), &|_| ())
        .unwrap();
    assert_eq!(
        (done.layer_count, done.revision.manifest.layers.len()),
        (8, 1)
    );
    assert_eq!(
        done.revision.manifest.tree_digest,
        before.manifest.tree_digest
    );
    assert!(done.revision.manifest.borrowed.is_empty());
    assert_eq!(world.files(&done.revision), files);
    let old = world.history().revision(&revision("alt@8")).unwrap();
    assert_eq!(
        world.files(&old),
        files,
        "the old revision keeps its layers"
    );
    let again = world
        .publisher()
        .compact(&compaction("alt", None), &|_| ())
        .unwrap_err();
    assert!(matches!(again, HistoryError::Refused(_)), "{again}");
    world.assert_sound();
    let mut harder = compaction("alt", None);
    harder.recompress = true;
    world.push("alt", &with(&files, [("a", Some("more"))]));
    let done = world.publisher().compact(&harder, &|_| ()).unwrap();
    assert_eq!(
        world.files(&done.revision),
        with(&files, [("a", Some("more"))])
    );
    world.assert_sound();
}

#[test]
fn a_range_in_the_middle_keeps_its_whiteouts() {
    for range in [(1, 4), (2, 5), (0, 3), (3, 8), (4, 6)] {
        let world = world();
        let before = world.history().require_head(&name("alt")).unwrap();
        let files = world.files(&before);
        let done = world
            .publisher()
            .compact(&compaction("alt", Some(range)), &|_| ())
            .unwrap();
        let count = (range.1 - range.0) as usize;
        assert_eq!(
            done.revision.manifest.layers.len(),
            8 - count + 1,
            "{range:?}"
        );
        assert_eq!(
            done.revision.manifest.tree_digest,
            before.manifest.tree_digest
        );
        assert_eq!(world.files(&done.revision), files, "{range:?}");
        world.assert_sound();
    }
}

#[test]
fn a_profile_compacts_its_own_layers_and_leaves_the_base() {
    let world = world();
    let publisher = world.publisher();
    publisher
        .add_profile(&name("alt/lab"), &revision("alt"), "admin", "")
        .unwrap();
    let base = world.files(&world.history().require_head(&name("alt")).unwrap());
    for n in 0..3 {
        world.push(
            "alt/lab",
            &with(&base, [("lab", Some(&n.to_string())), ("a", None)]),
        );
    }
    let done = publisher
        .compact(&compaction("alt/lab", None), &|_| ())
        .unwrap();
    assert_eq!(
        (done.layer_count, done.revision.manifest.layers.len()),
        (3, 9)
    );
    assert_eq!(done.revision.manifest.base.as_ref().unwrap().layers, 8);
    let of_base = publisher
        .compact(&compaction("alt/lab", Some((0, 1))), &|_| ())
        .unwrap_err();
    assert!(matches!(of_base, HistoryError::Refused(_)), "{of_base}");
    world.assert_sound();
}

#[test]
fn the_policy_says_when_and_why() {
    let world = world();
    let publisher = world.publisher();
    let head = world.history().require_head(&name("alt")).unwrap();
    let needs = |layers_max| {
        let policy = CompactPolicy {
            layers_max,
            visible_percent_min: 50,
        };
        publisher.needs_compaction(&head.manifest, &policy).unwrap()
    };
    assert_eq!(needs(8), None);
    assert_eq!(needs(7).unwrap(), "the stack has 8 layers, more than 7");
    let mut state = 1u64;
    let noise: Vec<u8> = (0..3 << 20)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect();
    let mut tree = world.files(&head);
    tree.insert("big".into(), (noise, 0o644));
    world.push("alt", &tree);
    tree.remove("big");
    let hidden = world.push("alt", &tree);
    let policy = CompactPolicy {
        layers_max: 100,
        visible_percent_min: 50,
    };
    let why = publisher
        .needs_compaction(&hidden.manifest, &policy)
        .unwrap()
        .unwrap();
    assert!(
        why.starts_with("only 0 % of layer ") && why.ends_with("is still visible"),
        "{why}"
    );
}

/// The layer is written in parallel with the merged index, after the tree was proved to be the
/// same.
#[test]
fn a_damaged_chunk_stops_a_compaction_and_nothing_is_published() {
    let world = world();
    let head = world.history().require_head(&name("alt")).unwrap();
    let layer = head.manifest.layers.last().unwrap().digest;
    let path = format!("store/layers/{layer}.layer");
    let path = world.dir.path().join(path);
    let mut bytes = std::fs::read(&path).unwrap();
    // The first byte of its only chunk.
    bytes[layerfmt::layout::superblock::SUPERBLOCK_LEN] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let error = world
        .publisher()
        .compact(&compaction("alt", None), &|_| ())
        .unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    let after = world.history().require_head(&name("alt")).unwrap();
    assert_eq!(after.number(), head.number());
    let staged = world.dir.path().join("store/staging");
    assert_eq!(std::fs::read_dir(staged).unwrap().count(), 0);
}
