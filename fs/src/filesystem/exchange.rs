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

use layerfmt::index::{NameChange, Restyled, Successor};
use layerfmt::{Index, Ino};

pub use self::conflict::{Conflict, Ours, Theirs};
pub use self::stale::Stale;
use self::survey::UpperSurvey;
use super::reply::lower_id;
use super::tree::{CHANGED_NAMES_MAX, Entry, Name, Tree};
use super::{LayerFs, lock};
use crate::error::Error;
use crate::lower::{Lower, LowerParts, NextLower};
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
            |base: &&Index| lower.serial == 0 && base.inode_count() == lower.object_count();
        let base = base.filter(same_rows);
        let renumbered = base.and_then(|base| {
            let rows = lower.origins.rows()?;
            let marked = lower.origins.earlier_rows().filter_map(|row| {
                let inode = lower.index.inode(row)?;
                Some((row, inode.kind()))
            });
            Some(base.renumbered(rows, &marked.collect::<Vec<_>>()))
        });
        let current = renumbered.as_ref().or(base).unwrap_or(&lower.index);
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
            mut survey,
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
        let mut earlier = std::mem::take(&mut survey.origins);
        if self.upper.is_some() {
            earlier.extend(self.known_origins(&self.read_tree(), &old));
        }
        let mut next = Arc::new(old.succeed(NextLower {
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
        self.store_numbers(&next);
        let exchanged =
            self.exchange_lower((&old, &mut next), (&changes, &restyled, &dropped), &survey);
        let has_late = matches!(exchanged, Ok((_, true)));
        if has_late {
            self.store_numbers(&next);
        }
        self.forget_numbers(match exchanged.is_ok() {
            true => (&next, &old),
            false => (&old, &next),
        });
        let (exchange, _) = exchanged?;
        *lock(&self.whereabouts) = super::handles::Whereabouts::default();
        Ok(exchange)
    }

    /// Exchanges the lower, while the tree is locked; true if marks of the upper are known since then
    /// only.
    fn exchange_lower(
        &self,
        (old, next): (&Lower, &mut Arc<Lower>),
        (changes, restyled, dropped): (&[NameChange], &[Restyled], &[Ino]),
        survey: &UpperSurvey,
    ) -> Result<(Switched, bool), ExchangeError> {
        let mut tree = self.write_tree();
        let changed = tree.changed_names.take().unwrap_or_default();
        if changed.len() > CHANGED_NAMES_MAX
            || has_moved(&changed, changes, &survey.met)
            || changed
                .iter()
                .any(|at| may_show_twice(&tree, &next.index, at))
        {
            return Err(ExchangeError::Moved);
        }
        let late = self.late_origins(&tree, old, next, &changed);
        let has_late = !late.is_empty();
        if let Some(next) = Arc::get_mut(next) {
            next.origins.learn(late);
        }
        let edit = nodes::Edit {
            fs: self,
            next,
            changes,
            restyled,
            dropped,
            redirected: &survey.redirected,
        };
        let switched = edit.exchange(&mut tree)?;
        Ok((switched, has_late))
    }

    /// The marks of objects that were copied up, or got a name, after the search of the upper.
    fn late_origins(
        &self,
        tree: &Tree,
        old: &Lower,
        next: &Lower,
        changed: &[(u64, Name)],
    ) -> EarlierRows {
        let marks = changed.iter().filter_map(|(dir, name)| {
            let Some(Entry::Object { id, .. }) = tree.get(*dir)?.listing.get(name) else {
                return None;
            };
            tree.get(id)
                .filter(|node| node.in_upper && !node.is_dir())?;
            let row = self.numbers.row_of(id)?;
            let mark = old.origins.origin(row);
            let is_known = next.origins.earlier().contains_key(&mark);
            let is_new = !is_known && old.origins.row(&mark) == Some(row);
            is_new.then_some((mark, Some(row)))
        });
        marks.collect()
    }

    /// Stores the numbers of the next revision beside the upper, so that its next mount has them too.
    /// A mount whose upper is full switches all the same.
    fn store_numbers(&self, next: &Lower) {
        let Some(upper) = &self.upper else { return };
        if let Err(errno) = upper.save_numbering(&next.numbering(self.numbers.base())) {
            tracing::warn!(
                %errno,
                "the inode numbers cannot be stored beside the upper: after the next mount, objects get the numbers of the revision"
            );
            upper.drop_numbering_of(next.origins.stack());
        }
    }

    /// Removes the stored numbers of the other one of two revisions.
    fn forget_numbers(&self, (shown, other): (&Lower, &Lower)) {
        let Some(upper) = &self.upper else { return };
        if shown.origins.stack() != other.origins.stack() {
            upper.drop_numbering_of(other.origins.stack());
        }
    }

    /// The marks of objects of the upper that the tree knows.
    fn known_origins(&self, tree: &Tree, old: &Lower) -> EarlierRows {
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
    changes: &[NameChange],
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
