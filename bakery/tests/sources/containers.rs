//! A whole system with containers in it: their whiteouts and marks are the system's content. The storage is made with
//! mknod and setfattr as containers/storage leaves it, which is quicker than two images of buildah.

use std::fs;

use super::tree::{assert_same, baked, dump, run, scratch, shell};

#[test]
fn container_storage_in_a_whole_system_is_kept() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    shell(
        "d=var/lib/containers/storage/overlay/2/diff; mkdir -p $d/etc $d/d $d/user usr home/u; \
         mknod $d/etc/secret c 0 0; mknod $d/gone-too c 0 0; \
         setfattr -n trusted.overlay.opaque -v y $d/d; echo new > $d/d/new; \
         setfattr -n user.overlay.opaque -v y $d/user; \
         setfattr -n trusted.overlay.redirect -v /old $d/user; \
         : > $d/meta; truncate -s 100 $d/meta; setfattr -n trusted.overlay.metacopy $d/meta; \
         setfattr -n trusted.overlay.nlink -v U+3 $d/meta; \
         setfattr -n user.containers.override_stat -v 5:6:0100600 $d/meta; \
         echo mine > home/u/.wh.notes; mkdir home/u/.wh..wh.plnk; : > home/u/.wh..wh..opq",
        &tree,
    );
    let layer = place.join("a.layer");
    let expected = dump(&baked(&tree, None, &layer));
    for part in [
        "/var/lib/containers/storage/overlay/2/diff/etc/secret c ",
        "trusted.overlay.opaque=",
        "user.overlay.opaque=",
        "trusted.overlay.redirect=",
        "trusted.overlay.metacopy=",
        "override_stat=",
        "/home/u/.wh.notes f ",
        "/home/u/.wh..wh.plnk d ",
        "/home/u/.wh..wh..opq f ",
    ] {
        assert!(expected.contains(part), "{part} is not in\n{expected}");
    }
    assert!(!expected.contains("whiteout"), "{expected}");
    shell(
        "tar --numeric-owner --xattrs --xattrs-include='*' --format=pax -cf ../a.tar .; \
         cd ..; mksquashfs tree image -noappend -quiet -no-progress",
        &tree,
    );
    let got = dump(&baked(&place.join("a.tar"), None, &place.join("b.layer")));
    assert_same("tar", &expected, &got);
    // mksquashfs supports trusted, user and security attributes, and whole seconds.
    let squashed = dump(&baked(&place.join("image"), None, &place.join("b.layer")));
    assert_same(
        "squashfs",
        &super::tree::coarse(&expected),
        &super::tree::coarse(&squashed),
    );
    assert!(squashed.contains("trusted.overlay.opaque=") && squashed.contains("override_stat="));
    let bakery = env!("CARGO_BIN_EXE_bakery");
    for output in ["out", "out.tar"] {
        let output = place.join(output);
        let (layer, at) = (layer.to_str().unwrap(), output.to_str().unwrap());
        run(bakery, &["unpack", layer, "-o", at]);
        let got = dump(&baked(&output, None, &place.join("b.layer")));
        assert_same(at, &expected, &got);
    }
    // By the program: a whole tree without --changes, and import never reads changes.
    let (tree, out) = (tree.to_str().unwrap(), place.join("c.layer"));
    let out = out.to_str().unwrap();
    run(bakery, &["bake", tree, "-o", out]);
    assert_same(
        "bake",
        &expected,
        &dump(&layerfmt::Layer::open(out.as_ref()).unwrap()),
    );
    let refused = std::process::Command::new(bakery)
        .args(["bake", "--changes", tree, "-o", out])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("base"),
        "{message}"
    );
}
