//! The contents of `incoming/`: uploads and other files.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use wire::manifest::{DEFAULT_PROFILE, is_name};

use crate::jobs::Target;

/// Suffix of a dropped upload.
const SUFFIX: &str = ".tar.zst";
/// Suffix of an incomplete upload.
const PART: &str = ".part";

/// A dropped file.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) path: PathBuf,
    pub(super) target: Target,
    pub(super) meta: Metadata,
}

/// All files found there.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// `<system>/X.tar.zst` and `<system>/<profile>/X.tar.zst`, in the order in which they were dropped.
    pub(super) uploads: Vec<Upload>,
    /// The directories in which uploads may appear.
    pub(super) directories: HashSet<PathBuf>,
    /// Ignored files with their reasons, and unreadable directories.
    pub(super) passed_over: HashMap<PathBuf, String>,
}

/// Reads all of it. An unreadable directory affects only its own contents.
pub(super) fn read(incoming: &Path) -> io::Result<Inbox> {
    let mut inbox = Inbox::default();
    for (system, path, meta) in entries(incoming)? {
        if system.starts_with('.') {
            continue;
        }
        if !meta.is_dir() {
            inbox.pass_over(
                path,
                "uploads belong in incoming/SYSTEM or incoming/SYSTEM/PROFILE",
            );
        } else if !is_name(&system) {
            inbox.pass_over(path, NO_NAME);
        } else {
            inbox.directory(&path, &system, None);
        }
    }
    // By time of change, then name: approximately the order in which they were dropped.
    inbox.uploads.sort_by(|one, other| {
        let key = |upload: &Upload| (upload.meta.mtime(), upload.meta.mtime_nsec());
        key(one)
            .cmp(&key(other))
            .then_with(|| one.path.cmp(&other.path))
    });
    Ok(inbox)
}

const NO_NAME: &str =
    "it is not the name of a system or profile (a-z, 0-9, '.', '_', '-', first a letter or digit)";

impl Inbox {
    fn pass_over(&mut self, path: PathBuf, why: impl Into<String>) {
        self.passed_over.insert(path, why.into());
    }

    fn directory(&mut self, directory: &Path, system: &str, profile: Option<&str>) {
        let listing = match entries(directory) {
            Ok(listing) => listing,
            Err(error) => {
                self.pass_over(directory.to_owned(), format!("it cannot be read: {error}"));
                return;
            }
        };
        self.directories.insert(directory.to_owned());
        for (name, path, meta) in listing {
            if name.starts_with('.') || name.ends_with(PART) {
                continue;
            }
            match (meta.is_dir(), profile) {
                (true, None) if is_name(&name) => self.directory(&path, system, Some(&name)),
                (true, None) => self.pass_over(path, NO_NAME),
                (true, Some(_)) => self.pass_over(path, "it is a directory inside a profile's"),
                (false, _) if !meta.is_file() => self.pass_over(path, "it is not a regular file"),
                (false, _) if !name.ends_with(SUFFIX) => {
                    self.pass_over(path, "an upload's name ends with .tar.zst");
                }
                (false, profile) => self.uploads.push(Upload {
                    path,
                    target: Target {
                        system: system.to_owned(),
                        profile: profile.unwrap_or(DEFAULT_PROFILE).to_owned(),
                    },
                    meta,
                }),
            }
        }
    }
}

/// The entries of a directory, without following links; none if it has disappeared.
fn entries(directory: &Path) -> io::Result<Vec<(String, PathBuf, Metadata)>> {
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.metadata() {
            Ok(meta) => entries.push((name, entry.path(), meta)),
            // Deleted between listing and stat: does not exist.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(entries)
}
