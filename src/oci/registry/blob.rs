//! Blobs: read and written as streams, one chunk in memory, with size and digest checked.
//!
//! Must not end a stream without an error when the bytes were not what was asked for, and must not complete an
//! upload whose bytes were not checked to the end.

use super::{
    answer::{location, status_error, unreachable},
    auth::Auth,
    client::{Access, Call, Client, scope},
    descriptor::Descriptor,
    error::Error,
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use repave_core::{digest::Digest, image_ref::Repository};
use reqwest::{
    Body, Method, Url,
    header::{CONTENT_TYPE, HeaderValue},
};
use sha2::{Digest as _, Sha256};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A blob's bytes; the last item is an error if they were not what was asked for.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// How a blob came to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobMove {
    /// It was there.
    Present,
    /// The registry linked it from another repository.
    Mounted,
    /// Its bytes went through us.
    Copied,
}

/// What a blob must be. Without a size only the digest and the limit count.
struct Expectation {
    host: String,
    digest: Digest,
    size: Option<u64>,
    limit: u64,
}

impl Expectation {
    /// Whether the bytes so far may still be right.
    fn within(&self, found: u64) -> Result<(), Error> {
        let host = self.host.clone();
        match self.size {
            Some(expected) if found > expected => Err(Error::SizeMismatch {
                host,
                what: "a blob",
                expected,
                found,
            }),
            Some(_) | None if found > self.limit => {
                let what = "a blob (bytes)";
                Err(Error::TooLarge {
                    host,
                    what,
                    limit: self.limit,
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn complete(&self, found: u64, hash: Sha256) -> Result<(), Error> {
        let host = self.host.clone();
        if let Some(expected) = self.size.filter(|size| *size != found) {
            return Err(Error::SizeMismatch {
                host,
                what: "a blob",
                expected,
                found,
            });
        }
        let actual = Digest::from_hash(&hash.finalize());
        if actual == self.digest {
            return Ok(());
        }
        Err(Error::DigestMismatch {
            host,
            what: "a blob",
            expected: self.digest.clone(),
            found: actual.to_string(),
        })
    }
}

/// Passes chunks on, and checks them on the way and at the end. Ends after the first error.
fn checked(source: BlobStream, expectation: Expectation, silence: Duration) -> BlobStream {
    let start = Some((source, expectation, Sha256::new(), 0_u64));
    Box::pin(stream::unfold(start, move |state| async move {
        let (mut source, expectation, mut hash, mut found) = state?;
        let next = match tokio::time::timeout(silence, source.next()).await {
            Ok(next) => next,
            Err(_) => Some(Err(Error::Unreachable {
                host: expectation.host.clone(),
                verb: "get_blob",
                detail: format!("silence for {} s within the blob", silence.as_secs()),
            })),
        };
        match next {
            Some(Ok(chunk)) => {
                found += chunk.len() as u64;
                if let Err(error) = expectation.within(found) {
                    return Some((Err(error), None));
                }
                hash.update(&chunk);
                Some((Ok(chunk), Some((source, expectation, hash, found))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None => expectation.complete(found, hash).err().map(|error| (Err(error), None)),
        }
    }))
}

/// What an upload started with.
pub(crate) enum Upload {
    /// The blob is there by now.
    Mounted,
    /// Bytes go to this URL.
    Session(Url),
}

impl Client {
    /// Whether the repository has the blob.
    pub async fn blob_exists(&self, repository: &Repository, digest: &Digest, auth: &Auth) -> Result<bool, Error> {
        self.has_blob(repository, digest, auth, Access::Pull).await
    }

    /// Asked before a push with the scopes of the push, so that one token serves all its calls.
    async fn has_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        auth: &Auth,
        access: Access,
    ) -> Result<bool, Error> {
        let call = self.call(
            ("head_blob", Method::HEAD, access),
            repository,
            &format!("blobs/{digest}"),
            auth,
        )?;
        let response = self.send(&call).await?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(status_error(&call, &response)),
        }
    }

    async fn open(&self, repository: &Repository, expectation: Expectation, auth: &Auth) -> Result<BlobStream, Error> {
        let digest = expectation.digest.clone();
        let call = self.call(
            ("get_blob", Method::GET, Access::Pull),
            repository,
            &format!("blobs/{digest}"),
            auth,
        )?;
        let response = self.send(&call).await?;
        match response.status().as_u16() {
            200 => {}
            404 => {
                let repository = repository.to_string();
                return Err(Error::BlobNotFound { repository, digest });
            }
            _ => return Err(self.refused(&call, response).await),
        }
        let host = repository.host().to_owned();
        let source = response
            .bytes_stream()
            .map_err(move |error| unreachable(&host, "get_blob", &error));
        Ok(checked(Box::pin(source), expectation, self.options().read_timeout))
    }

    /// The blob's bytes as they come, checked against the descriptor.
    pub async fn blob_stream(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        auth: &Auth,
    ) -> Result<BlobStream, Error> {
        let expectation = Expectation {
            host: repository.host().to_owned(),
            digest: descriptor.digest.clone(),
            size: Some(descriptor.size),
            limit: u64::MAX,
        };
        self.open(repository, expectation, auth).await
    }

    /// A small blob as a whole, checked, at most `max_bytes`.
    pub async fn get_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        max_bytes: u64,
        auth: &Auth,
    ) -> Result<Bytes, Error> {
        let expectation = Expectation {
            host: repository.host().to_owned(),
            digest: digest.clone(),
            size: None,
            limit: max_bytes,
        };
        let mut blob = self.open(repository, expectation, auth).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = blob.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Puts a small blob unless it is there.
    pub async fn put_blob(&self, repository: &Repository, bytes: Bytes, auth: &Auth) -> Result<Descriptor, Error> {
        let descriptor = Descriptor::of("application/octet-stream", &bytes);
        if self
            .has_blob(repository, &descriptor.digest, auth, Access::PullPush)
            .await?
        {
            return Ok(descriptor);
        }
        if let Upload::Session(url) = self.start_upload(repository, None, auth).await? {
            self.finish_upload(repository, url, &descriptor.digest, Some(bytes), auth)
                .await?;
        }
        Ok(descriptor)
    }

    fn upload_call<'a>(&self, repository: &'a Repository, tail: &str, auth: &'a Auth) -> Result<Call<'a>, Error> {
        self.call(("start_upload", Method::POST, Access::PullPush), repository, tail, auth)
    }

    /// Opens an upload session, or mounts the blob from another repository of the same registry.
    pub(crate) async fn start_upload(
        &self,
        to: &Repository,
        mount: Option<(&Digest, &Repository)>,
        auth: &Auth,
    ) -> Result<Upload, Error> {
        let mut call = self.upload_call(to, "blobs/uploads/", auth)?;
        if let Some((digest, from)) = mount {
            call.url
                .query_pairs_mut()
                .append_pair("mount", digest.as_str())
                .append_pair("from", from.path());
            call.scopes.push(scope(from, Access::Pull));
        }
        let response = match self.send(&call).await {
            // Not allowed to read the other repository: an ordinary upload needs only this one.
            Err(Error::Unauthorized { .. }) if mount.is_some() => {
                call = self.upload_call(to, "blobs/uploads/", auth)?;
                self.send(&call).await?
            }
            other => other?,
        };
        match response.status().as_u16() {
            201 if mount.is_some() => Ok(Upload::Mounted),
            202 => Ok(Upload::Session(location(&call, &call.url, &response)?)),
            _ => Err(self.refused(&call, response).await),
        }
    }

    /// Streams a blob into a session and completes it; the session is cancelled when the bytes were wrong.
    pub(crate) async fn upload(
        &self,
        to: &Repository,
        session: Url,
        blob: BlobStream,
        descriptor: &Descriptor,
        auth: &Auth,
    ) -> Result<(), Error> {
        let base = self.upload_call(to, "blobs/uploads/", auth)?;
        let mut call = self.redirected(&base, "patch_upload", Method::PATCH, session.clone())?;
        call.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let failure: Arc<Mutex<Option<Error>>> = Arc::default();
        let slot = Arc::clone(&failure);
        let body = blob.map_err(move |error| {
            let text = error.to_string();
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            std::io::Error::other(text)
        });
        let sent = self.send_stream(&call, Body::wrap_stream(body)).await;
        // What was wrong with the source says more than "the body ended early".
        let cause = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let next = match (cause, sent) {
            (None, Ok(response)) if response.status().as_u16() == 202 => location(&call, &call.url, &response)?,
            (cause, sent) => {
                self.cancel_upload(&base, session).await;
                return Err(match (cause, sent) {
                    (Some(cause), _) => cause,
                    (None, Err(error)) => error,
                    (None, Ok(response)) => self.refused(&call, response).await,
                });
            }
        };
        self.finish_upload(to, next, &descriptor.digest, None, auth).await
    }

    async fn finish_upload(
        &self,
        to: &Repository,
        mut session: Url,
        digest: &Digest,
        bytes: Option<Bytes>,
        auth: &Auth,
    ) -> Result<(), Error> {
        let base = self.upload_call(to, "blobs/uploads/", auth)?;
        session.query_pairs_mut().append_pair("digest", digest.as_str());
        let mut call = self.redirected(&base, "put_upload", Method::PUT, session)?;
        call.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.body = Some(bytes.unwrap_or_default());
        let response = self.send(&call).await?;
        match response.status().as_u16() {
            201 | 204 => Ok(()),
            _ => Err(self.refused(&call, response).await),
        }
    }

    /// Tells the registry that the session is over. It cleans up by itself later, so a failure changes nothing.
    async fn cancel_upload(&self, base: &Call<'_>, session: Url) {
        if let Ok(call) = self.redirected(base, "cancel_upload", Method::DELETE, session)
            && let Err(error) = self.send(&call).await
        {
            tracing::debug!(%error, "an upload session was left to expire");
        }
    }

    /// Brings a blob into `to`: nothing if it is there, a mount within one registry, else a checked stream.
    pub async fn mount_or_copy_blob(
        &self,
        from: &Repository,
        to: &Repository,
        descriptor: &Descriptor,
        auth_from: &Auth,
        auth_to: &Auth,
    ) -> Result<BlobMove, Error> {
        if self.has_blob(to, &descriptor.digest, auth_to, Access::PullPush).await? {
            return Ok(BlobMove::Present);
        }
        let mount = (from.host() == to.host() && from != to).then_some((&descriptor.digest, from));
        match self.start_upload(to, mount, auth_to).await? {
            Upload::Mounted => Ok(BlobMove::Mounted),
            Upload::Session(session) => {
                let blob = self.blob_stream(from, descriptor, auth_from).await?;
                self.upload(to, session, blob, descriptor, auth_to).await?;
                Ok(BlobMove::Copied)
            }
        }
    }
}

/// A stream over bytes that are on our side already, checked all the same.
pub(crate) fn checked_local(source: BlobStream, descriptor: &Descriptor, silence: Duration) -> BlobStream {
    let expectation = Expectation {
        host: "the OCI layout".to_owned(),
        digest: descriptor.digest.clone(),
        size: Some(descriptor.size),
        limit: u64::MAX,
    };
    checked(source, expectation, silence)
}
