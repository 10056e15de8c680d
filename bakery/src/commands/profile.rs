//! The command `bakery profile`.

use std::process::ExitCode;

use serde::Serialize;
use wire::manifest::{ProfileName, RevisionName};

use super::published;
use super::wording::Wording;
use crate::globals::Globals;
use crate::history::History;
use crate::human;
use crate::output;

/// Make, list and remove profiles of systems
#[derive(Debug, clap::Args)]
pub struct ProfileArgs {
    #[command(subcommand)]
    verb: ProfileVerb,
}

#[derive(Debug, clap::Subcommand)]
enum ProfileVerb {
    /// Make a profile that is based on a revision
    Add {
        /// The new profile
        #[arg(value_name = "SYSTEM/PROFILE")]
        name: ProfileName,
        /// The first revision of the profile; by default the newest of the system's own history
        #[arg(long, value_name = "SYSTEM[/PROFILE][@REV]")]
        from: Option<RevisionName>,
        #[command(flatten)]
        wording: Wording,
    },
    /// List all histories and their newest revisions
    List {
        /// Only histories of this system
        system: Option<String>,
    },
    /// Close a history; `gc` may then sweep the objects that only it uses
    Remove {
        /// The profile to change
        #[arg(value_name = "SYSTEM/PROFILE")]
        name: ProfileName,
    },
}

#[derive(Serialize)]
struct ProfileLine {
    system: String,
    profile: String,
    revision: u64,
    time: u64,
    message: String,
    layer_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    /// Number of revisions by which the base has advanced.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<u64>,
}

/// Runs the subcommand.
///
/// # Errors
/// The profile exists already, or does not exist.
pub(crate) fn run(args: ProfileArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    match args.verb {
        ProfileVerb::Add {
            name,
            from,
            wording,
        } => {
            let own = || ProfileName::new(&name.system, wire::manifest::DEFAULT_PROFILE);
            let from = match from {
                Some(from) => from,
                None => RevisionName {
                    name: own()?,
                    revision: None,
                },
            };
            let publisher = globals.publisher()?;
            let (author, message) = (wording.author(), &wording.message);
            published::report(
                globals,
                publisher.add_profile(&name, &from, &author, message),
            )
        }
        ProfileVerb::List { system } => {
            let history = globals.history()?;
            let lines = list(&history, system.as_deref())?;
            if let Some(system) = system.filter(|_| lines.is_empty()) {
                let wanted = ProfileName::new(&system, wire::manifest::DEFAULT_PROFILE)?;
                return Err(history.no_history(&wanted).into());
            }
            output::emit(globals, &lines, |out| print(&lines, out))?;
            if lines.is_empty() {
                let store = globals.store()?;
                let text = format!(
                    "the store {store} is empty: `bakery import SYSTEM SOURCE` makes its first system"
                );
                output::note(globals, &text);
            }
            Ok(ExitCode::SUCCESS)
        }
        ProfileVerb::Remove { name } => {
            globals.publisher()?.remove_profile(&name)?;
            output::emit(globals, &name.to_string(), |out| {
                writeln!(out, "removed {name}")
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(history: &History, system: Option<&str>) -> anyhow::Result<Vec<ProfileLine>> {
    let mut lines = Vec::new();
    for name in history.names()? {
        if system.is_some_and(|system| system != name.system) {
            continue;
        }
        let head = history.require_head(&name)?;
        let base = head.manifest.base.as_ref();
        let behind = match base {
            None => None,
            Some(base) => {
                let on = ProfileName::new(&name.system, &base.profile)?;
                history
                    .newest(&on)?
                    .map(|newest| newest.saturating_sub(base.revision))
            }
        };
        lines.push(ProfileLine {
            revision: head.number(),
            time: head.manifest.time,
            message: head.manifest.message.clone(),
            layer_count: head.manifest.layers.len(),
            base: base.map(|base| format!("{}/{}@{}", name.system, base.profile, base.revision)),
            behind,
            system: name.system,
            profile: name.profile,
        });
    }
    Ok(lines)
}

fn print(lines: &[ProfileLine], out: &mut dyn std::io::Write) -> std::io::Result<()> {
    for line in lines {
        let name = format!("{}/{}@{}", line.system, line.profile, line.revision);
        write!(out, "{name:<32} {}", human::time(line.time))?;
        if let (Some(base), Some(behind)) = (&line.base, line.behind) {
            write!(out, "  on {base}")?;
            if behind > 0 {
                write!(out, " ({behind} behind)")?;
            }
        }
        writeln!(out, "  {}", line.message.lines().next().unwrap_or_default())?;
    }
    Ok(())
}
