//! Output of a push.

use std::io::{self, Write as _};

use indicatif::{HumanBytes, ProgressBar};

use super::PushArgs;
use crate::push::{Ending, JobStep, Progress, Tally};

/// Prints the result of a push, with its end if the caller waited for it.
pub(super) fn report(
    args: &PushArgs,
    job: &str,
    tally: &Tally,
    sent: u64,
    ending: Option<&Ending>,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        let mut value = summary(tally);
        if let Some(value) = value.as_object_mut() {
            value.insert("job".into(), job.into());
            value.insert("sent".into(), sent.into());
            value.insert("ending".into(), serde_json::to_value(ending)?);
        }
        writeln!(out, "{value}")?;
        return Ok(());
    }
    if !args.quiet {
        let _ = writeln!(io::stderr(), "{}, {} sent", words(tally), HumanBytes(sent));
    }
    for warning in ending.iter().flat_map(|ending| warnings(ending)) {
        warn(warning);
    }
    match ending {
        None => writeln!(out, "{job}")?,
        Some(Ending::Published {
            revision, seconds, ..
        }) => {
            writeln!(
                out,
                "{job} published as revision {revision} after {seconds:.1} s"
            )?;
        }
        Some(Ending::Unchanged { revision, .. }) => {
            writeln!(
                out,
                "{job} changes nothing: revision {revision} has all changes"
            )?;
        }
        Some(Ending::Failed { error }) => writeln!(out, "{job} failed: {error}")?,
    }
    Ok(())
}

/// The warnings in the report of a job that ended.
fn warnings(ending: &Ending) -> impl Iterator<Item = &str> {
    let report = match ending {
        Ending::Published { report, .. } | Ending::Unchanged { report, .. } => Some(report),
        Ending::Failed { .. } => None,
    };
    let listed = report.and_then(|report| report.get("warnings")?.as_array());
    let listed = listed.into_iter().flatten();
    listed.filter_map(|warning| warning.as_str())
}

/// Prints findings for the user to inspect, also with `--quiet`.
pub(super) fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "warning: {text}");
}

pub(super) fn summary(tally: &Tally) -> serde_json::Value {
    serde_json::json!({
        "entries": tally.entries,
        "whiteouts": tally.whiteouts,
        "data_len": tally.data_len,
        "excluded": tally.excluded,
        "skipped": tally.skipped,
        "changed": tally.changed,
    })
}

pub(super) fn words(tally: &Tally) -> String {
    format!(
        "{} entries ({} deletions, {} excluded), {}",
        tally.entries,
        tally.whiteouts,
        tally.excluded,
        HumanBytes(tally.data_len)
    )
}

pub(super) fn complain(args: &PushArgs, tally: &Tally) {
    if args.quiet {
        return;
    }
    let mut errors = io::stderr().lock();
    if tally.skipped > 0 {
        let _ = writeln!(
            errors,
            "{} entries were skipped: they disappeared meanwhile, or are sockets or other file systems",
            tally.skipped
        );
    }
    if tally.changed > 0 {
        let _ = writeln!(
            errors,
            "{} files were truncated while they were read: push again to send their last state",
            tally.changed
        );
    }
}

pub(super) fn show(bar: &ProgressBar, step: &JobStep) {
    match &step.progress {
        Some(Progress { stage, done, total }) if *total > 0 => {
            let percent = done.saturating_mul(100) / total;
            bar.set_message(format!("{}: {stage} {percent}%", step.at));
        }
        _ => bar.set_message(step.at.clone()),
    }
}
