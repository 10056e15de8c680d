//! The hours in which a mount may switch.

use std::str::FromStr;

/// A part of each day, in minutes since midnight; it may contain midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from: u32,
    to: u32,
}

/// The text is not HH:MM-HH:MM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the form is HH:MM-HH:MM, such as 22:00-05:30")]
pub struct HoursError;

fn minute(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, below: u32| {
        let is_number =
            (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|number| *number < below);
        number.filter(|_| is_number)
    };
    Some(number(hours, 24)? * 60 + number(minutes, 60)?)
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Hours, HoursError> {
        let (from, to) = text.split_once('-').ok_or(HoursError)?;
        let (from, to) = minute(from).zip(minute(to)).ok_or(HoursError)?;
        Ok(Hours { from, to })
    }
}

impl Hours {
    /// True if `minute` of the day is within them. Equal ends mean the whole day.
    pub(super) fn contain(self, minute: u32) -> bool {
        let Hours { from, to } = self;
        match from < to {
            true => (from..to).contains(&minute),
            false => minute >= from || minute < to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_contain_midnight() {
        let hours = |text: &str| text.parse::<Hours>();
        let night = hours("22:00-5:30").unwrap();
        for (minute, inside) in [
            (0, true),
            (329, true),
            (330, false),
            (1319, false),
            (1320, true),
        ] {
            assert_eq!(night.contain(minute), inside, "{minute}");
        }
        let day = hours("09:00-17:00").unwrap();
        assert!(day.contain(540) && !day.contain(1020) && !day.contain(0));
        assert!(hours("00:00-00:00").unwrap().contain(700));
        for wrong in ["", "22-05", "24:00-1:00", "1:60-2:00", "+1:00-2:00", "1:00"] {
            assert_eq!(hours(wrong), Err(HoursError), "{wrong}");
        }
    }
}
