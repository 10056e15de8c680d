//! `bakery store`

use std::process::ExitCode;

use crate::cli::{ANSWER_NO, Globals};
use crate::output;
use crate::store::{Store, check};

/// Ask a store what it can do
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Probe whether the store keeps what histories stand on: create-if-absent
    Check,
}

/// Probes the store.
///
/// # Errors
/// The store cannot be reached or written.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let Verb::Check = args.verb;
    let findings = check::probe(&Store::attach(globals.store()?)?)?;
    output::emit(globals, &findings, |out| {
        for finding in &findings {
            match &finding.defect {
                None => writeln!(out, "yes  {}", finding.question)?,
                Some(defect) => writeln!(out, "NO   {}: {defect}", finding.question)?,
            }
        }
        Ok(())
    })?;
    let sound = findings.iter().all(|finding| finding.defect.is_none());
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ANSWER_NO)
    })
}
