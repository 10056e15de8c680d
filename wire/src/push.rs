//! Messages between `layerfs push` and `bakery receive`, and the progress of a job
//! (`docs/PUSH.md`).
//!
//! Each is one JSON object on a line. A reader ignores unknown keys, so the two ends may have
//! different versions.

use serde::{Deserialize, Serialize};

/// The version of the conversation.
pub const PUSH_VERSION: u32 = 1;

/// The line with which a push begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Always [`PUSH_VERSION`].
    pub version: u32,
    /// The author of the changes.
    #[serde(default)]
    pub author: String,
    /// The reason for the changes.
    #[serde(default)]
    pub message: String,
    /// The revision of the client, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
}

/// One line from the server to a pushing client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Answer {
    /// The client may send.
    Ready {
        /// The patterns of this server, which come after the default ones.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        excludes: Vec<PatternList>,
    },
    /// The changes that the upload would make; the answer to a listing.
    Surveyed {
        /// The revision that it was compared with.
        revision: u64,
        /// The changes, in order of paths.
        changes: Vec<Change>,
        /// Entries that the server excludes, the first of them with their patterns.
        excluded: Vec<LeftOut>,
    },
    /// The upload is in the queue, durably.
    Queued {
        /// The job's number.
        job: String,
    },
    /// The server refuses the upload.
    Refused {
        /// The reason and the remedy.
        error: String,
    },
}

/// A list of exclude patterns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternList {
    /// The place of the file.
    pub place: String,
    /// The lines of the file.
    pub text: String,
}

/// An excluded entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its path, with a leading slash.
    pub path: String,
    /// The matching pattern.
    pub pattern: String,
}

/// A path that an upload changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The path, with a leading slash. Bytes that are not UTF-8 are replaced.
    pub path: String,
}

/// The kinds of changes to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// The revision below has no such path.
    Added,
    /// Another kind of object, or other contents.
    Changed,
    /// The path does not exist any more.
    Deleted,
    /// The contents are the same; owner, mode, times or attributes are not.
    Metadata,
}

impl ChangeKind {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Metadata => "metadata",
        }
    }
}

/// One line from the server to a client that follows a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStep {
    /// The job's number.
    #[serde(default)]
    pub job: String,
    /// `queued`, `running`, `done` or `failed`.
    pub at: String,
    /// The current progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The result; only the last line has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// The progress of a running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The current stage: `bake`, `publish`.
    pub stage: String,
    /// Bytes of the upload read so far.
    pub done: u64,
    /// Bytes of the upload.
    pub total: u64,
}

/// The result of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Ending {
    /// The changes are a revision now.
    Published {
        /// The number of the revision.
        revision: u64,
        /// Seconds from start to published.
        seconds: f64,
        /// The report of the bake: excluded paths, dropped entries, sizes, warnings.
        report: serde_json::Value,
    },
    /// There was no change to publish: the newest revision already has all of them.
    Unchanged {
        /// The revision that has all changes.
        revision: u64,
        /// The report of the bake.
        report: serde_json::Value,
    },
    /// The job failed; the upload is kept.
    Failed {
        /// The fault and the remedy.
        error: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/PUSH.md` has these lines; older records are read unchanged.
    #[test]
    fn the_lines_of_the_conversation() {
        let step = r#"{"job":"01J","at":"running","progress":{"stage":"bake","done":1,"total":2},"ending":{"state":"published","revision":7,"seconds":1.5,"report":{}}}"#;
        let read: JobStep = serde_json::from_str(step).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), step);
        let short: JobStep = serde_json::from_str(r#"{"at":"queued","more":1}"#).unwrap();
        assert_eq!(
            (short.at.as_str(), short.progress, short.ending),
            ("queued", None, None)
        );
        let answer: Answer = serde_json::from_str(r#"{"state":"queued","job":"01J"}"#).unwrap();
        assert_eq!(answer, Answer::Queued { job: "01J".into() });
        let answer: Answer = serde_json::from_str(r#"{"state":"ready"}"#).unwrap();
        assert_eq!(answer, Answer::Ready { excludes: vec![] });
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"state":"ready"}"#
        );
        let line = r#"{"state":"surveyed","revision":7,"changes":[{"kind":"metadata","path":"/etc"}],"excluded":[]}"#;
        let answer: Answer = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&answer).unwrap(), line);
        let opening: Opening = serde_json::from_str(r#"{"version":1}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&opening).unwrap(),
            r#"{"version":1,"author":"","message":""}"#
        );
    }
}
