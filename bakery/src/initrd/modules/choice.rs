//! The choice of the modules that an initramfs gets, with everything they depend on.

use std::collections::{BTreeMap, BTreeSet};

use super::super::decompress::decompress;
use super::super::error::{InitrdError, Result, refuse};
use super::super::system_tree::{SystemTree, read};
use super::super::{Drivers, InitrdRecipe, external, modinfo};
use super::Modules;
use crate::failed::Doing as _;

const COMMON_DRIVERS: &[&str] = &["virtio_net", "e1000", "e1000e", "igb", "r8169", "tg3"];
/// Directories below `kernel/drivers/net` and single modules that "all" means.
const ALL_DRIVERS: &[&str] = &[
    "drivers/net/ethernet",
    "drivers/net/phy",
    "drivers/net/mdio",
    "drivers/net/pcs",
    "drivers/net/hyperv",
    "drivers/net/vmxnet3",
    "virtio_net",
    "xen_netfront",
];
/// These, their dependencies and the named modules are unpacked in the initramfs; the others stay packed until
/// a card or a disk needs them. (A virtual machine needs only these.)
const AT_HAND: &[&str] = &[
    "fuse",
    "af_packet",
    "ipv6",
    "unix",
    "virtio_pci",
    "virtio_mmio",
    "virtio_rng",
    "virtio_net",
];
/// Modules that every boot may need; most kernels have most of them built in. DHCP uses
/// `af_packet`.
const BASE: &[&str] = &[
    "fuse",
    "af_packet",
    "ipv6",
    "virtio_pci",
    "virtio_mmio",
    "virtio_rng",
    "hv_vmbus",
    "unix",
];
const STORAGE: &[&str] = &[
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "ahci",
    "ata_piix",
    "nvme",
    "usb_storage",
    "uas",
    "xhci_pci",
    "ehci_pci",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "nls_iso8859_1",
];

/// One chosen module.
#[derive(Debug, Clone)]
pub(crate) struct Module {
    /// Name as the kernel writes it (`_`, no suffix).
    pub name: String,
    /// Path below `/lib/modules/RELEASE`, uncompressed (`….ko`).
    pub path: String,
    /// The uncompressed module.
    pub bytes: Vec<u8>,
    /// True if it is unpacked at boot, false if it is packed.
    pub is_unpacked: bool,
}

/// The chosen modules, and the purpose of those that were named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen {
    /// The modules with all that they need, sorted by path.
    pub modules: Vec<Module>,
    /// Names of the network drivers.
    pub network: BTreeSet<String>,
    /// Names of the drivers and file systems of disks.
    pub disks: BTreeSet<String>,
}

/// `kernel/a/b.ko.xz` → `kernel/a/b.ko`.
fn plain_path(path: &str) -> String {
    path.find(".ko.")
        .and_then(|at| path.get(..at + 3))
        .unwrap_or(path)
        .to_owned()
}

impl Modules {
    /// Refuses a kernel that is known to have no FUSE.
    fn require_fuse(&self) -> Result<()> {
        let is_there = self.paths.contains_key("fuse") || self.builtin.contains("fuse");
        let says_no = self.config.contains("# CONFIG_FUSE_FS is not set");
        let lists_builtin = !self.builtin.is_empty();
        if is_there || self.config.contains("CONFIG_FUSE_FS=y") || !(says_no || lists_builtin) {
            return Ok(());
        }
        refuse!(
            "kernel {} has no FUSE (CONFIG_FUSE_FS), without which it mounts no layerfs: name another with --kernel, or install the distribution's full kernel in the tree",
            self.kernel
        )
    }

    /// The modules of the recipe with all they need, sorted by path.
    ///
    /// # Errors
    /// A module that was named is not there, or one cannot be read.
    pub(crate) fn choose(&self, tree: &dyn SystemTree, recipe: &InitrdRecipe) -> Result<Chosen> {
        self.require_fuse()?;
        let (mut network, mut disks) = self.external_drivers(tree, recipe)?;
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for name in BASE {
            self.want(name, &mut wanted);
        }
        if recipe.storage {
            for name in STORAGE {
                self.want(name, &mut disks);
            }
        }
        let named: Vec<&str> = match &recipe.drivers {
            Drivers::Common => COMMON_DRIVERS.to_vec(),
            Drivers::All => ALL_DRIVERS.to_vec(),
            Drivers::Named(names) => names.iter().map(String::as_str).collect(),
        };
        let strict = matches!(recipe.drivers, Drivers::Named(_));
        for name in &named {
            if !self.want(name, &mut network) && strict {
                return Err(self.has_no(name));
            }
        }
        for name in &recipe.extra_modules {
            if !self.want(name, &mut wanted) {
                return Err(self.has_no(name));
            }
        }
        let mut is_unpacked: BTreeSet<String> = BTreeSet::new();
        let named = named.iter().copied().filter(|_| strict);
        let extra = recipe.extra_modules.iter().map(String::as_str);
        for name in AT_HAND.iter().copied().chain(named).chain(extra) {
            self.want(name, &mut is_unpacked);
        }
        wanted.extend(network.iter().chain(&disks).cloned());
        let is_unpacked: BTreeSet<String> = is_unpacked.intersection(&wanted).cloned().collect();
        let is_unpacked: BTreeSet<String> = self
            .close(tree, is_unpacked)?
            .into_iter()
            .map(|module| module.path)
            .collect();
        let mut modules = self.close(tree, wanted)?;
        for module in &mut modules {
            module.is_unpacked = is_unpacked.contains(&module.path);
        }
        Ok(Chosen {
            modules,
            network,
            disks,
        })
    }

    fn has_no(&self, name: &str) -> InitrdError {
        InitrdError::Refused(format!(
            "kernel {} has no module or directory of modules called {name}",
            self.kernel
        ))
    }

    /// Names of the drivers that did not come with the kernel: those of network cards, those of disks.
    fn external_drivers(
        &self,
        tree: &dyn SystemTree,
        recipe: &InitrdRecipe,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
        let (mut network, mut disks) = (BTreeSet::new(), BTreeSet::new());
        let is_network_wanted = recipe.drivers == Drivers::All;
        if !is_network_wanted && !recipe.storage {
            return Ok((network, disks));
        }
        for (name, path) in &self.paths {
            if !external::is_external(path) || self.blacklist.contains(name) {
                continue;
            }
            let driver = external::driver(&self.bytes(tree, path)?);
            if driver.network && is_network_wanted {
                network.insert(name.clone());
            }
            if driver.storage && recipe.storage {
                disks.insert(name.clone());
            }
        }
        Ok((network, disks))
    }

    /// The bytes of the module at `path`, unpacked.
    fn bytes(&self, tree: &dyn SystemTree, path: &str) -> Result<Vec<u8>> {
        let full = format!("{}/{path}", self.directory());
        let stored = read(tree, &full)?.ok_or_else(|| {
            InitrdError::Refused(format!(
                "/{full} is in modules.dep but not in the tree: run depmod there"
            ))
        })?;
        Ok(decompress(path, stored).doing(|| format!("cannot unpack /{full}"))?)
    }

    /// Adds a module, or the modules of a directory below `kernel/`, `updates/` and their like; false when there
    /// is none.
    pub(super) fn want(&self, name: &str, wanted: &mut BTreeSet<String>) -> bool {
        if name.contains('/') {
            let prefix = format!("{}/", name.trim_matches('/').trim_start_matches("kernel/"));
            let inside = self.paths.iter().filter(|(_, path)| {
                external::place_in_kernel(path).starts_with(&prefix) || path.starts_with(&prefix)
            });
            let mut is_there = false;
            for (name, _) in inside {
                is_there = true;
                wanted.insert(name.clone());
            }
            return is_there;
        }
        let name = name.replace('-', "_");
        if self.paths.contains_key(&name) {
            wanted.insert(name);
            return true;
        }
        self.builtin.contains(&name)
    }

    /// Reads the modules and their dependencies: from `modules.dep`, and from their own soft
    /// dependencies.
    fn close(&self, tree: &dyn SystemTree, wanted: BTreeSet<String>) -> Result<Vec<Module>> {
        let mut done: BTreeMap<String, Module> = BTreeMap::new();
        let mut todo: Vec<String> = wanted.into_iter().collect();
        while let Some(name) = todo.pop() {
            let Some(path) = self.paths.get(&name) else {
                continue;
            };
            if done.contains_key(path) {
                continue;
            }
            let bytes = self.bytes(tree, path)?;
            todo.extend(self.depends.get(&name).into_iter().flatten().cloned());
            for soft in modinfo::softdeps(&bytes) {
                todo.extend(self.named_by(soft));
            }
            done.insert(
                path.clone(),
                Module {
                    name,
                    path: plain_path(path),
                    bytes,
                    is_unpacked: true,
                },
            );
        }
        Ok(done.into_values().collect())
    }
}
