//! `*` and `?` patterns of `SYSTEM/PROFILE`, with the meaning ssh gives them: `*` also crosses
//! the slash.

/// True if `pattern` matches the whole `text`. Takes at most `pattern.len() × text.len()` steps.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    // Position after a mismatch: after the last `*`, one character further in the text.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                pattern = rest;
                retry = Some((rest, text));
                continue;
            }
            (Some((p, pattern_rest)), Some((t, text_rest))) if *p == b'?' || p == t => {
                pattern = pattern_rest;
                text = text_rest;
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((after_star, [_, shorter @ ..])) = retry else {
            return false;
        };
        retry = Some((after_star, shorter));
        pattern = after_star;
        text = shorter;
    }
}

/// True if `pattern` can match a `SYSTEM/PROFILE`: `*` alone, or with exactly one slash.
pub(crate) fn is_sound(pattern: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-*?/".contains(&b);
    let slashes = pattern.bytes().filter(|b| *b == b'/').count();
    pattern.bytes().all(allowed) && (pattern == "*" || slashes == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_ssh() {
        for (pattern, text, expected) in [
            ("*", "alt/main", true),
            ("alt/main", "alt/main", true),
            ("alt/*", "alt/lab-3", true),
            ("alt/*", "altx/lab-3", false),
            ("a*t/l?b*", "alt/lab-3", true),
            ("a*b*c/d", "aXbYbZc/d", true),
            ("a*b*c/d", "aXbYbZ/d", false),
            ("alt/main", "alt/main2", false),
            ("alt/main?", "alt/main", false),
            ("**", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        assert!(!matches(&"*a".repeat(64), &"b".repeat(160)));
    }

    #[test]
    fn a_pattern_names_system_and_profile() {
        assert!(is_sound("*") && is_sound("alt/*"));
        assert!(!is_sound("alt") && !is_sound("a/b/c") && !is_sound("Alt/*") && !is_sound("!a/b"));
    }
}
