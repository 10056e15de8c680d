//! Options of a remote root.

use std::path::PathBuf;
use std::time::Duration;

use wire::manifest::{DEFAULT_RING, ProfileName, is_machine_id};
use wire::trust::AllowedSigners;

use crate::net::address::{Address, AddressError, ServerName};
use crate::options::parse_len;
use crate::prefetch::Policy;

/// Default memory cache of stored chunks: an eighth of the machine's memory, at most this.
const MEMORY_LEN_MAX: u64 = 256 << 20;
/// Default size of the disk cache.
const DISK_LEN_DEFAULT: u64 = 4 << 30;
/// Default time for servers to answer before a start from local storage.
const OFFLINE_WAIT_DEFAULT: Duration = Duration::from_secs(8);
/// Default directory of the values in the running system.
const VALUES_DIR_DEFAULT: &str = "/run/layerfs/values";
/// The initramfs's file of trusted keys.
pub(crate) const KEYS_DEFAULT: &str = "/etc/layerfs/trust/root.allowed_signers";
/// The file of client keys of a bakery on the same machine.
const KEYS_OF_BAKERY: &str = "/var/lib/layerfs/store.keys/allowed_signers";

/// All options of a remote root.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// The address to mount.
    pub address: Address,
    /// Other servers with the same store.
    pub mirrors: Vec<ServerName>,
    /// The file of keys that may sign.
    pub keys: PathBuf,
    /// Revisions below this are refused.
    pub min_revision: u64,
    /// The ring of this machine.
    pub ring: String,
    /// The id of this machine and the number of its values record, if it has values.
    pub values: Option<(String, u64)>,
    /// Directory of the values in the running system.
    pub values_dir: PathBuf,
    /// Size of the memory cache of stored chunks, bytes.
    pub memory_len: u64,
    /// Directory and size of the disk cache.
    pub cache: Option<(PathBuf, u64)>,
    /// Directory of the backup.
    pub backup: Option<PathBuf>,
    /// Time without a server after which reads fail; `None`: they wait forever.
    pub timeout: Option<Duration>,
    /// Time to wait for a server if a local copy can be mounted.
    pub offline_wait: Duration,
    /// The amount of prefetching.
    pub prefetch: Policy,
    /// Bytes per second for prefetch.
    pub prefetch_rate: Option<u64>,
    /// True if the boot is recorded.
    pub trace: bool,
    /// The machine sends hellos.
    pub reports: bool,
    /// Messages go to the console too.
    pub console: bool,
}

/// A wrong option.
#[derive(Debug, thiserror::Error)]
pub enum RemoteOptionError {
    /// The address or a mirror's.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A value that does not parse.
    #[error("mount option {name}={value}: {wants}")]
    Value {
        /// Name of the option.
        name: String,
        /// The given value.
        value: String,
        /// The accepted values.
        wants: &'static str,
    },
}

/// The trusted keys of this machine, else those of a bakery on it.
fn keys_default() -> PathBuf {
    let bakery = PathBuf::from(KEYS_OF_BAKERY);
    match PathBuf::from(KEYS_DEFAULT) {
        own if own.exists() || !bakery.exists() => own,
        _ => bakery,
    }
}

/// The form of a ring's name: that of a profile.
const RING_FORM: &str = "wants a name: 1 to 64 of a-z 0-9 . _ -";

fn ring_name(text: &str) -> Option<String> {
    let sound = ProfileName::new(DEFAULT_RING, text);
    sound.is_ok().then(|| text.to_owned())
}

fn machine_and_number(text: &str) -> Option<(String, u64)> {
    let (machine, number) = text.rsplit_once(':')?;
    is_machine_id(machine).then_some((machine.to_owned(), number.parse().ok()?))
}

impl RemoteOptions {
    /// The defaults.
    ///
    /// # Errors
    /// `url` is not an address.
    pub fn new(url: &str) -> Result<RemoteOptions, RemoteOptionError> {
        Ok(RemoteOptions {
            address: Address::parse(url)?,
            mirrors: Vec::new(),
            keys: keys_default(),
            min_revision: 0,
            ring: DEFAULT_RING.to_owned(),
            values: None,
            values_dir: PathBuf::from(VALUES_DIR_DEFAULT),
            memory_len: memory_default(),
            cache: None,
            backup: None,
            timeout: None,
            offline_wait: OFFLINE_WAIT_DEFAULT,
            prefetch: Policy::Auto,
            prefetch_rate: None,
            trace: true,
            reports: true,
            console: false,
        })
    }

    /// Extracts the mount options for the network side.
    ///
    /// # Errors
    /// The first invalid one.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), RemoteOptionError> {
        let wrong = |wants| RemoteOptionError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            wants,
        };
        let seconds = || {
            value
                .parse()
                .map(Duration::from_secs)
                .map_err(|_| wrong("wants seconds"))
        };
        let len = || parse_len(value).ok_or_else(|| wrong("wants a size: 512M, 4G"));
        match name {
            "mirror" => self.mirrors.push(ServerName::parse(value)?),
            "keys" => self.keys = PathBuf::from(value),
            "profile" => self.address.profile = value.to_owned(),
            "revision" => {
                let revision = value.parse().map_err(|_| wrong("wants a number"))?;
                self.address.revision = Some(revision);
            }
            "min-revision" => {
                self.min_revision = value.parse().map_err(|_| wrong("wants a number"))?
            }
            "ring" => self.ring = ring_name(value).ok_or_else(|| wrong(RING_FORM))?,
            "values" => {
                let values = machine_and_number(value);
                self.values = Some(values.ok_or_else(|| wrong("wants MACHINE:NUMBER"))?);
            }
            "values-dir" => self.values_dir = PathBuf::from(value),
            "cache" => {
                let len = self
                    .cache
                    .as_ref()
                    .map_or(DISK_LEN_DEFAULT, |(_, len)| *len);
                self.cache = Some((PathBuf::from(value), len));
            }
            "cache-size" => {
                let len = len()?;
                match &mut self.cache {
                    Some((_, size)) => *size = len,
                    None => return Err(wrong("needs cache=DIR before it")),
                }
            }
            "cache-memory" => self.memory_len = len()?,
            "backup" => self.backup = Some(PathBuf::from(value)),
            "timeout" => self.timeout = Some(seconds()?),
            "offline-wait" => self.offline_wait = seconds()?,
            "prefetch" => {
                self.prefetch = value
                    .parse()
                    .map_err(|_| wrong("wants auto, all, pack or none"))?
            }
            "prefetch-rate" => self.prefetch_rate = Some(len()?),
            "trace" => {
                self.trace = match value {
                    "on" | "" => true,
                    "off" => false,
                    _ => return Err(wrong("wants on or off")),
                }
            }
            "report" => {
                self.reports = match value {
                    "yes" | "" => true,
                    "no" => false,
                    _ => return Err(wrong("wants yes or no")),
                }
            }
            _ => return Err(wrong("no such option for a remote root")),
        }
        Ok(())
    }

    /// Reads the trusted keys.
    ///
    /// # Errors
    /// There are none: nothing could be verified.
    pub fn anchors(&self) -> Result<AllowedSigners, String> {
        let path = self.keys.display();
        let text = std::fs::read_to_string(&self.keys).map_err(|error| {
            format!("cannot read the trusted keys {path}: {error}; name them with -o keys=FILE")
        })?;
        let anchors = AllowedSigners::parse(&text)
            .map_err(|error| format!("trusted keys {path}: {error}"))?;
        if anchors.is_empty() {
            return Err(format!(
                "trusted keys {path}: the file has no keys, so no revision can be verified"
            ));
        }
        Ok(anchors)
    }
}

fn memory_default() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| {
        let kib = line
            .strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix("kB")?
            .trim();
        kib.parse::<u64>().ok()
    });
    total.map_or(MEMORY_LEN_MAX, |kib| (kib * 1024 / 8).min(MEMORY_LEN_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_its_options_and_refuses_the_rest() {
        let mut options = RemoteOptions::new("http://server/kiosk").unwrap();
        for (name, value) in [
            ("mirror", "http://m1/x"),
            ("mirror", "http://m2:81"),
            ("cache", "/c"),
            ("cache-size", "2G"),
            ("timeout", "30"),
            ("prefetch", "pack"),
            ("prefetch-rate", "500K"),
            ("revision", "7"),
        ] {
            options.set(name, value).unwrap();
        }
        assert_eq!(options.mirrors.len(), 2);
        assert_eq!(options.cache, Some((PathBuf::from("/c"), 2 << 30)));
        assert_eq!(options.address.revision, Some(7));
        assert_eq!(
            (options.prefetch, options.prefetch_rate),
            (Policy::Pack, Some(500 << 10))
        );
        for (name, value) in [
            ("timeout", "x"),
            ("cache-size", "1X"),
            ("nonsense", ""),
            ("prefetch", "some"),
        ] {
            assert!(options.set(name, value).is_err(), "{name}");
        }
        assert!(
            RemoteOptions::new("http://s/k")
                .unwrap()
                .set("cache-size", "1G")
                .is_err()
        );
    }
}
