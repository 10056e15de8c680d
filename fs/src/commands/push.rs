//! The command `layerfs push`.

mod choose;
mod messages;
mod preview;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::push::{
    BootNote, Ending, Excludes, Found, PatternList, PushAddress, PushError, PushPlan, Selection,
    Session, Tally, Verb, WalkError, default_excludes, survey_upper, write_upper,
};

/// Send the changes of this machine to the bakery
///
/// Streams the upper directory through ssh and returns with the job's number as soon as the server
/// has stored it safely. The server bakes and publishes it; every machine that boots next gets the
/// result. Logs, caches, files that each boot writes, personal files and the identity of this
/// machine are excluded by default.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    /// Send only these paths of the running system, and everything below them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Destination: USER@HOST:SYSTEM[/PROFILE] [default: the source of this root]
    #[arg(long, value_name = "ADDRESS")]
    to: Option<PushAddress>,
    /// The upper directory [default: the one of this root]
    #[arg(long, value_name = "DIR")]
    upper: Option<PathBuf>,
    /// Reason for the change: a line for the history
    #[arg(short, long, default_value = "")]
    message: String,
    /// Author of the change (default: user@host)
    #[arg(long)]
    author: Option<String>,
    /// Exclude paths that match PATTERN, as in .gitignore (repeatable); a leading ! includes them
    /// again
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    exclude: Vec<String>,
    /// Exclude paths that match the patterns in FILE, one a line (repeatable)
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,
    /// Also send logs, caches, files that each boot writes, and the identity of this machine
    #[arg(long)]
    no_default_excludes: bool,
    /// Send only paths that match PATTERN, as in .gitignore (repeatable)
    #[arg(long, value_name = "PATTERN", conflicts_with = "paths")]
    only: Vec<String>,
    /// Ask for each change before sending it
    #[arg(short, long, conflicts_with = "dry_run")]
    interactive: bool,
    /// Show the changes that the server would accept: added, changed, deleted, or metadata only
    ///
    /// Sends names, attributes and digests of the files, but no contents. Without a server the list
    /// follows the marks in the upper directory.
    #[arg(long)]
    dry_run: bool,
    /// Send likely secrets without asking, as with --quiet or without a terminal
    #[arg(short, long)]
    yes: bool,
    /// Wait until the push is baked and published; exit code 1 if it is not
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

/// One push, with everything that follows from the arguments and the boot.
struct Push<'a> {
    args: &'a PushArgs,
    upper: PathBuf,
    to: Option<PushAddress>,
    base: Option<u64>,
    ssh: Vec<String>,
    author: String,
}

/// Pushes, and prints the job's number.
///
/// # Errors
/// Nothing to push or nowhere to push to; the upper cannot be read; the server refuses.
pub(crate) fn run(args: &PushArgs) -> anyhow::Result<ExitCode> {
    let note = BootNote::read();
    let upper = args
        .upper
        .clone()
        .or(note.upper)
        .context("the upper of this root is unknown: name the directory with --upper")?;
    let source = note.source.as_deref().and_then(PushAddress::from_source);
    let base = source.as_ref().and_then(|(_, revision)| *revision);
    let push = Push {
        args,
        upper,
        to: args.to.clone().or(source.map(|(address, _)| address)),
        base,
        ssh: crate::push::ssh::command(&args.ssh),
        author: args.author.clone().unwrap_or_else(author),
    };
    if args.dry_run {
        return preview::run(&push);
    }
    push.run()
}

impl Push<'_> {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let args = self.args;
        let to = self
            .to
            .as_ref()
            .context("the server of this root is unknown: name it with --to USER@HOST:SYSTEM")?;
        let mut session = self.open(Verb::Push, to)?;
        let mut plan = self.plan(session.excludes())?;
        if args.interactive {
            plan.selection = choose::ask(self, to, &plan)?;
        }
        self.look_first(&plan)?;
        let sent = self.upload(&mut session, &plan)?;
        // The connection broke during the upload: the server's last lines give the reason.
        let (job, tally, sent) = match (sent, session.accepted()) {
            (_, Err(error @ PushError::Refused(_))) => return Err(error.into()),
            (Ok((tally, sent)), Ok(job)) => (job, tally, sent),
            (_, Err(error)) => return Err(error.into()),
            (Err(error), Ok(_)) => return Err(error).context("the upload was interrupted"),
        };
        messages::complain(args, &tally);
        if !args.wait {
            messages::report(args, &job, &tally, sent, None)?;
            return Ok(ExitCode::SUCCESS);
        }
        let bar = bar(args);
        let ending = Session::follow(&self.ssh, to, &job, &mut |step| messages::show(&bar, step));
        bar.finish_and_clear();
        let ending =
            ending.with_context(|| format!("job {job} is queued, but cannot be followed"))?;
        messages::report(args, &job, &tally, sent, Some(&ending))?;
        Ok(ExitCode::from(u8::from(matches!(
            ending,
            Ending::Failed { .. }
        ))))
    }

    fn open(&self, verb: Verb, to: &PushAddress) -> Result<Session, PushError> {
        let (author, message) = (&self.author, &self.args.message);
        Session::open(verb, &self.ssh, to, author, message, self.base)
    }

    /// The patterns of a push: the defaults, the server's own patterns, the user's, then the files that the
    /// values of this machine made.
    fn plan(&self, of_server: &[PatternList]) -> anyhow::Result<PushPlan> {
        let args = self.args;
        let mut own = Vec::new();
        for path in &args.exclude_from {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the patterns in {place}"))?;
            own.push(PatternList { place, text });
        }
        own.push(PatternList {
            place: "--exclude".to_owned(),
            text: args.exclude.join("\n"),
        });
        own.extend(super::values::placed_files(&self.upper));
        let mut all = match args.no_default_excludes {
            true => Vec::new(),
            false => default_excludes(&self.upper, of_server),
        };
        all.extend(own.iter().cloned());
        Ok(PushPlan {
            excludes: excludes(&all)?,
            own_excludes: excludes(&own)?,
            selection: self.selection()?,
            is_listing: false,
        })
    }

    fn selection(&self) -> anyhow::Result<Selection> {
        let args = self.args;
        if !args.only.is_empty() {
            let patterns = PatternList {
                place: "--only".to_owned(),
                text: args.only.join("\n"),
            };
            return Ok(Selection::Fitting(excludes(&[patterns])?));
        }
        if args.paths.is_empty() {
            return Ok(Selection::All);
        }
        let paths = args.paths.iter().map(|path| inside(path));
        Ok(Selection::Paths(paths.collect::<anyhow::Result<_>>()?))
    }

    /// Checks before anything is sent: each named path exists, and likely secrets are confirmed.
    fn look_first(&self, plan: &PushPlan) -> anyhow::Result<()> {
        let mut suspicions = Vec::new();
        let mut missing: BTreeSet<Vec<u8>> = match &plan.selection {
            Selection::Paths(paths) => paths.clone(),
            _ => BTreeSet::new(),
        };
        survey_upper(&self.upper, plan, &mut |found: &Found<'_>| {
            missing.retain(|path| !is_at_or_below(found.path, path));
            if let Some(why) = &found.suspicion {
                suspicions.push(format!("{}: {why}", shown(found.path)));
            }
        })?;
        if let Some(path) = missing.first() {
            bail!(
                "nothing changed at {}: `layerfs push --dry-run` lists the changes",
                shown(path)
            );
        }
        if suspicions.is_empty() {
            return Ok(());
        }
        for line in &suspicions {
            messages::warn(line);
        }
        let may_ask = !(self.args.yes || self.args.quiet || self.args.json);
        let can_ask = may_ask && io::stdin().is_terminal() && io::stderr().is_terminal();
        if can_ask && !choose::agrees("Everybody who boots this system can read these. Send them?")?
        {
            bail!("nothing was sent: exclude them with --exclude");
        }
        Ok(())
    }

    /// Sends the archive. The inner error is the connection's, which the server may explain.
    fn upload(
        &self,
        session: &mut Session,
        plan: &PushPlan,
    ) -> anyhow::Result<io::Result<(Tally, u64)>> {
        let upload = session.upload()?;
        let bar = bar(self.args);
        let (mut entries, mut bytes) = (0_u64, 0_u64);
        let written = write_upper(&self.upper, plan, upload, &mut |found: &Found<'_>| {
            entries += 1;
            bytes += found.len;
            bar.set_message(format!("{entries} entries, {}", HumanBytes(bytes)));
        });
        bar.finish_and_clear();
        match written {
            Ok((tally, upload)) => Ok(upload.finish().map(|sent| (tally, sent))),
            Err(WalkError::Output(error)) => Ok(Err(error)),
            Err(error) => Err(error.into()),
        }
    }
}

fn excludes(lists: &[PatternList]) -> anyhow::Result<Excludes> {
    let lists = lists.iter().map(|list| (&*list.place, &*list.text));
    Ok(Excludes::new(lists, true)?)
}

/// A path of the running system as the upper has it: without `.`, `..` and the leading slash.
fn inside(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::path::Component;
    let absolute = std::path::absolute(path)
        .with_context(|| format!("cannot resolve the path {}", path.display()))?;
    let mut names: Vec<&[u8]> = Vec::new();
    for component in absolute.components() {
        match component {
            Component::Normal(name) => names.push(name.as_bytes()),
            Component::ParentDir => {
                names.pop();
            }
            _ => {}
        }
    }
    Ok(names.join(&b'/'))
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| top.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
}

/// A path of the upper for a person.
fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

fn bar(args: &PushArgs) -> ProgressBar {
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

/// The default author.
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
