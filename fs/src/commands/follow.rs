//! The command `layerfs follow`: new revisions of the mounted system are announced or taken.

mod hours;
mod news;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;

use self::hours::Hours;
use self::news::News;
use super::hello::apart;
use super::remote::open_root;
use super::status::require_mount;
use super::switch::{self, NEW_REVISION, SwitchArgs, text};
use crate::switch::{SwitchOutcome, SwitchReport, SwitchRequest};
use crate::sys::clock::minute_of_day;
use crate::sys::process::since_start_ms;

/// The parameter on the kernel's command line.
const PARAMETER: &str = "layerfs.follow=";

/// What is done about a new revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FollowMode {
    /// Nothing
    No,
    /// It is announced
    Notify,
    /// The mount switches to it; if it cannot, it is announced
    Auto,
}

/// Arguments of `layerfs follow`.
#[derive(Debug, Clone, clap::Args)]
pub struct FollowArgs {
    /// The mount point
    #[arg(default_value = "/")]
    pub mountpoint: PathBuf,
    /// What to do about a new revision (default: as layerfs.follow= on the kernel's command line
    /// says, or no)
    #[arg(long, value_name = "MODE")]
    pub mode: Option<FollowMode>,
    /// Switch only within these hours of local time, such as 22:00-05:30 (default: those of
    /// layerfs.follow=auto,HH:MM-HH:MM, or all)
    #[arg(long, value_name = "HH:MM-HH:MM")]
    pub hours: Option<Hours>,
    /// Ask the server every SECONDS, and up to a fifth more; a bakery also answers when there is a new
    /// revision
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub every: u64,
    /// Restart the systemd services that use old files, except those that end sessions
    #[arg(long)]
    pub restart_units: bool,
    /// Directory of programs to run before and after the switch (default: /etc/layerfs/switch.d for
    /// the mount on /)
    #[arg(long, value_name = "DIR")]
    pub hooks: Option<PathBuf>,
}

/// The last revision that was announced, and the last that could not be taken.
#[derive(Debug, Default)]
struct Followed {
    announced: Option<String>,
    refused: Option<String>,
    /// The newest revision at the last look.
    newest: Option<String>,
    /// The last look failed.
    fails: bool,
}

/// Follows the mounted system for ever.
///
/// # Errors
/// No system of a server is mounted there.
pub(crate) fn run(args: &FollowArgs) -> anyhow::Result<ExitCode> {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let (mode, hours) = of_kernel(&line)?;
    let mode = args.mode.unwrap_or(mode);
    let hours = args.hours.or(hours);
    if mode == FollowMode::No {
        eprintln!("layerfs: layerfs.follow=no: new revisions are not followed");
        return Ok(ExitCode::SUCCESS);
    }
    require_mount(&open_root(&args.mountpoint)?, &args.mountpoint)?;
    let (mut seen, mut news) = (Followed::default(), News::default());
    loop {
        // A server that does not answer may do so the next time.
        match look(args, mode, hours, &mut seen) {
            Ok(()) => seen.fails = false,
            Err(error) => {
                if !std::mem::replace(&mut seen.fails, true) {
                    eprintln!("layerfs: {error:#}");
                }
            }
        }
        let time = apart(args.every, since_start_ms());
        news.wait(&args.mountpoint, seen.newest.as_deref(), time);
    }
}

/// The mode and the hours on the kernel's command line; the last parameter counts.
fn of_kernel(line: &str) -> anyhow::Result<(FollowMode, Option<Hours>)> {
    let mut words = line.split_whitespace().rev();
    let Some(value) = words.find_map(|word| word.strip_prefix(PARAMETER)) else {
        return Ok((FollowMode::No, None));
    };
    let (mode, hours) = match value.split_once(',') {
        Some((mode, hours)) => (mode, Some(hours)),
        None => (value, None),
    };
    let mode = match mode {
        "no" => FollowMode::No,
        "notify" => FollowMode::Notify,
        "auto" => FollowMode::Auto,
        _ => bail!("{PARAMETER}{value}: give no, notify, auto or auto,HH:MM-HH:MM"),
    };
    let hours = hours.map(str::parse).transpose();
    let hours = hours.map_err(|error| anyhow::anyhow!("{PARAMETER}{value}: {error}"))?;
    Ok((mode, hours))
}

fn look(
    args: &FollowArgs,
    mode: FollowMode,
    hours: Option<Hours>,
    seen: &mut Followed,
) -> anyhow::Result<()> {
    let (newest, is_other) = newest_name(&args.mountpoint)?;
    seen.newest.clone_from(&newest);
    let Some(name) = newest.filter(|_| is_other) else {
        seen.announced = None;
        forget_announced(&args.mountpoint);
        return Ok(());
    };
    let is_new = seen.announced.as_ref() != Some(&name);
    let is_time = hours.is_none_or(|hours| hours.contain(minute_of_day()));
    if mode != FollowMode::Auto || !is_time || seen.refused.as_ref() == Some(&name) {
        if is_new {
            announce(&args.mountpoint, &describe(&args.mountpoint)?)?;
            seen.announced = Some(name);
        }
        return Ok(());
    }
    // Until there is another revision, unless the server failed.
    seen.refused = Some(name.clone());
    let outcome = switch::switch(&SwitchArgs {
        revision: name.clone(),
        mount: args.mountpoint.clone(),
        dry_run: false,
        force: false,
        restart_units: args.restart_units,
        hooks: args.hooks.clone(),
        json: false,
    })?;
    match outcome.report.outcome {
        SwitchOutcome::Failed => {
            seen.refused = None;
            bail!(failure(&outcome.report));
        }
        SwitchOutcome::Refused => {
            if is_new {
                announce(&args.mountpoint, &outcome)?;
                seen.announced = Some(name);
            }
            print!("{}", text::conflicts(&outcome.report));
        }
        _ => {
            print!("{}", outcome.human());
            seen.announced = None;
            forget_announced(&args.mountpoint);
        }
    }
    Ok(())
}

/// The newest revision, and true if another is mounted.
fn newest_name(mount: &Path) -> anyhow::Result<(Option<String>, bool)> {
    let request = SwitchRequest {
        only_name: true,
        ..SwitchRequest::default()
    };
    let report = switch::ask(&open_root(mount)?, mount, &request)?;
    match report.outcome {
        SwitchOutcome::Found => Ok((report.to, true)),
        SwitchOutcome::Failed => bail!(failure(&report)),
        _ => Ok((report.to, false)),
    }
}

fn failure(report: &SwitchReport) -> String {
    let error = report.error.as_deref().unwrap_or("no answer");
    format!("{error}; the mount keeps {}", report.from)
}

/// What a switch of `mount` to the newest revision means, in one line.
///
/// # Errors
/// No server answers, or no system of a server is mounted there.
pub(super) fn newest(mount: &Path) -> anyhow::Result<String> {
    let outcome = describe(mount)?;
    Ok(match outcome.report.outcome {
        SwitchOutcome::Same => format!("the newest revision is mounted: {}", outcome.report.from),
        _ => text::offer(&outcome.report, &outcome.programs),
    })
}

fn describe(mount: &Path) -> anyhow::Result<switch::SwitchEffect> {
    let outcome = switch::switch(&SwitchArgs {
        revision: String::new(),
        mount: mount.to_owned(),
        dry_run: true,
        force: false,
        restart_units: false,
        hooks: None,
        json: false,
    })?;
    match outcome.report.outcome {
        SwitchOutcome::Failed => bail!(failure(&outcome.report)),
        _ => Ok(outcome),
    }
}

/// Says in the journal, and in a file for other programs, that there is a new revision.
fn announce(mount: &Path, outcome: &switch::SwitchEffect) -> anyhow::Result<()> {
    println!("{}", text::offer(&outcome.report, &outcome.programs));
    if mount == Path::new("/") {
        let report = serde_json::to_vec_pretty(&outcome.report)?;
        if let Err(error) = std::fs::write(NEW_REVISION, report) {
            eprintln!("layerfs: {NEW_REVISION}: {error}");
        }
    }
    Ok(())
}

fn forget_announced(mount: &Path) {
    if mount == Path::new("/") {
        let _ = std::fs::remove_file(NEW_REVISION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_parameter_counts() {
        let mode = |line: &str| of_kernel(line).map(|(mode, hours)| (mode, hours.is_some()));
        assert_eq!(mode("ro quiet").unwrap(), (FollowMode::No, false));
        let line = "layerfs.follow=no ro layerfs.follow=auto,22:00-05:00";
        assert_eq!(mode(line).unwrap(), (FollowMode::Auto, true));
        assert_eq!(
            mode("layerfs.follow=notify\n").unwrap(),
            (FollowMode::Notify, false)
        );
        for wrong in [
            "layerfs.follow=yes",
            "layerfs.follow=auto,25:00-1:00",
            "layerfs.follow=",
        ] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
