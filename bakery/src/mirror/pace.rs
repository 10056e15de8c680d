//! The pace of a mirror: a limit of its rate, and a window of the day.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::sys::local_time;

const DAY: u32 = 24 * 60;
/// Interval of the checks of the clock outside the window.
const LOOK: Duration = Duration::from_secs(5);

/// Times of the day, minutes since midnight: from the first to the second, across midnight if the
/// second is lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DayWindow {
    from: u32,
    to: u32,
}

impl DayWindow {
    fn holds(self, minute: u32) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl FromStr for DayWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<DayWindow, String> {
        let wrong = || format!("'{text}' is not a window: two times, as in 22:00-06:00");
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour <= 24 && minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let window = DayWindow {
            from: minute(from).ok_or_else(wrong)?,
            to: minute(to).ok_or_else(wrong)?,
        };
        if window.from == window.to {
            return Err(wrong());
        }
        Ok(window)
    }
}

impl fmt::Display for DayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(|at| (at / 60, at % 60));
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, to.0, to.1)
    }
}

/// Parses a rate: bytes a second, with k, M or G (powers of 1000).
///
/// # Errors
/// It is invalid; the message gives the form.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a rate: bytes a second, as in 500k or 2M");
    let (number, factor) = match text.char_indices().next_back() {
        Some((at, 'k')) => (text.split_at(at).0, 1_000),
        Some((at, 'M')) => (text.split_at(at).0, 1_000_000),
        Some((at, 'G')) => (text.split_at(at).0, 1_000_000_000),
        _ => (text, 1),
    };
    let rate: u64 = number.parse().map_err(|_| wrong())?;
    rate.checked_mul(factor)
        .filter(|rate| *rate > 0)
        .ok_or_else(wrong)
}

/// Slows a transfer down.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    rate: Option<u64>,
    window: Option<DayWindow>,
    /// The earliest time at which the limit allows the bytes that were received so far.
    free_at: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(rate: Option<u64>, window: Option<DayWindow>) -> Pace {
        Pace {
            rate,
            window,
            free_at: None,
        }
    }

    /// True if the time of the day is in the window.
    pub(super) fn is_open(&self) -> bool {
        let Some(window) = self.window else {
            return true;
        };
        // Without a clock the window cannot be observed.
        local_time::minute_of_day().is_none_or(|minute| window.holds(minute))
    }

    /// Waits for the window.
    pub(super) fn wait(&self) {
        if !self.is_open()
            && let Some(window) = self.window
        {
            tracing::info!("waiting for the window {window}");
        }
        while !self.is_open() {
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until `len` more bytes are within the rate.
    pub(super) fn pay(&mut self, len: usize) {
        let Some(rate) = self.rate else { return };
        let now = Instant::now();
        let free_at = self.free_at.map_or(now, |free_at| free_at.max(now));
        let free_at = free_at + Duration::from_secs_f64(len as f64 / rate as f64);
        self.free_at = Some(free_at);
        std::thread::sleep(free_at.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_and_cross_midnight() {
        let night: DayWindow = "22:00-06:00".parse().unwrap();
        assert!(night.holds(23 * 60) && night.holds(0) && night.holds(359));
        assert!(!night.holds(360) && !night.holds(12 * 60));
        let day: DayWindow = "08:30-24:00".parse().unwrap();
        assert!(day.holds(510) && day.holds(1439) && !day.holds(509) && !day.holds(0));
        assert_eq!(day.to_string(), "08:30-24:00");
        for wrong in [
            "",
            "22:00",
            "22-6",
            "25:00-06:00",
            "06:00-06:00",
            "6:60-7:00",
        ] {
            assert!(wrong.parse::<DayWindow>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(parse_rate("2500"), Ok(2500));
        assert_eq!(parse_rate("500k"), Ok(500_000));
        assert_eq!(parse_rate("2M"), Ok(2_000_000));
        for wrong in ["", "0", "k", "2m", "-1", "99999999999999999G"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_kept() {
        let mut pace = Pace::new(Some(1_000_000), None);
        let start = Instant::now();
        for _ in 0..10 {
            pace.pay(5_000);
        }
        assert!(start.elapsed() >= Duration::from_millis(49));
    }
}
