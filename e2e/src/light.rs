//! A base image whose releases cost seconds: upstream's versions differ in one variable only, and one check looks at them.
//!
//! Everything is in a namespace and in repositories of its own, so that several may be at work at once.

use crate::{
    command, missing,
    story::Cast,
    wait::{self, Look},
};
use anyhow::{Context, Result, bail};
use kube::{Api, ResourceExt, api::ListParams};
use repave::{
    api::{
        BaseImage, ImageCandidate,
        image_candidate::{CandidateResult, Promoted},
    },
    domain::{digest::Digest, image_ref::Repository},
    evidence::{cosign, signing::PromotionKey},
    registry::Auth,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Name of the BaseImage.
pub const NAME: &str = "light";
/// The tag that is followed, and the channel.
pub const TAG: &str = "12";

/// One light base image.
pub struct Light<'a> {
    cast: &'a Cast,
    /// Its namespace, which is also the folder of its repositories.
    pub namespace: String,
}

impl<'a> Light<'a> {
    /// In this namespace, which exists.
    pub fn new(cast: &'a Cast, namespace: &str) -> Self {
        Self {
            cast,
            namespace: namespace.to_owned(),
        }
    }

    /// Where upstream publishes.
    pub fn upstream(&self) -> Result<Repository> {
        self.cast.world.repository(&format!("{}/upstream", self.namespace))
    }

    /// Where releases go.
    pub fn production(&self) -> Result<Repository> {
        self.cast.world.repository(&format!("{}/base", self.namespace))
    }

    /// The keys, a policy and the BaseImage. With `customize` each release is built by a Job.
    pub async fn declare(&self, checks: &Value, customize: Option<&str>) -> Result<()> {
        self.apply(secret("upstream-key", "cosign.pub", &self.cast.upstream.public))
            .await?;
        self.apply(secret("promotion-key", "cosign.key", &self.cast.promotion.private))
            .await?;
        self.apply(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "ValidationPolicy", "metadata": {"name": "easy"},
            "spec": {"checks": checks},
        }))
        .await?;
        self.apply(self.base_image(NAME, customize)?).await
    }

    /// A BaseImage of this name that follows the upstream and promotes to the production repository.
    pub fn base_image(&self, name: &str, customize: Option<&str>) -> Result<Value> {
        let mut object = json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": name},
            "spec": {
                "source": {"image": self.upstream()?.to_string(), "track": {"tag": TAG}, "interval": "5s"},
                "verify": [{"cosign": {"keyRef": {"name": "upstream-key"}}}],
                "policyRefs": [{"name": "easy"}],
                "promote": {
                    "repository": self.production()?.to_string(), "channelTag": TAG,
                    "signing": {"keyRef": {"name": "promotion-key"}},
                },
            },
        });
        if let Some(containerfile) = customize {
            object["spec"]["customize"] = json!({"containerfile": containerfile});
        }
        Ok(object)
    }

    /// Applies an object to the namespace.
    pub async fn apply(&self, object: Value) -> Result<()> {
        missing::apply(&self.namespace, object).await
    }

    /// Upstream makes a version with these variables, signs it, and moves its tag to it. Gives upstream's digest.
    pub async fn push(&self, version: &str, variables: &[&str]) -> Result<Digest> {
        let world = &self.cast.world;
        let repository = self.upstream()?;
        let source = format!("{}/source", self.namespace);
        world.push(&format!("debian-v1={source}:12")).await?;
        let (from, to) = (
            world.repository(&source)?.tagged("12")?.to_string(),
            repository.tagged(version)?.to_string(),
        );
        let named = format!("VERSION={version}");
        let mut arguments = vec![
            "mutate",
            "--insecure",
            &from,
            "--user",
            "65532",
            "--env",
            &named,
            "--tag",
            &to,
        ];
        for variable in variables {
            arguments.extend(["--env", variable]);
        }
        command::run("crane", &arguments, None).await?;
        let auth = Auth::anonymous();
        let pushed = world.oci.head(&repository.tagged(version)?, &auth).await?;
        let pushed = pushed.context("the version is not there after the push")?;
        let key = PromotionKey::from_pem(&self.cast.upstream.private)?;
        cosign::sign(&world.oci, &repository, &pushed, &key, &auth).await?;
        world.oci.tag(&repository, &pushed.digest, TAG, &auth).await?;
        Ok(pushed.digest)
    }

    /// Waits until the BaseImage says that what came of this upstream digest is released.
    pub async fn released(&self, source: &Digest, limit: Duration) -> Result<Promoted> {
        let kube = &self.cast.world.kube;
        let candidates = Api::<ImageCandidate>::namespaced(kube.clone(), &self.namespace);
        let bases = Api::<BaseImage>::namespaced(kube.clone(), &self.namespace);
        wait::until(&format!("{} is released", source.short()), limit, || async {
            let status = bases.get(NAME).await?.status.unwrap_or_default();
            let all = candidates.list(&ListParams::default()).await?.items;
            let of_source = all.into_iter().filter(|c| c.spec.source_digest == *source);
            let mut seen = format!("BaseImage: {:?}", status.conditions.iter().find(|c| c.type_ == "Ready"));
            for candidate in of_source {
                let name = candidate.name_any();
                let known = candidate.status.unwrap_or_default();
                if known.result == Some(CandidateResult::Rejected) {
                    bail!("{name} was rejected: {:#?}", known.checks);
                }
                let released = status.released.as_ref().map(|release| &release.digest);
                match known.promoted {
                    Some(promoted) if released == Some(&promoted.digest) => return Ok(Look::Here(promoted)),
                    Some(_) | None => {}
                }
                let last = known.conditions.iter().find(|c| c.type_ == "Ready");
                seen = format!("{seen}; {name}: {last:?}");
            }
            Ok(Look::NotYet(seen))
        })
        .await
    }
}

/// A check that takes a second and lets everything pass that is not broken.
pub fn easy_checks() -> Value {
    json!([{"name": "light", "native": {}, "allow": {"critical": 100, "high": 100, "medium": 1000, "low": 1000, "unknown": 1000}}])
}

fn secret(name: &str, key: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: value}})
}
