//! Whether a Job, or the pod that it made, runs what we ask for. Pure.
//!
//! A name, a label, an owner and an annotation can be written by whoever may create a Job there, so what counts is what
//! runs: the containers of a pod template with their images, commands, environments and mounts, its volumes, and what lets
//! a pod see others. What the API server fills in is no difference. Rights and resources are not compared: a cluster
//! sets them for everybody, and whoever may create a Job may give his own pod the same.

use crate::domain::image_ref::ImageRef;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, PodSpec},
};
use serde_json::{Map, Value};

/// What decides of a container: also what runs a command beside its own.
const OF_CONTAINER: [&str; 14] = [
    "name",
    "image",
    "command",
    "args",
    "env",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "workingDir",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "restartPolicy",
];
/// What decides of a pod, beside its containers and its volumes, whatever admission adds.
const OF_ANY_POD: [&str; 5] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "shareProcessNamespace",
    "ephemeralContainers",
];
/// The same of the template of a Job, to which nobody adds anything after us.
const OF_TEMPLATE: [&str; 4] = ["volumes", "hostAliases", "dnsConfig", "serviceAccountName"];
/// What the API server fills in.
const FILLED_IN: [&str; 4] = ["defaultMode", "apiVersion", "pullPolicy", "recursiveReadOnly"];

/// What of a Job is not as it was asked for, in words; none if it runs just that.
pub fn difference(asked: &Job, found: &Job) -> Option<String> {
    let runs = |job: &Job| template(job).map_or(Ok(Value::Null), essence);
    match (runs(asked), runs(found)) {
        (Ok(asked), Ok(found)) => between("spec.template.spec", &asked, &found),
        (Err(error), _) | (_, Err(error)) => Some(format!("spec.template.spec: cannot be compared: {error}")),
    }
}

/// What of a pod is not as in the template of its Job; none if it runs just that. Admission may add containers and volumes to
/// every pod (a mesh does), but nothing to our containers and none that sees their volumes; an image that was renamed for a
/// mirror is the same by its digest.
pub fn difference_of_pod(pod: &Pod, job: &Job) -> Option<String> {
    let (Some(asked), Some(found)) = (template(job), pod.spec.as_ref()) else {
        return Some("spec: expected the one of its Job, found none".to_owned());
    };
    match (serde_json::to_value(asked), serde_json::to_value(found)) {
        (Ok(asked), Ok(found)) => different_pod(&asked, &found),
        (Err(error), _) | (_, Err(error)) => Some(format!("spec: cannot be compared: {error}")),
    }
}

fn different_pod(asked: &Value, found: &Value) -> Option<String> {
    let whole = |pod: &Value| Value::Object(pick(pod, &OF_ANY_POD));
    let of_pod = || between("spec", &whole(asked), &whole(found));
    let of_lists = || {
        ["volumes", "initContainers", "containers"]
            .into_iter()
            .find_map(|list| kept(list, asked, found))
    };
    of_pod().or_else(of_lists).or_else(|| intruder(asked, found))
}

/// The first of a list of the template that the pod has otherwise, or not at all.
fn kept(list: &str, asked: &Value, found: &Value) -> Option<String> {
    let decisive = |one: &Value| match list {
        "volumes" => one.clone(),
        _containers => Value::Object(pick(one, &OF_CONTAINER)),
    };
    entries(asked, list).find_map(|asked| {
        let name = asked.get("name").and_then(Value::as_str).unwrap_or_default();
        let at = format!("spec.{list}[{name}]");
        let Some(found) = entries(found, list).find(|one| one.get("name") == asked.get("name")) else {
            return Some(format!("{at}: expected it, found none"));
        };
        let (asked, mut found) = (decisive(asked), decisive(found));
        let image = |of: &Value| of.get("image").and_then(Value::as_str).map(str::to_owned);
        if is_same_image(image(&asked).as_deref(), image(&found).as_deref())
            && let (Some(image), Some(found)) = (asked.get("image"), found.as_object_mut())
        {
            found.insert("image".to_owned(), image.clone());
        }
        between(&at, &asked, &found)
    })
}

/// A container that is none of ours and mounts a volume of ours.
fn intruder(asked: &Value, found: &Value) -> Option<String> {
    let names = |of: &Value, list: &str| -> Vec<Value> {
        entries(of, list).filter_map(|one| one.get("name")).cloned().collect()
    };
    let ours = names(asked, "volumes");
    ["initContainers", "containers"].into_iter().find_map(|list| {
        let known = names(asked, list);
        let mut added = entries(found, list).filter(|one| one.get("name").is_none_or(|name| !known.contains(name)));
        let sees = |one: &&Value| {
            let mut mounts = entries(one, "volumeMounts").chain(entries(one, "volumeDevices"));
            mounts.any(|mount| mount.get("name").is_none_or(|name| ours.contains(name)))
        };
        let one = added.find(sees)?;
        let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
        Some(format!(
            "spec.{list}[{name}]: it mounts a volume of this Job and is none of its containers"
        ))
    })
}

fn entries<'a>(of: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    of.get(list).and_then(Value::as_array).into_iter().flatten()
}

fn pick(from: &Value, keys: &[&str]) -> Map<String, Value> {
    let there = keys
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), from.get(*key)?.clone())));
    there.collect()
}

fn is_same_image(asked: Option<&str>, found: Option<&str>) -> bool {
    let digest = |image: Option<&str>| image?.parse::<ImageRef>().ok()?.digest;
    asked == found || digest(asked).is_some_and(|asked| digest(found) == Some(asked))
}

fn template(job: &Job) -> Option<&PodSpec> {
    job.spec.as_ref()?.template.spec.as_ref()
}

/// A pod with what decides only.
fn essence(pod: &PodSpec) -> Result<Value, serde_json::Error> {
    let whole = serde_json::to_value(pod)?;
    let mut essence = pick(&whole, &OF_ANY_POD);
    essence.extend(pick(&whole, &OF_TEMPLATE));
    for list in ["initContainers", "containers"] {
        let picked = entries(&whole, list).map(|container| Value::Object(pick(container, &OF_CONTAINER)));
        essence.insert(list.to_owned(), picked.collect());
    }
    Ok(Value::Object(essence))
}

/// What the API server stores as if it were not there.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => false,
    }
}

fn between(at: &str, asked: &Value, found: &Value) -> Option<String> {
    match (asked, found) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let (asked, found) = (a.get(key), b.get(key));
            if asked.is_none() && FILLED_IN.contains(&key.as_str()) {
                return None;
            }
            let (asked, found) = (asked.unwrap_or(&Value::Null), found.unwrap_or(&Value::Null));
            between(&format!("{at}.{key}"), asked, found)
        }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(n, (asked, found))| between(&format!("{at}[{n}]"), asked, found))
        }
        _same if asked == found || (is_nothing(asked) && is_nothing(found)) => None,
        (asked, found) => {
            let cut = |value: &Value| value.to_string().chars().take(120).collect::<String>();
            Some(format!("{at}: expected {}, found {}", cut(asked), cut(found)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::candidate::{jobs, tests::candidate, validate};
    use serde_json::json;

    fn asked() -> Job {
        let candidate = candidate();
        let validated = validate::validate(&candidate).unwrap();
        let settings = crate::controllers::testing::settings();
        jobs::build(&candidate, &validated, &settings, 1).1
    }

    #[test]
    fn a_job_without_a_template_is_not_the_one_that_was_asked_for() {
        assert_eq!(difference(&asked(), &asked()), None);
        assert!(difference(&asked(), &Job::default()).is_some());
    }

    /// As the API server stores it.
    fn stored(change: impl FnOnce(&mut Value)) -> Job {
        let mut job = serde_json::to_value(asked()).unwrap();
        let pod = &mut job["spec"]["template"]["spec"];
        pod["dnsPolicy"] = json!("ClusterFirst");
        pod["schedulerName"] = json!("default-scheduler");
        for key in ["initContainers", "containers"] {
            for container in pod[key].as_array_mut().unwrap() {
                container["terminationMessagePath"] = json!("/dev/termination-log");
                container["imagePullPolicy"] = json!("IfNotPresent");
            }
        }
        for volume in pod["volumes"].as_array_mut().unwrap() {
            if let Some(map) = volume.get_mut("configMap") {
                map["defaultMode"] = json!(420);
            }
        }
        change(pod);
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_difference() {
        assert_eq!(difference(&asked(), &stored(|_| {})), None);
    }

    type Change = fn(&mut Value);

    #[test]
    fn whatever_runs_otherwise_is_named() {
        let others: [(&str, Change); 9] = [
            ("image", |pod| {
                pod["containers"][0]["image"] = json!("evil.example/report");
            }),
            ("command", |pod| {
                pod["initContainers"][1]["command"] = json!(["/bin/sh"]);
            }),
            ("args", |pod| {
                pod["containers"][0]["args"] = json!(["--options", "/mine"]);
            }),
            ("env", |pod| {
                pod["containers"][0]["env"] = json!([{"name": "LD_PRELOAD", "value": "x"}]);
            }),
            ("volumeMounts", |pod| {
                pod["containers"][0]["volumeMounts"][0]["subPath"] = json!("x");
            }),
            ("volumes", |pod| pod["volumes"][0]["configMap"]["name"] = json!("mine")),
            ("volumes", |pod| {
                pod["volumes"][0]["configMap"]["items"] = json!([{"key": "a", "path": "b"}]);
            }),
            ("initContainers", |pod| {
                let more = json!({"name": "more", "image": "evil.example/x"});
                pod["initContainers"].as_array_mut().unwrap().push(more);
            }),
            ("hostAliases", |pod| {
                pod["hostAliases"] = json!([{"ip": "10.0.0.1", "hostnames": ["r.test"]}]);
            }),
        ];
        for (at, change) in others {
            let said = difference(&asked(), &stored(change)).unwrap_or_else(|| panic!("{at} was not seen"));
            assert!(said.contains(at) && said.contains("expected"), "{said}");
        }
    }

    #[test]
    fn a_pod_is_of_its_job_if_it_runs_its_containers_whatever_was_added_to_it() {
        let job = stored(|_| {});
        let spec = job.spec.as_ref().unwrap().template.spec.clone().unwrap();
        let pod = |change: fn(&mut Value)| -> Pod {
            let mut pod = json!({"metadata": {"name": "p"}, "spec": serde_json::to_value(&spec).unwrap()});
            change(&mut pod["spec"]);
            serde_json::from_value(pod).unwrap()
        };
        assert_eq!(difference_of_pod(&pod(|_| {}), &job), None);
        let sidecar = pod(|spec| {
            let more = json!({"name": "proxy", "image": "mesh.example/proxy"});
            spec["containers"].as_array_mut().unwrap().push(more);
        });
        assert_eq!(difference_of_pod(&sidecar, &job), None);
        for forged in [
            pod(|spec| spec["containers"][0]["image"] = json!("evil.example/report")),
            pod(|spec| spec["containers"][0]["command"] = json!(["/bin/sh"])),
            pod(|spec| spec["volumes"][0]["configMap"]["name"] = json!("mine")),
            pod(|spec| spec["initContainers"] = json!([])),
        ] {
            assert!(difference_of_pod(&forged, &job).is_some());
        }
        let (ours, mirrored) = ("r.test/a@sha256:", "mirror.test/r.test/a@sha256:");
        let at = |name: &str, digit: &str| format!("{name}{}", digit.repeat(64));
        let is_same = |a: &str, b: &str| is_same_image(Some(a), Some(b));
        assert!(is_same(&at(ours, "a"), &at(mirrored, "a")) && !is_same(&at(ours, "a"), &at(ours, "b")));
        assert!(!is_same("r.test/a:1", "mirror.test/a:1"));
    }

    /// A probe runs a command in the container of the check, as its user and with its volumes.
    #[test]
    fn a_command_that_runs_beside_the_check_is_a_difference() {
        let exec = json!({"exec": {"command": ["/bin/sh", "-c", "echo forged > /proc/1/fd/1"]}, "periodSeconds": 1});
        let others: [(&str, Change); 4] = [
            ("startupProbe", |pod| pod["containers"][0]["startupProbe"] = json!({})),
            ("livenessProbe", |pod| pod["containers"][0]["livenessProbe"] = json!({})),
            ("readinessProbe", |pod| {
                pod["containers"][0]["readinessProbe"] = json!({});
            }),
            ("initContainers restartPolicy", |pod| {
                pod["initContainers"][0]["restartPolicy"] = json!("Always");
            }),
        ];
        let unseen: Vec<&str> = others
            .into_iter()
            .filter(|(at, change)| {
                let forged = stored(|pod| {
                    change(pod);
                    if pod["containers"][0].get(*at).is_some() {
                        pod["containers"][0][*at] = exec.clone();
                    }
                });
                difference(&asked(), &forged).is_none()
            })
            .map(|(at, _)| at)
            .collect();
        assert!(unseen.is_empty(), "not seen: {unseen:?}");
    }

    /// The controller of Jobs takes in a pod with the right labels and owner, whoever made it.
    #[test]
    fn a_pod_that_runs_the_same_words_over_other_inputs_is_not_of_its_job() {
        let candidate = candidate();
        let validated = validate::validate(&candidate).unwrap();
        let settings = crate::controllers::testing::settings();
        let check = validated.checks.iter().find(|check| check.name == "hardening").unwrap();
        let image = crate::domain::digest::Digest::of(b"built");
        let job = jobs::check(&candidate, &validated, &settings, check, &image, &[], 1).1;
        let spec = template(&job).unwrap();
        let pod = |change: Change| -> Pod {
            let mut pod = json!({"metadata": {"name": "p"}, "spec": serde_json::to_value(spec).unwrap()});
            change(&mut pod["spec"]);
            serde_json::from_value(pod).unwrap()
        };
        assert_eq!(difference_of_pod(&pod(|_| {}), &job), None, "control");
        let forged: [(&str, Change); 5] = [
            ("another ConfigMap at /inputs", |pod| {
                let mine = json!({"name": "mine", "configMap": {"name": "mine"}});
                pod["volumes"].as_array_mut().unwrap().push(mine);
                for mount in pod["containers"][0]["volumeMounts"].as_array_mut().unwrap() {
                    if mount["mountPath"] == "/inputs" {
                        mount["name"] = json!("mine");
                    }
                }
            }),
            ("an image of mine at /work", |pod| {
                let mine = json!({"name": "mine", "configMap": {"name": "mine"}});
                pod["volumes"].as_array_mut().unwrap().push(mine);
                pod["containers"][0]["volumeMounts"][0]["name"] = json!("mine");
            }),
            ("an init container that writes into /work after the pull", |pod| {
                let more = json!({"name": "z", "image": "evil.example/x", "volumeMounts": [{"name": "work", "mountPath": "/work"}]});
                pod["initContainers"].as_array_mut().unwrap().push(more);
            }),
            ("a command beside the check", |pod| {
                pod["containers"][0]["livenessProbe"] = json!({"exec": {"command": ["/bin/sh"]}});
            }),
            ("an environment", |pod| {
                pod["containers"][0]["env"] = json!([{"name": "SSL_CERT_FILE", "value": "/work/x"}]);
            }),
        ];
        let believed: Vec<&str> = forged
            .into_iter()
            .filter(|(_, change)| difference_of_pod(&pod(*change), &job).is_none())
            .map(|(what, _)| what)
            .collect();
        assert!(believed.is_empty(), "believed: {believed:?}");
    }
}
