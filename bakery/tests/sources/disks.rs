//! Disks with several file systems, mounted as the system's `etc/fstab` says. Needs root and loop
//! devices.

use std::fs;
use std::path::Path;

use super::images::Mounted;
use super::tree::{assert_same, dump, scratch, shell};
use bakery::assemble::Reading;
use source::open::{SourceOptions, open};
use wire::exclude::Excludes;

/// The dump of a tree, and the notes of its bake.
fn baked(source: &Path, options: &SourceOptions, output: &Path) -> (String, String) {
    let mut source = open(source, options).unwrap();
    let excludes = Excludes::default();
    let recipe = super::tree::recipe(&excludes, Reading::Whole);
    let report = bakery::bake::bake(&mut *source, None, &recipe, output).unwrap();
    let layer = layerfmt::Layer::open(output).unwrap();
    (dump(&layer), report.notes.join("\n"))
}

/// Root on XFS, `/boot` on ext4, `/home` on XFS, as installers of RHEL and Ubuntu make them.
#[test]
fn partitions_are_mounted_as_a_boot_mounts_them() {
    let (_guard, place) = scratch();
    shell(
        "truncate -s 320M root.img home.img; \
         mkfs.xfs -q -m uuid=11111111-2222-3333-4444-55555555abcd root.img; mkfs.xfs -q home.img; \
         mke2fs -q -F -t ext4 -L BOOT boot.img 32M; \
         mke2fs -q -F -t ext4 -U 66666666-2222-3333-4444-555555555555 data.img 8M; \
         debugfs -w -R 'feature needs_recovery' data.img 2>/dev/null >/dev/null",
        &place,
    );
    let root = Mounted::new(&place.join("root.img"), "rw", &place.join("mnt"));
    fs::create_dir_all(root.0.join("etc")).unwrap();
    fs::write(
        root.0.join("etc/fstab"),
        "UUID=11111111-2222-3333-4444-55555555ABCD / xfs defaults 0 0\n\
         PARTUUID=77777777-2222-3333-4444-555555555555 /home xfs defaults 0 0\n\
         LABEL=BOOT /boot ext4 defaults 0 2\n\
         LABEL=BOOT /again ext4 defaults 0 2\n\
         UUID=66666666-2222-3333-4444-555555555555 /data ext4 defaults 0 2\n\
         UUID=AB12-CD34 /boot/efi vfat umask=0077 0 1\n\
         /dev/sdb1 /other ext4 defaults 0 2\n",
    )
    .unwrap();
    shell(
        "mkdir -p usr/bin boot home data again; touch usr/bin/tool home/hidden",
        &root.0,
    );
    let boot = Mounted::new(&place.join("boot.img"), "rw", &root.0.join("boot"));
    let home = Mounted::new(&place.join("home.img"), "rw", &root.0.join("home"));
    shell(
        "mkdir boot/efi home/joe; seq 1 3000 > boot/vmlinuz; ln boot/vmlinuz boot/vmlinuz.old; \
         seq 1 9000 > home/joe/file; ln home/joe/file home/joe/link; setfattr -n user.a -v b home/joe",
        &root.0,
    );
    let across = SourceOptions {
        across: true,
        ..SourceOptions::default()
    };
    let (expected, _) = baked(&root.0, &across, &place.join("expected.layer"));
    drop((boot, home));
    drop(root);
    shell(
        "truncate -s 800M disk.img; \
         printf 'label: gpt\\nstart=2048,size=2048,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\\nstart=4096,size=65536\\n\
start=69632,size=655360\\nstart=724992,size=655360,uuid=77777777-2222-3333-4444-555555555555\\nstart=1380352,size=16384\\n' \
           | sfdisk -q disk.img; \
         dd if=boot.img of=disk.img bs=512 seek=4096 conv=notrunc,sparse status=none; \
         dd if=root.img of=disk.img bs=512 seek=69632 conv=notrunc,sparse status=none; \
         dd if=home.img of=disk.img bs=512 seek=724992 conv=notrunc,sparse status=none; \
         dd if=data.img of=disk.img bs=512 seek=1380352 conv=notrunc,sparse status=none",
        &place,
    );
    let options = SourceOptions::default();
    let (got, notes) = baked(&place.join("disk.img"), &options, &place.join("got.layer"));
    assert_same("the disk", &expected, &got);
    assert!(
        got.contains("\n/home/joe/file f ") && !got.contains("hidden"),
        "{got}"
    );
    for note in [
        "the system is partition 3, the only one with a /usr",
        "/boot is partition 2, mounted as in etc/fstab",
        "/home is partition 4, mounted as in etc/fstab",
        "etc/fstab mounts partition 5 at /data, which is not read: ",
    ] {
        assert!(notes.contains(note), "{note}: {notes}");
    }
    assert!(
        !notes.contains("/again") && !notes.contains("/other"),
        "{notes}"
    );
}
