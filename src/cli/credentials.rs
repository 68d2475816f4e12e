//! Where the plugin finds credentials for registries: files that docker, podman and others write.
//!
//! Must not run a credential helper (that is a program of somebody's choice) and must not show a secret.

use anyhow::Context as _;
use repave_oci::registry::{Auth, Client, ClientOptions, Credentials};
use serde_json::Value;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// How to speak to registries.
#[derive(Debug, Clone, clap::Args)]
pub struct Registries {
    /// Credentials in the form of Docker's config.json; ~/.docker/config.json unless given
    #[arg(long, value_name = "FILE")]
    pub auth: Option<PathBuf>,
    /// A registry (HOST:PORT) that speaks plain HTTP
    #[arg(long = "insecure-host", value_name = "HOST")]
    pub insecure_hosts: Vec<String>,
    /// More certificate authorities, in PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl Registries {
    /// The client and the credentials.
    pub fn open(&self) -> anyhow::Result<(Client, Auth)> {
        let options = ClientOptions {
            insecure_hosts: self.insecure_hosts.iter().cloned().collect(),
            ca_bundle_pem: self.ca.as_deref().map(authorities).transpose()?.unwrap_or_default(),
            ..ClientOptions::default()
        };
        let mut client = Client::new(options).map_err(anyhow::Error::from);
        if let Some(path) = &self.ca {
            client = client.with_context(|| format!("{} (--ca) cannot be used", path.display()));
        }
        Ok((client?, find(self.auth.as_deref())?))
    }
}

/// The certificates of the file. One without any would be taken without a word, and trust nobody more.
fn authorities(path: &Path) -> anyhow::Result<Vec<u8>> {
    let pem = bytes_of(path, "--ca")?;
    anyhow::ensure!(
        String::from_utf8_lossy(&pem).contains(CERTIFICATE),
        "{}: expected certificates in PEM ({CERTIFICATE}), found none: name the file of the certificate authority with --ca",
        path.display()
    );
    Ok(pem)
}

/// How a certificate begins.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// The credentials of the file, or of the first of the usual ones that is there; none at all where there is none.
pub fn find(file: Option<&Path>) -> anyhow::Result<Auth> {
    if let Some(file) = file {
        return read(file);
    }
    match usual().into_iter().find(|path| path.is_file()) {
        Some(path) => read(&path),
        None => Ok(Auth::anonymous()),
    }
}

fn usual() -> Vec<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    [
        variable("REGISTRY_AUTH_FILE"),
        variable("DOCKER_CONFIG").map(|folder| folder.join("config.json")),
        variable("HOME").map(|folder| folder.join(".docker/config.json")),
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn read(path: &Path) -> anyhow::Result<Auth> {
    parse(&bytes_of(path, "--auth")?).with_context(|| format!("{} cannot be used", path.display()))
}

fn bytes_of(path: &Path, option: &str) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{shown} cannot be read: name another file with {option}"))?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_FILE,
        "{shown} is larger than {MAX_FILE} bytes: name another file with {option}"
    );
    Ok(bytes)
}

/// Entries that say only "ask a helper" are left out; all others must be right.
fn parse(bytes: &[u8]) -> anyhow::Result<Auth> {
    // The parser's message may quote the text, which is secret: only its position is told.
    let mut config: Value = serde_json::from_slice(bytes)
        .map_err(|error| anyhow::anyhow!("expected JSON, found something else at line {}", error.line()))?;
    let mut auths = config
        .get_mut("auths")
        .map_or_else(|| serde_json::json!({}), Value::take);
    if let Value::Object(entries) = &mut auths {
        let filled = |entry: &Value, key: &str| {
            entry
                .get(key)
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty())
        };
        entries.retain(|_, entry| {
            ["auth", "username", "identitytoken"]
                .into_iter()
                .any(|key| filled(entry, key))
        });
    }
    let plain = serde_json::to_vec(&serde_json::json!({"auths": auths}))?;
    Ok(Auth::new(Credentials::from_dockerconfigjson(&plain)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_helpers_are_left_out_and_no_error_shows_a_secret() {
        let config = br#"{"credsStore": "desktop", "auths": {"a.io": {}, "b.io": {"auth": "dTpwdw=="}}}"#;
        let auth = format!("{:?}", parse(config).unwrap());
        assert!(auth.contains("b.io") && !auth.contains("a.io"), "{auth}");
        assert!(
            parse(b"{}").is_ok(),
            "a file that only configures helpers has no credentials"
        );
        for odd in [
            &b"hunter2"[..],
            br#"{"auths": {"a.io": {"auth": "hunter2"}}}"#,
            br#"{"auths": "hunter2"}"#,
        ] {
            let error = format!("{:#}", parse(odd).unwrap_err());
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn authorities_are_read_from_a_file_with_a_certificate_and_the_option_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let open = |path: &Path| {
            let registries = Registries {
                auth: None,
                insecure_hosts: Vec::new(),
                ca: Some(path.to_owned()),
            };
            let refused = registries.open().err();
            refused.map(|error| format!("{error:#}")).unwrap_or_default()
        };
        let gone = open(Path::new("/nope"));
        assert!(gone.contains("with --ca") && !gone.contains("--auth"), "{gone}");
        for text in [
            "",
            "no certificate",
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(
                open(&path).contains("ca.pem: expected certificates in PEM"),
                "{}",
                open(&path)
            );
        }
        std::fs::write(&path, format!("{CERTIFICATE}\nAAAA\n-----END CERTIFICATE-----\n")).unwrap();
        assert!(open(&path).contains("ca.pem (--ca) cannot be used"), "{}", open(&path));
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let error = find(Some(Path::new("/nowhere/config.json"))).unwrap_err();
        assert!(error.to_string().contains("--auth"), "{error}");
    }
}
