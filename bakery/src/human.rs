//! Errors, lengths, times and ages as a person writes and reads them.

use std::time::Duration;

/// An error and its causes as one line.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut line = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Many error types repeat their source in their own text.
        if !line.ends_with(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
        next = error.source();
    }
    line
}

/// A length for a person: `512 B`, `1.5 MiB`.
#[must_use]
pub fn length(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A time for people: `2026-11-23 06:15 UTC`.
pub fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Gregorian calendar by eras of 400 years that start on 1 March.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year + u64::from(month <= 2);
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        rest / 3600,
        rest / 60 % 60
    )
}

/// A duration in the largest unit that divides it; [`parse_age`] reads it.
pub fn age(seconds: u64) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    let whole = |(len, _): &(u64, char)| seconds >= *len && seconds.is_multiple_of(*len);
    let (len, unit) = units.into_iter().find(whole).unwrap_or((1, 's'));
    format!("{}{unit}", seconds / len)
}

/// Parses a duration: a number with s, m, h or d.
///
/// # Errors
/// It is invalid; the message gives the form.
pub fn parse_age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not an age: a number with s, m, h or d, as in 24h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        '0'..='9' => return text.parse().map(Duration::from_secs).map_err(|_| wrong()),
        _ => return Err(wrong()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    number
        .checked_mul(factor)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_well() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(length(bytes), text);
        }
    }

    #[test]
    fn times_read_well() {
        assert_eq!(time(0), "1970-01-01 00:00 UTC");
        assert_eq!(time(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(time(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(time(1_795_414_500), "2026-11-23 06:15 UTC");
    }

    #[test]
    fn ages_are_written_as_they_are_read() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (5400, "90m"),
            (90_000, "25h"),
            (604_800, "7d"),
        ] {
            assert_eq!(age(seconds), text);
            assert_eq!(parse_age(text), Ok(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn ages_are_read() {
        assert_eq!(parse_age("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_age("0"), Ok(Duration::ZERO));
        assert_eq!(parse_age("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "h", "1w", "-1h", "99999999999999999999d"] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
    }
}
