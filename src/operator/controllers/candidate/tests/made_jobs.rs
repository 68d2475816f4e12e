//! Which Jobs are made, what their pods have, and how often they are tried.

use super::*;

fn jobs_of(observed: &Observed) -> Vec<Job> {
    let actions = decided(&candidate(), observed, 0).actions;
    let job = |action| match action {
        Action::CreateJob { job, .. } => Some(*job),
        Action::CopyToStaging
        | Action::StoreReport { .. }
        | Action::PublishPage { .. }
        | Action::DeleteJob(_)
        | Action::Promote(_) => None,
    };
    actions.into_iter().filter_map(job).collect()
}

#[test]
fn every_check_and_the_build_is_one_job_that_is_named_by_what_it_does() {
    let absent = checking(|_, _| CheckState::Job(JobState::Absent(1)));
    let mut jobs = jobs_of(&absent);
    jobs.extend(jobs_of(&Observed {
        stage: Stage::Build(JobState::Absent(1)),
    }));
    let names: std::collections::BTreeSet<_> = jobs.iter().map(|job| job.metadata.name.clone().unwrap()).collect();
    assert_eq!((jobs.len(), names.len()), (5, 5));
    assert_eq!(jobs_of(&absent), jobs[..4]);
    for job in &jobs {
        assert_eq!(
            job.spec.as_ref().unwrap().backoff_limit,
            Some(0),
            "retries are ours to decide"
        );
        assert!(!pod(job).containers.is_empty());
    }
}

#[test]
fn what_runs_code_of_the_candidate_has_no_credentials_and_no_token() {
    let mut jobs = jobs_of(&checking(|_, _| CheckState::Job(JobState::Absent(1))));
    jobs.extend(jobs_of(&Observed {
        stage: Stage::Build(JobState::Absent(1)),
    }));
    let runner = settings().runner_image.to_string();
    for job in &jobs {
        let pod = pod(job);
        assert_eq!(pod.automount_service_account_token, Some(false));
        for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
            let mounts = container.volume_mounts.iter().flatten();
            let credentials = mounts.filter(|mount| mount.name == "registry").count();
            let ours = container.image.as_deref() == Some(runner.as_str());
            assert_eq!(
                credentials > 0,
                ours,
                "{}: {}",
                job.metadata.name.as_ref().unwrap(),
                container.name
            );
        }
    }
}

#[test]
fn a_job_that_breaks_is_tried_three_times_and_then_the_gate_stays_shut() {
    let broken = |attempt| Observed {
        stage: Stage::Build(JobState::Broken {
            attempt,
            message: "evicted".into(),
        }),
    };
    assert_eq!(
        jobs_of(&broken(1))[0].metadata.name.as_deref(),
        Some("debian-12-0123456789ab-build-2")
    );
    assert_eq!(jobs_of(&broken(MAX_ATTEMPTS)), []);
    let status = summarize(&broken(MAX_ATTEMPTS), &Applied::default(), None);
    assert_eq!(status.result, Some(CandidateResult::Error));
    assert!(!conditions::is_true(&status.conditions, "Built"));
}

#[test]
fn a_broken_rule_of_the_build_configuration_builds_nothing() {
    let mut candidate = candidate();
    candidate.spec.build.containerfile = "RUN true".into();
    let observed = Observed {
        stage: Stage::Build(JobState::Absent(1)),
    };
    assert_eq!(decided(&candidate, &observed, 0).actions, []);
    let status = rendered(&candidate, &observed, &Applied::default(), 0);
    let built = conditions::find(&status.conditions, "Built").unwrap();
    assert_eq!(
        (status.result, built.reason.as_str()),
        (Some(CandidateResult::Rejected), "BuildConfigRejected")
    );
    assert!(built.message.contains("USER 65532"), "{}", built.message);
}

#[test]
fn attempts_have_names_of_their_own() {
    assert_eq!(jobs::attempt_name("a", 1), "a");
    assert_eq!(jobs::attempt_name("a", 3), "a-3");
}
