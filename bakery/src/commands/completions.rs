//! The command `bakery completions`.

use std::process::ExitCode;

use crate::output;

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The name of the shell
    pub shell: clap_complete::Shell,
}

/// Prints the script on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn run(
    args: CompletionsArgs,
    mut definition: clap::Command,
) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "bakery", &mut script);
    output::raw(|out| out.write_all(&script))?;
    Ok(ExitCode::SUCCESS)
}
