//! The kernel's modules: those in the tree (`modules.dep`, `modules.alias`, `modules.builtin`), the
//! selected ones, and all their dependencies.

use std::collections::{BTreeMap, BTreeSet};

use super::compress::Compression;
use super::decompress::decompress;
use super::error::{InitrdError, Result, refuse};
use super::kernel_image::kernel_image;
use super::system_tree::{SystemTree, list, read, resolve};
use super::{Drivers, InitrdRecipe, external, modinfo};
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

/// The lists of one kernel.
#[derive(Debug)]
pub(crate) struct Modules {
    kernel: String,
    /// Name → path as `modules.dep` has it.
    paths: BTreeMap<String, String>,
    /// Name → names it depends on.
    depends: BTreeMap<String, Vec<String>>,
    /// Pairs of pattern and name.
    aliases: Vec<(String, String)>,
    builtin: BTreeSet<String>,
    builtin_text: String,
    /// Modules whose aliases the tree's own configuration blacklists.
    blacklist: BTreeSet<String>,
    /// The kernel's configuration, if the tree has it.
    config: String,
}

/// The newest kernel with modules in the tree, preferably with its image too. Leftovers of a
/// removed kernel do not count; the image of a live system may be elsewhere.
///
/// # Errors
/// There is none.
pub(crate) fn newest_kernel(tree: &dyn SystemTree) -> Result<String> {
    let mut found: Vec<String> = Vec::new();
    for name in list(tree, "lib/modules")? {
        if resolve(tree, &format!("lib/modules/{name}/modules.dep"))?.is_some() {
            found.push(name);
        }
    }
    found.sort_by_key(|name| version_key(name));
    for name in found.iter().rev() {
        if kernel_image(tree, name)?.is_some() {
            return Ok(name.clone());
        }
    }
    found.pop().ok_or_else(|| {
        InitrdError::Refused("the tree has no /lib/modules/*/modules.dep: install a kernel package in it, or run `depmod -b TREE RELEASE`".into())
    })
}

/// The modules that `blacklist` lines of the tree's modprobe configuration name.
fn blacklist(tree: &dyn SystemTree) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for directory in ["lib/modprobe.d", "usr/lib/modprobe.d", "etc/modprobe.d"] {
        for file in list(tree, directory)? {
            if !file.ends_with(".conf") {
                continue;
            }
            let bytes = read(tree, &format!("{directory}/{file}"))?.unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let words = text.lines().filter_map(|line| {
                let mut words = line.split_whitespace();
                words.next().filter(|word| *word == "blacklist")?;
                words.next().map(|name| name.replace('-', "_"))
            });
            names.extend(words);
        }
    }
    Ok(names)
}

/// Orders `6.9` before `6.12`: runs of digits by value.
fn version_key(text: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let words = tail.len() - tail.trim_start_matches(|c: char| !c.is_ascii_digit()).len();
        let (word, tail) = tail.split_at(words);
        key.push((number.parse().unwrap_or(u64::MAX), word.to_owned()));
        rest = tail;
    }
    key
}

/// `kernel/drivers/net/tg3.ko.xz` → `tg3`; dashes become underscores.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// `kernel/a/b.ko.xz` → `kernel/a/b.ko`.
fn plain_path(path: &str) -> String {
    path.find(".ko.")
        .and_then(|at| path.get(..at + 3))
        .unwrap_or(path)
        .to_owned()
}

impl Modules {
    /// Reads the lists of `kernel`.
    ///
    /// # Errors
    /// There are none, or they cannot be read.
    pub(crate) fn read(tree: &dyn SystemTree, kernel: &str) -> Result<Self> {
        let text = |name: &str| -> Result<Option<String>> {
            let bytes = read(tree, &format!("lib/modules/{kernel}/{name}"))?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let dep = text("modules.dep")?.ok_or_else(|| {
            InitrdError::Refused(format!("no /lib/modules/{kernel}/modules.dep in the tree"))
        })?;
        let builtin_text = text("modules.builtin")?.unwrap_or_default();
        let alias = text("modules.alias")?.unwrap_or_default();
        let mut modules = Self::parse(kernel, &dep, &alias, builtin_text);
        modules.blacklist = blacklist(tree)?;
        for path in [
            format!("boot/config-{kernel}"),
            format!("lib/modules/{kernel}/config"),
        ] {
            if let Some(bytes) = read(tree, &path)? {
                modules.config = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
        Ok(modules)
    }

    fn parse(kernel: &str, dep: &str, alias: &str, builtin_text: String) -> Self {
        let mut paths = BTreeMap::new();
        let mut depends = BTreeMap::new();
        for line in dep.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                let name = module_name(path);
                // Some depmods list every file of a name.
                let known: Option<&String> = paths.get(&name);
                if known.is_some_and(|known| external::rank(known) < external::rank(path)) {
                    continue;
                }
                depends.insert(
                    name.clone(),
                    needs.split_whitespace().map(module_name).collect(),
                );
                paths.insert(name, path.to_owned());
            }
        }
        let aliases = alias
            .lines()
            .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '))
            .map(|(pattern, name)| (pattern.to_owned(), name.replace('-', "_")))
            .collect();
        Self {
            kernel: kernel.to_owned(),
            paths,
            depends,
            aliases,
            builtin: builtin_text.lines().map(module_name).collect(),
            builtin_text,
            blacklist: BTreeSet::new(),
            config: String::new(),
        }
    }

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

    /// `lib/modules/RELEASE`.
    #[must_use]
    pub(crate) fn directory(&self) -> String {
        format!("lib/modules/{}", self.kernel)
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
    fn want(&self, name: &str, wanted: &mut BTreeSet<String>) -> bool {
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

    /// Names of the modules that `modules.dep` lists for a module.
    pub(crate) fn depends(&self, name: &str) -> &[String] {
        self.depends.get(name).map_or(&[], Vec::as_slice)
    }

    /// Pairs of an alias and the module that it loads, without the modules that the tree blacklists.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        let listed = self.aliases.iter();
        let listed = listed.filter(|(_, name)| !self.blacklist.contains(name));
        listed.map(|(pattern, name)| (pattern.as_str(), name.as_str()))
    }

    /// The compression that the kernel reads, with this level of the recipe.
    pub(crate) fn compression(&self, level: Option<i32>) -> Compression {
        Compression::of_kernel(&self.config, level)
    }

    /// True if the module is part of the kernel image.
    pub(crate) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(name)
    }

    /// Modules with this name or this alias without wildcards.
    pub(crate) fn named_by(&self, word: &str) -> Vec<String> {
        let name = word.replace('-', "_");
        if self.paths.contains_key(&name) || self.builtin.contains(&name) {
            return vec![name];
        }
        let same = self.aliases.iter().filter(|(pattern, _)| pattern == word);
        same.map(|(_, name)| name.clone()).collect()
    }

    /// `modules.dep` of the chosen ones.
    #[must_use]
    pub(crate) fn dep_text(&self, chosen: &[Module]) -> String {
        let path_of: BTreeMap<&str, &str> = chosen
            .iter()
            .map(|module| (module.name.as_str(), module.path.as_str()))
            .collect();
        let mut text = String::new();
        for module in chosen {
            text.push_str(&module.path);
            text.push(':');
            let needs = self.depends.get(&module.name).into_iter().flatten();
            for path in needs.filter_map(|name| path_of.get(name.as_str())) {
                text.push(' ');
                text.push_str(path);
            }
            text.push('\n');
        }
        text
    }

    /// `modules.alias` of the chosen ones, external ones first, without those that the tree blacklists.
    #[must_use]
    pub(crate) fn alias_text(&self, chosen: &[Module]) -> String {
        let names: BTreeMap<&str, &str> = chosen
            .iter()
            .map(|module| (module.name.as_str(), module.path.as_str()))
            .collect();
        let mut lines: Vec<(bool, String)> = Vec::new();
        for (pattern, name) in &self.aliases {
            if let Some(path) = names.get(name.as_str())
                && !self.blacklist.contains(name)
            {
                let line = format!("alias {pattern} {name}\n");
                lines.push((!external::is_external(path), line));
            }
        }
        lines.sort_by_key(|(is_own, _)| *is_own);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// `modules.builtin`, which tells modprobe the modules that need no loading.
    #[must_use]
    pub(crate) fn builtin_text(&self) -> &str {
        &self.builtin_text
    }
}

#[cfg(test)]
mod tests;
