//! The estate, its releases and many base images, as objects. A release is proven by what is written into its candidate's status.

use super::rig::REGISTRY;
use crate::{
    command,
    wait::{self, Look},
};
use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Secret},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams, PostParams},
};
use repave::{
    api::{BaseImage, ImageCandidate, ImageCandidateStatus, RepavePlan, ValidationPolicy},
    domain::digest::Digest,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Namespace of the base images and the plan.
pub const PLATFORM: &str = "platform";
/// Service account of the plan, and the role that it has in the whole cluster.
const MOVER: &str = "mover";
/// Namespaces of the estate.
pub const NAMESPACES: usize = 10;
/// Requests at the same time when many objects are made.
const AT_ONCE: usize = 16;

/// The digest that stands for a word.
pub fn digest(word: &str) -> Digest {
    Digest::of(word.as_bytes())
}

/// The image of a release, by digest.
pub fn image(release: u32) -> String {
    format!("{REGISTRY}/base@{}", digest(&format!("v{release}")))
}

/// Namespace and name of a Deployment.
pub fn place(at: usize) -> (String, String) {
    (format!("estate-{}", at % NAMESPACES), format!("app-{at}"))
}

/// A Deployment of about 6 KB; every second one names the release by its tag.
fn deployment(at: usize, replicas: u32, release: u32) -> Value {
    let (namespace, name) = place(at);
    let by_tag = format!("{REGISTRY}/base:12-v{release}");
    let image = if (at / NAMESPACES).is_multiple_of(2) {
        by_tag
    } else {
        image(release)
    };
    let env: Vec<Value> = (0..12)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value of setting {n} of {name}")}))
        .collect();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, "team": format!("t{}", at % 7), "app.kubernetes.io/part-of": "estate"}},
        "spec": {
            "replicas": replicas, "revisionHistoryLimit": 2, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {"scale/digest": self::image(release)}},
                "spec": {"containers": [{
                    "name": "app", "image": image, "env": env, "ports": [{"containerPort": 8080}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
                    "livenessProbe": {"httpGet": {"path": "/live", "port": 8080}},
                }]},
            },
        },
    })
}

/// Makes a namespace; one that is there already is left.
async fn namespace(kube: &Client, name: &str, opted_in: bool) -> Result<()> {
    let labels = opted_in.then(|| [("repave".to_owned(), "auto".to_owned())].into());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels,
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    Api::all(kube.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(())
}

/// What is there before any estate: namespaces, a policy, a key, a BaseImage without a release.
pub async fn prepare(kube: &Client) -> Result<()> {
    namespace(kube, PLATFORM, false).await?;
    namespace(kube, "repave-system", false).await?;
    for at in 0..NAMESPACES {
        namespace(kube, &format!("estate-{at}"), true).await?;
    }
    let policy = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ValidationPolicy", "metadata": {"name": "hardened", "namespace": PLATFORM},
        "spec": {"checks": [{"name": "hardening", "native": {}}]},
    });
    let policies = Api::<ValidationPolicy>::namespaced(kube.clone(), PLATFORM);
    policies
        .create(&PostParams::default(), &serde_json::from_value(policy)?)
        .await?;
    let algorithm = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let key = command::run("openssl", &algorithm, None).await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "signing"}, "stringData": {"cosign.key": key}});
    Api::<Secret>::namespaced(kube.clone(), PLATFORM)
        .create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await?;
    let bases = Api::<BaseImage>::namespaced(kube.clone(), PLATFORM);
    bases
        .create(
            &PostParams::default(),
            &serde_json::from_value(base_image("base", "upstream", "base"))?,
        )
        .await?;
    Ok(())
}

/// A suspended BaseImage: it looks at its tag, and makes no candidate.
pub fn base_image(name: &str, follows: &str, production: &str) -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": name, "namespace": PLATFORM},
        "spec": {
            "source": {"image": format!("{REGISTRY}/{follows}"), "track": {"tag": "12"}, "interval": "30m"},
            "policyRefs": [{"name": "hardened"}], "suspend": true,
            "promote": {"repository": format!("{REGISTRY}/{production}"), "channelTag": "12", "signing": {"keyRef": {"name": "signing"}}},
        },
    })
}

/// Deployments `from..to` with this many replicas on this release.
pub async fn estate(kube: &Client, from: usize, to: usize, replicas: u32, release: u32) -> Result<()> {
    futures::stream::iter(from..to)
        .map(|at| async move {
            let object: Deployment = serde_json::from_value(deployment(at, replicas, release))?;
            let api = Api::<Deployment>::namespaced(kube.clone(), &place(at).0);
            api.create(&PostParams::default(), &object)
                .await
                .context("a Deployment")?;
            Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// BaseImages that follow `repositories` tags among them.
pub async fn base_images(kube: &Client, count: usize, repositories: usize) -> Result<()> {
    futures::stream::iter(0..count)
        .map(|at| async move {
            let object = base_image(
                &format!("b{at}"),
                &format!("r{}", at % repositories),
                &format!("prod/r{at}"),
            );
            let api = Api::<BaseImage>::namespaced(kube.clone(), PLATFORM);
            api.create(&PostParams::default(), &serde_json::from_value(object)?)
                .await
                .context("a BaseImage")?;
            Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Writes a candidate as if it had come through the pipeline: its BaseImage releases it.
pub async fn release(kube: &Client, number: u32) -> Result<()> {
    let at = format!("2026-01-01T00:00:{:02}Z", number % 60);
    let (name, tag) = (format!("base-v{number}"), format!("12-v{number}"));
    let word = |what: &str| digest(&format!("{what}{number}")).to_string();
    let bases = Api::<BaseImage>::namespaced(kube.clone(), PLATFORM);
    let owner = bases.get("base").await?.controller_owner_ref(&());
    let candidate = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": name, "namespace": PLATFORM, "labels": {"repave.dev/base-image": "base"}, "ownerReferences": [owner]},
        "spec": {
            "baseImage": "base", "source": format!("{REGISTRY}/upstream"), "sourceTag": "12", "sourceDigest": word("up"), "inputsHash": word("in"),
            "sequence": number, "staging": format!("{REGISTRY}/base-staging"), "build": {},
            "policies": [{"name": "hardened", "spec": {"checks": [{"name": "hardening", "native": {}}]}}],
            "promote": {"repository": format!("{REGISTRY}/base"), "channelTag": "12", "signing": {"keyRef": {"name": "signing"}}},
        },
    });
    let candidates = Api::<ImageCandidate>::namespaced(kube.clone(), PLATFORM);
    candidates
        .create(&PostParams::default(), &serde_json::from_value(candidate)?)
        .await?;
    let conditions: Vec<Value> = ["Pulled", "Verified", "Built", "Validated", "Scanned", "Promoted"]
        .iter()
        .map(|step| json!({"type": step, "status": "True", "reason": "Crafted", "message": "for a measurement", "lastTransitionTime": at}))
        .collect();
    // Read into the type, so that a name that has changed is found here and not by the API server.
    let status: ImageCandidateStatus = serde_json::from_value(json!({
        "result": "Passed", "step": "Promoted", "phase": "Released", "conditions": conditions,
        "promoted": {"repository": format!("{REGISTRY}/base"), "digest": word("v"), "tag": tag, "chainId": word("chain"), "layers": 2, "at": at},
    }))?;
    let status = json!({"status": status});
    candidates
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

/// Waits until the BaseImage says that it has released this one.
pub async fn released(kube: &Client, number: u32) -> Result<()> {
    let bases = Api::<BaseImage>::namespaced(kube.clone(), PLATFORM);
    let wanted = digest(&format!("v{number}"));
    wait::until("the release is out", Duration::from_secs(120), || async {
        let status = bases.get_status("base").await?.status.unwrap_or_default();
        Ok(match status.released {
            Some(released) if released.digest == wanted => Look::Here(()),
            _ => Look::NotYet(format!("{:?}", status.conditions)),
        })
    })
    .await
}

/// One plan over the whole estate, in one wave, and the right of its service account to move all of it.
pub async fn plan(kube: &Client, max_concurrent: &Value) -> Result<()> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": MOVER},
        "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "patch"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": MOVER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": MOVER},
        "subjects": [{"kind": "ServiceAccount", "name": MOVER, "namespace": PLATFORM}],
    });
    let params = PostParams::default();
    Api::<ClusterRole>::all(kube.clone())
        .create(&params, &serde_json::from_value(role)?)
        .await?;
    Api::<ClusterRoleBinding>::all(kube.clone())
        .create(&params, &serde_json::from_value(binding)?)
        .await?;
    let plan = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan", "metadata": {"name": "estate", "namespace": PLATFORM},
        "spec": {
            "baseImageRefs": [{"name": "base"}], "serviceAccountName": MOVER, "targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}},
            "waves": [{"name": "all", "maxConcurrent": max_concurrent}], "health": {"rolloutDeadline": "30m", "minReadySeconds": 0},
        },
    });
    let api = Api::<RepavePlan>::namespaced(kube.clone(), PLATFORM);
    api.create(&PostParams::default(), &serde_json::from_value(plan)?)
        .await?;
    Ok(())
}
