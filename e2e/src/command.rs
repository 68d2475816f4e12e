//! Runs the programs that a user would type: kubectl, crane, cosign. Output is captured; a failure shows all of it.

use anyhow::{Context, Result, bail};
use std::process::Stdio;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Runs a program with this standard input and gives its standard output.
pub async fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let line = format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{line}: is {program} built? e2e/tools/build {program}"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() {
        bail!("{line}: {}\n{out}{err}", output.status);
    }
    Ok(out.into_owned())
}

/// `kubectl …`.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    run("kubectl", arguments, None).await
}

/// Applies manifests as a person would.
pub async fn apply(manifests: &str) -> Result<String> {
    run("kubectl", &["apply", "--server-side", "-f", "-"], Some(manifests)).await
}
