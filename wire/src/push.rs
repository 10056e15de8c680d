//! What `layerfs push` and `bakery receive` say to each other, and how a job goes (`docs/PUSH.md`).
//!
//! Each is one JSON object on a line. Keys that a reader does not know are passed over: the two ends need not be
//! of one version.

use serde::{Deserialize, Serialize};

/// The version of the conversation.
pub const PUSH_VERSION: u32 = 1;

/// The line with which a push begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// [`PUSH_VERSION`].
    pub version: u32,
    /// Who made the changes.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub message: String,
    /// The revision the client runs, if it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
}

/// One line from the server to who pushes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Answer {
    /// Send now.
    Ready {
        /// The patterns of this server, which come after the default ones.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        excludes: Vec<PatternList>,
    },
    /// What the upload would change; the answer to a listing.
    Surveyed {
        /// The revision that it was compared with.
        revision: u64,
        /// The changes, in order of paths.
        changes: Vec<Change>,
        /// Entries that the server leaves out, the first of them with the pattern of each.
        excluded: Vec<LeftOut>,
    },
    /// The upload is in the queue, for good.
    Queued {
        /// The job's number.
        job: String,
    },
    /// It will not be done.
    Refused {
        /// Why, and what to do.
        error: String,
    },
}

/// A list of exclude patterns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternList {
    /// Where it stands.
    pub place: String,
    /// Its lines.
    pub text: String,
}

/// An entry that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its path, with a leading slash.
    pub path: String,
    /// The pattern that says so.
    pub pattern: String,
}

/// A path that an upload changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What happens to it.
    pub kind: ChangeKind,
    /// The path, with a leading slash. Bytes that are no UTF-8 are replaced.
    pub path: String,
}

/// What happens to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// The revision below has no such path.
    Added,
    /// Another kind of object, or other contents.
    Changed,
    /// It is not there any more.
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

/// One line from the server to who follows a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The job's number.
    #[serde(default)]
    pub job: String,
    /// `queued`, `running`, `done` or `failed`.
    pub at: String,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How it ended; the last line has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// How far a running job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done: `bake`, `publish`.
    pub stage: String,
    /// Bytes of the upload read so far.
    pub done: u64,
    /// Bytes of the upload.
    pub total: u64,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Ending {
    /// The changes are a revision now.
    Published {
        /// Its number.
        revision: u64,
        /// Seconds from start to published.
        seconds: f64,
        /// What the bake found: excluded paths, dropped entries, sizes, warnings.
        report: serde_json::Value,
    },
    /// There was nothing to publish: the newest revision has all of it already.
    Unchanged {
        /// The revision that has it all.
        revision: u64,
        /// What the bake found.
        report: serde_json::Value,
    },
    /// It could not be done; the upload is kept.
    Failed {
        /// What was wrong, and what to do.
        error: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/PUSH.md` has these lines; records of older jobs are read as they are.
    #[test]
    fn the_lines_of_the_conversation() {
        let step = r#"{"job":"01J","at":"running","progress":{"stage":"bake","done":1,"total":2},"ending":{"state":"published","revision":7,"seconds":1.5,"report":{}}}"#;
        let read: Step = serde_json::from_str(step).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), step);
        let short: Step = serde_json::from_str(r#"{"at":"queued","more":1}"#).unwrap();
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
