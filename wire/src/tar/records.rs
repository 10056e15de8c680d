//! The records of PAX extended headers, `LEN KEY=VALUE\n`: values to text, and text to values.

use layerfmt::tree::Time;

/// Appends one record; its length counts itself.
pub fn put(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A space, `=` and a line feed.
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(len.to_string().as_bytes());
    for part in [&b" "[..], key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// The text of a time. Before 1970 the fraction counts backward from the second.
pub(crate) fn time_text(time: Time) -> String {
    match (time.sec, time.nsec) {
        (sec, 0) => format!("{sec}"),
        (sec, nsec) if sec >= 0 => format!("{sec}.{nsec:09}"),
        (sec, nsec) => {
            let whole = (sec + 1).unsigned_abs();
            format!("-{whole}.{:09}", 1_000_000_000_u32.saturating_sub(nsec))
        }
    }
}

/// The first record of `data`: key, value, and the rest.
///
/// # Errors
/// The text is something else.
pub fn record(data: &[u8]) -> Result<(&[u8], &[u8], &[u8]), String> {
    let broken = || "extended header: a record's length does not fit".to_owned();
    let space = data
        .iter()
        .take(20)
        .position(|&byte| byte == b' ')
        .ok_or_else(broken)?;
    let (digits, _) = data.split_at_checked(space).ok_or_else(broken)?;
    let len = natural(digits)?
        .and_then(|len| usize::try_from(len).ok())
        .ok_or_else(broken)?;
    let (record, rest) = data.split_at_checked(len).ok_or_else(broken)?;
    let body = record
        .get(space + 1..)
        .and_then(|body| body.strip_suffix(b"\n"));
    let body = body.ok_or_else(broken)?;
    let equals = body
        .iter()
        .position(|&byte| byte == b'=')
        .ok_or_else(broken)?;
    let (key, value) = body.split_at_checked(equals).ok_or_else(broken)?;
    Ok((key, value.get(1..).unwrap_or_default(), rest))
}

/// Text without NUL; empty means "take the plain header's".
///
/// # Errors
/// The text is something else.
pub fn text(value: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if value.contains(&0) {
        return Err("a NUL in a name".to_owned());
    }
    Ok(Some(value.to_vec()).filter(|value| !value.is_empty()))
}

/// A decimal number; empty means "take the plain header's".
///
/// # Errors
/// The text is something else.
pub fn natural(value: &[u8]) -> Result<Option<u64>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    let digits = value.iter().try_fold(0u64, |number, &digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    match digits {
        Some(number) if i64::try_from(number).is_ok() => Ok(Some(number)),
        _ => Err("not a number of at most 63 bits".to_owned()),
    }
}

/// Parses like [`natural`], with at most 32 bits.
///
/// # Errors
/// It is not one.
pub fn natural32(value: &[u8]) -> Result<Option<u32>, String> {
    let number = natural(value)?;
    let narrow = number.map(u32::try_from).transpose();
    narrow.map_err(|_| "not a number of at most 32 bits".to_owned())
}

/// Decimal numbers with commas between them.
///
/// # Errors
/// One of them is not a number.
pub fn map(value: &[u8]) -> Result<Vec<u64>, String> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = value.split(|&byte| byte == b',');
    numbers
        .map(|number| natural(number)?.ok_or_else(|| "empty number".to_owned()))
        .collect()
}

/// A time: `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are cut towards the past.
///
/// # Errors
/// The text is something else.
pub fn time(value: &[u8]) -> Result<Time, String> {
    let wrong = || "not a time".to_owned();
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let whole = natural(parts.next().unwrap_or_default()).map_err(|_| wrong())?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) || (whole.is_none() && fraction.is_empty()) {
        return Err(wrong());
    }
    let sec = i64::try_from(whole.unwrap_or(0)).map_err(|_| wrong())?;
    let padded = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9);
    let nsec = padded.fold(0u32, |nsec, digit| nsec * 10 + u32::from(digit - b'0'));
    let finer = fraction.iter().skip(9).any(|&digit| digit != b'0');
    if !negative {
        return Ok(Time { sec, nsec });
    }
    let nsec = nsec + u32::from(finer);
    match nsec {
        0 => Ok(Time { sec: -sec, nsec: 0 }),
        nsec => Ok(Time {
            sec: -sec - 1,
            nsec: 1_000_000_000 - nsec,
        }),
    }
}

/// Text with `%XX` for some bytes; `None` if an escape is cut off or not hexadecimal.
pub fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(out)
}

/// Base64 with or without padding, as libarchive writes it.
pub fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' | b'\n' => continue,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let table: &[(&[u8], Option<(i64, u32)>)] = &[
            (b"0", Some((0, 0))),
            (b"1700000000.123456789", Some((1_700_000_000, 123_456_789))),
            (b"1.5", Some((1, 500_000_000))),
            (b"1.1234567899", Some((1, 123_456_789))),
            (b"-1", Some((-1, 0))),
            (b"-1.5", Some((-2, 500_000_000))),
            (b"-0.25", Some((-1, 750_000_000))),
            (b"-0.9999999999", Some((-1, 0))),
            (b"1.", Some((1, 0))),
            (b".5", Some((0, 500_000_000))),
            (b"", None),
            (b".", None),
            (b"1.x", None),
            (b"99999999999999999999", None),
        ];
        for (text, expected) in table {
            let got = time(text).ok().map(|time| (time.sec, time.nsec));
            assert_eq!(got, *expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn times_before_1970_are_written_and_read_back() {
        for (sec, nsec, expected) in [
            (-2, 500_000_000, "-1.500000000"),
            (-1, 750_000_000, "-0.250000000"),
            (-1, 0, "-1"),
            (0, 0, "0"),
            (5, 1, "5.000000001"),
            (-i64::MAX, 999_999_999, "-9223372036854775806.000000001"),
        ] {
            let text = time_text(Time { sec, nsec });
            assert_eq!(text, expected);
            assert_eq!(time(text.as_bytes()), Ok(Time { sec, nsec }));
        }
    }

    #[test]
    fn record_lengths_count_themselves() {
        for len in [0, 1, 80, 88, 89, 90, 91, 980, 990, 9980, 9990] {
            let mut records = Vec::new();
            put(&mut records, b"path", &vec![b'x'; len]);
            put(&mut records, b"k", b"v");
            let (key, value, rest) = record(&records).unwrap();
            assert_eq!((key, value.len()), (&b"path"[..], len));
            assert_eq!(record(rest).unwrap(), (&b"k"[..], &b"v"[..], &b""[..]));
        }
    }
}
