//! One row of the table, and short ways to write it.

use super::{
    act::{Act, When},
    expect::Expect,
    place::Group,
};
use serde_json::{Value, json};

/// Process 1 must handle TERM, or every roll-out waits for its grace period.
pub const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

/// One row. Texts may use the names of [`super::place::Names`], such as `${OLD}`.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, and that of its Deployment.
    pub name: &'static str,
    /// Where it lives, and which plan moves it.
    pub group: Group,
    /// What is there before the release; the Deployment of this name is the one that is judged.
    pub objects: Vec<Value>,
    /// What people do meanwhile.
    pub acts: Vec<(When, Act)>,
    /// What must come of it.
    pub expect: Expect,
    /// Why it cannot be had yet; a limit that holds by now is told too.
    pub limit: Option<&'static str>,
}

/// A case with one Deployment of one container on this image.
pub fn case(name: &'static str, group: Group, image: &str, expect: Expect) -> Case {
    Case {
        name,
        group,
        objects: vec![deployment(name, image, IDLE)],
        acts: Vec::new(),
        expect,
        limit: None,
    }
}

/// A case without a Deployment of its own.
pub fn without(name: &'static str, group: Group, expect: Expect) -> Case {
    Case {
        name,
        group,
        objects: Vec::new(),
        acts: Vec::new(),
        expect,
        limit: None,
    }
}

impl Case {
    /// Sets a field of the Deployment, by JSON pointer; what is missing on the way is made.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        if let Some(first) = self.objects.first_mut() {
            set(first, pointer, value);
        }
        self
    }

    /// Its container runs this instead.
    #[must_use]
    pub fn script(self, script: &str) -> Self {
        let command = json!(["/bin/sh", "-c", format!("{script}; {IDLE}")]);
        self.set("/spec/template/spec/containers/0/command", command)
    }

    /// Whether a Deployment of this name is judged.
    pub fn is_of_a_deployment(&self) -> bool {
        self.expect.image != super::expect::Image::Any || !self.expect.also.is_empty()
    }

    /// Something else is there too.
    #[must_use]
    pub fn and(mut self, object: Value) -> Self {
        self.objects.push(object);
        self
    }

    /// Somebody does something.
    #[must_use]
    pub fn then(mut self, when: When, act: Act) -> Self {
        self.acts.push((when, act));
        self
    }

    /// It cannot be had yet.
    #[must_use]
    pub fn limit(mut self, why: &'static str) -> Self {
        self.limit = Some(why);
        self
    }
}

/// A Deployment with one replica.
pub fn deployment(name: &str, image: &str, script: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 1, "minReadySeconds": 1, "selector": {"matchLabels": {"app": name}}, "template": pod_template(name, image, script),
        },
    })
}

/// The pods of a workload.
pub fn pod_template(name: &str, image: &str, script: &str) -> Value {
    json!({"metadata": {"labels": {"app": name}}, "spec": {
        "terminationGracePeriodSeconds": 2,
        "containers": [{"name": "app", "image": image, "command": ["/bin/sh", "-c", script]}],
    }})
}

/// Sets a value by JSON pointer; what is missing on the way is made.
pub fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/");
        at = match (at.is_array(), part.parse::<usize>()) {
            (true, Ok(index)) => &mut at[index],
            (_, _) => &mut at[part.as_str()],
        };
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_set_by_pointer_and_made_where_it_is_missing() {
        let mut object = deployment("a", "i", "x");
        set(&mut object, "/metadata/annotations/repave.dev~1hold", json!("{}"));
        set(&mut object, "/spec/template/spec/containers/0/image", json!("j"));
        assert_eq!(object["metadata"]["annotations"]["repave.dev/hold"], "{}");
        assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], "j");
    }

    #[test]
    fn every_case_has_a_name_of_its_own_and_there_are_at_least_forty() {
        let cases = super::super::cases();
        let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        assert!(names.len() >= 40, "{} cases", names.len());
    }
}
