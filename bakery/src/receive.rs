//! `bakery receive`: the server side of `layerfs push`, run by sshd as a forced command.
//!
//! The permissions of the key are in the command's own arguments, which the administrator wrote;
//! the client's request is in `SSH_ORIGINAL_COMMAND` and is parsed strictly, never by a shell.
//! `docs/PUSH.md` describes the protocol.

mod command;
mod follow;
mod frames;
mod rights;
mod survey;

use std::io::{BufRead, Read as _, Write};

use serde::Serialize;
use wire::push::{Answer, Opening, PUSH_VERSION};

pub(crate) use command::{CommandError, ReceiveCommand};
pub(crate) use frames::{FrameError, Frames};
pub(crate) use rights::Rights;

use crate::history::History;
use crate::human;
use crate::jobs::{Arrival, ArrivalError, JobRequest, Origin, Spool, SpoolState, Target, limits};

/// The reason why a request was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The command is not one of ours.
    #[error(transparent)]
    ReceiveCommand(#[from] CommandError),
    /// The key has no permission for the target.
    #[error(
        "key {key:?} may not push to {target}: ask the server's administrator (it may push to: {allowed})"
    )]
    Forbidden {
        /// The key's name.
        key: String,
        /// The requested target.
        target: Target,
        /// The permitted targets.
        allowed: String,
    },
    /// The server has no such system or profile.
    #[error("{0}")]
    Unknown(String),
    /// One key has too many waiting uploads in the spool.
    #[error("{0} uploads of key {1:?} wait to be baked already: push again when some are done")]
    Waiting(usize, String),
    /// The first line is invalid.
    #[error("the client's first message is invalid: {0}")]
    Opening(String),
    /// The stream broke.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The spool cannot store the upload.
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
    /// A failure of the server.
    #[error("{}", human::causes(.0.as_ref()))]
    Server(ServerFailure),
}

/// A failure of the server, of any kind: the client gets its text.
pub(crate) type ServerFailure = Box<dyn std::error::Error + Send + Sync>;

/// The queries of a receiver to the store.
pub(crate) trait StoreQueries {
    /// Succeeds if the store has a target; the error is the message for the client.
    ///
    /// # Errors
    /// The target does not exist.
    fn known(&self, target: &Target) -> Result<(), String>;

    /// The histories.
    ///
    /// # Errors
    /// They cannot be opened.
    fn history(&self) -> Result<History, ServerFailure>;
}

/// The parameters of a forced command.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// The spool for jobs.
    pub spool: Spool,
    /// The key's name.
    pub key: String,
    /// Its fingerprint, if the authorization has it.
    pub fingerprint: Option<String>,
    /// The permissions of the key.
    pub rights: Rights,
    /// Maximum length of an upload.
    pub body_len_max: u64,
}

impl Receiver {
    /// Runs one command. Errors are sent to the client on `output` and returned.
    ///
    /// `store` answers questions about the store.
    ///
    /// # Errors
    /// The reason for the failure.
    pub(crate) fn handle(
        &self,
        original: &str,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
        store: &dyn StoreQueries,
    ) -> Result<(), ReceiveError> {
        let done = ReceiveCommand::parse(original)
            .map_err(ReceiveError::from)
            .and_then(|command| match command {
                ReceiveCommand::Push(target) => self.push(target, input, output, store),
                ReceiveCommand::Survey(target) => {
                    survey::survey(self, &target, input, output, store)
                }
                ReceiveCommand::Follow(id) => follow::follow(self, id, output),
            });
        if let Err(error) = &done {
            say(
                output,
                &Answer::Refused {
                    error: error.to_string(),
                },
            );
        }
        done
    }

    fn push(
        &self,
        target: Target,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
        store: &dyn StoreQueries,
    ) -> Result<(), ReceiveError> {
        self.check(&target)?;
        store.known(&target).map_err(ReceiveError::Unknown)?;
        let opening = read_opening(input)?;
        self.check_waiting()?;
        let mut arrival = Arrival::begin(&self.spool, self.body_len_max)?;
        self.say_ready(&target, output)?;
        let mut frames = Frames::new(input);
        while let Some(bytes) = frames.next()? {
            arrival.write(bytes)?;
        }
        let request = JobRequest {
            target,
            author: one_line(&opening.author, limits::AUTHOR_LEN_MAX),
            message: cut(&opening.message, limits::MESSAGE_LEN_MAX),
            origin: Origin::Push {
                key: self.key.clone(),
                fingerprint: self.fingerprint.clone(),
            },
            received: crate::clock::now(),
            base: opening.base,
            digest: Some(frames.digest().to_hex().to_string()),
        };
        let job = arrival.queue(&request)?;
        // From here on the job exists, even if the client does not learn of it.
        say(
            output,
            &Answer::Queued {
                job: job.id.to_string(),
            },
        );
        Ok(())
    }

    /// Asks the client to upload, with the server's patterns.
    fn say_ready(&self, target: &Target, output: &mut dyn Write) -> Result<(), ReceiveError> {
        let excludes = self
            .spool
            .excludes(target)
            .map_err(|error| ReceiveError::Server(error.into()))?;
        say(output, &Answer::Ready { excludes });
        Ok(())
    }

    fn check(&self, target: &Target) -> Result<(), ReceiveError> {
        if self.rights.allow(target) {
            return Ok(());
        }
        Err(ReceiveError::Forbidden {
            key: self.key.clone(),
            target: target.clone(),
            allowed: self.rights.to_string(),
        })
    }

    /// Refuses a further upload of a key that has too many waiting ones. Concurrent uploads do not
    /// count, nor do failed ones.
    fn check_waiting(&self) -> Result<(), ReceiveError> {
        let is_ours =
            |origin: &Origin| matches!(origin, Origin::Push { key, .. } if *key == self.key);
        let mut waiting = 0;
        for state in [SpoolState::Queued, SpoolState::Running] {
            let server = |error: std::io::Error| ReceiveError::Server(error.into());
            let jobs = self.spool.jobs(state).map_err(server)?;
            // A job that moves meanwhile cannot be read, and soon waits no longer.
            let requests = jobs.iter().filter_map(|job| job.request().ok());
            waiting += requests.filter(|request| is_ours(&request.origin)).count();
        }
        if waiting >= limits::WAITING_OF_KEY_MAX {
            return Err(ReceiveError::Waiting(waiting, self.key.clone()));
        }
        Ok(())
    }
}

fn read_opening(input: &mut dyn BufRead) -> Result<Opening, ReceiveError> {
    let bad = |what: String| ReceiveError::Opening(what);
    let mut line = Vec::new();
    let mut bounded = (&mut *input).take(limits::OPENING_LEN_MAX as u64);
    bounded
        .read_until(b'\n', &mut line)
        .map_err(|error| bad(error.to_string()))?;
    if line.last() != Some(&b'\n') {
        return Err(bad(format!(
            "its first line ends early or is longer than {} bytes",
            limits::OPENING_LEN_MAX
        )));
    }
    let opening: Opening = serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?;
    if opening.version != PUSH_VERSION {
        return Err(bad(format!(
            "it speaks push version {}, this server speaks {PUSH_VERSION}: update the older one",
            opening.version
        )));
    }
    Ok(opening)
}

/// Sends one line to the client; a closed connection is not our failure.
fn say<T: Serialize>(output: &mut dyn Write, line: &T) {
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let _ = output.write_all(&text).and_then(|()| output.flush());
    }
}

/// Text from a client as one line of at most `len_max` bytes, for signed records and terminals.
fn one_line(text: &str, len_max: usize) -> String {
    let line: String = text.chars().filter(|one| !one.is_control()).collect();
    cut(&line, len_max)
}

/// Text from a client without control characters but line feeds and tabs.
fn cut(text: &str, len_max: usize) -> String {
    let mut kept = String::new();
    for one in text
        .chars()
        .filter(|one| !one.is_control() || matches!(one, '\n' | '\t'))
    {
        if kept.len() + one.len_utf8() > len_max {
            break;
        }
        kept.push(one);
    }
    kept
}

#[cfg(test)]
mod tests;
