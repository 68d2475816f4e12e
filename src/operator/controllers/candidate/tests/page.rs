//! When the page of a candidate is published, and that it decides nothing.

use super::*;

fn published(page: Result<Digest, apply::PageFailure>) -> Applied {
    Applied {
        page: Some(page),
        ..Applied::default()
    }
}

#[test]
fn the_page_is_due_when_all_checks_are_judged_and_only_until_it_is_there() {
    let image = Digest::of(b"built");
    let page = Action::PublishPage { image: image.clone() };
    let mut rejected = all_reported("cves");
    rejected.built_digest = Some(image.clone());
    assert_eq!(planned_for(rejected.clone(), Stage::Finished), vec![page.clone()]);
    let mut passed = all_reported("");
    passed.built_digest = Some(image.clone());
    let mut proven = candidate();
    proven.status = Some(passed.clone());
    let promote = Action::Promote(gate::proof(&proven, &validate::validate(&proven).unwrap()).unwrap());
    assert_eq!(planned_for(passed.clone(), Stage::Promote), [page, promote.clone()]);
    passed.page = Some(Digest::of(b"page"));
    assert_eq!(planned_for(passed, Stage::Promote), [promote]);
    rejected.checks.pop();
    assert_eq!(
        planned_for(rejected, Stage::Finished),
        [],
        "one check is not judged yet"
    );
}

#[test]
fn a_page_that_fails_changes_no_verdict_and_no_readiness() {
    let rejected = all_reported("cves");
    let finished = Observed { stage: Stage::Finished };
    let failure = apply::PageFailure {
        reason: "RegistryUnavailable",
        class: crate::controllers::error::Class::Transient,
    };
    let failed = summarize(&finished, &published(Err(failure)), Some(rejected.clone()));
    assert_eq!((failed.result, failed.step), (rejected.result, rejected.step));
    let others = |status: &ImageCandidateStatus| {
        let mut list = status.conditions.clone();
        list.retain(|condition| condition.type_ != "Reported");
        list
    };
    assert_eq!(others(&failed), others(&rejected));
    let again = summarize(&finished, &published(Err(failure)), Some(failed.clone()));
    assert_eq!(again, failed, "failing again writes nothing");
    let digest = Digest::of(b"page");
    let there = summarize(&finished, &published(Ok(digest.clone())), Some(failed));
    assert_eq!((there.page, there.result), (Some(digest), rejected.result));
    assert!(conditions::is_true(&there.conditions, "Reported"));
}
