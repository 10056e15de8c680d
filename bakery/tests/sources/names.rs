//! Names in archives: cut by headers, spellings of attributes, and unlisted parents.

use std::fs;
use std::path::Path;

use super::hostile::{ended, entry, header, pax, refused};
use super::tree::{assert_same, baked, coarse, dump, run, scratch, set_xattr, shell, try_bake};
use bakery::bake::BaseStack;

const GNU: &str = "tar --numeric-owner --xattrs --xattrs-include='*' --acls --format=pax";

fn archive(command: &str, tree: &Path) {
    shell(&format!("OUT=../archive; rm -f $OUT; {command}"), tree);
}

/// A name's first 100 bytes may end at a slash: the kind of the entry does not depend on that.
#[test]
fn an_empty_file_whose_name_is_cut_at_a_slash_is_a_file() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    // `./` and without: one of the two is cut behind the directory's slash.
    for len in [97, 99] {
        let directory = tree.join("d".repeat(len));
        fs::create_dir_all(directory.join("inner")).unwrap();
        fs::write(directory.join("empty"), b"").unwrap();
        fs::write(directory.join("full"), b"x").unwrap();
    }
    let expected = dump(&baked(&tree, None, &place.join("expected.layer")));
    let python = "python3 -c 'import sys,tarfile; \
        t=tarfile.open(\"../archive\",\"w\",format=int(sys.argv[1])); \
        import os; [t.add(n) for n in os.listdir(\".\")]; t.close()'";
    for command in [
        format!("{GNU} -cf $OUT ."),
        "tar --format=gnu -cf $OUT .".to_owned(),
        "tar --format=gnu -cf $OUT *".to_owned(),
        "bsdtar --format=pax -cf $OUT *".to_owned(),
        format!("{python} 1"),
        format!("{python} 2"),
    ] {
        archive(&command, &tree);
        let got = dump(&baked(
            &place.join("archive"),
            None,
            &place.join("got.layer"),
        ));
        let below_root = |text: &str| coarse(text).split_once('\n').unwrap().1.to_owned();
        assert_same(&command, &below_root(&expected), &below_root(&got));
    }
}

#[test]
fn a_name_with_a_final_slash_is_a_directory_in_every_header() {
    let (_guard, place) = scratch();
    let plain = [
        pax(&[("path", b"dir/")]),
        header(b"dir", b'0', 0, b""),
        header(b"old/", 0, 0, b""),
    ];
    fs::write(place.join("a.tar"), ended(&plain)).unwrap();
    let text = dump(&baked(&place.join("a.tar"), None, &place.join("a.layer")));
    assert!(
        text.contains("/dir d ") && text.contains("/old d "),
        "{text}"
    );
    let data = [pax(&[("path", b"dir/")]), entry(b"dir", b'0', b"data")];
    let message = refused("a directory with data", &ended(&data), &place);
    assert!(
        message.contains("dir") && message.contains("slash"),
        "{message}"
    );
}

#[test]
fn a_default_list_of_three_entries_is_kept() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir_all(tree.join("d")).unwrap();
    shell("setfacl -d -m u::rwx,g::r-x,o::- d", &tree);
    let expected = dump(&baked(&tree, None, &place.join("expected.layer")));
    assert!(expected.contains("posix_acl_default="), "{expected}");
    for command in [
        "tar --acls --numeric-owner --format=pax -cf $OUT .",
        "bsdtar --acls --format=pax -cf $OUT .",
    ] {
        archive(command, &tree);
        let got = dump(&baked(
            &place.join("archive"),
            None,
            &place.join("got.layer"),
        ));
        assert!(got.contains("posix_acl_default="), "{command}: {got}");
        let line = |text: &str| {
            text.lines()
                .find(|line| line.starts_with("/d d"))
                .map(str::to_owned)
        };
        let attribute =
            |text: &str| line(text).and_then(|line| line.split(' ').next_back().map(str::to_owned));
        assert_eq!(attribute(&expected), attribute(&got), "{command}");
    }
}

/// GNU tar escapes two characters, libarchive every special one and writes it twice, others none.
#[test]
fn names_of_attributes_come_through_every_archive() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir_all(&tree).unwrap();
    let file = tree.join("f");
    fs::write(&file, b"x").unwrap();
    for (name, value) in [
        ("user.a=b", &b"1"[..]),
        ("user.%41", b"pct"),
        ("user.%3D", b"eq"),
        ("user.\u{fc}n\u{ef}", b"u"),
        ("user.plain", b"a=\n b"),
    ] {
        set_xattr(&file, name, value);
    }
    let layer = place.join("expected.layer");
    let expected = dump(&baked(&tree, None, &layer));
    for command in [
        format!("{GNU} -cf $OUT ."),
        "bsdtar --format=pax -cf $OUT .".to_owned(),
    ] {
        archive(&command, &tree);
        let got = dump(&baked(
            &place.join("archive"),
            None,
            &place.join("got.layer"),
        ));
        assert_same(&command, &expected, &got);
    }
    // Our own archive: read by ourselves, GNU tar and, if the two agree, bsdtar.
    let out = place.join("out.tar");
    let arguments = [
        "unpack",
        layer.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
    ];
    run(env!("CARGO_BIN_EXE_bakery"), &arguments);
    let got = dump(&baked(&out, None, &place.join("got.layer")));
    assert_same("unpack", &expected, &got);
    fs::create_dir(place.join("gnu")).unwrap();
    shell(
        "tar --xattrs --xattrs-include='*' -xpf ../out.tar",
        &place.join("gnu"),
    );
    let got = dump(&baked(&place.join("gnu"), None, &place.join("got.layer")));
    assert_same("GNU tar of unpack", &expected, &got);
}

/// sqfs2tar escapes nothing, so a name with an `=` cannot be distinguished from a value: it is
/// reported.
#[test]
fn squashfs_attributes_that_cannot_be_told_are_said() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("f"), b"x").unwrap();
    set_xattr(&tree.join("f"), "user.%2541", b"raw");
    let pack = "mksquashfs tree image -noappend -quiet -no-progress";
    shell(pack, &place);
    let output = place.join("x.layer");
    let report = try_bake(&place.join("image"), None, &output).unwrap();
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    let text = dump(&layerfmt::Layer::open(&output).unwrap());
    assert!(text.contains("user.%2541="), "{text}");
    set_xattr(&tree.join("f"), "user.a=b", b"1");
    shell(pack, &place);
    let report = try_bake(&place.join("image"), None, &output).unwrap();
    assert!(
        report.notes.iter().any(|note| note.starts_with("f: ")),
        "{:?}",
        report.notes
    );
}

#[test]
fn entries_below_a_link_of_the_base_go_where_it_leads() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    shell(
        "mkdir -p usr/lib/x var; ln -s usr/lib lib; ln -s ../usr/lib/x var/x; ln -s /nowhere gone; \
         echo old > usr/lib/old; echo f > file; chmod 750 usr/lib",
        &tree,
    );
    let base = BaseStack::of(&[baked(&tree, None, &place.join("base.layer"))]).unwrap();
    let bake = |parts: &[Vec<u8>]| {
        let input = place.join("change.tar");
        fs::write(&input, ended(parts)).unwrap();
        let output = place.join("change.layer");
        let report = try_bake(&input, Some(&base), &output)?;
        Ok::<_, anyhow::Error>((dump(&layerfmt::Layer::open(&output).unwrap()), report))
    };
    let (text, _) = bake(&[
        entry(b"lib/new", b'0', b"new"),
        entry(b"lib/.wh.old", b'0', b""),
        entry(b"usr/lib/other", b'0', b"other"),
        entry(b"var/x/deep/er", b'0', b"deep"),
    ])
    .unwrap();
    for line in [
        "/usr/lib/new f ",
        "/usr/lib/other f ",
        "/usr/lib/old whiteout",
        "/usr/lib/x/deep/er f ",
        "/usr/lib d 0750",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(
        !text.contains("/lib d") || text.contains("/usr/lib d"),
        "{text}"
    );
    assert!(
        !text.lines().any(|line| line.starts_with("/lib ")),
        "{text}"
    );
    for (parts, parts_of_message) in [
        (vec![entry(b"gone/x", b'0', b"x")], ["gone", "nowhere"]),
        (vec![entry(b"file/x", b'0', b"x")], ["file", "directory"]),
        (
            vec![entry(b"lib/a", b'0', b"1"), entry(b"usr/lib/a", b'0', b"2")],
            ["usr/lib", "both"],
        ),
    ] {
        let message = format!("{:#}", bake(&parts).unwrap_err());
        for part in parts_of_message {
            assert!(message.contains(part), "{message}");
        }
    }
    // A listed directory replaces the link, with a note.
    let listed = [
        header(b"lib/", b'5', 0, b""),
        entry(b"lib/new", b'0', b"new"),
    ];
    let (text, report) = bake(&listed).unwrap();
    assert!(text.contains("/lib/new f "), "{text}");
    assert!(
        report.notes.iter().any(|note| note.contains("usr/lib")),
        "{:?}",
        report.notes
    );
}
