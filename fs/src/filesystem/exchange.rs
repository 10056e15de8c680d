//! The switch of a running mount to another revision: the lower is exchanged under the upper.
//!
//! Everything that takes long happens before, without a lock: the comparison of the revisions, the
//! new tables ([`layerfmt::index::Successor`]) and the search of the upper for conflicts
//! ([`survey`]). The exchange itself locks the tree once. Rows in use mean the same object before
//! and after it, so a request that began before needs nothing of it.

mod alike;
mod claims;
mod conflict;
mod nodes;
mod stale;
mod survey;

use std::collections::HashSet;
use std::sync::Arc;

use layerfmt::index::Successor;
use layerfmt::{Index, Ino};

pub use self::conflict::{Conflict, Ours, Theirs};
pub use self::stale::Stale;
use self::survey::UpperSurvey;
use super::reply::lower_id;
use super::tree::{CHANGED_NAMES_MAX, Entry, Name, Tree};
use super::{LayerFs, lock};
use crate::error::Error;
use crate::lower::{LowerParts, NextLower};
use crate::sys::Errno;
use crate::upper::origins::EarlierRows;

/// A switch that can be carried out.
#[derive(Debug)]
pub struct Planned {
    /// The number of switches before it.
    serial: u32,
    successor: Successor,
    digest: [u8; 32],
    survey: UpperSurvey,
}

/// What happened.
#[derive(Debug)]
pub struct Switched {
    /// What the kernel must forget.
    pub stale: Stale,
    /// Objects of the revision before that are still in use.
    pub kept: usize,
}

/// The reason why a mount does not switch.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Names that the revision changes were changed in the upper meanwhile.
    #[error("files that the revision changes were changed at the same moment")]
    Moved,
    /// Files whose data the revision does not have.
    #[error(
        "files of the upper would lose their data: their owner, permissions or names were changed here, and the other revision does not have their data"
    )]
    Lost,
    /// The upper cannot be searched, or the revisions do not fit into one mount.
    #[error("{0}")]
    Format(#[from] layerfmt::FormatError),
    /// The upper cannot be read.
    #[error(transparent)]
    Upper(#[from] Error),
}

impl Planned {
    /// The conflicts with the upper, by path.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.survey.conflicts
    }

    /// The index that the mount will have.
    pub fn index(&self) -> &Index {
        &self.successor.index
    }

    /// Number of names whose object differs.
    pub fn change_count(&self) -> usize {
        self.successor.changes.len()
    }
}

impl LayerFs {
    /// Compares the mounted revision with `next`, whose index has this digest, and searches the
    /// upper for conflicts. `base` is the mounted revision by its layers, if the mount uses an index
    /// with a boot pack. From now on changes of names are recorded, until the switch is carried out
    /// or given up ([`LayerFs::give_up_switch`]).
    ///
    /// # Errors
    /// The upper cannot be read, or both revisions have too many objects.
    pub fn plan_switch(
        &self,
        base: Option<&Index>,
        next: &Index,
        digest: &[u8; 32],
    ) -> Result<Planned, ExchangeError> {
        if !self.lower().index.await_whole() {
            return Err(Error::fault(Errno::IO, "the index of the revision is lost").into());
        }
        let used = {
            let mut tree = self.write_tree();
            tree.changed_names = self.upper.is_some().then(Vec::new);
            self.rows_in_use(&tree)
        };
        let lower = self.lower();
        let in_use = |row| self.row_lookups.is_known(row) || used.contains(&row);
        let same_rows =
            |base: &&Index| lower.serial == 0 && base.inode_count() == lower.index.inode_count();
        let current = base.filter(same_rows).unwrap_or(&lower.index);
        let successor = current.succeed(next, in_use, self.numbers.rows_max())?;
        let survey = match &self.upper {
            Some(upper) => UpperSurvey::of(upper, &lower, &successor)?,
            None => UpperSurvey::default(),
        };
        Ok(Planned {
            serial: lower.serial,
            successor,
            digest: *digest,
            survey,
        })
    }

    /// The objects that the kernel knows and that would lose their names.
    pub fn old_objects(&self, planned: &Planned) -> Vec<u64> {
        let dropped = planned.successor.dropped.iter().copied();
        let known = dropped.filter(|row| self.row_lookups.is_known(*row));
        known.map(lower_id).collect()
    }

    /// The plan is not carried out.
    pub fn give_up_switch(&self) {
        self.write_tree().changed_names = None;
    }

    /// Rows without a name that objects of the upper need.
    fn rows_in_use(&self, tree: &Tree) -> HashSet<Ino> {
        let of_nodes = tree.iter().flat_map(|(id, node)| {
            let own = self.numbers.row_of(id);
            own.into_iter().chain(node.row)
        });
        let mut used: HashSet<Ino> = of_nodes.collect();
        let kept = tree.kept_numbers.iter();
        used.extend(kept.filter_map(|(_, id)| self.numbers.row_of(id)));
        used.extend(self.lower().origins.earlier_rows());
        used
    }

    /// Carries a plan out: the mount shows the other revision when this returns. The kernel must
    /// then be told what is stale.
    ///
    /// # Errors
    /// The mount still shows the revision that it showed before.
    pub fn carry_out_switch(
        &self,
        planned: Planned,
        parts: LowerParts,
    ) -> Result<Switched, ExchangeError> {
        let _alone = lock(&self.switching);
        let old = self.lower.load_full();
        let Planned {
            serial,
            successor,
            digest,
            survey,
        } = planned;
        if old.serial != serial {
            self.give_up_switch();
            return Err(ExchangeError::Moved);
        }
        let Successor {
            index,
            rows,
            changes,
            restyled,
            added,
            dropped,
        } = successor;
        let mut earlier = survey.origins;
        if self.upper.is_some() {
            earlier.extend(self.known_origins(&self.read_tree(), &old));
        }
        let next = Arc::new(old.succeed(NextLower {
            index,
            digest,
            rows,
            added,
            earlier,
            parts,
        }));
        if self.upper.is_some() {
            // Not under the lock.
            next.names();
        }
        let exchange = {
            let mut tree = self.write_tree();
            let changed = tree.changed_names.take().unwrap_or_default();
            if changed.len() > CHANGED_NAMES_MAX
                || has_moved(&changed, &changes, &survey.met)
                || changed
                    .iter()
                    .any(|at| may_show_twice(&tree, &next.index, at))
            {
                return Err(ExchangeError::Moved);
            }
            let edit = nodes::Edit {
                fs: self,
                next: &next,
                changes: &changes,
                restyled: &restyled,
                dropped: &dropped,
                redirected: &survey.redirected,
            };
            edit.exchange(&mut tree)?
        };
        *lock(&self.whereabouts) = super::handles::Whereabouts::default();
        Ok(exchange)
    }

    /// The marks of objects of the upper that the tree knows.
    fn known_origins(&self, tree: &Tree, old: &crate::lower::Lower) -> EarlierRows {
        let rows = tree
            .iter()
            .filter(|(_, node)| node.in_upper && !node.is_dir());
        rows.filter_map(|(id, _)| self.numbers.row_of(id))
            .map(|row| (old.origins.origin(row), Some(row)))
            .filter(|(mark, row)| old.origins.row(mark) == *row)
            .collect()
    }
}

/// True if the change of a name since the search can make a lower directory be shown twice.
fn may_show_twice(tree: &Tree, index: &Index, (dir, name): &(u64, Name)) -> bool {
    let Some(node) = tree.get(*dir) else {
        return false;
    };
    let covers = node.in_lower(index, name);
    let covers = covers.filter(|row| index.inode(*row).is_some_and(|inode| inode.is_dir()));
    let node = match node.listing.get(name) {
        Some(Entry::Object { id, .. }) => tree.get(id),
        _ => None,
    };
    let is_merged = node.is_some_and(|node| node.row == covers);
    node.is_some_and(|node| node.moved) || (covers.is_some() && !is_merged)
}

/// True if a name that the revision changes was changed in the upper since the search, and is not
/// among the conflicts that were found.
fn has_moved(
    changed: &[(u64, Name)],
    changes: &[layerfmt::index::NameChange],
    met: &HashSet<(Ino, Box<[u8]>)>,
) -> bool {
    if changed.is_empty() {
        return false;
    }
    let changed: HashSet<(u64, &[u8])> =
        changed.iter().map(|(dir, name)| (*dir, &**name)).collect();
    changes.iter().any(|change| {
        changed.contains(&(lower_id(change.dir), &*change.name))
            && !met.contains(&(change.dir, change.name.clone()))
    })
}
