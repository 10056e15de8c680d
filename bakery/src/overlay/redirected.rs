//! The merge rule with overlayfs' redirects: a directory may be merged with a lower directory of
//! another name, and the bytes of a file may be in the lower.

use std::collections::HashMap;

use layerfmt::tree::{Child, Directory, Kind, Name, Node, NodeId, ROOT, Tree};

use super::OverlayError;
use crate::assemble::Assembly;
use source::EntryPath;

/// The whole visible tree of the changes on `base`.
pub(super) fn merge<C: Clone>(
    base: &Tree<C>,
    assembly: &Assembly<C>,
) -> Result<Tree<C>, OverlayError> {
    let meta = match (assembly.implied.contains(&ROOT), base.node(ROOT)) {
        (true, Some(below)) => below.meta.clone(),
        _ => assembly
            .tree
            .node(ROOT)
            .map(|node| node.meta.clone())
            .unwrap_or_default(),
    };
    let mut merge = RedirectMerge {
        base,
        assembly,
        out: Tree::new(meta),
        copied_lower: HashMap::new(),
        copied_upper: HashMap::new(),
        path: Vec::new(),
    };
    merge.directory(ROOT, Some(ROOT), Some(ROOT))?;
    Ok(merge.out)
}

struct RedirectMerge<'m, C> {
    base: &'m Tree<C>,
    assembly: &'m Assembly<C>,
    out: Tree<C>,
    /// Hard-linked objects stay one object.
    copied_lower: HashMap<NodeId, NodeId>,
    copied_upper: HashMap<NodeId, NodeId>,
    /// The current path, for messages.
    path: Vec<Name>,
}

impl<C: Clone> RedirectMerge<'_, C> {
    /// Fills directory `to` with the merge of `upper` and `lower`. The depth is that of the trees,
    /// which is bounded.
    fn directory(
        &mut self,
        to: NodeId,
        upper: Option<NodeId>,
        lower: Option<NodeId>,
    ) -> Result<(), OverlayError> {
        let (base, changes) = (self.base, &self.assembly.tree);
        let opaque = upper
            .and_then(|id| changes.directory(id))
            .is_some_and(|dir| dir.opaque);
        let lower = lower.filter(|_| !opaque);
        if let Some(lower) = lower {
            for (name, child) in base.entries(lower) {
                let hidden = upper.is_some_and(|id| changes.child(id, name.as_bytes()).is_some());
                if let (false, Child::Node(id)) = (hidden, child) {
                    self.path.push(name.clone());
                    self.lower(to, name, *id)?;
                    self.path.pop();
                }
            }
        }
        let Some(upper) = upper else { return Ok(()) };
        for (name, child) in changes.entries(upper) {
            if let Child::Node(id) = child {
                self.path.push(name.clone());
                self.upper(to, name, *id, lower)?;
                self.path.pop();
            }
        }
        Ok(())
    }

    /// An object of the base that shows through.
    fn lower(&mut self, to: NodeId, name: &Name, id: NodeId) -> Result<(), OverlayError> {
        if let Some(copy) = self.copied_lower.get(&id) {
            self.out.set(to, name.clone(), Child::Node(*copy))?;
            return Ok(());
        }
        let Some(node) = self.base.node(id) else {
            return Ok(());
        };
        if node.kind.is_dir() {
            let kind = Kind::Directory(Directory::default());
            let copy = self.out.insert(
                to,
                name.clone(),
                Node {
                    meta: node.meta.clone(),
                    kind,
                },
            )?;
            return self.directory(copy, None, Some(id));
        }
        let copy = self.out.insert(to, name.clone(), node.clone())?;
        self.copied_lower.insert(id, copy);
        Ok(())
    }

    /// A changed object; `beside` is the lower directory of its parent.
    fn upper(
        &mut self,
        to: NodeId,
        name: &Name,
        id: NodeId,
        beside: Option<NodeId>,
    ) -> Result<(), OverlayError> {
        if let Some(copy) = self.copied_upper.get(&id) {
            self.out.set(to, name.clone(), Child::Node(*copy))?;
            return Ok(());
        }
        let Some(node) = self.assembly.tree.node(id) else {
            return Ok(());
        };
        let redirect = match self.assembly.metacopies.get(&id) {
            Some((_, redirect)) => redirect.as_deref(),
            None => self.assembly.redirects.get(&id).map(|redirect| &**redirect),
        };
        let below = match redirect {
            Some(redirect) => self.redirected(redirect, beside)?,
            None => self.child(beside, name.as_bytes()),
        };
        if !node.kind.is_dir() {
            let mut node = node.clone();
            if self.assembly.metacopies.contains_key(&id) {
                node.kind = self.bytes_below(below, redirect)?;
            }
            let copy = self.out.insert(to, name.clone(), node)?;
            self.copied_upper.insert(id, copy);
            return Ok(());
        }
        let below = below.filter(|id| self.base.directory(*id).is_some());
        let meta = match below.and_then(|below| self.base.node(below)) {
            Some(below) if self.assembly.implied.contains(&id) => below.meta.clone(),
            _ => node.meta.clone(),
        };
        let kind = Kind::Directory(Directory::default());
        let copy = self.out.insert(to, name.clone(), Node { meta, kind })?;
        self.directory(copy, Some(id), below)
    }

    fn child(&self, directory: Option<NodeId>, name: &[u8]) -> Option<NodeId> {
        match self.base.child(directory?, name)? {
            Child::Node(id) => Some(id),
            Child::Whiteout => None,
        }
    }

    /// The target of a redirect in the base: a path from the root, or a sibling name.
    fn redirected(
        &self,
        redirect: &[u8],
        beside: Option<NodeId>,
    ) -> Result<Option<NodeId>, OverlayError> {
        let wrong = || OverlayError::BadRedirect {
            path: self.shown(),
            value: redirect.escape_ascii().to_string(),
        };
        let (start, rest) = match redirect.strip_prefix(b"/") {
            Some(rest) => (Some(ROOT), rest),
            None if redirect.contains(&b'/') => return Err(wrong()),
            None => (beside, redirect),
        };
        let path = EntryPath::parse(rest).map_err(|_| wrong())?;
        if path.is_root() {
            return Err(wrong());
        }
        Ok(path
            .components()
            .fold(start, |directory, part| self.child(directory, part)))
    }

    /// The bytes of the file below a metadata-only copy.
    fn bytes_below(
        &self,
        below: Option<NodeId>,
        redirect: Option<&[u8]>,
    ) -> Result<Kind<C>, OverlayError> {
        match below
            .and_then(|id| self.base.node(id))
            .map(|node| &node.kind)
        {
            Some(kind @ Kind::File(_)) => Ok(kind.clone()),
            _ => Err(OverlayError::NoFileBelow {
                path: self.shown(),
                below: redirect.map_or_else(|| self.shown(), |to| to.escape_ascii().to_string()),
            }),
        }
    }

    fn shown(&self) -> String {
        let parts: Vec<String> = self.path.iter().map(ToString::to_string).collect();
        parts.join("/")
    }
}
