//! Live media in several parts, trees that are not systems, and kernel parameters: by the program
//! itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::tree::{run, scratch, shell};
use crate::scratch::Scratch;

/// A store, and the inputs to import.
struct TestBakery {
    _guard: Scratch,
    place: PathBuf,
}

impl TestBakery {
    fn new() -> TestBakery {
        let (guard, place) = scratch();
        let bakery = TestBakery {
            _guard: guard,
            place,
        };
        bakery.done(&["init"]);
        bakery
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bakery"))
            .args(["--store", "store"])
            .args(arguments)
            .current_dir(&self.place)
            .output()
            .unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The import of `source` answers; its layers, lowest first, are numbered in `layers`.
    fn import(&self, source: &str, more: &[&str]) -> serde_json::Value {
        let arguments = [
            &[
                "import",
                "x",
                source,
                "--json",
                "--level",
                "1",
                "--no-default-excludes",
            ],
            more,
        ]
        .concat();
        serde_json::from_str(&self.done(&arguments)).unwrap()
    }

    /// An import that must be refused; nothing is published.
    fn refused(&self, source: &str) -> String {
        let before = self.revisions();
        let output = self.run(&["import", "x", source, "--level", "1"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{source}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{source}: {said}");
        assert_eq!(self.revisions(), before, "{source}");
        said
    }

    fn revisions(&self) -> usize {
        fs::read_dir(self.place.join("store/refs/x/main")).map_or(0, Iterator::count)
    }

    /// Names and texts of the newest revision's tree.
    fn tree(&self, answer: &serde_json::Value) -> PathBuf {
        let reports = [&answer["report"]]
            .into_iter()
            .chain(answer["above"].as_array().unwrap());
        let layers: Vec<String> = reports
            .map(|report| format!("store/layers/{}.layer", report["layer"].as_str().unwrap()))
            .collect();
        let out = self.place.join("out");
        let _ = fs::remove_dir_all(&out);
        let mut arguments = vec!["unpack"];
        arguments.extend(layers.iter().map(String::as_str));
        arguments.extend(["-o", "out"]);
        self.done(&arguments);
        out
    }
}

/// Three trees as overlays stack them: the second changes a file, removes one and replaces a
/// directory; the third adds one.
const PARTS: &str = "mkdir -p a/usr/sbin a/etc/d b/etc/d c/etc; ln -s usr/sbin a/sbin; echo i > a/usr/sbin/init; \
    echo old > a/etc/changed; echo gone > a/etc/gone; echo hidden > a/etc/d/hidden; \
    echo new > b/etc/changed; mknod b/etc/gone c 0 0; echo shown > b/etc/d/shown; setfattr -n trusted.overlay.opaque -v y b/etc/d; \
    echo live > c/etc/live; ";

fn check_parts(out: &Path) {
    let text = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
    assert_eq!(
        (&*text("etc/changed"), &*text("etc/live")),
        ("new\n", "live\n")
    );
    assert_eq!(text("etc/d/shown"), "shown\n");
    assert!(!out.join("etc/gone").exists() && !out.join("etc/d/hidden").exists());
    assert_eq!(text("usr/sbin/init"), "i\n");
}

#[test]
fn every_part_of_a_medium_is_a_layer_of_the_revision() {
    let bakery = TestBakery::new();
    let pack = |from: &str, to: &str| {
        format!("mksquashfs {from} content/{to} -noappend -quiet -no-progress; ")
    };
    let make = "rm -f x.iso; xorriso -as mkisofs -quiet -R -J -o x.iso content; ";
    let ubuntu = [
        PARTS,
        "mkdir -p content/casper content/boot/grub; \
         printf 'menuentry \"Try\" {\\n linux /casper/vmlinuz --- quiet splash\\n initrd /casper/initrd\\n}\\n' > content/boot/grub/grub.cfg; \
         echo k > content/casper/vmlinuz; echo i > content/casper/initrd; ",
        &pack("a", "casper/minimal.squashfs"),
        &pack("b", "casper/minimal.standard.squashfs"),
        &pack("c", "casper/minimal.standard.live.squashfs"),
        &pack("c", "casper/minimal.de.squashfs"),
        make,
    ]
    .concat();
    shell(&ubuntu, &bakery.place);
    let answer = bakery.import("x.iso", &[]);
    assert_eq!(answer["above"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&answer["cmdline"], &answer["kernel"]),
        (&"quiet splash".into(), &"casper/vmlinuz".into())
    );
    check_parts(&bakery.tree(&answer));
    let verified = bakery.run(&["show", "x@1"]);
    assert!(verified.status.success());
    // One part by its name includes the parts below it.
    let answer = bakery.import("x.iso", &["--member", "casper/minimal.standard.squashfs"]);
    assert_eq!(answer["above"].as_array().unwrap().len(), 1);
    // `bake` makes one layer.
    let output = bakery.run(&["bake", "x.iso", "-o", "x.layer"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("has several parts"),
        "{said}"
    );

    // Debian's list decides; names that come first in the alphabet are not lowest.
    let debian = [
        "rm -rf content; mkdir -p content/live; printf 'z.squashfs\\nb.squashfs\\na.squashfs\\n' > content/live/filesystem.module; ",
        &pack("a", "live/z.squashfs"),
        &pack("b", "live/b.squashfs"),
        &pack("c", "live/a.squashfs"),
        make,
    ]
    .concat();
    shell(&debian, &bakery.place);
    let answer = bakery.import("x.iso", &[]);
    assert_eq!(answer["above"].as_array().unwrap().len(), 2);
    check_parts(&bakery.tree(&answer));
    shell(
        "rm x.iso; echo missing.squashfs >> content/live/filesystem.module; xorriso -as mkisofs -quiet -R -J -o x.iso content",
        &bakery.place,
    );
    assert!(bakery.refused("x.iso").contains("live/missing.squashfs"));
}

#[test]
fn what_is_no_system_is_not_published() {
    let bakery = TestBakery::new();
    shell(
        "mkdir -p tree/etc oci/blobs/sha256 one docker; echo x > tree/etc/x; echo '{}' > oci/oci-layout; echo '{}' > oci/index.json; \
         mke2fs -q -F -t ext4 -d tree one/rootfs.img 8M; cp one/rootfs.img ext4.img; mkfs.erofs --quiet x.erofs tree > /dev/null; \
         tar -cf none.tar -T /dev/null; tar -cf first.tar tree; cat first.tar first.tar > joined.tar; truncate -s 1M zeros.img; \
         mksquashfs one x.sqfs -quiet -no-progress; truncate -s 300M b.img; mkfs.btrfs -q --rootdir tree b.img >/dev/null; truncate -s 320M x.xfs; mkfs.xfs -q x.xfs; echo '[]' > docker/manifest.json; echo '{}' > docker/repositories",
        &bakery.place,
    );
    for (source, what) in [
        ("tree", "no /usr"),
        ("oci", "podman export"),
        ("docker", "podman export"),
        ("one", "rootfs.img"),
        ("x.sqfs", "rootfs.img"),
        ("ext4.img", "no /usr"),
        ("x.erofs", "no /usr"),
        ("none.tar", "it is empty"),
        ("joined.tar", "continues after its end mark"),
        ("zeros.img", "zeros"),
        ("b.img", "no /usr"),
        ("x.xfs", "it is empty"),
        ("/dev/null", "empty"),
    ] {
        let said = bakery.refused(source);
        assert!(said.contains(what), "{source}: {said}");
    }
    // An explicit option allows it.
    bakery.import("tree", &["--no-check"]);
    bakery.import("none.tar", &["--allow-empty"]);
    assert_eq!(bakery.revisions(), 2);
}

#[test]
fn kernel_parameters_are_set_anew() {
    let bakery = TestBakery::new();
    shell("mkdir tree; echo x > tree/x", &bakery.place);
    bakery.import("tree", &["--no-check", "--cmdline", "quiet"]);
    let manifest = |name: &str| -> serde_json::Value {
        serde_json::from_str(&bakery.done(&["show", name, "--json"])).unwrap()
    };
    let before = manifest("x@1");
    bakery.done(&["set", "x", "--cmdline", "console=ttyS0 username=visitor"]);
    let after = manifest("x@2");
    let shown = after.to_string();
    assert!(shown.contains("console=ttyS0 username=visitor"), "{shown}");
    assert!(before.to_string().contains("quiet"));
    // The same again is refused, an unknown system too.
    for arguments in [
        ["set", "x", "--cmdline", "console=ttyS0 username=visitor"],
        ["set", "y", "--cmdline", "z"],
    ] {
        assert_eq!(
            bakery.run(&arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    bakery.done(&["set", "x", "--cmdline", ""]);
    run(
        "test",
        &[
            "-d",
            bakery.place.join("store/refs/x/main").to_str().unwrap(),
        ],
    );
    assert_eq!(bakery.revisions(), 3);
}
