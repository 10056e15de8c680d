//! The modules that one network card, or the disks, need: the driver with its dependencies, and the
//! modules that the kernel loads by itself while the driver starts.
//!
//! `docs/BOOT.md` ("An initramfs for one machine") has the rules.

use std::collections::{BTreeMap, BTreeSet};

use super::modinfo;
use super::modules::{Chosen, Module, Modules};

/// Symbols of which a module uses at least one if it drives a card with a separate PHY. The kernel
/// loads the PHY's driver by the number that it reads from the PHY.
const PHY_SYMBOLS: &[&str] = &[
    "phy_connect",
    "phy_connect_direct",
    "phy_attach",
    "phy_attach_direct",
    "phylink_create",
    "__mdiobus_register",
    "__devm_mdiobus_register",
];
/// PCI ids of virtio network cards: the transitional and the modern one.
const VIRTIO_CARDS: &[&str] = &[
    "pci:v00001AF4d00001000sv*sd*bc*sc*i*",
    "pci:v00001AF4d00001041sv*sd*bc*sc*i*",
];
const VIRTIO: &str = "virtio_net";
/// Vendors whose network cards consist of several PCI devices with a driver each: Cavium, NXP (two
/// numbers), HiSilicon.
const VENDORS_OF_SEVERAL_DEVICES: &[&str] = &[
    "pci:v0000177Dd",
    "pci:v00001957d",
    "pci:v00001131d",
    "pci:v000019E5d",
];

/// Something that needs modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needer<'a> {
    /// Name of the driver.
    pub name: &'a str,
    /// The aliases of the PCI cards that it drives.
    pub aliases: Vec<&'a str>,
    /// Names of all modules of the initramfs that it needs.
    pub modules: BTreeSet<&'a str>,
}

/// The chosen modules with their dependencies.
#[derive(Debug)]
pub(crate) struct Needs<'a> {
    known: &'a Modules,
    chosen: &'a Chosen,
    /// Direct hard and soft dependencies of each chosen module.
    direct: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Direct soft dependencies.
    soft: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Modules that drive PHYs.
    phys: BTreeSet<&'a str>,
    /// Modules that use PHYs.
    phy_users: BTreeSet<&'a str>,
    /// Network drivers of Xen's own bus: Xen removes the emulated card that the firmware booted from.
    xen: BTreeSet<&'a str>,
    /// For each chosen module, the modules that drive devices which it creates.
    children: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Needs<'a> {
    /// Reads the dependencies of the chosen modules.
    #[must_use]
    pub(crate) fn new(known: &'a Modules, chosen: &'a Chosen) -> Self {
        let names: BTreeMap<&str, &Module> = chosen
            .modules
            .iter()
            .map(|module| (module.name.as_str(), module))
            .collect();
        let chosen_name = |name: &str| names.get_key_value(name).map(|(name, _)| *name);
        let (mut direct, mut soft) = (BTreeMap::new(), BTreeMap::new());
        for (name, module) in &names {
            let words = modinfo::softdeps(&module.bytes);
            let named = words.flat_map(|word| known.named_by(word));
            let of_module: BTreeSet<&str> = named.filter_map(|one| chosen_name(&one)).collect();
            let hard = known.depends(name).iter();
            let mut needed: BTreeSet<&str> = hard.filter_map(|one| chosen_name(one)).collect();
            needed.extend(&of_module);
            direct.insert(*name, needed);
            soft.insert(*name, of_module);
        }
        let mut needs = Self {
            known,
            chosen,
            direct,
            soft,
            phys: BTreeSet::new(),
            phy_users: BTreeSet::new(),
            xen: BTreeSet::new(),
            children: BTreeMap::new(),
        };
        for (pattern, name) in known.aliases() {
            let Some(name) = chosen_name(name) else {
                continue;
            };
            let parent = pattern
                .strip_prefix("auxiliary:")
                .and_then(|rest| rest.split_once('.'))
                .and_then(|(parent, _)| chosen_name(parent));
            if let Some(parent) = parent {
                needs.children.entry(parent).or_default().insert(name);
            } else if pattern.starts_with("mdio:") {
                needs.phys.insert(name);
            } else if pattern.starts_with("xen:") && chosen.network.contains(name) {
                needs.xen.insert(name);
            }
        }
        let users = names.iter().filter(|(_, module)| uses_phys(&module.bytes));
        needs.phy_users = users.map(|(name, _)| *name).collect();
        needs
    }

    /// These modules with all that they need.
    fn closed<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> BTreeSet<&'a str> {
        let mut done = BTreeSet::new();
        let mut todo: Vec<&str> = names.into_iter().collect();
        while let Some(name) = todo.pop() {
            if let Some((name, needed)) = self.direct.get_key_value(name)
                && done.insert(*name)
            {
                todo.extend(needed);
            }
        }
        done
    }

    /// What the disks need.
    #[must_use]
    pub(crate) fn disks(&self) -> BTreeSet<&'a str> {
        self.closed(self.chosen.disks.iter().map(String::as_str))
    }

    /// The network drivers of PCI cards, by name.
    #[must_use]
    pub(crate) fn drivers(&self) -> Vec<Needer<'a>> {
        let mut aliases: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (pattern, name) in self.known.aliases() {
            if pattern.starts_with("pci:") && self.chosen.network.contains(name) {
                aliases.entry(name).or_default().push(pattern);
            }
        }
        let mut drivers: Vec<Needer<'_>> = aliases
            .into_iter()
            .filter_map(|(name, aliases)| {
                let (name, _) = self.direct.get_key_value(name)?;
                Some(Needer {
                    name,
                    aliases,
                    modules: self.of_driver(name),
                })
            })
            .collect();
        for vendor in VENDORS_OF_SEVERAL_DEVICES {
            let is_of = |one: &&mut Needer<'_>| one.aliases.iter().any(|id| id.starts_with(vendor));
            let all: Vec<&mut Needer<'_>> = drivers.iter_mut().filter(is_of).collect();
            let needed = all.iter().flat_map(|one| &one.modules).copied();
            let needed: BTreeSet<&str> = needed.collect();
            for one in all {
                one.modules.clone_from(&needed);
            }
        }
        let is_there = |name: &str| self.direct.contains_key(name) || self.known.is_builtin(name);
        if is_there(VIRTIO) && is_there("virtio_pci") {
            drivers.push(Needer {
                name: VIRTIO,
                aliases: VIRTIO_CARDS.to_vec(),
                modules: self.closed([VIRTIO, "virtio_pci"]),
            });
        }
        drivers
    }

    fn of_driver(&self, driver: &'a str) -> BTreeSet<&'a str> {
        let mut modules = self.closed([driver]);
        // Modules above the driver, such as mlx4_en above mlx4_core.
        let network = self.closed(self.chosen.network.iter().map(String::as_str));
        for name in network {
            let above = self.closed([name]);
            if above.contains(driver) {
                modules.extend(above);
            }
        }
        modules.extend(self.xen.iter().flat_map(|name| self.closed([*name])));
        // A driver with soft dependencies on its PHYs has no others.
        let own = self.soft.get(driver);
        let names_its_phys = own.is_some_and(|own| !own.is_disjoint(&self.phys));
        if !names_its_phys && !modules.is_disjoint(&self.phy_users) {
            modules.extend(self.closed(self.phys.iter().copied()));
        }
        loop {
            let children = modules.iter().filter_map(|name| self.children.get(name));
            let children = self.closed(children.flatten().copied());
            if children.is_subset(&modules) {
                return modules;
            }
            modules.extend(children);
        }
    }
}

fn uses_phys(module: &[u8]) -> bool {
    // The names of symbols are in a table of texts, each ended by a NUL.
    module
        .split(|byte| *byte == 0)
        .any(|text| PHY_SYMBOLS.iter().any(|name| name.as_bytes() == text))
}
