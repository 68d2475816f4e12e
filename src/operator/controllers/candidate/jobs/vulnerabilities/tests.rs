//! Where the database and the list of packages come from, as data.

use super::*;
use crate::controllers::candidate::{
    jobs,
    tests::{candidate, pod, settings},
    validate,
};
use crate::domain::report::ToolName;
use k8s_openapi::api::core::v1::Container;

fn database() -> ImageRef {
    format!("r.local:5000/db/grype@{}", Digest::of(b"database"))
        .parse()
        .unwrap()
}

fn cves(tool: ToolName) -> (ImageCandidate, ValidatedCandidate, PlannedCheck) {
    let candidate = candidate();
    let validated = validate::validate(&candidate).unwrap();
    let mut check = validated
        .checks
        .iter()
        .find(|check| check.name == "cves")
        .unwrap()
        .clone();
    check.tool = tool;
    (candidate, validated, check)
}

fn has(container: &Container, words: &[&str]) -> bool {
    let command = container.command.as_deref().unwrap_or_default();
    command.windows(words.len()).any(|window| window == words)
}

fn mounts(container: &Container, name: &str) -> bool {
    let mounts = container.volume_mounts.iter().flatten();
    mounts.into_iter().any(|mount| mount.name == name)
}

#[test]
fn the_database_is_mounted_read_only_by_digest_and_named_in_the_report() {
    for (tool, word) in [(ToolName::Grype, "grype"), (ToolName::Trivy, "trivy")] {
        let (candidate, validated, check) = cves(tool);
        let database = database();
        let image = Digest::of(b"built");
        let with = |database: Option<&ImageRef>| {
            let check = PlannedCheck {
                database: database.cloned(),
                ..check.clone()
            };
            pod(&jobs::check(&candidate, &validated, &settings(), &check, &image, &[], 1).1)
        };
        let pod = with(Some(&database));
        let container = &pod.containers[0];
        assert!(has(container, &["runner", "vulnerabilities"]) && has(container, &["--scanner", word]));
        assert!(has(
            container,
            &[
                "--database",
                "/database",
                "--database-id",
                Digest::of(b"database").as_str()
            ]
        ));
        let mount = container
            .volume_mounts
            .iter()
            .flatten()
            .find(|mount| mount.name == "database")
            .unwrap();
        assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/database", Some(true)));
        let volume = pod
            .volumes
            .iter()
            .flatten()
            .find(|volume| volume.name == "database")
            .unwrap();
        let reference = volume.image.clone().unwrap().reference.unwrap();
        assert_eq!(reference, database.to_string());
        let pod = with(None);
        assert!(!has(&pod.containers[0], &["--database"]) && !mounts(&pod.containers[0], "database"));
    }
}

#[test]
fn judging_again_pulls_no_image_and_shows_credentials_to_the_fetching_step_only() {
    let (candidate, validated, check) = cves(ToolName::Grype);
    let digest = Digest::of(b"built");
    let image = validated.production.at(&digest);
    let artifact = Digest::of(b"report");
    let check = PlannedCheck {
        database: Some(database()),
        ..check
    };
    let again = Rescan {
        image: &image,
        digest: &digest,
        artifact: &artifact,
    };
    let (inputs, job) = rescan(&candidate, &validated, &settings(), &check, again, "repave-rescan-x");
    assert_eq!(inputs.metadata.name.as_deref(), Some("repave-rescan-x"));
    assert_eq!(job.metadata.name.as_deref(), Some("repave-rescan-x"));
    let pod = pod(&job);
    assert_eq!(pod.automount_service_account_token, Some(false));
    let fetch = &pod.init_containers.as_ref().unwrap()[0];
    assert!(has(
        fetch,
        &[
            "runner",
            "fetch-sbom",
            "--image",
            &image.to_string(),
            "--artifact",
            artifact.as_str()
        ]
    ));
    assert!(mounts(fetch, "registry"));
    let container = &pod.containers[0];
    assert!(has(container, &["--image", digest.as_str()]) && has(container, &["--sbom", "/work/sbom.cdx.json"]));
    assert!(!mounts(container, "registry") && mounts(container, "database"));
    assert!(!has(container, &["--layout"]));
}
