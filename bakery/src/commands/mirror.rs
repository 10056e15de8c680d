//! The command `bakery mirror`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use wire::manifest::ProfileName;
use wire::trust::AllowedSigners;

use crate::globals::Globals;
use crate::mirror::{DayWindow, Http, Mirror, MirrorOptions, Mirrored, Pace, parse_rate};
use crate::store::Store;
use crate::update_pack::PACKS_DEFAULT;
use crate::{human, output};

/// Follow the histories of another store over HTTP
///
/// Copies new revisions of the server at URL into the store, which is made if needed. The mirror
/// serves a site with a slow connection, keeps a copy elsewhere, or shares the load. Everything is
/// verified with the keys in --allowed-signers, so clients of the mirror trust the same keys. A
/// revision appears when all its objects are on the disk. An interrupted transfer resumes. Update
/// packs are used if the server has them.
#[derive(Debug, clap::Args)]
pub struct MirrorArgs {
    /// URL of the server, for example `http://bakery:8080`
    #[arg(value_name = "URL")]
    url: String,
    /// Histories to follow [default: all]
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    names: Vec<ProfileName>,
    /// The keys to trust: allowed_signers of the other bakery [default: those of an earlier run]
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Exit after one round
    #[arg(long)]
    once: bool,
    /// Time between rounds
    #[arg(long, value_name = "AGE", default_value = "5m", value_parser = human::parse_age)]
    every: Duration,
    /// Receive at most this many bytes a second, as in 500k or 2M
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    limit: Option<u64>,
    /// Receive only at these times of the day, as in 22:00-06:00 (local time)
    #[arg(long, value_name = "FROM-TO")]
    window: Option<DayWindow>,
    /// Copy update packs from this many revisions before the newest; 0: none
    #[arg(long, value_name = "COUNT", default_value_t = PACKS_DEFAULT)]
    updates: usize,
    /// Take over histories that differ from those of the store, as after a purge
    #[arg(long)]
    replace: bool,
}

/// Follows until it is stopped; with `--once`, for one round.
///
/// # Errors
/// The store or the keys cannot be used; with `--once`, the round fails.
pub(crate) fn run(args: MirrorArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let store = Store::create(globals.store()?)?;
    let anchors = anchors(globals, args.allowed_signers.as_deref())?;
    let options = MirrorOptions {
        names: args.names,
        replace: args.replace,
        updates: args.updates,
    };
    let mut origin = Http::new(&args.url, Pace::new(args.limit, args.window))?;
    // Only systemd reads this, if it runs.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        let before = origin.received();
        let mut mirror = Mirror {
            store: &store,
            anchors: &anchors,
            options: &options,
            origin: &mut origin,
        };
        let round = mirror.round();
        match round {
            Ok(mut mirrored) => {
                mirrored.received = origin.received() - before;
                if args.once || mirrored.revisions > 0 {
                    output::emit(globals, &mirrored, |out| {
                        writeln!(out, "{}", describe(&mirrored))
                    })?;
                }
            }
            Err(error) if args.once => return Err(error.into()),
            Err(error) => {
                let line = human::causes(&error);
                tracing::error!("{line}; the next round continues");
            }
        }
        if args.once {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(args.every);
    }
}

/// The line about a round, for a person.
pub(super) fn describe(mirrored: &Mirrored) -> String {
    let Mirrored {
        revisions, objects, ..
    } = mirrored;
    format!(
        "{revisions} revisions, {objects} objects, {}; {} received",
        human::length(mirrored.bytes),
        human::length(mirrored.received)
    )
}

/// The trusted keys in `file`, which are stored for later runs and other commands; without a file those of an
/// earlier run.
pub(super) fn anchors(
    globals: &Globals,
    file: Option<&std::path::Path>,
) -> anyhow::Result<AllowedSigners> {
    let keys = globals.keys()?;
    let Some(file) = file else {
        return keys.anchors().context(
            "no trusted keys: give --allowed-signers FILE, a copy of STORE.keys/allowed_signers of the other bakery",
        );
    };
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let anchors = AllowedSigners::parse(&text)
        .with_context(|| format!("{} holds no trusted keys", file.display()))?;
    keys.trust_only(&text)?;
    Ok(anchors)
}
