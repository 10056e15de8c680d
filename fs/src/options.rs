//! Mount options: the text after `-o`, as mount(8), fstab and systemd write it.

use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::MountFlags;

/// Decoded chunks kept in memory unless said otherwise, bytes.
const CACHE_LEN_DEFAULT: u64 = 64 << 20;
/// How long to wait for another mount to let go of the work directory.
const WAIT_DEFAULT: Duration = Duration::from_secs(10);

/// Everything `-o` can say.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Layer files, **base first** (the option has them top first, as overlayfs).
    pub layers: Vec<PathBuf>,
    /// The writable directory.
    pub upper: Option<PathBuf>,
    /// Its staging directory.
    pub work: Option<PathBuf>,
    /// The name in the mount table.
    pub name: Option<String>,
    /// Flags of the mount itself: `ro`, `nosuid`, …
    pub flags: MountFlags,
    /// Files of the upper are read and written past the daemon.
    pub passthrough: bool,
    /// Do not force data to the disk at copy-up.
    pub volatile: bool,
    /// Bytes of decoded chunks to keep.
    pub cache_len: u64,
    /// Threads that answer requests; `None`: one per processor, at least two.
    pub threads: Option<usize>,
    /// How long to wait for the work directory.
    pub wait: Duration,
    /// Behave as the daemon of a root file system.
    pub root_duty: bool,
    /// Where messages go once in the background.
    pub log: Option<PathBuf>,
    /// Change the flags of an existing mount.
    pub remount: bool,
    /// Options for the network side, as they were given: `name`, `value`.
    pub remote: Vec<(String, String)>,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            layers: Vec::new(),
            upper: None,
            work: None,
            name: None,
            flags: MountFlags::empty(),
            passthrough: false,
            volatile: false,
            cache_len: CACHE_LEN_DEFAULT,
            threads: None,
            wait: WAIT_DEFAULT,
            root_duty: false,
            log: None,
            remount: false,
            remote: Vec::new(),
        }
    }
}

/// A wrong option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Not one of ours.
    #[error("unknown mount option {0:?}: see `layerfs mount --help`")]
    Unknown(String),
    /// Its value does not parse.
    #[error("mount option {name}={value}: {wants}")]
    Value {
        /// The option.
        name: String,
        /// What was given.
        value: String,
        /// What is wanted.
        wants: &'static str,
    },
    /// upperdir without workdir, or the other way round.
    #[error("upperdir and workdir go together: give both or none")]
    Halves,
}

/// Options of mount(8) and systemd that mean nothing to a file system.
const IGNORED: [&str; 23] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "suid",
    "dev",
    "exec",
    "async",
    "atime",
    "diratime",
    "relatime",
    "norelatime",
    "strictatime",
    "allow_other",
    "default_permissions",
    "silent",
    "loud",
];

/// What the kernel shows of a FUSE mount, and mount(8) hands back at a remount.
const FUSE_OWN: [&str; 7] = [
    "fd", "rootmode", "user_id", "group_id", "max_read", "blksize", "subtype",
];

/// Options of overlayfs that describe what we always do, accepted so that lines can be copied.
const OVERLAYFS: [&str; 5] = ["redirect_dir", "metacopy", "index", "xino", "userxattr"];

/// Prefixes and names handed to the network side.
const REMOTE: [&str; 11] = [
    "profile",
    "revision",
    "mirror",
    "cache",
    "keys",
    "backup",
    "timeout",
    "prefetch",
    "min-revision",
    "offline-wait",
    "trace",
];

impl MountOptions {
    /// Read one `-o` text over what is already known.
    ///
    /// # Errors
    /// The first wrong option.
    pub fn parse(&mut self, text: &str) -> Result<(), OptionError> {
        for option in split_escaped(text, ',')
            .iter()
            .filter(|option| !option.is_empty())
        {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            self.set(name, value)?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), OptionError> {
        let wrong = |wants| OptionError::Value {
            name: name.to_owned(),
            value: value.unwrap_or_default().to_owned(),
            wants,
        };
        let text = || {
            value
                .filter(|value| !value.is_empty())
                .ok_or_else(|| wrong("needs a value"))
        };
        let path = || text().map(|text| PathBuf::from(unescape(text)));
        if let Some(flag) = flag(name) {
            self.flags |= flag;
            return Ok(());
        }
        match name {
            "lowerdir" => {
                self.layers = split_escaped(text()?, ':')
                    .iter()
                    .rev()
                    .map(|p| unescape(p).into())
                    .collect();
            }
            "upperdir" => self.upper = Some(path()?),
            "workdir" => self.work = Some(path()?),
            "fsname" => self.name = Some(text()?.to_owned()),
            "log" => self.log = Some(path()?),
            "passthrough" => self.passthrough = true,
            "volatile" => self.volatile = true,
            "root-duty" => self.root_duty = true,
            "remount" => self.remount = true,
            "rw" => self.flags -= MountFlags::RDONLY,
            "chunk-cache" => {
                self.cache_len = parse_len(text()?).ok_or_else(|| wrong("wants a size: 64M"))?;
            }
            "threads" => {
                let count = text()?
                    .parse()
                    .ok()
                    .filter(|count| (1..=256).contains(count));
                self.threads = Some(count.ok_or_else(|| wrong("wants a number from 1 to 256"))?);
            }
            "wait" => {
                let seconds = text()?
                    .parse()
                    .map_err(|_| wrong("wants a number of seconds"))?;
                self.wait = Duration::from_secs(seconds);
            }
            _ if [&IGNORED[..], &OVERLAYFS, &FUSE_OWN]
                .iter()
                .any(|known| known.contains(&name)) => {}
            _ if name.starts_with("x-") || name.starts_with("comment") => {}
            _ if REMOTE.iter().any(|prefix| name.starts_with(prefix)) => {
                self.remote
                    .push((name.to_owned(), value.unwrap_or_default().to_owned()));
            }
            _ => return Err(OptionError::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// The upper and its work directory.
    ///
    /// # Errors
    /// Only one of the two was given.
    pub fn upper(&self) -> Result<Option<(&PathBuf, &PathBuf)>, OptionError> {
        match (&self.upper, &self.work) {
            (None, None) => Ok(None),
            (Some(upper), Some(work)) => Ok(Some((upper, work))),
            _ => Err(OptionError::Halves),
        }
    }

    /// Layer files from the first argument of mount(8): `top.layer:…:base.layer`.
    pub fn set_source(&mut self, source: &str) {
        if self.layers.is_empty() {
            self.layers = split_escaped(source, ':')
                .iter()
                .rev()
                .map(|path| unescape(path).into())
                .collect();
        }
    }
}

fn flag(name: &str) -> Option<MountFlags> {
    Some(match name {
        "ro" => MountFlags::RDONLY,
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "sync" => MountFlags::SYNCHRONOUS,
        "dirsync" => MountFlags::DIRSYNC,
        _ => return None,
    })
}

/// Split at `separator`; a backslash keeps the next character together with what is before it.
fn split_escaped(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        if character == separator && !escaped {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(character);
        }
        escaped = character == '\\' && !escaped;
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut escaped = false;
    for character in text.chars() {
        if character == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(character);
            escaped = false;
        }
    }
    out
}

/// A number of bytes with an optional K, M or G.
fn parse_len(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 10),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, 20),
            None => match text.strip_suffix(['G', 'g']) {
                Some(digits) => (digits, 30),
                None => (text, 0),
            },
        },
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MountOptions, OptionError> {
        let mut options = MountOptions::default();
        options.parse(text).map(|()| options)
    }

    #[test]
    fn lowerdir_is_top_first_outside_and_base_first_inside() {
        let options = parse("lowerdir=/c:/b\\:x:/a,upperdir=/u,workdir=/w,ro").unwrap();
        let layers: Vec<_> = options.layers.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(layers, ["/a", "/b:x", "/c"]);
        assert_eq!(options.upper().unwrap().unwrap().0.to_str(), Some("/u"));
        assert!(options.flags.contains(MountFlags::RDONLY));
    }

    #[test]
    fn commas_in_paths_are_escaped() {
        let options = parse("upperdir=/u\\,1,workdir=/w").unwrap();
        assert_eq!(options.upper.unwrap().to_str(), Some("/u,1"));
    }

    #[test]
    fn fstab_and_overlayfs_words_are_accepted_others_refused() {
        assert!(parse("defaults,nofail,x-systemd.automount,metacopy=on,index=off").is_ok());
        assert_eq!(
            parse("upprdir=/x").unwrap_err(),
            OptionError::Unknown("upprdir".into())
        );
        assert!(matches!(
            parse("threads=0").unwrap_err(),
            OptionError::Value { .. }
        ));
        assert!(matches!(
            parse("upperdir=").unwrap_err(),
            OptionError::Value { .. }
        ));
        assert_eq!(
            parse("upperdir=/u").unwrap().upper().unwrap_err(),
            OptionError::Halves
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(parse("chunk-cache=64M").unwrap().cache_len, 64 << 20);
        assert!(parse("chunk-cache=lots").is_err());
    }
}
