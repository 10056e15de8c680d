//! One tree in every spelling of real tools gives the same result.

use std::fs;

use super::tree::{assert_same, baked, coarse, dump, everything, run, scratch, shell};

#[test]
fn every_archive_of_a_tree_bakes_to_the_same_layer() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    let expected = dump(&baked(&tree, None, &place.join("expected.layer")));
    for needle in [
        "security.capability=",
        "user.binary=",
        "=/aaa-link",
        "posix_acl_access=",
    ] {
        assert!(expected.contains(needle), "{needle} is not in\n{expected}");
    }
    // Name, command (in the tree, writing to $OUT), true if it preserves everything.
    let gnu = "tar --numeric-owner --xattrs --xattrs-include='*' --acls";
    let python = "python3 -c 'import os,sys,tarfile; \
        t=tarfile.open(os.environ[\"OUT\"],\"w\",format=int(sys.argv[1])); t.add(\".\"); t.close()'";
    let table = [
        ("pax", format!("{gnu} --format=pax -cf $OUT ."), true),
        (
            "pax sparse 0.0",
            format!("{gnu} --format=pax -S --sparse-version=0.0 -cf $OUT ."),
            true,
        ),
        (
            "pax sparse 0.1",
            format!("{gnu} --format=pax -S --sparse-version=0.1 -cf $OUT ."),
            true,
        ),
        (
            "pax sparse 1.0",
            format!("{gnu} --format=pax -S --sparse-version=1.0 -cf $OUT ."),
            true,
        ),
        ("gnu", "tar --format=gnu -cf $OUT .".into(), false),
        ("gnu sparse", "tar --format=gnu -S -cf $OUT .".into(), false),
        ("bsdtar pax", "bsdtar --format=pax -cf $OUT .".into(), true),
        ("python gnu", format!("{python} 1"), false),
        (
            "pax zstd",
            format!("{gnu} --format=pax -cf - . | zstd -q -o $OUT"),
            true,
        ),
        (
            "two frames",
            "tar --format=gnu -cf $OUT.t . && head -c 9999 $OUT.t | zstd -q > $OUT && \
          tail -c +10000 $OUT.t | zstd -q >> $OUT"
                .into(),
            false,
        ),
    ];
    for (name, command, is_exact) in table {
        let archive = place.join("archive");
        shell(
            &format!(
                "OUT={}; export OUT; rm -f $OUT; {command}",
                archive.display()
            ),
            &tree,
        );
        let got = dump(&baked(&archive, None, &place.join("got.layer")));
        if is_exact {
            assert_same(name, &expected, &got);
        } else {
            assert_same(name, &coarse(&expected), &coarse(&got));
        }
    }
}

#[test]
fn python_pax_keeps_times_and_long_names() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    // Python writes floats, so the last digits of times are its own.
    let script = "import tarfile; t=tarfile.open('../p.tar','w',format=tarfile.PAX_FORMAT); \
        t.add('.'); t.close()";
    shell(&format!("python3 -c \"{script}\""), &tree);
    let expected = dump(&baked(&tree, None, &place.join("expected.layer")));
    let got = dump(&baked(&place.join("p.tar"), None, &place.join("got.layer")));
    // A negative time with a fraction is truncated towards the past here.
    assert_same("python pax", &coarse(&expected), &coarse(&got));
}

#[test]
fn squashfs_comes_through_whole_seconds_and_attributes() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    // squashfs cannot store times before 1970, nor sqfs2tar names that are not text in its locale.
    shell("touch -d @7 etc/acl", &tree);
    let image = place.join("image");
    for compressor in ["zstd", "xz", "gzip"] {
        let (tree, image) = (tree.to_str().unwrap(), image.to_str().unwrap());
        run(
            "mksquashfs",
            &[
                tree,
                image,
                "-comp",
                compressor,
                "-noappend",
                "-quiet",
                "-no-progress",
            ],
        );
        let expected = dump(&baked(tree.as_ref(), None, &place.join("expected.layer")));
        let got = dump(&baked(image.as_ref(), None, &place.join("got.layer")));
        assert_same(compressor, &coarse(&expected), &coarse(&got));
        for needle in ["security.capability=\\x01", "user.binary=\\x00\\x01\\xff"] {
            assert!(got.contains(needle), "{needle} is not in\n{got}");
        }
    }
}

#[test]
fn unpacking_is_the_inverse() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    // In a whole tree a device 0:0 is itself.
    shell("mknod -m 640 null c 0 0", &tree.join("dev"));
    let layer = place.join("a.layer");
    let expected = dump(&baked(&tree, None, &layer));
    let bakery = env!("CARGO_BIN_EXE_bakery");
    for (output, name) in [
        ("out", "directory"),
        ("out.tar", "tar"),
        ("out.tar.zst", "tar.zst"),
    ] {
        let output = place.join(output);
        run(
            bakery,
            &[
                "unpack",
                layer.to_str().unwrap(),
                "-o",
                output.to_str().unwrap(),
            ],
        );
        let got = dump(&baked(&output, None, &place.join("b.layer")));
        assert_same(name, &expected, &got);
    }
    // Others read our archives too, sparse files included.
    for program in ["tar", "bsdtar"] {
        let other = place.join(program);
        fs::create_dir(&other).unwrap();
        shell(&format!("{program} -xpf ../out.tar"), &other);
        let got = dump(&baked(&other, None, &place.join("b.layer")));
        // bsdtar does not set the time of the directory it runs in.
        let below_root = |dump: &str| -> Vec<String> {
            let lines = coarse(dump);
            let others = lines.lines().skip(1);
            others.map(str::to_owned).collect()
        };
        assert_same(
            program,
            &below_root(&expected).join("\n"),
            &below_root(&got).join("\n"),
        );
    }
}

#[test]
fn equal_input_gives_equal_bytes_whatever_the_threads() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    let bakery = env!("CARGO_BIN_EXE_bakery");
    let mut layers = Vec::new();
    for threads in ["1", "3", "8"] {
        let layer = place.join(threads);
        let arguments = [
            "bake",
            tree.to_str().unwrap(),
            "--threads",
            threads,
            "-o",
            layer.to_str().unwrap(),
        ];
        run(bakery, &arguments);
        layers.push(fs::read(layer).unwrap());
    }
    assert!(layers.windows(2).all(|pair| pair[0] == pair[1]));
}

/// As changes, a device 0:0 and overlayfs' own names need their stand-ins, and are restored.
#[test]
fn unpacked_changes_are_read_as_changes() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    shell(
        "mknod -m 640 null c 0 0; : > f; setfattr -n trusted.overlay.opaque -v y f",
        &tree,
    );
    let layer = place.join("a.layer");
    let expected = dump(&baked(&tree, None, &layer));
    let bakery = env!("CARGO_BIN_EXE_bakery");
    for output in ["out", "out.tar"] {
        let output = place.join(output);
        let (from, to) = (layer.to_str().unwrap(), output.to_str().unwrap());
        run(bakery, &["unpack", "--changes", from, "-o", to]);
        let got = dump(&super::tree::baked_changes(&output, &place.join("b.layer")));
        assert_same(to, &expected, &got);
    }
}
