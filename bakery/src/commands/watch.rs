//! The command `bakery watch`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::commands::run_job::OnConflict;
use crate::globals::{Globals, SPOOL_DEFAULT};
use crate::jobs::Spool;
use crate::notice::Notices;
use crate::update_pack::PACKS_DEFAULT;
use crate::watch::{IdlePolicy, Settle, WatchOptions};

/// Bake and publish pushes
///
/// Takes pushes from the queue, and files dropped as incoming/SYSTEM[/PROFILE]/NAME.tar.zst in the
/// spool, bakes each against the newest revision and publishes it. If the watcher is stopped or
/// killed, no push is lost: the next watcher continues.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// Directory of the spool
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL", default_value = SPOOL_DEFAULT)]
    spool: PathBuf,
    /// Maximum number of pushes to bake at once; those of one profile never run in parallel
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    bakers: usize,
    /// Resolution of paths that were also changed in the history since the push's base
    #[arg(long, value_enum, default_value_t = OnConflict::Theirs)]
    on_conflict: OnConflict,
    /// Time without changes before a dropped file is taken, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    settle: u64,
    /// Longest time between two searches for dropped files, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    rescan: u64,
    /// When idle, compact stacks of more layers than this, or with layers that are mostly hidden
    #[arg(long, value_name = "LAYERS")]
    compact_above: Option<usize>,
    /// When idle, make boot packs of the traces in the spool, once none has arrived for this many
    /// seconds
    #[arg(long, value_name = "SECONDS")]
    pack_after: Option<u64>,
    /// When idle, boot each new revision without a pack of boots in a virtual machine to make one
    /// (`bakery rehearse`)
    #[arg(long)]
    rehearse: bool,
    /// When idle, make update packs from this many revisions before the newest; 0: none
    #[arg(long, value_name = "COUNT", default_value_t = PACKS_DEFAULT)]
    updates: usize,
    /// Promote and quarantine revisions in rings this often, if the spool has a fleet; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    rings_every: u64,
    #[command(flatten)]
    notices: Notices,
    /// Delete ended jobs after this many days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    keep: u64,
    /// Exit when there is nothing left to do
    #[arg(long)]
    once: bool,
}

/// Watches until SIGTERM or SIGINT.
///
/// # Errors
/// Another watcher is at work, the spool cannot be opened.
pub(crate) fn run(args: WatchArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let store = globals.store()?.to_owned();
    let mut arguments = vec!["--store".to_owned(), store.clone()];
    if let Some(keys) = &globals.keys {
        arguments.extend(["--keys".to_owned(), keys.to_string_lossy().into_owned()]);
    }
    arguments.extend((0..globals.verbose).map(|_| "-v".to_owned()));
    let options = WatchOptions {
        spool: Spool::open(&args.spool)?,
        arguments,
        bakers: args.bakers,
        on_conflict: args.on_conflict.name(),
        settle: Settle(Duration::from_millis(args.settle)),
        policy: IdlePolicy {
            store,
            keys: globals.keys()?,
            layers_max: args.compact_above,
            pack_after: args.pack_after.map(Duration::from_secs),
            rehearse: args.rehearse,
            updates: args.updates,
        },
        keep: Duration::from_secs(args.keep.saturating_mul(24 * 3600)),
        rescan: Duration::from_secs(args.rescan.max(1)),
        once: args.once,
        rings_every: (args.rings_every > 0).then(|| Duration::from_secs(args.rings_every)),
        notices: args.notices,
    };
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(Arc::clone(&stop))?;
    crate::output::note(globals, &format!("watching {}", args.spool.display()));
    // Only systemd reads this, if it runs.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    crate::watch::run(options, &stop)?;
    Ok(ExitCode::SUCCESS)
}

/// Sets the flag on the first SIGTERM or SIGINT; the watcher sees it at its next check.
fn stop_on_signals(stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}
