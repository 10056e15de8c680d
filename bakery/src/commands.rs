//! The commands. Each has its own file with its arguments and `run`.
//!
//! To add one: a file in `commands/`, a line in each of the three lists below.

use std::process::ExitCode;

use crate::globals::Globals;

pub(crate) mod authorize;
pub(crate) mod bake;
pub(crate) mod cat;
pub(crate) mod cherry_pick;
pub(crate) mod client;
pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod diff;
pub(crate) mod dnsmasq;
pub(crate) mod dump;
pub(crate) mod export;
pub(crate) mod flatten;
pub(crate) mod fleet;
pub(crate) mod gc;
pub(crate) mod history_compact;
pub(crate) mod import;
pub(crate) mod import_store;
pub(crate) mod init;
pub(crate) mod initrd;
pub(crate) mod input;
pub(crate) mod inspect;
pub(crate) mod jobs;
pub(crate) mod key;
pub(crate) mod layers;
pub(crate) mod log;
pub(crate) mod ls;
pub(crate) mod machine;
pub(crate) mod man;
pub(crate) mod mirror;
pub(crate) mod pack;
pub(crate) mod place;
pub(crate) mod profile;
pub(crate) mod published;
pub(crate) mod purge;
pub(crate) mod rebase;
pub(crate) mod receive;
pub(crate) mod rehearse;
pub(crate) mod revert;
pub(crate) mod ring;
pub(crate) mod rollback;
pub(crate) mod run_job;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod set;
pub(crate) mod show;
pub(crate) mod store;
pub(crate) mod store_verify;
pub(crate) mod tag;
pub(crate) mod unpack;
pub(crate) mod update_pack;
pub(crate) mod verify;
pub(crate) mod watch;
pub(crate) mod wording;

/// Every verb of the program.
#[derive(Debug, clap::Subcommand)]
pub enum BakeryCommand {
    Authorize(authorize::AuthorizeArgs),
    Bake(bake::BakeArgs),
    Cat(cat::CatArgs),
    CherryPick(cherry_pick::CherryPickArgs),
    Client(client::ClientArgs),
    Compact(compact::CompactArgs),
    Completions(completions::CompletionsArgs),
    Console(console::ConsoleArgs),
    Diff(diff::DiffArgs),
    Dnsmasq(dnsmasq::DnsmasqArgs),
    Dump(dump::DumpArgs),
    Export(export::ExportArgs),
    Flatten(flatten::FlattenArgs),
    Fleet(fleet::FleetArgs),
    Gc(gc::GcArgs),
    Init(init::InitArgs),
    Import(import::ImportArgs),
    ImportStore(import_store::ImportStoreArgs),
    Initrd(initrd::InitrdArgs),
    Inspect(inspect::InspectArgs),
    Jobs(jobs::JobsArgs),
    Key(key::KeyArgs),
    Log(log::LogArgs),
    Ls(ls::LsArgs),
    Machine(machine::MachineArgs),
    Man(man::ManArgs),
    Mirror(mirror::MirrorArgs),
    Pack(pack::PackArgs),
    Profile(profile::ProfileArgs),
    Purge(purge::PurgeArgs),
    Rebase(rebase::RebaseArgs),
    Receive(receive::ReceiveArgs),
    Rehearse(rehearse::RehearseArgs),
    Revert(revert::RevertArgs),
    Ring(ring::RingArgs),
    Rollback(rollback::RollbackArgs),
    RunJob(run_job::RunJobArgs),
    Serve(serve::ServeArgs),
    Set(set::SetArgs),
    Show(show::ShowArgs),
    Store(store::StoreArgs),
    Tag(tag::TagArgs),
    Unpack(unpack::UnpackArgs),
    UpdatePack(update_pack::UpdatePackArgs),
    Verify(verify::VerifyArgs),
    Watch(watch::WatchArgs),
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
            Self::Console(args) => console::run(args, globals),
            Self::Diff(args) => diff::run(args, globals),
            Self::Dnsmasq(args) => dnsmasq::run(args, globals),
            Self::Dump(args) => dump::run(args, globals),
            Self::Export(args) => export::run(args, globals),
            Self::Flatten(args) => flatten::run(args, globals),
            Self::Fleet(args) => fleet::run(args, globals),
            Self::Gc(args) => gc::run(args, globals),
            Self::Init(args) => init::run(args, globals),
            Self::Import(args) => import::run(args, globals),
            Self::ImportStore(args) => import_store::run(args, globals),
            Self::Initrd(args) => initrd::run(args, globals),
            Self::Inspect(args) => inspect::run(args, globals),
            Self::Jobs(args) => jobs::run(args, globals),
            Self::Key(args) => key::run(args, globals),
            Self::Log(args) => log::run(args, globals),
            Self::Ls(args) => ls::run(args, globals),
            Self::Machine(args) => machine::run(args, globals),
            Self::Man(args) => man::run(args, definition()),
            Self::Mirror(args) => mirror::run(args, globals),
            Self::Pack(args) => pack::run(args, globals),
            Self::Profile(args) => profile::run(args, globals),
            Self::Purge(args) => purge::run(args, globals),
            Self::Rebase(args) => rebase::run(args, globals),
            Self::Receive(args) => receive::run(args, globals),
            Self::Rehearse(args) => rehearse::run(args, globals),
            Self::Revert(args) => revert::run(args, globals),
            Self::Ring(args) => ring::run(args, globals),
            Self::Rollback(args) => rollback::run(args, globals),
            Self::RunJob(args) => run_job::run(args, globals),
            Self::Serve(args) => serve::run(args, globals),
            Self::Set(args) => set::run(args, globals),
            Self::Show(args) => show::run(args, globals),
            Self::Store(args) => store::run(args, globals),
            Self::Tag(args) => tag::run(args, globals),
            Self::Unpack(args) => unpack::run(args, globals),
            Self::UpdatePack(args) => update_pack::run(args, globals),
            Self::Verify(args) => verify::run(args, globals),
            Self::Watch(args) => watch::run(args, globals),
        }
    }
}
