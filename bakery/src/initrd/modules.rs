//! The kernel's modules: what the tree has (`modules.dep`, `modules.alias`, `modules.builtin`),
//! which of them are chosen, and everything those need.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail};

use super::decompress::decompress;
use super::system_tree::{SystemTree, list, read};
use super::{Drivers, Recipe, modinfo};

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
/// These, what they need and what was named is at hand in the initramfs; the others are packed in it until a card or a disk
/// asks for them. (A virtual machine needs no more than this.)
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
/// What every boot may need; most kernels have most of them built in. `af_packet` is what
/// DHCP speaks through.
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
pub struct Module {
    /// Name as the kernel writes it (`_`, no suffix).
    pub name: String,
    /// Path below `/lib/modules/RELEASE`, uncompressed (`….ko`).
    pub path: String,
    /// The uncompressed module.
    pub bytes: Vec<u8>,
    /// Whether it is at hand, not packed.
    pub at_hand: bool,
}

/// The lists of one kernel.
#[derive(Debug)]
pub struct Modules {
    kernel: String,
    /// Name → path as `modules.dep` has it.
    paths: BTreeMap<String, String>,
    /// Name → names it depends on.
    depends: BTreeMap<String, Vec<String>>,
    /// (pattern, name)
    aliases: Vec<(String, String)>,
    builtin: BTreeSet<String>,
    builtin_text: String,
}

/// The newest kernel that has modules in the tree.
///
/// # Errors
/// There is none.
pub fn newest_kernel(tree: &dyn SystemTree) -> Result<String> {
    let mut found: Vec<String> = Vec::new();
    for name in list(tree, "lib/modules")? {
        if super::system_tree::resolve(tree, &format!("lib/modules/{name}/modules.dep"))?.is_some()
        {
            found.push(name);
        }
    }
    found.sort_by_key(|name| version_key(name));
    found.pop().ok_or_else(|| {
        anyhow!("the tree has no /lib/modules/*/modules.dep: install a kernel package in it, or run `depmod -b TREE RELEASE`")
    })
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
    pub fn read(tree: &dyn SystemTree, kernel: &str) -> Result<Self> {
        let text = |name: &str| -> Result<Option<String>> {
            let bytes = read(tree, &format!("lib/modules/{kernel}/{name}"))?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let dep = text("modules.dep")?
            .ok_or_else(|| anyhow!("no /lib/modules/{kernel}/modules.dep in the tree"))?;
        let builtin_text = text("modules.builtin")?.unwrap_or_default();
        Ok(Self::parse(
            kernel,
            &dep,
            &text("modules.alias")?.unwrap_or_default(),
            builtin_text,
        ))
    }

    fn parse(kernel: &str, dep: &str, alias: &str, builtin_text: String) -> Self {
        let mut paths = BTreeMap::new();
        let mut depends = BTreeMap::new();
        for line in dep.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                let name = module_name(path);
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
        }
    }

    /// `lib/modules/RELEASE`.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("lib/modules/{}", self.kernel)
    }

    /// The modules of the recipe with all they need, sorted by path.
    ///
    /// # Errors
    /// A module that was named is not there, or one cannot be read.
    pub fn choose(&self, tree: &dyn SystemTree, recipe: &Recipe) -> Result<Vec<Module>> {
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for name in BASE {
            self.want(name, &mut wanted);
        }
        if recipe.storage {
            for name in STORAGE {
                self.want(name, &mut wanted);
            }
        }
        let named: Vec<&str> = match &recipe.drivers {
            Drivers::Common => COMMON_DRIVERS.to_vec(),
            Drivers::All => ALL_DRIVERS.to_vec(),
            Drivers::Named(names) => names.iter().map(String::as_str).collect(),
        };
        let strict = matches!(recipe.drivers, Drivers::Named(_));
        for name in named
            .iter()
            .copied()
            .chain(recipe.extra_modules.iter().map(String::as_str))
        {
            let there = self.want(name, &mut wanted);
            let asked_for = strict || recipe.extra_modules.iter().any(|extra| extra == name);
            if asked_for && !there {
                bail!(
                    "kernel {} has no module or directory of modules called {name}",
                    self.kernel
                );
            }
        }
        let mut at_hand: BTreeSet<String> = BTreeSet::new();
        let named = named.iter().copied().filter(|_| strict);
        let extra = recipe.extra_modules.iter().map(String::as_str);
        for name in AT_HAND.iter().copied().chain(named).chain(extra) {
            self.want(name, &mut at_hand);
        }
        let at_hand: BTreeSet<String> = at_hand.intersection(&wanted).cloned().collect();
        let at_hand: BTreeSet<String> = self
            .close(tree, at_hand)?
            .into_iter()
            .map(|module| module.path)
            .collect();
        let mut chosen = self.close(tree, wanted)?;
        for module in &mut chosen {
            module.at_hand = at_hand.contains(&module.path);
        }
        Ok(chosen)
    }

    /// Adds a module, or the modules of a directory below `kernel/`; false when there is none.
    fn want(&self, name: &str, wanted: &mut BTreeSet<String>) -> bool {
        if name.contains('/') {
            let prefix = format!(
                "kernel/{}/",
                name.trim_matches('/').trim_start_matches("kernel/")
            );
            let before = wanted.len();
            let inside = self
                .paths
                .iter()
                .filter(|(_, path)| path.starts_with(&prefix));
            wanted.extend(inside.map(|(name, _)| name.clone()));
            return wanted.len() > before;
        }
        let name = name.replace('-', "_");
        if self.paths.contains_key(&name) {
            wanted.insert(name);
            return true;
        }
        self.builtin.contains(&name)
    }

    /// Reads the modules and what they need: by `modules.dep`, and by their own soft dependencies.
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
            let full = format!("{}/{path}", self.directory());
            let stored = read(tree, &full)?.ok_or_else(|| {
                anyhow!("/{full} is in modules.dep but not in the tree: run depmod there")
            })?;
            let bytes =
                decompress(path, stored).with_context(|| format!("cannot unpack /{full}"))?;
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
                    at_hand: true,
                },
            );
        }
        Ok(done.into_values().collect())
    }

    /// Modules that a name or an alias without wildcards stands for.
    fn named_by(&self, word: &str) -> Vec<String> {
        let name = word.replace('-', "_");
        if self.paths.contains_key(&name) || self.builtin.contains(&name) {
            return vec![name];
        }
        let same = self.aliases.iter().filter(|(pattern, _)| pattern == word);
        same.map(|(_, name)| name.clone()).collect()
    }

    /// `modules.dep` of the chosen ones.
    #[must_use]
    pub fn dep_text(&self, chosen: &[Module]) -> String {
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

    /// `modules.alias` of the chosen ones.
    #[must_use]
    pub fn alias_text(&self, chosen: &[Module]) -> String {
        let names: BTreeSet<&str> = chosen.iter().map(|module| module.name.as_str()).collect();
        let mut text = String::new();
        for (pattern, name) in &self.aliases {
            if names.contains(name.as_str()) {
                text.push_str(&format!("alias {pattern} {name}\n"));
            }
        }
        text
    }

    /// `modules.builtin`, by which modprobe knows what needs no loading.
    #[must_use]
    pub fn builtin_text(&self) -> &str {
        &self.builtin_text
    }
}

#[cfg(test)]
mod tests {
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
                at_hand: true,
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

    /// What was named, and what every virtual machine needs, with all that those need; the rest is packed.
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
        let at_hand = |drivers, extra: &[&str]| {
            let recipe = Recipe {
                kernel: None,
                drivers,
                storage: true,
                extra_modules: extra.iter().map(|name| (*name).to_owned()).collect(),
                firmware: false,
                layerfs: "layerfs".into(),
                busybox: None,
                trust: None,
                built: None,
                level: 1,
            };
            let chosen = modules.choose(&tree, &recipe).unwrap();
            let (near, packed): (Vec<Module>, Vec<Module>) =
                chosen.into_iter().partition(|module| module.at_hand);
            let names = |modules: Vec<Module>| -> String {
                let names: Vec<String> = modules.into_iter().map(|module| module.name).collect();
                names.join(" ")
            };
            (names(near), names(packed))
        };
        let expected = |near: &str, packed: &str| (near.to_owned(), packed.to_owned());
        assert_eq!(
            at_hand(Drivers::Common, &[]),
            expected("failover virtio_net", "e1000 ext4 jbd2 libphy tg3")
        );
        assert_eq!(
            at_hand(Drivers::Common, &["ext4"]),
            expected("ext4 failover jbd2 virtio_net", "e1000 libphy tg3")
        );
        assert_eq!(
            at_hand(Drivers::Named(vec!["tg3".into()]), &[]),
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
}
