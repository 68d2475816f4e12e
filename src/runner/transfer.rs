//! `runner pull` and `runner push`: the only steps with registry credentials, and the only ones with a network.
//!
//! Must not run or unpack anything of an image, and must not print a credential.

use super::{check::read_file, deliver::Failure, frame::Termination};
use crate::{
    domain::image_ref::{ImageRef, Repository},
    registry::{Auth, Client, ClientOptions, Credentials, LayoutLimits, Platform},
};
use std::{
    env::consts::ARCH,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::timeout;

const MAX_AUTH: u64 = 1024 * 1024;
const MAX_CA: u64 = 4 * 1024 * 1024;

/// What pulling and pushing have in common.
#[derive(Debug, clap::Args)]
struct Common {
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
    fn client(&self) -> Result<(Client, Auth), Failure> {
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
        if let Some(path) = &self.ca {
            options.ca_bundle_pem = file(path, MAX_CA, "certificates")?;
        }
        let client = Client::new(options).map_err(|error| error.to_string())?;
        Ok((client, auth))
    }

    fn limits(&self) -> LayoutLimits {
        LayoutLimits {
            max_bytes: self.max_mebibytes.saturating_mul(1 << 20),
            ..LayoutLimits::default()
        }
    }

    async fn bounded<T>(&self, what: impl Future<Output = Result<T, crate::registry::Error>>) -> Result<T, Failure> {
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

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The platform that this program was built for.
fn own_platform() -> Result<Platform, Failure> {
    let architecture = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
        .parse()
        .map_err(|error| format!("{error}: name the platform with --platform").into())
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
