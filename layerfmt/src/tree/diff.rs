//! The inverse of the merge rule: the smallest tree of changes that leads from one whole tree to
//! another.

use std::collections::HashMap;

use super::{Child, Kind, Node, NodeId, ROOT, Tree, TreeError};

/// The changes for which `apply(base, changes)` is `target`.
///
/// Both are whole trees. An entry is omitted if its object is equal in both and has the same set of
/// names (hard links); a directory that contains changes is listed with its own metadata.
///
/// # Errors
/// The result has more objects than an index can number.
pub fn diff<C: Clone + PartialEq>(base: &Tree<C>, target: &Tree<C>) -> Result<Tree<C>, TreeError> {
    let root = target.node(ROOT).ok_or(TreeError::NotADirectory)?;
    let mut diff = Diff {
        base,
        target,
        base_links: link_sets(base),
        target_links: link_sets(target),
        out: Tree::new(root.meta.clone()),
        copied: HashMap::new(),
    };
    diff.directory(ROOT, Some(ROOT), ROOT)?;
    Ok(diff.out)
}

/// Full paths of every object with more than one name, by node number.
type LinkSets = HashMap<NodeId, Vec<Box<[u8]>>>;

fn link_sets<C>(tree: &Tree<C>) -> LinkSets {
    let counts = tree.link_counts();
    let mut sets = LinkSets::new();
    let _ = tree.walk(|visit| {
        if let Some((id, _)) = visit.node
            && counts.get(id as usize).is_some_and(|&count| count > 1)
        {
            sets.entry(id).or_default().push(visit.path.into());
        }
        Ok::<(), std::convert::Infallible>(())
    });
    sets
}

struct Diff<'t, C> {
    base: &'t Tree<C>,
    target: &'t Tree<C>,
    base_links: LinkSets,
    target_links: LinkSets,
    out: Tree<C>,
    copied: HashMap<NodeId, NodeId>,
}

impl<C: Clone + PartialEq> Diff<'_, C> {
    /// Adds the changes between two directories to `to`. Returns true if there are any.
    fn directory(
        &mut self,
        to: NodeId,
        base_dir: Option<NodeId>,
        target_dir: NodeId,
    ) -> Result<bool, TreeError> {
        let (base, target) = (self.base, self.target);
        let mut changed = false;
        let base_entries = base_dir
            .and_then(|id| base.directory(id))
            .map(|d| &d.entries);
        let kept = base_entries.is_some_and(|entries| {
            entries
                .keys()
                .any(|name| target.child(target_dir, name.as_bytes()).is_some())
        });
        if let Some(entries) = base_entries
            && !entries.is_empty()
        {
            if kept {
                for name in entries.keys() {
                    if target.child(target_dir, name.as_bytes()).is_none() {
                        self.out.set(to, name.clone(), Child::Whiteout)?;
                        changed = true;
                    }
                }
            } else if let Some(directory) = self.out.directory_mut(to) {
                // No entry survives: one opaque mark replaces a whiteout for each name.
                directory.opaque = true;
                changed = true;
            }
        }
        for (name, child) in target.entries(target_dir) {
            let Child::Node(target_id) = *child else {
                continue;
            };
            let below = base_dir.and_then(|dir| base.child(dir, name.as_bytes()));
            let below = match below {
                Some(Child::Node(id)) => Some(id),
                _ => None,
            };
            if let Some(id) = self.entry(below, target_id)? {
                self.out.set(to, name.clone(), Child::Node(id))?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// The node to list for a name, or `None` without a change.
    fn entry(
        &mut self,
        base_id: Option<NodeId>,
        target_id: NodeId,
    ) -> Result<Option<NodeId>, TreeError> {
        let Some(target_node) = self.target.node(target_id) else {
            return Ok(None);
        };
        let base_node = base_id.and_then(|id| self.base.node(id));
        if let Kind::Directory(_) = &target_node.kind {
            let base_dir = base_id.filter(|_| base_node.is_some_and(|node| node.kind.is_dir()));
            let kind = Kind::Directory(super::Directory::default());
            let id = self.out.add(Node {
                meta: target_node.meta.clone(),
                kind,
            })?;
            let changed = self.directory(id, base_dir, target_id)?;
            let same = base_dir.is_some() && base_node.is_some_and(|n| n.meta == target_node.meta);
            return Ok((changed || !same).then_some(id));
        }
        if base_node == Some(target_node)
            && base_id.and_then(|id| self.base_links.get(&id)) == self.target_links.get(&target_id)
        {
            return Ok(None);
        }
        if let Some(id) = self.copied.get(&target_id) {
            return Ok(Some(*id));
        }
        let id = self.out.add(target_node.clone())?;
        self.copied.insert(target_id, id);
        Ok(Some(id))
    }
}
