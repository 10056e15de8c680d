//! Compaction by policy, when there is nothing else to do.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Options, own_program};
use crate::jobs::Target;

/// How often the store is looked through.
const PAUSE: Duration = Duration::from_secs(20);

/// When a stack is to be compacted.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The store to look at.
    pub store: String,
    /// More layers than this are too many (and layers mostly hidden are, too); `None`: never
    /// compact.
    pub layers_max: Option<usize>,
}

/// Starts at most one `bakery compact` at a time, at the lowest priority, and ends it when there
/// is a job to bake: nothing is half published, and it begins anew later.
pub(super) struct Compactor {
    policy: Policy,
    arguments: Vec<String>,
    running: Option<(Child, Target, u64)>,
    /// The revision of each profile that was tried: a refusal is not repeated until something
    /// changed.
    tried: HashMap<Target, u64>,
    looked: Option<Instant>,
}

impl Compactor {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            policy: options.policy.clone(),
            arguments: options.arguments.clone(),
            running: None,
            tried: HashMap::new(),
            looked: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Goes on: looks after the one at work, or finds the next.
    pub(super) fn step(&mut self) {
        if let Some((child, target, revision)) = &mut self.running {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(status)) => {
                    tracing::info!("compaction of {target}@{revision} ended with {status}")
                }
                Err(error) => {
                    tracing::warn!("cannot ask after the compaction of {target}: {error}")
                }
            }
            self.tried.insert(target.clone(), *revision);
            self.running = None;
            self.looked = None;
        }
        if let Err(error) = self.next() {
            tracing::warn!("compaction: {error:#}");
        }
    }

    fn next(&mut self) -> anyhow::Result<()> {
        let Some(most) = self.policy.layers_max else {
            return Ok(());
        };
        if self.looked.is_some_and(|at| at.elapsed() < PAUSE) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        for (profile, layers) in crate::serve::chain_lengths(&self.policy.store)? {
            let target = Target {
                system: profile.system,
                profile: profile.profile,
            };
            if layers > 1 && self.tried.get(&target) != Some(&profile.revision) {
                return self.launch(target, profile.revision, most);
            }
        }
        Ok(())
    }

    fn launch(&mut self, target: Target, revision: u64, most: usize) -> anyhow::Result<()> {
        let program: PathBuf = own_program()?;
        let child = Command::new(program)
            .args(&self.arguments)
            .args([
                "compact",
                &target.to_string(),
                "--if-needed",
                "--layers-max",
                &most.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        // Disk schedulers derive their own priority from this one.
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Err(error) = rustix::process::setpriority_process(pid, 19) {
            tracing::warn!("cannot lower the compaction's priority: {error}");
        }
        tracing::debug!("asking whether {target}@{revision} needs compaction");
        self.running = Some((child, target, revision));
        Ok(())
    }

    /// Makes room for a job.
    pub(super) fn stop(&mut self) {
        if let Some((mut child, target, _)) = self.running.take() {
            let stopped = child.kill().and_then(|()| child.wait());
            if let Err(error) = stopped {
                tracing::warn!("cannot stop the compaction of {target}: {error}");
            }
        }
    }
}
