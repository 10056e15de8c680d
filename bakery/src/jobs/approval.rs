//! Approval: pushes to some histories wait until a person has approved them.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files;
use super::records::Target;
use super::spool::{Job, Spool, SpoolState};
use super::{Ending, JobError};
use crate::clock;
use crate::failed::Doing as _;

/// The record of an approval, in the job.
const RECORD: &str = "approved.json";

/// The approval of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The person who approved.
    pub by: String,
    /// Time of the approval, seconds since 1970.
    pub time: u64,
}

impl Spool {
    /// The mark that makes pushes to a history wait.
    fn approval_mark(&self, target: &Target) -> PathBuf {
        let directory = self.root().join("approval");
        directory.join(format!("{}.{}", target.system, target.profile))
    }

    /// True if pushes to this history wait for an approval.
    #[must_use]
    pub fn wants_approval(&self, target: &Target) -> bool {
        self.approval_mark(target).exists()
    }

    /// Makes pushes to a history wait for an approval, or not.
    ///
    /// # Errors
    /// The spool cannot be written.
    pub fn set_approval(&self, target: &Target, wanted: bool) -> Result<(), JobError> {
        let mark = self.approval_mark(target);
        let doing = || format!("cannot change {}", mark.display());
        if wanted {
            let made = fs::create_dir_all(self.root().join("approval"));
            made.and_then(|()| fs::write(&mark, b"")).doing(doing)?;
        } else {
            match fs::remove_file(&mark) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing(doing)?,
                _ => {}
            }
        }
        self.wake();
        Ok(())
    }

    /// True if a job in the queue must not start before a person approves it.
    #[must_use]
    pub fn waits_for_approval(&self, job: &Job, target: &Target) -> bool {
        job.state == SpoolState::Queued
            && self.wants_approval(target)
            && !job.path.join(RECORD).exists()
    }

    /// Approves a job that waits.
    ///
    /// # Errors
    /// The job is not in the queue, or the spool cannot be written.
    pub fn approve(&self, job: &Job, by: &str) -> Result<Approval, JobError> {
        require_queued(job)?;
        let approval = Approval {
            by: by.to_owned(),
            time: clock::now(),
        };
        files::write_record(&job.path.join(RECORD), &approval)
            .doing(|| format!("cannot approve job {}", job.id))?;
        self.wake();
        Ok(approval)
    }

    /// Rejects a job that waits: it fails with the reason, and its changes are kept.
    ///
    /// # Errors
    /// The job is not in the queue, or the spool cannot be written.
    pub fn reject(&self, job: &Job, by: &str, reason: &str) -> Result<Job, JobError> {
        require_queued(job)?;
        let reason = match reason.trim() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let error = format!("rejected by {by}{reason}");
        Ok(self
            .end(job, &Ending::Failed { error })
            .doing(|| format!("cannot reject job {}", job.id))?)
    }

    /// Wakes the watcher, which watches the queue's directory.
    fn wake(&self) {
        let touched = self.state(SpoolState::Queued).join(".look");
        let _ = fs::write(&touched, b"").and_then(|()| fs::remove_file(&touched));
    }
}

impl Job {
    /// The approval, if a person approved the job.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn approval(&self) -> io::Result<Option<Approval>> {
        files::read_record(&self.path.join(RECORD))
    }
}

fn require_queued(job: &Job) -> Result<(), JobError> {
    match job.state {
        SpoolState::Queued => Ok(()),
        state => Err(JobError::NotQueued {
            id: job.id.to_string(),
            state: state.name(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(spool: &Spool) -> Job {
        let id = spool.next_id().unwrap();
        let path = spool.state(SpoolState::Queued).join(id.to_string());
        fs::create_dir(&path).unwrap();
        spool.find(id).unwrap().unwrap()
    }

    #[test]
    fn a_job_waits_for_the_approval_of_its_history_only() {
        let room = tempfile::tempdir().unwrap();
        let spool = Spool::open(room.path()).unwrap();
        let [kiosk, lab]: [Target; 2] = ["kiosk", "kiosk/lab"].map(|name| name.parse().unwrap());
        let job = queued(&spool);
        assert!(!spool.waits_for_approval(&job, &kiosk));
        spool.set_approval(&kiosk, true).unwrap();
        assert!(spool.waits_for_approval(&job, &kiosk));
        assert!(!spool.waits_for_approval(&job, &lab));
        assert_eq!(spool.approve(&job, "ann").unwrap().by, "ann");
        assert!(!spool.waits_for_approval(&job, &kiosk));
        assert_eq!(job.approval().unwrap().unwrap().by, "ann");
        spool.set_approval(&kiosk, false).unwrap();
        spool.set_approval(&kiosk, false).unwrap();
        assert!(!spool.waits_for_approval(&queued(&spool), &kiosk));
    }

    #[test]
    fn a_rejected_job_fails_with_the_reason_and_only_once() {
        let room = tempfile::tempdir().unwrap();
        let spool = Spool::open(room.path()).unwrap();
        let job = spool
            .reject(&queued(&spool), "ann", " not on Fridays ")
            .unwrap();
        let ending = job.ending().unwrap();
        let error = "rejected by ann: not on Fridays".to_owned();
        assert_eq!(ending, Some(Ending::Failed { error }));
        assert!(spool.approve(&job, "bob").is_err());
        assert!(spool.reject(&job, "bob", "").is_err());
    }
}
