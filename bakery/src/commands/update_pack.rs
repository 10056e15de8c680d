//! The command `bakery update-pack`.

use std::process::ExitCode;

use anyhow::Context as _;
use wire::manifest::RevisionName;

use crate::globals::Globals;
use crate::history::History;
use crate::human;
use crate::output;
use crate::store::Store;
use crate::update_pack::{Made, make, missing};

/// Make an update pack from an older revision to a newer one
///
/// Writes the update pack from revision A to revision B into the store: the new chunks and the new
/// index, encoded against the contents of A. A client that has A fetches the pack in one request.
/// Other clients, and clients of an older version, fetch the chunks as before. `bakery watch` makes
/// the packs from the last three revisions to the newest.
#[derive(Debug, clap::Args)]
pub struct UpdatePackArgs {
    /// The older revision; with --last, the profile
    #[arg(value_name = "SYSTEM[/PROFILE]@A")]
    from: RevisionName,
    /// The newer revision; if not given, the newest
    #[arg(value_name = "SYSTEM[/PROFILE]@B", conflicts_with = "last")]
    to: Option<RevisionName>,
    /// Make the missing packs from the last COUNT revisions to the newest
    #[arg(long, value_name = "COUNT")]
    last: Option<usize>,
}

/// Makes one pack, or with `--last` the missing ones.
///
/// # Errors
/// A revision does not exist, or the store or the keys cannot be used.
pub(crate) fn run(args: UpdatePackArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let keys = globals.keys()?;
    let signer = keys.head()?;
    let history = History::open(Store::open(globals.store()?)?, keys.anchors()?)?;
    let newest = RevisionName {
        name: args.from.name.clone(),
        revision: None,
    };
    let Some(count) = args.last else {
        let to = args.to.unwrap_or(newest);
        let made = make(&history, &signer, &args.from, &to)
            .with_context(|| format!("no update pack from {} to {to}", args.from))?;
        output::emit(globals, &made, |out| writeln!(out, "{}", describe(&made)))?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut all = Vec::new();
    for revision in missing(&history, &newest.name, count)? {
        let from = RevisionName {
            name: newest.name.clone(),
            revision: Some(revision),
        };
        let made = make(&history, &signer, &from, &newest)
            .with_context(|| format!("no update pack from {from}"))?;
        all.push(made);
    }
    output::emit(globals, &all, |out| {
        all.iter()
            .try_for_each(|made| writeln!(out, "{}", describe(made)))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn describe(made: &Made) -> String {
    let share = made.bytes.saturating_mul(100) / made.plain_bytes.max(1);
    format!(
        "{} to {}: {} instead of {} ({share}%), of it {} index",
        made.from,
        made.to,
        human::length(made.bytes),
        human::length(made.plain_bytes),
        human::length(made.index_bytes)
    )
}
