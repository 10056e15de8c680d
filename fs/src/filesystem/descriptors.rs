//! Open descriptors by node, the least recently used closed first.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use lru::LruCache;

use super::reply::NodeId;

/// A limited number of descriptors. Its memory grows with its contents.
#[derive(Debug)]
pub(super) struct Descriptors {
    open: LruCache<NodeId, Arc<OwnedFd>>,
    count_max: usize,
}

impl Descriptors {
    /// At most `count_max` descriptors; at least one.
    pub(super) fn new(count_max: u64) -> Descriptors {
        Descriptors {
            open: LruCache::unbounded(),
            count_max: usize::try_from(count_max.max(1)).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn get(&mut self, id: NodeId) -> Option<Arc<OwnedFd>> {
        self.open.get(&id).map(Arc::clone)
    }

    /// Inserts `descriptor`. Returns the evicted one, so that its closing does not happen under a
    /// lock.
    #[must_use]
    pub(super) fn keep(&mut self, id: NodeId, descriptor: &Arc<OwnedFd>) -> Option<Arc<OwnedFd>> {
        let replaced = self.open.put(id, Arc::clone(descriptor));
        if self.open.len() > self.count_max {
            return self.open.pop_lru().map(|(_, dropped)| dropped);
        }
        replaced
    }

    pub(super) fn take(&mut self, id: NodeId) -> Option<Arc<OwnedFd>> {
        self.open.pop(&id)
    }

    pub(super) fn take_all(&mut self) -> Vec<Arc<OwnedFd>> {
        std::iter::from_fn(|| self.open.pop_lru())
            .map(|(_, descriptor)| descriptor)
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut descriptors = Descriptors::new(2);
        let open = || Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let (a, b, c) = (open(), open(), open());
        assert!(descriptors.keep(1, &a).is_none());
        assert!(descriptors.keep(2, &b).is_none());
        assert!(Arc::ptr_eq(&descriptors.get(1).unwrap(), &a));
        assert!(Arc::ptr_eq(&descriptors.keep(3, &c).unwrap(), &b));
        assert!(descriptors.get(2).is_none());
        assert!(
            Arc::ptr_eq(&descriptors.keep(3, &a).unwrap(), &c),
            "replaced"
        );
        assert_eq!(descriptors.len(), 2);
        assert!(descriptors.take(3).is_some());
        assert_eq!(descriptors.len(), 1);
        let mut least = Descriptors::new(0);
        assert!(least.keep(1, &a).is_none());
        assert!(least.get(1).is_some());
    }
}
