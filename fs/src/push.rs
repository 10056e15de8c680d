//! `layerfs push`: sends the changes of this machine to the bakery.
//!
//! The upper directory is sent unchanged (whiteouts, xattrs, holes) as one `.tar.zst` stream
//! through the system's own `ssh`, to an account whose key has no other permission. The command
//! returns as soon as the server has stored it safely; the server bakes it. `docs/PUSH.md`
//! describes the protocol.

mod address;
mod ahead;
mod content;
mod conversation;
mod marks;
mod plan;
mod selection;
pub(crate) mod ssh;
mod walk;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) use address::PushAddress;
pub(crate) use conversation::{PushError, Session, Survey, Verb};
pub(crate) use plan::{Found, PushPlan, Tally};
pub(crate) use selection::Selection;
pub(crate) use walk::{Walk, WalkError};
pub(crate) use wire::exclude::Excludes;
pub(crate) use wire::push::{Change, ChangeKind, Ending, JobStep, LeftOut, PatternList, Progress};
use wire::tar::Archive;

/// The file in which the initramfs recorded the mount.
const BOOT_NOTE: &str = "/run/layerfs/boot";
/// zstd level in transit: the server compresses again, and the network should be the bottleneck.
const LEVEL: i32 = 3;

/// Properties of the booted system from its boot note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BootNote {
    /// The upper directory.
    pub upper: Option<PathBuf>,
    /// Source of the root: `http://server/system[/profile][@revision]`.
    pub source: Option<String>,
}

impl BootNote {
    /// Reads the note of this boot; an empty one if the root is not a layerfs.
    #[must_use]
    pub(crate) fn read() -> Self {
        fs::read_to_string(BOOT_NOTE)
            .map(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    /// Reads a note's text.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Self {
        let mut note = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match (name, value) {
                (_, "") => {}
                // The directory holds the upper and its work directory, as altboot has them.
                ("upper", value) => note.upper = Some(Path::new(value).join("rw")),
                ("source", value) => note.source = Some(value.to_owned()),
                _ => {}
            }
        }
        note
    }
}

/// The default lists of excludes, each with its name: the server's own patterns follow its
/// defaults, and this machine's follow those.
#[must_use]
pub(crate) fn default_excludes(upper: &Path, of_server: &[PatternList]) -> Vec<PatternList> {
    use wire::exclude::{DEFAULTS, LIVE_CONFIG, LIVE_STAMPS, PUSH_DEFAULTS};
    let list = |place: &str, text: &str| PatternList {
        place: place.to_owned(),
        text: text.to_owned(),
    };
    let mut lists = vec![list("defaults", DEFAULTS)];
    lists.extend(of_server.iter().cloned());
    lists.push(list("push defaults", PUSH_DEFAULTS));
    let stamps = upper.join(LIVE_STAMPS);
    for (component, patterns) in LIVE_CONFIG {
        if fs::symlink_metadata(stamps.join(component)).is_ok() {
            lists.push(list(&format!("live-config's {component}"), patterns));
        }
    }
    lists
}

/// Writes an upper directory as a compressed archive and returns counters.
///
/// `step` is called for every entry.
///
/// # Errors
/// The upper cannot be read, or `output` not be written.
pub(crate) fn write_upper<W: Write + Send>(
    upper: &Path,
    plan: &PushPlan,
    output: W,
    step: &mut dyn FnMut(&Found<'_>),
) -> Result<(Tally, W), WalkError> {
    let walk = Walk::new(upper, plan)?;
    let mut encoder =
        zstd::stream::write::Encoder::new(output, LEVEL).map_err(WalkError::Output)?;
    encoder.include_checksum(true).map_err(WalkError::Output)?;
    std::thread::scope(|scope| {
        let (ahead, blocks) = ahead::ahead();
        let compressor = std::thread::Builder::new()
            .name(String::from("compress"))
            .spawn_scoped(scope, move || {
                for block in blocks {
                    encoder.write_all(&block)?;
                }
                encoder.finish()
            })
            .map_err(WalkError::Output)?;
        let mut archive = Archive::new(ahead);
        let walked = walk.run(Some(&mut archive), step).and_then(|tally| {
            let ended = archive.finish().and_then(|mut ahead| ahead.flush());
            ended.map(|()| tally).map_err(WalkError::Output)
        });
        let compressed = match compressor.join() {
            Ok(compressed) => compressed.map_err(WalkError::Output),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match (walked, compressed) {
            // If the walk failed because its reader ended, the reader's error is the reason.
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
            (Ok(tally), Ok(output)) => Ok((tally, output)),
        }
    })
}

/// Walks an upper directory like [`write_upper`], and reads only the start of each file.
///
/// # Errors
/// The upper cannot be read.
pub(crate) fn survey_upper(
    upper: &Path,
    plan: &PushPlan,
    step: &mut dyn FnMut(&Found<'_>),
) -> Result<Tally, WalkError> {
    Walk::new(upper, plan)?.run(None::<&mut Archive<io::Sink>>, step)
}

#[cfg(test)]
mod tests;
