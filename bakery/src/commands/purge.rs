//! The command `bakery purge`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use super::wording::Wording;
use crate::globals::{ANSWER_NO, Globals};
use crate::output;
use crate::purge::{self, Deleted, PurgeRequest, Purged};

/// Remove a path from history, for example a secret
///
/// Every layer with the path is written again without it, and every revision on such a layer, of
/// any system, gets a new manifest and head of the same number, signed by this bakery's key. The
/// old objects stay for the machines that use them; after these have restarted, `bakery purge
/// --delete` deletes them. Change the secret: others may have read it.
#[derive(Debug, clap::Args)]
pub struct PurgeArgs {
    /// The system; or --all-systems
    #[arg(value_name = "SYSTEM", required_unless_present_any = ["all_systems", "delete", "resume"])]
    system: Option<OsString>,
    /// The paths; a directory includes everything below it
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Purge all systems; every argument is a path
    #[arg(long)]
    all_systems: bool,
    /// Rewrite nothing; print the affected revisions
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Delete the old objects now: machines that still use them can no longer read their data
    #[arg(long)]
    delete: bool,
    /// Complete an interrupted purge
    #[arg(long, conflicts_with_all = ["system", "all_systems", "dry_run"])]
    resume: bool,
    #[command(flatten)]
    wording: Wording,
}

/// Purges.
///
/// # Errors
/// No revision has the paths, or another process published meanwhile; nothing is changed then.
pub(crate) fn run(args: PurgeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let publisher = globals.publisher()?;
    if args.resume {
        let ended = purge::resume(publisher.store())?;
        let text = format!("{ended} interrupted purge(s) have been completed");
        output::emit(globals, &ended, |out| writeln!(out, "{text}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = request(&args)?;
    if let Some(request) = &request {
        let purged = purge::purge(&publisher, request)?;
        output::emit(globals, &purged, |out| describe(&purged, request, out))?;
        if !request.dry_run {
            output::note(
                globals,
                "not searched: kernel and initramfs files, the spool, caches and backups of \
                 clients, copies of this store. Everybody who could read the store may have the \
                 secret: change it",
            );
        }
    }
    if !args.delete || args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let deleted = purge::delete(publisher.history())?;
    output::emit(globals, &deleted, |out| write_deleted(&deleted, out))?;
    Ok(if deleted.busy {
        ExitCode::from(ANSWER_NO)
    } else {
        ExitCode::SUCCESS
    })
}

/// The purge to perform; `None` for `--delete` alone.
fn request(args: &PurgeArgs) -> anyhow::Result<Option<PurgeRequest>> {
    let mut words: Vec<&OsString> = args.system.iter().chain(&args.paths).collect();
    let system = match args.all_systems || words.is_empty() {
        true => None,
        false => Some(words.remove(0).to_string_lossy().into_owned()),
    };
    if words.is_empty() {
        let alone = args.delete && system.is_none() && !args.all_systems;
        anyhow::ensure!(alone, "name the path to purge: `bakery purge SYSTEM /PATH`");
        return Ok(None);
    }
    let mut paths = Vec::new();
    for word in words {
        let parts = word.as_bytes().split(|byte| *byte == b'/');
        let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty()).collect();
        let dots = parts.iter().any(|part| *part == b"." || *part == b"..");
        anyhow::ensure!(
            !parts.is_empty() && !dots && word.as_bytes().starts_with(b"/"),
            "'{}' is not a path to purge: write it from the root, as in /etc/secret",
            word.display()
        );
        paths.push(parts.join(&b"/"[..]));
    }
    Ok(Some(PurgeRequest {
        system,
        paths,
        dry_run: args.dry_run,
        author: args.wording.author(),
        message: args.wording.message.clone(),
    }))
}

fn describe(
    purged: &Purged,
    request: &PurgeRequest,
    out: &mut dyn std::io::Write,
) -> std::io::Result<()> {
    let verb = if request.dry_run {
        "would rewrite"
    } else {
        "rewrote"
    };
    for revision in &purged.revisions {
        writeln!(out, "{verb} {revision}")?;
    }
    for place in &purged.elsewhere {
        writeln!(out, "the same content is still at {place}")?;
    }
    let (revisions, layers) = (purged.revisions.len(), purged.layers);
    writeln!(out, "{verb} {revisions} revision(s), {layers} layer(s)")?;
    if !purged.objects.is_empty() {
        let count = purged.objects.len();
        writeln!(
            out,
            "{count} object(s) still contain purged data, for machines that run from them: restart these, then `bakery purge --delete`"
        )?;
    }
    Ok(())
}

fn write_deleted(deleted: &Deleted, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    if deleted.busy {
        return writeln!(
            out,
            "another process publishes or sweeps; nothing was deleted, try again"
        );
    }
    for object in &deleted.needed {
        writeln!(out, "{object} is retained: a revision names it again")?;
    }
    writeln!(out, "deleted {} object(s)", deleted.objects.len())
}
