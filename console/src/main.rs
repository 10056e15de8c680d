//! bakery-console: the command line. Everything it does is in the library.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    bakery_console::server::main(bakery_console::options::ConsoleOptions::parse())
}
