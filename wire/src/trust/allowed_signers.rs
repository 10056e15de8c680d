//! The reader's own file of trusted keys, in the form of `ssh-keygen -Y verify -f`.
//!
//! A line is `PRINCIPALS [OPTIONS] ssh-ed25519 BASE64 [COMMENT]`. A principal names the records
//! that the key may sign: `keyset` for a root key, a pattern of `SYSTEM/PROFILE` for one that signs
//! heads without any keyset. Options are `namespaces`, `valid-after` and `valid-before`; times must
//! end in `Z`, because an initramfs has no time zone. Certificates and negated principals are
//! refused: ignoring them would trust more than the file says.

use ssh_key::PublicKey;

use super::envelope::public_key_line;
use super::error::TrustError;
use crate::manifest::Signer;
use crate::pattern;

/// Most bytes of an `allowed_signers` file: 4096 lines of ordinary length.
const TEXT_LEN_MAX: usize = 1 << 20;

/// The trusted keys of a reader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedSigners {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// `systems` holds the principals.
    signer: Signer,
    /// Patterns; none allows all.
    namespaces: Option<Vec<String>>,
}

impl AllowedSigners {
    /// Read the text of an `allowed_signers` file. Empty lines and `#` comments are skipped.
    ///
    /// # Errors
    /// On the first line that cannot be used, with its number.
    pub fn parse(text: &str) -> Result<AllowedSigners, TrustError> {
        if text.len() > TEXT_LEN_MAX {
            let what = "the file is larger than 1 MiB".into();
            return Err(TrustError::AllowedSigners { line: 1, what });
        }
        let mut lines = Vec::new();
        for (number, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let line = parse_line(text)
                .map_err(|what| TrustError::AllowedSigners { line: number, what })?;
            lines.push(line);
        }
        Ok(AllowedSigners { lines })
    }

    /// The keys that may sign keysets; with them a keyset names new root keys.
    pub(crate) fn of_roots(keys: &[String]) -> Result<AllowedSigners, TrustError> {
        let text: String = keys
            .iter()
            .map(|key| {
                let (principal, namespace) = (super::KEYSET_PRINCIPAL, super::KEYSET_NAMESPACE);
                format!("{principal} namespaces=\"{namespace}\" {key}\n")
            })
            .collect();
        AllowedSigners::parse(&text)
    }

    /// The signers in this file with key line `key` that may sign `principal` in `namespace`.
    pub(crate) fn signers<'a>(
        &'a self,
        key: &'a str,
        principal: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Signer> {
        self.lines
            .iter()
            .filter(move |line| {
                let principals = &line.signer.systems;
                line.signer.key == key
                    && principals.iter().any(|p| pattern::matches(p, principal))
                    && line
                        .namespaces
                        .as_ref()
                        .is_none_or(|list| list.iter().any(|p| pattern::matches(p, namespace)))
            })
            .map(|line| &line.signer)
    }

    /// True if the file names no key.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

fn parse_line(text: &str) -> Result<Line, String> {
    let (principals, rest) = take_word(text)?;
    let (second, after) = take_word(rest)?;
    let (options, key_text) = if second.starts_with("ssh-") {
        (String::new(), rest)
    } else {
        (second, after)
    };
    let mut words = key_text.split_ascii_whitespace();
    let (Some(algorithm), Some(base64)) = (words.next(), words.next()) else {
        return Err("not a key line: PRINCIPALS [OPTIONS] ssh-ed25519 BASE64".into());
    };
    let key = PublicKey::from_openssh(&format!("{algorithm} {base64}"))
        .map_err(|e| format!("the key cannot be read: {e}"))
        .and_then(|key| public_key_line(&key).map_err(|e| e.to_string()))?;
    let name = words.collect::<Vec<_>>().join(" ");
    let name = if name.is_empty() {
        principals.clone()
    } else {
        name
    };
    let mut line = Line {
        signer: Signer {
            key,
            name,
            revoked: false,
            systems: principals.split(',').map(str::to_owned).collect(),
            valid_after: None,
            valid_before: None,
        },
        namespaces: None,
    };
    if line
        .signer
        .systems
        .iter()
        .any(|p| p.is_empty() || p.starts_with('!'))
    {
        return Err("an empty or negated principal".into());
    }
    for option in split_options(&options) {
        apply_option(&mut line, &option)?;
    }
    Ok(line)
}

fn apply_option(line: &mut Line, option: &str) -> Result<(), String> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let value = value.trim_matches('"');
    match name.to_ascii_lowercase().as_str() {
        "namespaces" => {
            line.namespaces = Some(value.split(',').map(str::to_owned).collect());
        }
        "valid-after" => line.signer.valid_after = Some(parse_time(value)?),
        "valid-before" => line.signer.valid_before = Some(parse_time(value)?),
        "cert-authority" => return Err("certificates are not supported; list the key".into()),
        _ => return Err(format!("unknown option '{name}'")),
    }
    Ok(())
}

/// The next word and the rest. White space inside double quotes belongs to the word; quotes around
/// a whole word are removed.
fn take_word(text: &str) -> Result<(String, &str), String> {
    let text = text.trim_start();
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        c.is_ascii_whitespace() && !quoted
    });
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    if word.bytes().filter(|b| *b == b'"').count() % 2 != 0 {
        return Err("a quotation mark without its partner".into());
    }
    let inner = word
        .strip_prefix('"')
        .and_then(|word| word.strip_suffix('"'));
    Ok((inner.unwrap_or(word).to_owned(), rest))
}

/// Options are separated by commas outside of quotes.
fn split_options(options: &str) -> Vec<String> {
    let mut quoted = false;
    options
        .split(|c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        })
        .filter(|option| !option.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `YYYYMMDD[HHMM[SS]]Z` in seconds since 1970.
fn parse_time(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a time: YYYYMMDD[HHMM[SS]]Z, with the Z for UTC");
    let digits = text.strip_suffix('Z').ok_or_else(wrong)?;
    let sound = digits.bytes().all(|b| b.is_ascii_digit()) && [8, 12, 14].contains(&digits.len());
    if !sound {
        return Err(wrong());
    }
    let part = |from: usize, to: usize| -> u64 {
        digits
            .get(from..to)
            .and_then(|part| part.parse().ok())
            .unwrap_or(0)
    };
    let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
    let (hour, minute, second) = (part(8, 10), part(10, 12), part(12, 14));
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    if !in_range {
        return Err(wrong());
    }
    Ok(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Gregorian calendar. March counts as the first month, so that the leap day is a year's last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    const DAYS_0000_03_01_TO_1970_01_01: u64 = 719_468;
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_0000_03_01_TO_1970_01_01
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(parse_time("19700101Z"), Ok(0));
        assert_eq!(parse_time("20000229Z"), Ok(951_782_400));
        assert_eq!(parse_time("20261123061500Z"), Ok(1_795_414_500));
        assert_eq!(parse_time("202403010000Z"), Ok(1_709_251_200));
        for wrong in [
            "20261123",
            "2026Z",
            "20261323Z",
            "20261100Z",
            "2026112324Z",
            "é0261123Z",
        ] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(
            take_word(r#" a="b c",d  e"#),
            Ok((r#"a="b c",d"#.into(), "  e"))
        );
        assert_eq!(take_word(r#""a b" c"#), Ok(("a b".into(), " c")));
        assert!(take_word(r#"a="b c"#).is_err());
        assert_eq!(split_options(r#"x="1,2",y"#), [r#"x="1,2""#, "y"]);
    }
}
