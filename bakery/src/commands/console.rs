//! The command `bakery console`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::globals::Globals;

/// The program that `bakery console` runs.
const PROGRAM: &str = "bakery-console";

/// Serve the console: a web page for the people who run this bakery
///
/// This runs the program bakery-console (a package of its own), which lies beside this program or
/// in PATH, with the same store and keys. `bakery console --help` lists its options.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct ConsoleArgs {
    /// Arguments of bakery-console
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<OsString>,
}

/// Replaces this process by the console.
///
/// # Errors
/// The program is not installed.
pub(crate) fn run(args: ConsoleArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let beside = std::env::current_exe().ok();
    let beside = beside.map(|own| own.with_file_name(PROGRAM));
    let program = beside.filter(|file| file.is_file());
    let mut command = Command::new(program.unwrap_or_else(|| PathBuf::from(PROGRAM)));
    if let Some(store) = &globals.store {
        command.arg("--store").arg(store);
    }
    if let Some(keys) = &globals.keys {
        command.arg("--keys").arg(keys);
    }
    let error = command.args(args.arguments).exec();
    Err(error).context(format!(
        "cannot run {PROGRAM}: install the package {PROGRAM}, or put the program beside bakery"
    ))
}
