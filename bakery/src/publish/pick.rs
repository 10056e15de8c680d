//! Publishes old contents again, and layers of one history on another.

use layerfmt::Digest;
use wire::manifest::{Action, Manifest, ObjectRef, ProfileName, PushKey, RevisionName};

use super::addition::{LayerOrigin, LayerToGraft};
use super::{Draft, Publisher, Uploads};
use crate::graft::Resolution;
use crate::history::{HistoryError, Result, Revision};

/// Prefix of the default message of a rollback.
const ROLL_BACK: &str = "roll back to ";

/// Number of revisions that are searched for a layer given by its digest.
const SEARCH_MAX: usize = 1000;

/// A layer and the stack it was made on.
#[derive(Debug, Clone)]
struct Picked {
    digest: Digest,
    below: Vec<ObjectRef>,
    message: String,
}

impl Publisher {
    /// Publishes the contents of an older revision as a new one.
    ///
    /// # Errors
    /// The revision does not exist, or parts of it have been swept.
    pub fn rollback(&self, to: &RevisionName, author: &str, message: &str) -> Result<Revision> {
        let old = self.history().revision(to)?;
        let message = match message {
            "" => format!(
                "{ROLL_BACK}{}: {}",
                old.number(),
                subject(&old.manifest.message)
            ),
            message => message.into(),
        };
        let published = self.publish(&to.name, Uploads::default(), |head, _| {
            if let Some(head) = head.filter(|head| head.number() == old.number()) {
                let what = format!("{} is the newest revision already", head.name());
                return Err(HistoryError::Refused(what));
            }
            Ok(Draft::like(
                &old.manifest,
                Action::Rollback,
                author,
                &message,
            ))
        });
        published.map_err(|error| match error {
            HistoryError::Store(error) => self.history().swept_or(&old.name(), error),
            error => error,
        })
    }

    /// Applies a layer of some history to another one. `what` is a revision, for the layer it
    /// added, or the (abbreviated) digest of a layer.
    ///
    /// # Errors
    /// [`HistoryError::Conflicts`], [`HistoryError::Refused`], and the errors of
    /// [`Publisher::publish`].
    pub fn cherry_pick(
        &self,
        what: &str,
        onto: &ProfileName,
        author: &str,
        message: &str,
        resolution: Resolution,
    ) -> Result<Revision> {
        let picked = self.find_layer(what)?;
        let layer = self.history().layer(&picked.digest)?;
        let message = if message.is_empty() {
            &picked.message
        } else {
            message
        };
        let staging = self.store().staging()?;
        let mut attempt = 0;
        self.publish(onto, Uploads::default(), |head, uploads| {
            let head = head.ok_or_else(|| self.history().no_history(onto))?;
            attempt += 1;
            let draft = Draft::like(&head.manifest, Action::CherryPick, author, message);
            let path = staging.path().join(format!("{attempt}.layer"));
            let grafting = LayerToGraft {
                layer: &layer,
                origin: LayerOrigin::Stack(&picked.below),
                resolution,
                path: &path,
            };
            self.put_on(draft, head, &grafting, uploads)
        })
    }

    fn find_layer(&self, what: &str) -> Result<Picked> {
        let digits = what.len() >= 4 && what.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits || what.contains('@') {
            let name: RevisionName = what.parse()?;
            return self.layer_of_revision(&name);
        }
        let mut found: Option<Picked> = None;
        for name in self.history().names()? {
            for revision in self.history().log(&name, SEARCH_MAX)? {
                let layers = &revision.manifest.layers;
                let at = layers
                    .iter()
                    .position(|l| l.digest.to_string().starts_with(what));
                let Some(at) = at else { continue };
                let picked = pick(&revision, at);
                match &found {
                    Some(other) if other.digest != picked.digest => {
                        let what = format!("'{what}' matches several layers; give more digits");
                        return Err(HistoryError::Refused(what));
                    }
                    // The oldest revision with the layer is the one that added it.
                    _ => found = Some(picked),
                }
            }
        }
        found.ok_or_else(|| HistoryError::Refused(format!("no history has a layer '{what}'")))
    }

    fn layer_of_revision(&self, name: &RevisionName) -> Result<Picked> {
        let revision = self.history().revision(name)?;
        let before = match revision.number() {
            1 => Vec::new(),
            number => {
                let name = RevisionName {
                    name: name.name.clone(),
                    revision: Some(number - 1),
                };
                self.history().revision(&name)?.manifest.layers
            }
        };
        let layers = &revision.manifest.layers;
        match layers.split_last() {
            Some((_, below)) if below == before => Ok(pick(&revision, below.len())),
            _ => Err(HistoryError::Refused(format!(
                "{} did not add one layer ({}); name the layer by its digest (bakery show {})",
                revision.name(),
                action_text(revision.manifest.action),
                revision.name()
            ))),
        }
    }
}

/// The first line of a message, without prefixes of earlier rollbacks.
pub(super) fn subject(message: &str) -> &str {
    let mut line = message.lines().next().unwrap_or_default();
    while let Some((number, rest)) = line
        .strip_prefix(ROLL_BACK)
        .and_then(|rest| rest.split_once(": "))
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        line = rest;
    }
    line
}

fn pick(revision: &Revision, at: usize) -> Picked {
    let layers = &revision.manifest.layers;
    Picked {
        digest: layers.get(at).map(|layer| layer.digest).unwrap_or_default(),
        below: layers.iter().take(at).copied().collect(),
        message: revision.manifest.message.clone(),
    }
}

/// The key that pushed a revision, as the server authenticated it.
pub fn pushed_with(manifest: &Manifest) -> Option<PushKey> {
    manifest.trailer()?.key
}

/// The action as in its JSON.
pub fn action_text(action: Action) -> String {
    serde_json::to_value(action)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_rollbacks_do_not_chain() {
        for (message, expected) in [
            ("install gimp\n\nKey: k\nJob: 1", "install gimp"),
            ("roll back to 3: install gimp", "install gimp"),
            (
                "roll back to 4: roll back to 3: install gimp",
                "install gimp",
            ),
            (
                "roll back to normal: it broke",
                "roll back to normal: it broke",
            ),
            ("", ""),
        ] {
            assert_eq!(subject(message), expected);
        }
    }
}
