//! `bakery machine`.

mod assign;
mod list;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use fleet::record::Machine;
use fleet::store::Store;
use fleet::writer::now;

use crate::globals::Globals;
use crate::output;

/// Show the machines that boot from this bakery, and name them
///
/// A machine is named by its name, id, UUID, network card (MAC) or asset tag, or by the beginning of its id.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The spool with the state of the fleet
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL", global = true)]
    spool: Option<PathBuf>,
    /// The action
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List machines: their state, their revision, when they were last heard
    List(list::Args),
    /// Show one machine with its last 50 boots and the step that each reached
    Show {
        /// The machine
        machine: String,
    },
    /// Name a machine; without a name, take its name away
    Name {
        /// The machine
        machine: String,
        /// Its name: 1 to 64 of A-Z a-z 0-9 . _ -
        name: Option<String>,
    },
    /// Put a machine into a group; without a group, take it out
    Group {
        /// The machine
        machine: String,
        /// The group: 1 to 64 of A-Z a-z 0-9 . _ -
        group: Option<String>,
    },
    /// Keep a note about a machine; an empty note deletes it
    Note {
        /// The machine
        machine: String,
        /// One line
        note: String,
    },
    /// Choose what a machine or a group boots; without a choice, show it
    Assign(assign::Args),
    /// List the groups that something is assigned to
    Groups,
    /// Lift the return of a machine: it boots its assignment again
    Retry {
        /// The machine
        machine: String,
    },
    /// Switch a machine or a group on: Wake-on-LAN
    Wake(assign::Wake),
    /// Delete machines with their boots; one that is heard again is new
    Forget {
        /// The machines
        #[arg(required = true)]
        machines: Vec<String>,
    },
}

/// Shows or changes.
///
/// # Errors
/// There is no such machine, or the database cannot be used.
pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let store = Store::open(&super::fleet::spool(globals, args.spool)?)?;
    match args.action {
        Action::List(args) => list::run(args, &store, globals),
        Action::Show { machine } => show::run(&machine, &store, globals),
        Action::Name { machine, name } => changed(&machine, &store, globals, |id| {
            store.set_name(id, name.as_deref())
        }),
        Action::Group { machine, group } => changed(&machine, &store, globals, |id| {
            store.set_group(id, group.as_deref())
        }),
        Action::Note { machine, note } => {
            changed(&machine, &store, globals, |id| store.set_note(id, &note))
        }
        Action::Assign(args) => assign::run(&args, &store, globals),
        Action::Groups => assign::groups(&store, globals),
        Action::Retry { machine } => {
            changed(&machine, &store, globals, |id| store.retry(id, now()))
        }
        Action::Wake(args) => assign::wake(&args, &store, globals),
        Action::Forget { machines } => forget(&machines, &store, globals),
    }
}

/// Changes a machine and shows it.
fn changed(
    machine: &str,
    store: &Store,
    globals: &Globals,
    change: impl FnOnce(&str) -> fleet::store::Result<()>,
) -> anyhow::Result<ExitCode> {
    let id = store.machine(machine, now())?.id;
    change(&id)?;
    let machine = store.machine(&id, now())?;
    output::emit(globals, &machine, |out| {
        writeln!(out, "{}", words(&machine))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn words(machine: &Machine) -> String {
    let mut text = machine.id.clone();
    for (what, value) in [("name", &machine.name), ("group", &machine.group)] {
        if let Some(value) = value {
            text.push_str(&format!("  {what} {value}"));
        }
    }
    if !machine.note.is_empty() {
        text.push_str(&format!("  note: {}", machine.note));
    }
    text
}

fn forget(machines: &[String], store: &Store, globals: &Globals) -> anyhow::Result<ExitCode> {
    // All must be there before the first goes.
    let found = machines.iter().map(|name| store.machine(name, now()));
    let found: Vec<Machine> = found.collect::<fleet::store::Result<_>>()?;
    for machine in &found {
        store.forget(&machine.id)?;
    }
    let ids: Vec<&str> = found.iter().map(|machine| machine.id.as_str()).collect();
    output::emit(globals, &ids, |out| {
        found
            .iter()
            .try_for_each(|machine| writeln!(out, "forgot {}", machine.label()))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A time for a person: how long ago it was.
fn ago(then: i64, now: i64) -> String {
    let seconds = (now - then).max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
