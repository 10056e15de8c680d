//! The exclude language, that of `.gitignore`, for bakes, pushes and the watcher.
//!
//! A list has one pattern a line. The last pattern that matches a path decides:
//! ```text
//! # a comment
//! /etc/*.bak         `*`, `?` and `[a-z]` match within one name
//! core.*             without a slash inside: at any depth
//! a/b                with a slash inside: from the root, as /a/b
//! /opt/scratch       a file, or a directory with everything in it
//! /opt/scratch/      the same, if it is a directory
//! /var/cache/x/**    everything in the directory; the directory itself stays
//! /srv/**/old        at any depth below /srv
//! !/etc/keep.bak     includes a path again that an earlier pattern excludes
//! \!name  \#name     a name that begins with `!` or `#`; `\` makes the next character literal
//! ```
//! No pattern includes a path below an excluded directory again. To exclude the files of a tree
//! but not its directories, write `/x/**`, then `!/x/**/`.

mod defaults;
mod glob;

use glob::Glob;

pub use defaults::{DEFAULTS, LIVE_CONFIG, LIVE_STAMPS, PUSH_DEFAULTS};

/// Longest pattern, bytes: a path is never longer.
const PATTERN_LEN_MAX: usize = 4096;

/// A compiled list of patterns.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    rules: Vec<Rule>,
    sockets: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    text: String,
    takes_back: bool,
    directories_only: bool,
    glob: Glob,
}

/// The error of a line that is not a pattern.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: line {line}: \"{text}\" is not a pattern: {problem}")]
pub struct PatternError {
    place: String,
    line: usize,
    text: String,
    problem: String,
}

impl Excludes {
    /// Compiles the patterns of several texts, each with the name of its place, in order. With
    /// `sockets`, sockets are excluded as well: without their process they are useless.
    ///
    /// # Errors
    /// A line is not a pattern.
    pub fn new<'t>(
        texts: impl IntoIterator<Item = (&'t str, &'t str)>,
        sockets: bool,
    ) -> Result<Self, PatternError> {
        let mut rules = Vec::new();
        for (place, text) in texts {
            for (number, line) in text.lines().enumerate() {
                let line = trim(line);
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                rules.push(Rule::parse(line).map_err(|problem| PatternError {
                    place: place.to_owned(),
                    line: number + 1,
                    text: line.to_owned(),
                    problem,
                })?);
            }
        }
        Ok(Self { rules, sockets })
    }

    /// The default patterns, then those of `texts`.
    ///
    /// # Errors
    /// The errors of [`Excludes::new`].
    pub fn with_defaults<'t>(
        texts: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Result<Self, PatternError> {
        Self::new(std::iter::once(("defaults", DEFAULTS)).chain(texts), true)
    }

    /// The pattern that excludes `path`: one that matches it, or one that matches a directory above
    /// it. `path` is relative to the root and has no leading slash.
    #[must_use]
    pub fn pattern_for(&self, path: &[u8], is_directory: bool) -> Option<&str> {
        if self.rules.is_empty() {
            return None;
        }
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut parents = slashes.filter_map(|(end, _)| path.get(..end));
        parents
            .find_map(|parent| self.pattern_naming(parent, true))
            .or_else(|| self.pattern_naming(path, is_directory))
    }

    /// The same for a path whose directory is known not to be excluded.
    #[must_use]
    pub fn pattern_naming(&self, path: &[u8], is_directory: bool) -> Option<&str> {
        let fits =
            |rule: &&Rule| (is_directory || !rule.directories_only) && rule.glob.matches(path);
        let last = self.rules.iter().rev().find(fits)?;
        (!last.takes_back).then_some(&*last.text)
    }

    /// True if sockets are excluded.
    #[must_use]
    pub fn leave_out_sockets(&self) -> bool {
        self.sockets
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Self, String> {
        if line.len() > PATTERN_LEN_MAX {
            return Err(format!("it is longer than {PATTERN_LEN_MAX} bytes"));
        }
        let (takes_back, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, line),
        };
        let (pattern, directories_only) = match pattern.strip_suffix('/') {
            Some(rest) => (rest.trim_end_matches('/'), true),
            None => (pattern, false),
        };
        if pattern.is_empty() {
            return Err("it matches nothing below the root".to_owned());
        }
        let glob = Glob::parse(pattern)?;
        Ok(Self {
            text: line.to_owned(),
            takes_back,
            directories_only,
            glob,
        })
    }
}

/// A line without the white space around it. A last space that a backslash makes literal stays.
fn trim(line: &str) -> &str {
    let line = line.trim_start();
    let trimmed = line.trim_end();
    let backslashes = trimmed.bytes().rev().take_while(|byte| *byte == b'\\');
    if backslashes.count() % 2 == 1 {
        let kept = line.len().min(trimmed.len() + 1);
        return line.get(..kept).unwrap_or(trimmed);
    }
    trimmed
}

#[cfg(test)]
mod tests;
