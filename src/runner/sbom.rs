//! `runner fetch-sbom`: fetches the list of packages that is kept with a report, so that an image can be judged again
//! without being pulled.
//!
//! Must not write a list that belongs to a report about another image, or more than a list may have.

use super::{
    deliver::Failure,
    frame::Termination,
    transfer::{Common, millis},
};
use flate2::bufread::GzDecoder;
use repave_checks::sbom::{MAX_SBOM, NAME};
use repave_core::{digest::Digest, image_ref::ImageRef, report::Report};
use repave_oci::evidence::{ReportArtifact, TITLE, fetch_whole_report};
use std::{fs, io::Read as _, path::PathBuf, time::Instant};

/// `repave runner fetch-sbom`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The image, by digest.
    #[arg(long)]
    image: ImageRef,
    /// The manifest of the report artifact that the list is kept with.
    #[arg(long)]
    artifact: Digest,
    /// Where the list is written.
    #[arg(long)]
    out: PathBuf,
}

/// Fetches the list.
pub async fn run(args: &Args) -> Result<Termination, Failure> {
    let started = Instant::now();
    let Some(image) = &args.image.digest else {
        return Err(format!("expected an image by digest, found {}: a tag may move", args.image).into());
    };
    let (client, auth) = args.common.client()?;
    let report = fetch_whole_report(&client, &args.image.repository, &args.artifact, "sbom", &auth);
    let report = args.common.bounded(report).await?;
    let bytes = list_of(&report, image)?;
    fs::write(&args.out, bytes).map_err(|error| format!("{} cannot be written: {error}", args.out.display()))?;
    Ok(Termination::Pulled {
        digest: args.artifact.clone(),
        millis: millis(started),
    })
}

/// The unpacked list of a report about `image`.
fn list_of(artifact: &ReportArtifact, image: &Digest) -> Result<Vec<u8>, String> {
    let report: Report =
        serde_json::from_slice(&artifact.json).map_err(|error| format!("the kept report cannot be read: {error}"))?;
    if report.image != *image {
        return Err(format!(
            "expected a report about {image}, found one about {}",
            report.image
        ));
    }
    let title = format!("{NAME}.gz");
    let layer = artifact
        .attached
        .iter()
        .find(|layer| layer.annotations.get(TITLE) == Some(&title))
        .ok_or_else(|| {
            format!("expected {title} to be kept with the report, found no such file: check the image again in full")
        })?;
    let mut bytes = Vec::new();
    GzDecoder::new(layer.bytes.as_ref())
        .take(MAX_SBOM + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the kept {title} cannot be unpacked: {error}"))?;
    if bytes.len() as u64 > MAX_SBOM {
        return Err(format!("the kept {title} unpacks to more than {MAX_SBOM} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Attached;
    use bytes::Bytes;
    use clap::Parser;
    use repave_core::{
        digest::Digest,
        report::{Tool, ToolName},
    };
    use repave_oci::{
        evidence::attach_report,
        registry::{
            ArtifactLayer, Auth,
            testing::{TestRegistry, push_image},
        },
    };
    use std::collections::BTreeMap;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn artifact(image: &Digest, name: &str, bytes: &[u8]) -> ReportArtifact {
        let tool = Tool::new(ToolName::Grype, "1");
        let packed = Attached::pack(NAME, "application/vnd.cyclonedx+json", bytes).unwrap();
        ReportArtifact {
            kind: "cves".into(),
            json: serde_json::to_vec(&Report::error("cves", image, tool, "x"))
                .unwrap()
                .into(),
            attached: vec![ArtifactLayer {
                media_type: "application/vnd.cyclonedx+json+gzip".into(),
                bytes: Bytes::from(packed.gzip),
                annotations: BTreeMap::from([(TITLE.to_owned(), name.to_owned())]),
            }],
        }
    }

    #[tokio::test]
    async fn the_kept_list_comes_back() {
        let registry = TestRegistry::docker().await;
        let repository = registry.repository("a/base");
        let image = push_image(&registry.client(), &repository, "1", &[b"x"]).await;
        let kept = artifact(&image.digest, "sbom.cdx.json.gz", b"{\"a\":1}");
        let digest = attach_report(&registry.client(), &repository, &image, &kept, &Auth::anonymous())
            .await
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join(NAME);
        let reference = repository.at(&image.digest).to_string();
        let words = [
            "x",
            "--insecure-host",
            registry.host(),
            "--image",
            &reference,
            "--artifact",
            digest.as_str(),
            "--out",
            out.to_str().unwrap(),
        ];
        run(&Cli::parse_from(words).args)
            .await
            .map_err(|failure| failure.message)
            .unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"{\"a\":1}");
    }

    #[test]
    fn a_foreign_report_a_missing_list_and_a_bomb_are_refused() {
        let (mine, other) = (Digest::of(b"mine"), Digest::of(b"other"));
        let fine = artifact(&mine, "sbom.cdx.json.gz", b"{}");
        assert!(list_of(&fine, &other).unwrap_err().contains("expected a report about"));
        assert!(
            list_of(&artifact(&mine, "report.html.gz", b"{}"), &mine)
                .unwrap_err()
                .contains("check the image again")
        );
        let bomb = artifact(
            &mine,
            "sbom.cdx.json.gz",
            &vec![b' '; usize::try_from(MAX_SBOM).unwrap() + 1],
        );
        assert!(list_of(&bomb, &mine).unwrap_err().contains("more than"));
        let mut torn = fine;
        torn.attached[0].bytes = torn.attached[0].bytes.slice(..5);
        assert!(list_of(&torn, &mine).unwrap_err().contains("cannot be unpacked"));
    }
}
