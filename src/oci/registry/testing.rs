//! For tests: a real registry process on a free loopback port, and small images to put into it.
//!
//! Must not be compiled into the product.

// Code of tests in a feature that only tests ask for; the lint knows `cfg(test)` only.
#![allow(clippy::expect_used, clippy::missing_panics_doc)]

use super::{Auth, Client, ClientOptions, Descriptor, Reference, manifest};
use bytes::Bytes;
use repave_core::image_ref::Repository;
use serde_json::json;
use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Signs the certificate of [`TestRegistry::secured`].
pub const CA: &str = include_str!("testdata/ca.crt");

/// A registry that ends with the test.
pub struct TestRegistry {
    host: String,
    child: Child,
    _storage: tempfile::TempDir,
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl TestRegistry {
    /// Debian's `docker-registry` (distribution 2.8): no referrers API.
    pub async fn docker() -> Self {
        Self::configured("", "", true).await
    }

    /// The same, as it is by default: nothing can be deleted.
    pub async fn without_deletion() -> Self {
        Self::configured("", "", false).await
    }

    /// The same with TLS (by the CA of [`CA`]) and a password (`robot`, `hunter2`).
    pub async fn secured() -> Self {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/registry/testdata");
        let tls = format!(", tls: {{certificate: {data}/server.crt, key: {data}/server.key}}");
        let auth = format!("auth: {{htpasswd: {{realm: test, path: {data}/htpasswd}}}}\n");
        Self::configured(&tls, &auth, true).await
    }

    async fn configured(http: &str, more: &str, delete: bool) -> Self {
        Self::start(|port, storage| {
            let config = storage.join("config.yml");
            let data = storage.join("data");
            let text = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: {delete}}}}}\n\
                 http: {{addr: \"127.0.0.1:{port}\", secret: test{http}}}\n{more}",
                data.display()
            );
            std::fs::write(&config, text).expect("the configuration of the registry");
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
            command
        })
        .await
        .expect("these tests need a real registry: apt-get install docker-registry")
    }

    /// `crane registry serve`, or `None` (and a line of output) where crane is not built.
    pub async fn crane() -> Option<Self> {
        Self::from_tool("crane", &["registry", "serve"]).await
    }

    /// The same registry with its referrers API switched on.
    pub async fn with_referrers() -> Option<Self> {
        Self::from_tool("referrers-registry", &[]).await
    }

    async fn from_tool(name: &str, arguments: &[&str]) -> Option<Self> {
        let Some(path) = tool(name) else {
            println!("skipped: set REPAVE_TOOLS to the folder with the {name} binary");
            return None;
        };
        let started = Self::start(|port, _| {
            let mut command = Command::new(&path);
            command
                .args(arguments)
                .args(["--address", &format!("127.0.0.1:{port}")]);
            command
        });
        Some(started.await.expect("the registry"))
    }

    async fn start(command: impl Fn(u16, &std::path::Path) -> Command) -> std::io::Result<Self> {
        // Another process may take the port between the two binds: then the next one is tried.
        for _ in 0..5 {
            let storage = tempfile::tempdir()?;
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            let child = command(port, storage.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            let mut registry = Self {
                host: format!("127.0.0.1:{port}"),
                child,
                _storage: storage,
            };
            if registry.listens().await {
                return Ok(registry);
            }
        }
        Err(std::io::Error::other("the registry did not listen in five attempts"))
    }

    async fn listens(&mut self) -> bool {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..1000 {
            ticks.tick().await;
            if self.child.try_wait().ok().flatten().is_some() {
                return false;
            }
            if tokio::net::TcpStream::connect(&self.host).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Host and port as in a reference.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A repository at this registry.
    pub fn repository(&self, path: &str) -> Repository {
        format!("{}/{path}", self.host).parse().expect("a repository")
    }

    /// A client that may speak plain http to it.
    pub fn client(&self) -> Client {
        client_for(&[&self.host])
    }
}

/// A client for these plain http registries.
pub fn client_for(hosts: &[&str]) -> Client {
    Client::new(ClientOptions {
        insecure_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        ..ClientOptions::default()
    })
    .expect("a client")
}

/// A tool of the main checkout: in `REPAVE_TOOLS`, else in `target/tools/bin`.
pub fn tool(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("REPAVE_TOOLS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin"),
        PathBuf::from,
    );
    Some(folder.join(name)).filter(|path| path.is_file())
}

/// Pushes a linux/amd64 image with these (uncompressed) layers under `tag`.
pub async fn push_image(client: &Client, repository: &Repository, tag: &str, layers: &[&[u8]]) -> Descriptor {
    push_platform_image(client, repository, tag, layers, "amd64").await
}

/// The same for another architecture.
pub async fn push_platform_image(
    client: &Client,
    repository: &Repository,
    tag: &str,
    layers: &[&[u8]],
    architecture: &str,
) -> Descriptor {
    let auth = Auth::anonymous();
    let mut rows = Vec::new();
    for layer in layers {
        let pushed = client
            .put_blob(repository, Bytes::copy_from_slice(layer), &auth)
            .await
            .expect("a layer");
        rows.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": pushed.digest, "size": pushed.size}));
    }
    let diff_ids: Vec<_> = rows.iter().map(|row| row["digest"].clone()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"User": "65532", "Env": ["PATH=/usr/bin"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = client
        .put_blob(repository, Bytes::from(config.to_string()), &auth)
        .await
        .expect("a config");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest::OCI_MANIFEST, "layers": rows,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.digest, "size": config.size},
    });
    put(client, repository, tag, manifest::OCI_MANIFEST, &manifest).await
}

/// Pushes an index over these children, given with their architecture.
pub async fn push_index(
    client: &Client,
    repository: &Repository,
    tag: &str,
    children: &[(&Descriptor, &str)],
) -> Descriptor {
    let rows: Vec<_> = children
        .iter()
        .map(|(child, architecture)| {
            json!({"mediaType": child.media_type, "digest": child.digest, "size": child.size,
                   "platform": {"os": "linux", "architecture": architecture}})
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": rows});
    put(client, repository, tag, manifest::OCI_INDEX, &index).await
}

async fn put(
    client: &Client,
    repository: &Repository,
    tag: &str,
    media_type: &str,
    document: &serde_json::Value,
) -> Descriptor {
    let bytes = Bytes::from(document.to_string());
    let reference = Reference::Tag(tag.to_owned());
    client
        .put_manifest(repository, &reference, media_type, bytes.clone(), &Auth::anonymous())
        .await
        .expect("a manifest");
    Descriptor::of(media_type, &bytes)
}
