//! The merge rule: the effect of a tree of changes on the tree below it.
//!
//! This is the reference model. `flatten` is its fast form over indexes, the mount its lazy form;
//! `tests/` compares all of them, and the kernel's overlayfs, with this one.

use std::collections::HashMap;

use super::{Child, Directory, Kind, Node, NodeId, ROOT, Tree, TreeError};

/// The visible tree of `delta` over the whole tree `base`: no whiteouts, no opaque directories.
///
/// # Errors
/// The result has more objects than an index can number.
pub fn apply<C: Clone>(base: &Tree<C>, delta: &Tree<C>) -> Result<Tree<C>, TreeError> {
    merge(base, delta, true)
}

/// One tree of changes with the effect of `lower` followed by `upper`. Whiteouts and opaque marks
/// stay, because there may be further layers below.
///
/// # Errors
/// The result has more objects than an index can number.
pub fn compose<C: Clone>(lower: &Tree<C>, upper: &Tree<C>) -> Result<Tree<C>, TreeError> {
    merge(lower, upper, false)
}

/// The tree of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Lower,
    Upper,
}

struct Merge<'t, C> {
    lower: &'t Tree<C>,
    upper: &'t Tree<C>,
    out: Tree<C>,
    /// Hard-linked nodes stay one node.
    copied: HashMap<(Side, NodeId), NodeId>,
    /// Directories whose entries are still to be merged: the target, and the two sides.
    pending: Vec<Pending>,
}

struct Pending {
    to: NodeId,
    below: Below,
    upper: Option<NodeId>,
    /// No tree below both is visible here: whiteouts have no effect.
    closed: bool,
}

/// The lower object with which an upper directory is merged.
#[derive(Clone, Copy)]
enum Below {
    /// No object: the upper directory hides it.
    Hidden,
    /// A lower directory, or none at this level but perhaps deeper down.
    Directory(Option<NodeId>),
}

fn merge<C: Clone>(lower: &Tree<C>, upper: &Tree<C>, bottom: bool) -> Result<Tree<C>, TreeError> {
    let root = upper.node(ROOT).ok_or(TreeError::NotADirectory)?;
    let mut merge = Merge {
        lower,
        upper,
        out: Tree::new(root.meta.clone()),
        copied: HashMap::new(),
        pending: Vec::new(),
    };
    let opaque = upper
        .directory(ROOT)
        .is_some_and(|directory| directory.opaque);
    let lower_opaque = lower
        .directory(ROOT)
        .is_some_and(|directory| directory.opaque);
    if let Some(directory) = merge.out.directory_mut(ROOT) {
        directory.opaque = !bottom && (opaque || lower_opaque);
    }
    merge.pending.push(Pending {
        to: ROOT,
        below: if opaque {
            Below::Hidden
        } else {
            Below::Directory(Some(ROOT))
        },
        upper: Some(ROOT),
        closed: bottom || opaque || lower_opaque,
    });
    while let Some(pending) = merge.pending.pop() {
        merge.directory(&pending)?;
    }
    Ok(merge.out)
}

impl<C: Clone> Merge<'_, C> {
    fn directory(&mut self, pending: &Pending) -> Result<(), TreeError> {
        let (lower, upper) = (self.lower, self.upper);
        let &Pending {
            to,
            below,
            upper: from_upper,
            closed,
        } = pending;
        let from_lower = match below {
            Below::Hidden => None,
            Below::Directory(id) => id,
        };
        if let Some(dir) = from_lower {
            for (name, child) in lower.entries(dir) {
                if from_upper.is_some_and(|id| upper.child(id, name.as_bytes()).is_some()) {
                    continue;
                }
                match child {
                    Child::Whiteout if closed => {}
                    Child::Whiteout => self.out.set(to, name.clone(), Child::Whiteout)?,
                    Child::Node(id) => {
                        let copy = self.copy(Side::Lower, *id, None, closed)?;
                        self.out.set(to, name.clone(), Child::Node(copy))?;
                    }
                }
            }
        }
        let Some(dir) = from_upper else { return Ok(()) };
        for (name, child) in upper.entries(dir) {
            let below = from_lower.and_then(|id| lower.child(id, name.as_bytes()));
            match child {
                Child::Whiteout if closed => {}
                Child::Whiteout => self.out.set(to, name.clone(), Child::Whiteout)?,
                Child::Node(id) => {
                    let copy = self.copy(Side::Upper, *id, below, closed)?;
                    self.out.set(to, name.clone(), Child::Node(copy))?;
                }
            }
        }
        Ok(())
    }

    /// Copies one node. For an upper node, `below` is the lower tree's object of the same name: a
    /// directory is merged, any other object is hidden.
    fn copy(
        &mut self,
        side: Side,
        id: NodeId,
        below: Option<Child>,
        parent_closed: bool,
    ) -> Result<NodeId, TreeError> {
        if let Some(copy) = self.copied.get(&(side, id)) {
            return Ok(*copy);
        }
        let tree = match side {
            Side::Lower => self.lower,
            Side::Upper => self.upper,
        };
        let node = tree.node(id).ok_or(TreeError::NotADirectory)?;
        let Kind::Directory(directory) = &node.kind else {
            let copy = self.out.add(node.clone())?;
            self.copied.insert((side, id), copy);
            return Ok(copy);
        };
        let below_directory = match below {
            Some(Child::Node(below)) => self.lower.directory(below).map(|d| (below, d.opaque)),
            _ => None,
        };
        // An object that is not a directory, or a whiteout, hides deeper layers.
        let cut = below.is_some() && below_directory.is_none();
        let below_opaque = below_directory.is_some_and(|(_, opaque)| opaque);
        let closed = parent_closed || directory.opaque || cut || below_opaque;
        let opaque = closed && !parent_closed;
        let kind = Kind::Directory(Directory {
            opaque,
            ..Directory::default()
        });
        let copy = self.out.add(Node {
            meta: node.meta.clone(),
            kind,
        })?;
        let (below, upper) = match side {
            Side::Lower => (Below::Directory(Some(id)), None),
            Side::Upper if directory.opaque || cut => (Below::Hidden, Some(id)),
            Side::Upper => (
                Below::Directory(below_directory.map(|(id, _)| id)),
                Some(id),
            ),
        };
        self.pending.push(Pending {
            to: copy,
            below,
            upper,
            closed,
        });
        Ok(copy)
    }
}
