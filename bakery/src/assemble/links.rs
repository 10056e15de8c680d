//! Hard links: a link names an earlier, a later or an excluded object.

use std::collections::HashMap;

use layerfmt::tree::{Child, ROOT};

use super::Assembler;
use source::{EntryPath, SourceError};

/// The target of a link.
enum LinkTarget {
    Object(Child),
    /// It does not exist, at least not yet.
    Missing,
}

impl<C> Assembler<'_, C> {
    /// Adds a link, which waits if its target does not exist yet.
    pub(super) fn link(&mut self, path: EntryPath, target: EntryPath) -> Result<(), SourceError> {
        match self.target(&path, &target)? {
            LinkTarget::Object(child) => self.place(&path, child),
            LinkTarget::Missing => {
                self.waiting.push((path, target));
                Ok(())
            }
        }
    }

    /// Resolves the waiting links, first those whose target is known; each can be the target of
    /// another.
    pub(super) fn join_links(&mut self) -> Result<(), SourceError> {
        let mut waiting: HashMap<EntryPath, Vec<EntryPath>> = HashMap::new();
        for (path, target) in std::mem::take(&mut self.waiting) {
            waiting.entry(target).or_default().push(path);
        }
        let mut ready = Vec::new();
        for (target, paths) in &waiting {
            let Some(path) = paths.first() else { continue };
            if matches!(self.target(path, target)?, LinkTarget::Object(_)) {
                ready.push(target.clone());
            }
        }
        while let Some(target) = ready.pop() {
            for path in waiting.remove(&target).unwrap_or_default() {
                if let LinkTarget::Object(child) = self.target(&path, &target)? {
                    self.place(&path, child)?;
                }
                if waiting.contains_key(&path) {
                    ready.push(path);
                }
            }
        }
        // Independent of the order of the map.
        let Some((target, paths)) = waiting.into_iter().min() else {
            return Ok(());
        };
        let problem = if self.left_out.contains_key(&target) {
            format!("it is a hard link to {target}, which is excluded; exclude both or neither")
        } else {
            format!("it is a hard link to {target}, which does not exist")
        };
        Err(self.wrong(&paths.into_iter().min().unwrap_or_default(), problem))
    }

    fn target(&self, path: &EntryPath, target: &EntryPath) -> Result<LinkTarget, SourceError> {
        let mut at = Child::Node(ROOT);
        for part in target.components() {
            let Child::Node(id) = at else {
                return Ok(LinkTarget::Missing);
            };
            match self.tree.child(id, part) {
                Some(child) => at = child,
                // overlayfs makes one device and links every whiteout to it.
                None if self.left_out.get(target) == Some(&true) => {
                    return Ok(LinkTarget::Object(Child::Whiteout));
                }
                None => return Ok(LinkTarget::Missing),
            }
        }
        match at {
            Child::Node(id) if self.tree.directory(id).is_some() => {
                Err(self.wrong(path, format!("it is a hard link to the directory {target}")))
            }
            child => Ok(LinkTarget::Object(child)),
        }
    }

    fn place(&mut self, path: &EntryPath, child: Child) -> Result<(), SourceError> {
        if child == Child::Whiteout {
            self.seen.whiteouts += 1;
        }
        let (parent, name) = self.free_place(path)?;
        self.tree
            .set(parent, name, child)
            .map_err(|problem| self.wrong(path, problem.to_string()))
    }
}
