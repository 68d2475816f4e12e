//! How the operator was told to work, as the controllers see it. Must not change while the process runs.

use crate::{domain::image_ref::ImageRef, runtime::args::CandidateRoot};
use std::{collections::BTreeSet, time::Duration};

/// How the operator was told to work; the same for every object.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Image with the check tools, by digest.
    pub tools_image: ImageRef,
    /// Image with buildah, by digest.
    pub builder_image: ImageRef,
    /// Image with the runner (the operator's own), by digest.
    pub runner_image: ImageRef,
    /// Image with Grype's database, usually by a tag that a CronJob moves.
    pub grype_database: Option<ImageRef>,
    /// Image with Trivy's database.
    pub trivy_database: Option<ImageRef>,
    /// How long the answer to "which database is current" is used.
    pub database_interval: Duration,
    /// Registries that are spoken to without TLS.
    pub insecure_registries: BTreeSet<String>,
    /// How OpenSCAP sees the candidate's files.
    pub candidate_root: CandidateRoot,
    /// The namespace of the operator: its self-tests run there and nowhere else.
    pub namespace: String,
    /// Secrets of that namespace with which the images of self-tests are pulled.
    pub pull_secrets: Vec<String>,
    /// Objects that one controller works on at the same time; one namespace gets three quarters of it at most.
    pub concurrency: u16,
}
