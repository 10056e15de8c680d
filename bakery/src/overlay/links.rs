//! Parents that an archive does not list: if the base has a symbolic link at such a path, the
//! archive's entries are placed at its target, as by an extraction there.

use layerfmt::tree::{Child, Directory, Kind, Metadata, Name, Node, NodeId, ROOT, Tree};

use super::OverlayError;
use crate::assemble::Assembly;
use crate::limits::LINK_HOPS_MAX;

/// An unlisted directory that is a link in the base.
struct Moved {
    parent: NodeId,
    name: Name,
    id: NodeId,
    path: String,
    target: Vec<Name>,
}

/// Moves entries below such links to their targets. `notes` gets the links of the base that a
/// listed directory replaces.
///
/// # Errors
/// A link leads to no directory, a parent is not a directory, or the target already has an
/// entry of the name.
pub(super) fn follow<C>(
    base: &Tree<C>,
    assembly: &mut Assembly<C>,
    notes: &mut Vec<String>,
) -> Result<(), OverlayError> {
    for round in 0..LINK_HOPS_MAX {
        let mut replaced = Vec::new();
        let moved = links(base, assembly, &mut replaced)?;
        if round == 0 {
            notes.append(&mut replaced);
        }
        if moved.is_empty() {
            return Ok(());
        }
        for one in moved {
            relocate(assembly, &one)?;
        }
    }
    Err(OverlayError::TooManyLinks)
}

/// The links of the base in the places of unlisted directories.
fn links<C>(
    base: &Tree<C>,
    assembly: &Assembly<C>,
    replaced: &mut Vec<String>,
) -> Result<Vec<Moved>, OverlayError> {
    let mut moved = Vec::new();
    let mut open = vec![(ROOT, ROOT, Vec::new())];
    while let Some((upper, lower, place)) = open.pop() {
        for (name, child) in assembly.tree.entries(upper) {
            let Child::Node(id) = *child else { continue };
            let Some(Child::Node(below)) = base.child(lower, name.as_bytes()) else {
                continue;
            };
            let Some(directory) = assembly.tree.directory(id) else {
                continue;
            };
            if directory.opaque || assembly.redirects.contains_key(&id) {
                continue;
            }
            let place: Vec<u8> = [&place, name.as_bytes()].concat();
            let path = String::from_utf8_lossy(&place).into_owned();
            let is_implied = assembly.implied.contains(&id);
            match base.node(below).map(|node| &node.kind) {
                Some(Kind::Directory(_)) => {
                    open.push((id, below, [&place[..], b"/"].concat()));
                }
                Some(Kind::Symlink(target)) if is_implied => {
                    let found = resolve(base, &place);
                    let target = found.ok_or_else(|| OverlayError::LinkToNoDirectory {
                        path: path.clone(),
                        target: target.escape_ascii().to_string(),
                    })?;
                    moved.push(Moved {
                        parent: upper,
                        name: name.clone(),
                        id,
                        path,
                        target,
                    });
                }
                Some(Kind::Symlink(target)) => replaced.push(format!(
                    "{path}: a directory replaces the base's symbolic link to {}",
                    target.escape_ascii()
                )),
                Some(_) if is_implied => return Err(OverlayError::ParentIsNoDirectory(path)),
                _ => {}
            }
        }
    }
    Ok(moved)
}

/// The directory of the base that `path` leads to, links followed; `None` when there is none.
fn resolve<C>(base: &Tree<C>, path: &[u8]) -> Option<Vec<Name>> {
    let mut todo: Vec<Vec<u8>> = Vec::new();
    let push = |todo: &mut Vec<Vec<u8>>, path: &[u8]| {
        todo.extend(path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    };
    push(&mut todo, path);
    let mut done: Vec<(Name, NodeId)> = Vec::new();
    let mut hops = 0;
    while let Some(part) = todo.pop() {
        match &*part {
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => {}
        }
        let at = done.last().map_or(ROOT, |(_, id)| *id);
        let Some(Child::Node(id)) = base.child(at, &part) else {
            return None;
        };
        match &base.node(id)?.kind {
            Kind::Directory(_) => done.push((Name::new(&part).ok()?, id)),
            Kind::Symlink(target) => {
                hops += 1;
                if hops > LINK_HOPS_MAX {
                    return None;
                }
                if target.first() == Some(&b'/') {
                    done.clear();
                }
                push(&mut todo, target);
            }
            _ => return None,
        }
    }
    Some(done.into_iter().map(|(name, _)| name).collect())
}

/// Moves the entries of one unlisted directory to the target of the base's link.
fn relocate<C>(assembly: &mut Assembly<C>, moved: &Moved) -> Result<(), OverlayError> {
    if let Some(parent) = assembly.tree.directory_mut(moved.parent) {
        parent.entries.remove(&moved.name);
    }
    let mut at = ROOT;
    for name in &moved.target {
        at = match assembly.tree.child(at, name.as_bytes()) {
            Some(Child::Node(id)) if assembly.tree.directory(id).is_some() => id,
            None => {
                let node = Node {
                    meta: Metadata {
                        mode: 0o755,
                        ..Metadata::default()
                    },
                    kind: Kind::Directory(Directory::default()),
                };
                let id = assembly.tree.insert(at, name.clone(), node)?;
                assembly.implied.insert(id);
                id
            }
            Some(_) => return Err(twice(&moved.path, &moved.target, &[])),
        };
    }
    let mut open = vec![(moved.id, at, Vec::new())];
    while let Some((from, to, inside)) = open.pop() {
        let entries = assembly.tree.directory_mut(from).map(std::mem::take);
        for (name, child) in entries.unwrap_or_default().entries {
            let there = assembly.tree.child(to, name.as_bytes());
            let mut inside: Vec<Name> = inside.clone();
            inside.push(name.clone());
            match (child, there) {
                (_, None) => assembly.tree.set(to, name, child)?,
                (Child::Node(new), Some(Child::Node(old)))
                    if assembly.tree.directory(new).is_some()
                        && assembly.tree.directory(old).is_some() =>
                {
                    if assembly.implied.contains(&old) {
                        list_as(assembly, new, old);
                    } else if !assembly.implied.contains(&new) {
                        return Err(twice(&moved.path, &moved.target, &inside));
                    }
                    open.push((new, old, inside));
                }
                _ => return Err(twice(&moved.path, &moved.target, &inside)),
            }
        }
    }
    Ok(())
}

/// Gives the unlisted directory `old` the entries of `new`.
fn list_as<C>(assembly: &mut Assembly<C>, new: NodeId, old: NodeId) {
    if assembly.implied.contains(&new) {
        return;
    }
    let Some(meta) = assembly.tree.node(new).map(|node| node.meta.clone()) else {
        return;
    };
    let opaque = assembly.tree.directory(new).is_some_and(|dir| dir.opaque);
    if let Some(node) = assembly.tree.node_mut(old) {
        node.meta = meta;
    }
    if let Some(directory) = assembly.tree.directory_mut(old) {
        directory.opaque |= opaque;
    }
    assembly.implied.remove(&old);
}

fn twice(link: &str, target: &[Name], inside: &[Name]) -> OverlayError {
    let target: Vec<String> = target.iter().map(ToString::to_string).collect();
    let inside: Vec<String> = inside.iter().map(ToString::to_string).collect();
    OverlayError::TwiceByLink {
        link: link.to_owned(),
        target: target.join("/"),
        path: inside.join("/"),
    }
}
