//! Walks a tree in canonical order: entries bytewise, a directory before its contents.

use super::{Child, Name, Node, NodeId, ROOT, Tree};

/// One entry met on a walk.
#[derive(Debug)]
pub struct Visit<'t, C> {
    /// Path from the root, components joined by `/`, no leading `/`; empty for the root.
    pub path: &'t [u8],
    /// The node; `None` for a whiteout.
    pub node: Option<(NodeId, &'t Node<C>)>,
}

impl<C> Tree<C> {
    /// Call `visit` for the root, then for every entry, parents first, names in order.
    /// A hard-linked node is visited once for every name. Stops at the first error.
    ///
    /// # Errors
    /// The error of `visit`.
    pub fn walk<E>(&self, mut visit: impl FnMut(Visit<'_, C>) -> Result<(), E>) -> Result<(), E> {
        let Some(root) = self.node(ROOT) else {
            return Ok(());
        };
        visit(Visit {
            path: b"",
            node: Some((ROOT, root)),
        })?;
        let mut path: Vec<u8> = Vec::new();
        // Open directories: the remaining entries, and the path length to return to.
        let mut open = vec![(self.entries(ROOT), 0usize)];
        while let Some((entries, base_len)) = open.last_mut() {
            path.truncate(*base_len);
            let Some((name, child)) = entries.next() else {
                open.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            let node = match child {
                Child::Whiteout => None,
                Child::Node(id) => self.node(*id).map(|node| (*id, node)),
            };
            visit(Visit { path: &path, node })?;
            if let Some((id, node)) = node
                && node.kind.is_dir()
            {
                open.push((self.entries(id), path.len()));
            }
        }
        Ok(())
    }

    /// The entries of directory `id` in name order; none if it is not a directory.
    pub fn entries(&self, id: NodeId) -> std::collections::btree_map::Iter<'_, Name, Child> {
        static EMPTY: std::collections::BTreeMap<Name, Child> = std::collections::BTreeMap::new();
        self.directory(id)
            .map_or(EMPTY.iter(), |directory| directory.entries.iter())
    }

    /// The number of names of each node, by node number (0 for unreachable nodes, 1 for the root).
    pub fn link_counts(&self) -> Vec<u32> {
        let mut counts = vec![0u32; self.node_count()];
        let _ = self.walk(|visit| {
            if let Some((id, _)) = visit.node
                && let Some(count) = counts.get_mut(id as usize)
            {
                *count += 1;
            }
            Ok::<(), std::convert::Infallible>(())
        });
        counts
    }
}
