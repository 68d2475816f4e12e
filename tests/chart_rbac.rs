//! The rights that the chart and config/ give, verb by verb, against one explicit table.
//!
//! A right that is added to a template and not here fails, and so does one that is missing. Needs `helm` and `kubectl`
//! in the folder that `REPAVE_TOOLS` names, or in target/tools/bin, or (kubectl) on the PATH; without them it fails.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Role, API group, resource, names it is limited to, verbs.
type Right = (&'static str, &'static str, &'static str, &'static str, &'static str);

const CRDS: &str = "baseimages.repave.dev imagecandidates.repave.dev releasehistories.repave.dev repaveplans.repave.dev repaveruns.repave.dev \
                    validationpolicies.repave.dev waivers.repave.dev";

/// Everything that anybody gets. One line per resource, in any order.
const RIGHTS: &[Right] = &[
    ("repave-controller", "repave.dev", "baseimages", "", "get list watch"),
    (
        "repave-controller",
        "repave.dev",
        "validationpolicies",
        "",
        "get list watch",
    ),
    ("repave-controller", "repave.dev", "waivers", "", "get list watch"),
    ("repave-controller", "repave.dev", "waivers/status", "", "patch"),
    ("repave-controller", "repave.dev", "repaveplans", "", "get list watch"),
    (
        "repave-controller",
        "repave.dev",
        "imagecandidates",
        "",
        "create delete get list watch",
    ),
    (
        "repave-controller",
        "repave.dev",
        "repaveruns",
        "",
        "create delete get list watch",
    ),
    (
        "repave-controller",
        "repave.dev",
        "releasehistories",
        "",
        "create get list patch",
    ),
    ("repave-controller", "repave.dev", "baseimages/status", "", "patch"),
    ("repave-controller", "repave.dev", "imagecandidates/status", "", "patch"),
    ("repave-controller", "repave.dev", "repaveplans/status", "", "patch"),
    ("repave-controller", "repave.dev", "repaveruns/status", "", "patch"),
    ("repave-controller", "repave.dev", "baseimages/finalizers", "", "update"),
    (
        "repave-controller",
        "repave.dev",
        "imagecandidates/finalizers",
        "",
        "update",
    ),
    (
        "repave-controller",
        "repave.dev",
        "repaveplans/finalizers",
        "",
        "update",
    ),
    (
        "repave-controller",
        "batch",
        "jobs",
        "",
        "create delete get list patch watch",
    ),
    ("repave-controller", "", "pods", "", "list"),
    ("repave-controller", "", "pods/log", "", "get"),
    ("repave-controller", "", "configmaps", "", "create get"),
    ("repave-controller", "", "secrets", "", "get"),
    ("repave-controller", "", "namespaces", "", "get list watch"),
    ("repave-controller", "events.k8s.io", "events", "", "create patch"),
    (
        "repave-controller",
        "authorization.k8s.io",
        "subjectaccessreviews",
        "",
        "create",
    ),
    (
        "repave-controller",
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        CRDS,
        "get",
    ),
    ("repave-estate", "apps", "deployments", "", "get list patch watch"),
    ("repave-estate", "apps", "replicasets", "", "list watch"),
    ("repave-estate", "apps", "statefulsets", "", "list watch"),
    ("repave-estate", "apps", "daemonsets", "", "list watch"),
    ("repave-estate", "batch", "cronjobs", "", "list watch"),
    ("repave-estate", "", "pods", "", "list watch"),
    ("repave-mover", "apps", "deployments", "", "get list patch"),
    ("repave-lease", "coordination.k8s.io", "leases", "", "create"),
    (
        "repave-lease",
        "coordination.k8s.io",
        "leases",
        "repave-controller",
        "get update",
    ),
    ("repave-viewer", "repave.dev", "baseimages", "", "get list watch"),
    ("repave-viewer", "repave.dev", "waivers", "", "get list watch"),
    (
        "repave-editor",
        "repave.dev",
        "waivers",
        "",
        "create delete patch update",
    ),
    ("repave-viewer", "repave.dev", "imagecandidates", "", "get list watch"),
    ("repave-viewer", "repave.dev", "releasehistories", "", "get list watch"),
    (
        "repave-viewer",
        "repave.dev",
        "validationpolicies",
        "",
        "get list watch",
    ),
    ("repave-viewer", "repave.dev", "repaveplans", "", "get list watch"),
    ("repave-viewer", "repave.dev", "repaveruns", "", "get list watch"),
    (
        "repave-editor",
        "repave.dev",
        "baseimages",
        "",
        "create delete patch update",
    ),
    (
        "repave-editor",
        "repave.dev",
        "validationpolicies",
        "",
        "create delete patch update",
    ),
    (
        "repave-editor",
        "repave.dev",
        "repaveplans",
        "",
        "create delete patch update",
    ),
];

/// Binding, its namespace, the role it binds.
type Binding = (String, String, String);

fn tool(name: &str) -> PathBuf {
    let folder =
        std::env::var_os("REPAVE_TOOLS").map_or_else(|| Path::new(ROOT).join("target/tools/bin"), PathBuf::from);
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = vec![folder.clone()];
    places.extend(std::env::split_paths(&on_path));
    places
        .into_iter()
        .map(|place| place.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "expected {name} in {} or on the PATH, found none: build it there or set REPAVE_TOOLS",
                folder.display()
            )
        })
}

fn run(name: &str, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let output = Command::new(tool(name))
        .args(arguments)
        .current_dir(ROOT)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn chart(settings: &[&str]) -> Result<Vec<Value>, String> {
    let image = |name: &str| {
        format!(
            "{name}=registry.example.com/repave/{}@{ZEROS}",
            name.trim_end_matches("Image")
        )
    };
    let (tools, builder, digest) = (
        image("toolsImage"),
        image("builderImage"),
        format!("image.digest={ZEROS}"),
    );
    let mut arguments = vec![
        // The oldest version that the chart supports.
        "template",
        "repave",
        "charts/repave",
        "--namespace",
        "repave-system",
        "--kube-version",
        "1.33.0",
        "--set",
        "image.repository=registry.example.com/repave/repave",
        "--set",
        &digest,
        "--set",
        &tools,
        "--set",
        &builder,
    ];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    run("helm", &arguments)
}

fn kustomize() -> Vec<Value> {
    run("kubectl", &["kustomize", "config/default"]).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn is_kind(object: &Value, kinds: &[&str]) -> bool {
    kinds.iter().any(|kind| object["kind"] == **kind)
}

/// (role, group, resource, names) -> verbs, over all roles.
fn rights(objects: &[Value]) -> BTreeMap<[String; 4], BTreeSet<String>> {
    let mut rights: BTreeMap<[String; 4], BTreeSet<String>> = BTreeMap::new();
    for role in objects
        .iter()
        .filter(|object| is_kind(object, &["Role", "ClusterRole"]))
    {
        assert!(role["aggregationRule"].is_null(), "{role}");
        for rule in role["rules"].as_array().unwrap() {
            assert!(rule["nonResourceURLs"].is_null(), "{rule}");
            let mut names = words(&rule["resourceNames"]);
            names.sort();
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    let key = [
                        text(&role["metadata"]["name"]),
                        group.clone(),
                        resource,
                        names.join(" "),
                    ];
                    rights.entry(key).or_default().extend(words(&rule["verbs"]));
                }
            }
        }
    }
    rights
}

fn expected() -> BTreeMap<[String; 4], BTreeSet<String>> {
    let row = |(role, group, resource, names, verbs): &Right| {
        let key = [*role, *group, *resource, *names].map(str::to_owned);
        (key, verbs.split(' ').map(str::to_owned).collect())
    };
    let table: BTreeMap<_, _> = RIGHTS.iter().map(row).collect();
    assert_eq!(table.len(), RIGHTS.len(), "a resource has two lines in the table");
    table
}

/// Every binding; each must bind the operator's ServiceAccount and nobody else.
fn bindings(objects: &[Value]) -> BTreeSet<Binding> {
    let operator = json!([{"kind": "ServiceAccount", "name": "repave", "namespace": "repave-system"}]);
    objects
        .iter()
        .filter(|object| is_kind(object, &["RoleBinding", "ClusterRoleBinding"]))
        .map(|binding| {
            assert_eq!(binding["subjects"], operator);
            let metadata = &binding["metadata"];
            (
                format!("{}/{}", text(&binding["kind"]), text(&metadata["name"])),
                text(&metadata["namespace"]),
                format!(
                    "{}/{}",
                    text(&binding["roleRef"]["kind"]),
                    text(&binding["roleRef"]["name"])
                ),
            )
        })
        .collect()
}

fn triple(binding: &str, namespace: &str, role: &str) -> Binding {
    (binding.to_owned(), namespace.to_owned(), role.to_owned())
}

/// What only Helm adds is left out; everything else must agree.
fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    objects
        .into_iter()
        .filter(|object| !is_kind(object, &["Namespace"]))
        .map(|mut object| {
            if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
                for label in [
                    "helm.sh/chart",
                    "app.kubernetes.io/managed-by",
                    "app.kubernetes.io/version",
                ] {
                    labels.remove(label);
                }
            }
            (
                format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"])),
                object,
            )
        })
        .collect()
}

#[test]
fn the_chart_gives_exactly_the_rights_of_the_table() {
    let objects = chart(&[]).unwrap();
    assert_eq!(rights(&objects), expected());
    let bound = [
        triple(
            "ClusterRoleBinding/repave-controller",
            "",
            "ClusterRole/repave-controller",
        ),
        triple("ClusterRoleBinding/repave-estate", "", "ClusterRole/repave-estate"),
        triple("RoleBinding/repave-lease", "repave-system", "Role/repave-lease"),
    ];
    assert_eq!(bindings(&objects), bound.into());
}

#[test]
fn config_renders_the_same_objects_as_the_chart() {
    let (from_config, from_chart) = (comparable(kustomize()), comparable(chart(&[]).unwrap()));
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&from_config), names(&from_chart));
    for (name, object) in &from_chart {
        assert_eq!(&from_config[name], object, "{name}");
    }
}

#[test]
fn nothing_reaches_for_everything_and_no_secret_is_listed() {
    let variants = [
        chart(&[]).unwrap(),
        chart(&["estate.allNamespaces=false", "estate.namespaces={shop}"]).unwrap(),
        kustomize(),
    ];
    for objects in variants {
        for ([role, group, resource, _], verbs) in rights(&objects) {
            let place = format!("{role}: {group}/{resource}");
            assert!(
                ![&group, &resource]
                    .into_iter()
                    .chain(&verbs)
                    .any(|word| word.contains('*')),
                "{place}"
            );
            if resource == "secrets" {
                assert_eq!(verbs, BTreeSet::from(["get".to_owned()]), "{place}");
            }
            assert!(
                verbs.is_disjoint(
                    &["escalate", "bind", "impersonate", "deletecollection"]
                        .map(str::to_owned)
                        .into()
                ),
                "{place}"
            );
            assert!(
                !resource.starts_with("pods/exec") && !resource.starts_with("pods/attach"),
                "{place}"
            );
        }
    }
}

#[test]
fn an_estate_of_named_namespaces_gives_no_right_beyond_them() {
    let objects = chart(&["estate.allNamespaces=false", "estate.namespaces={shop,payments}"]).unwrap();
    assert_eq!(rights(&objects), expected());
    let bound = [
        triple(
            "ClusterRoleBinding/repave-controller",
            "",
            "ClusterRole/repave-controller",
        ),
        triple("RoleBinding/repave-estate", "shop", "ClusterRole/repave-estate"),
        triple("RoleBinding/repave-estate", "payments", "ClusterRole/repave-estate"),
        triple("RoleBinding/repave-lease", "repave-system", "Role/repave-lease"),
    ];
    let found = bindings(&objects);
    assert_eq!(found, bound.into());
    let deployment = objects.iter().find(|object| is_kind(object, &["Deployment"])).unwrap();
    let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap();
    assert!(variables.contains(&json!({"name": "REPAVE_ESTATE_NAMESPACES", "value": "shop,payments"})));
}

#[test]
fn the_pod_meets_the_restricted_pod_security_level() {
    let objects = chart(&[]).unwrap();
    let deployment = objects.iter().find(|object| is_kind(object, &["Deployment"])).unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(
        pod["securityContext"]["seccompProfile"],
        json!({"type": "RuntimeDefault"})
    );
    assert!(pod["volumes"].is_null() && pod["hostNetwork"].is_null() && pod["hostPID"].is_null());
    let expected =
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
    for container in pod["containers"].as_array().unwrap() {
        assert_eq!(container["securityContext"], expected);
        assert!(text(&container["image"]).contains("@sha256:"), "{container}");
        assert!(!container["resources"]["limits"]["memory"].is_null());
    }
    let account = objects
        .iter()
        .find(|object| is_kind(object, &["ServiceAccount"]))
        .unwrap();
    assert_eq!(account["automountServiceAccountToken"], false);
}

#[test]
fn the_refresh_of_the_databases_is_off_and_meets_the_restricted_level_without_a_token() {
    assert!(!chart(&[]).unwrap().iter().any(|object| is_kind(object, &["CronJob"])));
    let objects = chart(&[
        "vulnerabilityDatabase.grype.image=registry.example.com/db/grype:6",
        "vulnerabilityDatabase.grype.refresh.enabled=true",
        "vulnerabilityDatabase.grype.refresh.pushSecret=push",
        "vulnerabilityDatabase.trivy.image=registry.example.com/db/trivy:2",
        "vulnerabilityDatabase.trivy.refresh.enabled=true",
    ])
    .unwrap();
    assert_eq!(rights(&objects), expected());
    let jobs: Vec<&Value> = objects.iter().filter(|object| is_kind(object, &["CronJob"])).collect();
    let names: Vec<String> = jobs.iter().map(|job| text(&job["metadata"]["name"])).collect();
    assert_eq!(names, ["repave-database-grype", "repave-database-trivy"]);
    for job in &jobs {
        let template = &job["spec"]["jobTemplate"]["spec"]["template"];
        assert_ne!(template["metadata"]["labels"]["app.kubernetes.io/name"], "repave");
        let pod = &template["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert!(pod["serviceAccountName"].is_null());
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"],
            json!({"type": "RuntimeDefault"})
        );
        let container = &pod["containers"][0];
        assert_eq!(
            container["securityContext"],
            json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
        );
        assert!(!container["resources"]["limits"]["memory"].is_null());
    }
    let arguments =
        |job: &Value| words(&job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]);
    let grype = arguments(jobs[0]);
    for word in [
        "--scanner=grype",
        "--to=registry.example.com/db/grype:6",
        "--auth=/registry/.dockerconfigjson",
    ] {
        assert!(grype.iter().any(|argument| argument == word), "{grype:?}");
    }
    assert!(!arguments(jobs[1]).iter().any(|argument| argument.starts_with("--auth")));
    let deployment = objects.iter().find(|object| is_kind(object, &["Deployment"])).unwrap();
    let variables = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let expected = json!({"name": "REPAVE_TRIVY_DATABASE", "value": "registry.example.com/db/trivy:2"});
    assert!(variables.as_array().unwrap().contains(&expected));
}

#[test]
fn wrong_values_are_refused_with_what_to_set() {
    for (settings, says) in [
        (
            ["image.digest=", "replicas=1"],
            "image.repository and image.digest are required",
        ),
        (
            ["toolsImage=", "replicas=1"],
            "toolsImage is required: set it to REPOSITORY@sha256",
        ),
        (["toolsImage=registry.example.com/tools:1", "replicas=1"], "/toolsImage"),
        (
            ["estate.allNamespaces=false", "replicas=1"],
            "estate.namespaces is required",
        ),
        (
            ["leaderElection.enabled=false", "replicas=2"],
            "replicas must be 1 without leader election",
        ),
        (["controller.maxJob=5", "replicas=1"], "maxJob"),
        (
            ["vulnerabilityDatabase.grype.refresh.enabled=true", "replicas=1"],
            "vulnerabilityDatabase.grype.image is required",
        ),
        (
            ["vulnerabilityDatabase.trivy.image=trivy-db", "replicas=1"],
            "vulnerabilityDatabase",
        ),
        (["leaderElection.leaseDuration=soon", "replicas=1"], "leaseDuration"),
    ] {
        let error = chart(&settings).unwrap_err();
        assert!(error.contains(says), "{settings:?}: {error}");
    }
}
