//! What the newest vulnerability database says about the release, and what follows from it. Pure.
//!
//! Must not promise a repair: whether upstream's next digest removes the findings is decided by its candidate's own scan.

use crate::{
    api::{BaseImage, ImageCandidate, image_candidate::Reevaluation},
    controllers::{
        candidate::RESCAN_PASSED,
        conditions::{self, ConditionStatus, Conditions},
    },
    domain::{digest::Digest, verdict::Verdict},
};
use kube::ResourceExt as _;
use std::time::Duration;

/// How often upstream is asked while a repair is awaited.
const AWAITING_FIX: Duration = Duration::from_secs(60);

/// Condition: whether what is released still passes its scans.
const RELEASE_RESCAN_PASSED: &str = "ReleaseRescanPassed";

/// The candidate that is released.
fn released<'a>(base: &BaseImage, candidates: &'a [ImageCandidate]) -> Option<&'a ImageCandidate> {
    let released = base.status.as_ref()?.released.as_ref()?;
    candidates.iter().find(|one| one.name_any() == released.candidate)
}

/// The scans that the release does not pass any more and that an update would repair.
fn fixable(candidate: &ImageCandidate) -> impl Iterator<Item = &Reevaluation> {
    let all = candidate.status.iter().flat_map(|status| &status.reevaluations);
    all.filter(|again| again.verdict == Verdict::Failed.as_str() && again.fixable > 0)
}

/// Why a new candidate goes first, if it does: a finding in the release that an update would repair.
pub fn urgency(base: &BaseImage, candidates: &[ImageCandidate]) -> Option<String> {
    if !base.spec.rebuild.on_fixable_findings {
        return None;
    }
    let again = fixable(released(base, candidates)?).next()?;
    let top = again.top.first().cloned().unwrap_or_default();
    Some(format!("the release has {}: {} {top}", again.name, again.message))
}

/// How long until upstream is asked again.
pub fn interval(base: &BaseImage, candidates: &[ImageCandidate], wished: Duration) -> Duration {
    if urgency(base, candidates).is_some() {
        wished.min(AWAITING_FIX)
    } else {
        wished
    }
}

/// Says in the BaseImage how its release stands, and what happens about it.
pub fn report(conditions: &mut Conditions, base: &BaseImage, candidates: &[ImageCandidate], upstream: &Digest) {
    let Some(candidate) = released(base, candidates) else {
        conditions.clear(RELEASE_RESCAN_PASSED);
        return;
    };
    let status = candidate.status.clone().unwrap_or_default();
    let Some(found) = conditions::find(&status.conditions, RESCAN_PASSED) else {
        conditions.clear(RELEASE_RESCAN_PASSED);
        return;
    };
    if found.status != ConditionStatus::False.as_str() {
        let truth = if found.status == ConditionStatus::True.as_str() {
            ConditionStatus::True
        } else {
            ConditionStatus::Unknown
        };
        conditions.set(RELEASE_RESCAN_PASSED, truth, "EvaluatedAgain", found.message.clone());
        return;
    }
    let (reason, what) = if fixable(candidate).next().is_none() {
        ("NoFixKnown", "No update repairs it yet.".to_owned())
    } else if *upstream != candidate.spec.source_digest {
        let what = format!(
            "Upstream has moved on to {}: its candidate goes first.",
            upstream.short()
        );
        ("FixOnItsWay", what)
    } else {
        let what = "Upstream still has the digest that it was built from: building it again would change nothing; upstream is asked every minute.";
        ("AwaitingUpstream", what.to_owned())
    };
    conditions.set(
        RELEASE_RESCAN_PASSED,
        ConditionStatus::False,
        reason,
        format!("{} {what}", found.message),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn base(rebuild: bool) -> BaseImage {
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
            "metadata": {"name": "debian-12", "namespace": "platform", "uid": "u"},
            "spec": {
                "source": {"image": "up.example.com/debian", "track": {"tag": "12"}},
                "policyRefs": [{"name": "hardened"}],
                "rebuild": {"onFixableFindings": rebuild},
                "promote": {"repository": "prod.example.com/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}
            },
            "status": {"released": {"digest": Digest::of(b"built"), "tag": "12-x", "sourceDigest": Digest::of(b"v1"),
                                    "candidate": "debian-12-a", "promotedAt": "2026-11-20T00:00:00Z"}}
        }))
        .unwrap()
    }

    fn candidate(verdict: &str, fixable: u32) -> ImageCandidate {
        let truth = if verdict == "Passed" { "True" } else { "False" };
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
            "metadata": {"name": "debian-12-a", "namespace": "platform", "uid": "c"},
            "spec": {
                "baseImage": "debian-12", "source": "up.example.com/debian", "sourceTag": "12",
                "sourceDigest": Digest::of(b"v1"), "inputsHash": Digest::of(b"i"), "staging": "prod.example.com/debian-staging",
                "build": {}, "policies": [],
                "promote": {"repository": "prod.example.com/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}
            },
            "status": {
                "reevaluations": [{"name": "cves", "key": "k", "verdict": verdict, "message": "1 failed (critical 1)", "fixable": fixable,
                                   "top": ["CVE-2026-7777"], "report": Digest::of(b"r"), "at": "2026-11-24T00:00:00Z"}],
                "conditions": [{"type": RESCAN_PASSED, "status": truth, "reason": "R", "message": "cves: CVE-2026-7777.",
                                "lastTransitionTime": "2026-11-24T00:00:00Z"}]
            }
        }))
        .unwrap()
    }

    fn condition(base: &BaseImage, candidates: &[ImageCandidate], upstream: &[u8]) -> (String, String) {
        let mut conditions = Conditions::from(&[], 1, jiff::Timestamp::UNIX_EPOCH);
        report(&mut conditions, base, candidates, &Digest::of(upstream));
        let list = conditions.into_list();
        conditions::find(&list, RELEASE_RESCAN_PASSED)
            .map(|found| (found.status.clone(), found.reason.clone()))
            .unwrap_or_default()
    }

    #[test]
    fn a_fixable_finding_hurries_upstream_and_says_what_is_awaited() {
        let (base, minute) = (base(true), Duration::from_secs(60));
        let found = [candidate("Failed", 1)];
        assert_eq!(interval(&base, &found, Duration::from_secs(1800)), minute);
        assert!(urgency(&base, &found).unwrap().contains("CVE-2026-7777"));
        let said = |candidates: &[ImageCandidate], upstream| condition(&base, candidates, upstream);
        assert_eq!(said(&found, b"v1"), ("False".into(), "AwaitingUpstream".into()));
        assert_eq!(said(&found, b"v2"), ("False".into(), "FixOnItsWay".into()));
        assert_eq!(
            said(&[candidate("Failed", 0)], b"v1"),
            ("False".into(), "NoFixKnown".into())
        );
        assert_eq!(said(&[candidate("Passed", 1)], b"v1").0, "True");
    }

    #[test]
    fn nothing_is_hurried_for_what_cannot_be_repaired_or_is_not_wished() {
        let interval = |base: &BaseImage, candidates: &[ImageCandidate]| {
            super::interval(base, candidates, Duration::from_secs(1800))
        };
        let half_an_hour = Duration::from_secs(1800);
        assert_eq!(interval(&base(true), &[candidate("Failed", 0)]), half_an_hour);
        assert_eq!(interval(&base(true), &[candidate("Passed", 1)]), half_an_hour);
        assert_eq!(interval(&base(false), &[candidate("Failed", 1)]), half_an_hour);
        assert_eq!(interval(&base(true), &[]), half_an_hour);
    }
}
