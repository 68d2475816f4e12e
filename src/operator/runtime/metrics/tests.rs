//! What a scrape shows.

use super::*;

fn sample(metrics: &Metrics, line: &str) -> Option<String> {
    let text = metrics.encode().unwrap();
    text.lines()
        .find_map(|found| found.strip_prefix(line))
        .map(|value| value.trim().to_owned())
}

#[test]
fn each_metric_of_the_documentation_has_its_name_and_labels() {
    let metrics = Metrics::new();
    metrics.step(Step::Validate, StepResult::NotEvaluated, Duration::from_secs(3));
    metrics.candidates(CandidateState::Rejected, 2);
    metrics.workloads("platform/debian-12", &[(WorkloadState::Held, 7)]);
    metrics.base_age("platform/debian-12", Duration::from_secs(60));
    metrics.repaved(Duration::from_secs(32_400));
    metrics.registry_request("r.example.com", "head", Some(304));
    metrics.self_test_failed(true);
    metrics.reconcile(Kind::BaseImage, ReconcileResult::Waiting, Duration::from_millis(2));
    metrics.api_write(Kind::Deployment, ApiVerb::Patch);
    for (line, value) in [
        (
            r#"repave_step_duration_seconds_count{step="validate",result="not_evaluated"}"#,
            "1",
        ),
        (r#"repave_candidates{state="rejected"}"#, "2"),
        (r#"repave_workloads{base="platform/debian-12",state="held"}"#, "7"),
        (r#"repave_base_age_seconds{base="platform/debian-12"}"#, "60.0"),
        (r#"repave_time_to_repave_seconds_bucket{le="30720.0"}"#, "0"),
        (r#"repave_time_to_repave_seconds_bucket{le="61440.0"}"#, "1"),
        (
            r#"repave_registry_requests_total{host="r.example.com",verb="head",code="304"}"#,
            "1",
        ),
        ("repave_self_test_failed ", "1"),
        (r#"repave_reconcile_total{kind="BaseImage",result="waiting"}"#, "1"),
        (r#"repave_reconcile_duration_seconds_count{kind="BaseImage"}"#, "1"),
        (r#"repave_api_writes_total{kind="Deployment",verb="patch"}"#, "1"),
        ("repave_leader ", "0"),
    ] {
        assert_eq!(
            sample(&metrics, line).as_deref(),
            Some(value),
            "{line}\n{}",
            metrics.encode().unwrap()
        );
    }
    let memory: u64 = sample(&metrics, "process_resident_memory_bytes ")
        .unwrap()
        .parse()
        .unwrap();
    assert!(memory > 100_000, "{memory}");
}

#[test]
fn the_leader_is_told_as_it_is_at_the_moment() {
    let metrics = Metrics::new();
    metrics.follow_leader(Leader::always("a"));
    assert_eq!(sample(&metrics, "repave_leader ").as_deref(), Some("1"));
}

#[test]
fn hostile_registries_cannot_add_series_without_end() {
    let metrics = Metrics::new();
    for host in 0..500 {
        for code in [0, 99, 199, 299, 418, 599, 600, 65_535] {
            metrics.registry_request(&format!("h{host}.example.com"), "get", Some(code));
        }
        metrics.registry_request(&format!("h{host}.example.com"), "get", None);
    }
    let text = metrics.encode().unwrap();
    let series = text
        .lines()
        .filter(|line| line.starts_with("repave_registry_requests_total{"))
        .count();
    // Six different labels for the codes above: 1xx, 2xx, 4xx, 5xx, invalid, none.
    assert_eq!(series, (HOSTS + 1) * 6);
    let other = sample(
        &metrics,
        r#"repave_registry_requests_total{host="other",verb="get",code="none"}"#,
    );
    assert_eq!(other.as_deref(), Some("436"));
}

#[test]
fn a_hostile_host_cannot_break_out_of_its_label() {
    let metrics = Metrics::new();
    metrics.registry_request("a\"} 1\nfake 1", "get", Some(200));
    let text = metrics.encode().unwrap();
    assert!(!text.lines().any(|line| line.starts_with("fake")), "{text}");
}

#[test]
fn a_deleted_base_image_leaves_no_series_and_makes_room() {
    let metrics = Metrics::new();
    for base in 0..BASES {
        metrics.workloads(&format!("a/b{base}"), &[(WorkloadState::Current, 1)]);
    }
    metrics.workloads("a/late", &[(WorkloadState::Current, 1)]);
    assert_eq!(
        sample(&metrics, "repave_bases_not_exported_total ").as_deref(),
        Some("1")
    );
    metrics.base_age("a/b0", Duration::from_secs(1));
    metrics.forget_base("a/b0");
    metrics.workloads("a/late", &[(WorkloadState::Current, 1)]);
    let text = metrics.encode().unwrap();
    assert!(!text.contains(r#"base="a/b0""#) && text.contains(r#"base="a/late""#));
}
