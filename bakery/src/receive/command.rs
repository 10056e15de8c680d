//! Commands that a client may send in `SSH_ORIGINAL_COMMAND`.

use ulid::Ulid;

use crate::jobs::Target;
use crate::limits::COMMAND_LEN_MAX;

/// A client's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReceiveCommand {
    /// `layerfs-push SYSTEM[/PROFILE]`: take an upload.
    Push(Target),
    /// `layerfs-survey SYSTEM[/PROFILE]`: lists the changes of an upload.
    Survey(Target),
    /// `layerfs-follow JOB`: reports the progress of a job, until it ends.
    Follow(Ulid),
}

/// A command that is not one of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// No command: the client requested a shell.
    #[error("this key is for `layerfs push` only; it gives no shell")]
    None,
    /// An unknown command.
    #[error("this key is for `layerfs push` only; it cannot run {0:?}")]
    Unknown(String),
    /// Ours, with a bad argument.
    #[error("{0}")]
    Argument(String),
}

impl ReceiveCommand {
    /// Reads a command: exactly two words with one space between them.
    ///
    /// # Errors
    /// Anything else.
    pub(crate) fn parse(text: &str) -> Result<Self, CommandError> {
        if text.is_empty() {
            return Err(CommandError::None);
        }
        let unknown = || CommandError::Unknown(text.chars().take(64).collect());
        if text.len() > COMMAND_LEN_MAX {
            return Err(unknown());
        }
        match text.split_once(' ') {
            Some((verb @ ("layerfs-push" | "layerfs-survey"), target)) => {
                let target = target
                    .parse::<Target>()
                    .map_err(|error| CommandError::Argument(error.to_string()))?;
                Ok(match verb {
                    "layerfs-push" => Self::Push(target),
                    _ => Self::Survey(target),
                })
            }
            Some(("layerfs-follow", job)) => match job.parse::<Ulid>() {
                Ok(id) if id.to_string() == job => Ok(Self::Follow(id)),
                _ => Err(CommandError::Argument(format!(
                    "{job:?} is not a job number"
                ))),
            },
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_words_and_nothing_else() {
        assert_eq!(
            ReceiveCommand::parse("layerfs-survey lab/x"),
            Ok(ReceiveCommand::Survey("lab/x".parse().unwrap()))
        );
        assert_eq!(
            ReceiveCommand::parse("layerfs-push kiosk"),
            Ok(ReceiveCommand::Push("kiosk".parse().unwrap()))
        );
        assert_eq!(
            ReceiveCommand::parse("layerfs-push kiosk/lab-3"),
            Ok(ReceiveCommand::Push("kiosk/lab-3".parse().unwrap()))
        );
        let id = Ulid::from_parts(7, 7);
        assert_eq!(
            ReceiveCommand::parse(&format!("layerfs-follow {id}")),
            Ok(ReceiveCommand::Follow(id))
        );
        assert_eq!(ReceiveCommand::parse(""), Err(CommandError::None));
        for text in [
            "sh",
            "layerfs-push",
            "layerfs-push ",
            "layerfs-push  kiosk",
            "layerfs-push kiosk ",
            "layerfs-push kiosk; id",
            "layerfs-push kiosk\nid",
            "layerfs-push ../x",
            "layerfs-push $(id)",
            "layerfs-push kiosk main",
            "layerfs-push --help",
            "layerfs-follow x",
            " layerfs-push kiosk",
            "scp -t /",
            "layerfs-follow 7",
            "LAYERFS-PUSH kiosk",
        ] {
            assert!(ReceiveCommand::parse(text).is_err(), "{text:?}");
        }
        assert!(ReceiveCommand::parse(&format!("layerfs-push {}", "a".repeat(600))).is_err());
    }
}
