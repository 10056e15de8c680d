//! The newest numbers of the mounted history that this machine has seen.

use std::sync::{Arc, Mutex, PoisonError};

use wire::trust::HighWater;

use super::kept::KeptRecords;

/// Numbers seen by this mount, and by the mounts before it if there is a cache.
#[derive(Debug)]
pub(super) struct SeenNumbers {
    here: Mutex<HighWater>,
    kept: Option<Arc<KeptRecords>>,
}

impl SeenNumbers {
    /// `begun`: those of the records that the mount began with.
    pub(super) fn new(begun: HighWater, kept: Option<Arc<KeptRecords>>) -> SeenNumbers {
        SeenNumbers {
            here: Mutex::new(begun),
            kept,
        }
    }

    pub(super) fn newest(&self) -> HighWater {
        let here = *self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.kept.as_ref();
        kept.map_or(here, |kept| here.newest(kept.high_water()))
    }

    /// Verified records have these numbers.
    pub(super) fn raise(&self, numbers: HighWater) {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        *here = here.newest(numbers);
    }
}
