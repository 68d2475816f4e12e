//! What a failed step means for the next reconcile. Must not decide what the message says: each step's error does.

use crate::domain::text::is_shown;
use crate::runtime::panics::Panicked;
use kube::core::Status;
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

impl Classified for Panicked {
    fn reason(&self) -> &'static str {
        "InternalError"
    }

    fn class(&self) -> Class {
        Class::Transient
    }
}

/// The error and its whole chain of causes in one line, cut to 1024 characters: fit for a condition or an event.
///
/// Of an answer of the API server only its own message is told; kube's text for it repeats the whole answer in Rust's
/// notation, which says nothing to anybody and leaves no room for the rest.
pub fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = Some(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    cause = Some(error);
    while let Some(inner) = cause {
        if let Some(status) = answer_of_the_server(inner) {
            text = text.replace(&format!("ApiError: {status} ({status:?})"), &message_of(status));
            text = text.replace(&status.to_string(), &message_of(status));
        }
        cause = inner.source();
    }
    text.chars()
        .map(|c| if is_shown(c) { c } else { ' ' })
        .take(1024)
        .collect()
}

/// The refusal of the API server that an error is, if it is one. kube hands it out boxed or not.
fn answer_of_the_server<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Status> {
    if let Some(kube::Error::Api(status)) = error.downcast_ref() {
        return Some(status);
    }
    let boxed = error.downcast_ref::<Box<Status>>().map(AsRef::as_ref);
    boxed.or_else(|| error.downcast_ref::<Status>())
}

fn message_of(status: &Status) -> String {
    match (status.message.trim(), status.reason.trim()) {
        ("", "") => format!("HTTP status {}", status.code),
        ("", reason) => reason.to_owned(),
        (message, _) => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, thiserror::Error)]
    enum Step {
        #[error("Kubernetes API: {0}")]
        Api(#[from] kube::Error),
    }

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error(transparent)]
        Step(#[from] Step),
        #[error(transparent)]
        Bare(kube::Error),
    }

    fn refusal(message: &str, reason: &str) -> kube::Error {
        let status = json!({"status": "Failure", "message": message, "reason": reason, "code": 422});
        kube::Error::Api(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn of_a_refusal_only_the_servers_own_message_is_told() {
        let admission = "admission webhook \"policy.example.com\" denied the request: image is not signed";
        for error in [
            Outer::Step(refusal(admission, "Forbidden").into()),
            Outer::Bare(refusal(admission, "Forbidden")),
        ] {
            let text = one_line(&error);
            assert!(text.ends_with(admission), "{text}");
            assert!(!text.contains("Status {") && !text.contains("ApiError"), "{text}");
        }
        assert_eq!(one_line(&refusal("", "Conflict")), "Conflict");
        assert_eq!(one_line(&refusal("", "")), "HTTP status 422");
    }

    #[test]
    fn a_cause_is_told_once_and_control_characters_never() {
        let inner = std::io::Error::other("connection\nreset");
        assert_eq!(
            one_line(&Step::Api(kube::Error::ReadEvents(inner)))
                .matches("reset")
                .count(),
            1
        );
        assert_eq!(one_line(&std::io::Error::other("a\u{1b}[31mb")), "a [31mb");
    }
}
