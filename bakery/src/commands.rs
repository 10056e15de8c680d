//! The verbs. Each has a file of its own with `Args`, its definition, and `run`.
//!
//! To add one: a file in `commands/`, a line in each of the three lists below.

use std::process::ExitCode;

use crate::cli::Globals;

pub mod completions;
pub mod man;

/// Every verb of the program.
#[derive(Debug, clap::Subcommand)]
#[expect(
    missing_docs,
    reason = "each verb's text is its Args' doc comment, which clap shows"
)]
pub enum Command {
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever kept it from being done, with its causes.
    pub fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        match self {
            Self::Completions(args) => completions::run(args, globals),
            Self::Man(args) => man::run(args, globals),
        }
    }
}
