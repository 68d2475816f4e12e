//! The pods of `goss` and `container` checks as data: what they mount, what they may, what they are told.

use super::{
    super::{tests::settings, validate},
    *,
};
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// The Job and the options of the one check of a policy.
fn planned(check: &Value, files: &Value) -> (PodSpec, Value) {
    let candidate: ImageCandidate = serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": "debian-12", "namespace": "platform", "uid": "u", "generation": 1},
        "spec": {
            "baseImage": "debian-12", "source": "up.local/debian", "sourceTag": "12",
            "sourceDigest": Digest::of(b"v1"), "inputsHash": Digest::of(b"inputs"), "staging": "r.local:5000/staging",
            "build": {"containerfile": "USER 65532"},
            "policies": [{"name": "p", "files": {"c": files}, "spec": {"checks": [check]}}],
            "promote": {"repository": "r.local:5000/base", "channelTag": "12", "pushSecretRef": {"name": "push"},
                        "signing": {"keyRef": {"name": "key"}}}
        }
    }))
    .unwrap();
    let validated = validate::validate(&candidate).unwrap();
    let image = Digest::of(b"built");
    let (inputs, job) = super::check(
        &candidate,
        &validated,
        &settings(),
        &validated.checks[0],
        &image,
        &[],
        1,
    );
    let options = serde_json::from_str(&inputs.data.unwrap()["options.json"]).unwrap();
    (job.spec.unwrap().template.spec.unwrap(), options)
}

fn goss(mode: &str) -> (PodSpec, Value) {
    let goss = json!({"gossfile": "x", "vars": "y", "mode": mode, "minimumTests": 7, "maximumSkipped": 2});
    planned(
        &json!({"name": "c", "goss": goss}),
        &json!({"goss.yaml": "x", "vars.yaml": "y"}),
    )
}

fn container(result: &str) -> (PodSpec, Value) {
    let image = format!("other.example/lint@{}", Digest::of(b"lint"));
    let container =
        json!({"image": image, "command": ["/lint", "$(HOME)", "a b"], "result": result, "minimumTests": 7});
    planned(&json!({"name": "c", "container": container}), &json!({}))
}

fn mounts(container: &Container) -> Vec<String> {
    let mounts = container.volume_mounts.iter().flatten();
    let shown = mounts.map(|m| {
        format!(
            "{} {} {}",
            m.name,
            m.mount_path,
            if m.read_only == Some(true) { "ro" } else { "rw" }
        )
    });
    shown.collect()
}

fn words(container: &Container) -> String {
    container.command.clone().unwrap().join(" ")
}

fn capabilities(container: &Container) -> (Vec<String>, Vec<String>) {
    let security = container.security_context.clone().unwrap();
    assert_eq!(
        (security.allow_privilege_escalation, security.read_only_root_filesystem),
        (Some(false), Some(true))
    );
    assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let capabilities = security.capabilities.unwrap();
    (
        capabilities.drop.unwrap_or_default(),
        capabilities.add.unwrap_or_default(),
    )
}

#[test]
fn goss_in_the_image_is_a_container_of_the_candidate_with_the_variables() {
    let (pod, options) = goss("InImage");
    assert_eq!(options, json!({"minTests": 7, "maxSkipped": 2}));
    let check = &pod.containers[0];
    assert!(check.image.as_deref().unwrap().starts_with("r.local:5000/staging@"));
    let end = "--goss /repave-tools/goss --gossfile /inputs/goss.yaml --vars /inputs/vars.yaml";
    assert!(words(check).ends_with(end), "{}", words(check));
    assert_eq!(capabilities(check), (vec!["ALL".into()], vec![]));
    assert_eq!(pod.host_users, Some(false));
    let (without, _) = planned(
        &json!({"name": "c", "goss": {"gossfile": "x"}}),
        &json!({"goss.yaml": "x"}),
    );
    assert!(!words(&without.containers[0]).contains("--vars"));
}

#[test]
fn goss_in_a_changed_root_is_a_container_of_the_tools_with_everything_below_that_root() {
    let (pod, _) = goss("Chroot");
    let check = &pod.containers[0];
    assert_eq!(check.image.clone().unwrap(), settings().tools_image.to_string());
    let end = "--root /candidate --goss /candidate/tmp/.repave-tools/goss --gossfile \
               /candidate/tmp/.repave-inputs/goss.yaml --vars /candidate/tmp/.repave-inputs/vars.yaml";
    assert!(words(check).ends_with(end), "{}", words(check));
    assert_eq!(
        mounts(check),
        [
            "candidate /candidate ro",
            "dev /candidate/dev rw",
            "folder /candidate/tmp rw",
            "tools /candidate/tmp/.repave-tools ro",
            "inputs /candidate/tmp/.repave-inputs ro",
            "inputs /inputs ro",
            "tmp /tmp rw"
        ]
    );
    assert_eq!(capabilities(check), (vec!["ALL".into()], vec!["SYS_CHROOT".into()]));
    let install = &pod.init_containers.as_ref().unwrap()[0];
    let end = "--expect-folder /candidate/tmp --expect-folder /candidate/dev --null-file /repave-dev/null";
    assert!(words(install).ends_with(end));
    assert_eq!(
        mounts(install),
        [
            "tools /repave-tools rw",
            "candidate /candidate ro",
            "dev /repave-dev rw"
        ]
    );
    let volumes = pod.volumes.unwrap();
    let image = volumes
        .iter()
        .find(|volume| volume.name == "candidate")
        .unwrap()
        .image
        .clone()
        .unwrap();
    assert!(image.reference.unwrap().starts_with("r.local:5000/staging@"));
    assert_eq!(
        (pod.host_users, pod.automount_service_account_token),
        (Some(false), Some(false))
    );
}

#[test]
fn a_container_check_has_the_layout_and_nothing_else() {
    let (pod, options) = container("JUnit");
    let image = format!("other.example/lint@{}", Digest::of(b"lint"));
    assert_eq!(options, json!({"minTests": 7, "image": image}));
    let check = &pod.containers[0];
    assert_eq!(check.image.as_deref(), Some(image.as_str()));
    // The kubelet must not put a variable in place of what the user wrote.
    let command = check.command.clone().unwrap();
    assert_eq!(command[command.len() - 4..], ["--", "/lint", "$$(HOME)", "a b"]);
    assert!(words(check).contains("runner container --check c --image sha256:"));
    assert!(words(check).contains("--result-format junit --result /result/result --"));
    assert_eq!(
        mounts(check),
        [
            "work /work ro",
            "tools /repave-tools ro",
            "inputs /inputs ro",
            "result /result rw",
            "tmp /tmp rw"
        ]
    );
    assert_eq!(capabilities(check), (vec!["ALL".into()], vec![]));
    assert_eq!(check.security_context.clone().unwrap().run_as_user, Some(65532));
    assert_eq!((&check.env, pod.automount_service_account_token), (&None, Some(false)));
    let volumes = pod.volumes.unwrap();
    let result = volumes.iter().find(|volume| volume.name == "result").unwrap();
    assert_eq!(result.empty_dir.clone().unwrap().size_limit.unwrap().0, "64Mi");
    // Only the first container, our runner's, sees the credentials.
    let init = pod.init_containers.unwrap();
    let sees = |container: &Container| mounts(container).iter().any(|mount| mount.starts_with("registry "));
    assert_eq!(init.iter().map(sees).collect::<Vec<_>>(), [true, false]);
    assert!(words(&init[1]).ends_with("install /repave-tools --without-goss"));
}

#[test]
fn the_runner_understands_what_the_jobs_say() {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: crate::runner::Args,
    }
    for (pod, _) in [
        goss("InImage"),
        goss("Chroot"),
        container("ExitCode"),
        container("JUnit"),
        container("Sarif"),
        container("Repave"),
    ] {
        for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
            let command = container.command.clone().unwrap();
            assert_eq!(command[1], "runner");
            let parsed = <Cli as clap::Parser>::try_parse_from(&command[1..]);
            assert!(parsed.is_ok(), "{}: {}", container.name, parsed.err().unwrap());
        }
    }
}

#[test]
fn an_exit_code_names_no_tests_so_no_minimum_applies() {
    assert_eq!(container("ExitCode").1["minTests"], 1);
    assert_eq!(container("Sarif").1["minTests"], 7);
}

#[test]
fn every_container_says_what_it_needs_so_that_a_quota_admits_its_pod() {
    let pods = [
        goss("InImage").0,
        goss("Chroot").0,
        container("ExitCode").0,
        planned(&json!({"name": "c", "native": {}}), &json!({})).0,
        planned(&json!({"name": "c", "openscap": {"profile": "standard"}}), &json!({})).0,
        planned(&json!({"name": "c", "vulnerabilities": {}}), &json!({})).0,
    ];
    for pod in pods {
        for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
            let resources = container.resources.clone().unwrap_or_default();
            let requests = resources.requests.unwrap_or_default();
            assert!(
                requests.contains_key("cpu")
                    && requests.contains_key("memory")
                    && resources.limits.unwrap_or_default().contains_key("memory"),
                "{}: {}",
                container.name,
                words(container)
            );
        }
    }
}
