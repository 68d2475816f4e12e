//! `runner pull` and `runner push`: the only steps with registry credentials, and the only ones with a network.
//!
//! Must not run or unpack anything of an image, and must not print a credential.

use super::{check::read_file, deliver::Failure, frame::Termination};
use repave_core::image_ref::{ImageRef, Repository};
use repave_oci::registry::{Auth, Client, ClientOptions, Credentials, LayoutLimits, Platform};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::timeout;

const MAX_AUTH: u64 = 1024 * 1024;
const MAX_CA: u64 = 4 * 1024 * 1024;

/// What all steps with a registry have in common.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// A registry (HOST:PORT) that speaks plain HTTP.
    #[arg(long = "insecure-host")]
    insecure_hosts: Vec<String>,
    /// A file of the form .dockerconfigjson.
    #[arg(long)]
    auth: Option<PathBuf>,
    /// More certificate authorities, PEM.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Seconds until it gives up.
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Largest image: MiB of compressed layers.
    #[arg(long, default_value_t = 4096)]
    max_mebibytes: u64,
}

/// `repave runner pull`.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    #[command(flatten)]
    common: Common,
    /// The image, by digest.
    #[arg(long)]
    image: ImageRef,
    /// The OCI layout to write.
    #[arg(long)]
    out: PathBuf,
    /// The platform; this machine's when there is none.
    #[arg(long)]
    platform: Option<Platform>,
}

/// `repave runner push`.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    #[command(flatten)]
    common: Common,
    /// The OCI layout to read.
    #[arg(long)]
    layout: PathBuf,
    /// Where to; by digest, without a tag.
    #[arg(long)]
    repository: Repository,
}

impl Common {
    pub(super) fn client(&self) -> Result<(Client, Auth), Failure> {
        let file = |path: &PathBuf, limit, what| {
            read_file(path, limit, "the registry client", what).map_err(|error| error.to_string())
        };
        let auth = match &self.auth {
            Some(path) => Auth::new(
                Credentials::from_dockerconfigjson(&file(path, MAX_AUTH, "credentials")?)
                    .map_err(|error| error.to_string())?,
            ),
            None => Auth::anonymous(),
        };
        let mut options = ClientOptions {
            insecure_hosts: self.insecure_hosts.iter().cloned().collect(),
            ..ClientOptions::default()
        };
        options.ca_bundle_pem = self.ca_bundle()?;
        let client = Client::new(options).map_err(|error| error.to_string())?;
        Ok((client, auth))
    }

    /// More certificate authorities, PEM; may be empty.
    pub(super) fn ca_bundle(&self) -> Result<Vec<u8>, Failure> {
        let Some(path) = &self.ca else {
            return Ok(Vec::new());
        };
        read_file(path, MAX_CA, "the registry client", "certificates").map_err(|error| error.to_string().into())
    }

    /// Whether this host may be spoken to without TLS.
    pub(super) fn is_insecure(&self, host: &str) -> bool {
        self.insecure_hosts.iter().any(|known| known == host)
    }

    /// When it gives up.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Most compressed bytes.
    pub(super) fn max_bytes(&self) -> u64 {
        self.max_mebibytes.saturating_mul(1 << 20)
    }

    fn limits(&self) -> LayoutLimits {
        LayoutLimits {
            max_bytes: self.max_bytes(),
            ..LayoutLimits::default()
        }
    }

    pub(super) async fn bounded<T>(
        &self,
        what: impl Future<Output = Result<T, repave_oci::registry::Error>>,
    ) -> Result<T, Failure> {
        match timeout(Duration::from_secs(self.timeout), what).await {
            Ok(result) => result.map_err(|error| error.to_string().into()),
            Err(_) => Err(format!(
                "not done after {} s: raise --timeout, or look at the registry",
                self.timeout
            )
            .into()),
        }
    }
}

pub(super) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn own_platform() -> Result<Platform, Failure> {
    Platform::own().map_err(|error| format!("{error}: name the platform with --platform").into())
}

/// Copies an image into a layout.
pub async fn pull(args: &PullArgs) -> Result<Termination, Failure> {
    let started = Instant::now();
    if args.image.digest.is_none() {
        return Err(format!("expected an image by digest, found {}: a tag may move", args.image).into());
    }
    let platform = args.platform.clone().map_or_else(own_platform, Ok)?;
    let (client, auth) = args.common.client()?;
    let limits = args.common.limits();
    let pulled = client.write_layout(&args.image, &platform, &args.out, &limits, &auth);
    let image = args.common.bounded(pulled).await?;
    Ok(Termination::Pulled {
        digest: image.manifest_digest,
        millis: millis(started),
    })
}

/// Copies a layout to a registry.
pub async fn push(args: &PushArgs) -> Result<Termination, Failure> {
    let started = Instant::now();
    let (client, auth) = args.common.client()?;
    let limits = args.common.limits();
    let pushed = client.push_layout(&args.layout, &args.repository, &limits, &auth);
    let digest = args.common.bounded(pushed).await?;
    Ok(Termination::Pushed {
        digest,
        millis: millis(started),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use repave_core::digest::Digest;
    use repave_oci::registry::testing::{TestRegistry, push_image};

    #[derive(Parser)]
    struct Cli<T: clap::Args> {
        #[command(flatten)]
        args: T,
    }

    fn parsed<T: clap::Args>(words: &[&str]) -> T {
        Cli::parse_from([&["x"], words].concat()).args
    }

    #[tokio::test]
    async fn what_was_pulled_is_pushed_under_the_same_digest() {
        let registry = TestRegistry::docker().await;
        let host = registry.host();
        let from: Repository = format!("{host}/a/base").parse().unwrap();
        let pushed = push_image(&registry.client(), &from, "1", &[b"one", b"two"]).await;
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("layout");
        let layout = layout.to_str().unwrap();
        let image = from.at(&pushed.digest).to_string();
        let words = [
            "--insecure-host",
            host,
            "--image",
            &image,
            "--out",
            layout,
            "--platform",
            "linux/amd64",
        ];
        let done = pull(&parsed(&words)).await.unwrap();
        assert!(matches!(done, Termination::Pulled { digest, .. } if digest == pushed.digest));
        let to = format!("{host}/b/staging");
        let words = ["--insecure-host", host, "--layout", layout, "--repository", &to];
        let done = push(&parsed(&words)).await.unwrap();
        assert!(matches!(done, Termination::Pushed { digest, .. } if digest == pushed.digest));
        let copy = to.parse::<Repository>().unwrap().at(&pushed.digest);
        assert!(
            registry
                .client()
                .head(&copy, &Auth::anonymous())
                .await
                .unwrap()
                .is_some()
        );
    }

    #[tokio::test]
    async fn a_tag_an_unknown_digest_and_bad_credentials_are_failures() {
        let registry = TestRegistry::docker().await;
        let host = registry.host();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("layout");
        let out = out.to_str().unwrap();
        let tag = pull(&parsed(&["--image", &format!("{host}/a:1"), "--out", out]))
            .await
            .unwrap_err();
        assert!(tag.message.contains("by digest"), "{}", tag.message);
        let unknown = format!("{host}/a@{}", Digest::of(b"unknown"));
        let words = ["--insecure-host", host, "--image", &unknown, "--out", out];
        assert!(pull(&parsed(&words)).await.is_err());
        let auth = dir.path().join("auth");
        std::fs::write(&auth, "{\"auths\":{\"x\":{\"auth\":\"c2VjcmV0\"}}").unwrap();
        let words = [&words[..], &["--auth", auth.to_str().unwrap()]].concat();
        let refused = pull(&parsed(&words)).await.unwrap_err().message;
        assert!(!refused.contains("c2VjcmV0"), "{refused}");
        assert!(!dir.path().join("layout/oci-layout").exists());
    }
}
