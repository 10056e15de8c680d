//! The commands `bakery ring status` and `advance`: what the boots say about the rings.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use fleet::rollout::{Facts, Promotion, Quarantine, Standing};
use fleet::store::{Database, Trial};
use fleet::writer::now;
use serde::Serialize;
use wire::manifest::{ProfileName, RevisionName, RingAction, RingRecord};

use super::list::policy_words;
use crate::commands::fleet::spool;
use crate::commands::machine::ago;
use crate::globals::Globals;
use crate::history::History;
use crate::notice::{Notice, Notices};
use crate::output;
use crate::publish::{Publisher, RingReason};
use crate::ring;

/// Boots older than this tell nothing about the rings, seconds: the longest time of a policy that is
/// looked at.
const SINCE_S: i64 = 30 * 24 * 3600;
/// Author of automatic records.
const AUTHOR: &str = "bakery ring advance";
/// Most records that one run creates for a history.
const RECORDS_MAX: usize = 16;

/// The histories and the fleet's database.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// The histories [default: all that have rings]
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    names: Vec<ProfileName>,
    /// The spool with the state of the fleet
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL")]
    spool: Option<PathBuf>,
}

/// Options of the automatic changes.
#[derive(Debug, clap::Args)]
pub(super) struct AdvanceArgs {
    #[command(flatten)]
    of: StatusArgs,
    /// Change nothing; print the changes
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    notices: Notices,
}

/// The state of the rings of one history.
#[derive(Debug, Serialize)]
struct RingStates {
    history: String,
    newest: u64,
    record: u64,
    quarantined: Vec<u64>,
    rings: Vec<RingState>,
    failing: Vec<Quarantine>,
    waiting: Vec<Promotion>,
    log: Vec<RingRecord>,
}

#[derive(Debug, Serialize)]
struct RingState {
    name: String,
    revision: u64,
    paused: bool,
    follows_newest: bool,
    conditions: Option<String>,
    #[serde(flatten)]
    standing: Standing,
}

/// One automatic change.
#[derive(Debug, Serialize)]
struct Advance {
    history: String,
    action: &'static str,
    revision: u64,
    /// The ring that is promoted, or the revision to which rings return.
    to: String,
    reason: String,
    /// The number of the record; absent if it was only proposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<u64>,
}

impl StatusArgs {
    /// The names of the histories with rings.
    fn names(&self, history: &History) -> anyhow::Result<Vec<ProfileName>> {
        let names = match self.names.is_empty() {
            true => history.names()?,
            false => self.names.clone(),
        };
        let mut with_rings = Vec::new();
        for name in names {
            if history.rings(&name)?.is_some() {
                with_rings.push(name);
            }
        }
        Ok(with_rings)
    }

    fn trials(&self, globals: &Globals) -> anyhow::Result<Vec<Trial>> {
        let spool = spool(globals, self.spool.clone())?;
        let now = now();
        Ok(Database::open(&spool)?.trials(now - SINCE_S, now)?)
    }
}

/// Prints the state of rings.
pub(super) fn run(args: &StatusArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let trials = match args.trials(globals) {
        Ok(trials) => trials,
        Err(error) => {
            output::note(globals, &format!("without machines: {error}"));
            Vec::new()
        }
    };
    let mut states = Vec::new();
    for name in args.names(&history)? {
        states.push(state(&history, &name, &trials)?);
    }
    output::emit(globals, &states, |out| {
        states.iter().try_for_each(|state| write(state, out))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn state(history: &History, name: &ProfileName, trials: &[Trial]) -> anyhow::Result<RingStates> {
    let newest = history.require_head(name)?.number();
    let record = record(history, name)?;
    let facts = Facts {
        record: &record,
        newest,
        trials,
        now: now(),
    };
    let rings = record
        .rings
        .iter()
        .enumerate()
        .map(|(place, ring)| RingState {
            name: ring.name.clone(),
            revision: facts.current(ring),
            paused: ring.paused,
            follows_newest: record.follows_newest(ring),
            conditions: ring.policy.as_ref().map(policy_words),
            standing: facts.standing(place),
        });
    let mut log = history.ring_log(name)?;
    log.truncate(10);
    Ok(RingStates {
        history: name.to_string(),
        newest,
        record: record.number,
        quarantined: record.quarantined.clone(),
        rings: rings.collect(),
        failing: facts.quarantines(),
        waiting: facts.promotions(),
        log,
    })
}

fn record(history: &History, name: &ProfileName) -> anyhow::Result<RingRecord> {
    let rings = history.rings(name)?;
    let rings = rings.with_context(|| format!("{name} has no rings (`bakery ring add`)"))?;
    Ok(rings.record)
}

fn write(state: &RingStates, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}  newest revision {}", state.history, state.newest)?;
    for ring in &state.rings {
        let Standing {
            machines,
            good,
            failing,
            boots,
            median_ms,
        } = &ring.standing;
        let mut line = format!(
            "  {:<16} revision {:<5} {good} of {machines} machines good, {failing} failing, {boots} good boots",
            ring.name, ring.revision
        );
        if let Some(ms) = median_ms {
            line.push_str(&format!(", median {}.{} s", ms / 1000, ms % 1000 / 100));
        }
        if ring.paused {
            line.push_str("; paused");
        }
        if ring.follows_newest {
            line.push_str("; gets new revisions at once");
        }
        if let Some(conditions) = &ring.conditions {
            line.push_str(&format!("; {conditions}"));
        }
        writeln!(out, "{line}")?;
    }
    for failing in &state.failing {
        let held = failing.held.as_deref();
        let verdict = match (held, failing.good) {
            (Some(held), _) => format!("not quarantined: {held}"),
            (None, good) => format!("to quarantine; the rings return to {}", good.unwrap_or(0)),
        };
        writeln!(
            out,
            "  {} fails: {}; {verdict}",
            failing.revision, failing.reason
        )?;
    }
    for waiting in &state.waiting {
        let verdict = match waiting.unmet.is_empty() {
            true => "ready".to_owned(),
            false => format!("waits: {}", waiting.unmet.join("; ")),
        };
        let (revision, ring) = (waiting.revision, &waiting.ring);
        writeln!(
            out,
            "  {revision} into {ring}: {}; {verdict}",
            waiting.reason
        )?;
    }
    write_log(state, out)
}

/// Prints the quarantined revisions and the last records.
fn write_log(state: &RingStates, out: &mut dyn Write) -> io::Result<()> {
    if !state.quarantined.is_empty() {
        let numbers: Vec<String> = state.quarantined.iter().map(u64::to_string).collect();
        writeln!(out, "  quarantined: {}", numbers.join(", "))?;
    }
    let now = now();
    for record in &state.log {
        let issued = i64::try_from(record.issued_at).unwrap_or(0);
        let (age, action) = (ago(issued, now), record.action.word());
        let RingRecord {
            number,
            message,
            author,
            ..
        } = record;
        writeln!(
            out,
            "  {number:>4}  {age} ago  {action} {message}  by {author}"
        )?;
    }
    Ok(())
}

/// Makes the changes that the boots call for.
pub(super) fn advance(args: &AdvanceArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let trials = args.of.trials(globals)?;
    // Without a key this only proposes.
    let publisher = match args.dry_run {
        true => None,
        false => match globals.publisher() {
            Ok(publisher) => Some(publisher),
            Err(error) => {
                output::note(
                    globals,
                    &format!("only proposals, nothing is changed: {error:#}"),
                );
                None
            }
        },
    };
    let mut advances = Vec::new();
    let mut failed = Vec::new();
    for name in args.of.names(&history)? {
        let reader = publisher.as_ref().map_or(&history, Publisher::history);
        if let Some(publisher) = &publisher
            && let Err(error) = publisher.renew_rings_in_time(&name, AUTHOR)
        {
            failed.push(format!("{name}: {error}"));
        }
        let done = steps(reader, publisher.as_ref(), &name, &trials, &mut advances);
        if let Err(error) = done {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    for advance in advances.iter().filter(|advance| advance.record.is_some()) {
        args.notices.send(&notice(&history, advance));
    }
    output::emit(globals, &advances, |out| {
        advances
            .iter()
            .try_for_each(|one| writeln!(out, "{}", words(one)))
    })?;
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(ExitCode::SUCCESS)
}

/// Every change of one history: quarantines first.
fn steps(
    history: &History,
    publisher: Option<&Publisher>,
    name: &ProfileName,
    trials: &[Trial],
    advances: &mut Vec<Advance>,
) -> anyhow::Result<()> {
    for _ in 0..RECORDS_MAX {
        let newest = history.require_head(name)?.number();
        let record = record(history, name)?;
        let facts = Facts {
            record: &record,
            newest,
            trials,
            now: now(),
        };
        let quarantines = facts.quarantines().into_iter();
        let quarantine = quarantines
            .filter(|one| one.held.is_none())
            .find_map(quarantine);
        let promotions = facts.promotions().into_iter();
        let promotion = promotions
            .filter(|one| one.unmet.is_empty())
            .map(promotion)
            .next();
        let Some((action, advance)) = quarantine.or(promotion) else {
            return Ok(());
        };
        let mut advance = Advance {
            history: name.to_string(),
            ..advance
        };
        let Some(publisher) = publisher else {
            // The next one depends on this one.
            advances.push(advance);
            return Ok(());
        };
        let (revision, to, reason) = (advance.revision, advance.to.clone(), advance.reason.clone());
        let text = match action {
            RingAction::Quarantine => format!("{revision}: {reason}; back to {to}"),
            _ => format!("{to} {revision}: {reason}"),
        };
        let reason = RingReason::new(action, AUTHOR, &text);
        let changed = publisher.change_rings(name, &reason, |record, newest| match action {
            RingAction::Quarantine => {
                let good = to.parse().unwrap_or(0);
                ring::quarantine(record, revision, good, newest)
            }
            _ => ring::promote(record, &to, Some(revision), newest).map(drop),
        })?;
        advance.record = Some(changed.number);
        match action {
            RingAction::Quarantine => tracing::error!("{}", words(&advance)),
            _ => tracing::warn!("{}", words(&advance)),
        }
        advances.push(advance);
    }
    Ok(())
}

fn quarantine(found: Quarantine) -> Option<(RingAction, Advance)> {
    let advance = Advance {
        history: String::new(),
        action: "quarantined",
        revision: found.revision,
        to: found.good?.to_string(),
        reason: found.reason,
        record: None,
    };
    Some((RingAction::Quarantine, advance))
}

fn promotion(found: Promotion) -> (RingAction, Advance) {
    let advance = Advance {
        history: String::new(),
        action: "promoted",
        revision: found.revision,
        to: found.ring,
        reason: found.reason,
        record: None,
    };
    (RingAction::Promote, advance)
}

fn words(advance: &Advance) -> String {
    let Advance {
        history,
        action,
        revision,
        to,
        reason,
        record,
    } = advance;
    let would = if record.is_none() { "would be " } else { "" };
    let to = match *action {
        "promoted" => format!("into the ring {to}"),
        _ => format!("the rings that had it return to {to}"),
    };
    match *action {
        "promoted" => format!("{history}@{revision} {would}{action} {to}: {reason}"),
        _ => format!("{history}@{revision} {would}{action}: {reason}; {to}"),
    }
}

fn notice(history: &History, advance: &Advance) -> Notice {
    let author = advance
        .history
        .parse::<ProfileName>()
        .ok()
        .and_then(|name| {
            let revision = Some(advance.revision);
            history.walk_to(&RevisionName { name, revision }).ok()
        });
    let author = author.map(|revision| revision.manifest.author);
    let author = author.unwrap_or_default();
    let (revision, words) = (advance.revision.to_string(), words(advance));
    let mut arguments = vec![advance.action.to_owned(), advance.history.clone(), revision];
    arguments.push(advance.to.clone());
    let is_quarantine = advance.action == "quarantined";
    if is_quarantine {
        arguments.push(author.clone());
    }
    arguments.push(advance.reason.clone());
    let subject = format!(
        "{}@{} was {}",
        advance.history, advance.revision, advance.action
    );
    Notice {
        arguments,
        mail: is_quarantine.then_some(crate::notice::Mail {
            author,
            subject,
            text: words,
        }),
    }
}
