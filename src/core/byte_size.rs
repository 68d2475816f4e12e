//! A number of bytes as people write it in a manifest: `500Mi`, `2Gi`, `750M`, `1048576`.
//!
//! A subset of Kubernetes' quantities: whole numbers, no exponent, no fraction.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

/// Why a text is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of bytes such as 500Mi, 2Gi or 750M (units k, M, G, T, Ki, Mi, Gi, Ti), found {0:?}")]
pub struct InvalidByteSize(String);

/// Greatest last, so that a size is written with the largest unit that divides it.
const UNITS: [(&str, u64); 8] = [
    ("k", 1_000),
    ("Ki", 1 << 10),
    ("M", 1_000_000),
    ("Mi", 1 << 20),
    ("G", 1_000_000_000),
    ("Gi", 1 << 30),
    ("T", 1_000_000_000_000),
    ("Ti", 1 << 40),
];

impl ByteSize {
    /// What the schema lets through; everything that matches can be read.
    pub const PATTERN: &'static str = "^[0-9]{1,6}(k|M|G|T|Ki|Mi|Gi|Ti)$|^[0-9]{1,15}$";

    /// A size of this many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = InvalidByteSize;

    fn from_str(text: &str) -> Result<Self, InvalidByteSize> {
        let invalid = || InvalidByteSize(text.chars().take(50).collect());
        let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let factor = match unit {
            "" => 1,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?.1,
        };
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        number.checked_mul(factor).map(Self).ok_or_else(invalid)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = InvalidByteSize;

    fn try_from(text: String) -> Result<Self, InvalidByteSize> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = UNITS.iter().rev();
        match units
            .into_iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
        {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_those_of_kubernetes() {
        for (text, bytes) in [
            ("0", 0),
            ("12", 12),
            ("1k", 1000),
            ("2Ki", 2048),
            ("500Mi", 500 << 20),
            ("3G", 3_000_000_000),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().get(), bytes, "{text}");
        }
        for text in [
            "",
            "Mi",
            "1.5Gi",
            "-1",
            "1 Mi",
            "1mi",
            "1e3",
            "99999999999999999999",
            "99999999999Ti",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize::bytes(500 << 20).to_string(), "500Mi");
    }

    #[test]
    fn whatever_the_schema_lets_through_can_be_read() {
        let pattern = regex::Regex::new(ByteSize::PATTERN).unwrap();
        for text in ["999999Ti", "999999999999999"] {
            assert!(pattern.is_match(text));
            assert!(text.parse::<ByteSize>().is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_size_survives_being_written_and_read(bytes in any::<u64>()) {
            let size = ByteSize::bytes(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }
    }
}
