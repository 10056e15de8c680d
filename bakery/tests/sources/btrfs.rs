//! btrfs images from mkfs.btrfs, populated by the kernel, compared with the kernel's own view. Needs
//! root and loop devices.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::images::{self, Mounted, assert_as_mounted, refusal, rich, used_blocks};
use super::tree::{assert_same, baked, dump, scratch, set_xattr, shell, try_bake};
use source::open::{SourceOptions, open};

/// Objects that take the less usual forms, in the tree mounted at `root`.
fn unusual(root: &Path) {
    shell(
        "ln -s \"$(printf '%02000d' 7)\" small/longer; touch -d 2400-01-01T00:00:00.125Z small/late; \
         cp --reflink=always small/random small/shared; printf y | dd of=small/shared bs=1 seek=900000 conv=notrunc status=none; \
         head -c 900000 small/text | dd of=small/text bs=1M oflag=append conv=notrunc status=none; truncate -s 500001 small/text; \
         printf inline > small/inline; truncate -s 9000 small/inline; : > small/nosum; chattr +C small/nosum; \
         head -c 300000 /dev/urandom > small/nosum; mkdir many-names; touch many-names/one; \
         for n in $(seq 1 300); do ln many-names/one many-names/a-name-so-long-that-one-item-does-not-hold-all-$n 2>&- || break; done",
        root,
    );
    images::unusual(root, "small/one");
}

#[test]
fn btrfs_images_are_read_as_the_kernel_reads_them() {
    let (_guard, place) = scratch();
    rich(&place);
    for (options, mounted) in [
        ("", "rw"),
        ("-n 65536 --csum xxhash", "rw,compress-force=zstd:3"),
        ("-n 4096 --csum sha256 -m single", "rw,compress-force=zlib"),
        (
            "-M --csum blake2 -O ^no-holes,^extref,^skinny-metadata",
            "rw,compress-force=lzo",
        ),
        ("-d dup", "rw,nodatasum"),
    ] {
        let image = place.join("x.img");
        let _ = fs::remove_file(&image);
        shell(
            &format!("truncate -s 600M x.img; mkfs.btrfs -q {options} x.img >/dev/null"),
            &place,
        );
        let mount = Mounted::new(&image, mounted, &place.join("mnt"));
        // An attribute has to fit into a block.
        let small_blocks = options.contains("-n 4096");
        if small_blocks {
            shell("setfattr -x user.large ../tree/small/one", &mount.0);
        }
        shell(
            &format!("cp -a '{}/.' .", place.join("tree").display()),
            &mount.0,
        );
        unusual(&mount.0);
        drop(mount);
        assert_as_mounted(&format!("{options}, {mounted}"), &image, &place);
        if small_blocks {
            set_xattr(&place.join("tree/small/one"), "user.large", &vec![7; 3000]);
        }
    }
    // As distributions make them, without a mount.
    shell(
        "rm x.img tree/small/hole; truncate -s 600M x.img; mkfs.btrfs -q --rootdir tree x.img >/dev/null",
        &place,
    );
    assert_as_mounted("mkfs.btrfs --rootdir", &place.join("x.img"), &place);
}

#[test]
fn a_large_directory_of_btrfs_is_read_whole() {
    let (_guard, place) = scratch();
    shell(
        "truncate -s 400M x.img; mkfs.btrfs -q x.img >/dev/null",
        &place,
    );
    let image = place.join("x.img");
    let mount = Mounted::new(&image, "rw", &place.join("mnt"));
    shell(
        "mkdir many; cd many; seq -f 'name-%06g' 1 100000 | xargs touch; seq -f 'name-%06g' 1 3 100000 | xargs rm",
        &mount.0,
    );
    drop(mount);
    assert_as_mounted("100,000 names", &image, &place);
}

/// The notes of a bake of `image`.
fn notes(image: &Path, options: &SourceOptions, output: &Path) -> Vec<String> {
    let mut source = open(image, options).unwrap();
    let excludes = wire::exclude::Excludes::default();
    let recipe = super::tree::recipe(&excludes, bakery::assemble::Reading::Whole);
    let report = bakery::bake::bake(&mut *source, None, &recipe, output).unwrap();
    report.notes
}

#[test]
fn the_subvolume_of_the_system_is_read() {
    let (_guard, place) = scratch();
    shell(
        "truncate -s 300M x.img; mkfs.btrfs -q x.img >/dev/null",
        &place,
    );
    let image = place.join("x.img");
    let change = |script: &str| {
        let mount = Mounted::new(&image, "rw,subvol=/", &place.join("mnt"));
        shell(script, &mount.0);
    };
    let output = place.join("got.layer");
    let read = |subvolume: Option<&str>| {
        let options = SourceOptions {
            subvolume: subvolume.map(str::to_owned),
            ..SourceOptions::default()
        };
        let notes = notes(&image, &options, &output);
        (dump(&layerfmt::Layer::open(&output).unwrap()), notes)
    };
    // An installer's layout: the system and the homes are subvolumes of the top.
    change(
        "btrfs -q subvolume create root; btrfs -q subvolume create home; mkdir -p root/usr/bin root/var home/joe; \
         btrfs -q subvolume create root/var/inside; touch root/usr/bin/tool root/var/inside/x",
    );
    let (tree, notes) = read(None);
    assert!(
        tree.contains("\n/usr/bin/tool f ") && !tree.contains("joe"),
        "{tree}"
    );
    assert!(tree.contains("\n/var/inside/x f "), "{tree}");
    let notes = notes.join("\n");
    assert!(
        notes.contains("the subvolume root;") && notes.contains("not read: home"),
        "{notes}"
    );
    let (tree, notes) = read(Some("/"));
    assert!(
        tree.contains("\n/root/usr/bin/tool f ") && tree.contains("\n/home/joe d "),
        "{tree}"
    );
    assert_eq!(notes, Vec::<String>::new());
    let (tree, _) = read(Some("/root/var/inside"));
    assert!(tree.contains("\n/x f "), "{tree}");
    let options = SourceOptions {
        subvolume: Some("var".to_owned()),
        ..SourceOptions::default()
    };
    let said = refusal(&image, &options, &place);
    assert!(
        said.contains("there is no subvolume var; it has root, home"),
        "{said}"
    );
    // A snapshot shows an empty directory where its source has a subvolume, as in a mount. Of
    // several systems the one with a usual name is read, unless a system mounts itself.
    change("btrfs -q subvolume snapshot root before; mkdir before/etc");
    let (_, notes) = read(None);
    assert!(
        notes.join("\n").contains("the subvolume root;"),
        "{notes:?}"
    );
    change("mv root system");
    let said = refusal(&image, &SourceOptions::default(), &place);
    assert!(said.contains("--subvolume; before, system"), "{said}");
    change(
        "mkdir system/etc; echo 'UUID=1 / btrfs rw,subvol=/system' > system/etc/fstab; \
         echo 'UUID=1 / btrfs subvol=system' > before/etc/fstab",
    );
    let (_, notes) = read(None);
    assert!(
        notes.join("\n").contains("the subvolume system;"),
        "{notes:?}"
    );
    let (tree, _) = read(Some("before"));
    assert!(
        tree.contains("\n/var/inside d 0755 0:0 ") && !tree.contains("inside/x"),
        "{tree}"
    );
    // The default subvolume is the one that a mount shows.
    change("btrfs -q subvolume set-default before; touch before/snapshot");
    let (tree, _) = read(None);
    assert!(
        tree.contains("\n/snapshot f ") && tree.contains("\n/usr/bin/tool f "),
        "{tree}"
    );
}

/// The dump of a tree with the file systems that are mounted in it.
fn across(root: &Path, output: &Path) -> String {
    let options = SourceOptions {
        across: true,
        ..SourceOptions::default()
    };
    notes(root, &options, output);
    dump(&layerfmt::Layer::open(output).unwrap())
}

/// A layout of subvolumes, and what a boot makes of it.
struct BootLayout {
    /// The script that makes it, in the top.
    script: &'static str,
    root: &'static str,
    /// Subvolumes and their mount points.
    mounts: [(&'static str, &'static str); 2],
    notes: [&'static str; 3],
}

const FEDORA: BootLayout = BootLayout {
    script: "for name in root home var; do btrfs -q subvolume create $name; done; \
         mkdir -p root/usr/bin root/etc root/home root/var root/boot root/srv home/joe var/lib/rpm; \
         touch var/lib/rpm/db home/joe/file; chmod 750 var; \
         printf '%s\n' \"UUID=$uuid / btrfs subvol=root,compress=zstd:1 0 0\" \
           \"UUID=$uuid /var btrfs subvol=var 0 0\" 'LABEL=fedora /home btrfs subvol=home 0 0' \
           \"UUID=$uuid /missing btrfs subvol=nothing 0 0\" \"UUID=$uuid /boot ext4 defaults 0 0\" \
           'UUID=77 /srv btrfs subvol=home 0 0' > root/etc/fstab",
    root: "root",
    mounts: [("var", "var"), ("home", "home")],
    notes: [
        "the system is the subvolume root;",
        "/var, /home are subvolumes, mounted as in etc/fstab",
        "etc/fstab mounts /missing, which is not read: there is no such subvolume",
    ],
};

const OPENSUSE: BootLayout = BootLayout {
    script: "for name in @ @/var @/home @/.snapshots; do btrfs -q subvolume create $name; done; \
         mkdir @/.snapshots/1; btrfs -q subvolume create @/.snapshots/1/snapshot; \
         cd @/.snapshots/1/snapshot; mkdir -p usr/bin etc var home .snapshots; \
         touch usr/bin/tool ../../../var/log ../../../home/user ../info.xml; \
         printf '%s\n' \"UUID=$uuid / btrfs defaults 0 0\" \"UUID=$uuid /var btrfs subvol=/@/var 0 0\" \
           \"UUID=$uuid /.snapshots btrfs subvol=/@/.snapshots 0 0\" \
           \"UUID=$uuid /home btrfs subvol=/@/home 0 0\" > etc/fstab; \
         btrfs -q subvolume set-default .",
    root: "@/.snapshots/1/snapshot",
    mounts: [("@/var", "var"), ("@/home", "home")],
    notes: [
        "/var, /home are subvolumes, mounted as in etc/fstab",
        "etc/fstab mounts /.snapshots, which is not read: a part of it has another place",
        "not read: @, .snapshots",
    ],
};

/// The kernel mounts the same lines of `etc/fstab`.
#[test]
fn subvolumes_are_mounted_as_a_boot_mounts_them() {
    let (_guard, place) = scratch();
    let image = place.join("x.img");
    for (what, layout) in [("Fedora", FEDORA), ("openSUSE", OPENSUSE)] {
        shell(
            "rm -f x.img; truncate -s 300M x.img; mkfs.btrfs -q -L fedora x.img >/dev/null",
            &place,
        );
        let mount = Mounted::new(&image, "rw", &place.join("mnt"));
        let uuid = "uuid=$(blkid -p -s UUID -o value ../x.img)";
        shell(&format!("{uuid}; {}", layout.script), &mount.0);
        drop(mount);
        let output = place.join("got.layer");
        let found = notes(&image, &SourceOptions::default(), &output).join("\n");
        let got = dump(&layerfmt::Layer::open(&output).unwrap());
        for note in layout.notes {
            assert!(found.contains(note), "{what}: {note}: {found}");
        }
        let options = format!("ro,subvol={}", layout.root);
        let system = Mounted::new(&image, &options, &place.join("mnt"));
        for (subvolume, at) in layout.mounts {
            let mount = format!("mount -o ro,subvol={subvolume} $(findmnt -vno SOURCE .) {at}");
            shell(&mount, &system.0);
        }
        let expected = across(&system.0, &place.join("expected.layer"));
        for (_, at) in layout.mounts {
            shell(&format!("umount {at}"), &system.0);
        }
        drop(system);
        assert_same(what, &expected, &got);
        assert!(got.contains("\n/var/l"), "{got}");
    }
}

#[test]
fn btrfs_images_that_are_not_read_say_what_to_do() {
    let (_guard, place) = scratch();
    shell(
        "truncate -s 300M x.img one two; mkfs.btrfs -q x.img >/dev/null; \
         first=$(losetup -f --show one); trap 'losetup -d $first $second' EXIT; second=$(losetup -f --show two); \
         mkfs.btrfs -q -d raid1 $first $second >/dev/null; head -c 200M x.img > short.img",
        &place,
    );
    let image = place.join("x.img");
    let mount = Mounted::new(&image, "rw", &place.join("mnt"));
    // An fsync without a commit is in the log only.
    shell(
        "head -c 1000000 /dev/urandom > data; mkdir d; sync -f .; printf x > d/x; sync d/x; cp --sparse=always ../x.img ../dirty.img",
        &mount.0,
    );
    drop(mount);
    for (name, what) in [
        ("dirty.img", "mount and unmount it once"),
        ("one", "it spans 2 devices"),
        ("short.img", "truncated"),
    ] {
        let said = refusal(&place.join(name), &SourceOptions::default(), &place);
        assert!(said.contains(what), "{name}: {said}");
        assert!(!place.join("no.layer").exists(), "{name}");
    }
    // The advice helps.
    drop(Mounted::new(
        &place.join("dirty.img"),
        "rw",
        &place.join("mnt"),
    ));
    let got = dump(&baked(
        &place.join("dirty.img"),
        None,
        &place.join("got.layer"),
    ));
    assert!(
        got.contains("\n/d/x f ") && got.contains("\n/data f "),
        "{got}"
    );
}

/// Damaged data has a name; damaged copies are passed over.
#[test]
fn checksums_of_btrfs_find_damage() {
    let (_guard, place) = scratch();
    shell(
        "truncate -s 300M x.img; mkfs.btrfs -q -m dup x.img >/dev/null; mkdir tree; \
         yes 'a line that no tree has' | head -c 200000 > tree/text; yes 'a line that has two copies' | head -c 900 > tree/short",
        &place,
    );
    let image = place.join("x.img");
    let mount = Mounted::new(&image, "rw", &place.join("mnt"));
    shell("cp -a ../tree/. .", &mount.0);
    drop(mount);
    let good = dump(&baked(&image, None, &place.join("good.layer")));
    let whole = fs::read(&image).unwrap();
    let used = used_blocks(&image);
    // The first place of the words in each block that has them.
    let places = |words: &[u8]| -> Vec<u64> {
        let first = |block: &u64| {
            let bytes = &whole[*block as usize..*block as usize + 4096];
            let at = bytes
                .windows(words.len())
                .position(|window| window == words);
            at.map(|at| block + at as u64)
        };
        used.iter().filter_map(first).collect()
    };
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    let change = |at: u64| {
        let byte = whole[at as usize];
        file.write_all_at(&[byte ^ 1], at).unwrap();
        byte
    };
    // The text inside an item is in both copies of its block: one may be damaged, whichever.
    let copies = places(b"a line that has two copies\n");
    assert!(copies.len() >= 2, "{copies:?}");
    for at in &copies {
        let byte = change(*at);
        let got = dump(&baked(&image, None, &place.join("got.layer")));
        assert_same("one damaged copy", &good, &got);
        file.write_all_at(&[byte], *at).unwrap();
    }
    for at in &copies {
        change(*at);
    }
    let said = refusal(&image, &SourceOptions::default(), &place);
    assert!(said.contains("does not match its checksum"), "{said}");
    for at in &copies {
        file.write_all_at(&[whole[*at as usize]], *at).unwrap();
    }
    change(places(b"a line that no tree has\n")[20]);
    let said = refusal(&image, &SourceOptions::default(), &place);
    assert!(
        said.contains("\"text\"") && said.contains("does not match its checksum"),
        "{said}"
    );
}

#[test]
fn a_damaged_btrfs_is_an_error_and_never_a_panic() {
    let (_guard, place) = scratch();
    shell(
        "mkdir tree; seq 1 50000 > tree/x; for n in $(seq 1 400); do echo $n > tree/name-$n; done; ln tree/x tree/y; \
         ln -s x tree/z; truncate -s 120M x.img; mkfs.btrfs -q -n 4096 -m single --rootdir tree x.img >/dev/null",
        &place,
    );
    let image = place.join("x.img");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&image)
        .unwrap();
    let used = used_blocks(&image);
    let mut seed = 7u64;
    for _ in 0..150 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let block = used[(seed >> 33) as usize % used.len()];
        let mut bytes = [0; 4096];
        file.read_exact_at(&mut bytes, block).unwrap();
        let whole = bytes;
        bytes[(seed >> 20) as usize % 4096] ^= 1 << (seed >> 17 & 7);
        // Blocks of trees and the superblock: beyond the checksum.
        let digest = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[32..]) as u32;
        bytes[..4].copy_from_slice(&digest.to_le_bytes());
        file.write_all_at(&bytes, block).unwrap();
        let _ = try_bake(&image, None, &place.join("bad.layer"));
        file.write_all_at(&whole, block).unwrap();
    }
    assert!(try_bake(&image, None, &place.join("good.layer")).is_ok());
}
