//! Runs one tool: no shell, an explicit environment, a deadline, and bounded output.
//!
//! Must not wait for anything but the tool itself: a process that the tool left behind may keep its pipes open. A tool
//! that is killed takes its whole process group with it; a process that made a session of its own stays until the pod
//! ends. Must not decide what an exit code means; that is the business of each check.

use repave_checks::{Invocation, ReadError};
use repave_core::report::bounded;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fmt, io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    sync::oneshot,
    time::{sleep_until, timeout},
};

/// How much of stderr is kept: its end.
const STDERR: usize = 64 * 1024;

/// How long the pipes may stay open after the tool ended.
const GRACE: Duration = Duration::from_secs(2);

/// What a run may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Until it is killed.
    pub timeout: Duration,
    /// What is kept of stdout.
    pub stdout: Keep,
}

/// What is kept of a tool's stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All of it; a tool that writes more than so many bytes is killed.
    Whole(usize),
    /// The end, for people.
    End,
}

/// How a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exited(i32),
    /// By a signal that was not ours.
    Signalled(i32),
    /// By us, at the deadline.
    TimedOut(Duration),
    /// By us, because it wrote too much.
    WroteTooMuch,
}

impl Ended {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Signalled(signal.unwrap_or_default()),
        }
    }

    /// The exit code, if it ended by itself.
    pub fn exit_code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signalled(_) | Self::TimedOut(_) | Self::WroteTooMuch => None,
        }
    }

    /// The signal that ended it.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Signalled(signal) => Some(signal),
            Self::TimedOut(_) | Self::WroteTooMuch => Some(9),
            Self::Exited(_) => None,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A shell in between turns a signal into 128 + its number.
            Self::Exited(code @ 129..=192) => write!(f, "exit code {code}: {}", meaning(code - 128)),
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => f.write_str(&meaning(*signal)),
            Self::TimedOut(after) => write!(f, "killed after {} s: raise the check's timeout", after.as_secs()),
            Self::WroteTooMuch => f.write_str("killed because it wrote more than is read: narrow what it looks at"),
        }
    }
}

fn meaning(signal: i32) -> String {
    match signal {
        6 => "aborted (signal 6): a failed assertion, or a capability that it needs and does not have".to_owned(),
        9 => "killed (signal 9): most likely out of memory; raise the memory limit".to_owned(),
        11 => "segmentation fault (signal 11): a bug in the tool, or too little memory".to_owned(),
        15 => "terminated (signal 15): the pod was stopped".to_owned(),
        other => format!("ended by signal {other}"),
    }
}

/// What a tool did.
#[derive(Debug)]
pub struct Captured {
    /// How it ended.
    pub ended: Ended,
    /// Its stdout: whole, or its start when it wrote too much, or its end.
    pub stdout: Vec<u8>,
    /// The end of its stderr.
    pub stderr: Vec<u8>,
    /// How long it ran.
    pub took: Duration,
}

impl Captured {
    /// The last lines of stderr, cleaned; of stdout, where a tool complains there (Goss does).
    pub fn last_lines(&self, most: usize) -> Vec<String> {
        let said = if self.stderr.iter().all(u8::is_ascii_whitespace) {
            &self.stdout
        } else {
            &self.stderr
        };
        Self::last_lines_of(said, most)
    }

    /// The last lines of one of the streams, cleaned.
    pub fn last_lines_of(said: &[u8], most: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&said[said.len().saturating_sub(STDERR)..]);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(most)..]
            .iter()
            .map(|line| bounded(line))
            .collect()
    }

    /// The error of a tool that did not end as it should.
    pub fn crashed(&self, tool: &'static str) -> ReadError {
        let said = self.last_lines(3).join(" | ");
        let why = if said.is_empty() {
            self.ended.to_string()
        } else {
            format!("{}; it said last: {said}", self.ended)
        };
        ReadError::Crashed { tool, why }
    }
}

/// Bytes that a pipe delivered, shared with the task that reads it.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    overflown: bool,
}

type Shared = Arc<Mutex<Pipe>>;

fn taken(shared: &Shared) -> Pipe {
    std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs the tool to its end, or to one of the bounds. An error means that it could not be started.
pub async fn run(invocation: &Invocation, bounds: Bounds) -> io::Result<Captured> {
    finish(start(invocation, Stdio::null())?, bounds).await
}

/// The same for a tool that waits for a line on its stdin until `prepare` has been done to its process.
pub async fn run_prepared(
    invocation: &Invocation,
    bounds: Bounds,
    prepare: impl AsyncFnOnce(u32) -> io::Result<()>,
) -> io::Result<Captured> {
    let mut child = start(invocation, Stdio::piped())?;
    let (pid, stdin) = (child.id(), child.stdin.take());
    let (Some(pid), Some(mut stdin)) = (pid, stdin) else {
        return Err(io::Error::other("it ended at once"));
    };
    // An error drops the child, which kills it.
    prepare(pid).await?;
    stdin.write_all(b"\n").await?;
    drop(stdin);
    finish(child, bounds).await
}

fn start(invocation: &Invocation, stdin: Stdio) -> io::Result<Child> {
    Command::new(&invocation.program)
        .args(&invocation.args)
        .env_clear()
        .envs(invocation.env.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

async fn finish(mut child: Child, bounds: Bounds) -> io::Result<Captured> {
    let started = Instant::now();
    let (stdout, stderr) = (Shared::default(), Shared::default());
    let (too_much, overflow) = oneshot::channel();
    let reading = match bounds.stdout {
        Keep::Whole(limit) => tokio::spawn(head(child.stdout.take(), stdout.clone(), limit, too_much)),
        Keep::End => tokio::spawn(tail(child.stdout.take(), stdout.clone())),
    };
    let draining = tokio::spawn(tail(child.stderr.take(), stderr.clone()));
    let ended = wait(&mut child, bounds.timeout, overflow).await?;
    let took = started.elapsed();
    for task in [reading, draining] {
        let abort = task.abort_handle();
        if timeout(GRACE, task).await.is_err() {
            abort.abort();
        }
    }
    let stdout = taken(&stdout);
    Ok(Captured {
        ended: if stdout.overflown { Ended::WroteTooMuch } else { ended },
        stdout: stdout.bytes,
        stderr: taken(&stderr).bytes,
        took,
    })
}

async fn wait(child: &mut Child, limit: Duration, overflow: oneshot::Receiver<()>) -> io::Result<Ended> {
    let deadline = tokio::time::Instant::now() + limit;
    let ended = tokio::select! {
        status = child.wait() => return status.map(Ended::of),
        // The sender is dropped when the pipe closes in good order: that branch is then disabled.
        Ok(()) = overflow => Ended::WroteTooMuch,
        () = sleep_until(deadline) => Ended::TimedOut(limit),
    };
    kill_group(child);
    child.kill().await?;
    Ok(ended)
}

/// Kills the tool with all that it started. It leads its own group (see `start`) and has not been waited for, so the
/// number cannot belong to anybody else.
fn kill_group(child: &Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        // It fails only when the group is gone already; the tool itself is killed and awaited by the caller.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Keeps the first bytes; the first one too many ends the reading.
async fn head(pipe: Option<impl AsyncRead + Unpin>, shared: Shared, limit: usize, too_much: oneshot::Sender<()>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let room = limit - kept.bytes.len();
        kept.bytes.extend_from_slice(&chunk[..read.min(room)]);
        if read > room {
            kept.overflown = true;
            // Nobody listens any more when the tool has ended meanwhile.
            let _ = too_much.send(());
            return;
        }
    }
}

/// Keeps the last bytes.
async fn tail(pipe: Option<impl AsyncRead + Unpin>, shared: Shared) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; 8 * 1024];
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes.extend_from_slice(&chunk[..read]);
        if kept.bytes.len() > 2 * STDERR {
            let old = kept.bytes.len() - STDERR;
            kept.bytes.drain(..old);
        }
    }
}

#[cfg(test)]
mod tests;
