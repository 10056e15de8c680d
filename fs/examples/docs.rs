//! Writes the man pages and shell completions of `layerfs` from its command line's definition:
//! `cargo run -p layerfs --example docs -- DIRECTORY` makes DIRECTORY/man and DIRECTORY/completions. (`bakery man` and `bakery completions`
//! do the same for the server; the client's program stays small.)

use std::error::Error;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or("name the directory to write to")?;
    let (pages, scripts) = (directory.join("man"), directory.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&scripts)?;
    let mut command = layerfs::cli::Cli::command();
    clap_mangen::generate_to(command.clone(), &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "layerfs", &scripts)?;
    }
    Ok(())
}
