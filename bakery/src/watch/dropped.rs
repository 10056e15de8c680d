//! Files dropped into `incoming/<system>[/<profile>]/`.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Options;
use crate::jobs::{self, Origin, Request, Spool, Target, is_name};

/// What a dropped upload is called.
const SUFFIX: &str = ".tar.zst";

/// When a dropped file counts as complete: nobody has it open for writing, and its length and
/// times have not changed for so long.
#[derive(Debug, Clone, Copy)]
pub struct Settle(pub Duration);

/// A file as last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Look {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// The files being watched until they settle.
pub(super) struct Dropped {
    spool: Spool,
    settle: Duration,
    seen: HashMap<PathBuf, (Look, Instant)>,
    /// Files we could not take and complained about.
    complained: HashMap<PathBuf, Look>,
}

impl Dropped {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            spool: options.spool.clone(),
            settle: options.settle.0,
            seen: HashMap::new(),
            complained: HashMap::new(),
        }
    }

    /// Takes every settled file into the queue. Gives the time until the next one may have
    /// settled, if any is there.
    pub(super) fn collect(&mut self) -> anyhow::Result<Option<Duration>> {
        let incoming = self.spool.incoming();
        let files =
            find(&incoming).with_context(|| format!("cannot read {}", incoming.display()))?;
        self.seen
            .retain(|path, _| files.iter().any(|(known, ..)| known == path));
        self.complained
            .retain(|path, _| files.iter().any(|(known, ..)| known == path));
        let mut next: Option<Duration> = None;
        for (path, target, meta) in files {
            let look = Look::of(&meta);
            if self.complained.get(&path) == Some(&look) {
                continue;
            }
            let remaining = self.remaining(&path, look);
            if !remaining.is_zero() {
                next = Some(next.map_or(remaining, |next| next.min(remaining)));
            } else if let Err(error) = self.take(&path, target, &meta) {
                tracing::error!("cannot take {}: {error}; it stays there", path.display());
                self.seen.remove(&path);
                self.complained.insert(path, Look::of(&meta));
            }
        }
        Ok(next)
    }

    /// How long a file must still stay as it is.
    fn remaining(&mut self, path: &Path, look: Look) -> Duration {
        let (last, since) = self
            .seen
            .entry(path.to_owned())
            .or_insert((look, Instant::now()));
        let written =
            File::open(path).is_ok_and(|file| crate::sys::lease::has_writer(&file) == Some(true));
        if *last != look || written {
            *last = look;
            *since = Instant::now();
        }
        self.settle.saturating_sub(since.elapsed())
    }

    fn take(&mut self, path: &Path, target: Target, meta: &Metadata) -> io::Result<()> {
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let request = Request {
            target,
            author: format!("uid {}", meta.uid()),
            message: format!("dropped {file}"),
            origin: Origin::Drop { file },
            received: crate::clock::now(),
            base: None,
            digest: None,
        };
        let job = jobs::take_dropped(&self.spool, path, &request)?;
        self.seen.remove(path);
        tracing::info!("{}: {} for {}", job.id, path.display(), request.target);
        Ok(())
    }
}

/// Every dropped upload: `<system>/X.tar.zst` and `<system>/<profile>/X.tar.zst`.
fn find(incoming: &Path) -> io::Result<Vec<(PathBuf, Target, Metadata)>> {
    let mut found = Vec::new();
    for (system, path, meta) in entries(incoming)? {
        if !meta.is_dir() || !is_name(&system) {
            continue;
        }
        for (name, path, meta) in entries(&path)? {
            if meta.is_dir() && is_name(&name) {
                for (file, path, meta) in entries(&path)? {
                    keep(&mut found, (&system, &name), &file, path, meta);
                }
            } else {
                keep(
                    &mut found,
                    (&system, layerfmt::manifest::DEFAULT_PROFILE),
                    &name,
                    path,
                    meta,
                );
            }
        }
    }
    // By time of change, then name: the order in which they were dropped, as far as we can tell.
    found.sort_by_key(|(path, _, meta)| (meta.mtime(), meta.mtime_nsec(), path.clone()));
    Ok(found)
}

fn keep(
    found: &mut Vec<(PathBuf, Target, Metadata)>,
    (system, profile): (&str, &str),
    file: &str,
    path: PathBuf,
    meta: Metadata,
) {
    if meta.is_file() && file.ends_with(SUFFIX) && !file.starts_with('.') {
        let target = Target {
            system: system.to_owned(),
            profile: profile.to_owned(),
        };
        found.push((path, target, meta));
    }
}

/// What is in a directory, without following links; nothing, if it went away meanwhile.
fn entries(directory: &Path) -> io::Result<Vec<(String, PathBuf, Metadata)>> {
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry?;
        // Gone between listing and asking: not there.
        if let (Ok(meta), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) {
            entries.push((name, entry.path(), meta));
        }
    }
    Ok(entries)
}
