//! Live ISOs made with xorriso in the layouts of ALT and Debian.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::tree::{assert_same, baked, coarse, dump, everything, run, scratch, shell};
use source::iso::Iso;
use source::open::{SourceOptions, open};

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
        assert_eq!(opened.systems(None).unwrap(), [system]);
        let files = opened.boot_files().unwrap();
        assert_eq!(
            (files.kernel.as_str(), files.initrd.as_str()),
            (kernel, initrd)
        );
        assert_eq!(opened.boot_file(kernel).unwrap(), kernel.as_bytes());
        assert_eq!(opened.boot_file(initrd).unwrap(), initrd.as_bytes());
    }
}

/// An ISO of the files in `content`.
fn iso_of(place: &Path) -> PathBuf {
    let iso = place.join("x.iso");
    let _ = fs::remove_file(&iso);
    let content = place.join("content");
    let (iso_text, content) = (iso.to_str().unwrap(), content.to_str().unwrap());
    run(
        "xorriso",
        &[
            "-as", "mkisofs", "-quiet", "-R", "-J", "-o", iso_text, content,
        ],
    );
    iso
}

#[test]
fn an_iso_without_a_system_says_what_it_has() {
    let (_guard, place) = scratch();
    fs::create_dir(place.join("content")).unwrap();
    fs::write(place.join("content/other.squashfs"), "x").unwrap();
    let iso = iso_of(&place);
    let error = open(&iso, &SourceOptions::default())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("other.squashfs"), "{error}");
    let options = |member: &str| SourceOptions {
        member: Some(member.into()),
        ..SourceOptions::default()
    };
    let error = open(&iso, &options("other.squashfs"))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("it is not a tar archive"), "{error}");
    let error = open(&iso, &options("missing")).err().unwrap().to_string();
    assert!(error.contains("no file missing"), "{error}");
}

#[test]
fn images_inside_images_are_followed() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    shell("touch -d @7 etc/acl; rm -rf var/sparse", &tree);
    shell(
        "mke2fs -q -F -t ext4 -d tree root.img 100M; mkfs.erofs --quiet -zlz4hc root.erofs tree >/dev/null",
        &place,
    );
    let ext = dump(&baked(
        &place.join("root.img"),
        None,
        &place.join("expected.layer"),
    ));
    let erofs = dump(&baked(
        &place.join("root.erofs"),
        None,
        &place.join("expected.layer"),
    ));
    let squash = "mksquashfs inner content/LiveOS/squashfs.img -noappend -quiet -no-progress";
    let table = [
        ("Fedora, KIWI", format!("mkdir -p inner/LiveOS; cp --sparse=always root.img inner/LiveOS/rootfs.img; {squash}"), &ext),
        ("Void", format!("mkdir -p inner/LiveOS; cp --sparse=always root.img inner/LiveOS/ext3fs.img; {squash}"), &ext),
        ("Fedora 42", "cp root.erofs content/LiveOS/squashfs.img".to_owned(), &erofs),
        ("image in EROFS", "mkdir -p inner/LiveOS; cp root.img inner/LiveOS/rootfs.img; mkfs.erofs --quiet content/LiveOS/squashfs.img inner >/dev/null".to_owned(), &ext),
        ("Arch", "mkdir -p content/arch/x86_64; cp root.erofs content/arch/x86_64/airootfs.erofs".to_owned(), &erofs),
        ("plain", "cp --sparse=always root.img content/LiveOS/rootfs.img".to_owned(), &ext),
    ];
    for (name, script, expected) in table {
        shell(
            &format!("rm -rf content inner; mkdir -p content/LiveOS; {script}"),
            &place,
        );
        let got = dump(&baked(&iso_of(&place), None, &place.join("got.layer")));
        assert_same(name, expected, &got);
    }
}

#[test]
fn files_that_share_an_extent_are_found_under_both_names() {
    let (_guard, place) = scratch();
    shell(
        "mkdir -p content/live content/isolinux tree/usr; echo a kernel > content/live/vmlinuz-6.1; ln content/live/vmlinuz-6.1 content/live/vmlinuz; \
         echo an initrd > content/live/initrd.img-6.1; ln content/live/initrd.img-6.1 content/live/initrd.img; \
         printf 'label live\\n linux /live/vmlinuz\\n initrd /live/initrd.img\\n append boot=live components username=visitor findiso=${iso_path}\\n' > content/isolinux/live.cfg; \
         mksquashfs tree content/live/filesystem.squashfs -quiet -no-progress; \
         xorriso -as mkisofs -quiet -R -J --hardlinks -o x.iso content",
        &place,
    );
    let iso = Iso::open("x", &File::open(place.join("x.iso")).unwrap()).unwrap();
    for name in ["live/vmlinuz", "live/vmlinuz-6.1"] {
        assert_eq!(iso.boot_file(name).unwrap(), b"a kernel\n", "{name}");
    }
    for name in ["live/initrd.img", "live/initrd.img-6.1"] {
        assert_eq!(iso.boot_file(name).unwrap(), b"an initrd\n", "{name}");
    }
    let parameters = iso.parameters(Some("live/vmlinuz-6.1"));
    assert_eq!(
        parameters.kept.join(" "),
        "boot=live components username=visitor"
    );
    assert_eq!(parameters.left_out, ["findiso=${iso_path}"]);
    assert_eq!(parameters.place, "isolinux/live.cfg");
}
