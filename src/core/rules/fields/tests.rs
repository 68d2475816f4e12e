//! What may be asked, and what is refused with the names that there are.

use super::{
    super::{Changes, CheckResult, Expression, Results},
    *,
};
use cel::objects::{Key, Value};

fn refused(text: &str) -> String {
    let refused = Expression::parse(text).err();
    refused.map_or_else(|| "accepted".to_owned(), |error| error.to_string())
}

/// Every key of a value by its path, and what this module says that the path is.
fn walk(value: &Value, kind: &Kind, path: &str) {
    let Value::Map(map) = value else {
        assert_eq!(*kind, Kind::Plain, "{path}");
        return;
    };
    let mut names: Vec<String> = map.map.keys().map(Key::to_string).collect();
    names.sort();
    if let Some((_, mut known)) = kind.fields() {
        known.sort_unstable();
        assert_eq!(names, known, "{path}");
    }
    for (key, value) in map.map.iter() {
        let key = key.to_string();
        walk(value, &kind.field(&key).unwrap(), &format!("{path}.{key}"));
    }
}

#[test]
fn the_known_fields_are_those_that_a_rule_is_given() {
    let check = CheckResult {
        database_age_hours: Some(1),
        ..CheckResult::default()
    };
    let results = Results {
        checks: [("cves".to_owned(), check)].into(),
        previous: Some(Changes::default()),
        ..Results::default()
    };
    let given = results.variables();
    assert_eq!(given.each_ref().map(|(name, _)| *name), VARIABLES.map(|(name, _)| name));
    for ((name, value), (_, kind)) in given.iter().zip(VARIABLES) {
        walk(value, &kind, name);
    }
}

#[test]
fn a_field_that_no_variable_has_is_refused_with_those_that_there_are() {
    let previous = "previous has no such field: expected one of introduced, fixed, found";
    for (text, says) in [
        (
            "!has(previous.opened) || previous.opened == 0",
            format!("{previous} \"opened\""),
        ),
        ("previous.introducd == 0", format!("{previous} \"introducd\"")),
        ("has(previous.introducd)", format!("{previous} \"introducd\"")),
        ("!('opened' in previous)", format!("{previous} \"opened\"")),
        ("previous['opened'] == 0", format!("{previous} \"opened\"")),
        ("!has(.previous.opened)", format!("{previous} \"opened\"")),
        ("!has(dyn(previous).opened)", format!("{previous} \"opened\"")),
        (
            "(true ? previous : previous).opened == 0",
            format!("{previous} \"opened\""),
        ),
        ("[previous].all(p, !has(p.opened))", format!("{previous} \"opened\"")),
        (
            "image.tag == '1'",
            "image has no such field: expected one of digest, found \"tag\"".into(),
        ),
        (
            "!has(checks.cves.fixd) || true",
            "a check has no such field: expected one of verdict, evaluated, passed, failed, waived, suppressed, \
             database_age_hours, found \"fixd\""
                .into(),
        ),
        (
            "checks['cves'].failed.critcal == 0",
            "failed has no such field: expected one of ".into(),
        ),
        (
            "checks.all(c, checks[c].failed.worst == 0)",
            "failed has no such field".into(),
        ),
        (
            "[checks.a].filter(c, true).all(c, !has(c.x))",
            "a check has no such field".into(),
        ),
        ("checks.map(c, checks[c])[0].x == 1", "a check has no such field".into()),
        (
            "!has(previus.introduced)",
            "variables checks, image, previous, found \"previus\"".into(),
        ),
        ("[1].all(c, c == d)", "found \"d\"".into()),
        ("[1].all(c, c == 1) && c == 1", "found \"c\"".into()),
        (
            "!has(checks.cves.passed.x)",
            "of a value that has no known fields".into(),
        ),
        (
            "!has([checks.a, previous][0].opened)",
            "found \"opened\" of a value that has".into(),
        ),
        (
            "['opened'].exists(f, f in previous)",
            "of a value that has no known fields".into(),
        ),
    ] {
        assert!(refused(text).contains(&says), "{text}: {}", refused(text));
    }
}

#[test]
fn names_of_checks_are_free_and_what_is_known_may_be_asked_in_every_way() {
    for text in [
        "!has(checks.never) || checks.never.passed == 0",
        "'never' in checks && checks['a.b'].verdict == 'Passed'",
        "checks.all(c, checks[c].failed.critical == 0)",
        "['critical', 'high'].all(s, checks.cves.failed[s] == 0)",
        "[checks.a, checks.b].map(c, c.failed).all(f, f.high == 0)",
        "[checks.a].filter(c, c.passed > 0)[0].passed > 0",
        "previous.all(k, previous[k] == 0)",
        "'introduced' in previous && has(previous.fixed)",
        "[1].all(previous, previous == 1)",
        "size(checks) == 2 && type(1) == int",
        "image.digest.startsWith('sha256:')",
    ] {
        assert_eq!(refused(text), "accepted", "{text}");
    }
}

#[test]
fn an_expression_counts_on_every_check_that_it_names_and_does_not_look_for() {
    for (text, names) in [
        ("true", ""),
        ("checks.openscpa.passed > 0 && checks.cves.passed > 0", "cves openscpa"),
        ("checks['a.b'].verdict == 'Passed'", "a.b"),
        (".checks.cves.passed > 0", "cves"),
        ("dyn(checks).cves.passed > 0", "cves"),
        ("(true ? checks : checks).cves.passed > 0", "cves"),
        ("[checks].all(c, c.cves.passed > 0)", "cves"),
        ("[1].all(n, checks.cves.passed > n)", "cves"),
        // Whether a result has a field says nothing of whether there is a result.
        ("has(checks.cves.database_age_hours)", "cves"),
        ("has(checks.cves)", ""),
        ("!has(checks.cves) || checks.cves.passed > 0", ""),
        ("'cves' in checks ? checks['cves'].passed > 0 : true", ""),
        ("!has(checks.goss) || checks.cves.passed > 0", "cves"),
        ("has(checks.goss) && has(checks.goss.database_age_hours)", ""),
        // What is named when it runs is not known before.
        ("checks.all(c, checks[c].passed > 0)", ""),
        ("['cves'].all(c, checks[c].passed > 0)", ""),
        ("[1].all(checks, checks == 1)", ""),
    ] {
        let expression = Expression::parse(text).unwrap();
        let counted: Vec<&str> = expression.counts_on().collect();
        assert_eq!(counted.join(" "), names, "{text}");
    }
}

#[test]
fn an_unknown_check_is_told_with_those_that_there_are() {
    let said = InvalidExpression::unknown_check("openscpa", ["cves", "openscap"]).to_string();
    assert!(
        said.starts_with("expected one of the checks cves, openscap, found \"openscpa\": correct the name"),
        "{said}"
    );
    let many: Vec<String> = (0..64).map(|n| format!("policy-{n}.{}", "x".repeat(60))).collect();
    let said = InvalidExpression::unknown_check(&"y".repeat(5_000), many.iter().map(String::as_str)).to_string();
    assert!(said.len() <= 1_000, "{} bytes", said.len());
}
