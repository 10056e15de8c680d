//! The kernel modules of a boot, and the indexes in which modprobe and udev look for them.

use std::collections::{HashMap, HashSet, VecDeque};

use super::boot_files::BootFiles;
use crate::limits::PREDICT_MODULES_LEN_MAX;

/// Modules that systemd loads for itself, and those of the devices of virtual machines without the
/// drivers that the initramfs loads.
const VIRTUAL: [&str; 32] = [
    "autofs4",
    "ip_tables",
    "unix",
    "ipv6",
    "fuse",
    "qemu_fw_cfg",
    "dmi_sysfs",
    "configfs",
    "efi_pstore",
    "drm",
    "dm_mod",
    "loop",
    "binfmt_misc",
    "virtio_rng",
    "virtio_balloon",
    "virtio_console",
    "virtio_gpu",
    "virtio_input",
    "vmw_vsock_virtio_transport",
    "bochs",
    "evdev",
    "button",
    "psmouse",
    "serio_raw",
    "pcspkr",
    "floppy",
    "parport_pc",
    "i2c_piix4",
    "sg",
    "cdrom",
    "sr_mod",
    "joydev",
];
/// Modules of most physical machines.
const PHYSICAL: [&str; 22] = [
    "hid_generic",
    "usbhid",
    "xhci_pci",
    "ehci_pci",
    "usb_storage",
    "ahci",
    "nvme",
    "i2c_i801",
    "lpc_ich",
    "intel_rapl_msr",
    "rapl",
    "coretemp",
    "aesni_intel",
    "usbcore",
    "intel_uncore",
    "ghash_clmulni_intel",
    "mei_me",
    "iTCO_wdt",
    "wmi",
    "video",
    "acpi_cpufreq",
    "watchdog",
];
/// Largest module of a physical machine: modules hardly compress, and each machine needs other ones.
const PHYSICAL_LEN_MAX: u64 = 64 << 10;
/// Indexes that are read whole, or nearly.
const INDEXES: [&str; 6] = [
    "modules.softdep",
    "modules.dep.bin",
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.devname",
];
/// Longest index that is added whole.
const INDEX_LEN_MAX: u64 = 4 << 20;

/// Adds the settings of modprobe; returns the modules that the system's settings name.
pub(super) fn first(files: &mut BootFiles<'_>) -> Vec<String> {
    let mut named = Vec::new();
    for directory in ["/usr/lib/modprobe.d", "/lib/modprobe.d", "/etc/modprobe.d"] {
        files.directory(directory, &[".conf"]);
    }
    let mut lists = vec!["/etc/modules".to_owned()];
    for directory in ["/usr/lib/modules-load.d", "/etc/modules-load.d"] {
        let names = files.tree.names(directory);
        lists.extend(names.into_iter().map(|name| format!("{directory}/{name}")));
    }
    for list in lists {
        let text = files.tree.text(&list).unwrap_or_default();
        let words = text
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        named.extend(
            words
                .filter(|word| !word.starts_with(['#', ';']))
                .map(str::to_owned),
        );
    }
    named
}

/// Adds the indexes and the modules of every kernel, with `named` ones first.
pub(super) fn add(files: &mut BootFiles<'_>, named: &[String]) {
    // Links into the same directory are not followed twice.
    let releases = files.tree.names("/lib/modules");
    for release in releases.into_iter().rev().take(2) {
        add_kernel(files, &format!("/lib/modules/{release}"), named);
    }
}

fn add_kernel(files: &mut BootFiles<'_>, directory: &str, named: &[String]) {
    let Some(dep) = files.tree.file(&format!("{directory}/modules.dep")) else {
        return;
    };
    let len = files.tree.len(dep).min(INDEX_LEN_MAX);
    let dep = files.tree.bytes(dep, 0, len).unwrap_or_default();
    let dep = String::from_utf8_lossy(&dep).into_owned();
    if dep.contains(".ko.zst:") {
        files.calls("libzstd.so");
    }
    for index in INDEXES {
        if let Some(ino) = files.tree.file(&format!("{directory}/{index}"))
            && files.tree.len(ino) <= INDEX_LEN_MAX
        {
            files.whole_of(ino);
        }
    }
    if let Some(ino) = files.tree.file(&format!("{directory}/modules.symbols.bin")) {
        files.places(ino, [0]);
    }
    let paths: HashMap<String, (&str, &str)> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (name(path), (path, needs)))
        .collect();
    let mut seen = HashSet::new();
    let mut len = 0;
    let always = named.iter().map(String::as_str).chain(VIRTUAL);
    let always = always.map(|name| (name, u64::MAX));
    for (module, most) in always.chain(PHYSICAL.map(|name| (name, PHYSICAL_LEN_MAX))) {
        let mut queue = VecDeque::from([module.replace('-', "_")]);
        while let Some(module) = queue.pop_front() {
            let Some((path, needs)) = paths.get(&module) else {
                continue;
            };
            if !seen.insert(module) {
                continue;
            }
            queue.extend(needs.split_whitespace().map(name));
            let Some(ino) = files.tree.file(&format!("{directory}/{path}")) else {
                continue;
            };
            let module_len = files.tree.len(ino);
            if module_len <= most && len + module_len <= PREDICT_MODULES_LEN_MAX {
                len += module_len;
                files.whole_of(ino);
            }
        }
    }
}

/// `kernel/fs/fuse/fuse.ko.xz` → `fuse`, with underscores.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}
