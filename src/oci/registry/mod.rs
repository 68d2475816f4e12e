//! Our OCI distribution client: resolve, read, copy, push, attach; nothing about Kubernetes and no policy.
//!
//! | file | what it does |
//! |---|---|
//! | [`client`] | one HTTP call: budget per host, credentials, quick retries, redirects |
//! | [`options`] | how it behaves, which hosts are allowed, who observes |
//! | `answer` | bounded bodies, redirect targets, errors by status |
//! | [`auth`] | credentials bound to a host; `token` fetches and caches bearer tokens |
//! | [`address`] | where a registry may send us (SSRF rules) |
//! | [`descriptor`] | how things are named and checked; platforms |
//! | [`manifest`] | manifests and indexes: read, checked, written |
//! | [`blob`] | blobs: read and written with their digest checked |
//! | [`copy`] | an image from one repository to another |
//! | [`delete`] | manifests deleted, where the registry does that |
//! | [`config`] | what an image is made of, for one platform |
//! | [`referrers`] | what is attached to an image |
//! | [`layout`] | an image to and from an OCI layout folder |
//!
//! Must not trust a registry: every body is bounded, every digest recomputed, every target checked.

pub mod address;
pub(crate) mod answer;
pub mod auth;
pub mod blob;
pub mod client;
pub mod config;
pub mod copy;
pub mod delete;
pub mod descriptor;
pub mod error;
pub mod layout;
pub mod manifest;
pub mod options;
pub mod referrers;
mod tags;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod token;

pub use auth::{Auth, Credentials, InvalidCredentials};
pub use blob::{BlobMove, BlobStream};
pub use client::Client;
pub use config::ResolvedImage;
pub use copy::CopyStats;
pub use delete::Deleted;
pub use descriptor::{Descriptor, InvalidPlatform, Platform};
pub use error::Error;
pub use layout::LayoutLimits;
pub use manifest::{Content, ImageIndex, ImageManifest, Manifest, PutManifest, Reference};
pub use options::{ClientOptions, Observer};
pub use referrers::{Artifact, ArtifactLayer};
