//! The conversation with `bakery receive` through the system's `ssh`.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use wire::push::{Answer, Change, Ending, JobStep, LeftOut, Opening, PUSH_VERSION, PatternList};

use super::address::PushAddress;
use crate::limits::{COMPLAINTS_MAX, PUSH_LINE_LEN_MAX};

/// Bytes of one frame; the server accepts up to 1 MiB.
const FRAME_LEN: usize = 256 << 10;

/// The reason why a push failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    /// The program `ssh` cannot be started.
    #[error(
        "cannot start {program}: {source}; install OpenSSH's client, or name another with --ssh"
    )]
    Start {
        /// Name of the program.
        program: String,
        /// The system's error.
        source: io::Error,
    },
    /// The server refused.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The connection failed; the message of `ssh`.
    #[error("no answer from {account}: {complaint}")]
    Connection {
        /// The account on the server.
        account: String,
        /// The last lines of `ssh`.
        complaint: String,
    },
    /// The server does not speak the protocol.
    #[error(
        "unexpected answer from the server: {0:?}; is `bakery receive` this key's forced command there?"
    )]
    Unexpected(String),
}

/// One running `ssh`.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
    account: String,
    excludes: Vec<PatternList>,
}

/// The purpose of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// To be published.
    Push,
    /// The server compares it: it is a listing.
    Survey,
}

/// The server's list of the changes that an upload would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The revision that it compared with.
    pub revision: u64,
    /// The changes, in order of paths.
    pub changes: Vec<Change>,
    /// Entries that the server excludes.
    pub excluded: Vec<LeftOut>,
}

impl Session {
    /// Starts a push or a survey, and waits until the server is ready to take the upload.
    ///
    /// # Errors
    /// No connection, or the server refuses.
    pub(crate) fn open(
        verb: Verb,
        ssh: &[String],
        to: &PushAddress,
        author: &str,
        message: &str,
        base: Option<u64>,
    ) -> Result<Self, PushError> {
        let verb = match verb {
            Verb::Push => "layerfs-push",
            Verb::Survey => "layerfs-survey",
        };
        let mut session = Self::start(ssh, to, &format!("{verb} {}", to.target))?;
        let opening = Opening {
            version: PUSH_VERSION,
            author: author.to_owned(),
            message: message.to_owned(),
            base,
        };
        let mut line = serde_json::to_vec(&opening).unwrap_or_default();
        line.push(b'\n');
        // If the server has ended already, its last lines give the reason: they are read below.
        if let Some(input) = &mut session.input {
            let _ = input.write_all(&line).and_then(|()| input.flush());
        }
        match session.answer()? {
            Answer::Ready { excludes } => {
                session.excludes = excludes;
                Ok(session)
            }
            Answer::Refused { error } => Err(PushError::Refused(error)),
            other => Err(unexpected(&other)),
        }
    }

    /// The patterns that this server puts after the default ones.
    #[must_use]
    pub(crate) fn excludes(&self) -> &[PatternList] {
        &self.excludes
    }

    /// Follows a job to its end; `step` is called for each step.
    ///
    /// # Errors
    /// No connection, or no such job.
    pub(crate) fn follow(
        ssh: &[String],
        to: &PushAddress,
        job: &str,
        step: &mut dyn FnMut(&JobStep),
    ) -> Result<Ending, PushError> {
        let mut session = Self::start(ssh, to, &format!("layerfs-follow {job}"))?;
        loop {
            let line = session.line()?;
            if let Ok(Answer::Refused { error }) = serde_json::from_str(&line) {
                return Err(PushError::Refused(error));
            }
            let current: JobStep =
                serde_json::from_str(&line).map_err(|_| PushError::Unexpected(line))?;
            step(&current);
            if let Some(ending) = current.ending {
                return Ok(ending);
            }
        }
    }

    /// The stream that accepts the upload.
    ///
    /// # Errors
    /// The session has no input any more.
    pub(crate) fn upload(&mut self) -> Result<Upload, PushError> {
        let input = self
            .input
            .take()
            .ok_or_else(|| PushError::Unexpected(String::new()))?;
        Ok(Upload {
            input,
            buffer: Vec::with_capacity(FRAME_LEN),
            hasher: blake3::Hasher::new(),
            total: 0,
        })
    }

    /// After the upload: the job's number.
    ///
    /// # Errors
    /// The server refused, or the connection broke without an answer.
    pub(crate) fn accepted(mut self) -> Result<String, PushError> {
        match self.answer()? {
            Answer::Queued { job } => Ok(job),
            Answer::Refused { error } => Err(PushError::Refused(error)),
            other => Err(unexpected(&other)),
        }
    }

    /// After a listing: the changes it would make.
    ///
    /// # Errors
    /// The server refused, or the connection broke without an answer.
    pub(crate) fn surveyed(mut self) -> Result<Survey, PushError> {
        match self.answer()? {
            Answer::Surveyed {
                revision,
                changes,
                excluded,
            } => Ok(Survey {
                revision,
                changes,
                excluded,
            }),
            Answer::Refused { error } => Err(PushError::Refused(error)),
            other => Err(unexpected(&other)),
        }
    }

    fn start(ssh: &[String], to: &PushAddress, command: &str) -> Result<Self, PushError> {
        let (program, arguments) = ssh
            .split_first()
            .map_or(("ssh", &[][..]), |(one, rest)| (one.as_str(), rest));
        let child = Command::new(program)
            .args(arguments)
            // The upload is compressed; no terminal, no forwarding of anything.
            .args([
                "-T",
                "-x",
                "-a",
                "-o",
                "Compression=no",
                "-o",
                "ServerAliveInterval=30",
                "--",
            ])
            .arg(&to.account)
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|source| PushError::Start {
            program: program.to_owned(),
            source,
        })?;
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let reader = child.stderr.take().map(|errors| {
            let complaints = Arc::clone(&complaints);
            std::thread::spawn(move || listen(BufReader::new(errors), &complaints))
        });
        let input = child.stdin.take();
        let output = child.stdout.take().map(BufReader::new);
        let output = output.ok_or_else(|| PushError::Unexpected(String::new()))?;
        Ok(Self {
            child,
            input,
            output,
            complaints,
            reader,
            account: to.account.clone(),
            excludes: Vec::new(),
        })
    }

    fn answer(&mut self) -> Result<Answer, PushError> {
        let line = self.line()?;
        serde_json::from_str(&line).map_err(|_| PushError::Unexpected(line))
    }

    fn line(&mut self) -> Result<String, PushError> {
        let mut line = String::new();
        let count = (&mut self.output)
            .take(PUSH_LINE_LEN_MAX)
            .read_line(&mut line);
        match count {
            Ok(count) if count > 0 && line.ends_with('\n') => Ok(line.trim_end().to_owned()),
            _ => Err(self.gone()),
        }
    }

    /// The connection ended without an answer: the messages of `ssh`.
    fn gone(&mut self) -> PushError {
        self.input = None;
        let status = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut complaint = complaints
            .iter()
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join("; ");
        if complaint.is_empty() {
            complaint = match status {
                Ok(status) => format!("ssh ended with {status} without a message"),
                Err(error) => error.to_string(),
            };
        }
        PushError::Connection {
            account: self.account.clone(),
            complaint,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A healthy ssh ends when its input is closed; one that hangs is killed.
        self.input = None;
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn unexpected(answer: &Answer) -> PushError {
    PushError::Unexpected(serde_json::to_string(answer).unwrap_or_default())
}

/// Stores the last lines of `ssh`'s standard error.
fn listen(mut errors: impl BufRead, complaints: &Mutex<VecDeque<String>>) {
    let mut line = Vec::new();
    while let Ok(count) = (&mut errors).take(4096).read_until(b'\n', &mut line) {
        if count == 0 {
            return;
        }
        let text: String = String::from_utf8_lossy(&line)
            .chars()
            .filter(|one| !one.is_control())
            .collect();
        let mut kept = complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if !text.trim().is_empty() {
            kept.push_back(text);
        }
        if kept.len() > COMPLAINTS_MAX {
            kept.pop_front();
        }
        line.clear();
    }
}

/// Cuts written data into frames; [`Upload::finish`] completes the upload.
#[derive(Debug)]
pub(crate) struct Upload {
    input: ChildStdin,
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
    total: u64,
}

impl Upload {
    /// Sends the end of the upload, with its length and digest.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.send()?;
        let mut end = vec![0; 4];
        end.extend_from_slice(&self.total.to_le_bytes());
        end.extend_from_slice(self.hasher.finalize().as_bytes());
        self.input.write_all(&end)?;
        self.input.flush()?;
        Ok(self.total)
    }

    fn send(&mut self) -> io::Result<()> {
        let Ok(len) = u32::try_from(self.buffer.len()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if len == 0 {
            return Ok(());
        }
        self.input.write_all(&len.to_le_bytes())?;
        self.input.write_all(&self.buffer)?;
        self.hasher.update(&self.buffer);
        self.total += u64::from(len);
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = FRAME_LEN.saturating_sub(self.buffer.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= FRAME_LEN {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()?;
        self.input.flush()
    }
}
