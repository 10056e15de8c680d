//! The command `bakery pack`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use wire::manifest::ProfileName;

use crate::globals::{ANSWER_NO, Globals};
use crate::human;
use crate::output;
use crate::pack::{PackError, PageOrigin};
use crate::publish::pack::{PackReport, PublishPackError, Sources, publish};

/// Speed up later boots with traces of earlier ones
///
/// Merges the boot traces from clients, stores their pages in a boot pack, and publishes the newest
/// revision again with it. Does nothing if the existing pack has most of these pages, so a timer
/// can run it.
#[derive(Debug, clap::Args)]
pub struct PackArgs {
    /// The system or profile: SYSTEM[/PROFILE]
    pub system: ProfileName,
    /// The spool in which `bakery serve --spool` stores the traces
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL")]
    pub spool: Option<PathBuf>,
    /// A trace in a file (`layerfs trace -o FILE`) (repeatable)
    #[arg(long, value_name = "FILE")]
    pub trace: Vec<PathBuf>,
    /// Pack the pages that at least this percentage of the boots read
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub share: u32,
    /// Predict the pages from the system's files if no boot has sent a trace
    #[arg(long)]
    pub predict: bool,
    /// Build the pack even if the existing one is sufficient
    #[arg(long)]
    pub force: bool,
}

/// Builds and publishes.
///
/// # Errors
/// No traces, or the store or the keys cannot be used.
pub(crate) fn run(args: PackArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let publisher = globals.publisher()?;
    let sources = Sources {
        spool: globals.spool(args.spool),
        files: args.trace,
        share: args.share,
        predict: args.predict,
    };
    let report = match publish(&publisher, &args.system, &sources, args.force) {
        Ok(report) => report,
        Err(error) if matches!(error, PublishPackError::Pack(PackError::Nothing)) => {
            output::note(globals, &format!("{}: {error}", args.system));
            return Ok(ExitCode::from(ANSWER_NO));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("no boot pack for {}", args.system));
        }
    };
    output::emit(globals, &report, |out| write!(out, "{}", describe(&report)))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn describe(report: &PackReport) -> String {
    let origin = match report.origin {
        PageOrigin::Traces => format!("{} boots, {} traces refused", report.traces, report.refused),
        PageOrigin::Predicted => "no trace of a boot".to_owned(),
    };
    let kind = match report.origin {
        PageOrigin::Traces => "hot",
        PageOrigin::Predicted => "predicted",
    };
    let what = format!(
        "{origin}, {} {kind} pages, {}% of them packed before\n",
        report.pages, report.covered
    );
    match (report.revision, report.pack) {
        (Some(revision), Some(pack)) => format!(
            "{what}revision {revision}: pack of {} for {} raw\n",
            human::length(pack.len),
            human::length(report.hot_len)
        ),
        _ => format!("{what}the existing pack is sufficient\n"),
    }
}
