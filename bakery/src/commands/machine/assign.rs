//! The commands `bakery machine assign`, `groups` and `wake`.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context as _;
use fleet::record::Assignment;
use fleet::store::{Database, MachineOrGroup};
use fleet::writer::now;
use wire::manifest::RevisionName;

use crate::globals::Globals;
use crate::output;

/// The UDP port of Wake-on-LAN: discard.
const WAKE_PORT: u16 = 9;

/// One machine or one group.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct AssignTarget {
    /// The machine
    machine: Option<String>,
    /// All machines of this group
    #[arg(long)]
    group: Option<String>,
}

impl AssignTarget {
    pub(super) fn find(&self, store: &Database) -> anyhow::Result<MachineOrGroup> {
        match (&self.machine, &self.group) {
            (Some(machine), _) => Ok(MachineOrGroup::Machine(store.machine(machine, now())?.id)),
            (None, Some(group)) => Ok(MachineOrGroup::Group(group.clone())),
            (None, None) => anyhow::bail!("name a machine, or --group GROUP"),
        }
    }
}

/// The assignment to record.
#[derive(Debug, clap::Args)]
pub(super) struct AssignArgs {
    #[command(flatten)]
    target: AssignTarget,
    /// Boot this system; with @REV, only this revision
    #[arg(long, value_name = "SYSTEM[/PROFILE][@REV]")]
    system: Option<RevisionName>,
    /// Append these kernel parameters to those of the revision
    #[arg(long, value_name = "PARAMETERS", allow_hyphen_values = true)]
    parameters: Option<String>,
    /// Belong to this ring, in each history that has it (`bakery ring`); `all` overrides the ring
    /// of the group
    #[arg(long, value_name = "RING")]
    ring: Option<String>,
    /// Boot the machine's own disk; `no` overrides a `yes` of the group
    #[arg(long, value_name = "yes|no", num_args = 0..=1, default_missing_value = "yes", value_parser = yes_or_no)]
    localboot: Option<bool>,
    /// Delete the assignment; the group's assignment or the site's menu applies then
    #[arg(long, conflicts_with_all = ["system", "parameters", "ring", "localboot"])]
    default: bool,
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("write yes or no".into()),
    }
}

/// Records an assignment; without options, prints the present one.
pub(super) fn run(
    args: &AssignArgs,
    store: &Database,
    globals: &Globals,
) -> anyhow::Result<ExitCode> {
    let whom = args.target.find(store)?;
    let before = store.assigned(&whom)?;
    let after = match args.default {
        true => Assignment::default(),
        false => changed(args, before.clone()),
    };
    if after != before {
        store.assign(&whom, &after)?;
    }
    output::emit(globals, &after, |out| writeln!(out, "{}", words(&after)))?;
    Ok(ExitCode::SUCCESS)
}

fn changed(args: &AssignArgs, mut assignment: Assignment) -> Assignment {
    if let Some(system) = &args.system {
        assignment.system = Some(system.name.full());
        assignment.revision = system.revision;
        // A named system replaces the boot from the machine's own disk.
        assignment.localboot = None;
    }
    if let Some(parameters) = &args.parameters {
        assignment.parameters = Some(parameters.trim().to_owned()).filter(|text| !text.is_empty());
    }
    if let Some(ring) = &args.ring {
        assignment.ring = Some(ring.clone());
    }
    if args.localboot.is_some() {
        assignment.localboot = args.localboot;
    }
    assignment
}

pub(super) fn words(assignment: &Assignment) -> String {
    match assignment.is_empty() {
        true => String::from("no assignment: the site's menu"),
        false => assignment.to_string(),
    }
}

/// Lists the groups that have an assignment.
pub(super) fn groups(store: &Database, globals: &Globals) -> anyhow::Result<ExitCode> {
    let groups = store.groups()?;
    output::emit(globals, &groups, |out| {
        groups
            .iter()
            .try_for_each(|(name, assignment)| writeln!(out, "{name:<20} {}", words(assignment)))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The machines to wake.
#[derive(Debug, clap::Args)]
pub(super) struct Wake {
    #[command(flatten)]
    target: AssignTarget,
    /// Send to this address: the broadcast address of the machines' network
    #[arg(long, value_name = "ADDRESS", default_value = "255.255.255.255")]
    to: IpAddr,
}

/// Wakes a machine or a group.
pub(super) fn wake(args: &Wake, store: &Database, globals: &Globals) -> anyhow::Result<ExitCode> {
    let cards = store.cards(&args.target.find(store)?)?;
    anyhow::ensure!(
        !cards.is_empty(),
        "no network card is known: Wake-on-LAN needs the address of a card"
    );
    let to = SocketAddr::new(args.to, WAKE_PORT);
    fleet::wake::wake(&cards, to)
        .with_context(|| format!("cannot send to {to}: name the broadcast address with --to"))?;
    output::emit(globals, &cards, |out| {
        cards
            .iter()
            .try_for_each(|card| writeln!(out, "sent to {card}"))
    })?;
    Ok(ExitCode::SUCCESS)
}
