//! The command `layerfs switch`.

mod hooks;
mod notice;
pub(super) mod text;
mod turn;
mod units;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use self::hooks::Hooks;
use self::notice::with_notice;
use self::turn::SwitchTurn;
use self::units::{FailedRestart, Restarts};
use super::old_files::{self, OldFiles};
use super::remote::{ask_parts, open_root};
use super::status::require_mount;
use crate::control::{Command, Question};
use crate::switch::{SwitchOutcome, SwitchReport, SwitchRequest};

/// The file by which Debian's and Ubuntu's tools know that a restart is due.
const REBOOT_REQUIRED: &str = "/run/reboot-required";
/// The programs that run before and after a switch of `/`.
const HOOKS: &str = "/etc/layerfs/switch.d";

/// Describes the new revision for other programs; absent while the newest is mounted.
pub(super) const NEW_REVISION: &str = "/run/layerfs/new-revision";

/// The time after which a waiting command says so.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// The exit code after a switch if a service could not be restarted.
const RESTART_FAILED: u8 = 3;

/// Arguments of `layerfs switch`.
#[derive(Debug, Clone, clap::Args)]
pub struct SwitchArgs {
    /// The revision (default: the newest of the mounted system)
    #[arg(value_name = "[SYSTEM[/PROFILE]][@REV]", default_value = "")]
    pub revision: String,
    /// The mount point
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub mount: PathBuf,
    /// Only show what would change, the conflicts, and the programs that would use old files
    #[arg(long)]
    pub dry_run: bool,
    /// Switch in spite of conflicts: the upper wins
    #[arg(long)]
    pub force: bool,
    /// Restart the systemd services that use old files, except those that end sessions
    #[arg(long)]
    pub restart_units: bool,
    /// Directory of programs to run before and after the switch (default: /etc/layerfs/switch.d for
    /// the mount on /)
    #[arg(long, value_name = "DIR")]
    pub hooks: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// The result as JSON.
#[derive(Debug, serde::Serialize)]
struct Printed<'r> {
    #[serde(flatten)]
    report: &'r SwitchReport,
    /// The programs that use files of the revision before.
    programs: &'r [OldFiles],
    /// The services that were restarted.
    restarted: &'r [String],
    /// The services that could not be restarted.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    not_restarted: &'r [FailedRestart],
}

/// A switch, and what it means for the programs that run.
#[derive(Debug)]
pub(super) struct SwitchEffect {
    /// The report of the mount.
    pub(super) report: SwitchReport,
    /// The programs that use old files, or would.
    pub(super) programs: Vec<OldFiles>,
    restarts: Restarts,
}

impl SwitchEffect {
    /// The result in words.
    pub(super) fn human(&self) -> String {
        let mut text = text::human(&self.report, &self.programs);
        let Restarts { done, failed } = &self.restarts;
        if !done.is_empty() {
            text.push_str(&format!("restarted: {}\n", done.join(", ")));
        }
        for FailedRestart { unit, error } in failed {
            text.push_str(&format!("not restarted: {unit}: {error}\n"));
        }
        text
    }
}

/// Switches a mount.
///
/// # Errors
/// No system of a server is mounted there, or the revision cannot be used.
pub(crate) fn run(args: &SwitchArgs) -> anyhow::Result<ExitCode> {
    let outcome = switch(args)?;
    let report = &outcome.report;
    if args.json {
        let printed = Printed {
            report,
            programs: &outcome.programs,
            restarted: &outcome.restarts.done,
            not_restarted: &outcome.restarts.failed,
        };
        println!("{}", serde_json::to_string_pretty(&printed)?);
    } else if report.outcome != SwitchOutcome::Failed {
        print!("{}", outcome.human());
    }
    match report.outcome {
        SwitchOutcome::Refused => Ok(ExitCode::from(1)),
        SwitchOutcome::Failed if args.json => Ok(ExitCode::from(2)),
        SwitchOutcome::Failed => bail!(
            "{}: {}; the mount keeps {}",
            args.mount.display(),
            report.error.as_deref().unwrap_or("the switch failed"),
            report.from
        ),
        _ if !outcome.restarts.failed.is_empty() => Ok(ExitCode::from(RESTART_FAILED)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Switches a mount, with everything around it.
///
/// # Errors
/// As [`run`].
pub(super) fn switch(args: &SwitchArgs) -> anyhow::Result<SwitchEffect> {
    let root = open_root(&args.mount)?;
    require_mount(&root, &args.mount)?;
    let is_root = args.mount == Path::new("/");
    let hooks = args.hooks.as_deref();
    let hooks = hooks.or(is_root.then(|| Path::new(HOOKS)));
    let mut request = SwitchRequest {
        to: args.revision.clone(),
        dry_run: args.dry_run,
        force: args.force,
        only_name: false,
    };
    let hooks = match hooks.filter(|hooks| !args.dry_run && hooks.is_dir()) {
        Some(directory) => begin(&root, args, directory, &mut request)?,
        None => None,
    };
    let asked = ask(&root, &args.mount, &request);
    let is_done = |report: &SwitchReport| report.outcome == SwitchOutcome::Done;
    let is_done = asked.as_ref().is_ok_and(is_done);
    if is_done && is_root {
        units::reload();
    }
    if let Some(hooks) = hooks {
        hooks.after(is_done);
    }
    let mut outcome = SwitchEffect {
        report: asked?,
        programs: Vec::new(),
        restarts: Restarts::default(),
    };
    let report = &mut outcome.report;
    match report.outcome {
        SwitchOutcome::Done => {
            if is_root {
                if !report.boot_differences.is_empty() {
                    require_reboot();
                }
                forget_announced(report.to.as_deref());
            }
            outcome.programs = old_files::find(&root)?;
            if args.restart_units {
                outcome.restarts = units::restart(&outcome.programs);
                outcome.programs = old_files::find(&root)?;
            }
        }
        SwitchOutcome::Planned | SwitchOutcome::Refused => {
            let old = std::mem::take(&mut report.old_objects);
            outcome.programs = old_files::users_of(&root, &old)?;
        }
        _ => {}
    }
    Ok(outcome)
}

/// Finds the revision, so that the hooks get its name, and runs those before the switch. `None`: it
/// is mounted already, or cannot be found.
fn begin<'a>(
    root: &OwnedFd,
    args: &'a SwitchArgs,
    directory: &Path,
    request: &mut SwitchRequest,
) -> anyhow::Result<Option<Hooks<'a>>> {
    let only_name = SwitchRequest {
        only_name: true,
        ..request.clone()
    };
    let found = ask(root, &args.mount, &only_name)?;
    let (SwitchOutcome::Found, Some(to)) = (found.outcome, &found.to) else {
        return Ok(None);
    };
    request.to.clone_from(to);
    let hooks = Hooks::new(directory, &args.mount, &found.from, to);
    hooks.before()?;
    Ok(Some(hooks))
}

/// Gives the mount a request, and waits for its report.
///
/// # Errors
/// No system of a server is mounted there, or another switch is running.
pub(super) fn ask(
    root: &OwnedFd,
    mount: &Path,
    request: &SwitchRequest,
) -> anyhow::Result<SwitchReport> {
    if request.only_name || request.dry_run {
        return ask_in_turn(root, mount, request);
    }
    let say = || {
        let at = mount.display();
        eprintln!("layerfs: {at}: the switch waits; until it is done the mount keeps its revision");
    };
    with_notice(SILENT_MAX, say, || ask_in_turn(root, mount, request))
}

fn ask_in_turn(
    root: &OwnedFd,
    mount: &Path,
    request: &SwitchRequest,
) -> anyhow::Result<SwitchReport> {
    let at = || mount.display().to_string();
    let request = serde_json::to_vec(request)?;
    let _turn = SwitchTurn::take(root);
    match rustix::fs::fsetxattr(root, Command::SWITCH, &request, XattrFlags::empty()) {
        Ok(()) => {}
        Err(Errno::BUSY) => bail!("{}: a switch is running: try again when it has ended", at()),
        Err(Errno::PERM | Errno::ACCESS) => bail!("{}: only root may switch a mount", at()),
        Err(Errno::ROFS) => bail!(
            "{}: a mount without an upper cannot switch, and neither can one of local layers",
            at()
        ),
        Err(Errno::HOSTUNREACH) => bail!(
            "{}: this mount does not switch: it is the lower directory of an overlayfs (layerfs.upper=…,kernel); the next boot has the new revision",
            at()
        ),
        Err(errno) => return Err(errno).with_context(at),
    }
    let bytes = ask_parts(root, Question::SwitchReport).with_context(at)?;
    if bytes.is_empty() {
        // The attribute was stored as any other.
        let _ = rustix::fs::fremovexattr(root, Command::SWITCH);
        bail!(
            "{}: this mount has no other revisions: only root can switch, and only a system of a server",
            at()
        );
    }
    serde_json::from_slice(&bytes).with_context(|| format!("{}: its answer cannot be parsed", at()))
}

/// Says that the machine needs a restart, as packages of Debian do.
fn require_reboot() {
    let text = "*** System restart required ***\n";
    if let Err(error) = std::fs::write(REBOOT_REQUIRED, text) {
        eprintln!("layerfs: {REBOOT_REQUIRED}: {error}");
    }
}

/// Removes the announcement of a revision that is mounted now.
fn forget_announced(to: Option<&str>) {
    let Ok(text) = std::fs::read(NEW_REVISION) else {
        return;
    };
    let announced = serde_json::from_slice::<SwitchReport>(&text);
    if announced.is_ok_and(|announced| announced.to.as_deref() == to) {
        let _ = std::fs::remove_file(NEW_REVISION);
    }
}
