//! The command `bakery machine`.

mod assign;
mod key;
mod list;
mod show;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;

use fleet::record::Machine;
use fleet::store::Database;
use fleet::writer::now;

use crate::globals::Globals;
use crate::output;

/// Show the machines that boot from this bakery, and name them
///
/// MACHINE is a name, an id, a UUID, the address of a network card (MAC), an asset tag, or the
/// beginning of an id.
#[derive(Debug, clap::Args)]
pub struct MachineArgs {
    /// The spool with the state of the fleet
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL", global = true)]
    spool: Option<PathBuf>,
    /// The action
    #[command(subcommand)]
    action: MachineAction,
}

#[derive(Debug, clap::Subcommand)]
enum MachineAction {
    /// List machines with state, revision and time of the last hello
    List(list::ListArgs),
    /// Show one machine and its last 50 boots, each with its last step
    Show {
        /// The machine
        machine: String,
    },
    /// Name a machine; without a name, delete its name
    Name {
        /// The machine
        machine: String,
        /// Its name: 1 to 64 of A-Z a-z 0-9 . _ -
        name: Option<String>,
    },
    /// Put a machine into a group; without a group, remove it from its group
    Group {
        /// The machine
        machine: String,
        /// The group: 1 to 64 of A-Z a-z 0-9 . _ -
        group: Option<String>,
    },
    /// Store a note about a machine; an empty note deletes it
    Note {
        /// The machine
        machine: String,
        /// The note, one line
        note: String,
    },
    /// Assign a system, parameters or its own disk to a machine or a group; without options, show
    /// the assignment
    Assign(assign::AssignArgs),
    /// List the groups that have an assignment
    Groups,
    /// Set values that a machine, or each machine of a group, gets as a signed record; without
    /// options, show them
    Values(values::ValuesArgs),
    /// Show the key of a machine, accept or withdraw it
    Key(key::MachineKeyArgs),
    /// End the return of a machine: it boots its assignment again
    Retry {
        /// The machine
        machine: String,
    },
    /// Switch on a machine or a group by Wake-on-LAN
    Wake(assign::Wake),
    /// Delete machines and their boots; the next hello of such a machine makes it a new one
    Forget {
        /// The machines
        #[arg(required = true)]
        machines: Vec<String>,
    },
}

/// Runs one action of `bakery machine`.
///
/// # Errors
/// No machine has this name, or the database cannot be used.
pub(crate) fn run(args: MachineArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let store = Database::open(&super::fleet::spool(globals, args.spool)?)?;
    match args.action {
        MachineAction::List(args) => list::run(args, &store, globals),
        MachineAction::Show { machine } => show::run(&machine, &store, globals),
        MachineAction::Name { machine, name } => changed(&machine, &store, globals, |id| {
            store.set_name(id, name.as_deref())
        }),
        MachineAction::Group { machine, group } => {
            join(&machine, group.as_deref(), &store, globals)
        }
        MachineAction::Note { machine, note } => {
            changed(&machine, &store, globals, |id| store.set_note(id, &note))
        }
        MachineAction::Assign(args) => assign::run(&args, &store, globals),
        MachineAction::Groups => assign::groups(&store, globals),
        MachineAction::Values(args) => values::run(&args, &store, globals),
        MachineAction::Key(args) => key::run(&args, &store, globals),
        MachineAction::Retry { machine } => {
            changed(&machine, &store, globals, |id| store.retry(id, now()))
        }
        MachineAction::Wake(args) => assign::wake(&args, &store, globals),
        MachineAction::Forget { machines } => forget(&machines, &store, globals),
    }
}

/// Puts a machine into a group, with the group's values.
fn join(
    machine: &str,
    group: Option<&str>,
    store: &Database,
    globals: &Globals,
) -> anyhow::Result<ExitCode> {
    let id = store.machine(machine, now())?.id;
    let affected = store.values_in(&id, group)? != store.effective_values(&id)?;
    let message = match group {
        Some(group) => format!("joins {group}"),
        None => "leaves its group".into(),
    };
    values::follow(&id, affected, store, globals, &message, || {
        store.set_group(&id, group)
    })?;
    shown(&id, store, globals)
}

/// Changes a machine and prints it.
fn changed(
    machine: &str,
    store: &Database,
    globals: &Globals,
    change: impl FnOnce(&str) -> fleet::store::Result<()>,
) -> anyhow::Result<ExitCode> {
    let id = store.machine(machine, now())?.id;
    change(&id)?;
    shown(&id, store, globals)
}

fn shown(id: &str, store: &Database, globals: &Globals) -> anyhow::Result<ExitCode> {
    let machine = store.machine(id, now())?;
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

fn forget(machines: &[String], store: &Database, globals: &Globals) -> anyhow::Result<ExitCode> {
    // Every name must be valid before the first deletion.
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

/// The age of a time in one unit, for people.
pub(super) fn ago(then: i64, now: i64) -> String {
    let seconds = (now - then).max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
