//! What a failed step means for the next reconcile. Must not decide what the message says: each step's error does.

use std::time::Duration;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something is not there yet (a Secret, a policy): look again after this long. It heals by itself.
    Waiting(Duration),
    /// A person must change the object: nothing is retried until it changes.
    Stalled,
    /// Something outside failed (an API call, a registry): retry with the object's own backoff.
    Transient,
}

/// How long to wait for something that a person or another controller will provide.
pub const WAIT: Duration = Duration::from_secs(15);

/// An error that knows what it means.
pub trait Classified: std::error::Error {
    /// A static PascalCase word: condition reason, event reason and metric label.
    fn reason(&self) -> &'static str;
    /// What to do about it.
    fn class(&self) -> Class;
}

/// The error and its whole chain of causes in one line, cut to 1024 characters: fit for a condition or an event.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(1024)
        .collect()
}
