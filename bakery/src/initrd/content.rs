//! The contents of the archive and their paths.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{CpioArchive, CpioEntry};
use super::decompress::decompress;
use super::error::{InitrdError, Result, refuse};
use super::modules::{Module, Modules};
use super::parts::PackedFile;
use super::system_tree::{SystemTree, read};
use super::{InitrdRecipe, InitrdReport, elf, modinfo, scripts};
use crate::failed::Doing as _;

/// Distributions' paths of a busybox without libraries.
const BUSYBOX_IN_TREE: &[&str] = &[
    "bin/busybox",
    "bin/busybox.static",
    "usr/lib/busybox/busybox",
    "sbin/busybox.static",
];
const BUSYBOX_ON_HOST: &[&str] = &["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"];
/// Firmware that these cards keep in flash memory: their drivers read the file only to write a
/// newer version to flash, which no boot should do. Compressed it is 2.4 MB. (QLogic NetXen and
/// qlcnic, Chelsio T4 to T6.)
const FIRMWARE_IN_FLASH: &[&str] = &[
    "phanfw.bin",
    "cxgb4/t4fw.bin",
    "cxgb4/t5fw.bin",
    "cxgb4/t6fw.bin",
];
const FIRMWARE_DIRECTORIES: &[&str] = &["lib/firmware/updates", "lib/firmware"];

/// Directories, the console, the scripts.
pub(crate) fn base(archive: &mut CpioArchive, built: i64) {
    for directory in [
        "bin",
        "sbin",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "root",
        "sysroot",
        "etc/layerfs",
    ] {
        archive.add(directory, CpioEntry::Directory);
    }
    // The kernel opens it for init before devtmpfs is there.
    archive.add("dev/console", CpioEntry::Character(5, 1));
    archive.file("etc/layerfs/built", 0o644, format!("{built}\n"));
    // systemd's rule for daemons of the root: theirs is an initrd.
    archive.file(
        "etc/initrd-release",
        0o644,
        "ID=layerfs\nNAME=\"layerfs initramfs\"\n",
    );
    archive.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", 0o644, "root:x:0:\n");
    for (path, permissions, text) in scripts::SCRIPTS {
        archive.file(path, *permissions, *text);
    }
}

/// busybox with its links, and the static `layerfs`.
///
/// # Errors
/// One of them is missing or needs libraries.
pub(crate) fn programs(
    archive: &mut CpioArchive,
    tree: &dyn SystemTree,
    recipe: &InitrdRecipe,
    report: &mut InitrdReport,
) -> Result<()> {
    let busybox = busybox(tree, recipe.busybox.as_deref())?;
    report.parts.busybox = busybox.len() as u64;
    archive.file("bin/busybox", 0o755, busybox);
    for applet in scripts::APPLETS {
        archive.add(&format!("bin/{applet}"), CpioEntry::Link("busybox".into()));
    }
    // The path that the kernel uses. The link has no target until /init, a busybox itself, has
    // mounted /proc: the modules that the kernel requests while it starts are not here, and each
    // request would start a process.
    archive.add("sbin/modprobe", CpioEntry::Link("/proc/1/exe".into()));
    let layerfs = fs::read(&recipe.layerfs)
        .doing(|| format!("cannot read the client {}", recipe.layerfs.display()))?;
    if !elf::is_static(&layerfs) {
        refuse!(
            "{} needs a dynamic loader; the initramfs takes a static one: `make static` builds it, --layerfs FILE names it",
            recipe.layerfs.display()
        );
    }
    report.parts.layerfs = layerfs.len() as u64;
    archive.file("bin/layerfs", 0o755, layerfs);
    Ok(())
}

/// The busybox that was named, else the tree's, else this host's; static in any case.
fn busybox(tree: &dyn SystemTree, named: Option<&Path>) -> Result<Vec<u8>> {
    if let Some(path) = named {
        let bytes = fs::read(path).doing(|| format!("cannot read {}", path.display()))?;
        if !elf::is_static(&bytes) {
            refuse!("{} is not a static program", path.display());
        }
        return Ok(bytes);
    }
    for path in BUSYBOX_IN_TREE {
        if let Some(bytes) = read(tree, path)?
            && elf::is_static(&bytes)
        {
            return Ok(bytes);
        }
    }
    for path in BUSYBOX_ON_HOST {
        if let Ok(bytes) = fs::read(path)
            && elf::is_static(&bytes)
        {
            return Ok(bytes);
        }
    }
    Err(InitrdError::Refused(
        "no static busybox in the tree or on this host: install the package busybox-static in one of them, or name one with --busybox FILE".into(),
    ))
}

/// The default client for an initramfs: beside this program, or at its installed path.
#[must_use]
pub(crate) fn find_layerfs() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let directory = here.parent()?;
    let beside = [
        directory.join("layerfs-static"),
        directory.join("../lib/layerfs/layerfs-static"),
        directory.join("../static/layerfs"),
        directory.join("layerfs"),
        PathBuf::from("/usr/lib/layerfs/layerfs-static"),
    ];
    beside
        .into_iter()
        .find(|path| fs::read(path).is_ok_and(|bytes| elf::is_static(&bytes)))
}

/// Adds the lists of all modules, and those that are unpacked. Returns the others.
pub(crate) fn modules(
    archive: &mut CpioArchive,
    known: &Modules,
    chosen: &[Module],
    report: &mut InitrdReport,
) -> Vec<PackedFile> {
    let directory = known.directory();
    let mut packed = Vec::new();
    for module in chosen {
        report.parts.modules += module.bytes.len() as u64;
        let path = format!("{directory}/{}", module.path);
        let bytes = module.bytes.clone();
        if module.is_unpacked {
            archive.file(&path, 0o644, bytes);
        } else {
            packed.push(PackedFile {
                path,
                bytes,
                modules: vec![module.name.clone()],
            });
        }
    }
    archive.file(
        &format!("{directory}/modules.dep"),
        0o644,
        known.dep_text(chosen),
    );
    archive.file(
        &format!("{directory}/modules.alias"),
        0o644,
        known.alias_text(chosen),
    );
    archive.file(
        &format!("{directory}/modules.builtin"),
        0o644,
        known.builtin_text(),
    );
    archive.file(&format!("{directory}/modules.symbols"), 0o644, "");
    packed
}

/// Adds the firmware that the unpacked modules name and the tree has. Returns that of the others.
///
/// # Errors
/// A file cannot be read or unpacked.
pub(crate) fn firmware(
    archive: &mut CpioArchive,
    tree: &dyn SystemTree,
    chosen: &[Module],
    report: &mut InitrdReport,
) -> Result<Vec<PackedFile>> {
    // Each name, with the modules that may request it.
    let mut names: BTreeMap<&str, Vec<&Module>> = BTreeMap::new();
    for module in chosen {
        for name in modinfo::firmware(&module.bytes) {
            names.entry(name).or_default().push(module);
        }
    }
    let mut packed = Vec::new();
    for (name, modules) in names {
        if FIRMWARE_IN_FLASH.contains(&name) {
            report.firmware_in_flash.push(name.to_owned());
            continue;
        }
        let Some(bytes) = firmware_file(tree, name)? else {
            report.firmware_missing.push(name.to_owned());
            continue;
        };
        report.firmware.push(name.to_owned());
        report.parts.firmware += bytes.len() as u64;
        let path = format!("lib/firmware/{name}");
        if modules.iter().any(|module| module.is_unpacked) {
            archive.file(&path, 0o644, bytes);
        } else {
            packed.push(PackedFile {
                path,
                bytes,
                modules: modules.iter().map(|module| module.name.clone()).collect(),
            });
        }
    }
    Ok(packed)
}

/// A firmware file of the tree, unpacked; `None` if the tree does not have it.
fn firmware_file(tree: &dyn SystemTree, name: &str) -> Result<Option<Vec<u8>>> {
    if name.contains("..") {
        return Ok(None);
    }
    for directory in FIRMWARE_DIRECTORIES {
        for suffix in ["", ".xz", ".zst"] {
            let path = format!("{directory}/{name}{suffix}");
            if let Some(stored) = read(tree, &path)? {
                let bytes = decompress(&path, stored);
                return Ok(Some(bytes.doing(|| format!("cannot unpack /{path}"))?));
            }
        }
    }
    Ok(None)
}

/// The keys that clients trust, at the path that `layerfs mount` reads.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn trust(archive: &mut CpioArchive, keys: Option<&Path>) -> Result<()> {
    if let Some(keys) = keys {
        let bytes =
            fs::read(keys).doing(|| format!("cannot read the keys in {}", keys.display()))?;
        archive.file("etc/layerfs/trust/root.allowed_signers", 0o644, bytes);
    }
    Ok(())
}
