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
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use repave_core::{digest::Digest, image_ref::Repository};
use std::collections::BTreeSet;

/// Images that are looked at, newest first by the day in their tags.
pub const MAX_IMAGES: usize = 300;
/// Bundles of one image that are read, those that are listed as summaries first.
const MAX_BUNDLES: usize = 100;
const MAX_BUNDLE: u64 = 1 << 20;
/// Where the list of referrers says what a bundle is about.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
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
    /// Whether there were more tags, or more attachments of an image, than could be looked at, or some that cannot be read.
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
    let (tags, mut cut) = release_tags(client.list_tags(repository, auth).await?);
    let looked = stream::iter(tags)
        .map(|tag| async move {
            let image = repository.tagged(&tag).map_err(|e| Error::IncompleteReference {
                image: e.found,
                missing: "valid tag",
            })?;
            let head = match client.head(&image, auth).await {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(Looked::default()),
                Err(error) if error.is_of_content() => return Ok(Looked::cut()),
                Err(error) => return Err(error),
            };
            let mut looked = proven(client, repository, base_image, &head.digest, key, auth).await?;
            looked.proven = looked.proven.filter(|proven| proven.summary.release.tag == tag);
            Ok::<_, Error>(looked)
        })
        .buffer_unordered(AT_ONCE);
    let looked: Vec<Looked> = looked.try_collect().await?;
    let (mut releases, mut seen, mut unproven) = (Vec::new(), BTreeSet::new(), 0);
    for one in looked {
        cut |= one.cut;
        match one.proven {
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

/// What one image proves.
#[derive(Debug, Default)]
struct Looked {
    proven: Option<Proven>,
    /// Whether more is attached to it than was or can be read.
    cut: bool,
}

impl Looked {
    /// Of an image whose attachments cannot be read.
    fn cut() -> Self {
        Self {
            proven: None,
            cut: true,
        }
    }
}

/// What somebody attached that cannot be read proves nothing and hides nothing: the next one is read.
async fn proven(
    client: &Client,
    repository: &Repository,
    base_image: &str,
    digest: &Digest,
    key: &PublicKey,
    auth: &Auth,
) -> Result<Looked, Error> {
    let mut looked = Looked::default();
    let referrers = match client.referrers(repository, digest, None, auth).await {
        Ok(referrers) => referrers,
        // Too long a list, or, where it is a tag like any other, something else under that tag.
        Err(error) if error.is_of_content() => return Ok(Looked::cut()),
        Err(error) => return Err(error),
    };
    let (mut told, mut untold): (Vec<_>, Vec<_>) = referrers
        .iter()
        .filter(|entry| may_be_summary(entry))
        .partition(|entry| entry.annotations.contains_key(PREDICATE));
    told.append(&mut untold);
    let mut best: Option<SummaryRead> = None;
    looked.cut = told.len() > MAX_BUNDLES;
    for entry in told.iter().take(MAX_BUNDLES) {
        let bundle = match bundle(client, repository, &entry.digest, auth).await {
            Ok(Some(bundle)) => bundle,
            Ok(None) => continue,
            Err(error) if error.is_of_content() => {
                looked.cut = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        let read = open_bundle(key, &bundle).and_then(|statement| vsa::read(&statement, repository, digest));
        if let Some(read) = read.filter(|read| read.release.base_image == base_image)
            && best
                .as_ref()
                .is_none_or(|best| best.release.sequence < read.release.sequence)
        {
            best = Some(read);
        }
    }
    looked.proven = best.map(|summary| Proven {
        digest: digest.clone(),
        summary,
    });
    Ok(looked)
}

/// The bundle in an artifact, if it is one with a bundle.
async fn bundle(
    client: &Client,
    repository: &Repository,
    artifact: &Digest,
    auth: &Auth,
) -> Result<Option<Bytes>, Error> {
    let manifest = client.get_manifest(&repository.at(artifact), auth).await?;
    let Content::Image(image) = manifest.content(repository.host())? else {
        return Ok(None);
    };
    match image.layers.as_slice() {
        [layer] if is_bundle(&layer.media_type) => {
            let bundle = client.get_blob(repository, &layer.digest, MAX_BUNDLE, auth).await?;
            Ok(Some(bundle))
        }
        _ => Ok(None),
    }
}

/// Whether an artifact may hold a summary: by its type and, where the registry lists annotations, by its predicate.
fn may_be_summary(entry: &Descriptor) -> bool {
    let bundle = match entry.artifact_type.as_deref() {
        None | Some(EMPTY_MEDIA_TYPE) => true,
        Some(other) => other == BUNDLE_V03 || is_bundle(other),
    };
    let predicate = entry.annotations.get(PREDICATE);
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
