//! Renews heads before they expire.

use std::time::Duration;

use wire::manifest::{Action, ProfileName};

use super::{Draft, Publisher, Uploads};
use crate::clock;
use crate::history::{Result, Revision};

/// True if a head that expires at `expires_at` should be renewed: half of the time has elapsed, or
/// it was made without expiry.
#[must_use]
pub(crate) fn is_due(expires_at: Option<u64>, lifetime: Duration, now: u64) -> bool {
    expires_at.is_none_or(|end| end <= now.saturating_add(lifetime.as_secs() / 2))
}

impl Publisher {
    /// Publishes the newest revision of `name` again if its head is about to expire; `None` if it
    /// is not. Only heads signed by an allowed key are renewed, however long ago they expired.
    ///
    /// # Errors
    /// The errors of [`Publisher::publish`].
    pub fn renew(&self, name: &ProfileName, author: &str) -> Result<Option<Revision>> {
        let Some(lifetime) = self.lifetime else {
            return Ok(None);
        };
        let head = self.history().require_head(name)?;
        if !is_due(head.head.expires_at, lifetime, clock::now()) {
            return Ok(None);
        }
        let revision = self.publish(name, Uploads::default(), |head, _| {
            let head = head.ok_or_else(|| self.history().no_history(name))?;
            let message = "signed again: the head was about to expire";
            Ok(Draft::like(&head.manifest, Action::Resign, author, message))
        })?;
        Ok(Some(revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_renewed_at_half_of_their_time() {
        let month = Duration::from_secs(1000);
        assert!(is_due(None, month, 5));
        assert!(!is_due(Some(10_501), month, 10_000));
        assert!(is_due(Some(10_500), month, 10_000));
        assert!(is_due(Some(1), month, 10_000));
    }
}
