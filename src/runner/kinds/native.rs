//! `runner native`: examines the layers of an OCI layout with our own rules. No tool, no candidate code.

use super::{
    bench::{Bench, Failure, unwritten},
    fixtures,
};
use crate::check::{Common, Examined, RunRecord};
use jiff::Timestamp;
use repave_checks::native::{self, Limits, Options};
use repave_core::report::ToolName;
use std::{path::PathBuf, time::Instant};

/// `repave runner native`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The OCI layout.
    #[arg(long)]
    layout: PathBuf,
}

/// Runs the check.
pub fn run(args: &Args) -> Examined {
    let Common { check, image, .. } = &args.common;
    let options: Options = match args.common.options("native") {
        Ok(options) => options,
        Err(error) => return args.common.examined(ToolName::Native, RunRecord::default(), Err(error)),
    };
    let started = Instant::now();
    let examination = native::examine(&args.layout, &options, &Limits::default(), Timestamp::now());
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Examined {
        report: native::report(check, image, examination, millis),
        ended: None,
        attached: Vec::new(),
    }
}

/// An image with the defects that the table of tools names.
pub async fn self_test(bench: &Bench<'_>) -> Result<Examined, Failure> {
    let layout = bench.scratch.join("layout");
    let image = fixtures::layout(&layout).map_err(|error| unwritten(&error))?;
    bench.examined(ToolName::Native, &image, &[("--layout", &layout)]).await
}
