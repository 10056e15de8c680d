//! AUFS, OCI and overlayfs spellings in archives; excludes; answers of a base.

use std::fs;
use std::path::Path;

use super::tree::{baked, baked_changes, dump, recipe, scratch, shell};
use bakery::assemble::Reading;
use bakery::bake::{BaseStack, bake};
use source::open::{SourceOptions, open};
use wire::exclude::Excludes;

fn lines(text: &str) -> Vec<String> {
    let short = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let opaque = |line: &str| {
        if line.ends_with("opaque") {
            " opaque"
        } else {
            ""
        }
    };
    text.lines()
        .map(|line| short(line) + opaque(line))
        .collect()
}

/// Three spellings of: a/gone is removed, b is new and hides all below.
#[test]
fn three_spellings_give_one_tree() {
    let (_guard, place) = scratch();
    let table = [
        ("oci", "mkdir a b; touch a/.wh.gone b/.wh..wh..opq b/new"),
        (
            "aufs",
            "mkdir a b .wh..wh.plnk .wh..wh.orph; touch .wh..wh.aufs .wh..wh.plnk/1.2; \
             ln .wh..wh.aufs a/.wh.gone; ln .wh..wh.aufs b/.wh..wh..opq; touch b/new",
        ),
        (
            "overlayfs",
            "mkdir a b; mknod a/gone c 0 0; setfattr -n trusted.overlay.opaque -v y b; touch b/new",
        ),
        (
            "user xattrs",
            "mkdir a b; touch a/gone; setfattr -n user.overlay.whiteout -v y a/gone; \
             setfattr -n user.overlay.opaque -v x a; setfattr -n user.overlay.opaque -v y b; \
             touch b/new",
        ),
    ];
    let expected = ["/ d", "/a d", "/a/gone whiteout", "/b d opaque", "/b/new f"];
    for (name, script) in table {
        let tree = place.join(name.replace(' ', "-"));
        fs::create_dir(&tree).unwrap();
        shell(script, &tree);
        let archive = place.join("archive.tar");
        let tar = "tar --format=pax --xattrs --xattrs-include='*' -cf ../archive.tar .";
        shell(tar, &tree);
        for source in [&tree, &archive] {
            let layer = baked_changes(source, &place.join("x.layer"));
            assert_eq!(
                lines(&dump(&layer)),
                expected,
                "{name} from {}",
                source.display()
            );
        }
    }
}

/// A mount's record in its upper for a user's `mknod null c 0 0`, and its notes on a copy.
#[test]
fn the_stand_in_for_a_device_is_the_device_and_notes_are_dropped() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    shell(
        "mknod null c 0 1; setfattr -n trusted.layerfs.device -v 0:0 null; \
         touch copied; setfattr -n trusted.layerfs.origin -v 0x0102 copied",
        &tree,
    );
    let archive = place.join("archive.tar");
    let tar = "tar --format=pax --xattrs --xattrs-include='*' -cf ../archive.tar .";
    shell(tar, &tree);
    for source in [&tree, &archive] {
        let text = dump(&baked_changes(source, &place.join("x.layer")));
        assert!(!text.contains("layerfs."), "{text}");
        let line = text.lines().find(|line| line.starts_with("/null "));
        let line = line.unwrap_or_else(|| panic!("no node: {text}"));
        assert!(line.contains("0:0") || line.contains("0,0"), "{line}");
        assert!(!line.contains("whiteout"), "{line}");
    }
}

#[test]
fn whiteouts_linked_to_an_excluded_one_still_hide() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    shell(
        "mkdir -p var/log etc; mknod var/log/a c 0 0; ln var/log/a etc/b; ln var/log/a zz",
        &tree,
    );
    // The excluded name is the first in this archive.
    shell("tar -cf ../t.tar var/log/a etc/b zz", &tree);
    for source in [tree.clone(), place.join("t.tar")] {
        let excludes = Excludes::with_defaults([]).unwrap();
        let mut opened = open(&source, &SourceOptions::default()).unwrap();
        let output = place.join("x.layer");
        let report = bake(
            &mut *opened,
            None,
            &recipe(&excludes, Reading::Changes),
            &output,
        )
        .unwrap();
        assert_eq!(report.excluded_count, 1, "{:?}", report.excluded);
        let text = dump(&layerfmt::Layer::open(&output).unwrap());
        assert!(
            text.contains("/etc/b whiteout") && text.contains("/zz whiteout"),
            "{text}"
        );
        assert!(!text.contains("/var/log/a"), "{text}");
    }
}

#[test]
fn a_file_linked_into_an_excluded_place_keeps_its_other_name() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    shell(
        "mkdir -p var/log zoo; echo x > var/log/a; ln var/log/a zoo/kept",
        &tree,
    );
    let excludes = Excludes::with_defaults([]).unwrap();
    let run = |source: &Path| {
        let mut opened = open(source, &SourceOptions::default()).unwrap();
        bake(
            &mut *opened,
            None,
            &recipe(&excludes, Reading::Changes),
            &place.join("x.layer"),
        )
    };
    run(&tree).unwrap();
    let text = dump(&layerfmt::Layer::open(&place.join("x.layer")).unwrap());
    assert!(text.contains("/zoo/kept f"), "{text}");
    // An archive cannot be read twice: better no layer than a lost file.
    shell("tar -cf ../t.tar var zoo", &tree);
    let message = format!("{:#}", run(&place.join("t.tar")).unwrap_err());
    assert!(
        message.contains("zoo/kept") && message.contains("var/log/a"),
        "{message}"
    );
}

#[test]
fn changes_that_change_nothing_cost_nothing() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    shell(
        "mkdir -p usr/lib; for i in 1 2 3 4 5 6 7 8; do head -c 300000 /dev/urandom > usr/lib/$i; done",
        &tree,
    );
    let base = BaseStack::of(&[baked(&tree, None, &place.join("base.layer"))]).unwrap();
    let output = place.join("x.layer");
    let report = super::tree::try_bake(&tree, Some(&base), &output).unwrap();
    assert!(
        report.is_empty && report.no_ops == report.entries - 1,
        "{report:?}"
    );
    // Metadata alone: not one byte of content is stored again.
    shell("chmod -R go-rwx .; touch -d @5 usr/lib/3", &tree);
    let report = super::tree::try_bake(&tree, Some(&base), &output).unwrap();
    assert_eq!((report.data_len, report.own_chunks), (0, 0), "{report:?}");
    assert!(!report.is_empty && report.file_len < 8192, "{report:?}");
    // An archive of one file alone does not describe its directories: they stay unchanged.
    shell(
        "echo new > usr/lib/new; tar -cf ../one.tar usr/lib/new",
        &tree,
    );
    let layer = baked(&place.join("one.tar"), Some(&base), &output);
    let before = dump(&layerfmt::Layer::open(&place.join("base.layer")).unwrap());
    let line = |text: &str| {
        text.lines()
            .find(|l| l.starts_with("/usr/lib d"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(line(&dump(&layer)), line(&before));
}
