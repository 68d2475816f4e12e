//! A span of time as people write it in a manifest: `30s`, `10m`, `1h30m`.
//!
//! Must not accept what Kubernetes' own CEL `duration()` does not: the schema's rules compare these texts.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// Longest span that a manifest may name: more than the schema's pattern can write, so that whatever the API server
/// accepts can be read.
const MAX: Duration = Duration::from_secs(200_000_000);

/// A span of whole seconds, written with the units `h`, `m` and `s`, greatest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// What a manifest may write, as its schema says it.
pub const PATTERN: &str = "^([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$";

/// Why a text is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration like 2160h, 30m or 10s ({limits}), found {0:?}", limits = limits(.0))]
pub struct InvalidSpan(String);

/// What may be the matter with it.
fn limits(found: &str) -> &'static str {
    if found.contains('d') {
        "days are not known"
    } else {
        "at most 4 digits of h, 6 of m, 8 of s, in this order"
    }
}

impl Span {
    /// A span of this many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The span as a `Duration`.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// The span as a signed duration, for arithmetic with timestamps.
    pub fn signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_secs(i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX))
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (mut rest, mut seconds) = (text, 0_u64);
    for (unit, factor, digits) in [('h', 3600, 4), ('m', 60, 6), ('s', 1, 8)] {
        let Some((number, tail)) = rest.split_once(unit) else {
            continue;
        };
        if number.is_empty() || number.len() > digits || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = tail;
    }
    (rest.is_empty() && !text.is_empty() && Duration::from_secs(seconds) <= MAX).then(|| Duration::from_secs(seconds))
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        parse(text)
            .map(Self)
            .ok_or_else(|| InvalidSpan(text.chars().take(50).collect()))
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;

    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        // No more digits than are read: what is too much for hours is said in minutes, then in seconds.
        let hours = (seconds / 3600).min(9_999);
        let minutes = ((seconds - hours * 3600) / 60).min(999_999);
        let parts = [
            (hours, 'h'),
            (minutes, 'm'),
            (seconds - hours * 3600 - minutes * 60, 's'),
        ];
        if seconds == 0 {
            return f.write_str("0s");
        }
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{number}{unit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 21, "pattern": PATTERN, "minLength": 2})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_a_span_is_refused() {
        for text in [
            "",
            "10000h",
            "1000000m",
            "100000000s",
            "5",
            "m",
            "-5m",
            "5m1h",
            "5d",
            "1h 2m",
            "99999999h",
            "1.5h",
            "５m",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!("90m".parse::<Span>().unwrap().to_string(), "1h30m");
        let said = |text: &str| text.parse::<Span>().unwrap_err().to_string();
        assert_eq!(
            said("90d"),
            "expected a duration like 2160h, 30m or 10s (days are not known), found \"90d\""
        );
        assert!(said("10000h").contains("at most 4 digits of h"), "{}", said("10000h"));
    }

    #[test]
    fn the_longest_text_that_the_schema_lets_through_can_be_read() {
        let longest = "9999h999999m99999999s".parse::<Span>().unwrap();
        assert!(longest.get() <= MAX);
    }

    #[test]
    fn a_span_of_more_hours_than_four_digits_is_written_so_that_it_can_be_read() {
        for text in ["9h999990m", "9999h999999m99999999s", "59m99999999s", "9999h60m"] {
            let span = text.parse::<Span>().unwrap();
            let again = span.to_string();
            assert_eq!(again.parse::<Span>(), Ok(span), "{again}");
        }
    }

    proptest! {
        #[test]
        fn every_span_survives_being_written_and_read(seconds in 0_u64..=195_996_339) {
            let span = Span::seconds(seconds);
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
    }
}
