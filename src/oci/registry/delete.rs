//! Deletes manifests, where the registry does that. Must not take "not allowed" for "deleted", nor for a failure.

use super::{
    auth::Auth,
    client::{Access, Client},
    error::Error,
    manifest::{OCI_INDEX, Reference},
    referrers::{fallback_tag, lock_subject, serialised},
};
use repave_core::{digest::Digest, image_ref::Repository};
use reqwest::Method;
use serde_json::Value;

/// Attached artifacts that are deleted with an image; a registry's own clean-up takes the rest.
const MAX_DELETED: usize = 200;
/// How often a list that somebody else writes too is tried.
const ATTEMPTS: u32 = 5;

/// What a registry did about a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, or was not there.
    Gone,
    /// The registry does not delete, or not for us.
    NotAllowed,
}

impl Client {
    /// Deletes a manifest by digest, and with it every tag that names it. Blobs are the registry's own affair.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        auth: &Auth,
    ) -> Result<Deleted, Error> {
        let verb = ("delete_manifest", Method::DELETE, Access::Delete);
        let call = self.call(verb, repository, &format!("manifests/{digest}"), auth)?;
        let response = match self.send(&call).await {
            Ok(response) => response,
            Err(Error::Unauthorized { .. }) => return Ok(Deleted::NotAllowed),
            Err(error) => return Err(error),
        };
        match response.status().as_u16() {
            200..=299 | 404 => Ok(Deleted::Gone),
            // 405 is what the specification says; some answer 400 with UNSUPPORTED.
            400 | 405 => Ok(Deleted::NotAllowed),
            _ => Err(self.refused(&call, response).await),
        }
    }

    /// Deletes what is attached to an image (at most 200 artifacts), the list of it where that is a tag, then the image.
    pub async fn delete_with_referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        auth: &Auth,
    ) -> Result<Deleted, Error> {
        let attached = self.referrers(repository, digest, None, auth).await?;
        for entry in attached.iter().take(MAX_DELETED) {
            if self.delete_manifest(repository, &entry.digest, auth).await? == Deleted::NotAllowed {
                return Ok(Deleted::NotAllowed);
            }
        }
        if let Ok(list) = repository.tagged(&fallback_tag(digest))
            && let Some(list) = self.head(&list, auth).await?
            && self.delete_manifest(repository, &list.digest, auth).await? == Deleted::NotAllowed
        {
            return Ok(Deleted::NotAllowed);
        }
        self.delete_manifest(repository, digest, auth).await
    }

    /// Takes artifacts off an image: out of the list of what is attached, where that is a tag, then away. A registry that
    /// deletes nothing keeps them unlisted.
    pub async fn detach(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifacts: &[Digest],
        auth: &Auth,
    ) -> Result<Deleted, Error> {
        let _one_writer = lock_subject(repository, subject).await;
        self.unlist(repository, subject, artifacts, auth).await?;
        for artifact in artifacts {
            if self.delete_manifest(repository, artifact, auth).await? == Deleted::NotAllowed {
                return Ok(Deleted::NotAllowed);
            }
        }
        Ok(Deleted::Gone)
    }

    /// Writes the list under the fallback tag without these entries, until it is read back so. Where there is none, nothing
    /// is written.
    async fn unlist(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifacts: &[Digest],
        auth: &Auth,
    ) -> Result<(), Error> {
        let tag = fallback_tag(subject);
        for _ in 0..ATTEMPTS {
            let (listed, mut document) = self.fallback_index(repository, subject, auth).await?;
            let gone: Vec<bool> = listed.iter().map(|row| artifacts.contains(&row.digest)).collect();
            if !gone.contains(&true) {
                return Ok(());
            }
            if let Some(Value::Array(rows)) = document.get_mut("manifests") {
                let mut gone = gone.into_iter();
                rows.retain(|_| gone.next() != Some(true));
            }
            let bytes = serialised(repository.host(), &document)?;
            self.put_manifest(repository, &Reference::Tag(tag.clone()), OCI_INDEX, bytes, auth)
                .await?;
        }
        Err(Error::Contended {
            repository: repository.to_string(),
            tag,
            attempts: ATTEMPTS,
        })
    }
}
