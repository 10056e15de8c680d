//! The pace of an answer.

use std::time::Duration;

use super::error::FetchError;

/// Minimum rate of an answer, bytes a second: slower ones are aborted and repeated (received data is
/// kept).
const RATE_FLOOR: u64 = 1024;
/// Length of the windows over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(5);

/// Notices an answer that comes too slowly. Only the time for which the client waits for bytes counts:
/// it may also pause, for a reader's demand, for its disk, or to apply an update.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    seen: u64,
}

impl Pace {
    /// `len` bytes came after a wait of `waited`.
    ///
    /// # Errors
    /// [`FetchError::TooSlow`] at the end of a window.
    pub(super) fn came(&mut self, len: u64, waited: Duration) -> Result<(), FetchError> {
        self.seen += len;
        self.waited += waited;
        if self.waited < WINDOW {
            return Ok(());
        }
        let Pace { waited, seen } = std::mem::take(self);
        match seen < RATE_FLOOR * waited.as_secs() {
            true => Err(FetchError::TooSlow { floor: RATE_FLOOR }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_waits_count() {
        let mut pace = Pace::default();
        for _ in 0..1000 {
            // However long the client pauses between these.
            pace.came(1, Duration::ZERO).unwrap();
        }
        for _ in 0..100 {
            pace.came(RATE_FLOOR, SECOND).unwrap();
        }
    }

    #[test]
    fn a_slow_answer_is_noticed_within_a_window() {
        let mut pace = Pace::default();
        for _ in 0..4 {
            pace.came(RATE_FLOOR - 1, SECOND).unwrap();
        }
        pace.came(RATE_FLOOR - 1, SECOND).unwrap_err();
        // A new window.
        pace.came(0, 4 * SECOND).unwrap();
    }
}
