//! The kernel's own uppers: the baked stack shows the tree of overlayfs.

use std::fs;
use std::sync::Arc;

use super::tree::{assert_same, bake_as, baked, run, scratch, shell, try_bake};
use bakery::bake::BaseStack;
use layerfmt::{Layer, LayerSet};

fn stack_dump(layers: &[&Layer]) -> String {
    let merged = layerfmt::flatten::flatten_layers(layers.iter().copied(), true).unwrap();
    layerfmt::dump::dump(&merged.index, merged.content.as_ref())
}

#[test]
fn uppers_of_the_kernel_with_redirects_and_metacopies() {
    let (_guard, place) = scratch();
    for directory in ["lower", "upper", "work", "merged"] {
        fs::create_dir(place.join(directory)).unwrap();
    }
    shell(
        "mkdir -p a/deep/er b c/x; for f in a/1 a/deep/2 a/deep/er/3 b/4 c/x/5 6; do \
         echo content of $f > $f; done; ln a/1 linked; ln -s a/1 soft; \
         setfattr -n user.x -v y b/4; mkdir full; touch full/1 full/2",
        &place.join("lower"),
    );
    // Renamed directories (redirects, also nested and replacing another one), changed metadata
    // (metacopies), a removed and recreated directory (opaque), whiteouts, new links.
    let script = "mount -t overlay overlay \
        -o lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=on,metacopy=on merged; \
        trap 'umount merged' EXIT; cd merged; \
        mv a moved; mv moved/deep b/deep; echo new > b/deep/er/new; rm b/deep/2; \
        mkdir a; echo again > a/1; mv c c2; mv c2/x x; chmod 600 x/5; \
        chmod 4711 6; chown 5:6 b/4; rm -r full; mkdir full; touch full/3; \
        rm soft; touch -d @99 moved/1; ln 6 6-too; mv 6-too b/6; \
        cd ..; tar --numeric-owner --xattrs --acls --format=pax -cf merged.tar -C merged .; \
        cp merged.tar kept.tar";
    let place_text = place.to_str().unwrap();
    run(
        "unshare",
        &[
            "-m",
            "sh",
            "-c",
            &format!("set -eu; cd {place_text}; {script}"),
        ],
    );
    shell(
        "tar --numeric-owner --xattrs --xattrs-include='*' -S --format=pax -cf ../upper.tar .",
        &place.join("upper"),
    );
    let upper = fs::read(place.join("upper.tar")).unwrap();
    for mark in [
        &b"overlay.redirect"[..],
        b"overlay.metacopy",
        b"overlay.opaque",
    ] {
        let there = upper.windows(mark.len()).any(|window| window == mark);
        assert!(there, "the kernel made no {}", mark.escape_ascii());
    }
    let base_layer = baked(&place.join("lower"), None, &place.join("base.layer"));
    let base = BaseStack::of(std::slice::from_ref(&base_layer)).unwrap();
    let expected = baked(&place.join("kept.tar"), None, &place.join("merged.layer"));
    let expected = stack_dump(&[&expected]);
    for source in ["upper", "upper.tar"] {
        let layer = baked(&place.join(source), Some(&base), &place.join("upper.layer"));
        assert_same(source, &expected, &stack_dump(&[&base_layer, &layer]));
        let below = LayerSet::new([Arc::clone(&base_layer)]);
        let report = layerfmt::check::check(&layer, &below, |_| {}).unwrap();
        assert_eq!(report.files_skipped, 0);
    }
    // Without the base the answer is unknown.
    let out = place.join("out");
    fs::create_dir(&out).unwrap();
    let changes = bakery::assemble::Reading::Changes;
    let alone = bake_as(
        changes,
        &place.join("upper.tar"),
        None,
        &out.join("x.layer"),
    );
    let error = alone.unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains("base"), "{message}");
    super::tree::assert_nothing_left(&out);
    // On another base it does not fit.
    fs::create_dir(place.join("other")).unwrap();
    let other = baked(&place.join("other"), None, &place.join("other.layer"));
    let other = BaseStack::of(&[other]).unwrap();
    let error = try_bake(&place.join("upper.tar"), Some(&other), &out.join("x.layer")).unwrap_err();
    assert!(format!("{error:#}").contains("another base"), "{error:#}");
}
