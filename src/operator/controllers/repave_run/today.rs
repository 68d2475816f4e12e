//! What the plan of a run says today. A run keeps the text that it was made from; an edit of the plan that makes less happen
//! binds it at once, one that makes more or something else happen waits for the next run. Pure.

use super::{
    consumption::consumption,
    estate::{Estate, ObservedWorkload},
    validate::{self, InvalidSpec, Scope, Validated},
};
use crate::{
    api::{RepavePlan, RepaveRun},
    controllers::access::{Account, Barred},
    domain::{
        lineage::Release,
        wave::{self, Amount, WaveRule},
    },
};
use std::sync::Arc;

/// A plan as it is today, as far as it can make less happen in its run.
#[derive(Debug, Clone, PartialEq)]
pub struct Today {
    /// Which workloads it selects.
    pub scope: Scope,
    /// Its waves.
    pub waves: Vec<WaveRule>,
    /// How many may fail.
    pub budget: Amount,
    /// How many workloads it allows itself. A guard and no order: whichever way it was changed, it is in force.
    pub max_targets: usize,
}

/// Reads a plan.
pub fn today(plan: &RepavePlan) -> Result<Today, InvalidSpec> {
    Ok(Today {
        scope: validate::scope(&plan.spec.targets)?,
        waves: validate::waves(&plan.spec.waves)?,
        budget: Amount::try_from(&plan.spec.on_failure.budget).map_err(|cause| InvalidSpec::Amount {
            field: "onFailure.budget".to_owned(),
            cause,
        })?,
        max_targets: validate::max_targets(&plan.spec.targets),
    })
}

/// Who a run acts as: whom its plan names today, or, where the plan is gone, whom it named.
pub fn account(v: &Validated, plan: Option<&RepavePlan>) -> Account {
    Account {
        namespace: v.namespace.clone(),
        name: plan.map_or_else(|| v.account.clone(), |plan| plan.spec.service_account_name.clone()),
    }
}

/// The run with every limit that the plan has lowered since, and with what the plan has taken out marked in the estate.
pub fn narrow(v: &Validated, today: Option<&Today>, target: Option<&Release>, estate: &mut Estate) -> Validated {
    let (Some(today), Some(target)) = (today, target) else {
        return v.clone();
    };
    let mut sizes = vec![0_usize; v.waves.len()];
    for seen in &mut estate.workloads {
        let key = &seen.workload.key;
        let Some(at) = wave::assign(&v.waves, key, &seen.workload.labels) else {
            continue;
        };
        sizes[at] += usize::from(is_direct(seen, target));
        let name = &v.waves[at].name;
        if seen.barred.is_none() && !today.waves.iter().any(|wave| wave.name == *name) {
            Arc::make_mut(seen).barred = Some(Barred::WaveRemoved(name.clone()));
        }
    }
    let mut narrowed = v.clone();
    for (rule, size) in narrowed.waves.iter_mut().zip(&sizes) {
        let now = today.waves.iter().find(|wave| wave.name == rule.name);
        if let Some(now) = now.filter(|now| now.max_concurrent != rule.max_concurrent) {
            let least = now
                .max_concurrent
                .as_limit(*size)
                .min(rule.max_concurrent.as_limit(*size));
            rule.max_concurrent = count(least);
        }
    }
    if today.budget != v.budget {
        let total = estate.workloads.iter().filter(|seen| is_direct(seen, target)).count();
        narrowed.budget = count(today.budget.as_budget(total).min(v.budget.as_budget(total)));
    }
    narrowed
}

fn count(number: usize) -> Amount {
    Amount::Count(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Whether a workload is a target that percentages are of.
fn is_direct(seen: &ObservedWorkload, target: &Release) -> bool {
    let found = consumption(seen, target);
    found.current || !found.outdated.is_empty() || found.newer.is_some() || found.elsewhere.is_some()
}

/// The fields of a plan that were changed since its run was made and wait for the next one, in the words of the manifest.
/// What only makes less happen is not among them: it is in force.
pub fn waiting_edits(plan: &RepavePlan, run: &RepaveRun) -> Vec<String> {
    let (plan, run) = (&plan.spec, &run.spec);
    let mut edits = Vec::new();
    if plan.targets != run.targets {
        edits.push("targets (in force as far as they select less)".to_owned());
    }
    for wave in &plan.waves {
        match run.waves.iter().find(|old| old.name == wave.name) {
            None => edits.push(format!("waves[{}]", wave.name)),
            Some(old) if old != wave => {
                let only_limit = crate::api::repave_plan::Wave {
                    max_concurrent: old.max_concurrent.clone(),
                    ..wave.clone()
                } == *old;
                edits.push(if only_limit {
                    format!("waves[{}].maxConcurrent (in force as far as it is lower)", wave.name)
                } else {
                    format!("waves[{}]", wave.name)
                });
            }
            Some(_) => {}
        }
    }
    let kept: Vec<&str> = plan.waves.iter().map(|wave| wave.name.as_str()).collect();
    let before: Vec<&str> = run
        .waves
        .iter()
        .map(|wave| wave.name.as_str())
        .filter(|name| kept.contains(name))
        .collect();
    if before
        != kept
            .iter()
            .copied()
            .filter(|name| before.contains(name))
            .collect::<Vec<_>>()
    {
        edits.push("the order of waves".to_owned());
    }
    if plan.health != run.health {
        edits.push("health".to_owned());
    }
    if plan.on_failure.action != run.on_failure.action {
        edits.push("onFailure.action".to_owned());
    }
    if plan.on_failure.budget != run.on_failure.budget {
        edits.push("onFailure.budget (in force as far as it is lower)".to_owned());
    }
    edits
}

/// Whether the plan still names the base image of a run.
pub fn names_base_image(plan: &RepavePlan, v: &Validated) -> bool {
    plan.spec
        .base_image_refs
        .iter()
        .any(|reference| reference.name == v.base_image)
}
