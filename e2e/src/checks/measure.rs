//! Runs one program and says what it took: time, CPU and memory, of the program and of all that it waited for.
//!
//! The numbers come from a process in between that does nothing else, so that no other child is counted. The memory is
//! that of the largest single process.

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A program with its words and its environment.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(String, OsString)>,
    /// Exit codes that are no failure.
    pub fine: Vec<i32>,
}

impl Call {
    /// A call whose only good exit code is 0.
    pub fn new<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Self {
        Self {
            words: words.into_iter().map(Into::into).collect(),
            env: vec![("PATH".into(), repave::checks::PATH.into())],
            fine: vec![0],
        }
    }

    /// With one more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// With another good exit code.
    #[must_use]
    pub fn fine(mut self, code: i32) -> Self {
        self.fine.push(code);
        self
    }

    /// The command, not yet started.
    pub fn command(&self) -> Result<Command> {
        let (program, words) = self.words.split_first().context("a call without a program")?;
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs it and gives its stdout.
    pub fn output(&self) -> Result<Vec<u8>> {
        let output = self.command()?.output().with_context(|| format!("{:?}", self.words))?;
        let code = output.status.code().unwrap_or(-1);
        if !self.fine.contains(&code) {
            let (out, err) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            bail!(
                "{:?}: {}\n{}{err}",
                self.words,
                output.status,
                &out[..out.len().min(2000)]
            );
        }
        Ok(output.stdout)
    }
}

/// What a run took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Measured {
    /// From start to end.
    pub wall: Duration,
    /// User and system time.
    pub cpu: Duration,
    /// Highest resident memory, KiB.
    pub rss: i64,
    /// The exit code.
    pub code: i32,
}

impl Measured {
    /// Highest resident memory in MB (10^6 bytes).
    pub fn megabytes(&self) -> f64 {
        megabytes(self.rss)
    }
}

/// KiB in MB (10^6 bytes).
pub fn megabytes(kib: i64) -> f64 {
    i32::try_from(kib).map_or(f64::NAN, f64::from) * 1024.0 / 1e6
}

/// The word of the subcommand that is the process in between.
pub const WORD: &str = "measured";

/// Runs the call in a process of its own.
pub fn measure(call: &Call) -> Result<Measured> {
    let own = std::env::current_exe()?;
    let mut words: Vec<OsString> = vec![own.into(), WORD.into()];
    words.extend(call.words.iter().cloned());
    let mut between = Call::new(words);
    between.env.clone_from(&call.env);
    let measured: Measured = serde_json::from_slice(&between.output()?)?;
    ensure!(
        call.fine.contains(&measured.code),
        "{:?}: exit code {}, expected one of {:?}",
        call.words,
        measured.code,
        call.fine
    );
    Ok(measured)
}

/// The process in between.
pub fn between(words: Vec<OsString>) -> Result<()> {
    let started = Instant::now();
    let mut call = Call::new(words);
    call.env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .collect();
    let status = call.command()?.stdout(Stdio::null()).status()?;
    let wall = started.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let measured = Measured {
        wall,
        cpu: Duration::from_micros(u64::try_from(micros)?),
        rss: usage.max_rss(),
        code: status.code().unwrap_or(-1),
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// This process so far: CPU and highest resident memory in KiB.
pub fn myself() -> Result<(Duration, i64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    // Not the usage's max_rss: across exec a child inherits its parent's, which had just made the document.
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.split_whitespace().next());
    let peak = peak.context("/proc/self/status has no VmHWM")?.parse()?;
    Ok((Duration::from_micros(u64::try_from(micros)?), peak))
}

/// The middle one.
pub fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_whatever_the_order() {
        let seconds = |all: &[u64]| all.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(median(seconds(&[9, 1, 2])), Duration::from_secs(2));
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }
}
