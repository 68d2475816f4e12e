//! The flags of `repave controller`, each also an environment variable `REPAVE_*`.
//!
//! Must refuse a wrong value before anything starts, with a sentence that says what to write.

use super::{
    lease::LeaseParams,
    telemetry::{LogFormat, LogLevel},
};
use crate::domain::{
    duration::Span,
    image_ref::{ImageRef, Repository},
};
use std::{net::SocketAddr, time::Duration};

/// How the controller runs. Flatten it into a subcommand.
#[derive(Debug, Clone, clap::Args)]
pub struct ControllerArgs {
    /// Image with the validation tools, by digest
    #[arg(long, env = "REPAVE_TOOLS_IMAGE", value_name = "IMAGE@DIGEST", value_parser = pinned_image)]
    pub tools_image: ImageRef,

    /// Image with the rootless builder, by digest
    #[arg(long, env = "REPAVE_BUILDER_IMAGE", value_name = "IMAGE@DIGEST", value_parser = pinned_image)]
    pub builder_image: ImageRef,

    /// Image with the repave binary that runs inside Job pods, by digest
    #[arg(long, env = "REPAVE_RUNNER_IMAGE", value_name = "IMAGE@DIGEST", value_parser = pinned_image)]
    pub runner_image: ImageRef,

    /// Image with Grype's vulnerability database; a tag is resolved again each interval
    #[arg(long, env = "REPAVE_GRYPE_DATABASE", value_name = "IMAGE", value_parser = image)]
    pub grype_database: Option<ImageRef>,

    /// Image with Trivy's vulnerability database; a tag is resolved again each interval
    #[arg(long, env = "REPAVE_TRIVY_DATABASE", value_name = "IMAGE", value_parser = image)]
    pub trivy_database: Option<ImageRef>,

    /// How often the databases are looked up: 1s to 24h
    #[arg(long, env = "REPAVE_DATABASE_INTERVAL", default_value = "5m", value_parser = database_interval)]
    pub database_interval: Span,

    /// Registry that is spoken to over plain HTTP; repeat it or separate by comma. For test clusters only
    #[arg(long = "insecure-registry", env = "REPAVE_INSECURE_REGISTRY", value_name = "HOST[:PORT]", value_delimiter = ',', value_parser = registry_host)]
    pub insecure_registries: Vec<String>,

    /// How OpenSCAP sees the candidate's files: as an image volume in a user namespace, or as a copy where the cluster has no such thing
    #[arg(long, env = "REPAVE_CANDIDATE_ROOT", default_value = "image-volume")]
    pub candidate_root: CandidateRoot,

    /// Namespaces whose workloads may be patched; without it, all that a RepavePlan selects
    #[arg(long = "estate-namespace", env = "REPAVE_ESTATE_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',', value_parser = label_name)]
    pub estate_namespaces: Vec<String>,

    /// Namespace of this pod; the lease lives there
    #[arg(long, env = "POD_NAMESPACE", value_parser = label_name)]
    pub pod_namespace: String,

    /// Secret of this namespace with which the images of self-tests are pulled; repeat it or separate by comma
    #[arg(long = "pull-secret", env = "REPAVE_PULL_SECRETS", value_name = "SECRET", value_delimiter = ',', value_parser = object_name)]
    pub pull_secrets: Vec<String>,

    /// Name of this pod; part of its identity in the lease
    #[arg(long, env = "POD_NAME", value_parser = object_name)]
    pub pod_name: String,

    /// Address of /livez, /readyz and /metrics
    #[arg(
        long,
        env = "REPAVE_HTTP_BIND",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    pub http_bind: SocketAddr,

    /// Form of the log
    #[arg(long, env = "REPAVE_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// How much is logged
    #[arg(long, env = "REPAVE_LOG_LEVEL", default_value = "info")]
    pub log_level: LogLevel,

    /// Name of the leader lease
    #[arg(long, env = "REPAVE_LEASE_NAME", default_value = "repave-controller", value_parser = object_name)]
    pub lease_name: String,

    /// How long other replicas wait for a sign of life from the leader: 3s to 5m
    #[arg(long, env = "REPAVE_LEASE_DURATION", default_value = "15s", value_parser = lease_duration)]
    pub lease_duration: Span,

    /// How long running work may take to end after SIGTERM: 1s to 10m
    #[arg(long, env = "REPAVE_DRAIN_DEADLINE", default_value = "20s", value_parser = drain_deadline)]
    pub drain_deadline: Span,

    /// Check and build Jobs that run at the same time in the whole cluster
    #[arg(long, env = "REPAVE_MAX_JOBS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_jobs: u16,

    /// Check and build Jobs that run at the same time in one namespace; urgent ones do not count
    #[arg(long, env = "REPAVE_MAX_JOBS_PER_NAMESPACE", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_jobs_per_namespace: u16,

    /// Objects that one controller works on at the same time
    #[arg(long, env = "REPAVE_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,

    /// Act without the lease; only right where a second replica cannot exist
    #[arg(long, env = "REPAVE_NO_LEADER_ELECTION")]
    pub no_leader_election: bool,
}

/// How OpenSCAP sees the candidate's files. Nothing of the candidate is executed either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CandidateRoot {
    /// A read-only image volume in a user namespace: needs both features of the cluster and its runtime.
    #[default]
    ImageVolume,
    /// A copy that our runner makes in a container of the candidate's image.
    Snapshot,
}

impl ControllerArgs {
    /// The leader lease that these flags ask for.
    pub fn lease_params(&self) -> LeaseParams {
        LeaseParams {
            namespace: self.pod_namespace.clone(),
            name: self.lease_name.clone(),
            pod_name: self.pod_name.clone(),
            duration: self.lease_duration.get(),
        }
    }

    /// How long running work may take to end.
    pub fn drain(&self) -> Duration {
        self.drain_deadline.get()
    }
}

fn pinned_image(text: &str) -> Result<ImageRef, String> {
    let image: ImageRef = text.parse().map_err(|error| format!("{error}"))?;
    if image.digest.is_some() {
        Ok(image)
    } else {
        Err(format!(
            "expected an image by digest, found {image}: a tag can be moved to another image; write {}@sha256:<64 hex digits>",
            image.repository
        ))
    }
}

fn image(text: &str) -> Result<ImageRef, String> {
    let image: ImageRef = text.parse().map_err(|error| format!("{error}"))?;
    if image.tag.is_some() || image.digest.is_some() {
        Ok(image)
    } else {
        Err(format!(
            "expected an image with a tag or a digest, found {image}: write {image}:<tag>"
        ))
    }
}

fn registry_host(text: &str) -> Result<String, String> {
    // The reference grammar knows what a registry host is; a bare word would be a Docker Hub user.
    let host = format!("{text}/x")
        .parse::<Repository>()
        .ok()
        .filter(|repository| repository.host() == text);
    host.map(|_| text.to_owned()).ok_or_else(|| {
        "expected a registry host such as registry.local:5000, without http:// and without a path".to_owned()
    })
}

fn label_name(text: &str) -> Result<String, String> {
    if text.len() <= 63 && is_label(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a name of at most 63 of a-z 0-9 - that starts and ends with a letter or digit".to_owned())
    }
}

fn object_name(text: &str) -> Result<String, String> {
    if text.len() <= 253 && text.split('.').all(is_label) {
        Ok(text.to_owned())
    } else {
        Err("expected an object name of at most 253 of a-z 0-9 - . as Kubernetes allows it".to_owned())
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn duration_between(text: &str, min: u64, max: u64) -> Result<Span, String> {
    let span = text.parse::<Span>().map_err(|error| error.to_string())?;
    let (min, max) = (Span::seconds(min), Span::seconds(max));
    if (min..=max).contains(&span) {
        Ok(span)
    } else {
        Err(format!("expected a span from {min} to {max}, found {span}"))
    }
}

fn lease_duration(text: &str) -> Result<Span, String> {
    duration_between(text, 3, 300)
}

fn database_interval(text: &str) -> Result<Span, String> {
    duration_between(text, 1, 86_400)
}

fn drain_deadline(text: &str) -> Result<Span, String> {
    duration_between(text, 1, 600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        controller: ControllerArgs,
    }

    fn parse(changes: &[(&str, &str)]) -> Result<ControllerArgs, String> {
        let image = format!("registry.example.com/repave/x@sha256:{}", "a".repeat(64));
        let mut flags = vec![
            ("--tools-image", image.as_str()),
            ("--builder-image", image.as_str()),
            ("--runner-image", image.as_str()),
            ("--pod-namespace", "repave-system"),
            ("--pod-name", "repave-7d9f-abc"),
        ];
        flags.retain(|(flag, _)| !changes.iter().any(|(changed, _)| changed == flag));
        flags.extend(changes);
        let words = flags.iter().flat_map(|(flag, value)| [*flag, *value]);
        Command::try_parse_from(std::iter::once("repave").chain(words))
            .map(|command| command.controller)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_whole() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.lease_params().duration, Duration::from_secs(15));
        assert_eq!(args.lease_params().name, "repave-controller");
        assert_eq!((args.max_jobs, args.concurrency), (20, 8));
        assert_eq!(args.candidate_root, CandidateRoot::ImageVolume);
        assert!(!args.no_leader_election && args.insecure_registries.is_empty() && args.estate_namespaces.is_empty());
    }

    #[test]
    fn an_image_without_a_digest_is_refused_with_what_to_write() {
        let error = parse(&[("--tools-image", "registry.example.com/repave/tools:1")]).unwrap_err();
        assert!(
            error.contains("write registry.example.com/repave/tools@sha256:<64 hex digits>"),
            "{error}"
        );
    }

    #[test]
    fn wrong_values_are_refused_before_anything_starts() {
        for (flag, value, says) in [
            (
                "--grype-database",
                "r.local:5000/grype-db",
                "write r.local:5000/grype-db:<tag>",
            ),
            ("--insecure-registry", "http://r.local:5000", "without http://"),
            ("--insecure-registry", "registry", "such as registry.local:5000"),
            ("--insecure-registry", "r.local/path", "without a path"),
            ("--lease-duration", "1s", "from 3s to 5m"),
            ("--lease-duration", "soon", "2160h, 30m or 10s"),
            ("--max-jobs", "0", "1..=1000"),
            ("--concurrency", "1000", "1..=64"),
            ("--pod-namespace", "Repave", "a-z 0-9 -"),
            ("--lease-name", "a/../b", "as Kubernetes allows"),
            ("--log-format", "xml", "text, json"),
            ("--candidate-root", "mount", "image-volume, snapshot"),
        ] {
            let error = parse(&[(flag, value)]).unwrap_err();
            assert!(error.contains(says), "{flag} {value}: {error}");
        }
    }

    #[test]
    fn lists_are_repeated_or_separated_by_comma() {
        let args = parse(&[
            ("--insecure-registry", "a.local:5000,b.local"),
            ("--insecure-registry", "localhost:5001"),
            ("--estate-namespace", "shop,pay"),
        ])
        .unwrap();
        assert_eq!(args.insecure_registries, ["a.local:5000", "b.local", "localhost:5001"]);
        assert_eq!(args.estate_namespaces, ["shop", "pay"]);
    }
}
