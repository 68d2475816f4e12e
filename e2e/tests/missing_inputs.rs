//! "A missing registry, image, signature, Secret, policy or ConfigMap is a condition with the next step, and heals by
//! itself when the thing appears."
//!
//! Needs a cluster and images: `make e2e`. Must not build anything, nor use what the story uses: it has a namespace and
//! repositories of its own.

use anyhow::{Context, Result, ensure};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use repave::{
    api::{BaseImage, ImageCandidate},
    domain::image_ref::Repository,
    evidence::{cosign, signing::PromotionKey},
    registry::Auth,
};
use repave_e2e::{
    missing, operator,
    story::{self, Cast},
};
use serde_json::{Value, json};

#[tokio::test]
async fn whatever_is_missing_is_a_condition_with_the_next_step_and_heals_by_itself() -> Result<()> {
    let cast = story::cast().await?;
    story::operator_is_installed(&cast).await?;
    let before = containers_of_the_operator(&cast).await?;
    missing::in_own_namespace(&cast.world.kube, "missing", async |namespace| {
        let place = Place::new(&cast, namespace)?;
        place.what_the_base_image_refers_to().await?;
        place.what_the_candidate_needs().await?;
        place.a_registry_that_does_not_answer().await?;
        place.no_word_on_how_to_verify().await
    })
    .await?;
    let after = containers_of_the_operator(&cast).await?;
    ensure!(
        before == after,
        "the operator was restarted by what was missing: {before:?}, then {after:?}"
    );
    Ok(())
}

/// Each pod of the operator with its restarts.
async fn containers_of_the_operator(cast: &Cast) -> Result<Vec<(String, i32)>> {
    let pods = Api::<Pod>::namespaced(cast.world.kube.clone(), operator::NAMESPACE);
    let ours = ListParams::default().labels("app.kubernetes.io/name=repave");
    let list = pods.list(&ours).await?.items.into_iter();
    // The pod that an upgrade replaced may be on its way out still.
    let live = list.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(live
        .map(|pod| {
            let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
            (pod.name_any(), statuses.map(|s| s.restart_count).sum())
        })
        .collect())
}

/// The namespace of this test and the repository in which its upstream publishes.
struct Place<'a> {
    cast: &'a Cast,
    namespace: String,
    upstream: Repository,
}

impl<'a> Place<'a> {
    fn new(cast: &'a Cast, namespace: String) -> Result<Self> {
        let upstream = cast.world.repository(&format!("{namespace}/upstream"))?;
        Ok(Self {
            cast,
            namespace,
            upstream,
        })
    }

    /// Policy, ConfigMap, tag: each one is named, and the next one is only when it is there.
    async fn what_the_base_image_refers_to(&self) -> Result<()> {
        let source = self.upstream.to_string();
        let by_key = json!([{"cosign": {"keyRef": {"name": "upstream-key"}}}]);
        self.apply(self.base_image("incomplete", &source, &by_key)).await?;

        let policy = self.base_image_says("incomplete", "PolicyMissing").await?;
        let says = r#"ValidationPolicy "hardened" is not in this namespace: create it, or change spec.policyRefs"#;
        expect(&policy, "False", says)?;
        self.apply(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "ValidationPolicy", "metadata": {"name": "hardened"},
            "spec": {"checks": [{"name": "hardening", "native": {}}]},
        }))
        .await?;

        let map = self.base_image_says("incomplete", "ConfigMapMissing").await?;
        let says = format!(
            r#"ConfigMap "company-ca" is not in namespace {}: create it, and this goes on by itself"#,
            self.namespace
        );
        expect(&map, "False", &says)?;
        self.apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "company-ca"},
            "data": {"another.crt": "not looked at"},
        }))
        .await?;

        let key = self.base_image_says("incomplete", "KeyMissing").await?;
        let says = r#"ConfigMap "company-ca" has no key "ca.crt": add it, or name another key in the reference"#;
        expect(&key, "False", says)?;
        self.apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "company-ca"},
            "data": {"ca.crt": self.cast.upstream.public},
        }))
        .await?;

        let tag = self.base_image_says("incomplete", "TagMissing").await?;
        let says = format!("{source}:12 does not exist at the registry: check source.image and source.track.tag");
        expect(&tag, "False", &says)?;
        let image = format!("debian-v1={}:12", self.upstream.path());
        self.cast.world.push(&image).await?;
        Ok(())
    }

    /// The public key, then upstream's signature.
    async fn what_the_candidate_needs(&self) -> Result<()> {
        let key = self.candidate_says("incomplete", "Verified", "SecretMissing").await?;
        let says = format!(
            r#"Secret "upstream-key" is not in namespace {}: create it, and this goes on by itself"#,
            self.namespace
        );
        expect(&key, "False", &says)?;
        self.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "upstream-key"},
            "stringData": {"cosign.pub": self.cast.upstream.public},
        }))
        .await?;

        let signature = self
            .candidate_says("incomplete", "Verified", "SignaturePending")
            .await?;
        expect(
            &signature,
            "Unknown",
            &format!("no signature found for {}@sha256:", self.upstream),
        )?;
        ensure!(signature.message.contains("sign it"), "{}", signature.message);
        self.base_image_points_to_its_candidate().await?;

        let (oci, auth) = (&self.cast.world.oci, Auth::anonymous());
        let image = oci.head(&self.upstream.tagged("12")?, &auth).await?;
        let image = image.context("the image is not there after the push")?;
        let key = PromotionKey::from_pem(&self.cast.upstream.private)?;
        cosign::sign(oci, &self.upstream, &image, &key, &auth).await?;
        let verified = self
            .candidate_says("incomplete", "Verified", "VerificationSucceeded")
            .await?;
        expect(&verified, "True", "cosign signature")
    }

    /// Who looks only at the BaseImage is told where to look next.
    async fn base_image_points_to_its_candidate(&self) -> Result<()> {
        let ready = self.base_image_says("incomplete", "CandidateWaiting").await?;
        expect(&ready, "False", "kubectl describe imagecandidate incomplete-")
    }

    /// A host that no name server knows. What heals it here is the only thing that can: another host is named.
    async fn a_registry_that_does_not_answer(&self) -> Result<()> {
        let by_key = json!([{"cosign": {"keyRef": {"name": "upstream-key"}}}]);
        self.apply(self.base_image("unreachable", "registry.invalid:5000/debian", &by_key))
            .await?;
        let registry = self.base_image_says("unreachable", "RegistryUnreachable").await?;
        expect(&registry, "False", "registry.invalid:5000")?;
        ensure!(registry.message.contains("check the name"), "{}", registry.message);
        let there = json!({"spec": {"source": {"image": self.upstream.to_string()}}});
        self.patch("unreachable", &there).await?;
        let verified = self
            .candidate_says("unreachable", "Verified", "VerificationSucceeded")
            .await?;
        expect(&verified, "True", "cosign signature")
    }

    /// Nothing says how to tell that upstream is genuine: nothing is built, and the sentence says what to declare.
    async fn no_word_on_how_to_verify(&self) -> Result<()> {
        let source = self.upstream.to_string();
        self.apply(self.base_image("undeclared", &source, &json!([]))).await?;
        let nothing = self
            .candidate_says("undeclared", "Verified", "VerificationNotConfigured")
            .await?;
        expect(
            &nothing,
            "False",
            "spec.verify: [{cosign: {keyRef: {name: <Secret with cosign.pub>}}}]",
        )?;
        let declared = json!({"spec": {"verify": [{"cosign": {"keyRef": {"name": "upstream-key"}}}]}});
        self.patch("undeclared", &declared).await?;
        let verified = self
            .candidate_says("undeclared", "Verified", "VerificationSucceeded")
            .await?;
        expect(&verified, "True", "cosign signature")
    }

    fn base_image(&self, name: &str, source: &str, verify: &Value) -> Value {
        let production = format!("{}/{}/{name}", self.cast.world.registry, self.namespace);
        json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": name},
            "spec": {
                "source": {"image": source, "track": {"tag": "12"}, "interval": "5s"},
                "verify": verify,
                "customize": {"caCertificates": [{"configMapRef": {"name": "company-ca"}}]},
                "policyRefs": [{"name": "hardened"}],
                "promote": {
                    "repository": production, "channelTag": "12",
                    "signing": {"keyRef": {"name": "promotion-key"}},
                },
            },
        })
    }

    async fn apply(&self, object: Value) -> Result<()> {
        missing::apply(&self.namespace, object).await
    }

    async fn patch(&self, name: &str, change: &Value) -> Result<()> {
        let api = Api::<BaseImage>::namespaced(self.cast.world.kube.clone(), &self.namespace);
        api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }

    /// Waits until the BaseImage is not ready for this reason.
    async fn base_image_says(&self, name: &str, reason: &str) -> Result<Condition> {
        let api = Api::<BaseImage>::namespaced(self.cast.world.kube.clone(), &self.namespace);
        missing::reason("Ready", reason, || async {
            Ok(api.get(name).await?.status.unwrap_or_default().conditions)
        })
        .await
        .with_context(|| format!("BaseImage {name}"))
    }

    /// Waits until a candidate of the BaseImage says this; an older one may say something else.
    async fn candidate_says(&self, base_image: &str, type_: &str, reason: &str) -> Result<Condition> {
        let api = Api::<ImageCandidate>::namespaced(self.cast.world.kube.clone(), &self.namespace);
        missing::reason(type_, reason, || async {
            let all = api.list(&ListParams::default()).await?.items.into_iter();
            let of_it = all.filter(|candidate| candidate.spec.base_image == base_image);
            Ok(of_it.flat_map(|c| c.status.unwrap_or_default().conditions).collect())
        })
        .await
        .with_context(|| format!("candidate of BaseImage {base_image}"))
    }
}

fn expect(condition: &Condition, status: &str, says: &str) -> Result<()> {
    ensure!(
        condition.status == status && condition.message.contains(says),
        "expected {status} with {says:?}, found {condition:?}"
    );
    Ok(())
}
