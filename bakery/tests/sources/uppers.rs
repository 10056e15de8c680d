//! Uppers whose marks change the kind of an object: overlayfs with an index, fuse-overlayfs with
//! attributes for owner and mode, umoci's whiteouts, and a metadata-only copy of a file that was
//! changed below.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::hostile::{ended, entry, header};
use super::tree::{assert_same, baked, coarse, run, scratch, set_xattr, shell, try_bake};
use bakery::bake::BaseStack;
use layerfmt::Layer;

fn shown(layers: &[&Layer]) -> String {
    let merged = layerfmt::flatten::flatten_layers(layers.iter().copied(), true).unwrap();
    layerfmt::dump::dump(&merged.index, merged.content.as_ref())
}

fn places(place: &Path) {
    for directory in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(place.join(directory)).unwrap();
    }
}

/// Runs `script` in `merged`, an overlay of the kernel with `options`; packs its visible tree into
/// merged.tar.
fn overlay(place: &Path, options: &str, script: &str) {
    let script = format!(
        "set -eu; cd '{}'; mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work,{options} merged; \
         trap 'umount merged' EXIT; cd merged; {script}; cd ..; \
         tar --numeric-owner --xattrs --acls --format=pax -cf merged.tar -C merged .; cp merged.tar kept.tar",
        place.display()
    );
    run("unshare", &["-m", "sh", "-c", &script]);
}

#[test]
fn a_file_changed_by_one_name_is_changed_by_all_with_an_index() {
    let (_guard, place) = scratch();
    places(&place);
    shell(
        "mkdir d; echo old > a; ln a b; ln a d/c; echo two > e; ln e f; echo three > g; ln g h",
        &place.join("lower"),
    );
    // One name written; one written and the other removed; one removed without a change.
    overlay(
        &place,
        "index=on",
        "echo new >> a; chmod 640 d/c; echo more >> e; rm f; rm g",
    );
    let attribute = "getfattr -n trusted.overlay.nlink upper/a > /dev/null";
    shell(attribute, &place);
    shell(
        "tar --numeric-owner --xattrs --xattrs-include='*' --format=pax -cf ../upper.tar .",
        &place.join("upper"),
    );
    let base_layer = baked(&place.join("lower"), None, &place.join("base.layer"));
    let base = BaseStack::of(std::slice::from_ref(&base_layer)).unwrap();
    let expected = baked(&place.join("kept.tar"), None, &place.join("merged.layer"));
    let expected = shown(&[&expected]);
    for source in ["upper", "upper.tar"] {
        let output = place.join("upper.layer");
        let report = try_bake(&place.join(source), Some(&base), &output).unwrap();
        let layer = Arc::new(Layer::open(&output).unwrap());
        assert_same(source, &expected, &shown(&[&base_layer, &layer]));
        let said = report
            .notes
            .iter()
            .any(|note| note.starts_with("g was removed"));
        assert!(said, "{:?}", report.notes);
    }
    // Without the base the other names are unknown, and another base has fewer.
    let output = place.join("x.layer");
    let alone = super::tree::bake_as(
        bakery::assemble::Reading::Changes,
        &place.join("upper"),
        None,
        &output,
    );
    assert!(format!("{:#}", alone.unwrap_err()).contains("index"));
    shell("rm b; echo x > b", &place.join("lower"));
    let other = baked(&place.join("lower"), None, &place.join("other.layer"));
    let other = BaseStack::of(&[other]).unwrap();
    let error = try_bake(&place.join("upper"), Some(&other), &output).unwrap_err();
    assert!(format!("{error:#}").contains("index=on"), "{error:#}");
}

#[test]
fn owner_and_mode_of_fuse_overlayfs_are_read() {
    let (_guard, place) = scratch();
    places(&place);
    shell(
        "mkdir d; echo x > f; echo y > d/g; chmod 4755 f",
        &place.join("lower"),
    );
    let script = "fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work,xattr_permissions=2 merged; \
         cd merged; echo secret > private; chmod 600 private; chown 55:66 private; chown 7:8 d/g; \
         mkdir made; chmod 1770 made; cd ..; \
         tar --numeric-owner --format=pax -cf merged.tar -C merged .; fusermount3 -u merged";
    shell(script, &place);
    let there = "getfattr -h -d -m override_stat upper/private | grep -q override_stat";
    shell(there, &place);
    let base_layer = baked(&place.join("lower"), None, &place.join("base.layer"));
    let base = BaseStack::of(std::slice::from_ref(&base_layer)).unwrap();
    let layer = baked(
        &place.join("upper"),
        Some(&base),
        &place.join("upper.layer"),
    );
    let expected = baked(&place.join("merged.tar"), None, &place.join("merged.layer"));
    let below_root = |text: String| coarse(&text).split_once('\n').unwrap().1.to_owned();
    let got = below_root(shown(&[&base_layer, &layer]));
    assert_same("fuse-overlayfs", &below_root(shown(&[&expected])), &got);
    assert!(!shown(&[&layer]).contains("override_stat"));
}

/// The newer name, and kinds that its user could not make.
#[test]
fn owner_mode_and_kind_of_containers_storage_are_read() {
    let (_guard, place) = scratch();
    places(&place);
    let upper = place.join("upper");
    for (name, content, value) in [
        ("file", "x", "0:42:04755:file"),
        ("link", "target", "1:2:0777:symlink"),
        ("pipe", "", "1:2:0600:pipe"),
        ("tty", "", "0:5:0620:char-4-9"),
        ("disk", "", "0:6:0660:block-8-1"),
    ] {
        fs::write(upper.join(name), content).unwrap();
        set_xattr(
            &upper.join(name),
            "user.containers.override_stat",
            value.as_bytes(),
        );
    }
    let base = BaseStack::of(&[baked(&place.join("lower"), None, &place.join("b.layer"))]).unwrap();
    let text = shown(&[&*baked(&upper, Some(&base), &place.join("x.layer"))]);
    for line in [
        "/file f 4755 0 42 ",
        "/link l 0777 1 2 ",
        "/pipe p 0600 1 2 ",
        "/tty c 0620 0 5 ",
        "/disk b 0660 0 6 ",
    ] {
        assert!(
            text.replace(':', " ").contains(line),
            "{line} is not in\n{text}"
        );
    }
    fs::write(upper.join("bad"), b"").unwrap();
    set_xattr(
        &upper.join("bad"),
        "user.containers.override_stat",
        b"0:0:what",
    );
    let error = try_bake(&upper, Some(&base), &place.join("x.layer")).unwrap_err();
    assert!(format!("{error:#}").contains("override_stat"), "{error:#}");
}

/// umoci lists all entries of a directory which a file replaced.
#[test]
fn whiteouts_below_what_is_no_directory_hide_nothing_more() {
    let (_guard, place) = scratch();
    places(&place);
    shell(
        "mkdir -p x/sub; echo v > x/v; echo w > x/sub/w",
        &place.join("lower"),
    );
    let base = BaseStack::of(&[baked(&place.join("lower"), None, &place.join("b.layer"))]).unwrap();
    let parts = [
        entry(b"x", b'0', b"file"),
        header(b"x/.wh.v", b'0', 0, b""),
        header(b"x/sub/.wh.w", b'0', 0, b""),
        header(b"x/sub/.wh..wh..opq", b'0', 0, b""),
    ];
    let mut reversed = parts.clone();
    reversed.reverse();
    for parts in [parts, reversed] {
        fs::write(place.join("x.tar"), ended(&parts)).unwrap();
        let layer = baked(&place.join("x.tar"), Some(&base), &place.join("x.layer"));
        let text = shown(&[&layer]);
        assert!(text.contains("/x f ") && !text.contains("/x/"), "{text}");
    }
}

/// The copy has the metadata, the file below has bytes and length.
#[test]
fn a_metadata_only_copy_has_the_length_of_the_file_below() {
    let (_guard, place) = scratch();
    places(&place);
    shell("seq 1 2000 > f; seq 1 2000 > g", &place.join("lower"));
    overlay(&place, "metacopy=on", "chmod 600 f g");
    shell("echo short > f; seq 1 9000 > g", &place.join("lower"));
    let base_layer = baked(&place.join("lower"), None, &place.join("base.layer"));
    let base = BaseStack::of(std::slice::from_ref(&base_layer)).unwrap();
    let layer = baked(&place.join("upper"), Some(&base), &place.join("x.layer"));
    let line = |layer: &Layer, name: &str| {
        let text = shown(&[layer]);
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name}: {text}"))
    };
    for name in ["/f f", "/g f"] {
        let (below, got) = (line(&base_layer, name), line(&layer, name));
        // Length and digest; the times are the copy's.
        let bytes = |line: &str| {
            line.split(' ')
                .skip(5)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(bytes(&below), bytes(&got));
        assert!(got.contains(" 0600 "), "{got}");
    }
}
