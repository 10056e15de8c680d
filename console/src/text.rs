//! Text for people: visible forms of bytes, ages, random words, percent encoding.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use bakery::human::{length, time};

/// The present time, seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |passed| passed.as_secs())
}

/// Bytes of a name as text that cannot deceive: control characters, bytes that are not UTF-8 and
/// characters that change the direction of writing are shown as escape codes.
pub(crate) fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_deceptive(character) {
                let _ = write!(text, "\\u{{{:x}}}", u32::from(character));
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Bytes for a URL's path or query.
pub(crate) fn percent(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The bytes that a part of a URL encodes; an invalid code is copied unchanged.
pub(crate) fn unpercent(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        let value = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (value, first) {
            (Some(value), _) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            (None, b'+') => bytes.push(b' '),
            (None, byte) => bytes.push(*byte),
        }
        rest = after;
    }
    bytes
}

/// One value of a query, as bytes.
pub(crate) fn query_value(query: Option<&str>, key: &str) -> Option<Vec<u8>> {
    let pairs = query.unwrap_or_default().split('&');
    let found = pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == key);
    found.map(|(_, value)| unpercent(value))
}

/// One value of a query, as text; empty if absent.
pub(crate) fn query_text(query: Option<&str>, key: &str) -> String {
    let bytes = query_value(query, key).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
    bytes.filter(|_| text.len().is_multiple_of(2))
}

/// Random bytes of the system.
///
/// # Errors
/// The system has none.
pub(crate) fn random<const LEN: usize>() -> std::io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_deceive() {
        assert_eq!(visible("etc/motd".as_bytes()), "etc/motd");
        assert_eq!(visible("Привет".as_bytes()), "Привет");
        assert_eq!(visible(b"a\xff\n"), "a\\xff\\u{a}");
        assert_eq!(visible("x\u{202e}gpj.exe".as_bytes()), "x\\u{202e}gpj.exe");
    }

    #[test]
    fn every_byte_survives_a_url() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unpercent(&percent(&all)), all);
        assert_eq!(unpercent("a%zz%4"), b"a%zz%4");
        assert_eq!(
            query_value(Some("a=1&path=%ff%2Fx"), "path"),
            Some(b"\xff/x".to_vec())
        );
        assert_eq!(unhex(&hex(&all)), Some(all));
        assert_eq!(unhex("abc"), None);
    }
}
