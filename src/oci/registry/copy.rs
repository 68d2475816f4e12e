//! Copies an image from one repository to another by digest: children first, bytes unchanged, resumable.
//!
//! Must not copy by tag, must not drop a child (the digest would change), and must not put a manifest before
//! everything it names is there.

use super::{
    auth::Auth,
    blob::BlobMove,
    client::Client,
    descriptor::Descriptor,
    error::Error,
    manifest::{Content, Manifest, Reference},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use repave_core::image_ref::{ImageRef, Repository};
use std::collections::BTreeMap;

/// An index of images, and at most one level of indexes below it.
const MAX_DEPTH: u32 = 2;
const BLOBS_AT_ONCE: usize = 3;

/// What a copy did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyStats {
    /// Manifests and indexes that were put.
    pub manifests: u64,
    /// Manifests and indexes that were there, with all below them.
    pub manifests_present: u64,
    /// Blobs whose bytes went through us.
    pub blobs_copied: u64,
    /// Blobs that the registry linked.
    pub blobs_mounted: u64,
    /// Blobs that were there.
    pub blobs_present: u64,
    /// Bytes of the copied blobs.
    pub bytes: u64,
}

/// From where to where, and with what.
struct Route<'a> {
    from: &'a Repository,
    to: &'a Repository,
    auth_from: &'a Auth,
    auth_to: &'a Auth,
}

impl Client {
    /// Copies `from` (which must name a digest) to the repository `to`. What is there already is only looked at.
    pub async fn copy_image(
        &self,
        from: &ImageRef,
        to: &Repository,
        auth_from: &Auth,
        auth_to: &Auth,
    ) -> Result<CopyStats, Error> {
        let digest = from.digest.as_ref().ok_or_else(|| Error::IncompleteReference {
            image: from.to_string(),
            missing: "digest",
        })?;
        let route = Route {
            from: &from.repository,
            to,
            auth_from,
            auth_to,
        };
        let mut stats = CopyStats::default();
        // By digest alone: a tag in the reference is a comment.
        self.copy_manifest(&route, &from.repository.at(digest), None, 0, &mut stats)
            .await?;
        Ok(stats)
    }

    async fn copy_manifest(
        &self,
        route: &Route<'_>,
        image: &ImageRef,
        expected: Option<&Descriptor>,
        depth: u32,
        stats: &mut CopyStats,
    ) -> Result<(), Error> {
        let target = ImageRef {
            repository: route.to.clone(),
            ..image.clone()
        };
        // A registry has a manifest only with everything below it, and we put it last.
        if self.head(&target, route.auth_to).await?.is_some() {
            stats.manifests_present += 1;
            return Ok(());
        }
        let manifest = self.get_manifest(image, route.auth_from).await?;
        if let Some(expected) = expected {
            as_described(route.from.host(), expected, &manifest)?;
        }
        match manifest.content(route.from.host())? {
            Content::Index(index) => {
                within_depth(route.from.host(), depth)?;
                for child in &index.manifests {
                    let image = route.from.at(&child.digest);
                    Box::pin(self.copy_manifest(route, &image, Some(child), depth + 1, stats)).await?;
                }
            }
            Content::Image(image) => {
                // A layer may occur twice.
                let all = image.layers.iter().chain([&image.config]);
                let blobs: BTreeMap<_, _> = all.map(|blob| (&blob.digest, blob)).collect();
                self.copy_blobs(route, blobs.into_values(), stats).await?;
            }
        }
        let reference = Reference::Digest(manifest.digest.clone());
        self.put_manifest(
            route.to,
            &reference,
            &manifest.media_type,
            manifest.bytes,
            route.auth_to,
        )
        .await?;
        stats.manifests += 1;
        Ok(())
    }

    async fn copy_blobs<'a>(
        &self,
        route: &Route<'_>,
        blobs: impl Iterator<Item = &'a Descriptor> + Send,
        stats: &mut CopyStats,
    ) -> Result<(), Error> {
        let jobs: Vec<_> = blobs
            .map(|blob| async move {
                let moved = self
                    .mount_or_copy_blob(route.from, route.to, blob, route.auth_from, route.auth_to)
                    .await?;
                Ok::<_, Error>((moved, blob.size))
            })
            .collect();
        let mut done = stream::iter(jobs).buffer_unordered(BLOBS_AT_ONCE);
        while let Some((moved, size)) = done.try_next().await? {
            match moved {
                BlobMove::Present => stats.blobs_present += 1,
                BlobMove::Mounted => stats.blobs_mounted += 1,
                BlobMove::Copied => {
                    stats.blobs_copied += 1;
                    stats.bytes += size;
                }
            }
        }
        Ok(())
    }
}

fn within_depth(host: &str, depth: u32) -> Result<(), Error> {
    if depth < MAX_DEPTH {
        return Ok(());
    }
    Err(Error::TooLarge {
        host: host.to_owned(),
        what: "the image index (levels)",
        limit: u64::from(MAX_DEPTH),
    })
}

/// A child must be what its index says: the digest was compared already, the rest could still lie.
pub(crate) fn as_described(host: &str, expected: &Descriptor, manifest: &Manifest) -> Result<(), Error> {
    let found = manifest.bytes.len() as u64;
    if expected.size != found {
        let (host, what, expected) = (host.to_owned(), "a manifest", expected.size);
        return Err(Error::SizeMismatch {
            host,
            what,
            expected,
            found,
        });
    }
    if expected.media_type == manifest.media_type {
        return Ok(());
    }
    Err(Error::malformed(
        host,
        "a manifest",
        "the media type that its index names",
        &manifest.media_type,
    ))
}
