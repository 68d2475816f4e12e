//! The orders by which releases are taken back: the annotation `repave.dev/revoke` of a BaseImage, read strictly.
//!
//! An annotation that cannot be read as a whole orders nothing. An entry that disappears orders nothing either: what was
//! revoked stays revoked until an entry with `lift` says otherwise.
//!
//! Must not know which releases there are: whether an order has an effect is decided in `history.rs`.

use super::{digest::Digest, promotion::Revocation};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Orders in one annotation.
pub const MAX_ORDERS: usize = 32;
/// Characters of a reason.
pub const MAX_REASON: usize = 300;
const MAX_BYTES: usize = 32 * 1024;
const MAX_BY: usize = 253;

/// A release, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By digest.
    Digest(Digest),
    /// By its immutable tag.
    Tag(String),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => f.write_str(tag),
        }
    }
}

/// One order: take this release back, or lift that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Which release.
    pub release: Named,
    /// Why; 1 to 300 characters.
    pub reason: String,
    /// Who orders it; nobody checks it.
    pub by: Option<String>,
    /// Whether the revocation ends.
    pub lift: bool,
}

/// One entry as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    release: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    lift: bool,
}

/// Why the annotation cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not the right JSON.
    #[error(
        "expected a list such as [{{\"release\": \"sha256:…\", \"reason\": \"CVE-2026-1234\"}}], found something else: {0}"
    )]
    Json(String),
    /// More than is read.
    #[error(
        "expected at most {MAX_ORDERS} entries in {MAX_BYTES} bytes, found {0}: remove those that the history shows"
    )]
    TooMany(String),
    /// One entry.
    #[error("entry {place}: expected {expected}, found {found:?}")]
    Entry {
        /// Which, from 1.
        place: usize,
        /// What should be there.
        expected: &'static str,
        /// What is there, cut to 100 characters.
        found: String,
    },
}

/// Reads the annotation; of several entries about one release the last one counts, because it comes last.
pub fn orders(text: &str) -> Result<Vec<Order>, Unreadable> {
    if text.len() > MAX_BYTES {
        return Err(Unreadable::TooMany(format!("{} bytes", text.len())));
    }
    let cut = |error: &serde_json::Error| error.to_string().chars().take(200).collect();
    let written: Vec<Written> = serde_json::from_str(text).map_err(|error| Unreadable::Json(cut(&error)))?;
    if written.len() > MAX_ORDERS {
        return Err(Unreadable::TooMany(format!("{} entries", written.len())));
    }
    let parsed = written.into_iter().zip(1..).map(|(one, place)| order(one, place));
    let all = parsed.collect::<Result<Vec<Order>, _>>()?;
    let last = |at: usize, one: &Order| !all[at + 1..].iter().any(|later| later.release == one.release);
    Ok(all
        .iter()
        .enumerate()
        .filter(|(at, one)| last(*at, one))
        .map(|(_, one)| one.clone())
        .collect())
}

fn order(written: Written, place: usize) -> Result<Order, Unreadable> {
    let wrong = |expected, found: &str| Unreadable::Entry {
        place,
        expected,
        found: found.chars().take(100).collect(),
    };
    let release = named(&written.release).ok_or_else(|| {
        wrong(
            "release to be sha256:<64 hex digits> or an immutable tag",
            &written.release,
        )
    })?;
    let plain = |text: &str, longest: usize| {
        !text.trim().is_empty() && text.chars().count() <= longest && !text.chars().any(char::is_control)
    };
    if !plain(&written.reason, MAX_REASON) {
        return Err(wrong("reason to be 1 to 300 characters on one line", &written.reason));
    }
    if let Some(by) = written.by.as_deref().filter(|by| !plain(by, MAX_BY)) {
        return Err(wrong("by to be 1 to 253 characters on one line", by));
    }
    Ok(Order {
        release,
        reason: written.reason,
        by: written.by,
        lift: written.lift,
    })
}

/// A digest, or anything that may be a tag.
pub fn named(text: &str) -> Option<Named> {
    if let Ok(digest) = text.parse() {
        return Some(Named::Digest(digest));
    }
    let head = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let tail = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    (head && tail && text.len() <= 128).then(|| Named::Tag(text.to_owned()))
}

/// The annotation with one more order: entries about the same release are replaced, and the oldest go when it is full.
pub fn with_order(orders: &[Order], new: &Order) -> Result<String, serde_json::Error> {
    let kept: Vec<&Order> = orders.iter().filter(|one| one.release != new.release).collect();
    let surplus = (kept.len() + 1).saturating_sub(MAX_ORDERS);
    let all = kept.into_iter().skip(surplus).chain([new]);
    let written: Vec<Written> = all
        .map(|one| Written {
            release: one.release.to_string(),
            reason: one.reason.clone(),
            by: one.by.clone(),
            lift: one.lift,
        })
        .collect();
    serde_json::to_string(&written)
}

impl Order {
    /// Whether this is about that release.
    pub fn names(&self, digest: &Digest, tag: &str) -> bool {
        match &self.release {
            Named::Digest(named) => named == digest,
            Named::Tag(named) => named == tag,
        }
    }

    /// What is recorded of it.
    pub fn revocation(&self, now: Timestamp) -> Revocation {
        Revocation {
            at: now,
            by: self.by.clone(),
            reason: self.reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        Digest::of(b"bad")
    }

    #[test]
    fn a_release_is_named_by_digest_or_tag() {
        let text = format!(
            r#"[{{"release": "{}", "reason": "CVE-1", "by": "ann"}}, {{"release": "12-20261120-4f2a", "reason": "r", "lift": true}}]"#,
            digest()
        );
        let [one, two] = orders(&text).unwrap().try_into().unwrap();
        assert_eq!(
            (one.release, one.by, one.lift),
            (Named::Digest(digest()), Some("ann".into()), false)
        );
        assert_eq!((two.release, two.lift), (Named::Tag("12-20261120-4f2a".into()), true));
    }

    #[test]
    fn an_annotation_that_is_wrong_anywhere_orders_nothing() {
        let good = format!(r#"{{"release": "{}", "reason": "r"}}"#, digest());
        for (bad, says) in [
            ("", "expected a list"),
            ("{}", "expected a list"),
            (good.as_str(), "expected a list"),
            (&format!("[{good}, {{}}]"), "missing field `release`"),
            (
                &format!(r#"[{good}, {{"release": "a b", "reason": "r"}}]"#),
                "entry 2: expected release",
            ),
            (
                &format!(r#"[{good}, {{"release": "v1", "reason": " "}}]"#),
                "entry 2: expected reason",
            ),
            (
                &format!(r#"[{good}, {{"release": "v1", "reason": "r", "why": "x"}}]"#),
                "unknown field",
            ),
            (r#"[{"release": "v1", "reason": "a\nb"}]"#, "entry 1: expected reason"),
            (
                r#"[{"release": "v1", "reason": "a", "by": ""}]"#,
                "entry 1: expected by",
            ),
            (
                &format!("[{}]", vec![good.as_str(); MAX_ORDERS + 1].join(",")),
                "33 entries",
            ),
            (&"x".repeat(MAX_BYTES + 1), "bytes"),
        ] {
            let error = orders(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad:.60}: {error}");
        }
    }

    #[test]
    fn the_last_entry_about_a_release_counts() {
        let text =
            r#"[{"release": "v1", "reason": "bad"}, {"release": "v1", "reason": "good after all", "lift": true}]"#;
        let [only] = orders(text).unwrap().try_into().unwrap();
        assert!(only.lift);
    }

    #[test]
    fn an_order_is_added_in_place_of_the_one_about_the_same_release_and_the_list_stays_bounded() {
        let order = |tag: &str, lift| Order {
            release: Named::Tag(tag.into()),
            reason: "r".into(),
            by: None,
            lift,
        };
        let mut now = Vec::new();
        for at in 0..40 {
            now = orders(&with_order(&now, &order(&format!("v{at}"), false)).unwrap()).unwrap();
        }
        assert_eq!(now.len(), MAX_ORDERS);
        let now = orders(&with_order(&now, &order("v39", true)).unwrap()).unwrap();
        assert_eq!((now.len(), now.last()), (MAX_ORDERS, Some(&order("v39", true))));
    }
}
