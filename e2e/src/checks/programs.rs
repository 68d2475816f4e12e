//! How the tools are called: bare, as a person would, and with `repave runner` around them, as a Job does.

use super::{measure::Call, place::Place};
use anyhow::{Context as _, Result};
use repave::domain::{digest::Digest, report::Report};
use repave::runner::frame;
use std::{
    ffi::OsString,
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

/// The profile that OpenSCAP judges by.
pub const PROFILE: &str = "cis_level2_server";

/// The data stream, inside the tools' root.
pub const STREAM: &str = "/usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml";

fn words(parts: &[&str]) -> Vec<OsString> {
    parts.iter().map(OsString::from).collect()
}

/// `grype oci-dir:…`, offline.
pub fn grype(place: &Place, layout: &Path) -> Call {
    let mut image = OsString::from("oci-dir:");
    image.push(layout);
    let mut all: Vec<OsString> = vec![place.programs().join("grype").into(), image];
    all.extend(words(&["-o", "json", "--quiet"]));
    Call::new(all)
        .env("HOME", place.bench().join("tmp"))
        .env("GRYPE_DB_CACHE_DIR", place.database("grype"))
        .env("GRYPE_DB_AUTO_UPDATE", "false")
        .env("GRYPE_DB_VALIDATE_AGE", "false")
        .env("GRYPE_CHECK_FOR_APP_UPDATE", "false")
}

/// `trivy image --input …`, offline, vulnerabilities only.
pub fn trivy(place: &Place, layout: &Path) -> Call {
    let mut all: Vec<OsString> = vec![place.programs().join("trivy").into()];
    all.extend(words(&[
        "image",
        "--scanners",
        "vuln",
        "--format",
        "json",
        "--quiet",
        "--offline-scan",
    ]));
    all.extend(words(&[
        "--skip-db-update",
        "--skip-java-db-update",
        "--skip-version-check",
        "--disable-telemetry",
    ]));
    all.extend(words(&["--cache-backend", "memory", "--cache-dir"]));
    all.extend([place.database("trivy").into(), "--input".into(), layout.into()]);
    Call::new(all).env("HOME", place.bench().join("tmp"))
}

/// Goss in a root that [`Place::with_goss`] prepared.
pub fn goss(root: &Path) -> Call {
    let mut all: Vec<OsString> = vec!["chroot".into(), root.into()];
    all.extend(words(&[
        "/opt/goss/ld-linux-x86-64.so.2",
        "--library-path",
        "/opt/goss",
        "/opt/goss/goss",
    ]));
    all.extend(words(&[
        "-g",
        "/opt/goss/goss.yaml",
        "validate",
        "--format",
        "json",
        "--max-concurrent",
        "4",
    ]));
    Call::new(all).env("HOME", "/").fine(1)
}

/// `oscap xccdf eval` with nothing but the profile; `env` are the variables of the image, as `oscap-podman` sets them.
pub fn oscap(place: &Place, root: &Path, results: &Path, page: Option<&Path>, env: &str) -> Result<Call> {
    let mut all: Vec<OsString> = vec!["chroot".into(), place.tools.clone().into(), "oscap".into()];
    all.extend(words(&["xccdf", "eval", "--profile"]));
    all.push(format!("xccdf_org.ssgproject.content_profile_{PROFILE}").into());
    all.extend(["--results".into(), place.inside(results)?.into()]);
    if let Some(page) = page {
        all.extend(["--report".into(), place.inside(page)?.into()]);
    }
    all.push(STREAM.into());
    Ok(Call::new(all)
        .env("HOME", "/bench/tmp")
        .env("TMPDIR", "/bench/tmp")
        .env("OSCAP_PROBE_ROOT", place.inside(root)?)
        .env("OSCAP_CONTAINER_VARS", env)
        .env("OSCAP_CHECK_ENGINE_PLUGIN_DIR", "/nonexistent")
        .fine(2))
}

static CALLS: AtomicU32 = AtomicU32::new(0);

/// A call of the runner, and where its termination message goes.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The call.
    pub call: Call,
    log: std::path::PathBuf,
}

impl Runner {
    fn new(place: &Place, step: &str, image: &Digest, options: &str, chrooted: bool) -> Result<Self> {
        let number = CALLS.fetch_add(1, Ordering::Relaxed);
        let bench = place.bench();
        let (log, scratch) = (
            bench.join(format!("tmp/end-{number}")),
            bench.join(format!("tmp/work-{number}")),
        );
        fs::create_dir_all(&scratch)?;
        let seen = |path: &Path| {
            if chrooted {
                place.inside(path)
            } else {
                Ok(path.to_owned())
            }
        };
        let mut all: Vec<OsString> = Vec::new();
        if chrooted {
            all.extend(["chroot".into(), place.tools.clone().into()]);
        }
        all.push(seen(&place.repave())?.into());
        all.extend(words(&[
            "runner",
            step,
            "--check",
            step,
            "--image",
            image.as_str(),
            "--work",
        ]));
        all.push(seen(&scratch)?.into());
        let call = Call::new(all)
            .env("HOME", seen(&scratch)?)
            .env("REPAVE_CHECK_OPTIONS", options)
            .env("REPAVE_TERMINATION_LOG", seen(&log)?);
        Ok(Self { call, log })
    }

    fn with(mut self, more: impl IntoIterator<Item = OsString>) -> Self {
        self.call.words.extend(more);
        self
    }

    /// `repave runner native`.
    pub fn native(place: &Place, layout: &Path, image: &Digest, options: &str) -> Result<Self> {
        Ok(Self::new(place, "native", image, options, false)?.with(["--layout".into(), layout.into()]))
    }

    /// `repave runner vulnerabilities`.
    pub fn vulnerabilities(place: &Place, scanner: &str, layout: &Path, image: &Digest) -> Result<Self> {
        Ok(Self::new(place, "vulnerabilities", image, "{}", false)?.with([
            "--scanner".into(),
            scanner.into(),
            "--layout".into(),
            layout.into(),
            "--database".into(),
            place.database(scanner).into(),
            "--programs".into(),
            place.programs().into(),
        ]))
    }

    /// `repave runner goss` in a root that [`Place::with_goss`] prepared.
    pub fn goss(place: &Place, root: &Path, image: &Digest) -> Result<Self> {
        let bundle = root.join("opt/goss");
        Ok(Self::new(place, "goss", image, "{}", false)?.with([
            "--root".into(),
            root.into(),
            "--gossfile".into(),
            bundle.join("goss.yaml").into(),
            "--goss".into(),
            bundle.into(),
        ]))
    }

    /// `repave runner openscap`, inside the tools' root.
    pub fn openscap(place: &Place, root: &Path, image: &Digest, env: &[String]) -> Result<Self> {
        let options = serde_json::json!({"env": env}).to_string();
        // There is no /proc where it runs; its rights are those of this process.
        let status = place.bench().join("tmp/process-status");
        if !status.exists() {
            fs::write(&status, fs::read("/proc/self/status")?)?;
        }
        Ok(Self::new(place, "openscap", image, &options, true)?.with([
            "--root".into(),
            place.inside(root)?.into(),
            "--profile".into(),
            PROFILE.into(),
            "--process-status".into(),
            place.inside(&status)?.into(),
        ]))
    }

    /// Runs it and reads the report as the operator does.
    pub fn report(&self) -> Result<Report> {
        let log = self.call.output()?;
        let end = fs::read_to_string(&self.log).context("no termination message")?;
        decoded(&log, &end)
    }
}

fn decoded(log: &[u8], end: &str) -> Result<Report> {
    match frame::Termination::decode(end)? {
        frame::Termination::Reported(reported) => Ok(frame::decode(log, &reported.sha256)?.report),
        other => anyhow::bail!("expected a report, found {other:?}"),
    }
}
