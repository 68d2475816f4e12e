//! A base image, its candidates and what is observed of them, for tests.

use super::{
    decision::{self, Action, Decision, Wanted},
    facts::Observed,
};
use crate::{
    api::{BaseImage, ImageCandidate},
    controllers::{
        desired::{ValidatedBaseImage, spec::Inputs, validate},
        history::{NextHistory, Past, Stored},
    },
    domain::digest::Digest,
};
use kube::ResourceExt as _;
use serde_json::json;
use std::time::Duration;

/// A world of one base image: what upstream and its policies say, and which candidates are there.
pub struct World {
    pub base: BaseImage,
    pub observed: Observed,
    stored: Option<Stored>,
}

impl World {
    pub fn new() -> Self {
        let base = serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
            "metadata": {"name": "debian-12", "namespace": "platform", "uid": "u", "generation": 1},
            "spec": {
                "source": {"image": "up.example.com/debian", "track": {"tag": "12"}},
                "policyRefs": [{"name": "hardened"}],
                "promote": {"repository": "prod.example.com/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}
            }
        }));
        Self {
            base: base.unwrap(),
            observed: Observed {
                upstream: Digest::of(b"v1"),
                good_for: Duration::from_secs(60),
                inputs: Inputs::default(),
                candidates: Vec::new(),
                last_sequence: 0,
                released: None,
            },
            stored: None,
        }
    }

    pub fn validated(&self) -> ValidatedBaseImage {
        validate(&self.base).unwrap()
    }

    pub fn upstream(&mut self, content: &str) -> &mut Self {
        self.observed.upstream = Digest::of(content.as_bytes());
        self
    }

    pub fn containerfile(&mut self, text: &str) -> &mut Self {
        self.observed.inputs.build.containerfile = text.to_owned();
        self
    }

    /// What the history says of the candidates that are there.
    pub fn history(&self) -> NextHistory {
        let past = Past::of(self.stored.clone(), self.validated().production);
        past.next(&self.base, &self.observed.candidates, jiff::Timestamp::UNIX_EPOCH)
    }

    /// The history is read and written, as at the start of every reconcile.
    pub fn record(&mut self) -> NextHistory {
        let history = self.history();
        let decided = &history.decided;
        self.observed.released.clone_from(&decided.released);
        self.observed.last_sequence = decided.history.counters().last;
        self.stored = Some(Stored::of(decided.history.clone(), None));
        history
    }

    pub fn decide(&self) -> Decision {
        decision::decide(&self.base, &self.validated(), &self.observed).unwrap()
    }

    /// One reconcile: what is made is there, and what is released is in the status. Gives the name of the wanted candidate.
    pub fn step(&mut self) -> String {
        let history = self.record();
        let decision = self.decide();
        for Action::CreateCandidate(candidate) in &decision.actions {
            self.observed.candidates.push((**candidate).clone());
        }
        let status = self.base.status.get_or_insert_default();
        status.released.clone_from(&history.decided.released);
        match &decision.wanted {
            Wanted::There(candidate) | Wanted::New(candidate) => candidate.name_any(),
        }
    }

    pub fn candidate(&mut self, name: &str) -> &mut ImageCandidate {
        let mut all = self.observed.candidates.iter_mut();
        all.find(|one| one.name_any() == name).unwrap()
    }

    /// The candidate passes, and comes to the build with this content. Time runs backwards: it must not matter.
    pub fn promote(&mut self, name: &str, content: &str) -> &mut Self {
        let candidate = self.candidate(name);
        let digest = Digest::of(content.as_bytes());
        let year = 2090_u64.saturating_sub(candidate.spec.sequence);
        candidate.status = serde_json::from_value(json!({
            "result": "Passed",
            "promoted": {"repository": candidate.spec.promote.repository, "digest": digest, "tag": format!("12-{content}-{name}"),
                "chainId": digest, "layers": 1, "at": format!("{year}-01-01T00:00:00Z")},
            "conditions": [{"type": "Promoted", "status": "True", "reason": "Promoted", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }))
        .unwrap();
        self
    }

    pub fn reject(&mut self, name: &str) -> &mut Self {
        self.candidate(name).status = serde_json::from_value(json!({"result": "Rejected"})).unwrap();
        self
    }

    /// The digest and the sequence of what is released.
    pub fn released(&self) -> Option<(Digest, u64)> {
        let released = self.base.status.as_ref()?.released.as_ref()?;
        Some((released.digest.clone(), released.sequence))
    }
}
