//! The verbs. Each has a file of its own with `Args`, its definition, and `run`.
//!
//! To add one: a file in `commands/`, a line in each of the three lists below.

use std::process::ExitCode;

use crate::cli::Globals;

pub mod authorize;
pub mod bake;
pub mod compact;
pub mod completions;
pub mod dnsmasq;
pub mod dump;
pub mod flatten;
pub mod initrd;
pub mod input;
pub mod inspect;
pub mod jobs;
pub mod layers;
pub mod man;
pub mod pack;
pub mod receive;
pub mod run_job;
pub mod serve;
pub mod unpack;
pub mod verify;
pub mod watch;

/// Every verb of the program.
#[derive(Debug, clap::Subcommand)]
#[expect(
    missing_docs,
    reason = "each verb's text is its Args' doc comment, which clap shows"
)]
pub enum Command {
    Authorize(authorize::Args),
    Bake(bake::Args),
    Compact(compact::Args),
    Completions(completions::Args),
    Dump(dump::Args),
    Flatten(flatten::Args),
    Dnsmasq(dnsmasq::Args),
    Initrd(initrd::Args),
    Jobs(jobs::Args),
    Inspect(inspect::Args),
    Man(man::Args),
    Pack(pack::Args),
    Receive(receive::Args),
    RunJob(run_job::Args),
    Serve(serve::Args),
    Watch(watch::Args),
    Unpack(unpack::Args),
    Verify(verify::Args),
}

impl Command {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever kept it from being done, with its causes.
    pub fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        match self {
            Self::Authorize(args) => authorize::run(args, globals),
            Self::Bake(args) => bake::run(args, globals),
            Self::Compact(args) => compact::run(args, globals),
            Self::Completions(args) => completions::run(args, globals),
            Self::Dump(args) => dump::run(args, globals),
            Self::Flatten(args) => flatten::run(args, globals),
            Self::Dnsmasq(args) => dnsmasq::run(args, globals),
            Self::Initrd(args) => initrd::run(args, globals),
            Self::Jobs(args) => jobs::run(args, globals),
            Self::Inspect(args) => inspect::run(args, globals),
            Self::Man(args) => man::run(args, globals),
            Self::Pack(args) => pack::run(args, globals),
            Self::Receive(args) => receive::run(args, globals),
            Self::RunJob(args) => run_job::run(args, globals),
            Self::Serve(args) => serve::run(args, globals),
            Self::Watch(args) => watch::run(args, globals),
            Self::Unpack(args) => unpack::run(args, globals),
            Self::Verify(args) => verify::run(args, globals),
        }
    }
}
