//! The one place of the command line where reports and rules are judged: by the operator's own gate and evaluator.
//!
//! Must not answer a rule from less than it asks about: what is not there is "not known" and never a pass.

use jiff::Timestamp;
use repave_api::{
    ImageCandidateStatus,
    image_candidate::{CheckSummary, PolicySnapshot},
};
use repave_core::{
    digest::Digest,
    report::Report,
    rules::Expression,
    verdict::{self, Gate, Judgement},
    waiver::Exceptions,
};
use repave_policy::{PlannedCheck, PlannedRule, broken_rules, own_name, rules_of, summary};

/// What the operator would make of this report.
pub fn judge(report: &Report, gate: &Gate, exceptions: &Exceptions, now: Timestamp) -> Judgement {
    verdict::judge(report, gate, exceptions, now)
}

/// What the operator would keep of this judgement; rules are evaluated over it.
pub fn kept(check: &PlannedCheck, report: &Report, judgement: &Judgement) -> CheckSummary {
    // Where the report is stored and what its Job was called is nothing that a rule can ask about.
    let nowhere = Digest::of(b"");
    summary(check, report, judgement, &nowhere, &nowhere)
}

/// A rule and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleAnswer {
    /// `rule <name>`.
    pub name: String,
    /// Whether it keeps the image out.
    pub enforced: bool,
    /// The answer.
    pub holds: Holds,
}

/// Whether a rule holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    Yes,
    /// It does not, or has no answer at all.
    No {
        /// What the policy says then, or why there is no answer.
        message: String,
        /// Whether it cannot be evaluated.
        error: bool,
    },
    /// It asks about what is not there.
    NotKnown {
        /// What is lacking.
        why: String,
    },
}

/// Evaluates the rules of the policies. `checks` are all checks that the policies demand, `judged` those with a result.
pub fn rules(
    policies: &[PolicySnapshot],
    checks: &[PlannedCheck],
    judged: &[CheckSummary],
    image: &Digest,
    now: Timestamp,
) -> Vec<RuleAnswer> {
    let status = ImageCandidateStatus {
        built_digest: Some(image.clone()),
        checks: judged.to_vec(),
        ..ImageCandidateStatus::default()
    };
    let answer = |rule: PlannedRule| {
        let holds = missing_results(&rule, checks, judged).map_or_else(
            || match broken_rules(std::slice::from_ref(&rule), &status, now).pop() {
                None => Holds::Yes,
                Some(broken) => Holds::No {
                    message: broken.message,
                    error: broken.error,
                },
            },
            |why| Holds::NotKnown { why },
        );
        RuleAnswer {
            name: format!("rule {}", rule.name),
            enforced: rule.enforced,
            holds,
        }
    };
    rules_of(policies).into_iter().map(answer).collect()
}

/// What a rule asks about and is not there. A name that no policy has is not lacking: the evaluator says so.
fn missing_results(rule: &PlannedRule, checks: &[PlannedCheck], judged: &[CheckSummary]) -> Option<String> {
    // An expression that cannot be read asks for nothing, and its evaluation says why.
    let needs = Expression::parse(&rule.expression).ok()?.needs();
    let needs = match needs {
        Ok(needs) => needs,
        Err(why) => return Some(why),
    };
    if needs.previous {
        return Some("it asks about the release before, which only the cluster knows".to_owned());
    }
    let asked = |check: &&PlannedCheck| {
        let own = own_name(&rule.policy, &check.name);
        needs
            .checks
            .as_ref()
            .is_none_or(|names| names.contains(&check.name) || own.is_some_and(|own| names.contains(own)))
    };
    let has_result = |check: &PlannedCheck| judged.iter().any(|summary| summary.name == check.name);
    let missing_results: Vec<&str> = checks
        .iter()
        .filter(asked)
        .filter(|check| !has_result(check))
        .map(|check| check.name.as_str())
        .collect();
    (!missing_results.is_empty()).then(|| {
        format!(
            "it asks about checks without a result here: {}",
            missing_results.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use repave_policy::checks_of;
    use serde_json::json;

    fn policies(rule: &str, two: bool) -> Vec<PolicySnapshot> {
        let policy = |name: &str| {
            json!({"name": name, "spec": {
                "checks": [{"name": "a", "native": {}}, {"name": "b", "native": {}}],
                "rules": [{"name": "r", "expression": rule, "message": "the rule's message"}],
            }})
        };
        let both = [policy("p"), policy("q")];
        let both = both.iter().take(if two { 2 } else { 1 });
        both.map(|policy| serde_json::from_value(policy.clone()).unwrap())
            .collect()
    }

    fn answers(rule: &str, two: bool, judged: &[&str]) -> Vec<Holds> {
        let policies = policies(rule, two);
        let checks = checks_of(&policies).unwrap();
        let passed = |name: &&str| -> CheckSummary {
            serde_json::from_value(
                json!({"name": name, "verdict": "Passed", "message": "", "evaluated": 3, "passed": 3,
                "toolMillis": 1}),
            )
            .unwrap()
        };
        let judged: Vec<CheckSummary> = judged.iter().map(passed).collect();
        let said = rules(&policies, &checks, &judged, &Digest::of(b"i"), Timestamp::UNIX_EPOCH);
        said.into_iter().map(|answer| answer.holds).collect()
    }

    fn one(rule: &str, judged: &[&str]) -> Holds {
        answers(rule, false, judged).remove(0)
    }

    #[test]
    fn a_rule_is_answered_once_all_that_it_asks_about_has_a_result() {
        assert_eq!(one("checks.a.passed == 3", &["a"]), Holds::Yes);
        let no = one("checks.a.passed > 3", &["a"]);
        assert!(
            matches!(&no, Holds::No { message, error: false } if message == "the rule's message"),
            "{no:?}"
        );
        for rule in [
            "checks.b.passed == 3",
            "checks.all(c, checks[c].passed == 3)",
            "!has(checks.b)",
        ] {
            let not_known = one(rule, &["a"]);
            assert!(
                matches!(&not_known, Holds::NotKnown { why } if why.ends_with(": b")),
                "{rule}: {not_known:?}"
            );
        }
        assert_eq!(one("checks.all(c, checks[c].passed == 3)", &["a", "b"]), Holds::Yes);
        assert!(matches!(
            one("previous.introduced == 0", &["a", "b"]),
            Holds::NotKnown { .. }
        ));
        for wrong in ["checks.c.passed == 3", "1 +"] {
            assert!(matches!(one(wrong, &["a"]), Holds::No { error: true, .. }), "{wrong}");
        }
    }

    #[test]
    fn a_rule_names_the_checks_of_its_own_policy() {
        let said = answers("checks.b.passed == 3", true, &["p.a", "p.b", "q.a"]);
        assert_eq!(said[0], Holds::Yes);
        assert!(
            matches!(&said[1], Holds::NotKnown { why } if why.ends_with(": q.b")),
            "{said:?}"
        );
    }
}
