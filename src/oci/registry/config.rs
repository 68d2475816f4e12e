//! What an image is made of, for one platform: its manifest, its configuration, its layers and their diff IDs.
//!
//! Must not download a layer.

use super::{
    auth::Auth,
    client::Client,
    copy::as_described,
    descriptor::{Descriptor, Platform, null_is_empty},
    error::Error,
    manifest::{Content, ImageManifest, Manifest},
};
use bytes::Bytes;
use repave_core::{digest::Digest, image_ref::ImageRef};
use serde::Deserialize;
use std::collections::BTreeMap;

pub(crate) const MAX_CONFIG: u64 = 4 << 20;

/// One platform's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The platform's manifest (not the index).
    pub manifest_digest: Digest,
    /// The configuration.
    pub config_digest: Digest,
    /// The digests of the unpacked layers, lowest first: the image's ancestry.
    pub diff_ids: Vec<Digest>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The user that containers run as; empty means root.
    pub user: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// When it was built, if it says so in a readable form.
    pub created: Option<jiff::Timestamp>,
    /// E.g. `amd64`.
    pub architecture: String,
    /// E.g. `linux`.
    pub os: String,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// The part of an image configuration that Repave reads.
#[derive(Deserialize)]
struct ImageConfig {
    architecture: String,
    os: String,
    #[serde(default)]
    created: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    config: RuntimeConfig,
    rootfs: RootFs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RuntimeConfig {
    #[serde(deserialize_with = "null_is_empty")]
    user: String,
    #[serde(deserialize_with = "null_is_empty")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(deserialize_with = "null_is_empty")]
    diff_ids: Vec<Digest>,
}

/// One platform's image with the bytes that describe it.
pub(crate) struct PlatformImage {
    pub manifest: Manifest,
    pub image: Box<ImageManifest>,
    pub config: Bytes,
    pub resolved: ResolvedImage,
}

impl Client {
    /// What the image is made of on this platform.
    pub async fn image_config(
        &self,
        image: &ImageRef,
        platform: &Platform,
        auth: &Auth,
    ) -> Result<ResolvedImage, Error> {
        Ok(self.platform_image(image, platform, auth).await?.resolved)
    }

    pub(crate) async fn platform_image(
        &self,
        image: &ImageRef,
        platform: &Platform,
        auth: &Auth,
    ) -> Result<PlatformImage, Error> {
        let host = image.repository.host();
        let mut manifest = self.get_manifest(image, auth).await?;
        let mut content = manifest.content(host)?;
        if let Content::Index(index) = &content {
            let child = choose(image, &index.manifests, platform)?;
            manifest = self.get_manifest(&image.repository.at(&child.digest), auth).await?;
            as_described(host, child, &manifest)?;
            content = manifest.content(host)?;
        }
        let Content::Image(image_manifest) = content else {
            return Err(Error::malformed(
                host,
                "the image index",
                "images below it",
                "an index below an index",
            ));
        };
        let config = self
            .get_blob(&image.repository, &image_manifest.config.digest, MAX_CONFIG, auth)
            .await?;
        let resolved = resolve(host, &manifest, &image_manifest, &config)?;
        let found = Platform {
            os: resolved.os.clone(),
            architecture: resolved.architecture.clone(),
            variant: None,
        };
        if found.os != platform.os || found.architecture != platform.architecture {
            return Err(no_such_platform(image, platform, &found.to_string()));
        }
        Ok(PlatformImage {
            manifest,
            image: image_manifest,
            config,
            resolved,
        })
    }
}

fn choose<'a>(image: &ImageRef, children: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, Error> {
    let fits = |child: &&Descriptor| {
        child
            .platform
            .as_ref()
            .is_some_and(|platform| platform.satisfies(wanted))
    };
    children.iter().find(fits).ok_or_else(|| {
        let all: Vec<String> = children
            .iter()
            .filter_map(|child| Some(child.platform.as_ref()?.to_string()))
            .take(20)
            .collect();
        no_such_platform(image, wanted, &all.join(", "))
    })
}

fn no_such_platform(image: &ImageRef, wanted: &Platform, found: &str) -> Error {
    Error::NoSuchPlatform {
        image: Box::new(image.clone()),
        wanted: wanted.to_string(),
        found: repave_core::report::bounded(found),
    }
}

pub(crate) fn resolve(
    host: &str,
    manifest: &Manifest,
    image: &ImageManifest,
    config: &[u8],
) -> Result<ResolvedImage, Error> {
    let parsed: ImageConfig = serde_json::from_slice(config).map_err(|e| {
        Error::malformed(
            host,
            "the image configuration",
            "an OCI image configuration",
            &e.to_string(),
        )
    })?;
    if parsed.rootfs.diff_ids.len() != image.layers.len() {
        let found = format!(
            "{} diff IDs for {} layers",
            parsed.rootfs.diff_ids.len(),
            image.layers.len()
        );
        return Err(Error::malformed(
            host,
            "the image configuration",
            "one diff ID for each layer",
            &found,
        ));
    }
    Ok(ResolvedImage {
        manifest_digest: manifest.digest.clone(),
        config_digest: image.config.digest.clone(),
        diff_ids: parsed.rootfs.diff_ids,
        env: parsed.config.env,
        user: parsed.config.user,
        labels: parsed.config.labels,
        created: parsed.created.and_then(|text| text.parse().ok()),
        architecture: parsed.architecture,
        os: parsed.os,
        layers: image.layers.clone(),
    })
}
