//! Who owns a workload's spec: a person, or a tool that writes it again from somewhere else.
//!
//! An owned workload is never patched: its owner would undo that, or roll it twice. Reads metadata only, and errs towards
//! "owned".

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::fmt;

/// The tool that writes a workload's spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Argo CD.
    ArgoCd,
    /// Flux.
    Flux,
    /// Helm.
    Helm,
    /// Another controller, by the kind of its object.
    Controller(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ArgoCd => f.write_str("Argo CD"),
            Self::Flux => f.write_str("Flux"),
            Self::Helm => f.write_str("Helm"),
            Self::Controller(kind) => write!(f, "its {kind}"),
        }
    }
}

const ARGO_MANAGERS: [&str; 2] = ["argocd-controller", "argocd-application-controller"];
const FLUX_MANAGERS: [&str; 1] = ["kustomize-controller"];

/// The owner of the object with this metadata, if there is one.
pub fn owner(meta: &ObjectMeta) -> Option<Owner> {
    let annotated = |key: &str| meta.annotations.as_ref().is_some_and(|a| a.contains_key(key));
    let labelled = |key: &str| meta.labels.as_ref().and_then(|l| l.get(key));
    let managed = |test: &dyn Fn(&str) -> bool| {
        let fields = meta.managed_fields.iter().flatten();
        fields.filter_map(|field| field.manager.as_deref()).any(test)
    };
    if annotated("argocd.argoproj.io/tracking-id")
        || labelled("argocd.argoproj.io/instance").is_some()
        || managed(&|manager| ARGO_MANAGERS.contains(&manager))
    {
        return Some(Owner::ArgoCd);
    }
    if labelled("kustomize.toolkit.fluxcd.io/name").is_some()
        || labelled("helm.toolkit.fluxcd.io/name").is_some()
        || managed(&|manager| FLUX_MANAGERS.contains(&manager))
    {
        return Some(Owner::Flux);
    }
    if annotated("meta.helm.sh/release-name")
        || labelled("app.kubernetes.io/managed-by").is_some_and(|by| by == "Helm")
        || managed(&|manager| manager.starts_with("helm"))
    {
        return Some(Owner::Helm);
    }
    let mut references = meta.owner_references.iter().flatten();
    references
        .find(|reference| reference.controller == Some(true))
        .map(|reference| Owner::Controller(reference.kind.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_known_tool_is_recognised_by_its_marks() {
        let controller = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "App", "name": "a", "uid": "u", "controller": true}]});
        let plain_reference =
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "App", "name": "a", "uid": "u"}]});
        for (meta, expected) in [
            (json!({}), None),
            (plain_reference, None),
            (json!({"labels": {"app.kubernetes.io/managed-by": "someone"}}), None),
            (
                json!({"managedFields": [{"manager": "kubectl-client-side-apply"}]}),
                None,
            ),
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}),
                Some(Owner::ArgoCd),
            ),
            (
                json!({"managedFields": [{"manager": "argocd-controller"}]}),
                Some(Owner::ArgoCd),
            ),
            (
                json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}),
                Some(Owner::Flux),
            ),
            (
                json!({"labels": {"helm.toolkit.fluxcd.io/name": "x"}}),
                Some(Owner::Flux),
            ),
            (
                json!({"annotations": {"meta.helm.sh/release-name": "x"}}),
                Some(Owner::Helm),
            ),
            (
                json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}),
                Some(Owner::Helm),
            ),
            (json!({"managedFields": [{"manager": "helm"}]}), Some(Owner::Helm)),
            (controller, Some(Owner::Controller("App".to_owned()))),
        ] {
            let text = meta.to_string();
            assert_eq!(owner(&serde_json::from_value(meta).unwrap()), expected, "{text}");
        }
    }
}
