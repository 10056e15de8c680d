//! `bakery compact` of a history

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use wire::manifest::ProfileName;

use super::published::{self, DryRun};
use super::wording::Wording;
use crate::globals::Globals;
use crate::human;
use crate::output;
use crate::publish::{CompactPolicy, Compaction};

/// Options for compacting a history
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct HistoryCompactArgs {
    /// Only if the stack is longer than --layers-max or a layer is mostly hidden
    #[arg(long)]
    if_needed: bool,
    /// With --if-needed: longest stack that is not compacted
    #[arg(long, default_value_t = CompactPolicy::default().layers_max, value_name = "COUNT")]
    layers_max: usize,
    /// With --if-needed: least part of a layer's bytes that must be visible, percent
    #[arg(long, default_value_t = CompactPolicy::default().visible_percent_min, value_name = "PERCENT")]
    visible_percent_min: u64,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    wording: Wording,
}

impl HistoryCompactArgs {
    /// True if nothing is to be published.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run.is_wanted()
    }
}

#[derive(Serialize)]
struct CompactAnswer {
    published: Option<String>,
    layer_count: usize,
    data_len: u64,
    reason: Option<String>,
}

/// Compacts.
///
/// # Errors
/// There are no layers to compact, or the tree would change.
pub(crate) fn run(
    target: &[PathBuf],
    recompress: bool,
    args: HistoryCompactArgs,
    globals: &Globals,
) -> anyhow::Result<ExitCode> {
    let (name, revisions) = target_of(target)?;
    let publisher = args.dry_run.publisher(globals)?;
    let mut reason = None;
    if args.if_needed {
        let policy = CompactPolicy {
            layers_max: args.layers_max,
            visible_percent_min: args.visible_percent_min,
        };
        let head = publisher.history().require_head(&name)?;
        reason = publisher.needs_compaction(&head.manifest, &policy)?;
        if reason.is_none() {
            let answer = CompactAnswer {
                published: None,
                layer_count: 0,
                data_len: 0,
                reason,
            };
            output::emit(globals, &answer, |out| {
                writeln!(out, "no need: {}", head.name())
            })?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let compaction = Compaction {
        name,
        revisions,
        recompress,
        author: args.wording.author(),
        message: args.wording.message,
    };
    let done = publisher.compact(&compaction, &|_| ())?;
    if let Some(preview) = publisher.preview() {
        output::emit(globals, &preview, |out| {
            let (count, len) = (done.layer_count, human::length(done.data_len));
            writeln!(out, "{count} layers in one of {len}")?;
            published::write_preview(&preview, out)
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = CompactAnswer {
        published: Some(done.revision.name().to_string()),
        layer_count: done.layer_count,
        data_len: done.data_len,
        reason,
    };
    output::emit(globals, &answer, |out| {
        let (name, len) = (done.revision.name(), human::length(done.data_len));
        writeln!(
            out,
            "published {name}: {} layers in one of {len}",
            done.layer_count
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `SYSTEM[/PROFILE] [REV..REV]`
fn target_of(words: &[PathBuf]) -> anyhow::Result<(ProfileName, Option<(u64, u64)>)> {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.display().to_string())
        .collect();
    match words.as_slice() {
        [name] => Ok((name.parse()?, None)),
        [name, revisions] => Ok((
            name.parse()?,
            Some(range(revisions).map_err(anyhow::Error::msg)?),
        )),
        _ => {
            anyhow::bail!("one history and at most one range; or name the --output of layer files")
        }
    }
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let numbers = text
        .split_once("..")
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    numbers
        .filter(|(from, to)| from < to)
        .ok_or_else(|| "a range is FROM..TO, as in 3..17".into())
}
