//! Parses a plan once. The same rules as for a run, so that a plan which would make a bad run makes none.

use crate::{
    api::RepavePlan,
    controllers::repave_run::validate::{self as run, InvalidSpec, Scope},
    domain::{object_name::ObjectName, wave::Amount},
};

/// A plan, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Which workloads.
    pub scope: Scope,
    /// The base images, each one once, in the order of the spec.
    pub base_images: Vec<String>,
}

/// Parses a plan.
pub fn validate(plan: &RepavePlan) -> Result<Validated, InvalidSpec> {
    run::waves(&plan.spec.waves)?;
    Amount::try_from(&plan.spec.on_failure.budget).map_err(|cause| InvalidSpec::Amount {
        field: "onFailure.budget".to_owned(),
        cause,
    })?;
    let mut base_images: Vec<String> = Vec::new();
    for (at, reference) in plan.spec.base_image_refs.iter().enumerate() {
        reference
            .name
            .parse::<ObjectName>()
            .map_err(|cause| InvalidSpec::Name {
                field: format!("baseImageRefs[{at}].name"),
                cause,
            })?;
        if !base_images.contains(&reference.name) {
            base_images.push(reference.name.clone());
        }
    }
    Ok(Validated {
        scope: run::scope(&plan.spec.targets)?,
        base_images,
    })
}
