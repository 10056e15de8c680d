//! bakery: the layerfs server's command line. Everything it does is in the library.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    bakery::cli::run(bakery::cli::Cli::parse())
}
