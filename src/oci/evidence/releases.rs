//! The releases that a production repository still proves: found by their immutable tags, read from signed summaries.
//!
//! Only a summary by the promotion key, about the very digest and repository it is found at, and about the BaseImage that
//! asks, counts. Tags only say where to look: they can be moved by anybody who may push, and prove nothing.

use super::{
    signing::{BUNDLE_V03, PublicKey, open_bundle},
    verify::is_bundle,
    vsa::{self, SummaryRead, VSA_PREDICATE},
};
use crate::registry::{Auth, Client, Content, Descriptor, Error, referrers::EMPTY_MEDIA_TYPE};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use repave_core::{digest::Digest, image_ref::Repository};
use std::collections::BTreeSet;

/// Images that are looked at, newest first by the day in their tags.
pub const MAX_IMAGES: usize = 300;
/// Bundles of one image that are read.
const MAX_BUNDLES: usize = 20;
const MAX_BUNDLE: u64 = 1 << 20;
/// Images that are looked at at the same time.
const AT_ONCE: usize = 4;

/// One release that is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Its digest.
    pub digest: Digest,
    /// What its summary says; of several summaries, that with the greatest sequence.
    pub summary: SummaryRead,
}

/// What a repository proves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The releases of the base image, in no order.
    pub releases: Vec<Proven>,
    /// Tags that look like releases and prove none: of another base image, unsigned, or of an older version.
    pub unproven: usize,
    /// Whether there were more tags than are looked at.
    pub cut: bool,
}

/// Looks through a production repository. A registry that does not answer is an error and never "nothing".
pub async fn find(
    client: &Client,
    repository: &Repository,
    base_image: &str,
    key: &PublicKey,
    auth: &Auth,
) -> Result<Found, Error> {
    let (tags, cut) = release_tags(client.list_tags(repository, auth).await?);
    let looked = stream::iter(tags)
        .map(|tag| async move {
            let image = repository.tagged(&tag).map_err(|e| Error::IncompleteReference {
                image: e.found,
                missing: "valid tag",
            })?;
            let Some(head) = client.head(&image, auth).await? else {
                return Ok(None);
            };
            let proven = proven(client, repository, base_image, &head.digest, key, auth).await?;
            Ok::<_, Error>(proven.filter(|proven| proven.summary.release.tag == tag))
        })
        .buffer_unordered(AT_ONCE);
    let looked: Vec<Option<Proven>> = looked.try_collect().await?;
    let (mut releases, mut seen, mut unproven) = (Vec::new(), BTreeSet::new(), 0);
    for one in looked {
        match one {
            Some(proven) if seen.insert(proven.digest.clone()) => releases.push(proven),
            Some(_) => {}
            None => unproven += 1,
        }
    }
    Ok(Found {
        releases,
        unproven,
        cut,
    })
}

/// The tags of the form `<channel>-<day>-<12 hex digits>`, newest day first, and whether some were left out.
fn release_tags(tags: Vec<String>) -> (Vec<String>, bool) {
    let day = |tag: &str| {
        let mut parts = tag.rsplitn(3, '-');
        let (short, day, channel) = (parts.next()?, parts.next()?, parts.next()?);
        let hex = short.len() == 12 && short.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_day = day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit());
        (hex && is_day && !channel.is_empty()).then(|| day.to_owned())
    };
    let mut found: Vec<(String, String)> = tags.into_iter().filter_map(|tag| Some((day(&tag)?, tag))).collect();
    found.sort_by(|a, b| b.cmp(a));
    let cut = found.len() > MAX_IMAGES;
    (found.into_iter().take(MAX_IMAGES).map(|(_, tag)| tag).collect(), cut)
}

async fn proven(
    client: &Client,
    repository: &Repository,
    base_image: &str,
    digest: &Digest,
    key: &PublicKey,
    auth: &Auth,
) -> Result<Option<Proven>, Error> {
    let referrers = client.referrers(repository, digest, None, auth).await?;
    let mut best: Option<SummaryRead> = None;
    for entry in referrers.iter().filter(|entry| may_be_summary(entry)).take(MAX_BUNDLES) {
        let manifest = client.get_manifest(&repository.at(&entry.digest), auth).await?;
        let Content::Image(image) = manifest.content(repository.host())? else {
            continue;
        };
        let [layer] = image.layers.as_slice() else { continue };
        if !is_bundle(&layer.media_type) {
            continue;
        }
        let bundle = client.get_blob(repository, &layer.digest, MAX_BUNDLE, auth).await?;
        let read = open_bundle(key, &bundle).and_then(|statement| vsa::read(&statement, repository, digest));
        if let Some(read) = read.filter(|read| read.release.base_image == base_image)
            && best
                .as_ref()
                .is_none_or(|best| best.release.sequence < read.release.sequence)
        {
            best = Some(read);
        }
    }
    Ok(best.map(|summary| Proven {
        digest: digest.clone(),
        summary,
    }))
}

/// Whether an artifact may hold a summary: by its type and, where the registry lists annotations, by its predicate.
fn may_be_summary(entry: &Descriptor) -> bool {
    let bundle = match entry.artifact_type.as_deref() {
        None | Some(EMPTY_MEDIA_TYPE) => true,
        Some(other) => other == BUNDLE_V03 || is_bundle(other),
    };
    let predicate = entry.annotations.get("dev.sigstore.bundle.predicateType");
    bundle && predicate.is_none_or(|predicate| predicate == VSA_PREDICATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_immutable_tags_of_releases_are_looked_at_and_the_newest_days_first() {
        let tags = [
            "12",
            "12-20260101-0123456789ab",
            "12-slim-20261231-0123456789ab",
            "sha256-0123456789ab.sig",
            "12-2026010-0123456789ab",
            "-20260101-0123456789ab",
            "12-20260101-0123456789AB",
        ];
        let (found, cut) = release_tags(tags.map(str::to_owned).to_vec());
        assert_eq!(found, ["12-slim-20261231-0123456789ab", "12-20260101-0123456789ab"]);
        assert!(!cut);
        let many = (0..=MAX_IMAGES).map(|at| format!("12-20260101-{at:012x}")).collect();
        let (found, cut) = release_tags(many);
        assert_eq!((found.len(), cut), (MAX_IMAGES, true));
    }
}
