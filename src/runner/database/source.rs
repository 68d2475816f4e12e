//! Where a database comes from: finds the newest archive and writes it to a file, its digest checked.
//!
//! Must not follow a path of the listing out of the listing's own folder, speak plain http to any host that was not
//! named, or write more than the bound.

use super::{super::deliver::Failure, Args};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use repave_checks::scanner::Scanner;
use repave_core::{digest::Digest, image_ref::ImageRef};
use repave_oci::registry::{Auth, Client, Content, Descriptor};
use reqwest::Url;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{fs::File, io::Write as _, path::Path, str::FromStr, time::Duration};

/// The listing of Grype's databases, for a source that names no file.
const LISTING: &str = "v6/latest.json";

/// Most of a listing that is read.
const MAX_LISTING: usize = 1024 * 1024;

/// The layer of Trivy's artifact.
const TRIVY_LAYER: &str = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip";

/// Where the makers publish.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A listing.
    Listing(Url),
    /// An OCI artifact.
    Artifact(ImageRef),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            let image: ImageRef = text.parse().map_err(|error| format!("{error}"))?;
            return Ok(Self::Artifact(image));
        }
        let mut url: Url = text.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
        let is_json = Path::new(url.path())
            .extension()
            .is_some_and(|extension| extension == "json");
        if !is_json {
            // As Grype completes it.
            let path = format!("{}/{LISTING}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Ok(Self::Listing(url))
    }
}

/// An archive that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its digest.
    pub(super) digest: Digest,
    /// When its database was built, where the source says so.
    pub(super) built: Option<Timestamp>,
    /// The schema, where the source says so.
    pub(super) schema: Option<String>,
    /// Where exactly it is: for people.
    pub(super) place: String,
    at: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Url(Url),
    Layer(ImageRef, Box<Descriptor>),
}

/// Grype's listing: `grype/db/v6/distribution/latest.go`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Latest {
    status: String,
    schema_version: String,
    built: Timestamp,
    path: String,
    checksum: Digest,
}

/// What the source offers now.
pub(super) async fn find(args: &Args, client: &Client, auth: &Auth) -> Result<Found, Failure> {
    match (&args.source, args.scanner) {
        (Source::Listing(url), Scanner::Grype) => listed(args, url).await,
        (Source::Artifact(image), Scanner::Trivy) => artifact(args, client, auth, image).await,
        (Source::Artifact(image), Scanner::Grype) => {
            Err(format!("expected an https:// source for Grype, found {image}").into())
        }
        (Source::Listing(url), Scanner::Trivy) => {
            Err(format!("expected a source REPOSITORY:TAG for Trivy, found {url}").into())
        }
    }
}

async fn listed(args: &Args, url: &Url) -> Result<Found, Failure> {
    let mut body = get(args, url).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = next(args, &mut body).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_LISTING {
            return Err(format!("{url} has more than {MAX_LISTING} bytes").into());
        }
    }
    let latest: Latest =
        serde_json::from_slice(&bytes).map_err(|error| format!("expected Grype's listing at {url}, found: {error}"))?;
    if !latest.schema_version.trim_start_matches('v').starts_with("6.") {
        let found = latest.schema_version;
        return Err(format!("expected a database of schema v6 at {url}, found {found:?}").into());
    }
    if latest.status == "eol" {
        return Err(format!("{url} says that databases of schema v6 are not made any more: use a newer Grype").into());
    }
    let archive = beside(url, &latest.path)?;
    Ok(Found {
        digest: latest.checksum,
        built: Some(latest.built),
        schema: Some(latest.schema_version),
        place: archive.to_string(),
        at: Place::Url(archive),
    })
}

/// A path of the listing, which must stay in the listing's folder.
fn beside(listing: &Url, path: &str) -> Result<Url, Failure> {
    let is_plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+:".contains(&b))
    };
    if path.len() > 500 || !path.split('/').all(is_plain) {
        let found: String = path.chars().take(100).collect();
        return Err(format!("expected a path beside the listing {listing}, found {found:?}").into());
    }
    let folder = listing.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut url = listing.clone();
    url.set_path(&format!("{folder}/{path}"));
    Ok(url)
}

async fn artifact(args: &Args, client: &Client, auth: &Auth, image: &ImageRef) -> Result<Found, Failure> {
    let host = image.repository.host();
    let manifest = client.get_manifest(image, auth).await;
    let content = manifest
        .and_then(|manifest| manifest.content(host))
        .map_err(|error| error.to_string())?;
    let layers = match content {
        Content::Image(image) => image.layers,
        Content::Index(_) => Vec::new(),
    };
    let [layer] = layers.as_slice() else {
        return Err(format!(
            "expected {image} to be Trivy's database with one layer, found {}",
            layers.len()
        )
        .into());
    };
    if layer.media_type != TRIVY_LAYER {
        let found = &layer.media_type;
        return Err(format!("expected {image} to be Trivy's database ({TRIVY_LAYER}), found {found:?}").into());
    }
    if layer.size > args.common.max_bytes() {
        return Err(too_large(args).into());
    }
    Ok(Found {
        digest: layer.digest.clone(),
        built: None,
        schema: None,
        place: image.to_string(),
        at: Place::Layer(image.clone(), Box::new(layer.clone())),
    })
}

fn too_large(args: &Args) -> String {
    format!(
        "the database has more than {} bytes: raise --max-mebibytes",
        args.common.max_bytes()
    )
}

type Body = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// The body of a 200, from https or from a host that may be spoken to without.
async fn get(args: &Args, url: &Url) -> Result<Body, Failure> {
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && args.common.is_insecure(&host)) {
        return Err(format!("expected an https:// source, found {url}").into());
    }
    let roots = args.common.ca_bundle()?;
    let roots = reqwest::Certificate::from_pem_bundle(&roots).map_err(|error| format!("--ca: {error}"))?;
    let only_https = url.scheme() == "https";
    let client = reqwest::Client::builder()
        .user_agent(concat!("repave/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60))
        .https_only(only_https)
        .redirect(reqwest::redirect::Policy::limited(5))
        .tls_certs_merge(roots)
        .build()
        .map_err(|error| error.to_string())?;
    let response = client
        .get(url.clone())
        .send()
        .await
        .map_err(|error| format!("{url} cannot be read: {error}"))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("{url} answers with {}", response.status()).into());
    }
    Ok(Box::pin(
        response
            .bytes_stream()
            .map(|chunk| chunk.map_err(|error| error.to_string())),
    ))
}

async fn next(args: &Args, body: &mut Body) -> Result<Option<Bytes>, Failure> {
    match body.next().await.transpose() {
        Ok(chunk) => Ok(chunk),
        Err(error) => Err(format!("{} broke off: {error}", args.scanner.name()).into()),
    }
}

/// Writes the archive to a file; it stays only if its digest is right.
pub(super) async fn fetch(
    args: &Args,
    client: &Client,
    auth: &Auth,
    found: &Found,
    into: &Path,
) -> Result<(), Failure> {
    let mut body: Body = match &found.at {
        Place::Url(url) => get(args, url).await?,
        Place::Layer(image, layer) => {
            let stream = client.blob_stream(&image.repository, layer, auth).await;
            let stream = stream.map_err(|error| error.to_string())?;
            Box::pin(stream.map(|chunk| chunk.map_err(|error| error.to_string())))
        }
    };
    let disk = |error: std::io::Error| format!("{} cannot be written: {error}", into.display());
    let mut file = File::create(into).map_err(disk)?;
    let (mut hash, mut size) = (Sha256::new(), 0_u64);
    while let Some(chunk) = next(args, &mut body).await? {
        size += chunk.len() as u64;
        if size > args.common.max_bytes() {
            return Err(too_large(args).into());
        }
        hash.update(&chunk);
        file.write_all(&chunk).map_err(disk)?;
    }
    let actual = Digest::from_hash(&hash.finalize());
    if actual != found.digest {
        return Err(format!(
            "expected {} with checksum {}, found {actual}",
            found.place, found.digest
        )
        .into());
    }
    Ok(())
}
