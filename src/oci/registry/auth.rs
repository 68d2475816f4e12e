//! Registry credentials, bound to the host (and path) that their Secret names.
//!
//! Must not show a secret in any text form, and must not hand a credential out for another host.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use repave_core::image_ref::Repository;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Largest `.dockerconfigjson` that is read (a Secret cannot be larger than 1 MiB).
const MAX_CONFIG: usize = 1 << 20;

/// The credentials of one call. Cheap to clone. Its hash tells one from another, and is to be made with a random key.
#[derive(Clone, Default, Debug, Hash)]
pub struct Auth(Arc<Credentials>);

/// A set of credentials, each for one host and possibly one path prefix.
#[derive(Clone, Default, Hash)]
pub struct Credentials {
    entries: BTreeMap<Scope, Credential>,
}

/// Host with port, and a path prefix that may be empty.
type Scope = (String, String);

/// One credential.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Credential {
    /// User name and password or token.
    Basic {
        /// The user.
        username: String,
        /// The secret.
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken(String),
}

/// Why a dockerconfigjson cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the dockerconfigjson cannot be used: {why}: write it with kubectl create secret docker-registry")]
pub struct InvalidCredentials {
    /// What was expected and found, without any secret.
    pub why: String,
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl Auth {
    /// These credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self(Arc::new(credentials))
    }

    /// No credentials at all.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Whether there is a credential for this repository.
    pub fn covers(&self, repository: &Repository) -> bool {
        self.for_repository(repository).is_some()
    }

    /// The credential for this repository: same host, longest path prefix.
    pub(crate) fn for_repository(&self, repository: &Repository) -> Option<&Credential> {
        let host = api_host(repository.host());
        self.0
            .entries
            .iter()
            .filter(|((entry_host, prefix), _)| entry_host == host && covers(prefix, repository.path()))
            .max_by_key(|((_, prefix), _)| prefix.len())
            .map(|(_, credential)| credential)
    }
}

fn covers(prefix: &str, path: &str) -> bool {
    prefix.is_empty()
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Docker Hub has several names; its API has one.
pub(crate) fn api_host(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "registry-1.docker.io",
        other => other,
    }
}

impl Credentials {
    /// No credentials.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the content of a `kubernetes.io/dockerconfigjson` Secret.
    pub fn from_dockerconfigjson(bytes: &[u8]) -> Result<Self, InvalidCredentials> {
        if bytes.len() > MAX_CONFIG {
            return Err(invalid(format!(
                "expected at most {MAX_CONFIG} bytes, found {}",
                bytes.len()
            )));
        }
        // The parser's message may quote the text, which is secret: only its position is told.
        let config: DockerConfig = serde_json::from_slice(bytes).map_err(|error| {
            invalid(format!(
                "expected JSON with an `auths` map, found something else at line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
        let mut entries = BTreeMap::new();
        for (key, auth) in config.auths {
            entries.insert(scope(&key)?, credential(&key, auth)?);
        }
        Ok(Self { entries })
    }

    /// Both sets; where both have the same scope, `other` wins.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    /// The hosts that there is a credential for.
    pub fn hosts(&self) -> Vec<&str> {
        self.entries.keys().map(|(host, _)| host.as_str()).collect()
    }
}

fn invalid(why: String) -> InvalidCredentials {
    InvalidCredentials { why }
}

/// `https://index.docker.io/v1/`, `registry.example.com:5000`, `registry.example.com/team`.
fn scope(key: &str) -> Result<Scope, InvalidCredentials> {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = match path.trim_matches('/') {
        "v1" | "v2" => "",
        path => path,
    };
    let valid = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
    if !valid {
        return Err(invalid(format!(
            "expected keys of the form HOST[:PORT][/PATH] without wildcards, found {:?}",
            shown(key)
        )));
    }
    Ok((api_host(host).to_owned(), path.to_owned()))
}

/// What may be told of a key: some write a user and password into it, before an `@`.
fn shown(key: &str) -> String {
    let (hidden, rest) = key.rsplit_once('@').map_or(("", key), |(_, rest)| ("…@", rest));
    hidden.chars().chain(rest.chars()).take(100).collect()
}

fn credential(key: &str, auth: DockerAuth) -> Result<Credential, InvalidCredentials> {
    if !auth.identitytoken.is_empty() {
        return Ok(Credential::IdentityToken(auth.identitytoken));
    }
    if !auth.username.is_empty() {
        return Ok(Credential::Basic {
            username: auth.username,
            password: auth.password,
        });
    }
    let wrong = || {
        invalid(format!(
            "the entry {:?} has neither username and password nor a valid `auth`",
            shown(key)
        ))
    };
    let decoded = BASE64.decode(auth.auth.trim()).map_err(|_| wrong())?;
    let text = String::from_utf8(decoded).map_err(|_| wrong())?;
    // Docker pads some entries with NUL.
    let (username, password) = text.trim_matches('\0').split_once(':').ok_or_else(wrong)?;
    if username.is_empty() {
        return Err(wrong());
    }
    Ok(Credential::Basic {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

impl Credential {
    /// A name for this credential in the token cache: two namespaces never share a token by accident.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match self {
            Self::Basic { username, password } => {
                hash.update(b"basic\0");
                hash.update(username.as_bytes());
                hash.update(b"\0");
                hash.update(password.as_bytes());
            }
            Self::IdentityToken(token) => {
                hash.update(b"identity\0");
                hash.update(token.as_bytes());
            }
        }
        hash.finalize().into()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("hosts", &self.hosts())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Auth {
        Auth::new(Credentials::from_dockerconfigjson(json.as_bytes()).unwrap())
    }

    fn user(auth: &Auth, repository: &str) -> Option<String> {
        match auth.for_repository(&repository.parse().unwrap())? {
            Credential::Basic { username, .. } => Some(username.clone()),
            Credential::IdentityToken(token) => Some(format!("token {token}")),
        }
    }

    #[test]
    fn a_credential_is_found_for_its_host_only() {
        let auth = parse(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"},
                "r.example.com:5000":{"username":"all","password":"p"},
                "r.example.com:5000/team":{"username":"team","password":"p"},
                "id.example.com":{"identitytoken":"t"}}}"#,
        );
        assert_eq!(user(&auth, "debian").as_deref(), Some("hub"));
        assert_eq!(user(&auth, "r.example.com:5000/other/a").as_deref(), Some("all"));
        assert_eq!(user(&auth, "r.example.com:5000/team/a").as_deref(), Some("team"));
        assert_eq!(user(&auth, "r.example.com:5000/teams/a").as_deref(), Some("all"));
        assert_eq!(user(&auth, "id.example.com/a").as_deref(), Some("token t"));
        for other in [
            "r.example.com/a",
            "r.example.com:5001/a",
            "x.r.example.com/a",
            "evil.com/r.example.com",
        ] {
            assert_eq!(user(&auth, other), None, "{other}");
        }
    }

    #[test]
    fn no_text_form_and_no_error_shows_a_secret() {
        let auth = parse(r#"{"auths":{"r.io":{"username":"u","password":"hunter2"}}}"#);
        let credential = auth.for_repository(&"r.io/a".parse().unwrap()).unwrap();
        for text in [format!("{auth:?}"), format!("{credential:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        for json in [
            r#"{"auths":{"r.io":"hunter2"}}"#,
            r#"{"auths":{"r.io":{"auth":"hunter2"}}}"#,
            r#"{"auths":{"*.io":{"username":"u","password":"hunter2"}}}"#,
            "hunter2",
        ] {
            let error = Credentials::from_dockerconfigjson(json.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
