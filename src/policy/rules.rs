//! The rules of policies, read before anything is built. Pure.
//!
//! Must not take a rule that could only fail at the end: one that is no expression, or counts on a check that no policy declares. What
//! such a name means is decided by what the rule will be given (`summary.rs`).

use crate::checks::{full_name, own_name};
use repave_api::{image_candidate::PolicySnapshot, validation_policy::ResultRule};
use repave_core::rules::{Expression, InvalidExpression};
use std::collections::BTreeSet;

/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRule {
    /// The policy.
    pub policy: String,
    /// The rule.
    pub rule: String,
    /// What is wrong.
    pub why: InvalidExpression,
}

/// Reads the rules of all policies of a BaseImage.
pub fn read_rules(policies: &[PolicySnapshot]) -> Result<(), InvalidRule> {
    policies.iter().try_for_each(|policy| {
        let known = known(policies, policy);
        read(policy, &known, |_| false)
    })
}

/// Reads the rules of a policy when it is not known which others a BaseImage names beside it: a name with a dot is of a check of
/// another one, and is left to the evaluator.
pub fn read_rules_alone(policy: &PolicySnapshot) -> Result<(), InvalidRule> {
    let known = known(std::slice::from_ref(policy), policy);
    read(policy, &known, |name| name.contains('.'))
}

/// The names of checks that a rule of this policy is given: its own, and all as the status has them.
fn known(policies: &[PolicySnapshot], policy: &PolicySnapshot) -> BTreeSet<String> {
    let all = policies
        .iter()
        .flat_map(|other| other.spec.checks.iter().map(move |check| (other, check)));
    let full = all.map(|(other, check)| full_name(policies, other, &check.name));
    full.flat_map(|full| {
        let own = own_name(&policy.name, &full).map(str::to_owned);
        own.into_iter().chain([full])
    })
    .collect()
}

fn read(policy: &PolicySnapshot, known: &BTreeSet<String>, is_left: impl Fn(&str) -> bool) -> Result<(), InvalidRule> {
    policy.spec.rules.iter().try_for_each(|rule: &ResultRule| {
        let unknown = |expression: &Expression| {
            let mut names = expression.counts_on();
            let found = names.find(|name| !known.contains(*name) && !is_left(name))?;
            Some(InvalidExpression::unknown_check(
                found,
                known.iter().map(String::as_str),
            ))
        };
        let read = Expression::parse(&rule.expression);
        match read.map(|expression| unknown(&expression)) {
            Ok(None) => Ok(()),
            Ok(Some(why)) | Err(why) => Err(InvalidRule {
                policy: policy.name.clone(),
                rule: rule.name.clone(),
                why,
            }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::results;
    use repave_api::ImageCandidateStatus;
    use serde_json::json;

    fn policy(name: &str, checks: &[&str], rule: &str) -> PolicySnapshot {
        let checks: Vec<_> = checks.iter().map(|name| json!({"name": name, "native": {}})).collect();
        let rules = json!([{"name": "r", "expression": rule, "message": "m"}]);
        serde_json::from_value(json!({"name": name, "spec": {"checks": checks, "rules": rules}})).unwrap()
    }

    fn said(result: Result<(), InvalidRule>) -> String {
        result.map_or_else(
            |invalid| format!("{}/{}: {}", invalid.policy, invalid.rule, invalid.why),
            |()| "read".to_owned(),
        )
    }

    #[test]
    fn a_check_that_the_policy_does_not_declare_is_refused_with_those_that_it_does() {
        let alone = |rule: &str| {
            let policies = [policy("p", &["cves", "openscap"], rule)];
            let said = said(read_rules(&policies));
            assert_eq!(said, self::said(read_rules_alone(&policies[0])), "{rule}");
            said
        };
        let refused = "p/r: expected one of the checks cves, openscap, found \"openscpa\"";
        for rule in [
            "checks.openscpa.passed > 0",
            "checks['openscpa'].passed > 0",
            "checks.cves.passed > 0 && checks.openscpa.passed > 0",
            "has(checks.openscap) && checks.openscpa.passed > 0",
        ] {
            assert!(alone(rule).starts_with(refused), "{rule}: {}", alone(rule));
        }
        for rule in [
            "checks.openscap.passed > 0 && checks['cves'].passed > 0",
            "!has(checks.openscpa) || checks.openscpa.passed > 0",
            "has(checks.openscpa)",
            "checks.all(c, checks[c].passed > 0)",
        ] {
            assert_eq!(alone(rule), "read", "{rule}");
        }
        assert!(alone("1 +").starts_with("p/r: expected a CEL expression"));
    }

    #[test]
    fn with_several_policies_a_rule_may_name_the_checks_of_the_others_by_their_whole_names() {
        let both = |rule: &str| {
            let policies = [policy("p", &["cves"], rule), policy("q", &["cis"], "true")];
            (said(read_rules(&policies)), said(read_rules_alone(&policies[0])))
        };
        let read = || "read".to_owned();
        for rule in [
            "checks.cves.passed > 0",
            "checks['p.cves'].passed > 0",
            "checks['q.cis'].passed > 0",
        ] {
            assert_eq!(both(rule), (read(), read()), "{rule}");
        }
        let refused = "p/r: expected one of the checks cves, p.cves, q.cis, found ";
        let (whole, alone) = both("checks['q.cves'].passed > 0");
        assert!(whole.starts_with(refused), "{whole}");
        assert_eq!(alone, "read", "which others there are is not known");
        let (whole, alone) = both("checks.cis.passed > 0");
        assert!(whole.starts_with(refused), "{whole}");
        assert!(
            alone.starts_with("p/r: expected one of the checks cves, found "),
            "{alone}"
        );
    }

    /// What is accepted here is what a rule is given, and nothing else is.
    #[test]
    fn the_known_names_are_those_under_which_a_rule_finds_results() {
        let rule = "checks.all(c, c != 'none')";
        for policies in [
            vec![policy("p", &["a", "b"], rule)],
            vec![policy("p", &["a", "b"], rule), policy("q", &["a"], rule)],
        ] {
            let checks = crate::checks_of(&policies).unwrap().into_iter();
            let judged: Vec<_> = checks
                .map(|check| json!({"name": check.name, "verdict": "Passed", "message": "", "evaluated": 1, "passed": 1, "toolMillis": 1}))
                .collect();
            let status: ImageCandidateStatus = serde_json::from_value(json!({"checks": judged})).unwrap();
            for policy in &policies {
                let given = results(&policy.name, &status, jiff::Timestamp::UNIX_EPOCH).checks;
                assert_eq!(
                    known(&policies, policy),
                    given.into_keys().collect::<BTreeSet<_>>(),
                    "{}",
                    policy.name
                );
            }
        }
    }
}
