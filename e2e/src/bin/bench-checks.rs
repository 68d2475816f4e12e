//! `make bench-checks`: what the checks cost and find, without a cluster. Writes docs/benchmarks.md and docs/detection.md.
//!
//! `bench-checks [overhead|native|parsers|detection|page]…` measures these parts alone; the others stay as they were.

use anyhow::{Context as _, Result, bail};
use repave_e2e::checks::{detection, measure, native_cost, overhead, page, parsers, place::Place};
use std::{ffi::OsString, path::Path, thread, time::Instant};

const PARTS: [&str; 4] = ["overhead", "native", "parsers", "detection"];

fn main() -> Result<()> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match words.split_first() {
        Some((word, rest)) if word == measure::WORD => return measure::between(rest.to_vec()),
        Some((word, rest)) if word == parsers::WORD => {
            let (Some(kind), Some(file)) = (rest.first().and_then(|kind| kind.to_str()), rest.get(1)) else {
                bail!("expected the kind of a document and its file");
            };
            return parsers::parse(kind, Path::new(file));
        }
        Some(_) | None => {}
    }
    Place::possible()?;
    let started = Instant::now();
    let place = Place::prepare()?;
    let wanted: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let wanted = if wanted.is_empty() {
        PARTS.map(str::to_owned).to_vec()
    } else {
        wanted
    };
    for part in &wanted {
        measure_part(&place, part)?;
    }
    page::write(&place)?;
    eprintln!(
        "{} s; docs/benchmarks.md and docs/detection.md are written",
        started.elapsed().as_secs()
    );
    Ok(())
}

fn measure_part(place: &Place, part: &str) -> Result<()> {
    match part {
        "overhead" => page::keep(place, part, &overhead::run(place)?),
        "native" => page::keep(place, part, &native_cost::run(place)?),
        "parsers" => page::keep(place, part, &parsers::run(place)?),
        "detection" => {
            let found = detection::run(place)?;
            page::keep(place, "summary", &found.summary)?;
            page::keep(place, "about", &about(&found.versions)?)?;
            let text = format!("{}\n{}\n## Clean images\n\n{}", found.summary, found.table, found.clean);
            page::keep(place, part, &text)
        }
        "page" => Ok(()),
        other => bail!("expected one of {}, page; found {other:?}", PARTS.join(", ")),
    }
}

fn about(versions: &str) -> Result<String> {
    let cores = thread::available_parallelism().context("the number of cores")?;
    Ok(format!(
        "{}, {cores} cores, binary of the `e2e` profile; {versions}.\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d")
    ))
}
