//! A new revision keeps the boot pack as far as it is useful.

use bakery::history::Revision;
use bakery::publish::Compaction;
use bakery::publish::pack::{Sources, publish};
use wire::trace::{BootTrace, Touch};

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
    let touches = files.map(|ino| Touch {
        ino,
        page: 0,
        count: 5,
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
