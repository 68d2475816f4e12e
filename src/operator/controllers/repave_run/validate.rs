//! Parses a run once: selectors, waves and amounts. Later steps never see the raw spec.
//!
//! The schema refuses most mistakes already; what it cannot see is refused here, and never guessed.

use crate::{
    api::{
        RepaveRun,
        repave_plan::{FailureAction, Targets, Wave},
    },
    controllers::error::{Class, Classified},
    domain::{
        digest::Digest,
        image_ref::Repository,
        object_name::InvalidObjectName,
        wave::{Amount, InvalidAmount, WaveRule, WaveSelector, parse_selector},
    },
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    ResourceExt,
    core::{Expression, ParseExpressionError, Selector},
};
use std::time::Duration;

/// The label that Kubernetes gives every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Bytes of the keys and values of a selector.
const MAX_SELECTOR: usize = 16 << 10;
/// The largest `targets.maxTargets`.
const MAX_TARGETS: i32 = 50_000;

/// A run, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// `namespace/name` of the run: the mark that its workloads carry.
    pub run_ref: String,
    /// Its UID: one that was made anew has the same mark.
    pub uid: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its plan.
    pub plan: String,
    /// The base image.
    pub base_image: String,
    /// The candidate that holds the proof.
    pub candidate: String,
    /// Production repository of the target.
    pub repository: Repository,
    /// The target.
    pub digest: Digest,
    /// Its tag, for people.
    pub tag: String,
    /// The service account that the plan named when the run was made.
    pub account: Option<String>,
    /// Workloads in scope beyond which nothing is done.
    pub max_targets: usize,
    /// Its place in the order of releases of the base image.
    pub sequence: u64,
    /// Which workloads.
    pub scope: Scope,
    /// In which waves.
    pub waves: Vec<WaveRule>,
    /// How long one workload may take.
    pub rollout_deadline: SignedDuration,
    /// How long it must stay healthy then.
    pub min_ready: Duration,
    /// How many may fail.
    pub budget: Amount,
    /// Whether one that the API server refuses to change counts as failed.
    pub count_refused: bool,
    /// What is done with one that fails.
    pub action: FailureAction,
}

impl Validated {
    /// The plan as workloads name it: `namespace/name`.
    pub fn plan_key(&self) -> String {
        format!("{}/{}", self.namespace, self.plan)
    }
}

/// Which workloads a plan may move.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// Namespaces that are opted in.
    pub namespaces: Selector,
    /// Workloads in them.
    pub workloads: Selector,
}

/// Why a spec cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSpec {
    /// A selector has an operator that Kubernetes does not know.
    #[error(
        "{field} cannot be read ({cause}): use matchLabels, or matchExpressions with In, NotIn, Exists or DoesNotExist"
    )]
    Selector {
        /// Where it is.
        field: String,
        /// What is wrong.
        cause: ParseExpressionError,
    },
    /// A selector that costs too much: each workload of the cluster is compared with it.
    #[error(
        "{field} has {found} bytes of keys and values, more than {MAX_SELECTOR}: select by fewer labels, or give the workloads one of their own"
    )]
    LongSelector {
        /// Where it is.
        field: String,
        /// Its bytes.
        found: usize,
    },
    /// A namespace selector that demands no label.
    #[error(
        "targets.namespaceSelector would opt in every namespace: name a label that a namespace must have, for example matchLabels: {{repave: auto}}"
    )]
    EveryNamespace,
    /// A number or percentage.
    #[error("{field}: {cause}")]
    Amount {
        /// Where it is.
        field: String,
        /// What is wrong.
        cause: InvalidAmount,
    },
    /// A reference names no object.
    #[error("{field}: {cause}")]
    Name {
        /// Where it is.
        field: String,
        /// What is wrong.
        cause: InvalidObjectName,
    },
    /// A share that is none.
    #[error("waves[{0}].percent must be between 1 and 100, found {1}")]
    Percent(String, i32),
}

impl Classified for InvalidSpec {
    fn reason(&self) -> &'static str {
        "InvalidSpec"
    }

    fn class(&self) -> Class {
        Class::Stalled
    }
}

/// Parses a run.
pub fn validate(run: &RepaveRun) -> Result<Validated, InvalidSpec> {
    let spec = &run.spec;
    let namespace = run.namespace().unwrap_or_default();
    Ok(Validated {
        run_ref: format!("{namespace}/{}", run.name_any()),
        uid: run.uid(),
        namespace,
        plan: spec.plan.clone(),
        base_image: spec.base_image.clone(),
        candidate: spec.candidate.clone(),
        repository: spec.repository.clone(),
        digest: spec.digest.clone(),
        tag: spec.tag.clone(),
        account: spec.service_account_name.clone(),
        max_targets: max_targets(&spec.targets),
        sequence: spec.sequence,
        scope: scope(&spec.targets)?,
        waves: waves(&spec.waves)?,
        rollout_deadline: spec.health.rollout_deadline.signed(),
        min_ready: Duration::from_secs(u64::from(spec.health.min_ready_seconds.max(0).unsigned_abs())),
        budget: Amount::try_from(&spec.on_failure.budget).map_err(|cause| InvalidSpec::Amount {
            field: "onFailure.budget".to_owned(),
            cause,
        })?,
        count_refused: spec.on_failure.count_refused,
        action: spec.on_failure.action,
    })
}

/// Parses which workloads are meant.
pub fn scope(targets: &Targets) -> Result<Scope, InvalidSpec> {
    let namespaces = parse("targets.namespaceSelector", &targets.namespace_selector)?;
    if !opts_in(&namespaces) {
        return Err(InvalidSpec::EveryNamespace);
    }
    let workloads = match &targets.selector {
        Some(selector) => parse("targets.selector", selector)?,
        None => Selector::default(),
    };
    Ok(Scope { namespaces, workloads })
}

fn parse(field: &str, selector: &LabelSelector) -> Result<Selector, InvalidSpec> {
    let labels = selector.match_labels.iter().flatten();
    let labels = labels.map(|(key, value)| key.len() + value.len());
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.iter().flatten().map(String::len);
        one.key.len() + values.sum::<usize>()
    });
    let found: usize = labels.chain(expressions).sum();
    if found > MAX_SELECTOR {
        let field = field.to_owned();
        return Err(InvalidSpec::LongSelector { field, found });
    }
    parse_selector(selector).map_err(|cause| InvalidSpec::Selector {
        field: field.to_owned(),
        cause,
    })
}

/// How many workloads a plan allows itself.
pub fn max_targets(targets: &Targets) -> usize {
    // What the schema refuses is read as what does least.
    usize::try_from(targets.max_targets.clamp(1, MAX_TARGETS)).unwrap_or(1)
}

/// Whether a selector demands a label that somebody must have given a namespace. One that only says what must not be
/// there, or that the name is there, is met by every namespace that nobody thought of.
fn opts_in(selector: &Selector) -> bool {
    let mut demands = selector.clone().into_iter();
    demands.any(|demand| match demand {
        Expression::In(_, values) => !values.is_empty(),
        Expression::Equal(_, _) => true,
        Expression::Exists(key) => key != NAMESPACE_NAME,
        Expression::NotIn(_, _) | Expression::NotEqual(_, _) | Expression::DoesNotExist(_) => false,
    })
}

/// Parses the waves.
pub fn waves(waves: &[Wave]) -> Result<Vec<WaveRule>, InvalidSpec> {
    waves.iter().map(wave).collect()
}

fn wave(wave: &Wave) -> Result<WaveRule, InvalidSpec> {
    let takes = match (&wave.selector, wave.percent) {
        (Some(selector), _) => WaveSelector::Labelled(parse(&format!("waves[{}].selector", wave.name), selector)?),
        (None, Some(percent)) => match u32::try_from(percent) {
            Ok(share @ 1..=100) => WaveSelector::Percent(share),
            Ok(_) | Err(_) => return Err(InvalidSpec::Percent(wave.name.clone(), percent)),
        },
        (None, None) => WaveSelector::Rest,
    };
    Ok(WaveRule {
        name: wave.name.clone(),
        takes,
        max_concurrent: Amount::try_from(&wave.max_concurrent).map_err(|cause| InvalidSpec::Amount {
            field: format!("waves[{}].maxConcurrent", wave.name),
            cause,
        })?,
        soak: wave.soak.signed(),
    })
}
