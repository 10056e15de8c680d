//! The initramfs archives of the store: which of them mount our root, and the parts of one that a
//! machine needs.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use layerfmt::Digest;
use lru::LruCache;
use tokio::sync::Mutex;
use wire::paths::ObjectPath;

use super::limits;
use super::object::{ObjectError, Objects};
use crate::initrd::part_table::{DividedInitramfs, MachineNeeds};
use crate::netboot;

/// An inspected initramfs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Inspected {
    /// True if it mounts our root.
    pub mounts_layerfs: bool,
    /// True if it is in parts.
    pub is_divided: bool,
}

/// The results of inspections. Each initramfs is inspected once, also if a class boots at once.
#[derive(Debug)]
pub(super) struct Inspections {
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    inspected: HashMap<Digest, Inspected>,
    divided: LruCache<Digest, Arc<DividedInitramfs>>,
}

impl Default for Inspections {
    fn default() -> Self {
        let most = NonZeroUsize::new(limits::DIVIDED_KNOWN_MAX).unwrap_or(NonZeroUsize::MIN);
        Self {
            known: Mutex::new(Known {
                inspected: HashMap::new(),
                divided: LruCache::new(most),
            }),
        }
    }
}

impl Inspections {
    /// Inspects an initramfs.
    pub(super) async fn of(
        &self,
        objects: &Objects,
        digest: &Digest,
    ) -> Result<Inspected, ObjectError> {
        let mut known = self.known.lock().await;
        match known.inspected.get(digest) {
            Some(found) => Ok(*found),
            None => known.inspect(objects, digest).await,
        }
    }

    /// The places in an initramfs that make one for this machine, in order. `None`: the machine needs
    /// the whole one.
    pub(super) async fn cut(
        &self,
        objects: &Objects,
        digest: &Digest,
        machine: MachineNeeds,
    ) -> Result<Option<Vec<Range<u64>>>, ObjectError> {
        let divided = {
            let mut known = self.known.lock().await;
            let is_divided = known.inspected.get(digest).map(|found| found.is_divided);
            if is_divided != Some(false) && !known.divided.contains(digest) {
                known.inspect(objects, digest).await?;
            }
            known.divided.get(digest).cloned()
        };
        Ok(divided.and_then(|divided| divided.cut(machine)))
    }
}

impl Known {
    async fn inspect(
        &mut self,
        objects: &Objects,
        digest: &Digest,
    ) -> Result<Inspected, ObjectError> {
        let path = ObjectPath::Boot(*digest).to_string();
        let object = objects.open(&path).await?;
        if object.len() > limits::INITRD_LEN_MAX {
            return Ok(Inspected::default());
        }
        let bytes = object.bytes(0..object.len()).await?;
        let look = move || {
            let mounts = netboot::initramfs::has_client(&bytes);
            (mounts, DividedInitramfs::read(&bytes))
        };
        let Ok((mounts, divided)) = tokio::task::spawn_blocking(look).await else {
            return Ok(Inspected::default());
        };
        let mounts_layerfs = match mounts {
            Ok(Some(found)) => found,
            Ok(None) => {
                tracing::warn!("{path}: its compression is unknown, so it is offered unchecked");
                true
            }
            Err(error) => {
                tracing::warn!("{path} is no initramfs: {error}");
                false
            }
        };
        let divided = divided.unwrap_or_else(|error| {
            tracing::warn!("{path} is served whole: {error}");
            None
        });
        let found = Inspected {
            mounts_layerfs,
            is_divided: divided.is_some(),
        };
        if self.inspected.len() >= limits::INITRDS_KNOWN_MAX {
            self.inspected.clear();
        }
        self.inspected.insert(*digest, found);
        if let Some(divided) = divided {
            self.divided.put(*digest, Arc::new(divided));
        }
        Ok(found)
    }
}
