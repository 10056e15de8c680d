//! File system images and disks from their real producers, compared with the kernel's own driver.
//! Needs root and loop devices.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::tree::{assert_same, baked, dump, everything, run, scratch, set_xattr, shell, try_bake};
use bakery::assemble::Reading;
use source::Limits;
use source::open::{SourceOptions, open};
use wire::exclude::Excludes;

/// A mounted image: its mount point and the image. When it is dropped, it is unmounted, and the
/// kernel has written all of it.
pub struct Mounted(pub PathBuf, PathBuf);

impl Mounted {
    pub fn new(image: &Path, options: &str, at: &Path) -> Mounted {
        fs::create_dir_all(at).unwrap();
        let (file, place) = (image.to_str().unwrap(), at.to_str().unwrap());
        run("mount", &["-o", &format!("loop,{options}"), file, place]);
        Mounted(at.to_owned(), image.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        // The loop device ends with the last mount. A process in another mount namespace can hold
        // it a moment longer; an image with several mounts has several devices.
        for _ in 0..300 {
            let mut losetup = Command::new("losetup");
            let devices = losetup.arg("-j").arg(&self.1).output();
            if devices.map_or(true, |devices| devices.stdout.is_empty()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A tree with all kinds of objects, and with difficulties of images: many names, deep holes, large
/// attributes, long links.
pub fn rich(place: &Path) -> PathBuf {
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    shell(
        "mkdir many small; (cd many; seq -f 'a-rather-long-name-for-a-file-%06g' 1 2500 | xargs touch -d @1234567890.5); \
         printf x > small/one; ln -s \"$(printf '%0200d' 7)\" small/long; ln -s short small/short; \
         head -c 3000000 /dev/urandom > small/random; yes some text | head -c 700000 > small/text; \
         truncate -s 3G small/hole; printf end | dd of=small/hole bs=1 seek=3000000000 conv=notrunc status=none",
        &tree,
    );
    set_xattr(&tree.join("small/one"), "user.large", &vec![7; 3000]);
    tree
}

/// Adds the objects that take the less usual forms of an inode to the tree mounted at `root`, with
/// many attributes on the file `crowded`.
pub fn unusual(root: &Path, crowded: &str) {
    shell(
        "mkdir -m 2775 small/listed; \
         setfacl -m u:54321:r-x,m::r-x small/listed; setfacl -d -m u:54322:rwx,g:54323:r-- small/listed; \
         touch -d 1902-01-01T00:00:00.25Z small/old; mknod small/device c 511 262143; mknod small/disk b 8 1; \
         fallocate -l 8M small/allocated; printf middle | dd of=small/allocated bs=1 seek=4000000 conv=notrunc status=none; \
         (cd many; rm -f *000[0-9][13579]); mkdir -p empty/with; touch empty/$(printf 'n%.0s' $(seq 255))",
        root,
    );
    for number in 0..60 {
        let name = format!("user.attribute-{number:04}");
        set_xattr(&root.join(crowded), &name, &vec![number; 500]);
    }
    set_xattr(&root.join("small/listed"), "trusted.mine", b"");
    set_xattr(
        &root.join("small/random"),
        "security.selinux",
        b"system_u:object_r:etc_t:s0\0",
    );
    // So many pieces that they need a tree.
    let file = fs::File::create(root.join("small/pieces")).unwrap();
    for piece in 0..2500u64 {
        file.write_all_at(&[piece as u8; 700], piece * 16_384)
            .unwrap();
        if piece % 250 == 0 {
            file.sync_all().unwrap();
        }
    }
}

/// The image shows the tree of the kernel.
pub fn assert_as_mounted(what: &str, image: &Path, place: &Path) {
    let mount = Mounted::new(image, "ro", &place.join("mnt"));
    let expected = dump(&baked(&mount.0, None, &place.join("expected.layer")));
    drop(mount);
    let got = dump(&baked(image, None, &place.join("got.layer")));
    assert_same(what, &expected, &got);
    assert!(got.lines().count() > 2000, "{what}: {got}");
}

#[test]
fn ext_images_are_read_as_the_kernel_reads_them() {
    let (_guard, place) = scratch();
    rich(&place);
    let table: [(&str, &str); 7] = [
        ("ext4", "-t ext4"),
        ("ext2, small blocks", "-t ext2 -b 1024 -I 128"),
        ("ext3", "-t ext3"),
        ("inline data", "-t ext4 -O inline_data -I 256"),
        ("attributes in inodes", "-t ext4 -O ea_inode"),
        (
            "no checksums, meta groups",
            "-t ext4 -O ^metadata_csum,^resize_inode,meta_bg -b 1024",
        ),
        ("clusters", "-t ext4 -O bigalloc -C 65536"),
    ];
    for (what, options) in table {
        let image = place.join("x.img");
        let _ = fs::remove_file(&image);
        shell(
            &format!("truncate -s 300M x.img; mke2fs -q -F {options} x.img"),
            &place,
        );
        let mount = Mounted::new(&image, "rw", &place.join("mnt"));
        // Features that a file system cannot store (old inodes: attributes and times) are not
        // expected.
        let _ = Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", place.join("tree").display()))
            .arg(&mount.0)
            .output()
            .unwrap();
        if options.contains("ea_inode") {
            set_xattr(&mount.0.join("small/one"), "user.huge", &[7; 20_000]);
        }
        drop(mount);
        assert_as_mounted(what, &image, &place);
    }
    // As distributions make them, without a mount.
    shell(
        "rm x.img; mke2fs -q -F -t ext4 -b 4096 -d tree x.img 300M",
        &place,
    );
    assert_as_mounted("mke2fs -d", &place.join("x.img"), &place);
}

#[test]
fn erofs_images_are_read_as_the_kernel_reads_them() {
    let (_guard, place) = scratch();
    rich(&place);
    shell("rm tree/small/hole", &place);
    for options in [
        "",
        "-zlz4hc",
        "-zlz4hc -C65536",
        "-zlz4hc,9 -Eztailpacking",
        "-zlz4hc -C65536 -Efragments",
        "-Elegacy-compress -zlz4",
        "--chunksize=4096",
    ] {
        let _ = fs::remove_file(place.join("x.erofs"));
        shell(
            &format!("mkfs.erofs --quiet {options} x.erofs tree >/dev/null"),
            &place,
        );
        assert_as_mounted(&format!("erofs {options}"), &place.join("x.erofs"), &place);
    }
}

/// Offsets of the blocks of 4 KiB of an image that are not all zeros.
pub fn used_blocks(image: &Path) -> Vec<u64> {
    let whole = fs::read(image).unwrap();
    let blocks = whole.chunks(4096).zip((0u64..).step_by(4096));
    let used = blocks.filter(|(block, _)| block.iter().any(|&byte| byte != 0));
    used.map(|(_, at)| at).collect()
}

/// The message about an unreadable source.
pub fn refusal(source: &Path, options: &SourceOptions, place: &Path) -> String {
    let excludes = Excludes::default();
    let read = open(source, options)
        .map_err(anyhow::Error::from)
        .and_then(|mut source| {
            let recipe = super::tree::recipe(&excludes, Reading::Whole);
            let output = place.join("no.layer");
            Ok(bakery::bake::bake(&mut *source, None, &recipe, &output)?)
        });
    format!(
        "{:#}",
        read.err()
            .unwrap_or_else(|| panic!("{} was read", source.display()))
    )
}

#[test]
fn partitions_of_disks_are_found() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    shell(
        "mke2fs -q -F -t ext4 -d tree part.img 32M; mkdir -p other/usr; mke2fs -q -F -t ext2 -d other other.img 4M; \
         mkdir -p boot/grub; mke2fs -q -F -t ext2 -d boot boot.fs 4M; \
         for table in gpt dos; do truncate -s 80M $table.img; done; \
         printf 'label: gpt\nstart=2048,size=8192,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\nstart=16384,size=65536\n' | sfdisk -q gpt.img; \
         printf 'label: dos\nstart=2048,size=8192,type=c\nstart=12288,size=100000,type=5\nstart=16384,size=65536,type=83\n' | sfdisk -q dos.img; \
         for table in gpt dos; do dd if=part.img of=$table.img bs=512 seek=16384 conv=notrunc,sparse status=none; done; \
         cp --sparse=always gpt.img two.img; dd if=other.img of=two.img bs=512 seek=2048 conv=notrunc status=none; \
         cp --sparse=always gpt.img boot.img; dd if=boot.fs of=boot.img bs=512 seek=2048 conv=notrunc status=none; \
         cp --sparse=always gpt.img lvm.img; dd if=/dev/zero of=lvm.img bs=512 seek=16384 count=8 conv=notrunc status=none; \
         printf LABELONE | dd of=lvm.img bs=512 seek=16385 conv=notrunc status=none; \
         qemu-img convert -q -O qcow2 -c dos.img disk.qcow2; qemu-img create -q -f qcow2 -b dos.img -F raw backed.qcow2",
        &place,
    );
    let expected = dump(&baked(
        &place.join("part.img"),
        None,
        &place.join("expected.layer"),
    ));
    // Of two file systems the one with a /usr is the system: boot.img is a disk with a /boot.
    for disk in ["gpt.img", "dos.img", "disk.qcow2", "boot.img"] {
        let got = dump(&baked(&place.join(disk), None, &place.join("got.layer")));
        assert_same(disk, &expected, &got);
    }
    // A volume that hides a file system is named, with the remedy.
    let said = refusal(&place.join("lvm.img"), &SourceOptions::default(), &place);
    assert!(
        said.contains("2 (32 MiB, an LVM physical volume: activate it,"),
        "{said}"
    );
    // Two systems: the user must select one.
    let said = refusal(&place.join("two.img"), &SourceOptions::default(), &place);
    assert!(
        said.contains("--partition") && said.contains("2 (32 MiB, an ext4 file system)"),
        "{said}"
    );
    let options = |partition| SourceOptions {
        partition: Some(partition),
        ..SourceOptions::default()
    };
    let excludes = Excludes::default();
    let mut second = open(&place.join("two.img"), &options(2)).unwrap();
    let report = bakery::bake::bake(
        &mut *second,
        None,
        &super::tree::recipe(&excludes, Reading::Whole),
        &place.join("got.layer"),
    );
    assert!(report.unwrap().entries > 10);
    let said = refusal(&place.join("two.img"), &options(7), &place);
    assert!(said.contains("no partition 7"), "{said}");
    let said = refusal(
        &place.join("backed.qcow2"),
        &SourceOptions::default(),
        &place,
    );
    assert!(said.contains("backing file"), "{said}");
}

#[test]
fn images_that_are_not_read_say_what_to_do() {
    let (_guard, place) = scratch();
    shell(
        "mkdir tree; echo x > tree/x; \
         mke2fs -q -F -t ext4 -d tree dirty.img 8M; debugfs -w -R 'feature needs_recovery' dirty.img 2>/dev/null >/dev/null; \
         mke2fs -q -F -t ext4 -d tree ext4.img 8M; zstd -q ext4.img; truncate -s 1M zeros; truncate -s 64K padded; \
         mksquashfs tree x.sqfs -quiet -no-progress; cat x.sqfs >> padded; \
         echo tree | cpio -o -H newc > x.cpio 2>/dev/null",
        &place,
    );
    for (name, what) in [
        ("dirty.img", "e2fsck"),
        ("ext4.img.zst", "an ext4 file system is compressed in it"),
        ("zeros", "zeros"),
        ("padded", "not a tar archive"),
        ("x.cpio", "cpio"),
    ] {
        let said = refusal(&place.join(name), &SourceOptions::default(), &place);
        assert!(said.contains(what), "{name}: {said}");
        assert!(!place.join("no.layer").exists(), "{name}");
    }
    // A stream cannot be sought in.
    let image = fs::File::open(place.join("ext4.img")).unwrap();
    let streamed = source::open::open_stream("a stream", image, &SourceOptions::default());
    let said = streamed.err().unwrap().to_string();
    assert!(said.contains("give its path"), "{said}");
}

#[test]
fn bounds_hold_for_images_too() {
    let (_guard, place) = scratch();
    shell(
        "mkdir tree; seq 1 200000 > tree/x; touch tree/y; mke2fs -q -F -t ext4 -d tree ext4.img 8M",
        &place,
    );
    let limited = |entries_max, expanded_len_max| SourceOptions {
        limits: Limits {
            entries_max,
            expanded_len_max,
        },
        ..SourceOptions::default()
    };
    let said = refusal(&place.join("ext4.img"), &limited(2, 1 << 30), &place);
    assert!(said.contains("--max-entries"), "{said}");
    let said = refusal(&place.join("ext4.img"), &limited(100, 1 << 20), &place);
    assert!(said.contains("--max-bytes"), "{said}");
    // A directory that claims to have 1 GiB costs no memory for it.
    shell(
        "cp ext4.img large.img; debugfs -w -R 'sif <2> size 1073741824' large.img 2>/dev/null",
        &place,
    );
    let measured = Command::new("python3")
        .args([
            "-c",
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); \
             print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
            env!("CARGO_BIN_EXE_bakery"),
            "bake",
            "large.img",
            "-o",
            "large.layer",
        ])
        .current_dir(&place)
        .output()
        .unwrap();
    assert!(measured.status.success(), "{measured:?}");
    let peak = String::from_utf8(measured.stdout).unwrap();
    let peak_kib: u64 = peak.trim().parse().unwrap();
    assert!(peak_kib < 512 << 10, "{peak_kib} KiB");
    // A flipped bit is an error or the same tree, and never a panic.
    let whole = fs::read(place.join("ext4.img")).unwrap();
    for step in 0..120usize {
        let mut bytes = whole.clone();
        let at = 1024 + step * 229 % 180_000;
        bytes[at] ^= 1 << (step % 8);
        fs::write(place.join("bad.img"), &bytes).unwrap();
        let _ = try_bake(&place.join("bad.img"), None, &place.join("bad.layer"));
    }
}
