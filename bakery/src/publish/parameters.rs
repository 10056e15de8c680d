//! Other kernel parameters for the same tree.

use wire::manifest::{Action, ProfileName};

use super::{Draft, Publisher, Uploads};
use crate::history::{HistoryError, Result, Revision};

impl Publisher {
    /// Publishes the newest revision again, with other kernel parameters. Without a message, the
    /// revision names the old and the new ones.
    ///
    /// # Errors
    /// The history does not exist, or it has these parameters already.
    pub fn set_parameters(
        &self,
        name: &ProfileName,
        parameters: &str,
        author: &str,
        message: &str,
    ) -> Result<Revision> {
        let cmdline = parameters.trim();
        self.publish(name, Uploads::default(), |head, _| {
            let head = head.ok_or_else(|| HistoryError::Refused(format!("{name} is gone")))?;
            let old = &head.manifest.cmdline;
            if old == cmdline {
                let what = format!("{} has these kernel parameters already", head.name());
                return Err(HistoryError::Refused(what));
            }
            let message = match message {
                "" => format!("kernel parameters \"{cmdline}\", before \"{old}\""),
                text => text.to_owned(),
            };
            Ok(Draft {
                cmdline: cmdline.to_owned(),
                ..Draft::like(&head.manifest, Action::Boot, author, &message)
            })
        })
    }
}
