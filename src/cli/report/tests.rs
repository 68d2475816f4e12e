//! The reports of an image, fetched from a real registry.

use super::{
    print,
    source::{Reader, Stored, Subject, Target},
    *,
};
use bytes::Bytes;
use repave_core::{
    digest::Digest,
    image_ref::Repository,
    report::{Finding, Outcome, Report, Severity, Tool, ToolName},
};
use repave_oci::{
    evidence::{self, ReportArtifact, TITLE},
    registry::{
        ArtifactLayer, Auth, Descriptor,
        testing::{TestRegistry, push_image},
    },
};
use repave_report::page::is_harmless;
use repave_runner::frame::Attached;
use serde_json::json;

const FREE: fn() -> Auth = Auth::anonymous;

struct Shelf {
    _registry: TestRegistry,
    reader: Reader,
    repository: Repository,
    image: Descriptor,
}

impl Shelf {
    async fn new() -> Self {
        let registry = TestRegistry::docker().await;
        let repository = registry.repository("base/debian");
        let client = registry.client();
        let image = push_image(&client, &repository, "12", &[b"layer"]).await;
        let reader = Reader {
            client,
            auth: FREE(),
            tell: false,
        };
        Self {
            _registry: registry,
            reader,
            repository,
            image,
        }
    }

    fn subject(&self) -> Subject {
        Subject {
            digest: self.image.digest.clone(),
            homes: vec![self.repository.clone()],
            candidate: None,
            waivers: Vec::new(),
        }
    }

    fn report(&self, check: &str) -> Report {
        let tool = Tool::new(ToolName::Native, "0.1\u{1b}[2J");
        let mut report = Report::error(check, &self.image.digest, tool, "");
        report.outcome = Outcome::Completed;
        report.evaluated = 9;
        report.findings = vec![Finding {
            id: "native.suid".into(),
            severity: Severity::High,
            title: "SUID shell /sh\u{202e}".into(),
            ..Finding::default()
        }];
        report
    }

    async fn keep(&self, report: &Report, files: &[Attached]) -> Digest {
        let layer = |file: &Attached| ArtifactLayer {
            media_type: format!("{}+gzip", file.media_type),
            bytes: Bytes::copy_from_slice(&file.gzip),
            annotations: [(TITLE.to_owned(), format!("{}.gz", file.name))].into(),
        };
        let artifact = ReportArtifact {
            kind: report.check.clone(),
            json: serde_json::to_vec(report).unwrap().into(),
            attached: files.iter().map(layer).collect(),
        };
        evidence::attach_report(&self.reader.client, &self.repository, &self.image, &artifact, &FREE())
            .await
            .unwrap()
    }

    /// Keeps a report with one file of that name.
    async fn keep_with_file(&self, check: &str, name: &str, content: &[u8]) -> Digest {
        let file = Attached::pack(name, "text/html", content).unwrap();
        let mut report = self.report(check);
        report.attachments = vec![repave_core::report::Attachment {
            name: name.into(),
            media_type: "text/html".into(),
            digest: Digest::of(&file.gzip),
            size: file.gzip.len() as u64,
        }];
        self.keep(&report, &[file]).await
    }
}

fn candidate(shelf: &Shelf, report: &Digest) -> ImageCandidate {
    serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": "debian-12-1", "namespace": "platform"},
        "spec": {
            "baseImage": "debian-12", "source": "up.local/debian", "sourceTag": "12",
            "sourceDigest": Digest::of(b"v1"), "inputsHash": Digest::of(b"i"),
            "staging": format!("{}-staging", shelf.repository), "build": {}, "policies": [],
            "promote": {"repository": shelf.repository, "channelTag": "12", "signing": {"keyRef": {"name": "key"}}}
        },
        "status": {
            "builtDigest": shelf.image.digest,
            "checks": [{"name": "hardening", "verdict": "Failed", "message": "1 failed", "counts": {"high": 1},
                        "evaluated": 9, "report": report, "toolMillis": 1}],
            "promoted": {"repository": shelf.repository, "digest": shelf.image.digest, "tag": "t",
                         "chainId": Digest::of(b"c"), "layers": 1, "at": "2026-11-20T10:00:00Z"}
        }
    }))
    .unwrap()
}

#[test]
fn a_target_is_a_candidate_a_reference_or_a_digest() {
    let digest = Digest::of(b"");
    assert_eq!("debian-12-77d0".parse(), Ok(Target::Candidate("debian-12-77d0".into())));
    assert_eq!(digest.as_str().parse(), Ok(Target::Digest(digest)));
    let image = "r.io:5000/base/debian:12";
    assert_eq!(image.parse(), Ok(Target::Image(image.parse().unwrap())));
    for (text, why) in [
        ("r.io/base/debian", "add :TAG"),
        ("sha256:12", "copy the whole digest"),
        ("a/../b:1", "not an image reference"),
    ] {
        let error = text.parse::<Target>().unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn an_image_shows_what_is_attached_to_it_without_a_cluster() {
    let shelf = Shelf::new().await;
    let by_tag = shelf
        .reader
        .resolve(&shelf.repository.tagged("12").unwrap())
        .await
        .unwrap();
    assert_eq!(by_tag.digest, shelf.image.digest);
    let error = shelf.reader.reports(&by_tag, None).await.unwrap_err();
    assert!(error.to_string().contains("no report is attached"), "{error}");
    for check in ["hardening", "cis"] {
        shelf.keep(&shelf.report(check), &[]).await;
    }
    let reports = shelf.reader.reports(&by_tag, None).await.unwrap();
    let checks: Vec<_> = reports.iter().map(|stored| stored.report.check.as_str()).collect();
    assert_eq!(checks, ["cis", "hardening"]);
    let one = shelf.reader.reports(&by_tag, Some("cis")).await.unwrap();
    let text = print::findings(&one) + &print::reports(&by_tag.image(), &one);
    assert!(text.contains("native.suid") && text.contains("high 1"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    let error = shelf.reader.reports(&by_tag, Some("other")).await.unwrap_err();
    assert!(error.to_string().contains("no report of a check"), "{error}");
    let error = shelf.reader.page(&by_tag).await.unwrap_err();
    assert!(error.to_string().contains("no page is attached"), "{error}");
    let gone = shelf.repository.tagged("13").unwrap();
    assert!(
        shelf
            .reader
            .resolve(&gone)
            .await
            .unwrap_err()
            .to_string()
            .contains("there is no image")
    );
}

#[tokio::test]
async fn a_report_about_another_image_is_refused() {
    let shelf = Shelf::new().await;
    let mut report = shelf.report("hardening");
    report.image = Digest::of(b"another");
    shelf.keep(&report, &[]).await;
    let error = format!("{:#}", shelf.reader.reports(&shelf.subject(), None).await.unwrap_err());
    assert!(error.contains("expected image"), "{error}");
}

#[tokio::test]
async fn a_file_is_found_by_its_name_and_by_nothing_that_could_be_a_path() {
    let shelf = Shelf::new().await;
    shelf.keep_with_file("cis", "report.html", b"<p>cis</p>").await;
    shelf.keep_with_file("stig", "report.html", b"<p>stig</p>").await;
    let all = shelf.reader.reports(&shelf.subject(), None).await.unwrap();
    let error = shelf.reader.attachment(&all, "report.html").await.unwrap_err();
    assert!(error.to_string().contains("--check cis"), "{error}");
    let cis: Vec<Stored> = all
        .iter()
        .filter(|stored| stored.report.check == "cis")
        .cloned()
        .collect();
    assert_eq!(
        shelf.reader.attachment(&cis, "report.html").await.unwrap(),
        b"<p>cis</p>"
    );
    for name in ["../report.html", "/etc/passwd", "report.html.gz", ""] {
        let error = shelf.reader.attachment(&cis, name).await.unwrap_err();
        assert!(error.to_string().contains("there are: report.html"), "{error}");
    }
    shelf.keep_with_file("evil", "../../evil", b"x").await;
    let error = format!("{:#}", shelf.reader.reports(&shelf.subject(), None).await.unwrap_err());
    assert!(error.contains("an attachment is called"), "{error}");
}

#[tokio::test]
async fn a_candidate_is_found_in_production_when_staging_is_empty_and_its_page_is_written_if_none_is_kept() {
    let shelf = Shelf::new().await;
    let kept = shelf.keep(&shelf.report("hardening"), &[]).await;
    let mut candidate = candidate(&shelf, &kept);
    assert!(has(&candidate, &shelf.image.digest) && !has(&candidate, &Digest::of(b"x")));
    let subject = Subject::of(candidate.clone()).unwrap();
    let reports = shelf.reader.reports(&subject, None).await.unwrap();
    assert_eq!((reports.len(), &reports[0].home), (1, &shelf.repository));
    let written = shelf.reader.page(&subject).await.unwrap();
    assert!(is_harmless(&written) && String::from_utf8(written.clone()).unwrap().contains("native.suid"));
    let html = Bytes::from_static(b"as it was published");
    let auth = FREE();
    let page = evidence::attach_page(
        &shelf.reader.client,
        &shelf.repository,
        &shelf.image,
        html.clone(),
        &auth,
    );
    candidate.status.as_mut().unwrap().page = Some(page.await.unwrap());
    assert_eq!(shelf.reader.page(&Subject::of(candidate).unwrap()).await.unwrap(), html);
    assert_eq!(
        shelf.reader.page(&shelf.subject()).await.unwrap(),
        html,
        "an image has its page too"
    );
}

#[test]
fn a_candidate_without_a_build_has_no_reports() {
    let candidate = serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate", "metadata": {"name": "debian-12-77d0aa3be1c4"},
        "spec": {
            "baseImage": "debian-12", "source": "docker.io/library/debian", "sourceTag": "12-slim",
            "sourceDigest": Digest::of(b"v1"), "inputsHash": Digest::of(b"inputs"), "staging": "r.local:5000/staging",
            "build": {}, "policies": [],
            "promote": {"repository": "r.local:5000/base", "channelTag": "12", "signing": {"keyRef": {"name": "key"}}}
        }
    }))
    .unwrap();
    let error = Subject::of(candidate).unwrap_err();
    assert!(error.to_string().contains("nothing is built"), "{error}");
}
