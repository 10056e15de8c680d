//! What does not belong in a layer: logs, caches, the identity of one machine.
//!
//! A list of patterns, one a line, read in order; the last one that fits decides:
//! ```text
//! # a comment
//! /var/log/**        everything below, at any depth
//! /etc/*.bak         `*` stays within one directory
//! core.*             without a slash: at any depth
//! /opt/scratch/      with a final slash: the directory and all in it
//! !/var/log/keep.me  takes back what an earlier pattern left out
//! ```

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::source::EntryPath;

/// The patterns used unless one asks for none. Directories stay, as programs expect them.
pub const DEFAULTS: &str = "\
# logs
/var/log/**
/root/.bash_history
/home/*/.bash_history
/root/.lesshst
/home/*/.lesshst
/var/lib/systemd/coredump/**
/var/crash/**
# caches
/var/cache/apt/**
/var/lib/apt/lists/**
/var/cache/dnf/**
/var/cache/yum/**
/var/cache/man/**
/var/cache/ldconfig/**
/root/.cache/**
/home/*/.cache/**
/tmp/**
/var/tmp/**
/run/**
/var/run/**
/dev/**
/proc/**
/sys/**
/swapfile
/swap.img
# the identity of one machine
/etc/machine-id
/var/lib/dbus/machine-id
/etc/ssh/ssh_host_*_key
/etc/ssh/ssh_host_*_key.pub
/etc/openssh/ssh_host_*_key
/etc/openssh/ssh_host_*_key.pub
/var/lib/systemd/random-seed
/var/lib/urandom/random-seed
/var/lib/systemd/credential.secret
/var/lib/NetworkManager/secret_key
/var/lib/NetworkManager/seen-bssids
/var/lib/NetworkManager/timestamps
# leases
/var/lib/dhcp/*.lease*
/var/lib/dhclient/*.lease*
/var/lib/dhcpcd/*.lease*
/var/lib/NetworkManager/*.lease
/var/lib/systemd/network/**
";

/// A list of patterns, ready to be asked.
#[derive(Debug, Clone)]
pub struct Excludes {
    patterns: Vec<Pattern>,
    set: GlobSet,
    sockets: bool,
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    takes_back: bool,
}

/// A line that is no pattern.
#[derive(Debug, thiserror::Error)]
#[error("{place}: line {line}: \"{text}\" is no pattern: {problem}")]
pub struct PatternError {
    place: String,
    line: usize,
    text: String,
    problem: String,
}

impl Default for Excludes {
    /// Leaves nothing out.
    fn default() -> Self {
        Excludes {
            patterns: Vec::new(),
            set: GlobSet::empty(),
            sockets: false,
        }
    }
}

impl Excludes {
    /// The patterns of several texts, each with the name of where it comes from, in order.
    /// `sockets`: leave sockets out as well, which mean nothing without their process.
    ///
    /// # Errors
    /// A line is no pattern.
    pub fn new<'t>(
        texts: impl IntoIterator<Item = (&'t str, &'t str)>,
        sockets: bool,
    ) -> Result<Self, PatternError> {
        let mut patterns = Vec::new();
        let mut set = GlobSetBuilder::new();
        for (place, text) in texts {
            for (number, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let wrong = |problem: String| PatternError {
                    place: place.to_owned(),
                    line: number + 1,
                    text: line.to_owned(),
                    problem,
                };
                let (takes_back, pattern) = match line.strip_prefix('!') {
                    Some(rest) => (true, rest.trim_start()),
                    None => (false, line),
                };
                let glob = glob(pattern).map_err(wrong)?;
                let built = GlobBuilder::new(&glob).literal_separator(true).build();
                set.add(built.map_err(|problem| wrong(problem.kind().to_string()))?);
                patterns.push(Pattern {
                    text: line.to_owned(),
                    takes_back,
                });
            }
        }
        let set = set.build().map_err(|problem| PatternError {
            place: "patterns".to_owned(),
            line: 0,
            text: String::new(),
            problem: problem.to_string(),
        })?;
        Ok(Excludes {
            patterns,
            set,
            sockets,
        })
    }

    /// The default patterns, then those of `texts`.
    ///
    /// # Errors
    /// As [`Excludes::new`].
    pub fn with_defaults<'t>(
        texts: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Result<Self, PatternError> {
        Self::new(std::iter::once(("defaults", DEFAULTS)).chain(texts), true)
    }

    /// The pattern that leaves `path` out. Directories stay unless a pattern names them with a
    /// final slash or leaves out a directory they are in.
    #[must_use]
    pub fn pattern_for(&self, path: &EntryPath, is_directory: bool) -> Option<&str> {
        if self.patterns.is_empty() {
            return None;
        }
        let text = |path: &EntryPath, end: &str| {
            let lossless = std::str::from_utf8(path.as_bytes()).ok();
            lossless.map_or_else(
                || format!("/{}{end}", path.as_bytes().escape_ascii()),
                |path| format!("/{path}{end}"),
            )
        };
        let end = if is_directory { "/" } else { "" };
        self.last_match(&text(path, end))
    }

    fn last_match(&self, candidate: &str) -> Option<&str> {
        let last = self.set.matches(candidate).into_iter().max()?;
        let pattern = self.patterns.get(last)?;
        (!pattern.takes_back).then_some(&*pattern.text)
    }

    /// Whether sockets are left out.
    #[must_use]
    pub fn leave_out_sockets(&self) -> bool {
        self.sockets
    }
}

/// A pattern as a glob over paths that begin with `/`; a directory's path ends with one too.
fn glob(pattern: &str) -> Result<String, String> {
    if pattern.is_empty() || pattern == "/" {
        return Err("it would leave out everything".to_owned());
    }
    let (pattern, is_directory) = match pattern.strip_suffix('/') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let anchored = pattern.contains('/');
    let rooted = match (anchored, pattern.strip_prefix('/')) {
        (_, Some(rest)) => format!("/{rest}"),
        (true, None) => format!("/{pattern}"),
        (false, None) => format!("/**/{pattern}"),
    };
    // A path that ends with `/` is only met by a pattern that allows it: below a directory that
    // is left out whole, or by the directory's own pattern.
    Ok(match (is_directory, rooted.strip_suffix("/**")) {
        (true, _) => format!("{rooted}/**"),
        (false, Some(_)) => format!("{rooted}/*[!/]"),
        (false, None) => rooted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(excludes: &Excludes, path: &str) -> bool {
        let is_directory = path.ends_with('/');
        let path = EntryPath::parse(path.as_bytes()).unwrap();
        excludes.pattern_for(&path, is_directory).is_some()
    }

    #[test]
    fn patterns_mean_what_the_manual_says() {
        let text = "/var/log/**\n*.tmp\n/etc/*.bak\n/opt/scratch/\n!/var/log/keep.me\n# no\n\nx/y";
        let excludes = Excludes::new([("test", text)], false).unwrap();
        for path in [
            "var/log/a",
            "var/log/a/b/c",
            "deep/er/a.tmp",
            "a.tmp",
            "etc/a.bak",
            "opt/scratch/",
            "opt/scratch/a",
            "opt/scratch/a/",
            "opt/scratch/a/b",
            "x/y",
        ] {
            assert!(left_out(&excludes, path), "{path} should be left out");
        }
        for path in [
            "var/log/",
            "var/log/nginx/",
            "var/log/keep.me",
            "var/logs/a",
            "etc/d/a.bak",
            "etc/a.bak.d/x",
            "opt/scratch",
            "opt/scratch2/a",
            "a.tmp/",
            "no",
            "z/x/y",
        ] {
            assert!(!left_out(&excludes, path), "{path} should stay");
        }
    }

    #[test]
    fn defaults_keep_what_systems_need() {
        let excludes = Excludes::with_defaults([("profile", "!/etc/machine-id")]).unwrap();
        for path in [
            "var/cache/debconf/config.dat",
            "var/log/journal/",
            "tmp/",
            "etc/machine-id",
        ] {
            assert!(!left_out(&excludes, path), "{path} should stay");
        }
        for path in [
            "var/log/syslog",
            "var/cache/apt/archives/x.deb",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/ssh/ssh_host_rsa_key.pub",
            "var/lib/dhcp/dhclient.leases",
            "home/u/.cache/a/b",
        ] {
            assert!(left_out(&excludes, path), "{path} should be left out");
        }
    }

    #[test]
    fn wrong_patterns_are_named() {
        let error = Excludes::new([("list.txt", "good\n[a\n")], false)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("list.txt: line 2") && error.contains("[a"),
            "{error}"
        );
        assert!(Excludes::new([("x", "/")], false).is_err());
    }
}
