//! Opens a page in the person's own browser, from a temporary file with a random name. No shell is involved.
//!
//! Must not open what could run scripts: only pages that begin as ours do.

use anyhow::Context as _;
use repave_report::page;
use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

/// What opens a file on this system.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// Writes the page and opens it; says where it is.
pub fn open(html: &[u8]) -> anyhow::Result<String> {
    let path = write(html)?;
    let shown = path.display();
    let opened = Command::new(OPENER)
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match opened {
        Ok(status) if status.success() => Ok(format!("the page is in {shown}")),
        Ok(_) => Ok(format!("{OPENER} could not open it; the page is in {shown}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(format!("there is no {OPENER} here; the page is in {shown}"))
        }
        Err(error) => Err(error).context(format!("{OPENER} cannot be started; the page is in {shown}")),
    }
}

/// Only the person can read the file.
fn write(html: &[u8]) -> anyhow::Result<PathBuf> {
    anyhow::ensure!(
        page::is_harmless(html),
        "the page does not begin with the policy that forbids scripts: it was not written by Repave, and is not opened"
    );
    let mut file = tempfile::Builder::new()
        .prefix("repave-report-")
        .suffix(".html")
        .tempfile()?;
    file.write_all(html)?;
    let (_, path) = file.keep()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_could_run_scripts_is_never_written() {
        let error = write(b"<html><script>alert(1)</script>").unwrap_err();
        assert!(error.to_string().contains("forbids scripts"), "{error}");
    }
}
