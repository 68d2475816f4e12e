//! Logs: to standard error, as text for people or JSON for collectors.
//!
//! Must not write a secret. The HTTP and TLS crates log headers and bodies when they are asked to trace; they are held
//! at `warn` or `info` whatever the level is, and `RUST_LOG` is not read.

use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line each.
    Text,
    /// One JSON object each.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what may become a failure.
    Warn,
    /// And what changed.
    Info,
    /// And why.
    Debug,
    /// And each step.
    Trace,
}

/// Crates that would log headers, bodies or tokens, with the most they may say.
const HELD: [&str; 8] = [
    "hyper=warn",
    "hyper_util=warn",
    "h2=warn",
    "rustls=warn",
    "reqwest=warn",
    "tower=warn",
    "tower_http=warn",
    "kube_client=error",
];

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A directive of the filter is malformed.
    #[error("expected valid log directives, found {0}: this is a defect, report it")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Set up twice.
    #[error("expected to set up the log once, found it set up already ({0}): call init only in main")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

impl LogLevel {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn filter(level: LogLevel) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let held = match level {
        // Quieter than the limits: a limit must not make it louder.
        LogLevel::Error => String::new(),
        LogLevel::Warn => ",".to_owned() + &HELD.join(",").replace("=info", "=warn"),
        LogLevel::Info | LogLevel::Debug | LogLevel::Trace => ",".to_owned() + &HELD.join(","),
    };
    EnvFilter::try_new(level.as_str().to_owned() + &held)
}

/// Sets up the log of this process, once.
pub fn init(format: LogFormat, level: LogLevel) -> Result<(), TelemetryError> {
    let registry = tracing_subscriber::registry().with(filter(level)?);
    match format {
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(io::stderr)
                .with_ansi(io::stderr().is_terminal());
            registry.with(layer).try_init()?;
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).json();
            registry.with(layer).try_init()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged_at(level: LogLevel) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .json();
        let subscriber = tracing_subscriber::registry().with(filter(level).unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "kube_client::client", "headers: Authorization: Bearer s3cret");
            tracing::debug!(target: "hyper::proto", "flushed s3cret");
            tracing::debug!(target: "reqwest::connect", "s3cret");
            // What it cannot decode it prints whole, a Secret too.
            tracing::warn!(target: "kube_client::client", "{{\"data\":{{\"password\":\"s3cret\"}}}}, Error(year out of range)");
            tracing::error!(target: "kube_client::client", "no answer");
            tracing::trace!(target: "repave::runtime", "a step");
        });
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_http_crates_never_log_headers_whatever_the_level_is() {
        let log = logged_at(LogLevel::Trace);
        assert!(log.contains("a step") && log.contains("no answer"), "{log}");
        assert!(!log.contains("s3cret"), "{log}");
    }

    #[test]
    fn a_quiet_log_is_not_made_louder_by_the_limits() {
        let log = logged_at(LogLevel::Error);
        assert!(log.contains("no answer") && log.lines().count() == 1, "{log}");
    }
}
