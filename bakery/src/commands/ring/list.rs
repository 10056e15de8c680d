//! The commands `bakery ring list` and `log`.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use wire::manifest::{ProfileName, RingPolicy, RingRecord};

use crate::globals::Globals;
use crate::human;
use crate::output;

/// The rings of one history.
#[derive(Debug, Serialize)]
pub(super) struct RingsShown {
    history: String,
    newest: u64,
    quarantine_after: u64,
    quarantined: Vec<u64>,
    rings: Vec<ShownRing>,
}

#[derive(Debug, Serialize)]
struct ShownRing {
    name: String,
    revision: u64,
    paused: bool,
    follows_newest: bool,
    policy: Option<RingPolicy>,
}

impl RingsShown {
    /// The rings of a record if `newest` is the newest revision.
    pub(super) fn of(record: &RingRecord, newest: u64) -> RingsShown {
        let rings = record.rings.iter().map(|ring| ShownRing {
            name: ring.name.clone(),
            revision: record.current(ring, newest),
            paused: ring.paused,
            follows_newest: record.follows_newest(ring),
            policy: ring.policy,
        });
        RingsShown {
            history: record.name().to_string(),
            newest,
            quarantine_after: record.quarantine_after,
            quarantined: record.quarantined.clone(),
            rings: rings.collect(),
        }
    }

    /// Prints the rings for people.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}  newest revision {}", self.history, self.newest)?;
        for ring in &self.rings {
            let mut notes = Vec::new();
            if ring.paused {
                notes.push("paused".to_owned());
            }
            if ring.follows_newest {
                notes.push("gets new revisions at once".to_owned());
            }
            if let Some(policy) = &ring.policy {
                notes.push(policy_words(policy));
            }
            let line = format!(
                "  {:<20} {:>6}  {}",
                ring.name,
                ring.revision,
                notes.join("; ")
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        if !self.quarantined.is_empty() {
            let numbers: Vec<String> = self.quarantined.iter().map(u64::to_string).collect();
            writeln!(out, "  quarantined: {}", numbers.join(", "))?;
        }
        match self.quarantine_after {
            0 => writeln!(out, "  no revision is quarantined automatically"),
            count => writeln!(out, "  quarantine after failures on {count} machine(s)"),
        }
    }
}

/// The conditions of a promotion, for people.
pub(super) fn policy_words(policy: &RingPolicy) -> String {
    let mut words = Vec::new();
    if let Some(boots) = policy.boots {
        words.push(format!("{boots} good boots"));
    }
    if let Some(percent) = policy.percent {
        words.push(format!("{percent} % of the machines good"));
    }
    if let Some(slower) = policy.slower {
        words.push(format!("at most {slower} % slower"));
    }
    let within = human::age(policy.within);
    format!("promoted after {} within {within}", words.join(", "))
}

/// Prints the rings of histories.
pub(super) fn run(names: &[ProfileName], globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let asked = !names.is_empty();
    let names = match asked {
        true => names.to_vec(),
        false => history.names()?,
    };
    let mut shown = Vec::new();
    for name in &names {
        let newest = history.require_head(name)?.number();
        match history.rings(name)? {
            Some(rings) => shown.push(RingsShown::of(&rings.record, newest)),
            None if asked => output::note(
                globals,
                &format!("{name} has no rings: every machine boots the newest revision, {newest}"),
            ),
            None => {}
        }
    }
    output::emit(globals, &shown, |out| {
        shown.iter().try_for_each(|history| history.write(out))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the ring records of a history, newest first.
pub(super) fn log(name: &ProfileName, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    history.require_head(name)?;
    let records = history.ring_log(name)?;
    output::emit(globals, &records, |out| {
        for record in &records {
            let rings = record.rings.iter();
            let rings: Vec<String> = rings
                .map(|ring| format!("{} {}", ring.name, ring.revision))
                .collect();
            writeln!(
                out,
                "{:>4}  {}  {:<10} {}  by {}  [{}]",
                record.number,
                human::time(record.issued_at),
                record.action.word(),
                record.message,
                record.author,
                rings.join(", ")
            )?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
