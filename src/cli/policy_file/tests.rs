//! What is read, and what is refused with the words of the cluster.

use super::*;

/// Reads one text, for tests of what uses policies.
pub fn parse(text: &str) -> Result<Policies, Error> {
    policies(&documents_of(text)?, "2026-11-24T00:00:00Z".parse().unwrap())
}

fn manifest(spec: &str) -> String {
    format!("apiVersion: repave.dev/v1alpha1\nkind: ValidationPolicy\nmetadata: {{name: p}}\nspec: {spec}\n")
}

fn waiver(more: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: repave.dev/v1alpha1\nkind: Waiver\nmetadata: {{name: w{more}}}\nspec: {{owner: team, {spec}}}\n"
    )
}

#[test]
fn a_waiver_is_as_old_as_it_says_and_never_younger_than_now() {
    let policy = manifest("{checks: [{name: hard, native: {}}]}");
    let spec = "reason: it is accepted, expiresAt: 2026-12-01T00:00:00Z, scope: {findings: [{id: CVE-1}]}";
    for (more, created) in [
        ("", "2026-11-24T00:00:00Z"),
        (", creationTimestamp: 2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z"),
        (", creationTimestamp: 2036-01-02T00:00:00Z", "2026-11-24T00:00:00Z"),
    ] {
        let read = parse(&format!("{policy}{}", waiver(more, spec))).unwrap().waivers;
        let found = read[0].metadata.creation_timestamp.as_ref().unwrap();
        assert_eq!(found.0, created.parse::<Timestamp>().unwrap(), "{more}");
    }
}

#[test]
fn a_waiver_that_the_cluster_refuses_is_refused_here_with_the_same_sentence() {
    let policy = manifest("{checks: [{name: hard, native: {}}]}");
    let long = "n".repeat(63);
    let with = |reason: &str, time: &str, scope: &str| format!("reason: {reason}, {time}, scope: {scope}");
    let (good, time, findings) = (
        "it is accepted",
        "expiresAt: 2026-12-01T00:00:00Z",
        "{findings: [{id: CVE-1}]}",
    );
    for (more, spec, says) in [
        ("", with("short", time, findings), "say in at least 10 characters"),
        (
            "",
            with(
                good,
                "expiresAt: 2026-12-01T00:00:00Z, notBefore: 2026-12-01T00:00:00Z",
                findings,
            ),
            "never have an effect",
        ),
        ("", with(good, "expiresAt: soon", findings), "Waiver \"w\""),
        ("", with(good, time, "{findings: []}"), "scope.findings is empty"),
        (
            "",
            with(good, time, "{findings: [{id: '*'}]}"),
            "alone would waive everything",
        ),
        (
            "",
            with(good, time, "{findings: [{id: 'a**'}]}"),
            "a star stands at the end only",
        ),
        (
            "",
            with(good, time, "{findings: [{id: a}], images: {digests: [x]}}"),
            "scope.images.digests",
        ),
        (
            "",
            with(good, time, "{findings: [{id: a}], image: x}"),
            "spec.scope.image: unknown field",
        ),
        (long.as_str(), with(good, time, findings), "at most 63 characters"),
    ] {
        let error = parse(&format!("{policy}{}", waiver(more, &spec)))
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{spec}: {error}");
    }
    let one = waiver("", &with(good, time, findings));
    let twice = parse(&format!("{policy}{one}{one}")).unwrap_err().to_string();
    assert!(twice.contains("twice"), "{twice}");
}

#[test]
fn a_file_that_is_not_there_or_has_no_policy_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| {
        let error = read(&[folder.path().join(name)], "-f", Timestamp::UNIX_EPOCH).unwrap_err();
        crate::errors::told(&error.into(), "")
    };
    let gone = read("gone.yaml");
    assert_eq!(gone.matches("os error 2").count(), 1, "{gone}");
    assert!(
        gone.contains("gone.yaml (") && gone.ends_with("name a file with -f; several with -f a.yaml -f b.yaml"),
        "{gone}"
    );
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
    for (name, text, says) in [
        (
            "empty.yaml",
            "",
            "empty.yaml is empty: add a document with apiVersion: repave.dev/v1alpha1, kind: Valid",
        ),
        ("comment.yaml", "# later\n", "comment.yaml is empty: add a document"),
        ("dashes.yaml", "---\n", "dashes.yaml is empty: add a document"),
        (
            "map.yaml",
            config_map,
            "map.yaml: expected 1 to 4 ValidationPolicy documents, found 0: add a document",
        ),
        ("broken.yaml", "a: [", "broken.yaml: the policy is not YAML"),
        (
            "other.yaml",
            "kind: Secret\n",
            "other.yaml: expected ValidationPolicy and Waiver",
        ),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
        assert!(read(name).contains(says), "{}", read(name));
    }
}

#[test]
fn a_rule_that_the_operator_refuses_is_refused_here() {
    let with = |rule: &str| {
        let rules = format!("rules: [{{name: r, expression: '{rule}', message: m}}]");
        refusal(&format!("{{checks: [{{name: a, native: {{}}}}], {rules}}}"))
    };
    let said = with("!has(previous.opened) || previous.opened == 0");
    let says = "spec.rules \"r\": previous has no such field: expected one of introduced, fixed, found \"opened\"";
    assert!(said.contains(says), "{said}");
    assert!(with("1 +").contains("expected a CEL expression"), "{}", with("1 +"));
    let said = with("checks.b.passed > 0");
    let says = "spec.rules \"r\": expected one of the checks a, found \"b\": correct the name";
    assert!(said.contains(says), "{said}");
}

fn refusal(spec: &str) -> String {
    parse(&manifest(spec)).unwrap_err().to_string()
}

#[test]
fn a_policy_with_its_config_map_is_read_as_the_operator_would_keep_it() {
    let policy = manifest("{checks: [{name: works, goss: {gossfileRef: {name: tests}}}, {name: hard, native: {}}]}");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tests}\ndata: {goss.yaml: 'file: {}'}\n";
    let whole = parse(&format!("{policy}---\n{map}---\n")).unwrap();
    assert_eq!(whole.snapshots[0].files["works"]["goss.yaml"], "file: {}");
    assert!(whole.missing.is_empty());
    let alone = parse(&policy).unwrap();
    let missing = &alone.missing[&("p".to_owned(), "works".to_owned())];
    assert!(missing.contains("\"tests\" with key \"goss.yaml\""), "{missing}");
}

#[test]
fn what_the_cluster_refuses_is_refused_here_with_the_same_sentence() {
    for (spec, says) in [
        (
            "{checks: []}",
            "checks is empty: a policy without checks would let everything through",
        ),
        ("{checks: [{name: a}]}", "each check names exactly one of native, goss"),
        (
            "{checks: [{name: a, native: {}, goss: {gossfile: x}}]}",
            "each check names exactly one of",
        ),
        ("{checks: [{name: a, goss: {}}]}", "goss names exactly one of gossfile"),
        (
            "{checks: [{name: a, goss: {gossfile: x, vars: y, varsRef: {name: z}}}]}",
            "at most one of vars",
        ),
        (
            "{checks: [{name: a, native: {maxAge: 90d}}]}",
            "spec.checks[0].native.maxAge: expected a duration like 2160h, 30m or 10s (days are not known), found \"90d\"",
        ),
        (
            "{checks: [{name: a, native: {}, timeout: 2h}]}",
            "timeout is between 1s and 1h",
        ),
        (
            "{checks: [{name: a, container: {image: x, command: [y]}}]}",
            "must name a digest",
        ),
        (
            "{checks: [{name: a, native: {suidAlowed: [/x]}}]}",
            "spec.checks[0].native.suidAlowed: unknown field",
        ),
        (
            "{checks: [{name: a, native: {}, allow: {severe: 1}}]}",
            "spec.checks[0].allow.severe: unknown field",
        ),
        (
            "{checks: [{name: a, native: {}, allow: {high: -1}}]}",
            "expected at least 0, found -1",
        ),
        (
            "{checks: [{name: a, native: {}, allow: {high: \"1\"}}]}",
            "expected integer, found \"1\"",
        ),
        (
            "{checks: [{name: A, native: {}}]}",
            "spec.checks[0].name: expected text like",
        ),
        ("{checks: [{native: {}}]}", "spec.checks[0].name: required"),
        (
            "{checks: [{name: a, native: {}}, {name: a, native: {}}]}",
            "another entry has the same name",
        ),
        ("{checks: [{name: a, native: }]}", "found null; leave the field out"),
        (
            "{checks: [{name: a, native: {}}], enforcement: Never}",
            "expected one of \"Enforce\", \"Audit\"",
        ),
    ] {
        assert!(refusal(spec).contains(says), "{spec}: {}", refusal(spec));
    }
}

#[test]
fn other_kinds_and_no_policy_at_all_are_refused_by_name() {
    let other = parse("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n")
        .unwrap_err()
        .to_string();
    assert!(other.contains("\"Secret\" of \"v1\""), "{other}");
    assert!(parse("").unwrap_err().to_string().contains("found 0"));
    assert!(matches!(parse("a: [").unwrap_err(), Error::Yaml(_)));
    let twice = manifest("{checks: [{name: a, name: b, native: {}}]}");
    assert!(matches!(parse(&twice).unwrap_err(), Error::Yaml(_)));
}

/// What no compiler can see: the words of two programs, and the page for people.
#[test]
fn every_kind_of_check_has_a_subcommand_of_the_runner_and_a_row_in_the_docs() {
    let runner = <repave_runner::Args as clap::Args>::augment_args(clap::Command::new("runner"));
    let docs = include_str!("../../../docs/checks/README.md");
    for kind in repave_api::checks::KINDS {
        assert!(runner.find_subcommand(kind.name).is_some(), "runner {}", kind.name);
        assert!(
            docs.contains(&format!("| `{}` |", kind.name)),
            "docs/checks/README.md: {}",
            kind.name
        );
    }
}

#[test]
fn the_sample_has_one_check_of_each_kind_and_rules_that_can_be_read() {
    let policies = parse(include_str!("../../../config/samples/validationpolicy.yaml")).unwrap();
    let spec = &policies.snapshots[0].spec;
    for kind in repave_api::checks::KINDS {
        let of_kind = spec.checks.iter().filter(|check| check.kind.name() == kind.name);
        assert_eq!(of_kind.count(), 1, "{}", kind.name);
    }
    assert_eq!(spec.rules.len(), 2);
    for rule in &spec.rules {
        repave_core::rules::Expression::parse(&rule.expression).unwrap();
    }
}
