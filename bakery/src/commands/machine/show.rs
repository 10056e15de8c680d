//! The command `bakery machine show`.

use std::io::{self, Write};
use std::process::ExitCode;

use fleet::ending::{Ending, LOOP_LEN};
use fleet::record::{Assignment, Machine};
use fleet::store::{Database, Outcome};
use fleet::writer::now;
use serde::Serialize;
use wire::hello::Step;

use super::ago;
use crate::globals::Globals;
use crate::{human, output};

/// A machine with its boots.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    machine: Machine,
    /// The machine's assignment over that of its group.
    effective: Assignment,
    boots: Vec<Outcome>,
}

pub(super) fn run(wanted: &str, store: &Database, globals: &Globals) -> anyhow::Result<ExitCode> {
    let now = now();
    let machine = store.machine(wanted, now)?;
    let boots = store.outcomes(&machine.id, now)?;
    let effective = store.assignment(&machine.id)?;
    let shown = Shown {
        machine,
        effective,
        boots,
    };
    output::emit(globals, &shown, |out| human(&shown, now, out))?;
    Ok(ExitCode::SUCCESS)
}

fn human(shown: &Shown, now: i64, out: &mut dyn Write) -> io::Result<()> {
    let Shown { machine, boots, .. } = shown;
    writeln!(out, "{}", machine.label())?;
    let uuid = machine.uuid.clone().unwrap_or_default();
    let group = machine.group.clone().unwrap_or_default();
    let macs = machine.macs.join(" ");
    let heard = format!(
        "{} ago from {}",
        ago(machine.last_seen, now),
        machine.address
    );
    let rows = [
        ("id", machine.id.as_str()),
        ("uuid", &uuid),
        ("cards", &macs),
        ("asset tag", &machine.asset),
        ("group", &group),
        ("note", &machine.note),
        ("state", machine.state.word()),
        ("heard", &heard),
    ];
    for (what, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "  {what:<10} {value}")?;
    }
    remarks(machine, now, out)?;
    if !shown.effective.is_empty() {
        writeln!(
            out,
            "  assigned   {}",
            super::assign::words(&shown.effective)
        )?;
    }
    if let Some(hello) = machine.boot.as_ref().and_then(|boot| boot.hello.as_ref()) {
        running(hello, out)?;
    }
    let ended = boots.iter().skip_while(|one| one.ending == Ending::Booting);
    let restarts = ended.take_while(|one| one.ending.is_restart()).count();
    if restarts >= LOOP_LEN {
        writeln!(out, "  BOOT LOOP  {restarts} restarts in a row")?;
    }
    writeln!(out, "  last boots {}", boots.len())?;
    boots.iter().try_for_each(|boot| row(boot, out))
}

/// Prints what is unusual about a machine, its keys and its values.
fn remarks(machine: &Machine, now: i64, out: &mut dyn Write) -> io::Result<()> {
    if let Some(back) = &machine.returned {
        let since = ago(back.since, now);
        writeln!(
            out,
            "  RETURNED   from {} to {} {since} ago",
            back.from, back.to
        )?;
    }
    if let Some(first) = &machine.duplicate_of {
        writeln!(
            out,
            "  DUPLICATE  {first} has the same UUID and other cards"
        )?;
    }
    if let Some(seen) = machine.clone_seen {
        let seen = ago(seen, now);
        writeln!(
            out,
            "  COPIED     two machines ran under this name {seen} ago"
        )?;
    }
    for (what, key) in [("key", machine.key), ("offers key", machine.offered)] {
        if let Some(key) = key {
            writeln!(out, "  {what:<10} {}", key.fingerprint())?;
        }
    }
    if let Some(number) = machine.layer {
        writeln!(out, "  values     record {number}")?;
    }
    if let Some(seen) = machine.forged_seen {
        let seen = ago(seen, now);
        writeln!(
            out,
            "  FORGED     a hello without proof was refused {seen} ago"
        )?;
    }
    Ok(())
}

/// Prints the state of the running system from its last hello.
fn running(hello: &wire::hello::Hello, out: &mut dyn Write) -> io::Result<()> {
    if let Some(health) = &hello.health {
        let failed: Vec<&str> = health
            .units
            .iter()
            .chain(&health.checks)
            .map(String::as_str)
            .collect();
        writeln!(out, "  health     {} {}", health.state, failed.join(" "))?;
    }
    if let Some(bytes) = hello.bytes {
        writeln!(out, "  received   {}", human::length(bytes))?;
    }
    if let Some(upper) = hello.upper {
        let (used, size) = (human::length(upper.used), human::length(upper.size));
        writeln!(out, "  upper      {used} of {size}")?;
    }
    for (what, value) in [
        ("cache", &hello.cache),
        ("kernel", &hello.kernel),
        ("layerfs", &hello.version),
    ] {
        if !value.is_empty() {
            writeln!(out, "  {what:<10} {value}")?;
        }
    }
    Ok(())
}

fn row(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let boot = &outcome.boot;
    let began = human::time(u64::try_from(boot.began).unwrap_or(0));
    let took = match boot.target_ms {
        Some(ms) if boot.step >= Step::Target => format!("  {}.{:03} s", ms / 1000, ms % 1000),
        _ => String::new(),
    };
    let revision = if boot.revision.is_empty() {
        "-"
    } else {
        &boot.revision
    };
    write!(out, "    {began}  {:<10} {revision}{took}", boot.step)?;
    let ending = outcome.ending;
    if !matches!(ending, Ending::Good | Ending::Booting) {
        write!(out, "  {}", ending.word())?;
    }
    if outcome.excused {
        write!(out, " (outage or power cut)")?;
    }
    if !boot.why.is_empty() {
        write!(out, "  {}", boot.why)?;
    }
    writeln!(out)
}
