//! `bakery verify` of a store

use std::process::ExitCode;

use crate::globals::{ANSWER_NO, Globals};
use crate::output;
use crate::scrub::scrub;

/// Verifies a store and prints its defects; with `all` reads every byte.
///
/// # Errors
/// The store cannot be read at all.
pub(crate) fn run(all: bool, globals: &Globals) -> anyhow::Result<ExitCode> {
    let progress = |what: &str| tracing::info!("{what}");
    let found = scrub(&globals.history()?, all, &progress)?;
    output::emit(globals, &found, |out| {
        for defect in &found.defects {
            writeln!(out, "{defect}")?;
        }
        writeln!(
            out,
            "{} histories, {} revisions ({} swept), {} objects, {} read completely: {}",
            found.histories,
            found.revisions,
            found.revisions_swept,
            found.objects,
            found.files_read,
            match found.defects.len() {
                0 => "no errors".to_owned(),
                count => format!("{count} DEFECTS"),
            }
        )
    })?;
    Ok(if found.defects.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ANSWER_NO)
    })
}
