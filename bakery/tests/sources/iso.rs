//! Live ISOs made with xorriso in the layouts of ALT and Debian.

use std::fs::{self, File};
use std::path::Path;

use super::tree::{assert_same, baked, coarse, dump, everything, run, scratch, shell};
use bakery::source::iso::Iso;
use bakery::source::open::{Options, open};

fn image(tree: &Path, name: &Path) {
    fs::create_dir_all(name.parent().unwrap()).unwrap();
    let (tree, name) = (tree.to_str().unwrap(), name.to_str().unwrap());
    run(
        "mksquashfs",
        &[
            tree,
            name,
            "-comp",
            "xz",
            "-noappend",
            "-quiet",
            "-no-progress",
        ],
    );
}

#[test]
fn systems_kernels_and_initrds_are_found() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    shell("touch -d @7 etc/acl", &tree);
    let expected = coarse(&dump(&baked(&tree, None, &place.join("expected.layer"))));
    let table: [(&str, &str, &[&str], (&str, &str)); 3] = [
        (
            "alt live",
            "live",
            &[
                "boot/vmlinuz",
                "boot/initrd.img",
                ".disk/info",
                "EFI/BOOT/bootx64.efi",
            ],
            ("boot/vmlinuz", "boot/initrd.img"),
        ),
        (
            "alt installer",
            "altinst",
            &[
                "syslinux/alt0/vmlinuz",
                "syslinux/alt0/full.cz",
                "ALTLinux/RPMS.main/a.rpm",
            ],
            ("syslinux/alt0/vmlinuz", "syslinux/alt0/full.cz"),
        ),
        (
            "debian live",
            "live/filesystem.squashfs",
            &[
                "live/vmlinuz-6.1.0-9-amd64",
                "live/initrd.img-6.1.0-9-amd64",
                "isolinux/menu.cfg",
            ],
            (
                "live/vmlinuz-6.1.0-9-amd64",
                "live/initrd.img-6.1.0-9-amd64",
            ),
        ),
    ];
    for (name, system, others, (kernel, initrd)) in table {
        let content = place.join("content");
        let _ = fs::remove_dir_all(&content);
        image(&tree, &content.join(system));
        for other in others {
            fs::create_dir_all(content.join(other).parent().unwrap()).unwrap();
            fs::write(content.join(other), other).unwrap();
        }
        let iso = place.join("x.iso");
        let _ = fs::remove_file(&iso);
        let (iso_text, content) = (iso.to_str().unwrap(), content.to_str().unwrap());
        run(
            "xorriso",
            &[
                "-as", "mkisofs", "-quiet", "-R", "-J", "-o", iso_text, content,
            ],
        );
        let got = dump(&baked(&iso, None, &place.join("got.layer")));
        assert_same(name, &expected, &coarse(&got));
        let opened = Iso::open(name, &File::open(&iso).unwrap()).unwrap();
        assert_eq!(opened.system(None).unwrap(), system);
        let files = opened.boot_files().unwrap();
        assert_eq!(
            (files.kernel.as_str(), files.initrd.as_str()),
            (kernel, initrd)
        );
        assert_eq!(opened.boot_file(kernel).unwrap(), kernel.as_bytes());
        assert_eq!(opened.boot_file(initrd).unwrap(), initrd.as_bytes());
    }
}

#[test]
fn an_iso_without_a_system_says_what_was_looked_for() {
    let (_guard, place) = scratch();
    fs::create_dir(place.join("content")).unwrap();
    fs::write(place.join("content/other.squashfs"), "x").unwrap();
    let (iso, content) = (place.join("x.iso"), place.join("content"));
    let (iso_text, content) = (iso.to_str().unwrap(), content.to_str().unwrap());
    run(
        "xorriso",
        &["-as", "mkisofs", "-quiet", "-R", "-o", iso_text, content],
    );
    let error = open(&iso, &Options::default()).err().unwrap().to_string();
    assert!(
        error.contains("altinst") && error.contains("other.squashfs"),
        "{error}"
    );
    let options = Options {
        member: Some("other.squashfs".into()),
        ..Options::default()
    };
    let error = open(&iso, &options).err().unwrap().to_string();
    assert!(error.contains("no squashfs image"), "{error}");
}
