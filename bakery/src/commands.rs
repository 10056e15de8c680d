//! The commands. Each has its own file with `Args`, its definition, and `run`.
//!
//! To add one: a file in `commands/`, a line in each of the three lists below.

use std::process::ExitCode;

use crate::globals::Globals;

pub mod authorize;
pub mod bake;
pub mod cat;
pub mod cherry_pick;
pub mod client;
pub mod compact;
pub mod completions;
pub mod content_diff;
pub mod diff;
pub mod dnsmasq;
pub mod dump;
pub mod flatten;
pub mod gc;
pub mod history_compact;
pub mod import;
pub mod init;
pub mod initrd;
pub mod input;
pub mod inspect;
pub mod jobs;
pub mod key;
pub mod layers;
pub mod log;
pub mod ls;
pub mod man;
pub mod pack;
pub mod place;
pub mod profile;
pub mod published;
pub mod purge;
pub mod rebase;
pub mod receive;
pub mod revert;
pub mod rollback;
pub mod run_job;
pub mod serve;
pub mod set;
pub mod show;
pub mod store;
pub mod store_verify;
pub mod tag;
pub mod unpack;
pub mod verify;
pub mod watch;
pub mod wording;

/// Every verb of the program.
#[derive(Debug, clap::Subcommand)]
#[expect(
    missing_docs,
    reason = "each verb's text is its Args' doc comment, which clap shows"
)]
pub enum BakeryCommand {
    Authorize(authorize::Args),
    Bake(bake::Args),
    Cat(cat::Args),
    CherryPick(cherry_pick::Args),
    Client(client::Args),
    Compact(compact::Args),
    Completions(completions::Args),
    Diff(diff::Args),
    Dnsmasq(dnsmasq::Args),
    Dump(dump::Args),
    Flatten(flatten::Args),
    Gc(gc::Args),
    Init(init::Args),
    Import(import::Args),
    Initrd(initrd::Args),
    Inspect(inspect::Args),
    Jobs(jobs::Args),
    Key(key::Args),
    Log(log::Args),
    Ls(ls::Args),
    Man(man::Args),
    Pack(pack::Args),
    Profile(profile::Args),
    Purge(purge::Args),
    Rebase(rebase::Args),
    Receive(receive::Args),
    Revert(revert::Args),
    Rollback(rollback::Args),
    RunJob(run_job::Args),
    Serve(serve::Args),
    Set(set::Args),
    Show(show::Args),
    Store(store::Args),
    Tag(tag::Args),
    Unpack(unpack::Args),
    Verify(verify::Args),
    Watch(watch::Args),
}

impl BakeryCommand {
    /// Runs the command. `definition` is the whole command line, for its manual and completions.
    ///
    /// # Errors
    /// The reason for its failure, with its causes.
    pub fn run(
        self,
        globals: &Globals,
        definition: fn() -> clap::Command,
    ) -> anyhow::Result<ExitCode> {
        match self {
            Self::Authorize(args) => authorize::run(args, globals),
            Self::Bake(args) => bake::run(args, globals),
            Self::Cat(args) => cat::run(args, globals),
            Self::CherryPick(args) => cherry_pick::run(args, globals),
            Self::Client(args) => client::run(args, globals),
            Self::Compact(args) => compact::run(args, globals),
            Self::Completions(args) => completions::run(args, definition()),
            Self::Diff(args) => diff::run(args, globals),
            Self::Dnsmasq(args) => dnsmasq::run(args, globals),
            Self::Dump(args) => dump::run(args, globals),
            Self::Flatten(args) => flatten::run(args, globals),
            Self::Gc(args) => gc::run(args, globals),
            Self::Init(args) => init::run(args, globals),
            Self::Import(args) => import::run(args, globals),
            Self::Initrd(args) => initrd::run(args, globals),
            Self::Inspect(args) => inspect::run(args, globals),
            Self::Jobs(args) => jobs::run(args, globals),
            Self::Key(args) => key::run(args, globals),
            Self::Log(args) => log::run(args, globals),
            Self::Ls(args) => ls::run(args, globals),
            Self::Man(args) => man::run(args, definition()),
            Self::Pack(args) => pack::run(args, globals),
            Self::Profile(args) => profile::run(args, globals),
            Self::Purge(args) => purge::run(args, globals),
            Self::Rebase(args) => rebase::run(args, globals),
            Self::Receive(args) => receive::run(args, globals),
            Self::Revert(args) => revert::run(args, globals),
            Self::Rollback(args) => rollback::run(args, globals),
            Self::RunJob(args) => run_job::run(args, globals),
            Self::Serve(args) => serve::run(args, globals),
            Self::Set(args) => set::run(args, globals),
            Self::Show(args) => show::run(args, globals),
            Self::Store(args) => store::run(args, globals),
            Self::Tag(args) => tag::run(args, globals),
            Self::Unpack(args) => unpack::run(args, globals),
            Self::Verify(args) => verify::run(args, globals),
            Self::Watch(args) => watch::run(args, globals),
        }
    }
}
