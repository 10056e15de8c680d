//! Work for idle times, by policy: renewing heads, making boot packs and update packs, compacting
//! long stacks.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wire::manifest::Manifest;

use super::{WatchError, WatchOptions, own_program};
use crate::clock;
use crate::human;
use crate::jobs::Target;
use crate::keys::Keys;
use crate::publish::is_due;
use crate::serve;
use crate::traces;

/// Interval of the checks of the store.
const PAUSE: Duration = Duration::from_secs(20);
/// Seconds before a failed renewal (for example without the key in the agent) is retried.
const RENEW_AGAIN: u64 = 600;
/// Traces that arrive without a break are packed after this time.
const PACK_AT_LAST: Duration = Duration::from_secs(1800);

/// Settings for the work in idle times.
#[derive(Debug, Clone)]
pub(crate) struct IdlePolicy {
    /// The store to look at.
    pub store: String,
    /// Its keys, with the lifetime of heads.
    pub keys: Keys,
    /// Stacks with more layers than this, or with layers that are mostly hidden, are compacted;
    /// `None`: never.
    pub layers_max: Option<usize>,
    /// Boot packs are made when no trace has arrived for this time; `None`: never.
    pub pack_after: Option<Duration>,
    /// Boot new revisions in a virtual machine to make their boot packs.
    pub rehearse: bool,
    /// Number of revisions before the newest from which to make update packs; 0: none.
    pub updates: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    Renew,
    Pack,
    Rehearse,
    Predict,
    Update,
    Compact,
}

/// One task and its trigger: it is not repeated for the same trigger.
#[derive(Debug, Clone)]
struct IdleTask {
    work: Work,
    target: Target,
    reason: u128,
}

/// Runs at most one task at a time, a separate `bakery` at the lowest priority. It stops the task
/// when there is a job to bake: nothing is published in part, and the task starts again later.
pub(super) struct Idle {
    policy: IdlePolicy,
    spool: std::path::PathBuf,
    arguments: Vec<String>,
    running: Option<(Child, IdleTask)>,
    /// A refusal is not repeated until something changed.
    tried: HashMap<(Work, Target), u128>,
    /// The time since which there are traces from which no pack was made.
    unpacked: HashMap<Target, Instant>,
    looked: Option<Instant>,
}

impl Idle {
    pub(super) fn new(options: &WatchOptions) -> Self {
        Self {
            policy: options.policy.clone(),
            spool: options.spool.root().to_owned(),
            arguments: options.arguments.clone(),
            running: None,
            tried: HashMap::new(),
            unpacked: HashMap::new(),
            looked: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Continues: checks the running task, or finds the next.
    pub(super) fn step(&mut self) {
        if let Some((child, task)) = &mut self.running {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(status)) => tracing::info!("{task} ended with {status}"),
                Err(error) => tracing::warn!("cannot check {task}: {error}"),
            }
            self.unpacked.remove(&task.target);
            self.tried
                .insert((task.work, task.target.clone()), task.reason);
            self.running = None;
            self.looked = None;
        }
        if self.looked.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.looked = Some(Instant::now());
        let next = match self.next() {
            Ok(next) => next,
            Err(error) => {
                let why = human::causes(&error);
                tracing::warn!("cannot find the tasks for idle time: {why}");
                None
            }
        };
        if let Some(task) = next
            && let Err(error) = self.launch(&task)
        {
            tracing::warn!("cannot start {task}: {}", human::causes(&error));
        }
    }

    /// The next task. Renewals come first, because they cannot wait.
    fn next(&mut self) -> Result<Option<IdleTask>, WatchError> {
        let lifetime = self.policy.keys.lifetime()?;
        let layers_max = self.policy.layers_max;
        let nothing = lifetime.is_none() && layers_max.is_none() && self.policy.updates == 0;
        if nothing && self.policy.pack_after.is_none() && !self.policy.rehearse {
            return Ok(None);
        }
        let now = clock::now();
        let mut tasks = Vec::new();
        for (profile, head, manifest) in serve::states(&self.policy.store)? {
            let layers = manifest.layers.len();
            let target = Target {
                system: profile.system,
                profile: profile.profile,
            };
            let mut add = |work, reason| {
                tasks.push(IdleTask {
                    work,
                    target: target.clone(),
                    reason,
                });
            };
            let revision = u128::from(profile.revision);
            if lifetime.is_some_and(|lifetime| is_due(head.expires_at, lifetime, now)) {
                add(Work::Renew, revision << 64 | u128::from(now / RENEW_AGAIN));
            }
            if let Some(pause) = self.policy.pack_after
                && let Some((newest, ..)) = traces::newest(&traces::of_history(
                    &self.spool,
                    &target.system,
                    &target.profile,
                ))
                && self.tried.get(&(Work::Pack, target.clone())) != Some(&newest.0)
            {
                let first = self
                    .unpacked
                    .entry(target.clone())
                    .or_insert_with(Instant::now);
                let age = u128::from(now) * 1000;
                let age = age.saturating_sub(u128::from(newest.timestamp_ms()));
                if age >= pause.as_millis() || first.elapsed() >= PACK_AT_LAST {
                    add(Work::Pack, newest.0);
                }
            }
            if self.policy.rehearse && manifest.kernel.is_some() && manifest.initrd.is_some() {
                add(Work::Rehearse, tree_of(&manifest));
            }
            // A revision of an older bakery, or one that lost its pack by a large change.
            if self.policy.pack_after.is_some() && manifest.pack.is_none() {
                add(Work::Predict, tree_of(&manifest));
            }
            if self.policy.updates > 0 && profile.revision > 1 {
                add(Work::Update, revision);
            }
            if layers_max.is_some() && layers > 1 {
                add(Work::Compact, revision);
            }
        }
        tasks.retain(|task| {
            let tried = self.tried.get(&(task.work, task.target.clone()));
            tried != Some(&task.reason)
        });
        tasks.sort_by_key(|task| task.work as u8);
        Ok(tasks.into_iter().next())
    }

    fn launch(&mut self, task: &IdleTask) -> Result<(), WatchError> {
        let mut command = Command::new(own_program()?);
        command.args(&self.arguments);
        let target = task.target.to_string();
        match task.work {
            Work::Renew => command.args(["key", "renew", &target]),
            Work::Pack => command.args(["pack", &target, "--spool"]).arg(&self.spool),
            Work::Predict => command
                .args(["pack", &target, "--predict", "--spool"])
                .arg(&self.spool),
            Work::Rehearse => command.args(["rehearse", &target]),
            Work::Update => {
                let last = self.policy.updates.to_string();
                command.args(["update-pack", &target, "--last", &last])
            }
            Work::Compact => {
                let most = self.policy.layers_max.unwrap_or(usize::MAX).to_string();
                command.args(["compact", &target, "--if-needed", "--layers-max", &most])
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        // Disk schedulers derive their own priority from this one.
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Err(error) = rustix::process::setpriority_process(pid, 19) {
            tracing::warn!("cannot lower the priority of {task}: {error}");
        }
        tracing::debug!("{task} begins");
        self.running = Some((child, task.clone()));
        Ok(())
    }

    /// Stops the task to make room for a job.
    pub(super) fn stop(&mut self) {
        if let Some((mut child, task)) = self.running.take() {
            let stopped = child.kill().and_then(|()| child.wait());
            if let Err(error) = stopped {
                tracing::warn!("cannot stop {task}: {error}");
            }
        }
    }
}

impl std::fmt::Display for IdleTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let work = match self.work {
            Work::Renew => "renewal",
            Work::Pack => "the boot pack",
            Work::Rehearse => "the rehearsal",
            Work::Predict => "the predicted boot pack",
            Work::Update => "making update packs",
            Work::Compact => "compaction",
        };
        write!(f, "{work} of {}", self.target)
    }
}

/// A number of the tree of a revision: a pack or another kernel changes no page of it.
fn tree_of(manifest: &Manifest) -> u128 {
    let bytes = manifest.tree_digest.0;
    bytes
        .iter()
        .take(16)
        .fold(0, |number, byte| number << 8 | u128::from(*byte))
}
