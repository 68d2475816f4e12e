//! Finds the reports of an image: through its candidate's status, or by what is attached to it in a registry.
//!
//! Everything that a registry gives is bounded and read strictly; a report about another image is refused. Reads only.

use crate::names;
use anyhow::{Context as _, bail, ensure};
use flate2::bufread::GzDecoder;
use repave_api::{ImageCandidate, ImageCandidateStatus, Waiver};
use repave_core::{
    digest::Digest,
    image_ref::{ImageRef, Repository},
    report::{Attachment, Report},
};
use repave_oci::{
    evidence,
    registry::{Auth, Client},
};
use repave_policy::{accepted, checks_of, judged_at, shown};
use repave_report::{
    Exception,
    page::{self, Page, Section},
};
use std::io::Read as _;

/// Most reports of one image that are read.
const MAX_REPORTS: usize = 64;
/// Largest attachment when unpacked, in bytes.
const MAX_UNPACKED: u64 = 256 << 20;

/// What a person named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An ImageCandidate.
    Candidate(String),
    /// An image in a registry.
    Image(ImageRef),
    /// A digest of some candidate.
    Digest(Digest),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("sha256:") {
            return text.parse().map(Self::Digest).map_err(|error| format!("{error}"));
        }
        if !text.contains(['/', ':', '@']) {
            let or = "; or name a digest (sha256:…) or an image (HOST/PATH:TAG)";
            return names::object(text).map(Self::Candidate).map_err(|error| error + or);
        }
        let image: ImageRef = text.parse().map_err(|error| format!("{error}"))?;
        if image.tag.is_none() && image.digest.is_none() {
            return Err("the reference says not which image: add :TAG or @sha256:DIGEST".to_owned());
        }
        Ok(Self::Image(image))
    }
}

/// An image, where it may be, and the candidate that it belongs to if that is known.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its digest.
    pub digest: Digest,
    /// Repositories that may have it: they are asked in this order.
    pub homes: Vec<Repository>,
    /// The candidate.
    pub candidate: Option<ImageCandidate>,
    /// The waivers of its namespace.
    pub waivers: Vec<Waiver>,
}

/// A report and where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The report.
    pub report: Report,
    /// The repository.
    pub home: Repository,
    /// The digest of its artifact.
    pub artifact: Digest,
}

/// Access to registries.
pub struct Reader {
    /// The client.
    pub client: Client,
    /// The credentials.
    pub auth: Auth,
    /// Whether each fetch is told on stderr.
    pub tell: bool,
}

impl Subject {
    /// The built image of a candidate. Staging is asked first; production has the same artifacts once it is promoted.
    pub fn of(candidate: ImageCandidate) -> anyhow::Result<Self> {
        let status = candidate.status.clone().unwrap_or_default();
        let digest = status.built_digest.context(
            "nothing is built of this candidate yet, so there are no reports: see kubectl describe imagecandidate",
        )?;
        let mut homes = vec![candidate.spec.staging.clone()];
        homes.extend(status.promoted.map(|promoted| promoted.repository));
        Ok(Self {
            digest,
            homes,
            candidate: Some(candidate),
            waivers: Vec::new(),
        })
    }

    /// The image as it is named for people and in SARIF.
    pub fn image(&self) -> String {
        self.homes
            .last()
            .map_or_else(|| self.digest.to_string(), |home| home.at(&self.digest).to_string())
    }

    /// Why findings of a report did not count when its candidate was judged; nothing where no candidate is known.
    pub fn exceptions(&self, report: &Report) -> Vec<Exception> {
        let Some(candidate) = &self.candidate else {
            return Vec::new();
        };
        let checks = checks_of(&candidate.spec.policies).unwrap_or_default();
        let check = checks.iter().find(|check| check.name == report.check);
        let found = check.map(|check| accepted(check, report, &self.waivers, candidate, judged_at(candidate)));
        shown(found.unwrap_or_default())
    }

    fn status(&self) -> ImageCandidateStatus {
        self.candidate
            .as_ref()
            .and_then(|candidate| candidate.status.clone())
            .unwrap_or_default()
    }
}

impl Reader {
    /// The image that a reference means now.
    pub async fn resolve(&self, image: &ImageRef) -> anyhow::Result<Subject> {
        let digest = if let Some(digest) = &image.digest {
            digest.clone()
        } else {
            let found = self.client.head(image, &self.auth).await?;
            found
                .with_context(|| format!("there is no image {image}: look at its tag"))?
                .digest
        };
        Ok(Subject {
            digest,
            homes: vec![image.repository.clone()],
            candidate: None,
            waivers: Vec::new(),
        })
    }

    /// The reports of an image, by check; with `only`, those of one check. None at all is an error.
    pub async fn reports(&self, subject: &Subject, only: Option<&str>) -> anyhow::Result<Vec<Stored>> {
        let mut stored = Vec::new();
        if subject.candidate.is_some() {
            for check in subject.status().checks {
                if let Some(artifact) = check.report.filter(|_| only.is_none_or(|only| only == check.name)) {
                    stored.push(self.report(subject, &artifact, Some(&check.name)).await?);
                }
            }
        } else {
            for artifact in self.attached(subject, evidence::REPORT_ARTIFACT_TYPE).await? {
                stored.push(self.report(subject, &artifact, None).await?);
            }
            stored.retain(|one| only.is_none_or(|only| only == one.report.check));
        }
        stored.sort_by(|a, b| (&a.report.check, &a.artifact).cmp(&(&b.report.check, &b.artifact)));
        let image = subject.image();
        match only {
            Some(check) => ensure!(
                !stored.is_empty(),
                "{image} has no report of a check {check:?}: leave --check out to see which there are"
            ),
            None => ensure!(
                !stored.is_empty(),
                "no report is attached to {image}: is it an image that Repave checked?"
            ),
        }
        Ok(stored)
    }

    async fn attached(&self, subject: &Subject, artifact_type: &str) -> anyhow::Result<Vec<Digest>> {
        let mut found = Vec::new();
        for home in &subject.homes {
            let listed = self
                .client
                .referrers(home, &subject.digest, Some(artifact_type), &self.auth)
                .await?;
            found.extend(listed.into_iter().map(|entry| entry.digest));
        }
        let count = found.len();
        ensure!(
            count <= MAX_REPORTS,
            "{count} reports are attached, at most {MAX_REPORTS} are read: name a candidate"
        );
        Ok(found)
    }

    async fn report(&self, subject: &Subject, artifact: &Digest, check: Option<&str>) -> anyhow::Result<Stored> {
        self.told(&format!("report {} of {}", check.unwrap_or_default(), artifact.short()));
        let mut missing = None;
        for home in &subject.homes {
            match evidence::fetch_report(&self.client, home, artifact, &self.auth).await {
                Ok(json) => {
                    let report = repave_report::read(&json, check, &subject.digest)
                        .with_context(|| format!("the report {}", home.at(artifact)))?;
                    return Ok(Stored {
                        report,
                        home: home.clone(),
                        artifact: artifact.clone(),
                    });
                }
                Err(error) if error.is_not_found() => missing = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        match missing {
            Some(error) => Err(error.into()),
            None => bail!("no repository is known for {}", subject.digest),
        }
    }

    /// The page: as it was published, else written here from the candidate and its reports.
    pub async fn page(&self, subject: &Subject) -> anyhow::Result<Vec<u8>> {
        let published = match &subject.candidate {
            Some(_) => subject.status().page,
            None => self.attached(subject, page::ARTIFACT_TYPE).await?.pop(),
        };
        if let Some(artifact) = published {
            self.told("the page");
            for home in &subject.homes {
                match evidence::fetch_page(&self.client, home, &artifact, &self.auth).await {
                    Ok(html) => return Ok(html.to_vec()),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let candidate = subject.candidate.as_ref().with_context(|| {
            format!(
                "no page is attached to {}: -o json and -o sarif print the reports",
                subject.image()
            )
        })?;
        let mut sections = Vec::new();
        for check in &subject.status().checks {
            let report = match &check.report {
                Some(artifact) => Some(self.report(subject, artifact, Some(&check.name)).await?.report),
                None => None,
            };
            let exceptions = report.as_ref().map(|report| subject.exceptions(report));
            let exceptions = exceptions.unwrap_or_default();
            sections.push(Section::new(check, report.as_ref(), &exceptions, None));
        }
        Ok(Page::new(candidate, sections, None).html()?.into_bytes())
    }

    /// The unpacked bytes of the attachment with that name. The name is compared, never used as a path.
    pub async fn attachment(&self, stored: &[Stored], name: &str) -> anyhow::Result<Vec<u8>> {
        let with: Vec<(&Stored, &Attachment)> = stored
            .iter()
            .flat_map(|one| one.report.attachments.iter().map(move |file| (one, file)))
            .filter(|(_, file)| file.name == name)
            .collect();
        let (one, file) = match with.as_slice() {
            [found] => *found,
            [] => {
                let names = stored
                    .iter()
                    .flat_map(|one| &one.report.attachments)
                    .map(|file| file.name.as_str());
                let names: Vec<_> = names.collect();
                bail!(
                    "no file {name:?} is kept with these reports; there are: {}",
                    names.join(", ")
                );
            }
            [first, ..] => {
                let check = &first.0.report.check;
                bail!("several reports have a file {name:?}: say which with --check, such as --check {check}");
            }
        };
        self.told(name);
        // By the digest that the report names: other bytes are refused.
        let gzip = self
            .client
            .get_blob(&one.home, &file.digest, evidence::MAX_ATTACHMENT, &self.auth);
        unpack(&gzip.await?).with_context(|| format!("the file {name:?}"))
    }

    fn told(&self, what: &str) {
        if self.tell {
            eprintln!("fetching {what}");
        }
    }
}

fn unpack(gzip: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(gzip).take(MAX_UNPACKED + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= MAX_UNPACKED,
        "it unpacks to more than {MAX_UNPACKED} bytes"
    );
    Ok(bytes)
}
