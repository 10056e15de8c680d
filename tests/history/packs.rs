//! A new revision keeps the boot pack as far as it is useful.

use bakery::history::Revision;
use bakery::publish::Compaction;
use bakery::publish::pack::{Sources, publish};
use bakery::store::Key;
use bakery::update_pack::make;
use layerfmt::update::{Preamble, UpdateHead};
use layerfmt::{Digest, DirentTarget, Index, Ino};
use wire::trace::{BootTrace, PAGE_LEN, Touch};

use super::world::{Files, World, name, revision, with};

/// Twenty files of 40 KB, unlike each other.
fn system() -> Files {
    (0..20u32)
        .map(|number| {
            let line = format!("file {number} says {} and more\n", number * 7919);
            let content = line.repeat(40_000 / line.len());
            (
                format!("usr/file-{number:02}"),
                (content.into_bytes(), 0o644),
            )
        })
        .collect()
}

/// Publishes the newest revision of `system` again with a pack of the first half of every file.
fn pack(world: &World, system: &str) -> Revision {
    let publisher = world.publisher();
    let head = publisher.history().require_head(&name(system)).unwrap();
    let merged = publisher.history().merged(&head.manifest).unwrap();
    let files = (0..merged.index.inode_count()).filter(|ino| {
        merged
            .index
            .inode(*ino)
            .is_some_and(|inode| inode.is_file())
    });
    pack_rows(world, system, files, |_| 5)
}

/// Publishes the newest revision of `system` again with a pack of the first pages of these files.
fn pack_of(world: &World, system: &str, paths: &[&str]) -> Revision {
    let head = world.history().require_head(&name(system)).unwrap();
    let merged = world.history().merged(&head.manifest).unwrap();
    pack_rows(
        world,
        system,
        paths.iter().map(|path| row(&merged.index, path)),
        |_| 5,
    )
}

/// The row of a file.
fn row(index: &Index, path: &str) -> Ino {
    let mut at = layerfmt::ROOT;
    for part in path.split('/') {
        let Some(DirentTarget::Inode(below)) = index.lookup(at, part.as_bytes()).map(|it| it.child)
        else {
            panic!("no {path}");
        };
        at = below;
    }
    at
}

/// `pages`: of a file of this length, the number of first pages in the pack.
fn pack_rows(
    world: &World,
    system: &str,
    rows: impl Iterator<Item = Ino>,
    pages: impl Fn(u64) -> u32,
) -> Revision {
    let publisher = world.publisher();
    let head = publisher.history().require_head(&name(system)).unwrap();
    let merged = publisher.history().merged(&head.manifest).unwrap();
    let touches = rows.map(|ino| Touch {
        ino,
        page: 0,
        count: pages(merged.index.inode(ino).unwrap().size),
    });
    let trace = BootTrace {
        tree: head.manifest.tree_digest,
        touches: touches.collect(),
    };
    let path = world.dir.path().join("trace");
    std::fs::write(&path, trace.encode()).unwrap();
    let sources = Sources {
        spool: None,
        files: vec![path],
        share: 25,
        predict: false,
    };
    let report = publish(&publisher, &name(system), &sources, false).unwrap();
    assert_eq!(report.traces, 1, "{report:?}");
    let packed = publisher.history().require_head(&name(system)).unwrap();
    assert!(packed.manifest.pack.is_some());
    packed
}

#[test]
fn every_kind_of_new_revision_keeps_the_pack() {
    let world = World::new();
    let base = system();
    world.push("alt", &base);
    let packed = pack(&world, "alt");
    let kept = packed.manifest.pack;
    let publisher = world.publisher();
    // A push, and another one.
    let one = with(
        &base,
        [("usr/file-03", Some("changed")), ("etc/new", Some("new"))],
    );
    let pushed = world.push("alt", &one);
    assert_eq!(pushed.manifest.pack, kept);
    assert_ne!(pushed.manifest.index, packed.manifest.index);
    assert_eq!(world.files(&pushed), one);
    let two = with(&one, [("usr/file-04", None)]);
    let pushed = world.push("alt", &two);
    assert_eq!(
        (pushed.manifest.pack, world.files(&pushed)),
        (kept, two.clone())
    );
    // A profile on it, one layer picked onto it, its rebase.
    publisher
        .add_profile(&name("alt/lab"), &revision("alt@2"), "admin", "")
        .unwrap();
    let mine = with(&base, [("etc/lab", Some("lab"))]);
    assert_eq!(world.push("alt/lab", &mine).manifest.pack, kept);
    let picked = publisher
        .cherry_pick("alt@4", &name("alt/lab"), "admin", "", Default::default())
        .unwrap();
    assert_eq!(picked.manifest.pack, kept);
    let rebased = publisher
        .rebase(&name("alt/lab"), None, "admin", "", Default::default())
        .unwrap();
    assert_eq!(rebased.manifest.pack, kept);
    assert_eq!(
        world.files(&rebased),
        with(&two, [("etc/lab", Some("lab"))])
    );
    // Compaction, also one that cuts and compresses everything again.
    for recompress in [false, true] {
        let compaction = Compaction {
            name: name("alt"),
            revisions: None,
            recompress,
            author: "admin".into(),
            message: String::new(),
        };
        if recompress {
            world.push("alt", &with(&two, [("etc/more", Some("more"))]));
        }
        let compacted = publisher.compact(&compaction, &|_| ()).unwrap();
        assert_eq!(
            compacted.revision.manifest.pack, kept,
            "recompress: {recompress}"
        );
    }
    world.assert_sound();
    // Rolls back to a revision with it, and sweeps everything else.
    let back = publisher.rollback(&revision("alt@4"), "admin", "").unwrap();
    assert_eq!(
        (back.manifest.pack, world.files(&back)),
        (kept, two.clone())
    );
    let policy = bakery::sweep::SweepPolicy {
        keep_last: 1,
        grace: std::time::Duration::ZERO,
        ..Default::default()
    };
    let swept = bakery::sweep::sweep(&world.history(), &policy).unwrap();
    assert!(!swept.objects.is_empty());
    world.assert_sound();
    assert_eq!(world.files(&back), two);
    // Little of it is left: it is removed.
    let other: Files = base
        .iter()
        .enumerate()
        .map(|(at, (path, (content, mode)))| {
            let content = if at < 12 {
                content.repeat(2)
            } else {
                content.clone()
            };
            (path.clone(), (content, *mode))
        })
        .collect();
    let replaced = world.push("alt", &other);
    assert_eq!(
        (replaced.manifest.pack, replaced.manifest.plain),
        (None, None)
    );
    assert_eq!(world.files(&replaced), other);
    world.assert_sound();
}

/// "The first boots of a new revision find the same pages of the changed files in its boot pack. If many
/// pages changed, the bakery writes the pack again: the new pages first, then the chunks of the old pack."
#[test]
fn the_pack_of_a_new_revision_has_the_pages_of_changed_files() {
    let world = World::new();
    let text = |seed: u32| -> String {
        let line = |line: u32| format!("{}\n", (line ^ seed).wrapping_mul(2_654_435_761));
        (0..40_000u32).map(line).collect()
    };
    let kept = ["usr/kept", "usr/kept-too", "usr/kept-as-well"];
    let base = with(
        &system(),
        [
            ("usr/lib/6.1.0-30/late", Some(text(1).as_str())),
            ("usr/early", Some(&text(2))),
            (kept[0], Some(&text(3))),
            (kept[1], Some(&text(4))),
            (kept[2], Some(&text(5))),
        ],
    );
    world.push("alt", &base);
    let head = world.history().require_head(&name("alt")).unwrap();
    let merged = world.history().merged(&head.manifest).unwrap();
    let paths = [&["usr/early", "usr/lib/6.1.0-30/late"], &kept[..]].concat();
    let rows = paths.iter().map(|path| row(&merged.index, path));
    let whole = |size: u64| size.div_ceil(PAGE_LEN) as u32;
    let old = pack_rows(&world, "alt", rows, whole);
    let changed = |seed: u32| format!("changed\n{}", text(seed));
    let new = world.push(
        "alt",
        &with(
            &base,
            [
                ("usr/lib/6.1.0-30/late", None),
                ("usr/lib/6.1.0-31/late", Some(changed(1).as_str())),
                ("usr/early", Some(&changed(2))),
            ],
        ),
    );
    assert_ne!(new.manifest.pack, old.manifest.pack);
    for path in ["usr/early", "usr/lib/6.1.0-31/late"].iter().chain(&kept) {
        let places = in_pack(&world, &new, path);
        assert!(places.iter().all(|place| *place > 0), "{path}: {places:?}");
    }
    // A client of the old revision has the last chunks.
    let [had, has] = [&old, &new].map(|revision| pack_chunks(&world, revision));
    let mut has = has.iter().map(|digest| had.contains(digest));
    assert!(!has.next().unwrap());
    assert!(has.by_ref().any(|is_old| is_old) && has.all(|is_old| is_old));
    world.assert_sound();
    // A change of few pages keeps the pack; so does the next update of its files.
    let files = world.files(&new);
    let small = with(&files, [("usr/file-01", Some("changed"))]);
    assert_eq!(world.push("alt", &small).manifest.pack, new.manifest.pack);
    let next = with(&small, [("usr/early", Some(&changed(6)))]);
    let next = world.push("alt", &next);
    assert_ne!(next.manifest.pack, new.manifest.pack);
    assert!(in_pack(&world, &next, "usr/early").iter().all(|it| *it > 0));
    world.assert_sound();
}

/// For each extent of a file, its position in the boot pack; 0 if it is in another layer.
fn in_pack(world: &World, revision: &Revision, path: &str) -> Vec<u64> {
    let digest = revision.manifest.index.digest;
    let layer = world
        .history()
        .store()
        .open_layer(&Key::index(&digest), &digest);
    let layer = layer.unwrap();
    let index = layer.index();
    let pack = revision.manifest.pack.unwrap().digest;
    let place = |extent: layerfmt::Extent| {
        let chunk = index.chunk(extent.chunk).unwrap();
        let layerfmt::ChunkFile::Borrowed(row) = chunk.source else {
            return 0;
        };
        let is_packed = index.layer(row).unwrap().digest == pack;
        u64::from(is_packed) * chunk.offset
    };
    index
        .extents(row(index, path), 0..u64::MAX)
        .map(place)
        .collect()
}

/// The chunks of the boot pack.
fn pack_chunks(world: &World, revision: &Revision) -> Vec<Digest> {
    let digest = revision.manifest.pack.unwrap().digest;
    let layer = world
        .history()
        .store()
        .open_layer(&Key::pack(&digest), &digest);
    let layer = layer.unwrap();
    layer.index().chunks().map(|chunk| chunk.digest).collect()
}

/// "The hot units are first: those of chunks in the boot pack of *b*, and those of chunks at places that the
/// boot pack of *a* has in the old file." The file of a new version has another path.
#[test]
fn changed_files_that_a_boot_reads_are_hot_in_the_order_of_the_boot() {
    let world = World::new();
    let text = |seed: u32| {
        let lines =
            (0..40_000u32).map(|line| format!("{}\n", (line ^ seed).wrapping_mul(2_654_435_761)));
        lines.collect::<String>()
    };
    let base = with(
        &system(),
        [
            ("usr/lib/6.1.0-30/late", Some(text(1).as_str())),
            ("usr/early", Some(&text(2))),
            ("usr/never", Some(&text(3))),
        ],
    );
    world.push("alt", &base);
    let old = pack_of(
        &world,
        "alt",
        &["usr/early", "usr/file-01", "usr/lib/6.1.0-30/late"],
    );
    let changed = |seed: u32| format!("changed\n{}", text(seed));
    let new = world.push(
        "alt",
        &with(
            &base,
            [
                ("usr/lib/6.1.0-30/late", None),
                ("usr/lib/6.1.0-31/late", Some(changed(1).as_str())),
                ("usr/early", Some(&changed(2))),
                ("usr/never", Some(&changed(3))),
            ],
        ),
    );
    let merged = world.history().merged(&new.manifest).unwrap();
    let first_chunk = |path: &str| {
        let ino = row(&merged.index, path);
        let extent = merged.index.extents(ino, 0..1).next().unwrap();
        merged.index.chunk(extent.chunk).unwrap().digest
    };
    let wanted = ["usr/early", "usr/lib/6.1.0-31/late"].map(first_chunk);
    assert_eq!(hot_chunks(&world, &old, &new), wanted);
    // Units of another pack are in the same order.
    let files = world.files(&new);
    let newest = world.push("alt", &with(&files, [("etc/new", Some("new"))]));
    assert_eq!(hot_chunks(&world, &old, &newest), wanted);
}

/// The chunks of the hot units of the update pack between two revisions, in order.
fn hot_chunks(world: &World, old: &Revision, new: &Revision) -> Vec<Digest> {
    let signer = world.keys().head().unwrap();
    let made = make(&world.history(), &signer, &old.name(), &new.name()).unwrap();
    assert!(made.hot_bytes > 0, "{made:?}");
    let path = std::path::Path::new(world.location()).join(&made.object);
    let bytes = std::fs::read(path).unwrap();
    let place = Preamble::decode(&bytes).unwrap().head();
    let stored = &bytes[place.start as usize..place.end as usize];
    let head = UpdateHead::from_bytes(&zstd::decode_all(stored).unwrap()).unwrap();
    let hot = head.units.iter().take(head.hot_count as usize);
    let made = hot.flat_map(|unit| &unit.made);
    made.map(|made| made.digest).collect()
}
