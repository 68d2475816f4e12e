//! That a check is exactly one kind, however it is written, and reads as it always did.

use super::*;
use crate::validation_policy::Check;
use serde_json::json;

/// How the sample policy writes this kind.
fn sample(kind: &Kind) -> Value {
    let text = include_str!("../../../config/samples/validationpolicy.yaml");
    let policy: Value = serde_saphyr::from_str(text).unwrap();
    let checks = policy["spec"]["checks"].as_array().unwrap();
    let found = checks.iter().find_map(|check| check.get(kind.name));
    let found = found.unwrap_or_else(|| {
        panic!(
            "config/samples/validationpolicy.yaml has no check of kind {}",
            kind.name
        )
    });
    found.clone()
}

fn check(kinds: &[&Kind]) -> Value {
    let mut check = json!({"name": "c", "timeout": "5m", "allow": {"low": 2}});
    for kind in kinds {
        check[kind.name] = sample(kind);
    }
    check
}

#[test]
fn a_check_of_each_kind_is_read_and_written_and_says_which_it_is() {
    for kind in KINDS {
        let read: Check = serde_json::from_value(check(&[kind])).unwrap();
        assert_eq!(read.kind.name(), kind.name);
        let written = serde_json::to_value(&read).unwrap();
        let of_kind = KINDS.iter().filter(|kind| written.get(kind.name).is_some());
        assert_eq!(of_kind.count(), 1, "{written}");
        assert_eq!(serde_json::from_value::<Check>(written).unwrap(), read);
    }
}

#[test]
fn no_kind_two_kinds_and_a_kind_that_is_null_are_refused_in_the_words_of_the_api() {
    for (n, one) in KINDS.iter().enumerate() {
        for other in &KINDS[n + 1..] {
            let refused = serde_json::from_value::<Check>(check(&[one, other])).unwrap_err();
            assert_eq!(refused.to_string(), exactly_one_message());
        }
        let mut null = check(&[]);
        null[one.name] = Value::Null;
        for none in [check(&[]), null] {
            let refused = serde_json::from_value::<Check>(none).unwrap_err();
            assert_eq!(refused.to_string(), exactly_one_message());
        }
    }
    let refused = serde_json::from_value::<Check>(json!({"name": "c", "openscap": {}})).unwrap_err();
    assert!(refused.to_string().starts_with("openscap: missing field"), "{refused}");
}

/// Names of Jobs and keys of stored reports are hashes over this text: another one would run every check again.
#[test]
fn a_check_is_written_as_it_was_when_each_kind_was_a_field_of_its_own() {
    let read = |text: Value| serde_json::from_value::<Check>(text).unwrap();
    let cis = read(json!({"timeout": "5m", "openscap": {"profile": "stig"}, "allow": {"low": 2}, "name": "cis"}));
    assert_eq!(
        serde_json::to_string(&cis).unwrap(),
        r#"{"name":"cis","openscap":{"profile":"stig","minimumRules":20},"allow":{"low":2},"timeout":"5m"}"#
    );
    let own = read(json!({"name": "n", "native": {"unknown": 1}, "unknown": {"goss": 1}}));
    assert_eq!(
        serde_json::to_string(&own).unwrap(),
        r#"{"name":"n","native":{"allowRootUser":false},"timeout":"10m"}"#
    );
}

#[test]
fn the_rule_and_its_sentence_name_every_kind() {
    let sentence = exactly_one_message();
    for kind in KINDS {
        assert!(exactly_one_rule().contains(&format!("has(self.{})", kind.name)));
        assert!(sentence.contains(kind.name), "{sentence}");
    }
}

#[test]
fn a_check_finds_the_files_that_it_is_written_with_and_those_that_it_refers_to() {
    let read = |text: Value| serde_json::from_value::<Check>(text).unwrap();
    let goss = read(json!({"name": "g", "goss": {"gossfile": "x", "varsRef": {"name": "v", "key": "k"}}}));
    assert_eq!(goss.inline_files()[GOSSFILE], "x");
    let at = goss.file_references();
    assert_eq!(
        (at.len(), at[0].0.as_str(), at[0].1.name.as_str(), at[0].2),
        (1, GOSS_VARIABLES, "v", GOSS_VARIABLES)
    );
    let cis = read(json!({"name": "c", "openscap": {"profile": "p", "tailoringRef": {"name": "t"}}}));
    assert_eq!(cis.file_references()[0].0, TAILORING);
    let cves = read(json!({"name": "v", "vulnerabilities": {"vexRefs": [{"name": "a"}, {"name": "b"}]}}));
    let names: Vec<_> = cves
        .file_references()
        .into_iter()
        .map(|(name, _, key)| (name, key))
        .collect();
    assert_eq!(
        names,
        [
            ("vex-0.json".to_owned(), "openvex.json"),
            ("vex-1.json".to_owned(), "openvex.json")
        ]
    );
    assert!(cves.inline_files().is_empty());
}
