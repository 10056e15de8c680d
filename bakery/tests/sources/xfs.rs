//! XFS images from mkfs.xfs, populated by the kernel, compared with the kernel's own view. Needs
//! root and loop devices.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use super::images::{self, Mounted, assert_as_mounted, refusal, rich};
use super::tree::{baked, dump, scratch, set_xattr, shell, try_bake};
use source::open::SourceOptions;

/// Objects that take the less usual forms of an inode, in the tree mounted at `root`.
fn unusual(root: &Path) {
    shell(
        "ln -s \"$(printf '%01000d' 7)\" small/longer; printf x > small/attributes; \
         fallocate -n -l 4M small/text; cp --reflink=auto small/random small/shared",
        root,
    );
    // Attributes: one leaf, then several, and values in blocks of their own.
    images::unusual(root, "small/attributes");
    set_xattr(
        &root.join("small/attributes"),
        "user.large",
        &vec![1; 60_000],
    );
}

#[test]
fn xfs_images_are_read_as_the_kernel_reads_them() {
    let (_guard, place) = scratch();
    rich(&place);
    for (what, options) in [
        ("defaults", ""),
        (
            "small blocks, large ones of directories",
            "-b size=1024 -n size=65536",
        ),
        ("64-bit counters, large inodes", "-i nrext64=1,size=2048"),
        (
            "times until 2038, nothing shared",
            "-m bigtime=0,reflink=0 -i sparse=0",
        ),
    ] {
        let image = place.join("x.img");
        let _ = fs::remove_file(&image);
        shell(
            &format!("truncate -s 400M x.img; mkfs.xfs -q {options} x.img"),
            &place,
        );
        let mount = Mounted::new(&image, "rw", &place.join("mnt"));
        shell(
            &format!("cp -a '{}/.' .", place.join("tree").display()),
            &mount.0,
        );
        unusual(&mount.0);
        if !options.contains("bigtime=0") {
            shell("touch -d 2400-01-01T00:00:00.125Z small/late", &mount.0);
        }
        drop(mount);
        assert_as_mounted(what, &image, &place);
    }
}

#[test]
fn a_large_directory_of_xfs_is_read_whole() {
    let (_guard, place) = scratch();
    shell("truncate -s 400M x.img; mkfs.xfs -q x.img", &place);
    let image = place.join("x.img");
    let mount = Mounted::new(&image, "rw", &place.join("mnt"));
    shell(
        "mkdir many; cd many; seq -f 'name-%06g' 1 100000 | xargs touch; seq -f 'name-%06g' 1 3 100000 | xargs rm",
        &mount.0,
    );
    drop(mount);
    assert_as_mounted("100,000 names", &image, &place);
}

/// The kernel shows each ACL also under the name that XFS uses inside. New versions of mkfs.xfs set
/// an attribute of the root directory.
#[test]
fn attributes_that_xfs_keeps_for_itself_are_not_stored() {
    let (_guard, place) = scratch();
    shell("truncate -s 320M x.img; mkfs.xfs -q x.img", &place);
    let image = place.join("x.img");
    let mount = Mounted::new(&image, "rw", &place.join("mnt"));
    shell("touch a; setfacl -m u:54321:r-- a", &mount.0);
    set_xattr(&mount.0, "trusted.xfs:autofsck", b"repair");
    set_xattr(&mount.0, "trusted.xfs", b"mine");
    let mut names = Command::new("getfattr");
    let names = names.args(["-d", "-m", "-", "a"]).current_dir(&mount.0);
    let shown = names.output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&shown).contains("trusted.SGI_ACL_FILE"));
    let mounted = dump(&baked(&mount.0, None, &place.join("mounted.layer")));
    drop(mount);
    let read = dump(&baked(&image, None, &place.join("read.layer")));
    for got in [mounted, read] {
        assert!(
            got.contains("system.posix_acl_access=") && !got.contains("SGI_ACL"),
            "{got}"
        );
        assert!(
            got.contains("trusted.xfs=mine") && !got.contains("autofsck"),
            "{got}"
        );
    }
}

/// Version 4 has no checksums; recent kernels do not mount it. mkfs.xfs fills the image.
fn version_4(place: &Path, options: &str) {
    shell(
        &format!(
            "mkdir source; yes text | head -c 300000 > source/text; \
             {{ echo /none; echo '0 0'; echo 'd--755 0 0'; \
                echo 'tool -u-755 10 20 source/text'; echo 'pipe p--640 0 0'; \
                echo 'device c--600 0 6 4 9'; echo 'disk b--660 0 6 7 7'; \
                echo \"link l--777 0 0 tool\"; echo \"long l--777 0 0 $(printf '%0600d' 5)\"; \
                echo 'some d--751 1 2'; \
                for n in $(seq 1 1500); do echo \"a-rather-long-name-for-a-file-$n ---644 $n 7 source/small\"; done; \
                echo '$'; echo '$'; }} > proto; printf small > source/small; \
             truncate -s 64M 4.img; mkfs.xfs --unsupported -q -m crc=0 {options} -p proto 4.img 2>/dev/null; \
             xfs_db -x -c 'path /tool' -c 'attr_set -u -v 300 one' -c 'attr_set -r -v 20000 two' 4.img >/dev/null"
        ),
        place,
    );
}

#[test]
fn xfs_of_version_4_is_read() {
    for options in ["-n ftype=0", "-n ftype=1", "-b size=1024 -i size=256"] {
        let (_guard, place) = scratch();
        version_4(&place, options);
        let got = dump(&baked(&place.join("4.img"), None, &place.join("got.layer")));
        let line = |path: &str| {
            let found = got
                .lines()
                .find(|line| line.starts_with(&format!("{path} ")));
            found
                .unwrap_or_else(|| panic!("{options}: no {path}"))
                .to_owned()
        };
        assert!(
            line("/tool").starts_with("/tool f 4755 10:20 "),
            "{}",
            line("/tool")
        );
        assert!(line("/tool").contains(" 300000 "), "{}", line("/tool"));
        let value = |letter: &str, count| letter.repeat(count);
        assert!(line("/tool").contains(&format!("user.one={}", value("v", 300))));
        assert!(line("/tool").contains(&format!("trusted.two={}", value("v", 20_000))));
        assert!(line("/device").contains(" 4,9") && line("/device").contains(" 0:6 "));
        assert!(line("/disk").starts_with("/disk b 0660"));
        assert!(line("/long").contains(&format!("{:0600}", 5)));
        assert!(line("/some").starts_with("/some d 0751 1:2 "));
        for number in 1..=1500 {
            let path = format!("/some/a-rather-long-name-for-a-file-{number}");
            assert!(
                line(&path).contains(&format!(" {number}:7 ")),
                "{}",
                line(&path)
            );
        }
    }
}

#[test]
fn xfs_images_that_are_not_read_say_what_to_do() {
    let (_guard, place) = scratch();
    shell(
        "truncate -s 320M x.img; mkfs.xfs -q x.img; truncate -s 320M log.img log; mkfs.xfs -q -l logdev=log,size=100m log.img; \
         head -c 100M x.img > short.img; cp x.img bad.img",
        &place,
    );
    let mount = Mounted::new(&place.join("x.img"), "rw", &place.join("mnt"));
    shell(
        "mkdir d; touch d/x; sync -f .; cp --sparse=always ../x.img ../dirty.img",
        &mount.0,
    );
    drop(mount);
    // A bit of the root directory's inode.
    let flip = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(place.join("bad.img"));
    let flip = flip.unwrap();
    let mut word = [0; 8];
    flip.read_exact_at(&mut word, 56).unwrap();
    let root = u64::from_be_bytes(word) * 512;
    flip.write_all_at(&[0x42], root + 60).unwrap();
    version_4(&place, "-l size=4m");
    shell(
        "xfs_db -x -c 'path /tool' -c 'write -d core.realtime 1' 4.img",
        &place,
    );
    for (name, what) in [
        ("dirty.img", "mount and unmount it once"),
        (
            "4.img",
            "\"tool\": cannot read it: its bytes are in the real-time section, which is not supported; mount",
        ),
        ("log.img", "its log is on another device"),
        ("short.img", "truncated"),
        ("bad.img", "does not match its checksum; run `xfs_repair`"),
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
    assert!(got.contains("/d/x f "), "{got}");
}

#[test]
fn a_damaged_xfs_is_an_error_and_never_a_panic() {
    let (_guard, place) = scratch();
    version_4(&place, "-l size=4m");
    let image = place.join("4.img");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&image)
        .unwrap();
    // Blocks in use outside the log.
    let used = super::images::used_blocks(&image);
    let mut seed = 7u64;
    for _ in 0..150 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let block = used[(seed >> 33) as usize % used.len()];
        let at = block + (seed >> 20) % 512;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << (seed >> 17 & 7))], at)
            .unwrap();
        let _ = try_bake(&image, None, &place.join("bad.layer"));
        file.write_all_at(&byte, at).unwrap();
    }
    assert!(try_bake(&image, None, &place.join("good.layer")).is_ok());
}
