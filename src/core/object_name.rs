//! The name of an object of Kubernetes: what may stand in the path of a request.
//!
//! A client puts a name into the path as it is, so one with `/`, `..` or `?` in it would be another request than the one
//! that was meant. Must not be weakened to what some kinds allow beyond a DNS subdomain: nothing that we read has such names.

use std::{fmt, str::FromStr};

/// A name that an object can have: a DNS subdomain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName(String);

/// Why a text is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the name of an object (at most 253 of a-z, 0-9, - and ., a letter or digit at both ends and around each .), found {found:?}: no object has this name; correct the reference"
)]
pub struct InvalidObjectName {
    /// The text as found, cut to 100 characters.
    pub found: String,
}

impl ObjectName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ObjectName {
    type Err = InvalidObjectName;

    fn from_str(text: &str) -> Result<Self, InvalidObjectName> {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let is_label = |label: &str| {
            let bytes = label.as_bytes();
            edge(bytes.first())
                && edge(bytes.last())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        };
        if text.len() <= 253 && text.split('.').all(is_label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidObjectName {
                found: text.chars().take(100).collect(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dns_subdomain_is_a_name() {
        for name in ["a", "a-1.b", "0", &"a".repeat(253)] {
            assert_eq!(name.parse::<ObjectName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(254);
        for text in [
            "",
            ".",
            "..",
            "a/b",
            "a?watch=true",
            "a#b",
            "a%2e",
            "A",
            "-a",
            "a-",
            "a..b",
            "a.-b",
            "ä",
            "a\n",
            &long,
        ] {
            let error = text.parse::<ObjectName>().unwrap_err().to_string();
            assert!(error.contains("correct the reference"), "{error}");
        }
    }
}
