//! The command `bakery fleet`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use wire::proof::RoomToken;

use super::service;
use crate::globals::Globals;
use crate::output;

/// Record the machines that boot from this bakery, their boots and their assignments
///
/// Runs beside `bakery serve --fleet`, which forwards the hellos of the machines to it. The state
/// is a database in the spool. `bakery machine` shows and changes it, with or without this process.
#[derive(Debug, clap::Args)]
pub struct FleetArgs {
    /// Keep the state in this spool
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL")]
    spool: Option<PathBuf>,
    /// Keep the state in this PostgreSQL database instead of a file; the spool remembers it. For
    /// several servers that share a bucket
    #[arg(
        long,
        value_name = "postgres://…",
        env = "BAKERY_FLEET_DATABASE",
        hide_env_values = true
    )]
    database: Option<String>,
    /// Also listen on this address, for servers on other machines; every client of it can claim any
    /// sender address for a hello
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Delete boots, and machines that the operator never changed, after this many days
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36500))]
    keep_days: u32,
    /// Most requests that one address may send at once
    #[arg(long, value_name = "COUNT", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    burst: u32,
    /// Most requests that one address may send each second after that
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Return a machine to its last good revision after this many failed boots of a newer one; 0:
    /// never
    #[arg(long, value_name = "COUNT", default_value_t = fleet::store::RETURN_AFTER)]
    return_after: u32,
    /// Refuse hellos without the token in this file (`/etc/layerfs/token` on the machines), unless
    /// the accepted key of the machine signed them
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Run this program when a machine returns: PROGRAM returned MACHINE FROM TO
    #[arg(long, value_name = "PROGRAM")]
    hook: Option<PathBuf>,
}

/// The spool of the fleet.
///
/// # Errors
/// No spool is named, and the usual place has none.
pub(super) fn spool(globals: &Globals, named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    globals
        .spool(named)
        .context("there is no spool: give --spool DIR, or set BAKERY_SPOOL=DIR")
}

/// Reads the room's token.
fn token(path: &std::path::Path) -> anyhow::Result<RoomToken> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    RoomToken::of(&text)
        .with_context(|| format!("{}: a token has at least 16 bytes", path.display()))
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The database or a socket cannot be opened.
pub(crate) fn run(args: FleetArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let spool = spool(globals, args.spool)?;
    crate::store::ownership::create_dir_all(&spool.join(fleet::store::DIRECTORY))?;
    if let Some(url) = &args.database {
        fleet::store::set_url(&spool, url)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the fleet's runtime")?;
    let options = fleet::server::Options {
        spool: spool.clone(),
        listen: args.listen,
        keep_days: args.keep_days,
        burst: args.burst,
        per_second: args.rate,
        return_after: args.return_after,
        hook: args.hook,
        token: args.token_file.as_deref().map(token).transpose()?,
    };
    runtime.block_on(async {
        let stopped = service::stopped()?;
        let place = fleet::store::socket(&spool);
        let ready = || {
            output::note(
                globals,
                &format!("the fleet listens on {}", place.display()),
            );
            service::notify(sd_notify::NotifyState::Ready);
        };
        fleet::server::run(options, stopped, ready).await?;
        Ok(ExitCode::SUCCESS)
    })
}
