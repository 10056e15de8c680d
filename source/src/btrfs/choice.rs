//! Chooses the subvolume that is the system.

use std::io;

use super::Btrfs;
use super::subvolumes::{Subvolumes, TOP};
use crate::walk::unknown;

/// A directory that every system has.
const SIGN: &[u8] = b"usr";
/// Names that installers give to the subvolume of the system.
const USUAL: [&str; 2] = ["@", "root"];
/// Most names in a message.
const NAMES_SHOWN_MAX: usize = 12;

impl Btrfs {
    /// Sets the root directory: that of the subvolume `wanted`, or of the subvolume that a boot
    /// would mount.
    ///
    /// # Errors
    /// `wanted` is not a subvolume, or several look like a system.
    pub(super) fn choose(&mut self, wanted: Option<&str>) -> io::Result<()> {
        self.root = match wanted {
            Some(path) => {
                let found = self.named(path)?;
                found.ok_or_else(|| self.missing(path))?
            }
            None => self.system()?,
        };
        Ok(())
    }

    /// The root directory of the system.
    fn system(&mut self) -> io::Result<u64> {
        let top = self.subvolumes.root(&mut self.trees, TOP)?;
        let default = Subvolumes::default_one(&mut self.trees)?;
        let root = self.subvolumes.root(&mut self.trees, default)?;
        if default != TOP || self.holds_sign(root)? {
            return Ok(root);
        }
        // Installers put the system into a subvolume, which only the machine's own files name.
        let mut systems = Vec::new();
        for (name, number) in self.subvolumes.list(&mut self.trees, top)? {
            if Subvolumes::is_root(number) && number != top && self.holds_sign(number)? {
                systems.push((shown(&name), number));
            }
        }
        systems.sort();
        let Some((name, number)) = self.only(&systems)? else {
            if systems.is_empty() {
                return Ok(root);
            }
            let names: Vec<&str> = systems.iter().map(|(name, _)| name.as_str()).collect();
            return Err(unknown(format!(
                "several subvolumes could be the system: name one with --subvolume; {}",
                listed(&names)
            )));
        };
        let note = format!("the system is the subvolume {name}; --subvolume / reads all");
        self.notes.push(note);
        Ok(number)
    }

    /// The only one of `systems`, else the only one that its own `etc/fstab` mounts as `/`, else
    /// the only one with a usual name.
    fn only(&mut self, systems: &[(String, u64)]) -> io::Result<Option<(String, u64)>> {
        if let [only] = systems {
            return Ok(Some(only.clone()));
        }
        let mut own = Vec::new();
        for system in systems {
            self.root = system.1;
            let root = self.fstab()?.into_iter().find(|line| line.is_root());
            if let Some(line) = root
                && self.subvolume_of(&line)? == Some(system.1)
            {
                own.push(system);
            }
        }
        let usual: Vec<_> = systems
            .iter()
            .filter(|(name, _)| USUAL.contains(&name.as_str()))
            .collect();
        Ok(match (own.as_slice(), usual.as_slice()) {
            ([only], _) | ([], [only]) => Some((*only).clone()),
            _ => None,
        })
    }

    /// The root directory of the subvolume at a path from the top.
    pub(super) fn named(&mut self, path: &str) -> io::Result<Option<u64>> {
        let mut number = self.subvolumes.root(&mut self.trees, TOP)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let names = self.subvolumes.list(&mut self.trees, number)?;
            let found = names.iter().find(|(name, _)| name == part.as_bytes());
            let Some((_, found)) = found else {
                return Ok(None);
            };
            number = *found;
        }
        Ok(Subvolumes::is_root(number).then_some(number))
    }

    fn missing(&self, path: &str) -> io::Error {
        let names: Vec<String> = (self.subvolumes.names())
            .map(|(_, name)| shown(&name.name))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let has = match names.as_slice() {
            [] => "it has none".to_owned(),
            names => format!("it has {}", listed(names)),
        };
        unknown(format!("there is no subvolume {path}; {has}"))
    }

    fn holds_sign(&mut self, number: u64) -> io::Result<bool> {
        let names = self.subvolumes.list(&mut self.trees, number)?;
        Ok(names.iter().any(|(name, _)| name == SIGN))
    }

    /// A note on the subvolumes that were not read.
    pub(super) fn passed_over(&self) -> Option<String> {
        let missed = (self.subvolumes.names()).filter(|(id, _)| !self.read.contains(id));
        let names: Vec<String> = missed.map(|(_, name)| shown(&name.name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let text = format!(
            "subvolumes outside the tree are not read: {}",
            listed(&names)
        );
        (!names.is_empty()).then_some(text)
    }
}

fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => name.escape_ascii().to_string(),
    }
}

fn listed(names: &[&str]) -> String {
    let shown = names.get(..NAMES_SHOWN_MAX).unwrap_or(names).join(", ");
    match names.len().saturating_sub(NAMES_SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
