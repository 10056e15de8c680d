//! Uppers that overlayfs made with `index=on`. A file that was changed by one of its names is
//! changed under all of them, but the upper has only the used names. overlayfs' link count gives
//! the number of missing names; they are names of the same file in the base, and become names of
//! the changed file.

use std::collections::HashMap;

use layerfmt::tree::{Child, Directory, Kind, Metadata, Name, Node, NodeId, ROOT, Tree};

use super::OverlayError;
use crate::assemble::Assembly;

/// Gives changed files the names that only the base has. `notes` gets uncertain cases.
///
/// # Errors
/// The base has fewer names of the file than overlayfs counted.
pub(super) fn join<C>(
    base: &Tree<C>,
    assembly: &mut Assembly<C>,
    notes: &mut Vec<String>,
) -> Result<(), OverlayError> {
    if assembly.links.is_empty() && !assembly.has_index {
        return Ok(());
    }
    let names = IndexedNames::read(base, &assembly.tree);
    let upper_counts = assembly.tree.link_counts();
    let count = |counts: &[u32], id: NodeId| counts.get(id as usize).copied().unwrap_or(0);
    let mut links: Vec<_> = assembly.links.drain().collect();
    links.sort_by(|(_, (one, _)), (_, (other, _))| one.cmp(other));
    let mut placed = Vec::new();
    for (id, (path, links)) in links {
        let below = names.below.get(&id).copied();
        let lower = below.map_or(0, |below| count(&names.lower_counts, below));
        let elsewhere = links.elsewhere(count(&upper_counts, id), lower);
        if elsewhere <= 0 {
            continue;
        }
        let visible = below.and_then(|below| names.visible.get(&below));
        let visible = visible.map_or(&[][..], Vec::as_slice);
        if i64::try_from(visible.len()) != Ok(elsewhere) {
            return Err(OverlayError::LinksElsewhere {
                path: path.to_string(),
                counted: elsewhere,
                found: visible.len(),
            });
        }
        placed.extend(visible.iter().map(|name| (id, name.clone())));
    }
    for (id, path) in placed {
        place(assembly, &path, id)?;
    }
    if assembly.has_index {
        for (gone, other) in &names.removed {
            notes.push(format!(
                "{gone} was removed from an upper with an index, and {other} is the same file: an \
                 earlier change to it is only in the index of the work directory, and is not \
                 included"
            ));
        }
    }
    Ok(())
}

/// The names of the base's hard-linked files: those that are still visible, and those that were
/// removed.
struct IndexedNames {
    lower_counts: Vec<u32>,
    /// The base's file in the place of a changed one.
    below: HashMap<NodeId, NodeId>,
    /// The names of a file of the base that show through.
    visible: HashMap<NodeId, Vec<Vec<Name>>>,
    /// Removed names, each with another one that shows.
    removed: Vec<(String, String)>,
}

impl IndexedNames {
    fn read<C>(base: &Tree<C>, upper: &Tree<C>) -> IndexedNames {
        let mut names = IndexedNames {
            lower_counts: base.link_counts(),
            below: HashMap::new(),
            visible: HashMap::new(),
            removed: Vec::new(),
        };
        let mut removed = Vec::new();
        let mut open = vec![(ROOT, Some(ROOT), Vec::new())];
        while let Some((lower, over, place)) = open.pop() {
            let opaque = over.is_some_and(|id| upper.directory(id).is_some_and(|dir| dir.opaque));
            if opaque {
                continue;
            }
            for (name, child) in base.entries(lower) {
                let Child::Node(below) = *child else { continue };
                let mut path: Vec<Name> = place.clone();
                path.push(name.clone());
                let above = over.and_then(|id| upper.child(id, name.as_bytes()));
                let is_directory = base.directory(below).is_some();
                match above {
                    None if is_directory => open.push((below, None, path)),
                    Some(Child::Node(id)) if is_directory => {
                        if upper.directory(id).is_some() {
                            open.push((below, Some(id), path));
                        }
                    }
                    _ if names.links_of(below) < 2 => {}
                    None => names.visible.entry(below).or_default().push(path),
                    Some(Child::Node(id)) => {
                        names.below.insert(id, below);
                    }
                    Some(Child::Whiteout) => removed.push((below, path)),
                }
            }
        }
        for (below, path) in removed {
            if let Some(other) = names.visible.get(&below).and_then(|all| all.first()) {
                names.removed.push((shown(&path), shown(other)));
            }
        }
        names.removed.sort();
        names
    }

    fn links_of(&self, id: NodeId) -> u32 {
        self.lower_counts.get(id as usize).copied().unwrap_or(0)
    }
}

/// Makes `path` a name of node `id`.
fn place<C>(assembly: &mut Assembly<C>, path: &[Name], id: NodeId) -> Result<(), OverlayError> {
    let Some((last, parents)) = path.split_last() else {
        return Ok(());
    };
    let mut at = ROOT;
    for name in parents {
        at = match assembly.tree.child(at, name.as_bytes()) {
            Some(Child::Node(inside)) => inside,
            _ => {
                let meta = Metadata {
                    mode: 0o755,
                    ..Metadata::default()
                };
                let kind = Kind::Directory(Directory::default());
                let made = assembly
                    .tree
                    .insert(at, name.clone(), Node { meta, kind })?;
                assembly.implied.insert(made);
                made
            }
        };
    }
    Ok(assembly.tree.set(at, last.clone(), Child::Node(id))?)
}

fn shown(path: &[Name]) -> String {
    let parts: Vec<String> = path.iter().map(ToString::to_string).collect();
    parts.join("/")
}
