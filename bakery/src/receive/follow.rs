//! Telling a client how its job goes.

use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use layerfmt::push::{Progress, Step};
use ulid::Ulid;

use super::{ReceiveError, Receiver};
use crate::jobs::State;

/// How often we look.
const PAUSE: Duration = Duration::from_millis(100);
/// A line at least this often, so that a dead connection is noticed.
const BEAT: Duration = Duration::from_secs(15);

/// Writes a line whenever something changed, until the job ended.
pub(super) fn follow(
    receiver: &Receiver,
    id: Ulid,
    output: &mut dyn Write,
) -> Result<(), ReceiveError> {
    let text = id.to_string();
    let mut last: Option<(State, Option<Progress>)> = None;
    let mut said = Instant::now();
    loop {
        let server = |error: io::Error| ReceiveError::Server(error.into());
        let unknown = || ReceiveError::Unknown(format!("no job {id} here, or not one of yours"));
        let job = receiver
            .spool
            .find(id)
            .map_err(server)?
            .ok_or_else(unknown)?;
        let progress = job.progress();
        let ending = match job.state {
            State::Done | State::Failed => job.ending().map_err(server)?,
            State::Queued | State::Running => None,
        };
        if last.is_none() {
            // Whose job it is cannot change; a key sees only what it may push to.
            let request = job.request().map_err(ReceiveError::Server)?;
            if !receiver.rights.allow(&request.target) {
                return Err(unknown());
            }
        }
        let seen = Some((job.state, progress));
        if seen != last || said.elapsed() > BEAT {
            let line = Step {
                job: text.clone(),
                at: job.state.name().to_owned(),
                progress: seen.as_ref().and_then(|(_, progress)| progress.clone()),
                ending: ending.clone(),
            };
            if !write(output, &line) {
                return Ok(());
            }
            said = Instant::now();
            last = seen;
        }
        if ending.is_some() {
            return Ok(());
        }
        sleep(PAUSE);
    }
}

/// Whether the client still listens.
fn write(output: &mut dyn Write, line: &Step) -> bool {
    let Ok(mut text) = serde_json::to_vec(line) else {
        return false;
    };
    text.push(b'\n');
    output
        .write_all(&text)
        .and_then(|()| output.flush())
        .is_ok()
}
