//! An image reference, parsed once: registry host, repository, tag and digest.
//!
//! Must not guess: a name without a registry host means Docker Hub, as everywhere, and nothing else is completed
//! silently. Grammar: <https://github.com/distribution/reference>, restricted to what registries accept.

use super::digest::Digest;
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// A repository at a registry: `registry.example.com:5000/base/debian`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    host: String,
    path: String,
}

/// A reference to an image: a repository with an optional tag and an optional digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    /// Where the image lives.
    pub repository: Repository,
    /// The tag, without `:`.
    pub tag: Option<String>,
    /// The digest; when present it alone decides which image is meant.
    pub digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not an image reference ({why}): write HOST/PATH, with :TAG or @sha256:DIGEST where one is needed"
)]
pub struct InvalidImageRef {
    /// The text as found, cut to 200 characters.
    pub found: String,
    /// Which part is wrong.
    pub why: &'static str,
}

const DOCKER_HUB: &str = "docker.io";
/// Its other names.
const ALSO_DOCKER_HUB: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

impl Repository {
    /// The registry host with its port, e.g. `registry.local:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path within the registry, e.g. `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// This repository's image with that digest.
    pub fn at(&self, digest: &Digest) -> ImageRef {
        ImageRef {
            repository: self.clone(),
            tag: None,
            digest: Some(digest.clone()),
        }
    }

    /// This repository's image with that tag; the tag must already be valid.
    pub fn tagged(&self, tag: &str) -> Result<ImageRef, InvalidImageRef> {
        if is_tag(tag) {
            Ok(ImageRef {
                repository: self.clone(),
                tag: Some(tag.to_owned()),
                digest: None,
            })
        } else {
            Err(InvalidImageRef {
                found: cut(tag),
                why: "a tag has 1 to 128 of A-Z a-z 0-9 _ . - and starts with no dot or dash",
            })
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_path_component(part: &str) -> bool {
    let alphanumeric = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = part.as_bytes();
    alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b))
        && !part.contains("..")
}

fn is_host(host: &str) -> bool {
    let (name, port) = host
        .rsplit_once(':')
        .map_or((host, None), |(name, port)| (name, Some(port)));
    !name.is_empty()
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
        && (!ends_in_a_number(name) || name.parse::<Ipv4Addr>().is_ok())
        && port.is_none_or(is_port)
}

/// As it is written in one way only: `0443` and `+443` would be the same port under another name.
fn is_port(port: &str) -> bool {
    port.parse::<u16>()
        .is_ok_and(|number| number > 0 && number.to_string() == port)
}

/// Whether URLs take it for an IPv4 address, of which there are many spellings (`10.1.2`, `0xa.1.0.2`): only the usual one is a host.
/// Source: the host parser of the URL standard (url.spec.whatwg.org, "ends in a number checker").
fn ends_in_a_number(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
        || hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether the first path component is a registry host and not a Docker Hub user.
fn looks_like_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

impl FromStr for Repository {
    type Err = InvalidImageRef;

    fn from_str(text: &str) -> Result<Self, InvalidImageRef> {
        let invalid = |why| InvalidImageRef { found: cut(text), why };
        let (host, path) = match text.split_once('/') {
            Some((first, rest)) if looks_like_host(first) => (first, rest.to_owned()),
            Some(_) => (DOCKER_HUB, text.to_owned()),
            None => (DOCKER_HUB, format!("library/{text}")),
        };
        if !is_host(host) {
            return Err(invalid("the registry host is malformed"));
        }
        if path.len() > 255 || !path.split('/').all(is_path_component) {
            return Err(invalid(
                "a path has parts of a-z 0-9 . _ - separated by / and at most 255 characters",
            ));
        }
        // Names of hosts are the same in capitals, and one registry must be one.
        let host = host.to_ascii_lowercase();
        let is_hub = ALSO_DOCKER_HUB.contains(&host.as_str());
        Ok(Self {
            host: if is_hub { DOCKER_HUB.to_owned() } else { host },
            path,
        })
    }
}

impl FromStr for ImageRef {
    type Err = InvalidImageRef;

    fn from_str(text: &str) -> Result<Self, InvalidImageRef> {
        let invalid = |why| InvalidImageRef { found: cut(text), why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(
                    digest
                        .parse()
                        .map_err(|_| invalid("the digest is not sha256 and 64 hex digits"))?,
                ),
            ),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to the host's port.
        let tag_at = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
        let (name, tag) = tag_at.map_or((rest, None), |at| (&rest[..at], Some(rest[at + 1..].to_owned())));
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("the tag is malformed"));
        }
        Ok(Self {
            repository: name.parse().map_err(|e: InvalidImageRef| invalid(e.why))?,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl ImageRef {
    /// Whether a written image is this content: the same digest of the same repository, whatever tag stands beside it.
    pub fn is_written_as(&self, text: &str) -> bool {
        let same = |other: Self| other.repository == self.repository && other.digest == self.digest;
        self.digest.is_some() && text.parse().is_ok_and(same)
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

macro_rules! text_form {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = InvalidImageRef;

            fn try_from(text: String) -> Result<Self, InvalidImageRef> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
text_form!(Repository);
text_form!(ImageRef);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_every_registry_client_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, whole) in [
            ("debian", "docker.io/library/debian".to_owned()),
            ("grafana/loki:3", "docker.io/grafana/loki:3".to_owned()),
            (
                "registry.local:5000/base/debian:12",
                "registry.local:5000/base/debian:12".to_owned(),
            ),
            ("localhost/a", "localhost/a".to_owned()),
            (
                &format!("r.example.com/a/b:1@{digest}"),
                format!("r.example.com/a/b:1@{digest}"),
            ),
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn what_could_leave_the_path_of_a_registry_url_is_refused() {
        for text in [
            "",
            "a b",
            "../etc",
            "r.io/a/../b",
            "r.io/A",
            "r.io/a:",
            "r.io/a@sha256:1",
            "r.io:99999/a",
            "http://r.io/a",
            "r.io//a",
            "r.io/a?x=y",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }
}
