//! `runner build`: builds an image from an OCI layout into an OCI layout, with buildah in a user namespace.
//!
//! Must not reach a registry: the base is the layout that the pull step wrote, and the result is a layout that the
//! push step takes. Must not hide why a build failed: the end of buildah's output goes to the operator.

use super::{
    capture::{self, Bounds, Captured, Ended, Keep},
    check::{read_file, version},
    deliver::Failure,
    frame::Termination,
    inputs, isolate, repack,
    termination::MAX_LOG_LINES,
};
use repave_checks::{Invocation, PATH};
use repave_core::digest::Digest;
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const TOOL: &str = "buildah";
const MAX_CONTAINERFILE: u64 = 1024 * 1024;

/// `repave runner build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The Containerfile; its first FROM is replaced by the layout.
    #[arg(long)]
    containerfile: PathBuf,
    /// The build context.
    #[arg(long)]
    context: PathBuf,
    /// The digest of the whole context: with another one nothing is built.
    #[arg(long)]
    inputs: Option<Digest>,
    /// The OCI layout of the base.
    #[arg(long)]
    layout_in: PathBuf,
    /// The OCI layout to write.
    #[arg(long)]
    layout_out: PathBuf,
    /// A folder for buildah's storage.
    #[arg(long)]
    work: PathBuf,
    /// What RUN may reach: nothing, or what the pod may.
    #[arg(long, value_enum, default_value_t = Network::None)]
    network: Network,
    /// Seconds until the build is killed.
    #[arg(long, default_value_t = 1800)]
    timeout: u64,
    /// The program.
    #[arg(long, default_value = TOOL)]
    program: PathBuf,
    /// Busybox, which enters the namespaces without a network.
    #[arg(long, default_value = "busybox")]
    busybox: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    None,
    Host,
}

/// How layers are stored while building. Overlay is fast; where the kernel refuses it, plain copies always work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    Overlay,
    Vfs,
}

impl Driver {
    fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        }
    }
}

/// Builds, and packs the result.
pub async fn run(args: &Args) -> Result<Termination, Failure> {
    let started = Instant::now();
    prepare(args)?;
    let mut driver = Driver::Overlay;
    let mut done = build(args, driver).await?;
    if done.ended != Ended::Exited(0) && refused_overlay(&done) {
        driver = Driver::Vfs;
        done = build(args, driver).await?;
    }
    if done.ended != Ended::Exited(0) {
        return Err(failure(&done));
    }
    let (built, base, out) = (built(args), args.layout_in.clone(), args.layout_out.clone());
    let packed = tokio::task::spawn_blocking(move || repack::repack(&built, &base, &out)).await;
    let digest = packed
        .map_err(|error| format!("packing the image was interrupted: {error}"))?
        .map_err(|error| format!("the built image cannot be packed: {error}"))?;
    let version = version(&ask_version(args)).await.unwrap_or_default();
    Ok(Termination::Built {
        digest,
        tool: format!("{TOOL} {version} ({})", driver.as_str()),
        millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn built(args: &Args) -> PathBuf {
    args.work.join("built")
}

/// The Containerfile with the layout as its base, and the folders that buildah wants.
fn prepare(args: &Args) -> Result<(), Failure> {
    // `oci:PATH:NAME` is how buildah spells a layout: a colon would end the path.
    for path in [&args.layout_in, &args.work] {
        if !path.is_absolute() || path.to_string_lossy().contains([':', '\n', ' ']) {
            return Err(format!(
                "expected an absolute path without colons and blanks, found {}",
                path.display()
            )
            .into());
        }
    }
    if let Some(asked) = &args.inputs {
        inputs::are_as_asked(&args.context, asked)?;
    }
    let text = read_file(&args.containerfile, MAX_CONTAINERFILE, TOOL, "Containerfile").map_err(|e| e.to_string())?;
    let text = String::from_utf8(text).map_err(|_| "the Containerfile is not UTF-8".to_owned())?;
    let rebased = rebase(&text, &args.layout_in)?;
    let tmp = args.work.join("tmp");
    fs::create_dir_all(&tmp)
        .and_then(|()| fs::write(args.work.join("Containerfile"), rebased))
        .map_err(|error| format!("{} cannot be written to: {error}", args.work.display()).into())
}

/// Replaces the image of the first instruction, which must be a FROM by digest.
fn rebase(containerfile: &str, layout: &Path) -> Result<String, String> {
    let mut lines: Vec<String> = containerfile.lines().map(str::to_owned).collect();
    let first = lines
        .iter_mut()
        .find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .ok_or("expected a Containerfile that starts with FROM, found an empty one")?;
    let words: Vec<&str> = first.split_whitespace().collect();
    let [from, image, rest @ ..] = words.as_slice() else {
        return Err(format!("expected FROM IMAGE@DIGEST, found {first:?}"));
    };
    if !from.eq_ignore_ascii_case("FROM") || !image.contains("@sha256:") {
        return Err(format!("expected FROM IMAGE@DIGEST, found {first:?}"));
    }
    let layout = format!("oci:{}", layout.display());
    *first = [&["FROM", &layout], rest].concat().join(" ");
    Ok(lines.join("\n") + "\n")
}

async fn build(args: &Args, driver: Driver) -> Result<Captured, Failure> {
    // What a refused driver left behind would be mistaken for storage of the other one.
    for left in [built(args), args.work.join("storage"), args.work.join("run")] {
        if left.exists() {
            fs::remove_dir_all(&left).map_err(|error| format!("{} cannot be removed: {error}", left.display()))?;
        }
    }
    let bounds = Bounds {
        timeout: Duration::from_secs(args.timeout),
        stdout: Keep::End,
    };
    let invocation = invocation(args, driver);
    let done = match args.network {
        Network::Host => capture::run(&invocation, bounds).await,
        Network::None => {
            let isolated = isolate::without_network(&args.busybox, &invocation);
            capture::run_prepared(&isolated, bounds, isolate::map_all_ids).await
        }
    };
    done.map_err(|error| format!("{} cannot be started: {error}", invocation.program.display()).into())
}

fn invocation(args: &Args, driver: Driver) -> Invocation {
    let work = |name: &str| OsString::from(args.work.join(name));
    let mut tag = OsString::from("oci:");
    tag.push(built(args));
    tag.push(":built");
    let mut words: Vec<OsString> = vec!["--root".into(), work("storage"), "--runroot".into(), work("run")];
    words.extend(["--storage-driver", driver.as_str(), "build", "--isolation", "chroot"].map(Into::into));
    // Chroot isolation knows no other network than the one that buildah has itself; see `isolate`.
    let network = "--network=host";
    // `never`: what is not in the layout must fail, not be looked up somewhere.
    words.extend([network, "--pull=never", "--format", "oci", "--timestamp", "0"].map(Into::into));
    words.extend([
        "-f".into(),
        work("Containerfile"),
        "-t".into(),
        tag,
        args.context.clone().into(),
    ]);
    Invocation {
        program: args.program.clone(),
        args: words,
        env: environment(args),
    }
}

fn environment(args: &Args) -> Vec<(String, OsString)> {
    let env = [
        ("PATH", PATH.into()),
        ("HOME", args.work.clone().into()),
        ("TMPDIR", args.work.join("tmp").into()),
        ("XDG_RUNTIME_DIR", args.work.join("tmp").into()),
        ("BUILDAH_ISOLATION", "chroot".into()),
    ];
    env.map(|(name, value): (&str, OsString)| (name.to_owned(), value))
        .into()
}

fn ask_version(args: &Args) -> Invocation {
    Invocation {
        program: args.program.clone(),
        args: vec!["--version".into()],
        env: environment(args),
    }
}

/// Whether the storage driver was refused, not the build.
fn refused_overlay(done: &Captured) -> bool {
    done.ended.exit_code().is_some() && done.last_lines(5).iter().any(|line| line.contains("overlay"))
}

fn failure(done: &Captured) -> Failure {
    Failure {
        message: format!("the build did not succeed: buildah ended with {}", done.ended),
        exit_code: done.ended.exit_code(),
        signal: done.ended.signal(),
        log: done.last_lines(MAX_LOG_LINES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_becomes_the_layout_and_nothing_else_changes() {
        let digest = "a".repeat(64);
        let text = format!("# syntax\n\nfrom r.local:5000/a/b@sha256:{digest} AS x\nUSER 0\nRUN echo \\\n  FROM y\n");
        assert_eq!(
            rebase(&text, Path::new("/layout")).unwrap(),
            "# syntax\n\nFROM oci:/layout AS x\nUSER 0\nRUN echo \\\n  FROM y\n"
        );
    }

    #[test]
    fn a_base_that_is_not_pinned_is_refused() {
        for text in [
            "",
            "# only\n",
            "FROM debian:12\n",
            "FROM\n",
            "ARG X=1\nFROM a@sha256:b\n",
            "RUN x\n",
        ] {
            assert!(rebase(text, Path::new("/in")).is_err(), "{text}");
        }
    }

    fn args(dir: &Path, script: &str) -> Args {
        use std::os::unix::fs::PermissionsExt as _;
        let program = dir.join("buildah");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let containerfile = dir.join("Containerfile");
        fs::write(
            &containerfile,
            format!("FROM a.io/b@sha256:{}\nUSER 1\n", "a".repeat(64)),
        )
        .unwrap();
        Args {
            containerfile,
            context: dir.into(),
            inputs: None,
            layout_in: dir.join("in"),
            layout_out: dir.join("out"),
            work: dir.join("work"),
            network: Network::Host,
            timeout: 30,
            program,
            busybox: "busybox".into(),
        }
    }

    #[tokio::test]
    async fn a_failed_build_says_what_buildah_said_last() {
        let dir = tempfile::tempdir().unwrap();
        let args = args(
            dir.path(),
            "i=0; while [ $i -lt 50 ]; do echo \"step $i\" >&2; i=$((i+1)); done; exit 125",
        );
        let failure = run(&args).await.unwrap_err();
        assert_eq!((failure.exit_code, failure.log.len()), (Some(125), MAX_LOG_LINES));
        assert_eq!(failure.log.last().unwrap(), "step 49");
        assert_eq!(
            fs::read_to_string(args.work.join("Containerfile"))
                .unwrap()
                .lines()
                .next()
                .unwrap(),
            format!("FROM oci:{}", args.layout_in.display())
        );
    }

    #[tokio::test]
    async fn a_killed_build_names_the_signal() {
        let dir = tempfile::tempdir().unwrap();
        let failure = run(&args(dir.path(), "kill -9 $$")).await.unwrap_err();
        assert_eq!((failure.exit_code, failure.signal), (None, Some(9)));
        assert!(failure.message.contains("out of memory"));
    }

    #[tokio::test]
    async fn where_overlay_is_refused_plain_copies_are_tried_once() {
        let dir = tempfile::tempdir().unwrap();
        let script =
            "echo \"$6\" >> \"$0.drivers\"; echo \"driver $6 refused: overlay is not supported\" >&2; exit 125";
        let failure = run(&args(dir.path(), script)).await.unwrap_err();
        assert_eq!(failure.exit_code, Some(125));
        assert_eq!(
            fs::read_to_string(dir.path().join("buildah.drivers")).unwrap(),
            "overlay\nvfs\n"
        );
    }

    #[tokio::test]
    async fn without_busybox_a_build_without_a_network_fails_and_does_not_get_one() {
        let dir = tempfile::tempdir().unwrap();
        let args = Args {
            network: Network::None,
            busybox: "/nonexistent/busybox".into(),
            ..args(dir.path(), "touch \"$0.ran\"")
        };
        assert!(run(&args).await.unwrap_err().message.contains("cannot be started"));
        assert!(!dir.path().join("buildah.ran").exists());
    }

    #[tokio::test]
    async fn success_without_an_image_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let failure = run(&args(dir.path(), "exit 0")).await.unwrap_err();
        assert!(failure.message.contains("cannot be packed"), "{}", failure.message);
    }
}
