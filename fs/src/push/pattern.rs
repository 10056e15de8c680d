//! `--exclude` patterns.

/// A pattern: `*` and `?` stay within one name, `**` does not. With a leading `/` it is matched
/// from the root, without any `/` against every name, otherwise at any depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Vec<u8>,
}

impl Pattern {
    /// Reads a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim_end_matches('/');
        let text = match text.strip_prefix('/') {
            Some(anchored) => anchored.to_owned(),
            None => format!("**/{text}"),
        };
        Self {
            text: text.into_bytes(),
        }
    }

    /// Whether a path (relative to the root, no leading slash) is meant. What lies below a
    /// directory that matches is left out with it, by the walk.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        matches(&self.text, path)
    }
}

/// Iterative matching with one resume point for `*` and one for `**`: the work is bounded by
/// pattern × path, whatever stars a pattern has.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let (mut p, mut s) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let mut deep: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), path.get(s)) {
            (Some(b'*'), _) if pattern.get(p + 1) == Some(&b'*') => {
                // "**/" may also stand for nothing at all.
                p += 2;
                if pattern.get(p) == Some(&b'/') {
                    p += 1;
                }
                deep = Some((p, s));
                star = None;
                continue;
            }
            (Some(b'*'), _) => {
                p += 1;
                star = Some((p, s));
                continue;
            }
            (None, None) => return true,
            (Some(b'?'), Some(byte)) if *byte != b'/' => {
                (p, s) = (p + 1, s + 1);
                continue;
            }
            (Some(want), Some(byte)) if want == byte && *want != b'?' => {
                (p, s) = (p + 1, s + 1);
                continue;
            }
            _ => {}
        }
        // A mismatch: let the last star take one byte more.
        if let Some((after, at)) = star
            && path.get(at).is_some_and(|byte| *byte != b'/')
        {
            star = Some((after, at + 1));
            (p, s) = (after, at + 1);
        } else if let Some((after, at)) = deep
            && at < path.len()
        {
            // At the beginning of a name only, when "**/" was meant.
            let at = next_start(pattern, after, path, at);
            deep = Some((after, at));
            star = None;
            (p, s) = (after, at);
        } else {
            return false;
        }
    }
}

fn next_start(pattern: &[u8], after: usize, path: &[u8], at: usize) -> usize {
    let slash_before = after.checked_sub(1).and_then(|before| pattern.get(before)) == Some(&b'/');
    if !slash_before {
        return at + 1;
    }
    let rest = path.get(at..).unwrap_or_default();
    rest.iter()
        .position(|byte| *byte == b'/')
        .map_or(path.len(), |slash| at + slash + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_people_expect() {
        for (pattern, path, expected) in [
            ("*.log", "var/log/messages.log", true),
            ("*.log", "x.log", true),
            ("*.log", "x.logs", false),
            ("cache", "var/cache", true),
            ("cache", "var/cached", false),
            ("cache", "mycache", false),
            ("cache/", "var/cache", true),
            ("/cache", "var/cache", false),
            ("/var/cache", "var/cache", true),
            ("/var/*", "var/cache", true),
            ("/var/*", "var/cache/apt", false),
            ("/var/**", "var/cache/apt", true),
            ("/home/*/.cache", "home/ann/.cache", true),
            ("/home/*/.cache", "home/ann/x/.cache", false),
            ("/home/**/.cache", "home/ann/x/.cache", true),
            ("/home/**/.cache", "home/.cache", true),
            ("apt/archives", "var/cache/apt/archives", true),
            ("apt/archives", "xapt/archives", false),
            ("?.c", "src/a.c", true),
            ("?.c", "src/ab.c", false),
            ("a*b*c", "x/axxbxxc", true),
            ("a*b*c", "x/axxb/xxc", false),
            ("*", "any/thing", true),
            ("**", "any/thing", true),
            ("/a?b", "a/b", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(path.as_bytes()),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn a_hostile_pattern_is_no_hang() {
        let pattern = Pattern::new(&"*a".repeat(200));
        assert!(
            !pattern.matches(
                &[b'a'; 4000]
                    .map(|_| b'a')
                    .iter()
                    .copied()
                    .chain([b'b'])
                    .collect::<Vec<_>>()
            )
        );
    }
}
