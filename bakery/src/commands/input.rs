//! The arguments that name a source tree and its excludes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::ProgressBar;

use crate::globals::Globals;
use crate::progress;
use source::open::{SourceOptions, open};
use source::{Limits, Source};
use wire::exclude::Excludes;

/// A tree to read.
#[derive(Debug, clap::Args)]
pub struct Input {
    /// A directory, a tar archive (plain or zstd), a live ISO, a squashfs, EROFS, ext4, XFS or btrfs
    /// image, or the image of a disk; - reads a tar archive from standard input
    pub source: PathBuf,
    /// Exclude paths that match PATTERN (repeatable); a leading ! includes them again
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub exclude: Vec<String>,
    /// Exclude paths that match the patterns in FILE, one a line (repeatable)
    #[arg(long, value_name = "FILE")]
    pub exclude_from: Vec<PathBuf>,
    /// The file inside an ISO that contains the system (default: its place on media of ALT, Debian,
    /// Ubuntu, Fedora, KIWI, Void and Arch)
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,
    /// The partition of a disk image that contains the system, in the kernel's numbering (default:
    /// the one of type "root", else the only one with a /usr)
    #[arg(long, value_name = "NUMBER")]
    pub partition: Option<u32>,
    /// The subvolume of a btrfs file system that contains the system, as a path from the top; / is
    /// the top itself (default: the one that a boot mounts). Subvolumes in its etc/fstab are mounted
    #[arg(long, value_name = "PATH")]
    pub subvolume: Option<String>,
    /// Include other file systems mounted inside a directory
    #[arg(long)]
    pub cross_file_systems: bool,
    /// Directory for temporary copies of images inside images
    #[arg(long, value_name = "DIR", env = "TMPDIR")]
    pub temporary: Option<PathBuf>,
    /// Refuse archives that expand to more than this many bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().expanded_len_max)]
    pub max_bytes: u64,
    /// Refuse archives of more than this many entries
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().entries_max)]
    pub max_entries: u64,
}

impl Input {
    /// The patterns, after the default ones if these are enabled.
    ///
    /// # Errors
    /// A file of patterns cannot be read, or contains an invalid one.
    pub fn excludes(&self, defaults: bool) -> anyhow::Result<Excludes> {
        let mut texts = Vec::new();
        for path in &self.exclude_from {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the patterns in {place}"))?;
            texts.push((place, text));
        }
        texts.push(("--exclude".to_owned(), self.exclude.join("\n")));
        let texts = texts
            .iter()
            .map(|(place, text)| (place.as_str(), text.as_str()));
        Ok(if defaults {
            Excludes::with_defaults(texts)?
        } else {
            Excludes::new(texts, false)?
        })
    }

    /// Opens the source, with a progress bar.
    ///
    /// # Errors
    /// It cannot be opened or its format is not supported.
    pub fn open(&self, globals: &Globals) -> anyhow::Result<(Box<dyn Source>, ProgressBar)> {
        self.open_member(self.member.as_deref(), globals)
    }

    /// The same, with this file inside an ISO.
    ///
    /// # Errors
    /// The errors of [`Input::open`].
    pub(crate) fn open_member(
        &self,
        member: Option<&str>,
        globals: &Globals,
    ) -> anyhow::Result<(Box<dyn Source>, ProgressBar)> {
        let what = Path::new(&self.source)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let bar = progress::bytes(globals, None, &what);
        let options = SourceOptions {
            limits: Limits {
                entries_max: self.max_entries,
                expanded_len_max: self.max_bytes,
            },
            across: self.cross_file_systems,
            member: member.map(str::to_owned),
            partition: self.partition,
            subvolume: self.subvolume.clone(),
            temporary: self.temporary.clone(),
        };
        Ok((open(&self.source, &options)?, bar))
    }
}
