//! The command `bakery serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::service;
use crate::globals::Globals;
use crate::serve::{Bound, ServeOptions, fleet, limits};

/// Serve the store over HTTP
///
/// Read-only: heads, manifests, indexes, layers, boot files and boot menus. Clients verify
/// everything against the signed head, so plain HTTP is enough. Ends gracefully on SIGTERM.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Listen on this address (repeatable)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    listen: Vec<SocketAddr>,
    /// Store boot traces in this spool and show its jobs
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL")]
    spool: Option<PathBuf>,
    /// URL of this server for clients, for boot menus [default: as in their request]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Seconds before a boot menu starts its first entry; 0 waits forever
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    menu_timeout: u32,
    /// Send every machine the whole initramfs, not only the drivers of the card that it boots from
    #[arg(long)]
    whole_initramfs: bool,
    /// Maximum number of connections; further ones wait
    #[arg(long, value_name = "COUNT", default_value_t = limits::CONNECTIONS_DEFAULT)]
    connections: usize,
    /// Maximum number of connections of one address; further ones are closed [default: half of all,
    /// at least 64]
    #[arg(long, value_name = "COUNT")]
    connections_per_address: Option<usize>,
    /// Forward hellos to `bakery fleet` and serve its assignments: path of its socket, or HOST:PORT
    /// [without a value: the socket in the spool]
    #[arg(long, value_name = "PLACE", num_args = 0..=1, default_missing_value = "", env = "BAKERY_FLEET")]
    fleet: Option<String>,
    /// Threads that send [default: two per processor, at least 4]
    #[arg(long, value_name = "COUNT")]
    threads: Option<usize>,
}

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// The store cannot be opened, or an address is taken.
pub(crate) fn run(args: ServeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.threads.unwrap_or((2 * processors).max(4)).max(1))
        .enable_all()
        .build()
        .context("cannot start the server's threads")?;
    let (store, directory) = crate::serve::open_store(globals.store()?)?;
    let spool = globals.spool(args.spool);
    let fleet = args.fleet.map(|place| fleet_at(&place, spool.as_deref()));
    let options = ServeOptions {
        store,
        directory,
        spool,
        listen: args.listen,
        connections_max: args.connections,
        connections_per_address: args.connections_per_address,
        url: args.url,
        menu_timeout: args.menu_timeout,
        whole_initramfs: args.whole_initramfs,
        fleet: fleet.transpose()?,
    };
    runtime.block_on(async {
        let bound = Bound::new(options).await?;
        for address in bound.addresses()? {
            crate::output::note(globals, &format!("serving on http://{address}/"));
        }
        if bound.is_empty().await? {
            let text = "the store is empty: `bakery import SYSTEM SOURCE` makes its first system; it is served at once";
            crate::output::note(globals, text);
        }
        let stopped = service::stopped()?;
        service::notify(sd_notify::NotifyState::Ready);
        bound.run(stopped).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// The address of the fleet process.
fn fleet_at(place: &str, spool: Option<&Path>) -> anyhow::Result<fleet::Address> {
    if !place.is_empty() {
        return place
            .parse()
            .map_err(|error| anyhow::anyhow!("--fleet: {error}"));
    }
    let spool = spool.context("--fleet without a place needs a spool: give --spool DIR")?;
    Ok(fleet::Address::Local(::fleet::store::socket(spool)))
}
