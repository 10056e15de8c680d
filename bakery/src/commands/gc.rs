//! `bakery gc`

use std::process::ExitCode;
use std::time::Duration;

use layerfmt::manifest::RevisionName;

use crate::cli::{ANSWER_NO, Globals};
use crate::output;
use crate::sweep::{Policy, sweep};

/// Delete what no retained revision reaches
///
/// Retained are the newest revisions of every history, tagged ones, and what profiles stand on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many revisions of every history are retained
    #[arg(long, default_value_t = Policy::default().keep_last, value_name = "COUNT")]
    keep_last: usize,
    /// Retain this revision too
    #[arg(long, value_name = "SYSTEM[/PROFILE]@REV")]
    keep: Vec<RevisionName>,
    /// Objects younger than this stay: 90m, 24h, 7d
    #[arg(long, default_value = "24h", value_name = "AGE", value_parser = age)]
    grace: Duration,
    /// Only say what would be deleted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Sweeps. Exit code 1: somebody publishes or sweeps, nothing was done.
///
/// # Errors
/// A history cannot be read; nothing is deleted then.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let policy = Policy {
        keep_last: args.keep_last,
        keep: args.keep,
        grace: args.grace,
        dry_run: args.dry_run,
    };
    let swept = sweep(&globals.history()?, &policy)?;
    output::emit(globals, &swept, |out| {
        for object in &swept.objects {
            writeln!(out, "{object}")?;
        }
        let (count, bytes) = (swept.objects.len(), output::length(swept.bytes));
        let verb = if policy.dry_run {
            "would delete"
        } else {
            "deleted"
        };
        writeln!(
            out,
            "{verb} {count} objects, {bytes}; {} wait for their grace time, {} revisions kept, {} swept",
            swept.objects_waiting,
            swept.revisions_kept,
            swept.revisions_swept.len()
        )
    })?;
    if swept.busy {
        output::note(
            globals,
            "somebody publishes or sweeps; nothing was done, try again",
        );
        return Ok(ExitCode::from(ANSWER_NO));
    }
    Ok(ExitCode::SUCCESS)
}

fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not an age: a number with s, m, h or d, as in 24h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        '0'..='9' => return text.parse().map(Duration::from_secs).map_err(|_| wrong()),
        _ => return Err(wrong()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    number
        .checked_mul(factor)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read() {
        assert_eq!(age("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(age("0"), Ok(Duration::ZERO));
        assert_eq!(age("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "h", "1w", "-1h", "99999999999999999999d"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
