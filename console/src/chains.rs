//! Histories in memory. Revisions never change, so a history is read once, and then only its new
//! revisions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bakery::history::{History, HistoryError, Revision};
use wire::manifest::{ProfileName, RevisionName};

/// The revisions of one history, newest first.
pub(crate) type Chain = Arc<Vec<Arc<Revision>>>;

/// The chains that were read.
#[derive(Debug, Default)]
pub(crate) struct Chains(Mutex<HashMap<ProfileName, Chain>>);

impl Chains {
    /// All revisions of a history, newest first. Its newest head is verified each time.
    ///
    /// # Errors
    /// The history does not exist, or a link is broken.
    pub(crate) fn of(&self, history: &History, name: &ProfileName) -> Result<Chain, HistoryError> {
        let head = history.require_head(name)?;
        let known = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(name).cloned()
        };
        let newest = known.as_ref().and_then(|chain| chain.first());
        if let (Some(chain), Some(newest)) = (&known, newest)
            && newest.digest == head.digest
        {
            return Ok(Arc::clone(chain));
        }
        let chain = Arc::new(match (&known, newest) {
            (Some(chain), Some(newest)) if newest.number() < head.number() => {
                continued(history, name, &head, chain)?
            }
            _ => whole(history, name)?,
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.clone(), Arc::clone(&chain));
        Ok(chain)
    }
}

fn whole(history: &History, name: &ProfileName) -> Result<Vec<Arc<Revision>>, HistoryError> {
    Ok(history
        .log(name, usize::MAX)?
        .into_iter()
        .map(Arc::new)
        .collect())
}

/// The new revisions before the known ones, if they continue these; a purge rewrites a chain.
fn continued(
    history: &History,
    name: &ProfileName,
    head: &Revision,
    known: &Chain,
) -> Result<Vec<Arc<Revision>>, HistoryError> {
    let newest = known.first().map_or(0, |revision| revision.number());
    let count = head.number().saturating_sub(newest).saturating_add(1);
    let mut fresh = history.log(name, usize::try_from(count).unwrap_or(usize::MAX))?;
    let joint = fresh.pop().map(|revision| revision.digest);
    if joint.is_none() || joint != known.first().map(|revision| revision.digest) {
        return whole(history, name);
    }
    let fresh = fresh.into_iter().map(Arc::new);
    Ok(fresh.chain(known.iter().cloned()).collect())
}

/// The revision of a chain with this number.
pub(crate) fn numbered(chain: &Chain, number: u64) -> Option<&Arc<Revision>> {
    let newest = chain.first()?.number();
    let place = usize::try_from(newest.checked_sub(number)?).ok()?;
    chain.get(place)
}

/// A name with a number.
pub(crate) fn at(name: &ProfileName, number: u64) -> RevisionName {
    RevisionName {
        name: name.clone(),
        revision: Some(number),
    }
}
