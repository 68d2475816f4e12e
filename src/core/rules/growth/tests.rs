//! What rules could grow to is told before they run, and what a bound says is never less than what there is.

use super::super::*;

/// Loops over one text, each of which makes it about forty times as long, in less than 1024 bytes.
fn bomb(end: &str) -> String {
    let times = |name: char, n: usize| vec![name.to_string(); n].join("+");
    let loops = [('a', 38), ('b', 39), ('c', 40)].map(|(name, n)| format!(".map({name},{})", times(name, n)));
    let rest = MAX_LENGTH - loops.concat().len() - end.len() - 4;
    format!("['{}']{}{end}", "x ".repeat(rest / 2), loops.concat())
}

fn read(text: &str) -> Result<Expression, InvalidExpression> {
    Expression::parse(text)
}

#[test]
fn a_rule_whose_values_could_become_too_large_is_refused_before_it_runs() {
    let many = |n: usize| vec!["c"; n].join("+");
    for text in [
        bomb(""),
        bomb(".size()==1"),
        format!("checks.map(c, checks).map(c, {}) == []", many(30)),
        format!("checks.map(c, [c]).map(c, {}).map(c, {}) == []", many(30), many(30)),
        "checks.map(a, checks.map(b, checks[b])).size() == 1".to_owned(),
        "checks.all(a, checks.map(b, checks.map(c, c)).size() == 1)".to_owned(),
        format!(
            "checks.exists(c, [{}].map(c, checks.map(d, checks)) == [])",
            "1,".repeat(50) + "1"
        ),
    ] {
        assert_eq!(read(&text).err(), Some(InvalidExpression::Growth), "{text}");
    }
    let said = InvalidExpression::Growth.to_string();
    assert!(
        said.starts_with("expected texts and lists of at most 2048 KiB"),
        "{said}"
    );
    for text in ["unheard_of(1)", "[1].reverse() == [1]", "'a'.repeat(9) == 'a'"] {
        assert!(
            matches!(read(text).err(), Some(InvalidExpression::Function { .. })),
            "{text}"
        );
    }
}

#[test]
fn what_compares_results_is_never_too_large() {
    for text in [
        "checks.all(name, checks[name].failed.critical == 0)",
        "checks.all(a, checks.exists(b, checks.exists_one(c, a != b && b != c)))",
        "checks.map(c, checks[c]).map(c, c.failed).all(f, f.high == 0)",
        "checks.filter(c, checks[c].passed > 0).size() > 3",
        "checks.map(c, c + ': ' + checks[c].verdict).size() > 3",
        "checks.map(c, string(checks[c].passed)).size() > 0 && ('a' + 'b').startsWith('a')",
    ] {
        assert!(read(text).is_ok(), "{text}: {:?}", read(text).err());
    }
}

#[test]
fn results_that_the_bounds_do_not_count_on_have_no_answer() {
    let with = |checks: usize, length: usize| Results {
        checks: (0..checks)
            .map(|at| (format!("{at:0>length$}"), CheckResult::default()))
            .collect(),
        ..Results::default()
    };
    let rule = read("size(checks) > 0").unwrap();
    assert_eq!(rule.holds(&with(100, 320)), Ok(true));
    for results in [with(129, 3), with(1, 2_000)] {
        assert!(rule.holds(&results).unwrap_err().contains("more results"));
    }
}

#[test]
fn a_result_or_an_error_is_never_written_whole() {
    let list = format!("[{}]", vec!["'xxxxxxx'"; 30].join(","));
    for text in [
        list.clone(),
        format!("{list} < 1"),
        format!("{list}.map(a, a + 'x') - 1 == 2"),
        format!("'{}' - 1 == 2", "x".repeat(900)),
    ] {
        let said = read(&text).unwrap().holds(&Results::default()).unwrap_err();
        assert!(said.chars().count() <= MAX_MESSAGE, "{text}: {said}");
    }
    let mut start = Start::default();
    let whole = write!(start, "{:?}", vec!["x"; 1 << 20]);
    assert!(whole.is_err() && start.0.len() == 2 * MAX_MESSAGE, "{}", start.0.len());
}
