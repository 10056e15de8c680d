//! The kernel's modules: those in the tree (`modules.dep`, `modules.alias`, `modules.builtin`), and the
//! same lists for the chosen ones.

mod choice;

use std::collections::{BTreeMap, BTreeSet};

use super::compress::Compression;
use super::error::{InitrdError, Result};
use super::external;
use super::kernel_image::kernel_image;
use super::system_tree::{SystemTree, list, read, resolve};

pub(crate) use choice::{Chosen, Module};

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

    /// `lib/modules/RELEASE`.
    #[must_use]
    pub(crate) fn directory(&self) -> String {
        format!("lib/modules/{}", self.kernel)
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
