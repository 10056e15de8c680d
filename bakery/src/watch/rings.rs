//! Runs `bakery ring advance` at an interval. It is a process of its own: jobs do not wait for it,
//! and it does not wait for them.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{WatchError, WatchOptions, own_program};
use crate::human;

/// The running process, if there is one.
#[derive(Debug, Default)]
pub(super) struct RingKeeper {
    running: Option<Child>,
    started: Option<Instant>,
}

impl RingKeeper {
    /// Starts the next run when it is due. Without a fleet in the spool there is nothing to do.
    pub(super) fn step(&mut self, options: &WatchOptions) {
        if let Some(child) = &mut self.running {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(status)) if status.success() => {}
                Ok(Some(status)) => tracing::warn!("promotion in rings ended with {status}"),
                Err(error) => tracing::warn!("cannot check the promotion in rings: {error}"),
            }
            self.running = None;
        }
        let Some(every) = options.rings_every.filter(|_| !options.once) else {
            return;
        };
        let is_due = self.started.is_none_or(|at| at.elapsed() >= every);
        if !is_due || !fleet::store::database(options.spool.root()).exists() {
            return;
        }
        self.started = Some(Instant::now());
        match start(options) {
            Ok(child) => self.running = Some(child),
            Err(error) => {
                let why = human::causes(&error);
                tracing::warn!("cannot start the promotion in rings: {why}");
            }
        }
    }

    /// Waits for a running process: a record and its notices belong together.
    pub(super) fn stop(&mut self) {
        if let Some(mut child) = self.running.take()
            && let Err(error) = child.wait()
        {
            tracing::warn!("cannot wait for the promotion in rings: {error}");
        }
    }
}

fn start(options: &WatchOptions) -> Result<Child, WatchError> {
    let mut command = Command::new(own_program()?);
    let notices = &options.notices;
    command
        .args(&options.arguments)
        .args(["ring", "advance", "--spool"])
        .arg(options.spool.root())
        .arg("--hooks")
        .arg(&notices.hooks)
        .arg("--sendmail")
        .arg(&notices.sendmail);
    if let Some(to) = &notices.mail_to {
        command.arg("--mail-to").arg(to);
    }
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?)
}
