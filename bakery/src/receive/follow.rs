//! Reports the progress of a job to its client.

use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ulid::Ulid;
use wire::push::{JobStep, Progress};

use super::{ReceiveError, Receiver};
use crate::jobs::{Job, JobError, JobRequest, Spool, SpoolState};

/// Interval of the polls.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest time between two lines, so that a dead connection is noticed.
const BEAT: Duration = Duration::from_secs(15);

/// Writes a line whenever something changed, until the job ended.
pub(super) fn follow(
    receiver: &Receiver,
    id: Ulid,
    output: &mut dyn Write,
) -> Result<(), ReceiveError> {
    let text = id.to_string();
    let mut last: Option<(SpoolState, Option<Progress>)> = None;
    let mut said = Instant::now();
    loop {
        let server = |error: io::Error| ReceiveError::Server(error.into());
        let unknown =
            || ReceiveError::Unknown(format!("there is no job {id} that this key may see"));
        let (job, request) = look(&receiver.spool, id)
            .map_err(|error| ReceiveError::Server(error.into()))?
            .ok_or_else(unknown)?;
        // A key sees only jobs of its targets.
        if !receiver.rights.allow(&request.target) {
            return Err(unknown());
        }
        let progress = job.progress();
        let over = matches!(job.state, SpoolState::Done | SpoolState::Failed);
        let ending = if over {
            job.ending().map_err(server)?
        } else {
            None
        };
        let seen = Some((job.state, progress));
        // Twice in a row: a job that is being retried has no state for a moment.
        if over && ending.is_none() && seen == last {
            let what = format!("job {id} ended, but its result is lost: it has no result.json");
            return Err(ReceiveError::Server(what.into()));
        }
        if seen != last || said.elapsed() > BEAT {
            let line = JobStep {
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

/// The current state of the job, and its request. A job that moves meanwhile is searched again.
fn look(spool: &Spool, id: Ulid) -> Result<Option<(Job, JobRequest)>, JobError> {
    loop {
        let Some(job) = spool.find(id)? else {
            return Ok(None);
        };
        match job.request() {
            Ok(request) => return Ok(Some((job, request))),
            Err(error) if job.path.exists() => return Err(error),
            Err(_) => {}
        }
    }
}

/// False if the client has closed the connection.
fn write(output: &mut dyn Write, line: &JobStep) -> bool {
    let Ok(mut text) = serde_json::to_vec(line) else {
        return false;
    };
    text.push(b'\n');
    output
        .write_all(&text)
        .and_then(|()| output.flush())
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"system":"kiosk","profile":"main","author":"ann","message":"","origin":{"push":{"key":"k"}},"received":1}"#;

    #[test]
    fn a_job_that_lost_its_end_is_not_followed_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let receiver = Receiver {
            spool: Spool::open(directory.path()).unwrap(),
            key: "k".into(),
            fingerprint: None,
            rights: "kiosk".parse().unwrap(),
            body_len_max: 0,
        };
        let id = receiver.spool.next_id().unwrap();
        let done = directory.path().join("done").join(id.to_string());
        std::fs::create_dir(&done).unwrap();
        std::fs::write(done.join("request.json"), RECORD).unwrap();
        let error = follow(&receiver, id, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("no result.json"), "{error}");
    }

    #[test]
    fn a_job_that_moves_on_while_it_is_looked_at_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        for _ in 0..200 {
            let id = spool.next_id().unwrap();
            let queued = directory.path().join("queued").join(id.to_string());
            std::fs::create_dir(&queued).unwrap();
            std::fs::write(queued.join("request.json"), RECORD).unwrap();
            let job = spool.find(id).unwrap().unwrap();
            std::thread::scope(|scope| {
                let mover = scope.spawn(|| spool.transition(&job, SpoolState::Running).unwrap());
                while look(&spool, id).unwrap().unwrap().0.state == SpoolState::Queued {}
                mover.join().unwrap();
            });
        }
    }
}
