//! Mount options: the text after `-o`, as mount(8), fstab and systemd write it.

mod mount_flags;

use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::MountFlags;

/// Default cache of decoded chunks, bytes.
pub(crate) const CACHE_LEN_DEFAULT: u64 = 64 << 20;
/// Default time to wait for another mount to release the work directory.
const WAIT_DEFAULT: Duration = Duration::from_secs(10);

/// The attribute of the root with which a remount passes the flags for access times to the daemon:
/// a text as after `-o`.
pub(crate) const ACCESS_TIMES_XATTR: &[u8] = b"user.layerfs.access-times";

/// All options of `-o`.
#[derive(Debug, Clone)]
pub(crate) struct MountOptions {
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
    /// Bytes of decoded chunks to keep; `None`: the default, and more in reclaimable memory.
    pub cache_len: Option<u64>,
    /// Threads that answer requests; `None`: one per processor, 2 to 16.
    pub threads: Option<usize>,
    /// Time to wait for the work directory.
    pub wait: Duration,
    /// Behave as the daemon of a root file system.
    pub root_duty: bool,
    /// The mount is the lower directory of an overlayfs: it never switches, and the kernel passes reports to
    /// it although it has no upper.
    pub overlay_lower: bool,
    /// Destination of messages in the background.
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
            cache_len: None,
            threads: None,
            wait: WAIT_DEFAULT,
            root_duty: false,
            overlay_lower: false,
            log: None,
            remount: false,
            remote: Vec::new(),
        }
    }
}

/// A wrong option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    /// An unknown option.
    #[error("unknown mount option {0:?}: see `layerfs mount --help`")]
    Unknown(String),
    /// Its value does not parse.
    #[error("mount option {name}={value}: {wants}")]
    Value {
        /// Name of the option.
        name: String,
        /// The given value.
        value: String,
        /// The accepted values.
        wants: &'static str,
    },
    /// upperdir without workdir, or the reverse.
    #[error("upperdir and workdir belong together: give both or none")]
    Halves,
}

/// Options that the kernel shows for a FUSE mount, and that mount(8) passes at a remount.
const FUSE_OWN: [&str; 7] = [
    "fd", "rootmode", "user_id", "group_id", "max_read", "blksize", "subtype",
];

/// Options of overlayfs for features that are always enabled here, accepted so that lines can be
/// copied.
const OVERLAYFS: [&str; 5] = ["redirect_dir", "metacopy", "index", "xino", "userxattr"];

/// Options for the network side, which parses their values.
const REMOTE: [&str; 18] = [
    "profile",
    "revision",
    "min-revision",
    "ring",
    "values",
    "values-dir",
    "mirror",
    "keys",
    "cache",
    "cache-size",
    "cache-memory",
    "backup",
    "timeout",
    "offline-wait",
    "prefetch",
    "prefetch-rate",
    "report",
    "trace",
];

impl MountOptions {
    /// Parses one `-o` text in addition to known options.
    ///
    /// # Errors
    /// The first invalid option.
    pub(crate) fn parse(&mut self, text: &str) -> Result<(), OptionError> {
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
        if let Some(flags) = mount_flags::apply(self.flags, name) {
            self.flags = flags;
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
            "overlay-lower" => self.overlay_lower = true,
            "remount" => self.remount = true,
            "chunk-cache" => {
                let len = parse_len(text()?).ok_or_else(|| wrong("wants a size: 64M"))?;
                self.cache_len = Some(len);
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
            _ if OVERLAYFS.contains(&name) || FUSE_OWN.contains(&name) => {}
            _ if REMOTE.contains(&name) => {
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
    pub(crate) fn upper(&self) -> Result<Option<(&PathBuf, &PathBuf)>, OptionError> {
        match (&self.upper, &self.work) {
            (None, None) => Ok(None),
            (Some(upper), Some(work)) => Ok(Some((upper, work))),
            _ => Err(OptionError::Halves),
        }
    }

    /// Layer files from the first argument of mount(8): `top.layer:…:base.layer`.
    pub(crate) fn set_source(&mut self, source: &str) {
        if self.layers.is_empty() {
            self.layers = split_escaped(source, ':')
                .iter()
                .rev()
                .map(|path| unescape(path).into())
                .collect();
        }
    }
}

/// The flags for times of access among `flags`, as a text for [`ACCESS_TIMES_XATTR`]; empty: there are none.
pub(crate) fn access_times(flags: MountFlags) -> String {
    let named = [
        ("relatime", MountFlags::RELATIME),
        ("noatime", MountFlags::NOATIME),
        ("strictatime", MountFlags::STRICTATIME),
        ("nodiratime", MountFlags::NODIRATIME),
    ];
    let given = named.iter().filter(|(_, flag)| flags.contains(*flag));
    given.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

/// `text` without the unknown options, and their names, for `mount -s`.
pub(crate) fn without_unknown(text: &str) -> (String, Vec<String>) {
    let mut unknown = Vec::new();
    let mut kept = split_escaped(text, ',');
    kept.retain(|option| match MountOptions::default().parse(option) {
        Err(OptionError::Unknown(name)) => {
            unknown.push(name);
            false
        }
        _ => true,
    });
    (kept.join(","), unknown)
}

/// Splits at `separator`; a backslash protects the next character.
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
pub(crate) fn parse_len(text: &str) -> Option<u64> {
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

    /// S16.1 "The last of several wins."
    #[test]
    fn s16_1_the_flags_of_mount_8_and_what_takes_them_back() {
        let flags = |text: &str| parse(text).unwrap().flags;
        let both = [
            ("ro", "rw", MountFlags::RDONLY),
            ("nosuid", "suid", MountFlags::NOSUID),
            ("nodev", "dev", MountFlags::NODEV),
            ("noexec", "exec", MountFlags::NOEXEC),
            ("nosymfollow", "symfollow", MountFlags::NOSYMFOLLOW),
            ("sync", "async", MountFlags::SYNCHRONOUS),
            ("silent", "loud", MountFlags::SILENT),
            ("noatime", "atime", MountFlags::NOATIME),
            ("nodiratime", "diratime", MountFlags::NODIRATIME),
            ("relatime", "norelatime", MountFlags::RELATIME),
            ("strictatime", "nostrictatime", MountFlags::STRICTATIME),
            ("lazytime", "nolazytime", MountFlags::LAZYTIME),
        ];
        for (set, clear, flag) in both {
            assert_eq!(flags(&format!("{clear},{set}")), flag, "{clear},{set}");
            let none = MountFlags::empty();
            assert_eq!(flags(&format!("{set},{clear}")), none, "{set},{clear}");
        }
        assert_eq!(flags("dirsync"), MountFlags::DIRSYNC);
        assert_eq!(flags("rw,noatime,relatime"), MountFlags::RELATIME);
        assert_eq!(flags("relatime,strictatime,noatime"), MountFlags::NOATIME);
        assert_eq!(
            flags("noatime,relatime,strictatime"),
            MountFlags::STRICTATIME
        );
        let owner = MountFlags::NOSUID | MountFlags::NODEV;
        assert_eq!((flags("owner"), flags("group")), (owner, owner));
        let user = owner | MountFlags::NOEXEC;
        assert_eq!((flags("user=joe"), flags("users")), (user, user));
        assert_eq!(flags("user,exec,dev"), MountFlags::NOSUID);
    }

    #[test]
    fn flags_for_times_of_access_survive_their_text() {
        for text in ["", "relatime", "noatime,nodiratime", "strictatime"] {
            assert_eq!(access_times(parse(text).unwrap().flags), text);
        }
        assert_eq!(
            access_times(parse("ro,noatime,lazytime").unwrap().flags),
            "noatime"
        );
    }

    /// Statement S16.2 of SEMANTICS.md.
    #[test]
    fn s16_2_words_for_userspace_change_nothing() {
        let words = "defaults,auto,noauto,nofail,_netdev,nouser,nousers,noowner,nogroup,comment=a b,helper=x,uhelper=x,\
            allow_other,default_permissions,mand,nomand,iversion,noiversion,x-systemd.automount,x-systemd.requires=a.service,\
            X-mount.mkdir=0755,x-initrd.mount,metacopy=on,index=off,redirect_dir=on,userxattr";
        let options = parse(words).unwrap();
        assert_eq!(options.flags, MountFlags::empty());
        assert!(options.remote.is_empty());
    }

    /// Statement S16.3 of SEMANTICS.md.
    #[test]
    fn s16_3_what_nobody_knows_is_refused_or_left_out() {
        let refused = "upprdir noauot commentary cachex timeouts xsystemd nosymfollows=1 bind";
        for name in refused.split(' ') {
            let unknown = OptionError::Unknown(name.split('=').next().unwrap().to_owned());
            assert_eq!(parse(name).unwrap_err(), unknown);
        }
        let (kept, unknown) = without_unknown("ro,new=1,upperdir=/a\\,b,other,threads=0");
        assert_eq!(kept, "ro,upperdir=/a\\,b,threads=0");
        assert_eq!(unknown, ["new", "other"]);
    }

    #[test]
    fn what_the_network_side_is_given_it_knows() {
        for name in REMOTE {
            let mut options = crate::root::options::RemoteOptions::new("http://s/k").unwrap();
            let error = options
                .set(name, "")
                .map_or_else(|e| e.to_string(), |()| String::new());
            assert!(!error.contains("no such option"), "{error}");
        }
    }

    #[test]
    fn values_are_checked() {
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
        assert_eq!(parse("chunk-cache=64M").unwrap().cache_len, Some(64 << 20));
        assert_eq!(parse("").unwrap().cache_len, None);
        assert!(parse("chunk-cache=lots").is_err());
    }
}
