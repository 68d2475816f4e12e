//! Makes the runs of a plan. A run that is there already is no failure: its name says plan, base image, digest and sequence.

use super::plan::Action;
use crate::{
    api::RepaveRun,
    controllers::{
        context::Context,
        error::{Class, Classified},
    },
};
use kube::{Api, ResourceExt, api::PostParams};

/// Field manager of the runs.
const CHILDREN_MANAGER: &str = "repave/children";

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API refused or did not answer.
    #[error("RepaveRun {name} could not be created: {cause}")]
    Api {
        /// Its name.
        name: String,
        /// What the API said.
        cause: kube::Error,
    },
    /// Its name is taken.
    #[error("RepaveRun {0} exists and does not belong to this plan: delete it, or rename the plan")]
    NameTaken(String),
}

impl Classified for ApplyError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Api { .. } => "RunNotCreated",
            Self::NameTaken(_) => "RunNameTaken",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Api { .. } => Class::Transient,
            Self::NameTaken(_) => Class::Stalled,
        }
    }
}

/// What came of the actions.
#[derive(Debug, Default)]
pub struct Made {
    /// The runs that are there now because of them.
    pub created: Vec<RepaveRun>,
}

/// Carries out the actions.
pub async fn apply(ctx: &Context, actions: &[Action]) -> Result<Made, ApplyError> {
    let mut made = Made::default();
    for action in actions {
        match action {
            Action::CreateRun(run) => made.created.push(create(ctx, run).await?),
            Action::Reopen { namespace, name } => {
                // Nobody listening means that the runs have no controller yet; then this is asked again.
                if ctx.reopened.send((namespace.clone(), name.clone())).is_err() {
                    tracing::debug!(name, "no controller of runs yet");
                }
            }
        }
    }
    Ok(made)
}

async fn create(ctx: &Context, run: &RepaveRun) -> Result<RepaveRun, ApplyError> {
    let api: Api<RepaveRun> = Api::namespaced(ctx.client.clone(), &run.namespace().unwrap_or_default());
    let params = PostParams {
        field_manager: Some(CHILDREN_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let failed = |cause| ApplyError::Api {
        name: run.name_any(),
        cause,
    };
    match api.create(&params, run).await {
        Ok(made) => {
            tracing::info!(name = %run.name_any(), "run created");
            Ok(made)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let there = api.get(&run.name_any()).await.map_err(failed)?;
            let of = |run: &RepaveRun| {
                let spec = &run.spec;
                let target = (spec.base_image.clone(), spec.repository.clone(), spec.digest.clone());
                (target, spec.sequence, run.owner_references().to_vec())
            };
            let same = of(&there) == of(run);
            if same {
                Ok(there)
            } else {
                Err(ApplyError::NameTaken(run.name_any()))
            }
        }
        Err(cause) => Err(failed(cause)),
    }
}
