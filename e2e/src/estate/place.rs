//! The namespaces of the estate, the plans over them, and the names that the table uses. Must not know a case.

use super::super::{command, light};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A namespace; which plan takes it is part of what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// All is well.
    Moved,
    /// Nothing is to be written.
    Left,
    /// The release breaks it.
    Broken,
    /// Admission refuses every patch of a robot; the plan is that of `Broken`.
    Frozen,
    /// A quota leaves no room for one more pod; the plan is that of `Broken`.
    Quota,
    /// People are at work.
    People,
    /// What can be moved only after the run.
    Later,
    /// Opted in after the run of `Later`.
    OptedInLater,
    /// Kinds other than Deployments.
    Kinds,
    /// The plan's service account may read it, and may not write.
    Foreign,
    /// The plan's service account may do nothing here.
    Secret,
    /// No plan takes it.
    Outside,
    /// A small budget.
    Budget,
    /// Two plans take it.
    Shared,
    /// A tenant with a base image of his own.
    Deputy,
}

/// All of them.
pub const GROUPS: [Group; 15] = [
    Group::Moved,
    Group::Left,
    Group::Broken,
    Group::Frozen,
    Group::Quota,
    Group::People,
    Group::Later,
    Group::OptedInLater,
    Group::Kinds,
    Group::Foreign,
    Group::Secret,
    Group::Outside,
    Group::Budget,
    Group::Shared,
    Group::Deputy,
];

impl Group {
    /// The end of its namespace's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Left => "left",
            Self::Broken => "broken",
            Self::Frozen => "frozen",
            Self::Quota => "quota",
            Self::People => "people",
            Self::Later => "later",
            Self::OptedInLater => "opted-in-later",
            Self::Kinds => "kinds",
            Self::Foreign => "foreign",
            Self::Secret => "secret",
            Self::Outside => "outside",
            Self::Budget => "budget",
            Self::Shared => "shared",
            Self::Deputy => "deputy",
        }
    }

    /// The plan whose run concerns it.
    pub fn plan(self) -> Option<&'static str> {
        match self {
            Self::Moved => Some("moved"),
            Self::Left => Some("left"),
            Self::Broken | Self::Frozen | Self::Quota => Some("broken"),
            Self::People => Some("people"),
            Self::Later | Self::OptedInLater => Some("later"),
            Self::Kinds => Some("kinds"),
            Self::Foreign | Self::Secret => Some("foreign"),
            Self::Budget => Some("budget"),
            Self::Shared => Some("first"),
            Self::Outside | Self::Deputy => None,
        }
    }

    /// Whether its namespace is opted in from the start.
    fn opted_in(self) -> bool {
        self != Self::OptedInLater && self.plan().is_some()
    }

    /// What the plan's service account may do with Deployments in it.
    fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Secret | Self::Outside | Self::Deputy => &[],
            Self::Foreign => &["get", "list", "watch"],
            _ => &["get", "list", "watch", "patch"],
        }
    }
}

/// The plans that there are.
pub const PLANS: [&str; 10] = [
    "moved", "left", "broken", "people", "later", "kinds", "foreign", "budget", "first", "second",
];
/// The service account on whose behalf they move.
const ACCOUNT: &str = "mover";

/// The names that the table uses: `${OLD}` and so on.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<&'static str, String>);

impl Names {
    /// Adds one.
    pub fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.insert(name, value.into());
    }

    /// Puts them into a text. A name in JSON text is inside of a string, so its value is escaped as one.
    pub fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| {
            let quoted = Value::String(value.clone()).to_string();
            text.replace(&format!("${{{name}}}"), quoted.trim_matches('"'))
        })
    }

    /// Puts them into an object.
    pub fn fill_object(&self, object: &Value) -> Result<Value> {
        Ok(serde_json::from_str(&self.fill(&object.to_string()))?)
    }
}

/// The namespace of a group.
pub fn namespace(home: &str, group: Group) -> String {
    format!("{home}-{}", group.name())
}

/// Makes the namespaces, the service account with its rights, what refuses and what limits.
pub async fn make(home: &str) -> Result<()> {
    let mut objects =
        vec![json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": home}})];
    for group in GROUPS {
        let name = namespace(home, group);
        let mut labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        if let (Some(plan), true) = (group.plan(), group.opted_in()) {
            labels["repave-estate"] = json!(format!("{home}.{plan}"));
        }
        if group == Group::Shared {
            labels["repave-estate-second"] = json!(format!("{home}.second"));
        }
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
        if !group.verbs().is_empty() {
            objects.extend(rights(home, &name, group));
        }
    }
    objects.extend(refusal(home));
    objects.push(json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one-pod", "namespace": namespace(home, Group::Quota)},
        "spec": {"hard": {"pods": "1"}},
    }));
    apply(&objects).await
}

/// What may be named may be listed: the kinds that are only counted, too.
fn rights(home: &str, namespace: &str, group: Group) -> [Value; 2] {
    let mut rules = vec![json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": group.verbs()})];
    if group == Group::Kinds {
        let all = ["statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs", "pods"];
        rules.push(json!({"apiGroups": ["", "apps", "batch"], "resources": all, "verbs": ["list"]}));
    }
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": ACCOUNT, "namespace": namespace},
            "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": ACCOUNT, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": home}],
        }),
    ]
}

fn refusal(home: &str) -> [Value; 2] {
    let frozen = namespace(home, Group::Frozen);
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": home},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}]},
                "validations": [{
                    "expression": "!request.userInfo.username.startsWith('system:serviceaccount:repave-system:')",
                    "message": "change freeze: ask the release team",
                }],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": home},
            "spec": {"policyName": home, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": frozen}}}},
        }),
    ]
}

/// Takes away all that [`make`] made.
pub async fn remove(home: &str) -> Result<()> {
    let names: Vec<String> = GROUPS.iter().map(|group| namespace(home, *group)).collect();
    let mut words = vec!["delete", "namespace", "--ignore-not-found", "--wait=false"];
    words.extend(names.iter().map(String::as_str));
    command::kubectl(&words).await?;
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        command::kubectl(&["delete", kind, home, "--ignore-not-found"]).await?;
    }
    Ok(())
}

/// The plans, each in the namespace of the base image. `with_account`: whether plans know a service account.
pub fn plans(home: &str, with_account: bool) -> Vec<Value> {
    PLANS.iter().map(|name| plan(home, name, with_account)).collect()
}

fn plan(home: &str, name: &str, with_account: bool) -> Value {
    // Its containers look healthy for six seconds between their crashes.
    let stay = if name == "budget" { 10 } else { 2 };
    let (label, waves, deadline, budget) = match name {
        "broken" => (
            "repave-estate",
            json!([{"name": "all", "maxConcurrent": "100%", "soak": "30s"}]),
            "60s",
            json!(100),
        ),
        "people" => (
            "repave-estate",
            json!([{"name": "all", "maxConcurrent": "100%", "soak": "20s"}]),
            "60s",
            json!(100),
        ),
        "budget" => (
            "repave-estate",
            json!([{"name": "all", "maxConcurrent": 1}]),
            "60s",
            json!(1),
        ),
        "second" => (
            "repave-estate-second",
            json!([{"name": "all", "maxConcurrent": 6}]),
            "5m",
            json!(0),
        ),
        _ => (
            "repave-estate",
            json!([{"name": "all", "maxConcurrent": 6}]),
            "5m",
            json!(0),
        ),
    };
    let mut plan = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan", "metadata": {"name": name, "namespace": home},
        "spec": {
            "baseImageRefs": [{"name": light::NAME}],
            "targets": {"namespaceSelector": {"matchLabels": {label: format!("{home}.{name}")}}},
            "waves": waves,
            "health": {"rolloutDeadline": deadline, "minReadySeconds": stay},
            "onFailure": {"budget": budget, "action": "RollbackWorkload"},
        },
    });
    if with_account {
        plan["spec"]["serviceAccountName"] = json!(ACCOUNT);
    }
    plan
}

/// Applies many objects at once.
pub async fn apply(objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    command::apply(&list.to_string()).await?;
    Ok(())
}
