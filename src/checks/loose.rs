//! A JSON value of which only text is of interest: anything else is skipped while it is read.
//!
//! Must not build a tree of what a tool was free to write there: `[0,0,0,…]` costs sixteen times its size as one.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What stood there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Loose {
    /// `null`, or nothing.
    #[default]
    Null,
    /// Text.
    Text(String),
    /// A number, as text.
    Number(String),
    /// A truth value, a list or an object.
    Other,
}

impl Loose {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Number(_) | Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Loose, E> {
        Ok(Loose::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Loose, E> {
        Ok(Loose::Number(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Loose, E> {
        Ok(Loose::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Loose, E> {
        Ok(Loose::Number(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
        Ok(Loose::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Loose::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_kept_and_nothing_is_refused_but_what_is_no_json() {
        for (json, expected) in [
            ("null", Loose::Null),
            ("\"a\"", Loose::Text("a".into())),
            ("7.5", Loose::Number("7.5".into())),
            ("-7", Loose::Number("-7".into())),
            ("true", Loose::Other),
            ("[1,{\"a\":[null]}]", Loose::Other),
            ("{\"a\":\"b\"}", Loose::Other),
        ] {
            assert_eq!(serde_json::from_str::<Loose>(json).unwrap(), expected, "{json}");
        }
        assert!(serde_json::from_str::<Loose>("[1,").is_err());
        // Deeper than any tool nests: an error, and no overflow of the stack.
        assert!(serde_json::from_str::<Loose>(&"[".repeat(100_000)).is_err());
    }
}
