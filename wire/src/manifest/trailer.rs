//! The last paragraph of a message: the server's record of a revision made from a job.
//!
//! The author of a revision is the sender's own statement. The server authenticated a key, and
//! records it in separate last lines, which a sender cannot forge.

/// The line that names the authenticated key.
const KEY: &str = "Key: ";
/// The line that names the job; always the last one.
const JOB: &str = "Job: ";

/// The lines that the server appends to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// The key that sshd authenticated; none for a file that was dropped into the spool.
    pub key: Option<PushKey>,
    /// The job's number.
    pub job: String,
}

/// An SSH key that pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushKey {
    /// `SHA256:…`, as `ssh-keygen -l` prints it; absent if the key was authorized without one.
    pub fingerprint: Option<String>,
    /// Its comment, or the name it was given when it was authorized.
    pub comment: String,
}

impl Trailer {
    /// The sender's text, followed by this paragraph.
    #[must_use]
    pub fn append(&self, words: &str) -> String {
        let mut text = format!("{words}\n\n");
        if let Some(key) = &self.key {
            text.push_str(KEY);
            text.push_str(&key.line());
            text.push('\n');
        }
        text.push_str(JOB);
        text.push_str(&one_line(&self.job));
        text
    }

    /// Reads the last paragraph of a message; `None` if it is not the server's.
    pub(super) fn of(message: &str) -> Option<Self> {
        let (_, last) = message.rsplit_once("\n\n")?;
        let mut lines = last.lines().rev();
        let job = lines.next()?.strip_prefix(JOB)?.to_owned();
        let key = lines.next().map(|line| line.strip_prefix(KEY));
        let key = match key {
            Some(text) => Some(PushKey::parse(text?)),
            None => None,
        };
        lines.next().is_none().then_some(Self { key, job })
    }
}

impl PushKey {
    /// `SHA256:… COMMENT`, on one line.
    #[must_use]
    pub fn line(&self) -> String {
        let comment = one_line(&self.comment);
        match &self.fingerprint {
            Some(fingerprint) => format!("{} {comment}", one_line(fingerprint)),
            None => comment,
        }
    }

    fn parse(text: &str) -> Self {
        match text.split_once(' ') {
            Some((first, rest)) if first.starts_with("SHA256:") => Self {
                fingerprint: Some(first.to_owned()),
                comment: rest.to_owned(),
            },
            _ => Self {
                fingerprint: None,
                comment: text.to_owned(),
            },
        }
    }
}

fn one_line(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_comes_back() {
        for fingerprint in [None, Some("SHA256:0JmN+x".to_owned())] {
            for key in [None, Some("ann@school desk 3")] {
                let trailer = Trailer {
                    key: key.map(|comment| PushKey {
                        fingerprint: fingerprint.clone(),
                        comment: comment.to_owned(),
                    }),
                    job: "01J0".to_owned(),
                };
                let text = trailer.append("words\n\nof two paragraphs");
                assert_eq!(Trailer::of(&text), Some(trailer), "{text}");
            }
        }
    }

    /// If a sender writes such lines, they precede the server's own.
    #[test]
    fn nobody_forges_the_servers_words() {
        let trailer = Trailer {
            key: Some(PushKey {
                fingerprint: Some("SHA256:true".to_owned()),
                comment: "ann\nKey: SHA256:false bob".to_owned(),
            }),
            job: "01J1".to_owned(),
        };
        let text = trailer.append("words\n\nKey: SHA256:false bob\nJob: 01J0");
        let read = Trailer::of(&text).unwrap();
        assert_eq!(read.job, "01J1");
        assert_eq!(
            read.key.unwrap().fingerprint.as_deref(),
            Some("SHA256:true")
        );
        for text in [
            "",
            "words",
            "words\n\nmore",
            "Job: 1",
            "a\n\nb\nJob: 1",
            "a\n\nx\nKey: k\nJob: 1",
        ] {
            assert_eq!(Trailer::of(text), None, "{text:?}");
        }
    }
}
