//! A JSON value of which only text is of interest: anything else is skipped while it is read.
//!
//! Must not build a tree of what a tool was free to write there: `[0,0,0,…]` costs sixteen times its size as one.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What stood there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LenientValue {
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

impl LenientValue {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Number(_) | Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for LenientValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = LenientValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<LenientValue, E> {
        Ok(LenientValue::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<LenientValue, E> {
        Ok(LenientValue::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<LenientValue, E> {
        Ok(LenientValue::Number(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<LenientValue, E> {
        Ok(LenientValue::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<LenientValue, E> {
        Ok(LenientValue::Number(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<LenientValue, E> {
        Ok(LenientValue::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<LenientValue, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(LenientValue::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LenientValue, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(LenientValue::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_kept_and_nothing_is_refused_but_what_is_no_json() {
        for (json, expected) in [
            ("null", LenientValue::Null),
            ("\"a\"", LenientValue::Text("a".into())),
            ("7.5", LenientValue::Number("7.5".into())),
            ("-7", LenientValue::Number("-7".into())),
            ("true", LenientValue::Other),
            ("[1,{\"a\":[null]}]", LenientValue::Other),
            ("{\"a\":\"b\"}", LenientValue::Other),
        ] {
            assert_eq!(serde_json::from_str::<LenientValue>(json).unwrap(), expected, "{json}");
        }
        assert!(serde_json::from_str::<LenientValue>("[1,").is_err());
        // Deeper than any tool nests: an error, and no overflow of the stack.
        assert!(serde_json::from_str::<LenientValue>(&"[".repeat(100_000)).is_err());
    }
}
