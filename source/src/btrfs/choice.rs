//! Chooses the subvolume that is the system.

use std::collections::HashSet;
use std::io;

use super::subvolumes::{Subvolumes, TOP};
use super::tree::Trees;
use crate::walk::unknown;

/// A directory that every system has.
const SIGN: &[u8] = b"usr";
/// Most names in a message.
const NAMES_SHOWN_MAX: usize = 12;

/// The number of the root directory, and notes on the choice.
///
/// # Errors
/// `wanted` is not a subvolume, or several look like a system.
pub(super) fn choose(
    trees: &mut Trees,
    subvolumes: &mut Subvolumes,
    wanted: Option<&str>,
) -> io::Result<(u64, Vec<String>)> {
    let top = subvolumes.root(trees, TOP)?;
    if let Some(path) = wanted {
        return Ok((named(trees, subvolumes, path)?, Vec::new()));
    }
    let default = Subvolumes::default_one(trees)?;
    let root = subvolumes.root(trees, default)?;
    if default != TOP || holds_sign(trees, subvolumes, root)? {
        return Ok((root, Vec::new()));
    }
    // Installers put the system into a subvolume, which only the machine's fstab names.
    let mut systems = Vec::new();
    for (name, number) in subvolumes.list(trees, top)? {
        if Subvolumes::is_root(number) && number != top && holds_sign(trees, subvolumes, number)? {
            systems.push((shown(&name), number));
        }
    }
    systems.sort();
    match systems.as_slice() {
        [] => Ok((root, Vec::new())),
        [(name, number)] => {
            let note = format!("the system is the subvolume {name}; --subvolume / reads all");
            Ok((*number, vec![note]))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            let problem = format!(
                "several subvolumes could be the system: name one with --subvolume; {}",
                listed(&names)
            );
            Err(unknown(problem))
        }
    }
}

/// A note on the subvolumes that were not read.
pub(super) fn passed_over(subvolumes: &Subvolumes, read: &HashSet<u64>) -> Option<String> {
    let missed = subvolumes.names().filter(|(id, _)| !read.contains(id));
    let names: Vec<String> = missed.map(|(_, name)| shown(&name.name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = format!(
        "subvolumes outside the tree are not read: {}",
        listed(&names)
    );
    (!names.is_empty()).then_some(text)
}

/// The subvolume at a path from the top.
fn named(trees: &mut Trees, subvolumes: &mut Subvolumes, path: &str) -> io::Result<u64> {
    let mut number = subvolumes.root(trees, TOP)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let names = subvolumes.list(trees, number)?;
        let found = names.iter().find(|(name, _)| name == part.as_bytes());
        let Some((_, found)) = found else {
            return Err(missing(subvolumes, path));
        };
        number = *found;
    }
    match Subvolumes::is_root(number) {
        true => Ok(number),
        false => Err(missing(subvolumes, path)),
    }
}

fn missing(subvolumes: &Subvolumes, path: &str) -> io::Error {
    let names: Vec<String> = subvolumes
        .names()
        .map(|(_, name)| shown(&name.name))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let has = match names.as_slice() {
        [] => "it has none".to_owned(),
        names => format!("it has {}", listed(names)),
    };
    unknown(format!("there is no subvolume {path}; {has}"))
}

fn holds_sign(trees: &mut Trees, subvolumes: &mut Subvolumes, number: u64) -> io::Result<bool> {
    let names = subvolumes.list(trees, number)?;
    Ok(names.iter().any(|(name, _)| name == SIGN))
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
