//! One function for each parser of untrusted bytes, with what must be true of whatever it reads.
//!
//! Compiled with the feature `fuzzing` only: `fuzz/` mutates bytes with coverage, `tests/fuzz_seeds.rs` replays the
//! seeds. A function here panics where a rule is broken; the parsers themselves must never panic.

use crate::{
    api::{Waiver, waiver::WaiverSpec},
    checks::{
        Parsed, ReadError, Run, assemble,
        container::{self, Format},
        goss, native,
        openscap::{self, content, results, tailoring, test_result, user_tailoring},
        sbom,
        scanner::Scanner,
    },
    cli::{check::archive, policy_file},
    domain::{
        byte_size::ByteSize,
        containerfile,
        digest::Digest,
        duration::Span,
        image_ref::{ImageRef, Repository},
        os_release::OsRelease,
        purl::PackageUrl,
        report::{MAX_FINDINGS, MAX_TEXT, Outcome, Report, ToolName},
        rules::{Expression, Results},
        vex,
    },
    runner::frame::{self, Termination},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use repave_oci::fuzz as oci;
use std::{fmt::Display, fs, io::Write as _, str::FromStr, time::Duration};

/// A parser of bytes, with the rules for what it reads.
pub type Target = fn(&[u8]);

/// The parsers of what a tool writes, or of what it reads of an image; at least one each.
pub fn of_tool(tool: ToolName) -> &'static [&'static str] {
    match tool {
        ToolName::Native => &["native-layer", "native-layout"],
        ToolName::Goss => &["goss"],
        ToolName::Openscap => &["openscap-results"],
        ToolName::Grype => &["grype"],
        ToolName::Trivy => &["trivy"],
        ToolName::Container => &["container-sarif", "container-junit", "container-own"],
    }
}

/// All parsers, by the name of their folder in `fuzz/seeds`.
pub const TARGETS: &[(&str, Target)] = &[
    ("native-layer", native::fuzz::layer),
    ("native-layout", native::fuzz::documents),
    ("native-pax", native::fuzz::pax),
    ("native-accounts", native::fuzz::accounts),
    ("native-dpkg", native::fuzz::dpkg),
    ("native-apk", native::fuzz::apk),
    ("native-rpm", native::fuzz::rpm),
    ("native-rpm-header", native::fuzz::rpm_header),
    ("os-release", os_release),
    ("goss", read_goss),
    ("openscap-results", openscap_results),
    ("openscap-datastream", openscap_datastream),
    ("openscap-user-tailoring", openscap_user_tailoring),
    ("grype", |bytes| scanner(Scanner::Grype, bytes)),
    ("trivy", |bytes| scanner(Scanner::Trivy, bytes)),
    ("sbom", read_sbom),
    ("openvex", openvex),
    ("purl", round_trip::<PackageUrl>),
    ("container-sarif", |bytes| container(Format::Sarif, bytes)),
    ("container-junit", |bytes| container(Format::Junit, bytes)),
    ("container-own", |bytes| container(Format::Repave, bytes)),
    ("report-log", report_log),
    ("report-gzip", report_gzip),
    ("report-json", report_json),
    ("termination", termination),
    ("registry-manifest", oci::registry_manifest),
    ("registry-config", oci::registry_config),
    ("registry-token", oci::registry_token),
    ("registry-challenge", oci::registry_challenge),
    ("registry-error", oci::registry_error),
    ("dockerconfigjson", oci::dockerconfigjson),
    ("image-reference", image_reference),
    ("digest", round_trip::<Digest>),
    ("duration", round_trip::<Span>),
    ("byte-size", byte_size),
    ("cosign-bundle", oci::cosign_bundle),
    ("cosign-signed", oci::cosign_signed),
    ("policy-file", policy),
    ("waiver", waiver),
    ("docker-archive", docker_archive),
    ("cel-rule", cel_rule),
    ("containerfile", containerfile),
];

/// Runs one parser by its name, for a fuzz target.
///
/// # Panics
///
/// When a rule is broken, or when there is no such parser.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("expected one of the names in TARGETS, found {name:?}"));
    target(bytes);
}

fn image() -> Digest {
    Digest::of(b"image")
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// What is read prints, and reads back as itself. Errors quote only a bounded part of what was found.
fn round_trip<T: FromStr + Display + PartialEq + std::fmt::Debug>(bytes: &[u8])
where
    T::Err: Display + std::fmt::Debug,
{
    let Some(text) = text(bytes) else { return };
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            let again: T = printed
                .parse()
                .unwrap_or_else(|error| panic!("{printed:?} of {text:?}: {error}"));
            assert_eq!(again, value, "{text:?} is printed as {printed:?}");
        }
        Err(error) => assert!(error.to_string().len() <= 4_000, "the error quotes too much"),
    }
}

/// Everything that a report says is short and has no control character.
fn clean(report: &Report) {
    let message = match &report.outcome {
        Outcome::Completed => None,
        Outcome::Error { message } | Outcome::Unsupported { message } => Some(message),
    };
    let tool = &report.tool;
    let of_tool = [
        Some(&tool.version),
        tool.content.as_ref(),
        tool.database.as_ref(),
        report.summary.as_ref(),
    ];
    let of_findings = report.findings.iter().flat_map(|finding| {
        let optional = [
            &finding.subject,
            &finding.remedy,
            &finding.reference,
            &finding.fixed_version,
            &finding.package,
        ];
        [&finding.id, &finding.title]
            .into_iter()
            .chain(optional.into_iter().flatten())
            .chain(&finding.aliases)
    });
    for text in of_tool.into_iter().flatten().chain(message).chain(of_findings) {
        assert!(text.len() <= MAX_TEXT, "{} bytes of text", text.len());
        assert!(!text.chars().any(char::is_control), "a control character in {text:?}");
    }
    assert!(report.findings.len() <= MAX_FINDINGS);
}

/// What a reader understood becomes a report that is within its bounds, never passes on nothing, and travels unchanged.
fn readable(tool: ToolName, read: Result<Parsed, ReadError>) {
    if let Err(error) = &read {
        // A report cuts it; but a reader must not build a megabyte out of a name either.
        assert!(
            error.to_string().len() <= 64 * 1024,
            "an error of {} bytes",
            error.to_string().len()
        );
    }
    let image = image();
    let run = Run {
        check: "fuzz",
        image: &image,
        tool,
        version: "1",
        content: None,
        took: Duration::ZERO,
        candidate_executed: false,
    };
    let failed = read.is_err();
    let report = assemble(run, read);
    clean(&report);
    if report.outcome == Outcome::Completed {
        assert!(report.evaluated > 0, "a pass without anything evaluated");
        assert!(report.passed <= report.evaluated);
        assert!(
            report.passed == report.evaluated || !report.findings.is_empty(),
            "what failed is not named"
        );
    }
    if failed {
        return;
    }
    if let Ok(sent) = frame::encode(&report, &[]) {
        let Ok(received) = frame::decode(sent.text.as_bytes(), &sent.sha256) else {
            panic!("a report that was encoded cannot be decoded")
        };
        assert!(
            report.truncated || received.report.findings.len() == report.findings.len() || received.report.truncated
        );
    }
}

fn os_release(bytes: &[u8]) {
    if let Some(release) = OsRelease::parse(bytes) {
        assert!(!release.id.is_empty() && release.id.chars().count() <= 100);
        let _ = release.end_of_life();
    }
    let _ = content::OsRelease::parse(&String::from_utf8_lossy(bytes)).content();
}

fn read_goss(bytes: &[u8]) {
    for code in [0, 1] {
        readable(
            ToolName::Goss,
            goss::read(bytes, Some(code), &goss::Options::default(), true),
        );
    }
}

fn openscap_results(bytes: &[u8]) {
    let benchmark = tailoring::Benchmark {
        id: "xccdf_org.ssgproject.content_benchmark_DEBIAN-12".into(),
        version: "0.1.81".into(),
    };
    let (excluded, left_out) = (tailoring::Excluded::new(), tailoring::LeftOut::new());
    let expected = results::Expected {
        platform: "cpe:/o:debian:debian_linux:12",
        benchmark: &benchmark,
        profile: tailoring::PROFILE,
        base_profile: "cis",
        excluded: &excluded,
        left_out: &left_out,
        options: &openscap::Options::default(),
    };
    readable(ToolName::Openscap, results::read(bytes, &expected));
    if let Ok(cut) = test_result::cut(bytes) {
        assert!(cut.len() <= test_result::MAX_KEPT);
        assert!(
            test_result::cut(cut.as_slice()).is_ok(),
            "what was cut out is not whole"
        );
    }
}

fn openscap_datastream(bytes: &[u8]) {
    if let Ok(analysis) = tailoring::analyse(bytes) {
        let excluded = analysis.excluded();
        let tailored = analysis.tailor("cis", None);
        assert!(tailored.is_ok_and(|tailored| tailored.excluded == excluded));
    }
}

fn openscap_user_tailoring(bytes: &[u8]) {
    if let Ok(user) = user_tailoring::parse(bytes) {
        assert!(user.changes.len() <= 5_000);
    }
}

const SBOM: &[u8] = include_bytes!("checks/testdata/sbom-syft.json");

fn scanner(scanner: Scanner, bytes: &[u8]) {
    let Ok(inventory) = sbom::read(SBOM, "Syft") else {
        return;
    };
    let manifest = inventory.manifest.clone().unwrap_or_else(image);
    let database = br#"{"Version":2,"UpdatedAt":"2026-11-20T00:00:00Z","NextUpdate":"2026-11-21T00:00:00Z"}"#;
    readable(scanner.tool(), scanner.read(bytes, &inventory, &manifest, database));
}

fn read_sbom(bytes: &[u8]) {
    if let Ok(inventory) = sbom::read(bytes, "Syft") {
        assert!(inventory.packages() <= bytes.len() as u64);
        if inventory.scannable(1, "Syft").is_ok() {
            assert!(inventory.packages() > 0 && inventory.os.is_some());
        }
    }
}

fn openvex(bytes: &[u8]) {
    let Ok(document) = vex::parse(bytes) else { return };
    assert!(document.statements.len() <= vex::MAX_STATEMENTS);
    let Ok(json) = serde_json::to_vec(&document) else {
        panic!("a document that was read cannot be written")
    };
    if json.len() <= vex::MAX_DOCUMENT {
        assert_eq!(vex::parse(&json).as_ref(), Ok(&document));
    }
}

fn container(format: Format, bytes: &[u8]) {
    for code in [0, 1] {
        let read = container::read(format, bytes, code, &image(), &container::Options::default());
        readable(ToolName::Container, read);
    }
}

/// A log as a pod wrote it. The announced hash is what the text itself says, or nothing would ever be unpacked.
fn report_log(bytes: &[u8]) {
    let log = String::from_utf8_lossy(bytes);
    let hex = log.split_once("sha256=").and_then(|(_, rest)| rest.get(..64));
    let announced = hex
        .and_then(|hex| format!("sha256:{hex}").parse().ok())
        .unwrap_or_else(image);
    delivered(bytes, &announced);
}

fn delivered(log: &[u8], announced: &Digest) {
    match frame::decode(log, announced) {
        Err(error) => assert!(
            error.to_string().len() <= MAX_TEXT + 500,
            "{} bytes",
            error.to_string().len()
        ),
        Ok(delivery) => {
            let (name, image, tool) = (
                delivery.report.check.clone(),
                delivery.report.image.clone(),
                delivery.report.tool.name,
            );
            assert_eq!(delivery.report.attachments.len(), delivery.attached.len());
            if let Ok(report) = delivery.report.validate(&name, &image, tool) {
                clean(&report);
                let Ok(sent) = frame::encode(&report, &[]) else {
                    panic!("a report that was read cannot be sent")
                };
                assert!(frame::decode(sent.text.as_bytes(), &sent.sha256).is_ok());
            }
        }
    }
}

/// A frame around these bytes, so that mutations reach what is inside of it.
fn framed(packed: &[u8]) -> (String, Digest) {
    let (sha256, base64) = (Digest::of(packed), STANDARD.encode(packed));
    let mut log = format!(
        "-----BEGIN REPAVE REPORT v1 length={} sha256={}-----\n",
        base64.len(),
        sha256.hex()
    );
    for line in base64.as_bytes().chunks(7_600) {
        log.push_str(&String::from_utf8_lossy(line));
        log.push('\n');
    }
    log.push_str("-----END REPAVE REPORT-----\n");
    (log, sha256)
}

fn report_gzip(bytes: &[u8]) {
    let (log, sha256) = framed(bytes);
    delivered(log.as_bytes(), &sha256);
}

fn report_json(bytes: &[u8]) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    if encoder.write_all(bytes).is_ok()
        && let Ok(packed) = encoder.finish()
    {
        report_gzip(&packed);
    }
    if let Ok(report) = crate::report::read(bytes, None, &image()) {
        clean(&report);
    }
}

fn termination(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(read) = Termination::decode(text) {
        let written = read.encode();
        assert!(written.len() <= frame::MAX_TERMINATION);
        assert_eq!(Termination::decode(&written).map(|again| again.encode()), Ok(written));
    }
}

fn image_reference(bytes: &[u8]) {
    round_trip::<ImageRef>(bytes);
    round_trip::<Repository>(bytes);
}

fn byte_size(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(size) = text.parse::<ByteSize>() {
        assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
    }
}

fn policy(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match policy_file::parse(text) {
        Ok(policies) => assert!(!policies.snapshots.is_empty()),
        Err(error) => assert!(
            error.to_string().len() <= 64 * 1024,
            "an error of {} bytes",
            error.to_string().len()
        ),
    }
}

fn waiver(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(spec) = serde_saphyr::from_str::<WaiverSpec>(text) {
        let waiver = Waiver::new("fuzz", spec);
        let again = serde_json::to_vec(&waiver.spec).map(|json| serde_json::from_slice::<WaiverSpec>(&json));
        assert!(
            matches!(again, Ok(Ok(again)) if again == waiver.spec),
            "a waiver does not survive the API"
        );
    }
}

fn docker_archive(bytes: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else { return };
    let (file, root) = (folder.path().join("archive"), folder.path().join("layout"));
    if fs::create_dir_all(root.join("blobs/sha256")).is_err() || fs::write(&file, bytes).is_err() {
        return;
    }
    let _ = archive::into_layout(&file, &root);
    let beside: Vec<_> = fs::read_dir(folder.path()).into_iter().flatten().flatten().collect();
    assert_eq!(
        beside.len(),
        2,
        "something was written outside of the layout: {beside:?}"
    );
}

fn cel_rule(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match Expression::parse(text) {
        Ok(rule) => {
            if let Err(error) = rule.holds(&Results::default()) {
                assert!(error.len() <= 1_000 && !error.contains('\n'), "{error:?}");
            }
        }
        Err(error) => assert!(error.to_string().len() <= 1_000, "{} bytes", error.to_string().len()),
    }
}

fn containerfile(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let _ = containerfile::violations(text);
}
