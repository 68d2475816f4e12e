//! Names that the command line is given, refused before any request where no object can have them.

use repave_core::{object_name::ObjectName, report::bounded};

/// Longest name of a namespace: a DNS label.
const MAX_NAMESPACE: usize = 63;

/// The name of an object.
pub fn object(text: &str) -> Result<String, String> {
    let name = text.parse::<ObjectName>();
    name.map(|name| name.to_string()).map_err(|error| error.to_string())
}

/// The name of a namespace.
pub fn namespace(text: &str) -> Result<String, String> {
    let is_label = text.len() <= MAX_NAMESPACE && !text.contains('.');
    if is_label && text.parse::<ObjectName>().is_ok() {
        return Ok(text.to_owned());
    }
    let found: String = bounded(text).chars().take(100).collect();
    Err(format!(
        "expected the name of a namespace (at most {MAX_NAMESPACE} of a-z, 0-9 and -, a letter or digit at both ends), \
         found {found:?}: list them with kubectl get namespaces"
    ))
}

#[cfg(test)]
mod tests {
    use crate::Cli;
    use clap::Parser as _;

    #[test]
    fn a_name_that_no_object_can_have_is_refused_before_any_request() {
        let refused = |words: &[&str]| {
            let parsed = Cli::try_parse_from([&["kubectl repave"], words].concat());
            parsed.err().map(|error| error.to_string()).unwrap_or_default()
        };
        let revoke = ["revoke", "12", "--reason", "bad", "--base"];
        for (words, says) in [
            (vec!["report", "foo bar!"], "found \"foo bar!\""),
            (vec!["report", ""], "expected the name of an object"),
            (
                vec!["report", "a", "-n", "foo bar!"],
                "expected the name of a namespace",
            ),
            (
                vec!["report", "a", "-n", "a.b"],
                "found \"a.b\": list them with kubectl get namespaces",
            ),
            (vec!["policy-check", "-f", "p", "-n", "../b"], "found \"../b\""),
            ([&revoke[..], &["De bian"]].concat(), "found \"De bian\""),
            ([&revoke[..], &["debian", "-n", "N"]].concat(), "found \"N\""),
        ] {
            assert!(refused(&words).contains(says), "{words:?}: {}", refused(&words));
        }
        for words in [
            vec!["report", "debian-12.1", "-n", "platform"],
            vec!["policy-check", "-f", "p", "-n", "platform"],
            [&revoke[..], &["debian-12", "-n", "platform"]].concat(),
        ] {
            assert_eq!(refused(&words), "", "{words:?}");
        }
    }
}
