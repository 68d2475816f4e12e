//! One call to a registry as data: where it goes, for which repository, with which credential.
//!
//! Must not send anything; `client` does.

use super::{
    address,
    auth::{Auth, Credential},
};
use bytes::Bytes;
use repave_core::image_ref::Repository;
use reqwest::{Method, Url, header::HeaderMap};

/// One call, before it is sent.
pub(crate) struct Call<'a> {
    pub verb: &'static str,
    pub method: Method,
    /// Where it goes: at the registry, or where the registry said that an upload goes.
    pub url: Url,
    /// The registry: the only place that credentials are sent to.
    pub home: Url,
    pub repository: &'a Repository,
    pub auth: &'a Auth,
    pub scopes: Vec<String>,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
}

/// What a call may do; becomes the scope of a token.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Pull,
    PullPush,
    Delete,
}

pub(crate) fn scope(repository: &Repository, access: Access) -> String {
    let actions = match access {
        Access::Pull => "pull",
        Access::PullPush => "pull,push",
        Access::Delete => "pull,delete",
    };
    format!("repository:{}:{actions}", repository.path())
}

impl<'a> Call<'a> {
    pub(crate) fn host(&self) -> &'a str {
        self.repository.host()
    }

    pub(crate) fn credential(&self) -> Option<&'a Credential> {
        self.auth.for_repository(self.repository)
    }

    pub(crate) fn is_home(&self, url: &Url) -> bool {
        address::same_host(url, &self.home) && url.scheme() == self.home.scheme()
    }
}
