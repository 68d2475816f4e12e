//! A duration as people write it: `30s`, `10m`, `1h30m`, `7d`.
//!
//! Must not accept anything that the JSON schema refuses, nor refuse what it accepts: an object that the API server
//! took and that we cannot read would be stuck without a word to its author. Limits that depend on the use ("at least
//! one minute") are the caller's, through [`DurationText::within`].

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// What the schema says. Five digits per part and [`MAX_LENGTH`] keep every sum far below an overflow.
pub const PATTERN: &str = "^([0-9]{1,5}(s|m|h|d))+$";
/// The longest text, e.g. `1d2h3m4s` with room to spare.
pub const MAX_LENGTH: usize = 24;

const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];

/// A duration in whole seconds with its text form.
///
/// Reading takes the parts in any order and adds them up (`90m` and `1h30m` are equal); writing uses the largest
/// units first, so that reading what was written gives the same value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DurationText(Duration);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// The text has another form.
    #[error("expected a duration such as 30s, 10m, 1h30m or 7d, found {found:?}: write numbers with s, m, h or d")]
    Form {
        /// The text as found, cut to 50 characters.
        found: String,
    },
    /// The duration is outside of what its use allows.
    #[error("expected a duration from {min} to {max}, found {found}: write one in that range")]
    Range {
        /// The duration as found.
        found: DurationText,
        /// The smallest one allowed.
        min: DurationText,
        /// The largest one allowed.
        max: DurationText,
    },
}

impl DurationText {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration itself.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// The same duration if it lies from `min` to `max`, both included.
    pub fn within(self, min: Self, max: Self) -> Result<Self, InvalidDuration> {
        if (min..=max).contains(&self) {
            Ok(self)
        } else {
            Err(InvalidDuration::Range { found: self, min, max })
        }
    }
}

impl From<DurationText> for Duration {
    fn from(text: DurationText) -> Self {
        text.0
    }
}

impl FromStr for DurationText {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        seconds(text).map(Self::from_secs).ok_or_else(|| InvalidDuration::Form {
            found: text.chars().take(50).collect(),
        })
    }
}

fn seconds(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > MAX_LENGTH {
        return None;
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let unit = rest[digits..].chars().next()?;
        let (factor, _) = UNITS.iter().find(|(_, name)| *name == unit)?;
        let part = rest[..digits].parse::<u64>().ok()?.checked_mul(*factor)?;
        total = total.checked_add(part)?;
        // Every unit is one ASCII character.
        rest = &rest[digits + 1..];
    }
    Some(total)
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (factor, unit) in UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for DurationText {
    type Error = InvalidDuration;

    fn try_from(text: String) -> Result<Self, InvalidDuration> {
        text.parse()
    }
}

impl From<DurationText> for String {
    fn from(value: DurationText) -> Self {
        value.to_string()
    }
}

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DurationText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds, canonical) in [
            ("30s", 30, "30s"),
            ("10m", 600, "10m"),
            ("90m", 5_400, "1h30m"),
            ("2h", 7_200, "2h"),
            ("7d", 604_800, "7d"),
            ("1m1h", 3_660, "1h1m"),
            ("0s", 0, "0s"),
            ("0010m", 600, "10m"),
        ] {
            let read: DurationText = text.parse().unwrap();
            assert_eq!(read.get(), Duration::from_secs(seconds), "{text}");
            assert_eq!(read.to_string(), canonical);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_forms_that_are_allowed() {
        for text in [
            "",
            "30",
            "s",
            "1.5h",
            "-1m",
            "1 m",
            "10M",
            "1w",
            "100000s",
            "1h1h1h1h1h1h1h1h1h1h1h1h1h",
            "½h",
            "1µ",
        ] {
            let error = text.parse::<DurationText>().unwrap_err().to_string();
            assert!(error.contains("30s, 10m, 1h30m or 7d"), "{text}: {error}");
        }
    }

    #[test]
    fn a_range_says_what_to_write() {
        let error = DurationText::from_secs(5)
            .within(DurationText::from_secs(60), DurationText::from_secs(86_400))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected a duration from 1m to 1d, found 5s: write one in that range"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(seconds in 0_u64..8_000_000_000) {
            let value = DurationText::from_secs(seconds);
            prop_assert_eq!(value.to_string().parse::<DurationText>().unwrap(), value);
        }

        #[test]
        fn the_parser_and_the_schema_accept_the_same_texts(text in "[0-9smhdx]{0,26}") {
            let schema = regex::Regex::new(PATTERN).unwrap().is_match(&text) && text.chars().count() <= MAX_LENGTH;
            prop_assert_eq!(text.parse::<DurationText>().is_ok(), schema, "{}", text);
        }
    }
}
