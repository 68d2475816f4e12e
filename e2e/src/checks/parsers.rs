//! How fast a tool's result is read, and how much memory that takes: each reader in a process of its own.
//!
//! The documents are made of the shapes that the tools really write, repeated with other names until they are large.

use super::{
    measure::{self, Call},
    place::Place,
    programs,
};
use anyhow::{Context as _, Result, bail};
use repave::checks::{
    Parsed, ReadError, goss,
    openscap::{self, tailoring::Benchmark},
    sbom::Inventory,
    scanner::Scanner,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    fmt::Write as _,
    fs,
    io::{BufReader, BufWriter, Write as _},
    path::Path,
    time::{Duration, Instant},
};

/// Bytes of a large report.
const LARGE: usize = 50_000_000;
/// The word of the subcommand that reads one document.
pub const WORD: &str = "parse";
const IMAGE: &str = "sha256:3287364329dd91b2a1a7a6be7c105760c1cfa85522d5ce1a60db6d7a7adb1a0d";
const DATABASE: &str = r#"{"Version":2,"UpdatedAt":"2026-01-01T00:00:00Z"}"#;

/// What a reader took.
#[derive(Debug, Serialize, Deserialize)]
struct Taken {
    wall: Duration,
    above: i64,
    result: String,
}

/// The rows of the table.
pub fn run(place: &Place) -> Result<String> {
    let mut text = "| document | size | time | throughput | memory above the idle process (goal: 16 MB) | read as |\n\
         |---|---|---|---|---|---|\n"
        .to_owned();
    let folder = place.work.join("documents");
    fs::create_dir_all(&folder)?;
    for (kind, size) in [
        ("grype", LARGE),
        ("grype", 66_000_000),
        ("trivy", LARGE),
        ("openscap", LARGE),
        ("goss", goss::MAX_JSON - 2000),
        ("goss", LARGE),
    ] {
        eprintln!("parsers: {kind}, {} MB", size / 1_000_000);
        let file = folder.join(format!("{kind}.{size}"));
        make(place, kind, size, &file)?;
        let own = std::env::current_exe()?;
        let words = [own.as_os_str(), WORD.as_ref(), kind.as_ref(), file.as_os_str()];
        let taken: Taken = serde_json::from_slice(&Call::new(words).output()?)?;
        let bytes = f64::from(u32::try_from(fs::metadata(&file)?.len())?);
        let above = measure::megabytes(taken.above);
        writeln!(
            text,
            "| {kind} | {:.1} MB | {:.2} s | {:.0} MB/s | {above:.1} MB{} | {} |",
            bytes / 1e6,
            taken.wall.as_secs_f64(),
            bytes / 1e6 / taken.wall.as_secs_f64(),
            if above <= 16.0 { "" } else { ", **missed**" },
            taken.result
        )?;
        fs::remove_file(&file)?;
    }
    Ok(text)
}

fn make(place: &Place, kind: &str, size: usize, file: &Path) -> Result<()> {
    let mut out = BufWriter::new(fs::File::create(file)?);
    match kind {
        "grype" => write_grype(&mut out, size)?,
        "trivy" => write_trivy(&mut out, size)?,
        "goss" => write_goss(&mut out, size)?,
        "openscap" => write_openscap(place, &mut out, size)?,
        other => bail!("{other:?} is no kind of document"),
    }
    Ok(out.flush()?)
}

/// Writes items until the size is reached; the number of them.
fn repeat(out: &mut impl std::io::Write, size: usize, item: impl Fn(usize) -> String) -> Result<usize> {
    let (mut written, mut number) = (0, 0);
    while written < size {
        let comma = if number == 0 { "" } else { "," };
        let text = item(number);
        write!(out, "{comma}{text}")?;
        written += text.len() + comma.len();
        number += 1;
    }
    Ok(number)
}

fn urls(number: usize) -> Vec<String> {
    (0..20)
        .map(|n| format!("https://security-tracker.debian.org/tracker/CVE-2026-{number}/{n}"))
        .collect()
}

fn write_grype(out: &mut impl std::io::Write, size: usize) -> Result<()> {
    write!(out, "{{\"matches\":[")?;
    repeat(out, size, |number| {
        let id = format!("CVE-2026-{number}");
        let files: Vec<_> = (0..12)
            .map(|n| json!({"path": format!("/usr/share/doc/package-{}/file-{n}", number % 300), "layerID": IMAGE}))
            .collect();
        json!({
            "vulnerability": {"id": id, "severity": "Medium", "namespace": "debian:distro:debian:12", "urls": urls(number),
                "description": "A heap-based buffer over-read was found in the way in which headers are parsed. ".repeat(4),
                "fix": {"versions": ["1.2.4-1"], "state": "fixed"}, "advisories": [],
                "epss": [{"cve": id, "epss": 0.01, "percentile": 0.5, "date": "2026-01-01"}]},
            "relatedVulnerabilities": [{"id": id, "urls": urls(number), "cvss": []}],
            "matchDetails": [{"type": "exact-direct-match", "matcher": "dpkg-matcher"}],
            "artifact": {"id": number.to_string(), "name": format!("package-{}", number % 300), "version": "1.2.3-1",
                "type": "deb", "purl": format!("pkg:deb/debian/package-{}@1.2.3-1?arch=amd64", number % 300),
                "locations": files, "licenses": ["GPL-2"], "cpes": []}
        })
        .to_string()
    })?;
    let rest = json!({"source": {"type": "image", "target": {"manifestDigest": IMAGE}},
        "distro": {"name": "debian", "version": "12"},
        "descriptor": {"name": "grype", "version": "0.121.0",
            "db": {"status": {"schemaVersion": "v6.1.4", "built": "2026-01-01T00:00:00Z", "valid": true}}}})
    .to_string();
    Ok(write!(out, "],{}", rest.trim_start_matches('{'))?)
}

fn write_trivy(out: &mut impl std::io::Write, size: usize) -> Result<()> {
    write!(
        out,
        r#"{{"SchemaVersion":2,"Trivy":{{"Version":"0.70.0"}},"Metadata":{{"OS":{{"Family":"debian","Name":"12.1"}},"ImageID":"{IMAGE}"}},"Results":[{{"Target":"debian","Class":"os-pkgs","Packages":[{{"Name":"a"}}],"Vulnerabilities":["#
    )?;
    repeat(out, size, |number| {
        let references = [urls(number), urls(number + 1)].concat();
        let name = format!("package-{}", number % 300);
        json!({"VulnerabilityID": format!("CVE-2026-{number}"), "PkgID": format!("{name}@1.2.3-1"), "PkgName": name,
            "PkgIdentifier": {"PURL": format!("pkg:deb/debian/{name}@1.2.3-1?arch=amd64"), "UID": "8d0c3e8bd2b4a0f1"},
            "InstalledVersion": "1.2.3-1", "FixedVersion": "1.2.4-1", "Status": "fixed", "Severity": "MEDIUM",
            "Layer": {"Digest": IMAGE, "DiffID": IMAGE}, "SeveritySource": "debian",
            "Title": "heap-based buffer over-read in the parser of headers",
            "Description": "A heap-based buffer over-read was found in the way in which headers are parsed. ".repeat(8),
            "CweIDs": ["CWE-125"], "References": references,
            "PublishedDate": "2026-01-01T00:00:00Z"})
        .to_string()
    })?;
    Ok(write!(out, "]}}]}}")?)
}

fn write_goss(out: &mut impl std::io::Write, size: usize) -> Result<()> {
    write!(out, "{{\"results\":[")?;
    let tests = repeat(out, size.saturating_sub(200), |number| {
        json!({"duration": 17000, "end-time": "2026-01-01T00:00:00Z", "err": null,
            "matcher-result": {"actual": "0644", "expected": "0644", "message": "to equal"},
            "meta": null, "property": "mode", "resource-id": format!("/etc/file-{number}"), "resource-type": "File",
            "result": 0, "skipped": false, "start-time": "2026-01-01T00:00:00Z", "successful": true,
            "summary-line": format!("File: /etc/file-{number}: mode: matches expectation: \"0644\""),
            "summary-line-compact": format!("File: /etc/file-{number}: mode: matches expectation: \"0644\""),
            "title": ""})
        .to_string()
    })?;
    Ok(write!(
        out,
        r#"],"summary":{{"failed-count":0,"skipped-count":0,"summary-line":"","test-count":{tests},"total-duration":1}}}}"#
    )?)
}

/// Real results of a clean image with further rules of the usual size in front of its test results.
fn write_openscap(place: &Place, out: &mut impl std::io::Write, size: usize) -> Result<()> {
    let (root, results) = (
        place.root("parsers", &place.layout("debian-v3"))?,
        place.bench().join("out/parsers.xml"),
    );
    programs::oscap(place, &root, &results, None, "")?.output()?;
    let real = fs::read_to_string(&results)?;
    let at = real.find("<TestResult").context("results without a TestResult")?;
    let (before, after) = (real.get(..at).unwrap_or_default(), real.get(at..).unwrap_or_default());
    out.write_all(before.as_bytes())?;
    let (mut written, mut number) = (real.len(), 0);
    while written < size {
        let reference = r#"<reference href="https://www.cisecurity.org/benchmark/debian_linux/">5.4.2.1</reference>"#;
        let rule = format!(
            "<Rule id=\"xccdf_org.ssgproject.content_rule_made_{number}\" severity=\"medium\"><title>Rule {number}</title>\
             <description>{}</description>{}<fix system=\"urn:xccdf:fix:script:sh\">{}</fix></Rule>\n",
            "The file must belong to root and nobody else may write to it. ".repeat(12),
            reference.repeat(30),
            "chown root:root /etc/file &amp;&amp; chmod 0644 /etc/file\n".repeat(100)
        );
        out.write_all(rule.as_bytes())?;
        written += rule.len();
        number += 1;
    }
    Ok(out.write_all(after.as_bytes())?)
}

/// Reads one document as the runner does, and prints what that took.
pub fn parse(kind: &str, file: &Path) -> Result<()> {
    let (_, before) = measure::myself()?;
    let started = Instant::now();
    let read = match kind {
        "grype" => read_scan(Scanner::Grype, file)?,
        "trivy" => read_scan(Scanner::Trivy, file)?,
        "goss" => goss::read(&fs::read(file)?, Some(0), &goss::Options::default(), true),
        "openscap" => read_openscap(file)?,
        other => bail!("{other:?} is no kind of document"),
    };
    let wall = started.elapsed();
    let (_, after) = measure::myself()?;
    let result = match read {
        Ok(parsed) => format!("{} findings, {} evaluated", parsed.findings.len(), parsed.evaluated),
        Err(error) => error.to_string(),
    };
    let taken = Taken {
        wall,
        above: after - before,
        result,
    };
    println!("{}", serde_json::to_string(&taken)?);
    Ok(())
}

fn read_scan(scanner: Scanner, file: &Path) -> Result<Result<Parsed, ReadError>> {
    let inventory = Inventory {
        tools: Vec::new(),
        manifest: Some(IMAGE.parse()?),
        config: Some(IMAGE.parse()?),
        os: None,
        os_packages: 300,
        language_packages: 0,
    };
    let file = BufReader::new(fs::File::open(file)?);
    Ok(scanner.read(file, &inventory, &IMAGE.parse()?, DATABASE.as_bytes()))
}

fn read_openscap(file: &Path) -> Result<Result<Parsed, ReadError>> {
    let expected = openscap::Expected {
        platform: "cpe:/o:debian:debian_linux:12",
        benchmark: &Benchmark {
            id: "xccdf_org.ssgproject.content_benchmark_DEBIAN-12".into(),
            version: "0.1.82".into(),
        },
        profile: "xccdf_org.ssgproject.content_profile_cis_level2_server",
        base_profile: "cis_level2_server",
        excluded: &openscap::tailoring::Excluded::new(),
        left_out: &openscap::tailoring::LeftOut::new(),
        options: &openscap::Options::default(),
    };
    Ok(openscap::read(BufReader::new(fs::File::open(file)?), &expected))
}
