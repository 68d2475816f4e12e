//! Registry credentials of the person who runs a command: `--auth FILE`, or what `docker login` wrote.
//!
//! Must not print a secret and must not run a credential helper: what only a helper knows is not used.

use crate::registry::{Auth, Client, ClientOptions, Credentials};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::{
    env, fs,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Largest credentials or certificates file.
const MAX_FILE: u64 = 1 << 20;

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
            ca_bundle_pem: self.ca.as_deref().map(read).transpose()?.unwrap_or_default(),
            ..ClientOptions::default()
        };
        Ok((Client::new(options)?, self.auth()?))
    }

    fn auth(&self) -> anyhow::Result<Auth> {
        let credentials = match (&self.auth, default_file()) {
            (Some(path), _) => Credentials::from_dockerconfigjson(&read(path)?)?,
            (None, Some(path)) if path.is_file() => Credentials::from_dockerconfigjson(&without_helpers(&read(&path)?))
                .with_context(|| format!("{}: give the credentials with --auth FILE", path.display()))?,
            (None, _) => Credentials::none(),
        };
        Ok(Auth::new(credentials))
    }
}

fn default_file() -> Option<PathBuf> {
    let folder = match env::var_os("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&env::var_os("HOME")?).join(".docker"),
    };
    Some(folder.join("config.json"))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_FILE,
        "{}: expected at most {MAX_FILE} bytes",
        path.display()
    );
    Ok(bytes)
}

/// Docker leaves an empty entry for each registry whose secret a helper keeps: those are left out.
fn without_helpers(bytes: &[u8]) -> Vec<u8> {
    let Ok(Value::Object(config)) = serde_json::from_slice(bytes) else {
        // Whoever reads it next says what is wrong.
        return bytes.to_vec();
    };
    let mut auths = config
        .get("auths")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    auths.retain(|_, entry| {
        let filled = |key: &str| {
            entry
                .get(key)
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty())
        };
        ["auth", "username", "identitytoken"].into_iter().any(filled)
    });
    json!({"auths": auths}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_credential_helper_are_left_out_and_the_others_are_used() {
        let config = json!({"credsStore": "desktop", "auths": {
            "https://index.docker.io/v1/": {}, "r.example.com": {"auth": "dTpw"}}});
        let credentials = Credentials::from_dockerconfigjson(&without_helpers(config.to_string().as_bytes())).unwrap();
        assert_eq!(credentials.hosts(), ["r.example.com"]);
        let none = Credentials::from_dockerconfigjson(&without_helpers(b"{}")).unwrap();
        assert!(none.hosts().is_empty());
        assert!(Credentials::from_dockerconfigjson(&without_helpers(b"[")).is_err());
    }
}
