//! What a rule can say, what is refused, and that nothing but `true` is a pass.

use super::*;
use proptest::prelude::*;

fn results() -> Results {
    let cves = CheckResult {
        verdict: "Passed".into(),
        evaluated: 120,
        passed: 118,
        failed: [(Severity::Low, 2)].into(),
        waived: 1,
        suppressed: 0,
        database_age_hours: Some(5),
    };
    Results {
        checks: [
            ("cves".to_owned(), cves),
            ("hardened.cis".to_owned(), CheckResult::default()),
        ]
        .into(),
        image: "sha256:00".into(),
        previous: Some(Changes {
            introduced: 0,
            fixed: 14,
        }),
    }
}

fn holds(expression: &str) -> Result<bool, String> {
    Expression::parse(expression)
        .map_err(|error| error.to_string())?
        .holds(&results())
}

#[test]
fn every_documented_variable_can_be_asked_for() {
    for expression in [
        "checks.cves.verdict == 'Passed'",
        "checks.cves.evaluated >= 100 && checks.cves.passed == 118",
        "checks.cves.failed.critical == 0 && checks.cves.failed.low <= 2 && checks.cves.failed.unknown == 0",
        "checks.cves.waived <= 1 && checks.cves.suppressed == 0",
        "checks.cves.database_age_hours < 24",
        "checks['hardened.cis'].passed == 0",
        "!has(checks.missing) && !has(checks['hardened.cis'].database_age_hours)",
        "checks.all(name, checks[name].failed.critical == 0)",
        "image.digest.startsWith('sha256:')",
        "previous.introduced == 0 && previous.fixed == 14",
        "double(checks.cves.passed) / double(checks.cves.evaluated) > 0.95",
    ] {
        assert_eq!(holds(expression), Ok(true), "{expression}");
    }
    assert_eq!(holds("checks.cves.failed.low == 0"), Ok(false));
    let first = Results {
        previous: None,
        ..results()
    };
    let rule = Expression::parse("!has(previous.introduced) || previous.introduced == 0").unwrap();
    assert_eq!(rule.holds(&first), Ok(true));
}

#[test]
fn what_is_not_true_or_false_has_no_answer() {
    for expression in [
        "1",
        "'true'",
        "null",
        "checks",
        "checks.missing.passed > 0",
        "nothing == 1",
        "checks.cves.passed > 'a'",
        "1 / 0 == 1",
        "9223372036854775807 + 1 > 0",
        "checks.cves.matches('(a+)+$')",
        "unheard_of(1)",
    ] {
        let error = holds(expression).unwrap_err();
        assert!(
            !error.is_empty() && error.chars().count() <= MAX_MESSAGE,
            "{expression}: {error}"
        );
    }
}

#[test]
fn what_could_cost_too_much_is_refused_before_it_runs() {
    let deep = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    let say = |expression: &str| {
        let refused = Expression::parse(expression).err();
        refused.map_or_else(|| "accepted".to_owned(), |error| error.to_string())
    };
    assert!(Expression::parse(&deep(MAX_BRACKETS)).is_ok());
    assert!(say(&deep(MAX_BRACKETS + 1)).starts_with("expected brackets and prefixes at most 16 deep"));
    assert!(say(&format!("{}true", "!".repeat(500))).starts_with("expected brackets"));
    assert!(say(&format!("{}1 == 1", "-".repeat(500))).starts_with("expected brackets"));
    let longest = format!("{}1 == 1", "[0][0] + ".repeat(MAX_PUNCTUATION / 5));
    assert!(say(&longest).starts_with("expected at most"), "{}", say(&longest));
    let chain = format!("a{}", ".b".repeat(MAX_PUNCTUATION));
    assert!(say(&chain).starts_with("expected at most"), "{}", say(&chain));
    let sum = format!("1{}", "+1".repeat(MAX_PUNCTUATION));
    assert!(say(&sum).starts_with("expected at most"), "{}", say(&sum));
    assert!(say(&"a".repeat(2000)).starts_with("expected an expression of at most 1024 bytes, found 2000"));
    assert!(say(&format!("0{} > 1", "+1".repeat(200))).starts_with("expected at most 400 parts, 48 deep"));
    assert!(say(&format!("a{}", ".b".repeat(200))).starts_with("expected at most 400 parts, 48 deep"));
    let doubling = format!("['x']{} == []", ".map(a, a + a)".repeat(60));
    assert!(say(&doubling).starts_with("expected at most"), "{}", say(&doubling));
    assert!(say("[1].map(a, [1].map(b, [1].map(c, [1].map(d, 1)))) == []").starts_with("expected at most 3 of all"));
    assert!(say("{'a': 1}.a == 1").starts_with("expected no map or message"));
    assert!(say("checks.`a` == 1").starts_with("expected no map or message"));
    assert!(say("checks.\u{1b}[0m == 1").starts_with("expected printable ASCII only"));
    assert!(say("checks.cves. == 1").starts_with("expected a CEL expression such as"));
    let long = say(&format!("previous.{} == 1", "x".repeat(900)));
    assert!(
        long.starts_with("previous has no such field") && long.len() < MAX_MESSAGE,
        "{long}"
    );
}

proptest! {
    // The operator aborts on a panic: whatever people write must come back as an answer or an error.
    #[test]
    fn no_expression_panics(expression in "([a-z.()\\[\\]!?:&|<>=+*/%'\" 0-9,-]|checks|cves|\\.map\\(a, a\\)|has\\(){0,40}") {
        if let Ok(expression) = Expression::parse(&expression) {
            let _ = expression.holds(&results());
        }
    }

    #[test]
    fn no_text_panics(text in "[ -~]{0,60}") {
        if let Ok(expression) = Expression::parse(&text) {
            let _ = expression.holds(&results());
        }
    }
}

#[test]
fn what_an_expression_asks_about_is_never_less_than_it_reads() {
    let needs = |text: &str| Expression::parse(text).unwrap().needs().unwrap();
    let names = |text: &str| {
        needs(text)
            .checks
            .map(|names| names.into_iter().collect::<Vec<_>>().join(" "))
    };
    for (text, checks) in [
        ("true", Some("")),
        ("checks.cves.failed.critical == 0", Some("cves")),
        (
            "checks['hardened.cis'].passed > 1 && checks.cves.waived < 3",
            Some("cves hardened.cis"),
        ),
        ("has(checks.goss) || checks.cves.passed > 0", Some("cves goss")),
        ("['Passed'].exists(v, v == checks.goss.verdict)", Some("goss")),
        ("checks.all(c, checks[c].verdict == 'Passed')", None),
        ("'goss' in checks", None),
        ("size(checks) == 2", None),
        ("checks['go' + 'ss'].passed > 0", None),
        (".checks.cves.passed > 0", Some("cves")),
        ("has(.checks.goss)", Some("goss")),
        ("size(.checks) == 2", None),
    ] {
        assert_eq!(names(text).as_deref(), checks, "{text}");
    }
    for text in ["previous.introduced == 0", ".previous.introduced == 0"] {
        assert!(needs(text).previous, "{text}");
    }
    assert!(!needs("checks.cves.waived == 0").previous);
}
