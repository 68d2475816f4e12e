//! `kubectl repave`: the plugin. Parses arguments and hands over to `cli`.

use clap::Parser as _;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // One TLS provider for every client in the process; a second call would only say that it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match repave::cli::run(repave::cli::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kubectl repave: {error:#}");
            ExitCode::FAILURE
        }
    }
}
