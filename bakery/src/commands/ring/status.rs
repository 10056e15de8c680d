//! The command `bakery ring status`: the rings, and the boots of their machines.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use fleet::rollout::{Facts, Promotion, Quarantine, RingHealth};
use fleet::store::{Database, Trial};
use fleet::writer::now;
use serde::Serialize;
use wire::manifest::{ProfileName, RingRecord};

use super::list::policy_words;
use crate::commands::fleet::spool;
use crate::commands::machine::ago;
use crate::globals::Globals;
use crate::history::History;
use crate::output;

/// Age of the oldest boots that count, seconds.
pub(super) const COUNTED_S: u32 = 30 * 24 * 3600;
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
    standing: RingHealth,
}

impl StatusArgs {
    /// The names of the histories with rings.
    pub(super) fn names(&self, history: &History) -> anyhow::Result<Vec<ProfileName>> {
        let names = match self.names.is_empty() {
            true => history.names()?,
            false => self.names.clone(),
        };
        for name in &self.names {
            let newest = history.newest(name)?;
            newest.ok_or_else(|| history.no_history(name))?;
        }
        let mut with_rings = Vec::new();
        for name in names {
            if history.rings(&name)?.is_some() {
                with_rings.push(name);
            }
        }
        Ok(with_rings)
    }

    /// The boots that the fleet's database knows.
    pub(super) fn trials(&self, globals: &Globals) -> anyhow::Result<Vec<Trial>> {
        let spool = spool(globals, self.spool.clone())?;
        let now = now();
        Ok(Database::open(&spool)?.trials(now - i64::from(COUNTED_S), now)?)
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
    let (record, newest) = rings(history, name)?;
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

/// The newest ring record of a history, and its newest revision.
pub(super) fn rings(history: &History, name: &ProfileName) -> anyhow::Result<(RingRecord, u64)> {
    let newest = history.require_head(name)?.number();
    let rings = history.rings(name)?;
    let rings = rings.with_context(|| format!("{name} has no rings (`bakery ring add`)"))?;
    Ok((rings.record, newest))
}

fn write(state: &RingStates, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}  newest revision {}", state.history, state.newest)?;
    for ring in &state.rings {
        let RingHealth {
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
