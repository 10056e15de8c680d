//! Adds one object to the tree of changes.

use layerfmt::tree::{Child, Directory, Kind, Metadata, Name, Node, NodeId, ROOT, TreeError};

use super::Assembler;
use source::{EntryPath, SourceError};

impl<C> Assembler<'_, C> {
    /// The directory at `path`, made together with its parents when it is not there yet.
    pub(super) fn ensure(&mut self, path: &EntryPath) -> Result<NodeId, SourceError> {
        let mut at = ROOT;
        for part in path.components() {
            let name = self.name(path, part)?;
            at = match self.tree.child(at, part) {
                Some(Child::Node(id)) if self.tree.directory(id).is_some() => id,
                Some(Child::Node(_)) => {
                    let problem = "one of its parents is not a directory in this archive";
                    return Err(self.wrong(path, problem));
                }
                // An object was removed here; the new object hides it completely.
                Some(Child::Whiteout) => self.imply(path, at, name, true)?,
                None => self.imply(path, at, name, false)?,
            };
        }
        Ok(at)
    }

    fn imply(
        &mut self,
        path: &EntryPath,
        parent: NodeId,
        name: Name,
        opaque: bool,
    ) -> Result<NodeId, SourceError> {
        let kind = Kind::Directory(Directory {
            opaque,
            ..Directory::default()
        });
        let meta = Metadata {
            mode: 0o755,
            ..Metadata::default()
        };
        let inserted = self.tree.insert(parent, name, Node { meta, kind });
        let id = inserted.map_err(|problem| self.cannot(path, problem))?;
        self.implied.insert(id);
        Ok(id)
    }

    /// A listed directory.
    pub(super) fn directory(
        &mut self,
        path: &EntryPath,
        meta: Metadata,
        opaque: bool,
    ) -> Result<NodeId, SourceError> {
        let id = self.ensure(path)?;
        self.implied.remove(&id);
        if let Some(node) = self.tree.node_mut(id) {
            node.meta = meta;
        }
        if opaque {
            self.mark_opaque(id);
        }
        Ok(id)
    }

    /// Marks the directory at `path`, which the source need not list, as opaque.
    pub(super) fn opaque(&mut self, path: &EntryPath) -> Result<(), SourceError> {
        if self.is_below_a_leaf(path) {
            return Ok(());
        }
        let id = self.ensure(path)?;
        self.mark_opaque(id);
        Ok(())
    }

    fn mark_opaque(&mut self, id: NodeId) {
        if let Some(directory) = self.tree.directory_mut(id) {
            directory.opaque = true;
        }
    }

    /// Adds an object that is not a directory.
    pub(super) fn leaf(&mut self, path: &EntryPath, node: Node<C>) -> Result<NodeId, SourceError> {
        let (parent, name) = self.free_place(path)?;
        let inserted = self.tree.insert(parent, name, node);
        inserted.map_err(|problem| self.cannot(path, problem))
    }

    /// The directory and the name of a new object at `path`, which must be free.
    pub(super) fn free_place(&mut self, path: &EntryPath) -> Result<(NodeId, Name), SourceError> {
        let Some((parent, last)) = path.split_last() else {
            return Err(self.wrong(path, "the root of the tree is not a directory"));
        };
        let ensured = self.ensure(&parent);
        let parent = ensured.map_err(|error| error.entry(path))?;
        match self.tree.child(parent, last) {
            None | Some(Child::Whiteout) => Ok((parent, self.name(path, last)?)),
            Some(Child::Node(id)) if self.holds_whiteouts_only(id) => {
                Ok((parent, self.name(path, last)?))
            }
            Some(Child::Node(_)) => Err(self.wrong(path, "it is twice in this archive")),
        }
    }

    /// True if an object that is not a directory is on the way to `path` or at `path`. umoci lists
    /// removed names of a directory beside the file that replaced it: `x` and `x/.wh.v`.
    fn is_below_a_leaf(&self, path: &EntryPath) -> bool {
        let mut at = ROOT;
        for part in path.components() {
            match self.tree.child(at, part) {
                Some(Child::Node(id)) if self.tree.directory(id).is_some() => at = id,
                Some(Child::Node(_)) => return true,
                _ => return false,
            }
        }
        false
    }

    /// True if this directory was not listed, and only removed names were reported inside it.
    fn holds_whiteouts_only(&self, id: NodeId) -> bool {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if self.tree.directory(id).is_none() || !self.implied.contains(&id) {
                return false;
            }
            for (_, child) in self.tree.entries(id) {
                if let Child::Node(inside) = child {
                    open.push(*inside);
                }
            }
        }
        true
    }

    /// Hides everything below `path`. False if the excludes drop the whiteout.
    pub(super) fn whiteout(&mut self, path: &EntryPath) -> Result<bool, SourceError> {
        let Some((parent, last)) = path.split_last() else {
            return Err(self.wrong(path, "a whiteout of the whole tree"));
        };
        if self.leaves_out(path, false, true) {
            return Ok(false);
        }
        self.seen.whiteouts += 1;
        if self.is_below_a_leaf(&parent) {
            // The replacement of the directory hides everything that was in it.
            return Ok(true);
        }
        let parent = self.ensure(&parent)?;
        match self.tree.child(parent, last) {
            // The object has a whiteout of its own: removed and created again.
            Some(Child::Node(id)) => self.mark_opaque(id),
            Some(Child::Whiteout) => {}
            None => {
                let name = self.name(path, last)?;
                let set = self.tree.set(parent, name, Child::Whiteout);
                set.map_err(|problem| self.cannot(path, problem))?;
            }
        }
        Ok(true)
    }

    fn name(&self, path: &EntryPath, part: &[u8]) -> Result<Name, SourceError> {
        Name::new(part).map_err(|problem| self.wrong(path, problem.to_string()))
    }

    fn cannot(&self, path: &EntryPath, problem: TreeError) -> SourceError {
        self.wrong(path, problem.to_string())
    }
}
