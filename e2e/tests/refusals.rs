//! "A wrong manifest is refused at once, by the API server, with a sentence that says what to write instead."
//!
//! Every rule of the definitions that people write is provoked alone; one that no case provokes fails the test. Needs
//! a cluster with our definitions. Must leave nothing behind.

use anyhow::{Context, Result, bail, ensure};
use repave::api;
use repave_e2e::{command, missing, story};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A change to a good manifest and what the refusal must say.
struct Refusal {
    /// JSON pointer to what is written.
    at: &'static str,
    value: Value,
    says: &'static str,
}

fn refusal(at: &'static str, value: Value, says: &'static str) -> Refusal {
    Refusal { at, value, says }
}

#[tokio::test]
async fn every_wrong_base_image_is_refused_with_what_to_write() -> Result<()> {
    each_is_refused("BaseImage", base_image(), base_image_refusals()).await
}

#[tokio::test]
async fn every_wrong_validation_policy_is_refused_with_what_to_write() -> Result<()> {
    each_is_refused("ValidationPolicy", validation_policy(), validation_policy_refusals()).await
}

#[tokio::test]
async fn every_wrong_repave_plan_is_refused_with_what_to_write() -> Result<()> {
    each_is_refused("RepavePlan", repave_plan(), repave_plan_refusals()).await
}

#[tokio::test]
async fn every_wrong_waiver_is_refused_with_what_to_write() -> Result<()> {
    each_is_refused("Waiver", waiver(), waiver_refusals()).await
}

#[tokio::test]
async fn a_history_that_contradicts_itself_is_refused() -> Result<()> {
    let state =
        "state is Revoked exactly where revoked says when and why: use kubectl repave revoke instead of editing";
    let revoked = json!({"at": "2026-01-01T00:00:00Z", "reason": "CVE-2026-1234"});
    let cases = vec![
        refusal("/spec/releases/0/state", "Revoked".into(), state),
        refusal("/spec/releases/0/revoked", revoked, state),
    ];
    each_is_refused("ReleaseHistory", release_history(), cases).await
}

fn release_history() -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ReleaseHistory", "metadata": {"name": "debian-12"},
        "spec": {"lastSequence": 1, "lastCandidate": 1, "count": 1, "releases": [{
            "sequence": 1, "digest": digest(), "sourceDigest": digest(), "chainId": digest(), "layers": 1,
            "repository": "registry.example.com/base/debian", "tag": "12-20260101-0123456789ab", "candidate": "debian-12-a",
            "promotedAt": "2026-01-01T00:00:00Z", "state": "Released",
        }]},
    })
}

#[tokio::test]
async fn what_the_operator_has_recorded_is_immutable() -> Result<()> {
    let cast = story::cast().await?;
    missing::in_own_namespace(&cast.world.kube, "refusals", async |namespace| {
        missing::apply(&namespace, image_candidate()).await?;
        missing::apply(&namespace, repave_run()).await?;
        let patch = json!({"spec": {"sourceTag": "another"}});
        let refused = patched(&namespace, "imagecandidate/debian-12-0123456789ab", &patch).await?;
        let says = "an ImageCandidate is immutable: change the BaseImage or its policy, and a new candidate is made";
        ensure!(refused.contains(says), "{refused}");
        let patch = json!({"spec": {"tag": "another"}});
        let refused = patched(&namespace, "repaverun/everything-0123456789ab", &patch).await?;
        let says = "a RepaveRun is immutable: change its RepavePlan; the next release gets a new run";
        ensure!(refused.contains(says), "{refused}");
        Ok(())
    })
    .await
}

/// What the API server says to a patch that it must refuse.
async fn patched(namespace: &str, object: &str, patch: &Value) -> Result<String> {
    let patch = patch.to_string();
    let arguments = [
        "patch",
        object,
        "--namespace",
        namespace,
        "--type=merge",
        "--patch",
        &patch,
    ];
    match command::kubectl(&arguments).await {
        Ok(accepted) => bail!("{object} was changed by {patch}: {accepted}"),
        Err(refused) => Ok(format!("{refused:#}")),
    }
}

async fn each_is_refused(kind: &str, good: Value, cases: Vec<Refusal>) -> Result<()> {
    let rules = rules(kind)?;
    let world = story::cast().await?.world;
    missing::in_own_namespace(&world.kube, "refusals", async |namespace| {
        created(&namespace, &good)
            .await
            .with_context(|| format!("a good {kind} was refused"))?;
        let (mut provoked, mut wrong) = (BTreeSet::new(), Vec::new());
        for case in &cases {
            let what = format!("{kind} with {} = {:.60}", case.at, case.value.to_string());
            match created(&namespace, &with(&good, case)?).await {
                Ok(_) => wrong.push(format!("{what}: accepted")),
                Err(refused) => {
                    let refused = format!("{refused:#}");
                    // A rule must be broken alone; what the schema itself refuses may take a rule along.
                    let others = rules
                        .iter()
                        .filter(|rule| *rule != case.says && refused.contains(*rule));
                    let alone = !rules.contains(case.says) || others.count() == 0;
                    if !alone || !refused.contains(case.says) {
                        wrong.push(format!("{what}: expected {:?}, found {refused}", case.says));
                    }
                    provoked.insert(case.says.to_owned());
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        let untested: Vec<_> = rules.difference(&provoked).collect();
        ensure!(untested.is_empty(), "{kind}: no case provokes {untested:#?}");
        Ok(())
    })
    .await
}

/// Sends a manifest to the API server as a person would; nothing is kept.
async fn created(namespace: &str, manifest: &Value) -> Result<String> {
    let arguments = ["create", "--dry-run=server", "--namespace", namespace, "--filename=-"];
    command::run("kubectl", &arguments, Some(&manifest.to_string())).await
}

/// The good manifest with one thing changed.
fn with(good: &Value, case: &Refusal) -> Result<Value> {
    let mut manifest = good.clone();
    let (parent, key) = case.at.rsplit_once('/').context("not a JSON pointer")?;
    let parent = manifest
        .pointer_mut(parent)
        .with_context(|| format!("the good manifest has no {parent}"))?;
    match parent {
        Value::Object(fields) => {
            fields.insert(key.to_owned(), case.value.clone());
        }
        Value::Array(list) => {
            *list.get_mut(key.parse::<usize>()?).context("the list is shorter")? = case.value.clone();
        }
        other => bail!("{} is below {other}", case.at),
    }
    Ok(manifest)
}

/// The message of every CEL rule in the definition of a kind.
fn rules(kind: &str) -> Result<BTreeSet<String>> {
    let definition = api::definitions().into_iter().find(|d| d.spec.names.kind == kind);
    let mut messages = BTreeSet::new();
    collect(
        &serde_json::to_value(definition.context("no such definition")?)?,
        &mut messages,
    );
    ensure!(!messages.is_empty(), "{kind} has no rules: the definition was not read");
    Ok(messages)
}

fn collect(value: &Value, messages: &mut BTreeSet<String>) {
    if let Some(rules) = value.get("x-kubernetes-validations").and_then(Value::as_array) {
        messages.extend(
            rules
                .iter()
                .filter_map(|rule| Some(rule["message"].as_str()?.to_owned())),
        );
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|field| collect(field, messages)),
        Value::Array(list) => list.iter().for_each(|item| collect(item, messages)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn digest() -> String {
    format!("sha256:{}", "0123456789abcdef".repeat(4))
}

fn long_name() -> Value {
    "a".repeat(41).into()
}

fn base_image() -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
        "metadata": {"name": "a".repeat(40)},
        "spec": {
            "source": {"image": "registry.example.com:5000/upstream/debian", "track": {"tag": "12-slim"}, "interval": "5s"},
            "verify": [{"cosign": {"keyRef": {"name": "upstream-key"}}}, {"digests": [digest()]}],
            "customize": {
                "caCertificates": [{"configMapRef": {"name": "company-ca"}}],
                "users": {"remove": ["games", "news"]},
                "containerfile": "RUN echo comes FROM here\nUSER 65532\n",
            },
            "policyRefs": [{"name": "hardened"}],
            "promote": {
                "repository": "registry.example.com:5000/base/debian", "channelTag": "12",
                "signing": {"keyRef": {"name": "promotion-key"}},
            },
        },
    })
}

fn base_image_refusals() -> Vec<Refusal> {
    let no_tag = "source.image must have no tag and no digest: write the tag in source.track.tag";
    let no_tag_there = "promote.repository must have no tag and no digest: write the tag in promote.channelTag";
    let same = "promote.repository is the same as source.image: name the repository of your own registry that the proven image is copied to";
    let staging = "promote.stagingRepository is the same as promote.repository: unproven images must never be there; leave it out to use <repository>-staging";
    let name = "metadata.name: at most 40 characters, because the names of its candidates and Jobs are made from it";
    let policies = "policyRefs is empty: name at least one ValidationPolicy, for example [{name: hardened}]; nothing is released unchecked";
    let interval = "source.interval is shorter than 5s: registries throttle such clients; the default is 30m";
    let one_way = "each entry of verify names exactly one of digests or cosign";
    let digests = "verify.digests: each one is sha256: and 64 lower-case hex digits";
    let from = "customize.containerfile must have no FROM: Repave writes it with the verified digest of the source";
    let (releases, rejected) = (
        "history.releases must be 1 to 100: with 0 there would be nothing to go back to",
        "history.rejected must be 0 to 100",
    );
    let users = "customize.users.remove: each one is an account name such as games, and never root";
    let (source, production) = (
        "registry.example.com:5000/upstream/debian",
        "registry.example.com:5000/base/debian",
    );
    let both = json!({"digests": [digest()], "cosign": {"keyRef": {"name": "k"}}});
    vec![
        refusal("/metadata/name", long_name(), name),
        refusal("/spec/source/image", format!("{source}:12").into(), no_tag),
        refusal("/spec/source/image", format!("{source}@{}", digest()).into(), no_tag),
        refusal("/spec/source/interval", "4s".into(), interval),
        refusal("/spec/source/interval", "0s".into(), interval),
        refusal("/spec/verify/0", both, one_way),
        refusal("/spec/verify/0", json!({}), one_way),
        refusal("/spec/verify/1/digests/0", "sha256:0123".into(), digests),
        refusal("/spec/verify/1/digests/0", digest().to_uppercase().into(), digests),
        refusal("/spec/customize/containerfile", "FROM debian:12\n".into(), from),
        refusal("/spec/customize/containerfile", "USER 1\n \tfrom a AS b\n".into(), from),
        refusal("/spec/customize/users/remove/0", "root".into(), users),
        refusal("/spec/customize/users/remove/0", "games;reboot".into(), users),
        refusal("/spec/policyRefs", json!([]), policies),
        refusal("/spec/history", json!({"releases": 0}), releases),
        refusal("/spec/history", json!({"releases": 101}), releases),
        refusal("/spec/history", json!({"rejected": 101}), rejected),
        refusal("/spec/promote/repository", source.into(), same),
        refusal(
            "/spec/promote/repository",
            format!("{production}:12").into(),
            no_tag_there,
        ),
        refusal("/spec/promote/stagingRepository", production.into(), staging),
        // What the schema itself refuses: the answer names the field.
        refusal("/spec/source/image", "".into(), "spec.source.image"),
        refusal("/spec/source/interval", "5".into(), "spec.source.interval"),
        refusal("/spec/source/interval", "99999999h".into(), "spec.source.interval"),
        refusal("/spec/source/track/tag", "not a tag".into(), "spec.source.track.tag"),
        refusal("/spec/promote/channelTag", "12/slim".into(), "spec.promote.channelTag"),
        refusal(
            "/spec/customize/containerfile",
            "#".repeat(16385).into(),
            "spec.customize.containerfile",
        ),
        refusal("/spec/policyRefs/0/name", "".into(), "spec.policyRefs[0].name"),
        refusal(
            "/spec/promote/signing",
            json!({}),
            "spec.promote.signing.keyRef: Required value",
        ),
        refusal("/spec/verfy", json!([]), r#"unknown field "spec.verfy""#),
    ]
}

fn validation_policy() -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ValidationPolicy",
        "metadata": {"name": "hardened"},
        "spec": {"checks": [
            {"name": "hardening", "native": {}, "allow": {"low": 3}, "timeout": "1h"},
            {"name": "functional", "goss": {"gossfileRef": {"name": "base-goss"}, "minimumTests": 8}},
            {"name": "cis", "openscap": {"profile": "cis_level1_server", "minimumRules": 100}},
            {"name": "cves", "vulnerabilities": {
                "scanner": "Grype", "onlyFixable": true, "databaseMaxAge": "48h", "epssAtLeast": 90, "vexRefs": [{"name": "vex"}],
            }},
            {"name": "own", "container": {"image": format!("registry.example.com/own@{}", digest()), "command": ["/check"]}},
        ], "enforcement": "Audit", "rules": [
            {"name": "enough", "expression": "checks.cis.passed >= 100", "message": "fewer than 100 CIS rules passed"},
        ]},
    })
}

fn validation_policy_refusals() -> Vec<Refusal> {
    let checks = "checks is empty: a policy without checks would let everything through; write at least - {name: hardening, native: {}}";
    let one_tool = "each check names exactly one of native, goss, openscap, vulnerabilities or container";
    let timeout = "timeout is between 1s and 1h; the default is 10m";
    let gossfile = "goss names exactly one of gossfile (the tests themselves) or gossfileRef: {name: <ConfigMap>}";
    let vars = "goss names at most one of vars and varsRef";
    let by_digest =
        "container.image must name a digest (image@sha256:…): a check that can change under its name proves nothing";
    let goss = |goss: Value| json!({"name": "functional", "goss": goss});
    let both_files = goss(json!({"gossfile": "file: {}", "gossfileRef": {"name": "g"}}));
    let both_vars = goss(json!({"gossfile": "file: {}", "vars": "a: 1", "varsRef": {"name": "v"}}));
    let own = |image: String| json!({"name": "own", "container": {"image": image, "command": ["/check"]}});
    let two = json!({"name": "two", "native": {}, "openscap": {"profile": "standard"}});
    let misspelt = r#"unknown field "spec.checks[0].allow.hihg""#;
    vec![
        refusal("/spec/checks", json!([]), checks),
        refusal("/spec/checks/0", two, one_tool),
        refusal("/spec/checks/0", json!({"name": "none"}), one_tool),
        refusal("/spec/checks/0/timeout", "1h1s".into(), timeout),
        refusal("/spec/checks/0/timeout", "0s".into(), timeout),
        refusal("/spec/checks/1", goss(json!({})), gossfile),
        refusal("/spec/checks/1", both_files, gossfile),
        refusal("/spec/checks/1", both_vars, vars),
        refusal("/spec/checks/4", own("registry.example.com/own:1".into()), by_digest),
        refusal("/spec/checks/4", own(digest()), by_digest),
        // What the schema itself refuses: the answer names the field.
        refusal("/spec/checks/0/allow", json!({"hihg": 1}), misspelt),
        refusal("/spec/checks/0/allow", json!({"high": -1}), "spec.checks[0].allow.high"),
        refusal("/spec/checks/0/name", "functional".into(), "Duplicate value"),
        refusal("/spec/checks/0/name", "Not A Label".into(), "spec.checks[0].name"),
        refusal("/spec/checks/0/timeout", "1d".into(), "spec.checks[0].timeout"),
        refusal(
            "/spec/checks/1/goss/minimumTests",
            0.into(),
            "spec.checks[1].goss.minimumTests",
        ),
        refusal(
            "/spec/checks/2/openscap/profile",
            "../x".into(),
            "spec.checks[2].openscap.profile",
        ),
        refusal(
            "/spec/checks/2/openscap/dataStream",
            "../x.xml".into(),
            "spec.checks[2].openscap.dataStream",
        ),
        refusal(
            "/spec/checks/2/openscap/minimumRules",
            0.into(),
            "spec.checks[2].openscap.minimumRules",
        ),
        refusal(
            "/spec/checks/3/vulnerabilities/scanner",
            "Other".into(),
            r#"supported values: "Grype", "Trivy""#,
        ),
        refusal(
            "/spec/enforcement",
            "Warn".into(),
            r#"supported values: "Enforce", "Audit""#,
        ),
        refusal(
            "/spec/checks/0/native",
            json!({"rulesEnabled": ["native.nonsense"]}),
            "spec.checks[0].native.rulesEnabled[0]",
        ),
        refusal(
            "/spec/checks/0/native",
            json!({"maxSize": "large"}),
            "spec.checks[0].native.maxSize",
        ),
        refusal(
            "/spec/checks/1/goss/mode",
            "Outside".into(),
            r#"supported values: "InImage", "Chroot""#,
        ),
        refusal(
            "/spec/checks/3/vulnerabilities/epssAtLeast",
            0.into(),
            "spec.checks[3].vulnerabilities.epssAtLeast",
        ),
        refusal(
            "/spec/checks/3/vulnerabilities/vexRefs/0/name",
            "".into(),
            "spec.checks[3].vulnerabilities.vexRefs[0].name",
        ),
        refusal(
            "/spec/checks/4/container/command",
            json!([]),
            "spec.checks[4].container.command",
        ),
        refusal(
            "/spec/checks/4/container/result",
            "TAP".into(),
            r#"supported values: "ExitCode", "JUnit", "Sarif", "Repave""#,
        ),
        refusal("/spec/rules/0/expression", "".into(), "spec.rules[0].expression"),
    ]
}

fn repave_plan() -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan",
        "metadata": {"name": "a".repeat(40)},
        "spec": {
            "baseImageRefs": [{"name": "debian-12"}],
            "targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "maxTargets": 500},
            "waves": [
                {"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "soak": "10s"},
                {"name": "half", "percent": 50, "maxConcurrent": "100%"},
                {"name": "rest", "maxConcurrent": 1},
            ],
            "health": {"rolloutDeadline": "5s", "minReadySeconds": 10},
            "onFailure": {"budget": 0, "action": "Pause"},
        },
    })
}

fn repave_plan_refusals() -> Vec<Refusal> {
    let name = "metadata.name: at most 40 characters, because the names of its runs are made from it";
    let refs = "baseImageRefs is empty: name at least one BaseImage of this namespace, for example [{name: debian-12}]";
    let selector = "targets.namespaceSelector is empty, which would opt in every namespace: name a label, for example matchLabels: {repave: auto}";
    let everything = "targets.namespaceSelector would opt in every namespace: name a label that a namespace must have, for example matchLabels: {repave: auto}";
    let max_targets = "targets.maxTargets is a number from 1 to 50000; the default is 10000";
    let expression = |expression: Value| json!({"matchExpressions": [expression]});
    let waves = "waves is empty: leave it out for one wave with everything, or name at least one";
    let one_of = "a wave names selector or percent, not both; with neither it takes all that is left";
    let percent =
        "percent is between 1 and 100: a wave of 0 percent would take nothing; leave it out to take all that is left";
    let concurrent = "maxConcurrent is a number from 1 to 100000, or a percentage from 1% to 100%";
    let budget = "onFailure.budget is a number from 0 to 100000, or a percentage from 0% to 100%";
    let min_ready = "health.minReadySeconds is a number from 0 to 3600; the default is 10";
    let deadline = "health.rolloutDeadline is shorter than 5s: no workload rolls that fast; the default is 10m";
    vec![
        refusal("/metadata/name", long_name(), name),
        refusal("/spec/baseImageRefs", json!([]), refs),
        refusal("/spec/targets/namespaceSelector", json!({}), selector),
        refusal(
            "/spec/targets/namespaceSelector",
            json!({"matchLabels": {}, "matchExpressions": []}),
            selector,
        ),
        refusal(
            "/spec/targets/namespaceSelector",
            expression(json!({"key": "kubernetes.io/metadata.name", "operator": "Exists"})),
            everything,
        ),
        refusal(
            "/spec/targets/namespaceSelector",
            expression(json!({"key": "team", "operator": "NotIn", "values": []})),
            everything,
        ),
        refusal(
            "/spec/targets/namespaceSelector",
            expression(json!({"key": "team", "operator": "DoesNotExist"})),
            everything,
        ),
        refusal(
            "/spec/targets/namespaceSelector",
            expression(json!({"key": "team", "operator": "In", "values": []})),
            everything,
        ),
        refusal("/spec/targets/maxTargets", 0.into(), max_targets),
        refusal("/spec/waves", json!([]), waves),
        refusal("/spec/waves/0/percent", 10.into(), one_of),
        refusal("/spec/waves/1/percent", 0.into(), percent),
        refusal("/spec/waves/1/percent", 101.into(), percent),
        refusal("/spec/waves/1/maxConcurrent", 5_000_000_000_i64.into(), concurrent),
        refusal("/spec/onFailure/budget", 5_000_000_000_i64.into(), budget),
        refusal("/spec/waves/2/maxConcurrent", 0.into(), concurrent),
        refusal("/spec/waves/2/maxConcurrent", "0%".into(), concurrent),
        refusal("/spec/waves/2/maxConcurrent", "101%".into(), concurrent),
        refusal("/spec/waves/2/maxConcurrent", "5".into(), concurrent),
        refusal("/spec/onFailure/budget", (-1).into(), budget),
        refusal("/spec/onFailure/budget", "101%".into(), budget),
        refusal("/spec/health/rolloutDeadline", "4s".into(), deadline),
        refusal("/spec/health/minReadySeconds", 3601.into(), min_ready),
        // What the schema itself refuses: the answer names the field.
        refusal("/spec/waves/0/name", "rest".into(), "Duplicate value"),
        refusal("/spec/waves/0/name", "Not A Label".into(), "spec.waves[0].name"),
        refusal("/spec/waves/0/soak", "1d".into(), "spec.waves[0].soak"),
        refusal(
            "/spec/waves/2/maxConcurrent",
            "1000%".into(),
            "spec.waves[2].maxConcurrent",
        ),
        refusal(
            "/spec/onFailure/action",
            "Rollback".into(),
            r#"supported values: "RollbackWorkload", "Pause""#,
        ),
        refusal(
            "/spec/targets",
            json!({}),
            "spec.targets.namespaceSelector: Required value",
        ),
        refusal(
            "/spec/onFailure/bugdet",
            1.into(),
            r#"unknown field "spec.onFailure.bugdet""#,
        ),
    ]
}

fn waiver() -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver",
        "metadata": {"name": "a".repeat(63)},
        "spec": {
            "owner": "platform-team", "reason": "no shell in the image calls this", "ticket": "SEC-1",
            "notBefore": "2026-01-01T00:00:00Z", "expiresAt": "2026-02-01T00:00:00Z",
            "scope": {
                "images": {"baseImages": ["debian-12"], "digests": [digest()]}, "checks": ["cves"],
                "findings": [{"id": "CVE-2026-*", "package": "openssl"}, {"id": "*", "subject": "/opt/*"}],
                "maximumSeverity": "high",
            },
        },
    })
}

fn waiver_refusals() -> Vec<Refusal> {
    let name = "metadata.name: at most 63 characters, because statuses and reports name the waivers that were used";
    let period = "notBefore is not before expiresAt: the waiver would never have an effect";
    let reason = "reason: say in at least 10 characters why this is accepted, for those who will ask; for example: no shell in the image calls this";
    let findings = "scope.findings is empty: name at least one, for example [{id: CVE-2026-1234, package: openssl}]";
    let digests = "scope.images.digests: each one is sha256: and 64 lower-case hex digits";
    let everything = "id: '*' alone would waive everything: name a package or a subject too, or write the id";
    let star = "id: a star stands at the end only, for example native.world-writable*";
    vec![
        refusal("/metadata/name", "a".repeat(64).into(), name),
        refusal("/spec/notBefore", "2026-02-01T00:00:00Z".into(), period),
        refusal("/spec/reason", "because".into(), reason),
        refusal("/spec/scope/findings", json!([]), findings),
        refusal("/spec/scope/images/digests/0", "sha256:0123".into(), digests),
        refusal("/spec/scope/findings/0", json!({"id": "*"}), everything),
        refusal("/spec/scope/findings/0/id", "CVE-*-1".into(), star),
        refusal("/spec/scope/findings/0/id", "*-1".into(), star),
        // What the schema itself refuses: the answer names the field.
        refusal("/spec/expiresAt", "next week".into(), "spec.expiresAt"),
        refusal("/spec/expiresAt", Value::Null, "spec.expiresAt"),
        refusal("/spec/owner", "".into(), "spec.owner"),
        refusal(
            "/spec/scope/maximumSeverity",
            "terrible".into(),
            "spec.scope.maximumSeverity",
        ),
        refusal(
            "/spec/scope/finding",
            json!([]),
            r#"unknown field "spec.scope.finding""#,
        ),
    ]
}

/// A candidate of an upstream that nobody can reach: the operator can do nothing with it.
fn image_candidate() -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": "debian-12-0123456789ab"},
        "spec": {
            "baseImage": "debian-12", "source": "registry.invalid/upstream/debian", "sourceTag": "12-slim",
            "sourceDigest": digest(), "inputsHash": digest(), "staging": "registry.invalid/base/debian-staging",
            "build": {}, "policies": [{"name": "hardened", "spec": {"checks": [{"name": "hardening", "native": {}}]}}],
            "promote": {
                "repository": "registry.invalid/base/debian", "channelTag": "12",
                "signing": {"keyRef": {"name": "promotion-key"}},
            },
        },
    })
}

/// A run whose targets no namespace has.
fn repave_run() -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepaveRun",
        "metadata": {"name": "everything-0123456789ab"},
        "spec": {
            "plan": "everything", "baseImage": "debian-12", "candidate": "debian-12-0123456789ab",
            "repository": "registry.invalid/base/debian", "digest": digest(), "tag": "12-1",
            "targets": {"namespaceSelector": {"matchLabels": {"repave": "no-namespace-has-this"}}},
            "waves": [{"name": "all"}], "health": {}, "onFailure": {},
        },
    })
}
