//! The clients and names that every part of the story uses.

use crate::command;
use anyhow::{Context, Result};
use repave::registry;
use std::path::PathBuf;

/// The world as the story finds it.
#[derive(Clone)]
pub struct World {
    /// The cluster.
    pub kube: kube::Client,
    /// Our own registry client, as the judge of what is at the registry.
    pub oci: registry::Client,
    /// The registry's one name, `host:port`.
    pub registry: String,
    /// The project's folder.
    pub root: PathBuf,
}

impl World {
    /// Connects to what `cluster run` names.
    pub async fn connect() -> Result<Self> {
        let kube = kube::Client::try_default()
            .await
            .context("no cluster: run this through e2e/cluster/cluster run, after e2e/cluster/cluster up")?;
        let registry = std::env::var("REPAVE_REGISTRY").unwrap_or_else(|_| "registry.local:5000".to_owned());
        let options = registry::ClientOptions {
            insecure_hosts: [registry.clone()].into(),
            ..Default::default()
        };
        let oci = registry::Client::new(options).context("registry client")?;
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        Ok(Self {
            kube,
            oci,
            registry,
            root,
        })
    }

    /// Pushes an image that was built, `NAME` or `NAME=REPOSITORY:TAG`; gives its digest.
    pub async fn push(&self, what: &str) -> Result<String> {
        let push = self.root.join("e2e/images/push").to_string_lossy().into_owned();
        let printed = command::run(&push, &[&self.registry, what], None).await?;
        let digest = printed
            .split_whitespace()
            .nth(1)
            .context("e2e/images/push prints NAME DIGEST")?;
        Ok(digest.to_owned())
    }

    /// The whole name of a repository at the registry.
    pub fn repository(&self, path: &str) -> Result<repave::domain::image_ref::Repository> {
        Ok(format!("{}/{path}", self.registry).parse()?)
    }
}
