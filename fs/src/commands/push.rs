//! `layerfs push`.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::push::{
    Address, BootNote, Ending, Found, Pattern, Progress, PushError, Session, Step, Tally,
    WalkError, survey_upper, write_upper,
};

/// Send what was changed on this machine to the bakery
///
/// Streams the upper directory through ssh and returns with the job's number as soon as the
/// server has it safely. Baking and publishing happen there; every machine that boots next
/// sees the result.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to: USER@HOST:SYSTEM[/PROFILE] [default: where this root came from]
    #[arg(long, value_name = "ADDRESS")]
    to: Option<Address>,
    /// The upper directory [default: the one of this root]
    #[arg(long, value_name = "DIR")]
    upper: Option<PathBuf>,
    /// Why: a line for the history
    #[arg(short, long, default_value = "")]
    message: String,
    /// Who (default: user@host)
    #[arg(long)]
    author: Option<String>,
    /// Leave out what matches: a name, or a path from the root such as /var/cache/**
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Show what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until it is baked and published; exit code 1 if it is not
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// The ssh to use, with its options; plain ssh also uses /etc/layerfs/push_key and known_hosts
    #[arg(
        long,
        value_name = "COMMAND",
        env = "LAYERFS_SSH",
        default_value = "ssh"
    )]
    ssh: String,
    /// Print results as JSON
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Pushes, and prints the job's number.
///
/// # Errors
/// Nothing to push or nowhere to push to; the upper cannot be read; the server refuses.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let note = BootNote::read();
    let upper = args
        .upper
        .clone()
        .or(note.upper)
        .context("this root has no upper we know of: name the directory with --upper")?;
    let excludes: Vec<Pattern> = args.exclude.iter().map(|text| Pattern::new(text)).collect();
    if args.dry_run {
        return dry_run(args, &upper, &excludes);
    }
    let source = note.source.as_deref().and_then(Address::from_source);
    let base = source.as_ref().and_then(|(_, revision)| *revision);
    let to = args
        .to
        .clone()
        .or(source.map(|(address, _)| address))
        .context(
            "this root does not say where it came from: name the server with --to USER@HOST:SYSTEM",
        )?;
    let ssh = crate::push::ssh::command(&args.ssh);
    let author = args.author.clone().unwrap_or_else(author);
    let (job, tally, sent) = push(args, &upper, &excludes, &ssh, &to, &author, base)?;
    complain(args, &tally);
    if !args.wait {
        report(args, &job, &tally, sent, None)?;
        return Ok(ExitCode::SUCCESS);
    }
    let bar = bar(args);
    let ending = Session::follow(&ssh, &to, &job, &mut |step| show(&bar, step));
    bar.finish_and_clear();
    let ending = ending.with_context(|| format!("job {job} is queued, but cannot be followed"))?;
    report(args, &job, &tally, sent, Some(&ending))?;
    Ok(ExitCode::from(u8::from(matches!(
        ending,
        Ending::Failed { .. }
    ))))
}

fn push(
    args: &Args,
    upper: &Path,
    excludes: &[Pattern],
    ssh: &[String],
    to: &Address,
    author: &str,
    base: Option<u64>,
) -> anyhow::Result<(String, Tally, u64)> {
    let mut session = Session::push(ssh, to, author, &args.message, base)?;
    let upload = session.upload()?;
    let bar = bar(args);
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    let written = write_upper(upper, excludes, upload, &mut |found: &Found<'_>| {
        entries += 1;
        bytes += found.len;
        bar.set_message(format!("{entries} entries, {}", HumanBytes(bytes)));
    });
    bar.finish_and_clear();
    let sent = match written {
        Ok((tally, upload)) => upload.finish().map(|sent| (tally, sent)),
        Err(WalkError::Output(error)) => Err(error),
        Err(error) => return Err(error.into()),
    };
    // A connection that broke while we sent: the server's last words say why.
    match (sent, session.accepted()) {
        (_, Err(error @ PushError::Refused(_))) => Err(error.into()),
        (Ok((tally, sent)), Ok(job)) => Ok((job, tally, sent)),
        (_, Err(error)) => Err(error.into()),
        (Err(error), Ok(_)) => Err(error).context("the upload broke off"),
    }
}

fn dry_run(args: &Args, upper: &Path, excludes: &[Pattern]) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut broken = None;
    let tally = survey_upper(upper, excludes, &mut |found| {
        if args.json || broken.is_some() {
            return;
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(found.path));
        let line = match found.left_out {
            Some(why) => writeln!(out, "{:>12}  /{} ({why})", "-", path.display()),
            None => writeln!(out, "{:>12}  /{}", found.len, path.display()),
        };
        broken = line.err();
    })?;
    let text = serde_json::to_string(&summary(&tally))?;
    let last = if args.json {
        text
    } else {
        format!("{} (before compression)", words(&tally))
    };
    match broken.map_or_else(|| writeln!(out, "{last}").and_then(|()| out.flush()), Err) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => bail!("cannot write: {error}"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn report(
    args: &Args,
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
                "{job} changes nothing: revision {revision} has all of it"
            )?;
        }
        Some(Ending::Failed { error }) => writeln!(out, "{job} failed: {error}")?,
    }
    Ok(())
}

fn summary(tally: &Tally) -> serde_json::Value {
    serde_json::json!({
        "entries": tally.entries,
        "whiteouts": tally.whiteouts,
        "data_len": tally.data_len,
        "excluded": tally.excluded,
        "skipped": tally.skipped,
        "changed": tally.changed,
    })
}

fn words(tally: &Tally) -> String {
    format!(
        "{} entries ({} deletions, {} excluded), {}",
        tally.entries,
        tally.whiteouts,
        tally.excluded,
        HumanBytes(tally.data_len)
    )
}

fn complain(args: &Args, tally: &Tally) {
    if args.quiet {
        return;
    }
    let mut errors = io::stderr().lock();
    if tally.skipped > 0 {
        let _ = writeln!(
            errors,
            "{} entries were left out: vanished meanwhile, sockets, or other file systems",
            tally.skipped
        );
    }
    if tally.changed > 0 {
        let _ = writeln!(
            errors,
            "{} files became shorter while they were read: push again for their last state",
            tally.changed
        );
    }
}

fn show(bar: &ProgressBar, step: &Step) {
    match &step.progress {
        Some(Progress { stage, done, total }) if *total > 0 => {
            let percent = done.saturating_mul(100) / total;
            bar.set_message(format!("{}: {stage} {percent}%", step.at));
        }
        _ => bar.set_message(step.at.clone()),
    }
}

fn bar(args: &Args) -> ProgressBar {
    if args.quiet || args.json || !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Who pushes, when nobody says.
fn author() -> String {
    let user = std::env::var("SUDO_USER")
        .or_else(|_| std::env::var("USER"))
        .unwrap_or_else(|_| "root".into());
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!("{user}@{host}")
}
