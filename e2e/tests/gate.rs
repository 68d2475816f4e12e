//! "All five kinds of check open the gate together; a new database judges the release again; a tool that became blind
//! promotes nothing."
//!
//! Needs a cluster and images: `make e2e`. It has a namespace and repositories of its own, and puts the databases back.

use anyhow::{Context, Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, ResourceExt, api::ListParams};
use repave::api::{BaseImage, ImageCandidate, ImageCandidateStatus, image_candidate::CandidateResult};
use repave_e2e::{
    command, missing, operator,
    story::{self, Cast},
    wait::{self, Look},
};
use serde_json::{Value, json};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test]
async fn the_gate_opens_for_proof_only_and_notices_when_the_world_or_a_tool_changes() -> Result<()> {
    let cast = story::cast().await?;
    story::operator_is_installed(&cast).await?;
    let outcome = missing::in_own_namespace(&cast.world.kube, "gate", async |namespace| {
        let place = Place::new(&cast, namespace).await?;
        let first = place.all_five_kinds_promote().await?;
        place.a_changed_policy_runs_only_what_changed(&first).await?;
        place.a_new_database_judges_the_release_again().await?;
        place.a_blind_database_promotes_nothing_and_heals().await
    })
    .await;
    // Whatever became of it, other tests need the databases as they were.
    database(&cast, &[]).await?;
    outcome
}

/// Builds Grype's database with these variables and moves its tag to it.
async fn database(cast: &Cast, variables: &[&str]) -> Result<()> {
    let build = cast.world.root.join("e2e/images/build").to_string_lossy().into_owned();
    command::run("env", &[variables, &[build.as_str(), "grype-db"]].concat(), None).await?;
    cast.world.push("grype-db").await?;
    Ok(())
}

struct Place<'a> {
    cast: &'a Cast,
    namespace: String,
    digest: String,
    tools: String,
}

impl<'a> Place<'a> {
    async fn new(cast: &'a Cast, namespace: String) -> Result<Self> {
        let digest = cast.world.push(&format!("debian-v3={namespace}/upstream:12")).await?;
        let tools = operator::image(&cast.world, "tools").await?;
        Ok(Self {
            cast,
            namespace,
            digest,
            tools,
        })
    }

    fn policy(&self, minimum_rules: u32) -> Value {
        json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "ValidationPolicy", "metadata": {"name": "whole"},
            "spec": {
                "checks": [
                    {"name": "hardening", "native": {"rulesEnabled": ["native.healthcheck"]}, "allow": {"low": 5, "medium": 5}},
                    {"name": "functional", "goss": {"mode": "Chroot", "vars": "mode: \"0644\"", "minimumTests": 2,
                        "gossfile": "file:\n  /etc/passwd:\n    exists: true\n    mode: \"{{.Vars.mode}}\"\n"}},
                    {"name": "cis", "openscap": {"profile": "cis_level1_server", "dataStream": "ssg-debian12-ds.xml",
                        "minimumRules": minimum_rules}, "allow": {"medium": 50, "low": 50, "high": 10, "unknown": 5}},
                    {"name": "cves", "vulnerabilities": {"scanner": "Grype", "onlyFixable": true}},
                    {"name": "cves-again", "vulnerabilities": {"scanner": "Trivy", "onlyFixable": true}},
                    {"name": "own", "container": {"image": self.tools, "command": ["/bin/sh", "-c", "cat /work/image/index.json"]}},
                ],
                "rules": [{"name": "enough", "expression": "checks.cis.passed >= 50", "message": "fewer than 50 CIS rules hold"}],
            },
        })
    }

    fn base_image(&self) -> Value {
        let registry = &self.cast.world.registry;
        json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "gate"},
            "spec": {
                "source": {"image": format!("{registry}/{}/upstream", self.namespace), "track": {"tag": "12"}, "interval": "5s"},
                "verify": [{"digests": [self.digest]}],
                "customize": {"containerfile": "USER 65532\n"},
                "policyRefs": [{"name": "whole"}],
                "promote": {
                    "repository": format!("{registry}/{}/base", self.namespace), "channelTag": "12",
                    "signing": {"keyRef": {"name": "promotion-key"}},
                },
            },
        })
    }

    async fn all_five_kinds_promote(&self) -> Result<ImageCandidate> {
        let key = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "promotion-key"},
            "stringData": {"cosign.key": self.cast.promotion.private},
        });
        for object in [key, self.policy(100), self.base_image()] {
            missing::apply(&self.namespace, object).await?;
        }
        let candidate = self.candidate(&[], "it is promoted with its page", |status| {
            status.result == Some(CandidateResult::Passed) && status.page.is_some()
        });
        let candidate = candidate.await?;
        let status = candidate.status.clone().unwrap_or_default();
        let verdicts: Vec<_> = status
            .checks
            .iter()
            .map(|check| (check.name.as_str(), check.verdict.as_str()))
            .collect();
        let names = ["hardening", "functional", "cis", "cves", "cves-again", "own"];
        for name in names {
            ensure!(verdicts.contains(&(name, "Passed")), "{name}: {verdicts:?}");
        }
        self.reports_can_be_read(&candidate).await?;
        Ok(candidate)
    }

    /// With the plugin, as a person would: the page, a raw attachment, the list of packages.
    async fn reports_can_be_read(&self, candidate: &ImageCandidate) -> Result<()> {
        let promoted = candidate
            .status
            .clone()
            .unwrap_or_default()
            .promoted
            .context("promoted")?;
        let image = promoted.repository.at(&promoted.digest).to_string();
        let insecure = ["--insecure-host", self.cast.world.registry.as_str()];
        let report = async |more: &[&str]| {
            let arguments = [&["report", image.as_str()][..], &insecure, more].concat();
            command::run("kubectl-repave", &arguments, None).await
        };
        let page = report(&["-o", "html"]).await?;
        ensure!(
            page.contains("<html") && page.contains("hardening"),
            "no page: {page:.300}"
        );
        let sarif: Value = serde_json::from_str(&report(&["-o", "sarif"]).await?)?;
        ensure!(
            sarif["runs"].as_array().is_some_and(|runs| runs.len() == 6),
            "{sarif:.300}"
        );
        let packages = report(&["--check", "cves", "--raw", "sbom.cdx.json", "--to", "-"]).await?;
        ensure!(packages.contains("CycloneDX"), "{packages:.300}");
        let oscap = report(&["--check", "cis", "--raw", "report.html", "--to", "-"]).await?;
        ensure!(oscap.contains("OpenSCAP"), "{oscap:.300}");
        Ok(())
    }

    /// The same image under another threshold of one check: the others' reports are taken over.
    async fn a_changed_policy_runs_only_what_changed(&self, first: &ImageCandidate) -> Result<()> {
        missing::apply(&self.namespace, self.policy(90)).await?;
        let not = [first.name_any()];
        let second = self.candidate(&not, "it passes as well", |status| {
            status.result == Some(CandidateResult::Passed)
        });
        let second = second.await?;
        let report = |candidate: &ImageCandidate, name: &str| {
            let status = candidate.status.clone().unwrap_or_default();
            status
                .checks
                .into_iter()
                .find(|check| check.name == name)
                .and_then(|check| check.report)
        };
        let built = |candidate: &ImageCandidate| candidate.status.clone().unwrap_or_default().built_digest;
        ensure!(
            built(first) == built(&second),
            "the same build has another digest: {:?} and {:?}",
            built(first),
            built(&second)
        );
        let listed = command::kubectl(&[
            "get",
            "jobs",
            "--namespace",
            &self.namespace,
            "--output",
            "name",
            "--selector",
            &format!("repave.dev/candidate={}", second.name_any()),
        ])
        .await?;
        let started = listed.lines().filter(|job| job.contains("repave-check-")).count();
        ensure!(
            started == 1,
            "expected one check to run again, found {started}: {listed}"
        );
        ensure!(
            report(first, "hardening") == report(&second, "hardening"),
            "the report of an unchanged check is another one"
        );
        Ok(())
    }

    async fn a_new_database_judges_the_release_again(&self) -> Result<()> {
        database(self.cast, &["REPAVE_DB_EXTRA=CVE-2026-7777:acme-base:2.0-1:critical"]).await?;
        let said = self.base_image_says("ReleaseRescanPassed", "AwaitingUpstream").await?;
        ensure!(
            said.message.contains("CVE-2026-7777") && said.message.contains("building it again would change nothing"),
            "{}",
            said.message
        );
        database(self.cast, &[]).await?;
        self.base_image_says("ReleaseRescanPassed", "EvaluatedAgain").await?;
        Ok(())
    }

    async fn a_blind_database_promotes_nothing_and_heals(&self) -> Result<()> {
        database(self.cast, &["REPAVE_DB_BLIND=1"]).await?;
        // The operator looks the tag up every 10 s; the release's own evaluation shows that it has.
        let before = self.names().await?;
        wait::until("the blind database is noticed", LIMIT, || async {
            let all = self.all().await?;
            let blind = all
                .iter()
                .any(|c| condition(c.status.as_ref(), "SelfTestFailed").is_some());
            Ok(if blind {
                Look::Here(())
            } else {
                Look::NotYet("not yet".to_owned())
            })
        })
        .await?;
        missing::apply(&self.namespace, self.policy(80)).await?;
        let untrusted = self.candidate(&before, "it is not believed", |status| {
            condition(Some(status), "SelfTestFailed").is_some()
        });
        let untrusted = untrusted.await?;
        let status = untrusted.status.clone().unwrap_or_default();
        let said = condition(Some(&status), "SelfTestFailed").context("SelfTestFailed")?;
        ensure!(said.message.contains("CVE-2021-44228"), "{}", said.message);
        ensure!(
            status.promoted.is_none() && status.result != Some(CandidateResult::Passed),
            "promoted by a blind tool: {status:#?}"
        );
        database(self.cast, &[]).await?;
        self.candidate(&before, "it is believed again", |status| {
            status.result == Some(CandidateResult::Passed)
        })
        .await?;
        Ok(())
    }

    async fn all(&self) -> Result<Vec<ImageCandidate>> {
        let api = Api::<ImageCandidate>::namespaced(self.cast.world.kube.clone(), &self.namespace);
        Ok(api.list(&ListParams::default()).await?.items)
    }

    async fn names(&self) -> Result<Vec<String>> {
        Ok(self.all().await?.iter().map(ResourceExt::name_any).collect())
    }

    /// Waits for a candidate that is none of these and fits.
    async fn candidate(
        &self,
        not: &[String],
        what: &str,
        fits: impl Fn(&ImageCandidateStatus) -> bool,
    ) -> Result<ImageCandidate> {
        wait::until(what, LIMIT, || async {
            let mut seen = Vec::new();
            for candidate in self.all().await?.into_iter().filter(|c| !not.contains(&c.name_any())) {
                let status = candidate.status.clone().unwrap_or_default();
                if fits(&status) {
                    return Ok(Look::Here(candidate));
                }
                let conditions = status
                    .conditions
                    .iter()
                    .map(|c| format!("{}={} {}", c.type_, c.status, c.message));
                seen.push(format!(
                    "{}: {}",
                    candidate.name_any(),
                    conditions.collect::<Vec<_>>().join(" | ")
                ));
            }
            Ok(Look::NotYet(seen.join("; ")))
        })
        .await
    }

    async fn base_image_says(&self, type_: &str, reason: &str) -> Result<Condition> {
        let api = Api::<BaseImage>::namespaced(self.cast.world.kube.clone(), &self.namespace);
        wait::until(&format!("{type_} has the reason {reason}"), LIMIT, || async {
            let conditions = api.get("gate").await?.status.unwrap_or_default().conditions;
            let found = conditions.iter().find(|c| c.type_ == type_ && c.reason == reason);
            Ok(match found {
                Some(condition) => Look::Here(condition.clone()),
                None => Look::NotYet(format!("{conditions:?}")),
            })
        })
        .await
    }
}

fn condition(status: Option<&ImageCandidateStatus>, type_: &str) -> Option<Condition> {
    let found = status?.conditions.iter().find(|condition| condition.type_ == type_);
    found.filter(|condition| condition.status == "True").cloned()
}
