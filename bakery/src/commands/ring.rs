//! The command `bakery ring`.

mod advance;
mod change;
mod list;
mod status;

use std::process::ExitCode;

use wire::manifest::{DEFAULT_RING, ProfileName, RevisionName};

use crate::globals::Globals;
use change::RingChange;

/// Give new revisions to rings, which are groups of machines, one after the other
///
/// The first ring of a history gets each new revision at once, the others when it is promoted. The
/// last ring, `all`, has the machines without a ring. Each change is a signed record, which clients
/// verify. `bakery machine assign --ring` puts machines and groups into rings.
#[derive(Debug, clap::Args)]
pub struct RingArgs {
    /// The action
    #[command(subcommand)]
    action: RingCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RingCommand {
    /// List the rings of histories, each with its revision
    List {
        /// The histories [default: all that have rings]
        #[arg(value_name = "SYSTEM[/PROFILE]")]
        names: Vec<ProfileName>,
    },
    /// List the ring records of a history, newest first
    Log {
        /// The history
        #[arg(value_name = "SYSTEM[/PROFILE]")]
        name: ProfileName,
    },
    /// Show the rings with their machines, the failing revisions and the waiting promotions
    Status(status::StatusArgs),
    /// Promote and quarantine revisions according to the boots of the machines
    ///
    /// `bakery watch` runs this every minute. Without a signing key it only prints the changes.
    Advance(advance::AdvanceArgs),
    /// Add a ring in front of another one; in front of the first, it gets new revisions from now on
    Add {
        #[command(flatten)]
        of: Of,
        /// The ring after the new one
        #[arg(long, value_name = "RING", default_value = DEFAULT_RING)]
        before: String,
        #[command(flatten)]
        change: RingChange,
    },
    /// Remove a ring: its machines belong to `all`
    Remove {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        change: RingChange,
    },
    /// Give a ring the revision of the ring before it, or another one
    Promote {
        /// The history; with @REV, that revision
        #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
        to: RevisionName,
        /// The ring
        ring: String,
        #[command(flatten)]
        change: RingChange,
    },
    /// Let a ring keep its revision until it is resumed
    Pause {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        change: RingChange,
    },
    /// End the pause of a ring
    Resume {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        change: RingChange,
    },
    /// Set the conditions of automatic promotion into a ring, and of quarantine
    Policy(change::PolicyArgs),
    /// Quarantine a revision: the rings that have it return to the newest good one before it
    Quarantine {
        /// The revision
        #[arg(value_name = "SYSTEM[/PROFILE]@REV")]
        revision: RevisionName,
        /// Return to this revision [default: the newest older one that is not quarantined]
        #[arg(long, value_name = "REV")]
        to: Option<u64>,
        #[command(flatten)]
        change: RingChange,
    },
    /// Lift the quarantine of a revision
    Release {
        /// The revision
        #[arg(value_name = "SYSTEM[/PROFILE]@REV")]
        revision: RevisionName,
        #[command(flatten)]
        change: RingChange,
    },
    /// Sign the newest ring record again with this bakery's key
    Renew {
        /// The history
        #[arg(value_name = "SYSTEM[/PROFILE]")]
        name: ProfileName,
        #[command(flatten)]
        change: RingChange,
    },
}

/// A ring of a history.
#[derive(Debug, clap::Args)]
struct Of {
    /// The history
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    name: ProfileName,
    /// The ring: 1 to 64 characters of a-z 0-9 . _ -
    ring: String,
}

/// Runs one action of `bakery ring`.
///
/// # Errors
/// The history or the ring does not exist, or the record cannot be created.
pub(crate) fn run(args: RingArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    use crate::ring;
    use wire::manifest::RingAction as Kind;
    match args.action {
        RingCommand::List { names } => list::run(&names, globals),
        RingCommand::Log { name } => list::log(&name, globals),
        RingCommand::Status(args) => status::run(&args, globals),
        RingCommand::Advance(args) => advance::run(&args, globals),
        RingCommand::Add { of, before, change } => {
            let text = format!("{} in front of {before}", of.ring);
            change.run(globals, &of.name, (Kind::Add, &text), |record, newest| {
                if record.number == 0 {
                    record.quarantine_after = change::QUARANTINE_AFTER;
                }
                ring::add(record, &of.ring, &before, newest)
            })
        }
        RingCommand::Remove { of, change } => {
            let reason = (Kind::Remove, of.ring.as_str());
            change.run(globals, &of.name, reason, |record, newest| {
                ring::remove(record, &of.ring, newest)
            })
        }
        RingCommand::Promote { to, ring, change } => {
            let reason = (Kind::Promote, ring.as_str());
            change.run(globals, &to.name, reason, |record, newest| {
                ring::promote(record, &ring, to.revision, newest).map(drop)
            })
        }
        RingCommand::Pause { of, change } => {
            let reason = (Kind::Pause, of.ring.as_str());
            change.run(globals, &of.name, reason, |record, newest| {
                ring::pause(record, &of.ring, newest)
            })
        }
        RingCommand::Resume { of, change } => {
            let reason = (Kind::Resume, of.ring.as_str());
            change.run(globals, &of.name, reason, |record, _| {
                ring::resume(record, &of.ring)
            })
        }
        RingCommand::Policy(args) => args.run(globals),
        RingCommand::Quarantine {
            revision,
            to,
            change,
        } => {
            let (name, number) = change::numbered(&revision)?;
            let text = number.to_string();
            change.run(
                globals,
                name,
                (Kind::Quarantine, &text),
                |record, newest| {
                    let good = to.unwrap_or_else(|| change::older(record, number));
                    ring::quarantine(record, number, good, newest)
                },
            )
        }
        RingCommand::Release { revision, change } => {
            let (name, number) = change::numbered(&revision)?;
            let text = number.to_string();
            change.run(globals, name, (Kind::Release, &text), |record, _| {
                ring::release(record, number)
            })
        }
        RingCommand::Renew { name, change } => renew(&name, &change, globals),
    }
}

/// Signs the rings of a history again.
fn renew(name: &ProfileName, change: &RingChange, globals: &Globals) -> anyhow::Result<ExitCode> {
    let reason = (wire::manifest::RingAction::Renew, "");
    change.run(globals, name, reason, |record, _| {
        crate::ring::require_any(record)
    })
}
