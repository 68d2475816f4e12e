//! Evaluates the rules of the table over a merged image, and counts. Must not decide whether a gate opens.

use super::error::LayerFault;
use super::rules::{Applies, Context, FindingSink};
use super::table::RULES;
use repave_core::report::Finding;

/// What evaluating all rules gave.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub evaluated: u64,
    pub passed: u64,
    pub not_applicable: u64,
    pub findings: Vec<Finding>,
}

/// Evaluates every rule that the options want.
pub(super) fn evaluate(context: &Context<'_>) -> Result<Totals, LayerFault> {
    let mut totals = Totals::default();
    for rule in RULES.iter().filter(|rule| rule.wanted(context.options)) {
        let mut found = FindingSink::of(rule);
        match (rule.evaluate)(context, &mut found)? {
            Applies::No => totals.not_applicable += 1,
            Applies::Yes => {
                totals.evaluated += 1;
                let mut findings = found.into_findings();
                totals.passed += u64::from(findings.is_empty());
                totals.findings.append(&mut findings);
            }
        }
    }
    Ok(totals)
}
