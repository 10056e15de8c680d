//! The command `bakery log`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use fleet::store::{Database, Filter};
use fleet::writer::now;
use serde::Serialize;
use wire::manifest::{ProfileName, PushKey, RevisionName};

use crate::boots::{BootTimes, Boots};
use crate::globals::Globals;
use crate::history::{History, Revision, Touched};
use crate::human;
use crate::output;
use crate::publish::{action_text, pushed_with};
use crate::store::Key as StoreKey;

/// List the revisions of a history, newest first
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// The history to show
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    name: ProfileName,
    /// Only revisions that changed this path, or a path below it
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Only revisions whose author or push key contains TEXT, ignoring case
    #[arg(long, value_name = "TEXT")]
    author: Option<String>,
    /// Maximum number of revisions
    #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
    count: usize,
    /// The spool in which `bakery serve --spool` stores boot reports: adds the median boot time, and
    /// the number of machines that show each revision, if there is a fleet
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL")]
    spool: Option<PathBuf>,
}

/// One line of the log.
#[derive(Debug, Serialize)]
pub(crate) struct LoggedRevision {
    revision: u64,
    time: u64,
    action: String,
    author: String,
    /// The key that pushed it, as the server authenticated it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<LoggedKey>,
    message: String,
    layer_count: usize,
    tree_digest: String,
    tags: Vec<String>,
    swept: bool,
    /// Boot times, if any boot was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    boots: Option<BootTimes>,
    /// Machines whose last hello was of this revision, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    machines: Option<usize>,
    /// Length of the update pack from the revision before, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    update_bytes: Option<u64>,
}

/// An SSH key that pushed.
#[derive(Debug, Serialize)]
struct LoggedKey {
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    comment: String,
}

impl From<PushKey> for LoggedKey {
    fn from(key: PushKey) -> Self {
        Self {
            fingerprint: key.fingerprint,
            comment: key.comment,
        }
    }
}

impl LoggedRevision {
    pub(crate) fn of(revision: &Revision, tags: Vec<String>, swept: bool) -> LoggedRevision {
        let manifest = &revision.manifest;
        LoggedRevision {
            revision: revision.number(),
            time: manifest.time,
            action: action_text(manifest.action),
            author: manifest.author.clone(),
            key: pushed_with(manifest).map(LoggedKey::from),
            message: manifest.message.clone(),
            layer_count: manifest.layers.len(),
            tree_digest: manifest.tree_digest.to_string(),
            tags,
            swept,
            boots: None,
            machines: None,
            update_bytes: None,
        }
    }
}

/// Follows the chain from the head and prints it.
///
/// # Errors
/// The history does not exist, or a link of it is broken.
pub(crate) fn run(args: LogArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let tags = history.tags(&args.name)?;
    let spool = globals.spool(args.spool.clone());
    let boots = spool.as_deref().map(|spool| Boots::of(spool, &args.name));
    let machines = match &spool {
        Some(spool) => machines(spool, &args.name).unwrap_or_else(|error| {
            tracing::warn!(%error, "the database of the fleet cannot be read");
            BTreeMap::new()
        }),
        None => BTreeMap::new(),
    };
    let mut lines = Vec::new();
    for revision in wanted(&history, &args, globals)? {
        let here = tags.iter().filter(|tag| tag.revision == revision.number());
        let here = here.map(|tag| tag.name.clone()).collect();
        let swept = history.is_swept(&revision.name())?;
        let mut line = LoggedRevision::of(&revision, here, swept);
        if let Some(boots) = &boots {
            let times = boots.times(revision.number());
            line.boots = times.context("cannot read the boot reports in the spool")?;
        }
        line.machines = machines.get(&revision.number()).copied();
        let pack = revision.number().checked_sub(1);
        let pack = pack.map(|from| StoreKey::update(&args.name, revision.number(), from));
        line.update_bytes = pack.map_or(Ok(None), |pack| history.store().len(&pack))?;
        lines.push(line);
    }
    output::emit(globals, &lines, |out| {
        for line in &lines {
            let subject = line.message.lines().next().unwrap_or_default();
            let time = human::time(line.time);
            write!(
                out,
                "{:>5}  {time}  {:<11}  {}",
                line.revision, line.action, line.author
            )?;
            if let Some(key) = &line.key {
                write!(out, " (key {})", key.comment)?;
            }
            write!(out, "  {subject}")?;
            if !line.tags.is_empty() {
                write!(out, "  [{}]", line.tags.join(", "))?;
            }
            if let Some(boots) = &line.boots {
                write!(out, "  boots in {boots}")?;
            }
            if let Some(count) = line.machines {
                write!(out, "  machines {count}")?;
            }
            if let Some(bytes) = line.update_bytes {
                write!(out, "  update {}", human::length(bytes))?;
            }
            writeln!(out, "{}", if line.swept { "  (swept)" } else { "" })?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The number of machines of the fleet that show each revision, by their last hello: a boot, or a
/// switch.
fn machines(spool: &Path, name: &ProfileName) -> fleet::store::Result<BTreeMap<u64, usize>> {
    let store = match Database::open(spool) {
        Err(fleet::store::StoreError::Absent(_)) => return Ok(BTreeMap::new()),
        opened => opened?,
    };
    let filter = Filter {
        revision: Some(name.full()),
        ..Filter::default()
    };
    let mut counts = BTreeMap::new();
    for machine in store.machines(&filter, now())? {
        let shown = machine.revision().parse::<RevisionName>();
        if let Some(number) = shown.ok().and_then(|shown| shown.revision) {
            *counts.entry(number).or_default() += 1;
        }
    }
    Ok(counts)
}

/// True if the author, or the key that pushed, contains this text.
fn is_by(revision: &Revision, text: &str) -> bool {
    let manifest = &revision.manifest;
    let key = pushed_with(manifest).map(|key| key.line());
    let names = [Some(manifest.author.clone()), key];
    let mut names = names.into_iter().flatten();
    names.any(|name| name.to_lowercase().contains(text))
}

/// The revisions to list, newest first.
fn wanted(history: &History, args: &LogArgs, globals: &Globals) -> anyhow::Result<Vec<Revision>> {
    if args.path.is_none() && args.author.is_none() {
        return Ok(history.log(&args.name, args.count)?);
    }
    let author = args.author.as_ref().map(|text| text.to_lowercase());
    let all = history.log(&args.name, usize::MAX)?;
    let (mut wanted, mut unknown) = (Vec::new(), 0);
    for (at, revision) in all.iter().enumerate() {
        if wanted.len() == args.count {
            break;
        }
        if author.as_ref().is_some_and(|text| !is_by(revision, text)) {
            continue;
        }
        let touched = match &args.path {
            Some(path) => history.touched(path.as_bytes(), revision, all.get(at + 1))?,
            None => Touched::Yes,
        };
        match touched {
            Touched::Yes => wanted.push(revision.clone()),
            Touched::No => {}
            Touched::Unknown => unknown += 1,
        }
    }
    if unknown > 0 {
        let text = format!("{unknown} revision(s) cannot be compared: `bakery gc` swept them");
        output::note(globals, &text);
    }
    Ok(wanted)
}
