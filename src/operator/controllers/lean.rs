//! What of an object of ours is kept where many of them are held at once: in the cache of its controller, and in lists of
//! candidates. A turn reads its object whole and live, so nothing that only its own turn needs has to stay.
//!
//! Must not take away what wakes, counts or orders an object, nor what another object's decision asks of it.

use crate::{
    api::{
        BaseImage, ImageCandidate, ImageCandidateStatus, RepavePlan, RepaveRun, Waiver, image_candidate::BuildInputs,
    },
    domain::digest::Digest,
};

/// An object that can be held without its bulk.
pub trait Lean {
    /// Drops what is kept nowhere.
    fn shed(&mut self);
}

/// A candidate has all its inputs in it, files of a megabyte among them, and there are up to two hundred of one BaseImage. Of the inputs
/// stays whether they are those of another candidate.
pub fn shed_inputs(candidate: &mut ImageCandidate) {
    let spec = &mut candidate.spec;
    spec.policies = Vec::new();
    spec.verify = Vec::new();
    spec.build = same_as(&spec.build);
}

/// And of the status what it came to.
impl Lean for ImageCandidate {
    fn shed(&mut self) {
        shed_inputs(self);
        if let Some(status) = &mut self.status {
            let old = std::mem::take(status);
            let mut conditions = old.conditions;
            for condition in &mut conditions {
                condition.message = String::new();
            }
            *status = ImageCandidateStatus {
                observed_generation: old.observed_generation,
                phase: old.phase,
                step: old.step,
                result: old.result,
                built_digest: old.built_digest,
                promoted: old.promoted,
                conditions,
                ..ImageCandidateStatus::default()
            };
        }
    }
}

/// Inputs of a few bytes that are equal where the inputs are, and only there.
fn same_as(build: &BuildInputs) -> BuildInputs {
    if *build == BuildInputs::default() {
        return BuildInputs::default();
    }
    // The length of each text goes before it, so that no two inputs give one text.
    let mut text = Vec::new();
    let lists = [&build.ca_certificates, &build.remove_users];
    let last = std::slice::from_ref(&build.containerfile);
    for list in lists.into_iter().map(Vec::as_slice).chain([last]) {
        text.extend_from_slice(&list.len().to_le_bytes());
        for one in list {
            text.extend_from_slice(&one.len().to_le_bytes());
            text.extend_from_slice(one.as_bytes());
        }
    }
    BuildInputs {
        containerfile: Digest::of(&text).to_string(),
        ..BuildInputs::default()
    }
}

/// Its repositories, its policies and what it released are asked for by others; how it is customised is not.
impl Lean for BaseImage {
    fn shed(&mut self) {
        self.spec.customize = None;
        self.spec.verify = Vec::new();
    }
}

/// What it selects decides what wakes it.
impl Lean for RepavePlan {
    fn shed(&mut self) {}
}

/// What it selects decides what wakes it. Its counts are measured.
impl Lean for RepaveRun {
    fn shed(&mut self) {
        if let Some(status) = &mut self.status {
            status.attention = Vec::new();
            status.set_back = Vec::new();
        }
    }
}

/// It is small: the API server takes no large one.
impl Lean for Waiver {
    fn shed(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::repave_run::gate;
    use serde_json::{Value, json};

    fn candidate(changes: &[(&str, Value)]) -> ImageCandidate {
        let digest = Digest::of(b"up").to_string();
        let mut object = json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
            "metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"baseImage": "b", "sequence": 3, "source": "up.example.com/debian", "sourceTag": "12", "sourceDigest": digest,
                "inputsHash": digest, "staging": "r.test/base-staging",
                "build": {"caCertificates": ["a", "b"], "containerfile": "RUN true"},
                "policies": [{"name": "p", "spec": {"checks": []}, "files": {"goss": {"goss.yaml": "x".repeat(1 << 20)}}}],
                "promote": {"repository": "r.test/base", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
            "status": {"phase": "Released", "result": "Passed", "builtDigest": digest,
                "promoted": {"repository": "r.test/base", "digest": digest, "tag": "12-1", "chainId": digest, "layers": 2, "at": "2026-11-20T00:00:00Z"},
                "conditions": [{"type": "Promoted", "status": "True", "reason": "Promoted", "message": "y".repeat(10_000),
                    "lastTransitionTime": "2026-11-20T00:00:00Z"}]},
        });
        for (path, value) in changes {
            *object.pointer_mut(path).unwrap() = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn shed(mut candidate: ImageCandidate) -> ImageCandidate {
        candidate.shed();
        candidate
    }

    #[test]
    fn a_candidate_of_a_megabyte_is_kept_in_two_kilobytes_and_proves_the_same_release() {
        let whole = candidate(&[]);
        let lean = shed(whole.clone());
        assert!(serde_json::to_vec(&whole).unwrap().len() > 1 << 20);
        let kept = serde_json::to_vec(&lean).unwrap().len();
        assert!(kept < 2_048, "{kept}");
        assert!(gate::release(&whole).is_some());
        assert_eq!(gate::release(&lean), gate::release(&whole));
    }

    #[test]
    fn inputs_are_told_apart_as_before() {
        let build = |ca: &[&str], users: &[&str], file: &str| {
            let of = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            BuildInputs {
                ca_certificates: of(ca),
                remove_users: of(users),
                containerfile: file.to_owned(),
            }
        };
        let all = [
            BuildInputs::default(),
            build(&["a"], &["b"], ""),
            build(&["a", "b"], &[], ""),
            build(&["ab"], &[], ""),
            build(&[], &["a"], "b"),
            build(&[], &[], "ab"),
            build(&["a"], &[], "b"),
        ];
        for one in &all {
            for other in &all {
                assert_eq!(same_as(one) == same_as(other), one == other, "{one:?} {other:?}");
            }
        }
    }
}
