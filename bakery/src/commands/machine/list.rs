//! The command `bakery machine list`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use fleet::record::{Machine, State};
use fleet::store::{Database, Filter};
use fleet::writer::now;
use wire::manifest::{ProfileName, RevisionName};

use super::ago;
use crate::globals::Globals;
use crate::human::parse_age;
use crate::output;

/// The filters of the list.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only machines of this group
    #[arg(long)]
    group: Option<String>,
    /// Only machines in this state: booting, stopped (no target after 15 minutes), good, degraded,
    /// off
    #[arg(long, value_parser = state)]
    state: Option<State>,
    /// Only machines whose last hello is older than this: 90m, 12h, 3d
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_than: Option<Duration>,
    /// Only machines whose last boot was of this history or revision
    #[arg(long, value_name = "SYSTEM[/PROFILE][@REV]")]
    revision: Option<RevisionName>,
    /// Only machines whose last boot was not of the newest revision of its history
    #[arg(long)]
    not_newest: bool,
    /// Only machines that returned to their last good revision
    #[arg(long)]
    returned: bool,
    /// Only machines that share a UUID with others, run twice at the same time, or whose hellos were
    /// refused for their proof
    #[arg(long)]
    doubtful: bool,
}

fn state(text: &str) -> Result<State, String> {
    let found = State::ALL.into_iter().find(|state| state.word() == text);
    found.ok_or_else(|| {
        let words: Vec<&str> = State::ALL.iter().map(|state| state.word()).collect();
        format!("a state is one of {}", words.join(", "))
    })
}

pub(super) fn run(args: ListArgs, store: &Database, globals: &Globals) -> anyhow::Result<ExitCode> {
    let filter = Filter {
        group: args.group,
        state: args.state,
        silent_s: args
            .older_than
            .map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX)),
        revision: args.revision.as_ref().map(full),
    };
    let now = now();
    let mut machines = store.machines(&filter, now)?;
    if args.not_newest {
        let mut newest = Newest::default();
        let mut old = Vec::new();
        for machine in machines {
            if newest.is_passed(&machine, globals)? {
                old.push(machine);
            }
        }
        machines = old;
    }
    if args.returned {
        machines.retain(|one| one.returned.is_some());
    }
    if args.doubtful {
        machines.retain(Machine::is_doubtful);
    }
    output::emit(globals, &machines, |out| {
        for machine in &machines {
            writeln!(out, "{}", line(machine, now))?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn full(name: &RevisionName) -> String {
    let revision = name.revision.map(|number| format!("@{number}"));
    format!("{}{}", name.name.full(), revision.unwrap_or_default())
}

/// The newest revisions of the store; each is read once.
#[derive(Default)]
struct Newest(BTreeMap<ProfileName, Option<u64>>);

impl Newest {
    /// True if the store has a newer revision than the last boot of the machine.
    fn is_passed(&mut self, machine: &Machine, globals: &Globals) -> anyhow::Result<bool> {
        let Ok(booted) = machine.revision().parse::<RevisionName>() else {
            return Ok(false);
        };
        let newest = match self.0.get(&booted.name) {
            Some(newest) => *newest,
            None => {
                let ProfileName { system, profile } = &booted.name;
                let newest = crate::serve::newest_revision(globals.store()?, system, profile)?;
                self.0.insert(booted.name, newest);
                newest
            }
        };
        Ok(newest > booted.revision)
    }
}

fn line(machine: &Machine, now: i64) -> String {
    let boot = machine.boot.as_ref();
    let at = match (machine.state, boot) {
        (State::Booting | State::Stopped, Some(boot)) => format!(" at {}", boot.step),
        _ => String::new(),
    };
    let revision = machine.revision();
    let mut text = format!(
        "{:<20} {:<18} {:<24} {:>8} ago  {}",
        machine.label(),
        format!("{}{at}", machine.state.word()),
        if revision.is_empty() { "-" } else { revision },
        ago(machine.last_seen, now),
        machine.address
    );
    if let Some(group) = &machine.group {
        text.push_str(&format!("  group {group}"));
    }
    if let Some(back) = &machine.returned {
        text.push_str(&format!("  RETURNED from {} to {}", back.from, back.to));
    }
    if let Some(first) = &machine.duplicate_of {
        text.push_str(&format!("  DUPLICATE of {first}"));
    }
    if let Some(seen) = machine.clone_seen {
        text.push_str(&format!("  RAN TWICE AT ONCE {} ago", ago(seen, now)));
    }
    if let Some(seen) = machine.forged_seen {
        text.push_str(&format!("  FORGED HELLO {} ago", ago(seen, now)));
    }
    text
}
