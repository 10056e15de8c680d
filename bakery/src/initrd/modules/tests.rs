//! Choosing modules, in trees made for it.

use super::super::{Drivers, InitrdRecipe};
use super::*;

fn sample() -> Modules {
    Modules::parse(
        "6.1.0",
        "kernel/net/a-one.ko.xz: kernel/lib/b.ko.xz kernel/lib/c.ko.xz\nkernel/lib/b.ko.xz: kernel/lib/c.ko.xz\nkernel/lib/c.ko.xz:\n",
        "# comment\nalias pci:v00008086d*sv* a_one\nalias crypto-crc32c c\nalias x y\n",
        "kernel/fs/fuse/fuse.ko\n".into(),
    )
}

#[test]
fn lists_are_read_and_written() {
    let modules = sample();
    let chosen: Vec<Module> = [("a_one", "kernel/net/a-one.ko"), ("c", "kernel/lib/c.ko")]
        .map(|(name, path)| Module {
            name: name.into(),
            path: path.into(),
            bytes: vec![],
            is_unpacked: true,
        })
        .to_vec();
    // b was not chosen: it is not named as a dependency.
    assert_eq!(
        modules.dep_text(&chosen),
        "kernel/net/a-one.ko: kernel/lib/c.ko\nkernel/lib/c.ko:\n"
    );
    assert_eq!(
        modules.alias_text(&chosen),
        "alias pci:v00008086d*sv* a_one\nalias crypto-crc32c c\n"
    );
    assert_eq!(modules.named_by("crypto-crc32c"), ["c"]);
    assert_eq!(modules.named_by("a-one"), ["a_one"]);
    assert!(modules.want("fuse", &mut BTreeSet::new()), "built in");
    assert!(!modules.want("nothing", &mut BTreeSet::new()));
    let mut wanted = BTreeSet::new();
    assert!(modules.want("lib/", &mut wanted));
    assert_eq!(wanted.into_iter().collect::<Vec<_>>(), ["b", "c"]);
}

/// Named modules, the modules of every virtual machine, and their dependencies are unpacked; the
/// rest is packed.
#[test]
fn few_modules_are_at_hand() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("lib/modules/6.1.0/kernel");
    let dep = "kernel/virtio_net.ko: kernel/failover.ko\nkernel/failover.ko:\nkernel/tg3.ko: kernel/libphy.ko\n\
               kernel/libphy.ko:\nkernel/ext4.ko: kernel/jbd2.ko\nkernel/jbd2.ko:\nkernel/e1000.ko:\n";
    std::fs::create_dir_all(&directory).unwrap();
    for line in dep.lines() {
        let name = line.split_once(':').unwrap().0.strip_prefix("kernel/");
        std::fs::write(directory.join(name.unwrap()), "").unwrap();
    }
    let tree = super::super::system_tree::DirectoryTree::open(root.path()).unwrap();
    let modules = Modules::parse("6.1.0", dep, "", String::new());
    let is_unpacked = |drivers, extra: &[&str]| {
        let recipe = InitrdRecipe {
            kernel: None,
            drivers,
            storage: true,
            extra_modules: extra.iter().map(|name| (*name).to_owned()).collect(),
            firmware: false,
            layerfs: "layerfs".into(),
            busybox: None,
            trust: None,
            built: None,
            level: Some(1),
        };
        let chosen = modules.choose(&tree, &recipe).unwrap().modules;
        let (near, packed): (Vec<Module>, Vec<Module>) =
            chosen.into_iter().partition(|module| module.is_unpacked);
        let names = |modules: Vec<Module>| -> String {
            let names: Vec<String> = modules.into_iter().map(|module| module.name).collect();
            names.join(" ")
        };
        (names(near), names(packed))
    };
    let expected = |near: &str, packed: &str| (near.to_owned(), packed.to_owned());
    assert_eq!(
        is_unpacked(Drivers::Common, &[]),
        expected("failover virtio_net", "e1000 ext4 jbd2 libphy tg3")
    );
    assert_eq!(
        is_unpacked(Drivers::Common, &["ext4"]),
        expected("ext4 failover jbd2 virtio_net", "e1000 libphy tg3")
    );
    assert_eq!(
        is_unpacked(Drivers::Named(vec!["tg3".into()]), &[]),
        expected("libphy tg3", "ext4 jbd2")
    );
}

#[test]
fn versions_order_by_number() {
    let mut names = [
        "6.12.0-2",
        "6.9.1",
        "6.12.0-10",
        "5.10-std-def-alt1",
        "6.12.0-2-rt",
    ];
    names.sort_by_key(|name| version_key(name));
    assert_eq!(
        names,
        [
            "5.10-std-def-alt1",
            "6.9.1",
            "6.12.0-2",
            "6.12.0-2-rt",
            "6.12.0-10"
        ]
    );
}

fn recipe(drivers: Drivers, storage: bool) -> InitrdRecipe {
    InitrdRecipe {
        kernel: None,
        drivers,
        storage,
        extra_modules: Vec::new(),
        firmware: false,
        layerfs: "layerfs".into(),
        busybox: None,
        trust: None,
        built: None,
        level: Some(1),
    }
}

/// A tree with these files.
fn tree(files: &[(&str, &[u8])]) -> (tempfile::TempDir, super::super::system_tree::DirectoryTree) {
    let root = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let tree = super::super::system_tree::DirectoryTree::open(root.path()).unwrap();
    (root, tree)
}

/// Modules of DKMS and vendors, as listed by depmod, with their dependencies; the kernel's own of
/// the same name is not used, even if the list has both.
#[test]
fn external_drivers_come_first_with_what_they_need() {
    let dep = "updates/dkms/r8168.ko: updates/dkms/helper.ko\nupdates/dkms/helper.ko:\n\
               extra/e1000e.ko:\nkernel/drivers/net/ethernet/intel/e1000e.ko: kernel/lib/ptp.ko\nkernel/lib/ptp.ko:\n\
               weak-updates/megasas.ko:\nupdates/dkms/nvidia.ko:\n\
               updates/drivers/net/ethernet/x/plain.ko:\nkernel/drivers/net/ethernet/r8169.ko:\n";
    let alias = "alias pci:a r8169\nalias pci:a r8168\nalias pci:b e1000e\n";
    let at = |name: &str| format!("lib/modules/6.1.0/{name}");
    let (dep_path, alias_path) = (at("modules.dep"), at("modules.alias"));
    let mut files: Vec<(String, &[u8])> = vec![
        (dep_path, dep.as_bytes()),
        (alias_path, alias.as_bytes()),
        (at("modules.builtin"), b"kernel/fs/fuse/fuse.ko\n"),
        (
            "etc/modprobe.d/r8168.conf".into(),
            b"# of the package\nblacklist r8169\n",
        ),
    ];
    for line in dep.lines() {
        let path = line.split_once(':').unwrap().0;
        let bytes: &[u8] = match path {
            "updates/dkms/r8168.ko" | "extra/e1000e.ko" => b"\0register_netdev\0",
            "weak-updates/megasas.ko" => b"\0scsi_host_alloc\0",
            _ => b"\0printk\0",
        };
        files.push((at(path), bytes));
    }
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), *bytes))
        .collect();
    let (_root, tree) = tree(&files);
    let modules = Modules::read(&tree, "6.1.0").unwrap();
    let chosen = |drivers, storage| -> Vec<String> {
        let chosen = modules
            .choose(&tree, &recipe(drivers, storage))
            .unwrap()
            .modules;
        chosen.into_iter().map(|module| module.path).collect()
    };
    let all = [
        "extra/e1000e.ko",
        "kernel/drivers/net/ethernet/r8169.ko",
        "updates/dkms/helper.ko",
        "updates/dkms/r8168.ko",
        "updates/drivers/net/ethernet/x/plain.ko",
        "weak-updates/megasas.ko",
    ];
    assert_eq!(chosen(Drivers::All, true), all);
    assert_eq!(chosen(Drivers::All, false), all[..5]);
    // The one of the kernel's name is the vendor's.
    assert_eq!(
        chosen(Drivers::Common, false),
        ["extra/e1000e.ko", "kernel/drivers/net/ethernet/r8169.ko"]
    );
    let named = Drivers::Named(vec!["updates/dkms".into()]);
    let names = [
        "updates/dkms/helper.ko",
        "updates/dkms/nvidia.ko",
        "updates/dkms/r8168.ko",
    ];
    assert_eq!(chosen(named, false), names);
    let chosen = modules
        .choose(&tree, &recipe(Drivers::All, true))
        .unwrap()
        .modules;
    // For one card the vendor's is tried, and blacklisted modules are not.
    assert_eq!(
        modules.alias_text(&chosen),
        "alias pci:a r8168\nalias pci:b e1000e\n"
    );
}

#[test]
fn a_kernel_without_fuse_is_refused() {
    let dep: &[u8] = b"kernel/drivers/net/tg3.ko:\n";
    let case = |builtin: &[u8], config: &[u8]| {
        let (_root, tree) = tree(&[
            ("lib/modules/6.1.0/modules.dep", dep),
            ("lib/modules/6.1.0/kernel/drivers/net/tg3.ko", b""),
            ("lib/modules/6.1.0/modules.builtin", builtin),
            ("boot/config-6.1.0", config),
        ]);
        let modules = Modules::read(&tree, "6.1.0").unwrap();
        let chosen = modules.choose(&tree, &recipe(Drivers::All, false));
        chosen.map(|_| ()).map_err(|error| error.to_string())
    };
    for (builtin, config) in [
        (&b"kernel/fs/ext4/ext4.ko\n"[..], &b""[..]),
        (b"", b"# CONFIG_FUSE_FS is not set\n"),
    ] {
        let message = case(builtin, config).unwrap_err();
        assert!(
            message.contains("FUSE") && message.contains("6.1.0"),
            "{message}"
        );
    }
    for (builtin, config) in [
        (&b"kernel/fs/fuse/fuse.ko\n"[..], &b""[..]),
        (b"kernel/fs/ext4/ext4.ko\n", b"CONFIG_FUSE_FS=y\n"),
        // No image contains a release.
        (b"", b""),
    ] {
        assert_eq!(case(builtin, config), Ok(()));
    }
}

/// Leftovers of a removed kernel are ignored; the image of a live system is elsewhere.
#[test]
fn the_newest_kernel_with_an_image_is_taken() {
    let modules: [(&str, &[u8]); 2] = [
        ("lib/modules/6.1.0-9/modules.dep", b""),
        ("lib/modules/6.12.0-1/modules.dep", b""),
    ];
    let (_root, live) = tree(&modules);
    assert_eq!(newest_kernel(&live).unwrap(), "6.12.0-1");
    let image: (&str, &[u8]) = ("boot/vmlinuz-6.1.0-9", b"");
    let (_root, installed) = tree(&[&modules[..], &[image]].concat());
    assert_eq!(newest_kernel(&installed).unwrap(), "6.1.0-9");
}
