//! The bakery's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970; 0 on a clock before that.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// A time for people: `2026-11-23 06:15 UTC`.
pub fn text(seconds: u64) -> String {
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

/// A span of time as people write it: a number with s, m, h or d.
///
/// # Errors
/// It is none; the message says how it is written.
pub fn age(text: &str) -> Result<Duration, String> {
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
    fn times_read_well() {
        assert_eq!(text(0), "1970-01-01 00:00 UTC");
        assert_eq!(text(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(text(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(text(1_795_414_500), "2026-11-23 06:15 UTC");
    }

    #[test]
    fn ages_are_read() {
        assert_eq!(age("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(age("0"), Ok(Duration::ZERO));
        assert_eq!(age("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "h", "1w", "-1h", "99999999999999999999d"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
