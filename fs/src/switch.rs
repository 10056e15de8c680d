//! A running mount takes another revision. One switch at a time; it runs on a thread of its own,
//! because it waits for servers and for the kernel.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::chunks::{OnAnswer, Pending};
use crate::control::Command;
use crate::filesystem::{Conflict, ExchangeError, LayerFs, Planned, Stale};
use crate::revisions::{Revision, Revisions};

/// Conflicts that a report lists.
const CONFLICTS_LISTED: usize = 1000;
/// Numbers of objects in use that a report lists: an answer has a bound.
const OLD_OBJECTS_LISTED: usize = 100_000;
/// Attempts, if files that the revision changes are changed at the same moment.
const ATTEMPTS: usize = 5;

/// A wanted switch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SwitchRequest {
    /// `[SYSTEM[/PROFILE]][@REV]`; empty: the newest revision of the mounted system.
    pub to: String,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Switch in spite of conflicts.
    pub force: bool,
    /// Only say which revision it is, without its index.
    #[serde(default)]
    pub only_name: bool,
}

/// How a switch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwitchOutcome {
    /// The mount shows the revision.
    Done,
    /// The mount showed it before.
    Same,
    /// There is such a revision; nothing else was wanted.
    Found,
    /// It would be done.
    Planned,
    /// There are conflicts.
    Refused,
    /// It is impossible; nothing has changed.
    Failed,
}

/// A path that both the upper and the revision change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConflictReport {
    /// The path in the mount.
    pub path: String,
    /// The change in the upper.
    pub upper: String,
    /// The change of the revision.
    pub revision: String,
    /// True if it forbids the switch.
    pub forbids: bool,
}

/// The result of a switch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SwitchReport {
    /// How it ended.
    pub outcome: SwitchOutcome,
    /// The revision before.
    pub from: String,
    /// The other revision, if it was found.
    pub to: Option<String>,
    /// The reason of a failure.
    pub error: Option<String>,
    /// Names whose object differs.
    pub changes: usize,
    /// Number of conflicts.
    pub conflict_count: usize,
    /// The first conflicts, by path.
    pub conflicts: Vec<ConflictReport>,
    /// Objects of the revision before that were in use at the switch.
    pub in_use: usize,
    /// Without a switch: the numbers of those that would be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old_objects: Vec<u64>,
    /// Which of kernel, initramfs and kernel parameters differ: they need a restart.
    pub boot_differences: Vec<String>,
    /// Duration, milliseconds.
    pub took_ms: u64,
}

impl SwitchReport {
    fn new(from: String) -> SwitchReport {
        SwitchReport {
            outcome: SwitchOutcome::Failed,
            from,
            to: None,
            error: None,
            changes: 0,
            conflict_count: 0,
            conflicts: Vec::new(),
            in_use: 0,
            old_objects: Vec::new(),
            boot_differences: Vec::new(),
            took_ms: 0,
        }
    }
}

impl From<&Conflict> for ConflictReport {
    fn from(conflict: &Conflict) -> ConflictReport {
        ConflictReport {
            path: format!("/{}", String::from_utf8_lossy(&conflict.path)),
            upper: conflict.ours.to_string(),
            revision: conflict.theirs.to_string(),
            forbids: conflict.forbids,
        }
    }
}

/// Makes the kernel forget what is stale. Called without a lock: it may wait for requests.
pub type ForgetStale = Arc<dyn Fn(&Stale) + Send + Sync>;

/// The switches of one mount.
#[derive(Debug)]
pub struct Switch {
    fs: Arc<LayerFs>,
    revisions: Arc<dyn Revisions>,
    state: Mutex<SwitchState>,
}

#[derive(Default)]
struct SwitchState {
    runs: bool,
    report: Option<Arc<Vec<u8>>>,
    waiting: Vec<Box<dyn FnOnce(Arc<Vec<u8>>) + Send>>,
    /// The hello of the last switch.
    telling: Option<Box<dyn Pending>>,
    /// To the thread of the switches, after the first.
    jobs: Option<mpsc::Sender<SwitchJob>>,
}

/// One switch.
type SwitchJob = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for SwitchState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwitchState")
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

impl Switch {
    /// For `fs`, which shows one of `revisions`.
    pub(crate) fn new(fs: Arc<LayerFs>, revisions: Arc<dyn Revisions>) -> Switch {
        Switch {
            fs,
            revisions,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SwitchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a switch; false if one is running, or no thread is left.
    pub(crate) fn begin(self: &Arc<Self>, request: SwitchRequest, forget: ForgetStale) -> bool {
        {
            let mut state = self.lock();
            if state.runs {
                return false;
            }
            state.runs = true;
            state.report = None;
        }
        let started = self.hand_over(self.job(request, forget));
        if !started {
            self.lock().runs = false;
        }
        started
    }

    /// Gives a job to the thread of the switches. There is one, because each thread has a heap of its
    /// own, which keeps the most memory that it ever needed.
    fn hand_over(&self, job: SwitchJob) -> bool {
        let mut state = self.lock();
        let job = match &state.jobs {
            None => job,
            Some(jobs) => match jobs.send(job) {
                Ok(()) => return true,
                Err(failed) => failed.0,
            },
        };
        let (jobs, arriving) = mpsc::channel::<SwitchJob>();
        let work = move || arriving.iter().for_each(|job| job());
        let builder = std::thread::Builder::new().name(String::from("switch"));
        if builder.spawn(work).is_err() || jobs.send(job).is_err() {
            return false;
        }
        state.jobs = Some(jobs);
        true
    }

    fn job(self: &Arc<Self>, request: SwitchRequest, forget: ForgetStale) -> SwitchJob {
        let switch = Arc::clone(self);
        Box::new(move || {
            let guarded = std::panic::AssertUnwindSafe(|| switch.run(&request, &*forget));
            let report = std::panic::catch_unwind(guarded).unwrap_or_else(|_| {
                let mut report = SwitchReport::new(String::new());
                report.error = Some(String::from("a fault in layerfs: see its log"));
                report
            });
            switch.end(&report);
        })
    }

    fn end(&self, report: &SwitchReport) {
        let bytes = Arc::new(serde_json::to_vec(report).unwrap_or_default());
        let waiting = {
            let mut state = self.lock();
            state.runs = false;
            state.report = Some(Arc::clone(&bytes));
            std::mem::take(&mut state.waiting)
        };
        for then in waiting {
            then(Arc::clone(&bytes));
        }
    }

    /// Calls `then` with part `part` of the report of the last switch, when it has ended.
    pub(crate) fn report(&self, part: usize, part_len: usize, then: OnAnswer) {
        let give = move |bytes: Arc<Vec<u8>>| {
            then(bytes.chunks(part_len).nth(part).map(<[u8]>::to_vec));
        };
        let mut state = self.lock();
        if state.runs {
            state.waiting.push(Box::new(give));
            return;
        }
        let report = state.report.clone().unwrap_or_default();
        drop(state);
        give(report);
    }

    fn run(&self, request: &SwitchRequest, forget: &dyn Fn(&Stale)) -> SwitchReport {
        let began = Instant::now();
        let mut report = SwitchReport::new(self.revisions.mounted());
        let done = self.attempt(request, forget, &mut report);
        if let Err(error) = done {
            self.fs.give_up_switch();
            report.outcome = SwitchOutcome::Failed;
            report.error = Some(error);
        }
        report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !request.only_name {
            say(&report);
        }
        report
    }

    fn attempt(
        &self,
        request: &SwitchRequest,
        forget: &dyn Fn(&Stale),
        report: &mut SwitchReport,
    ) -> Result<(), String> {
        let found = self.revisions.find(&request.to)?;
        report.to = Some(found.name());
        if found.name() == report.from {
            report.outcome = SwitchOutcome::Same;
            return Ok(());
        }
        let differences = found.boot_differences();
        report.boot_differences = differences.into_iter().map(String::from).collect();
        if request.only_name {
            report.outcome = SwitchOutcome::Found;
            return Ok(());
        }
        let next = found.open()?;
        for attempt in 1..=ATTEMPTS {
            let planned = self
                .fs
                .plan_switch(next.base(), next.index(), &next.digest())
                .map_err(|error| error.to_string())?;
            describe(&planned, report);
            let refused = planned.conflicts().iter().any(|conflict| conflict.forbids)
                || (report.conflict_count > 0 && !request.force);
            if request.dry_run || refused {
                report.old_objects = self.fs.old_objects(&planned);
                report.old_objects.truncate(OLD_OBJECTS_LISTED);
                self.fs.give_up_switch();
                report.outcome = match refused {
                    true => SwitchOutcome::Refused,
                    false => SwitchOutcome::Planned,
                };
                return Ok(());
            }
            match self.carry_out(planned, &*next, forget) {
                Ok(in_use) => {
                    report.in_use = in_use;
                    report.outcome = SwitchOutcome::Done;
                    next.mounted();
                    self.tell();
                    return Ok(());
                }
                Err(ExchangeError::Moved) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Tells the fleet which revision is mounted now.
    fn tell(&self) {
        let control = Arc::clone(&self.fs.lower().control);
        let sending = control.command(Command::Mounted, Box::new(|_| {}));
        self.lock().telling = Some(sending);
    }

    /// Exchanges the revisions, then the kernel's caches; the number of objects in use.
    fn carry_out(
        &self,
        planned: Planned,
        next: &dyn Revision,
        forget: &dyn Fn(&Stale),
    ) -> Result<usize, ExchangeError> {
        let parts = next.parts(planned.index());
        let exchange = self.fs.carry_out_switch(planned, parts)?;
        forget(&exchange.stale);
        Ok(exchange.kept)
    }
}

fn describe(planned: &Planned, report: &mut SwitchReport) {
    let conflicts = planned.conflicts();
    report.changes = planned.change_count();
    report.conflict_count = conflicts.len();
    let listed = conflicts.iter().take(CONFLICTS_LISTED);
    report.conflicts = listed.map(ConflictReport::from).collect();
}

fn say(report: &SwitchReport) {
    let to = report.to.as_deref().unwrap_or("another revision");
    let from = &report.from;
    match report.outcome {
        SwitchOutcome::Done => tracing::warn!(
            from,
            to,
            changes = report.changes,
            in_use = report.in_use,
            conflicts = report.conflict_count,
            ms = report.took_ms,
            "the mount shows another revision"
        ),
        SwitchOutcome::Failed => {
            let error = report.error.as_deref().unwrap_or_default();
            tracing::warn!(from, to, error, "the mount keeps its revision");
        }
        SwitchOutcome::Refused => tracing::info!(
            from,
            to,
            conflicts = report.conflict_count,
            "the mount keeps its revision: there are conflicts"
        ),
        SwitchOutcome::Same | SwitchOutcome::Found | SwitchOutcome::Planned => {}
    }
}
