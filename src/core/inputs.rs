//! The inputs of a Job (the files of its ConfigMap) as one digest. It stands in the words of the container that reads them, so
//! that what ran with other inputs says so itself: who may write ConfigMaps there can put another one under the name. Pure.

use super::digest::Digest;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The folder that a Job's inputs are mounted at.
pub const FOLDER: &str = "/inputs";
/// What a check is told besides its arguments.
pub const OPTIONS: &str = "options.json";
/// The largest content of a ConfigMap, which the API server bounds.
pub const MAX_BYTES: u64 = 1 << 20;
/// More files than a ConfigMap of that size has in practice.
pub const MAX_FILES: usize = 1_000;

/// The digest of these files, by name. The environment of the examined image is left out of the options: it is read from the
/// image only where a Job is created, and a Job must be told from others without it.
pub fn digest<C: AsRef<[u8]>>(files: &BTreeMap<String, C>) -> Digest {
    let mut text = Vec::new();
    let mut add = |part: &[u8]| {
        text.extend_from_slice(format!("{}:", part.len()).as_bytes());
        text.extend_from_slice(part);
    };
    for (name, content) in files {
        let content = content.as_ref();
        add(name.as_bytes());
        match (name == OPTIONS).then(|| without_environment(content)).flatten() {
            Some(options) => add(options.as_bytes()),
            None => add(content),
        }
    }
    Digest::of(&text)
}

/// `None` where it is no object: then every byte counts.
fn without_environment(options: &[u8]) -> Option<String> {
    let mut options: Map<String, Value> = serde_json::from_slice(options).ok()?;
    options.remove("env");
    Some(Value::Object(options).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &[(&str, &str)]) -> Digest {
        digest(
            &all.iter()
                .map(|(n, c)| ((*n).to_owned(), *c))
                .collect::<BTreeMap<_, _>>(),
        )
    }

    #[test]
    fn every_byte_of_the_inputs_counts_but_the_environment_of_the_image() {
        let ours = files(&[("a", "1"), (OPTIONS, r#"{"env": ["A=1"], "strict": true}"#)]);
        assert_eq!(ours, files(&[("a", "1"), (OPTIONS, r#"{"strict":true,"env":[]}"#)]));
        for other in [
            vec![("a", "2"), (OPTIONS, r#"{"strict":true}"#)],
            vec![("a", "1"), (OPTIONS, r#"{"strict":false}"#)],
            vec![("a", "1"), (OPTIONS, r#"{"strict":true}"#), ("b", "")],
            vec![("a", "1")],
            vec![("a1", ""), (OPTIONS, r#"{"strict":true}"#)],
            vec![("a", "1"), (OPTIONS, "[]")],
        ] {
            assert_ne!(files(&other), ours, "{other:?}");
        }
    }
}
