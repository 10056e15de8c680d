//! The command line: options of all commands, and the exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::commands::BakeryCommand;
pub use crate::commands::client::AUTHORIZED_KEYS;
pub use crate::commands::import::{ImportAnswer, ImportArgs, import};
pub use crate::commands::initrd::{InitrdArgs, publish_initramfs};
use crate::globals::{COULD_NOT, Globals};
use crate::watch::NEWS;

/// Bake, store and serve layers
///
/// Exit codes: 0 success; 1 a negative answer (verification failed, conflicts found); 2 failure.
#[derive(Debug, Parser)]
#[command(name = "bakery", version, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// The command to run.
    #[command(subcommand)]
    pub command: BakeryCommand,
}

/// Runs one command line and gives the process its exit code.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    crate::sys::heap::return_large_blocks();
    start_log(&cli.globals);
    match cli.command.run(&cli.globals, Cli::command) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            crate::output::complain(&error);
            ExitCode::from(COULD_NOT)
        }
    }
}

/// A closed pipe (`bakery log | head`) is not a failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<crate::output::Closed>().is_some()
}

/// Log lines go to standard error; `BAKERY_LOG` (a level, or TARGET=LEVEL,…) wins over `-v`.
fn start_log(globals: &Globals) {
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let asked = std::env::var("BAKERY_LOG").ok();
    let filter = asked.and_then(|asked| asked.parse::<Targets>().ok());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false);
    // A second subscriber can only be there in tests, which call `run` more than once.
    let news = if globals.quiet {
        LevelFilter::ERROR
    } else {
        level.max(LevelFilter::INFO)
    };
    let usual = || Targets::new().with_default(level).with_target(NEWS, news);
    let _ = tracing_subscriber::registry()
        .with(filter.unwrap_or_else(usual))
        .with(lines)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
