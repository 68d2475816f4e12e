//! What `repave runner` adds to a tool: both run in turn on the same image, and the medians are compared.

use super::{
    image,
    measure::{Call, measure, median},
    place::Place,
    programs::{self, Runner},
};
use anyhow::Result;
use std::{fmt::Write as _, time::Duration};

/// The goal for one check.
const GOAL: Duration = Duration::from_secs(2);

/// The rows of the table.
pub fn run(place: &Place) -> Result<String> {
    let layout = place.layout("debian-v3");
    let digest = image::digest(&layout)?;
    let root = place.root("overhead", &layout)?;
    let results = place.bench().join("out/overhead.xml");
    let page = place.bench().join("out/overhead.html");
    let oscap = programs::oscap(place, &root, &results, Some(&page), "")?;
    let around = Runner::openscap(place, &root, &digest, &[])?.call;
    let mut text =
        "| check | bare | with `repave runner` | overhead (goal: 2 s) | runs |\n|---|---|---|---|---|\n".to_owned();
    row(&mut text, "OpenSCAP, CIS level 2, with its page", 3, &oscap, &around)?;
    let grype = Runner::vulnerabilities(place, "grype", &layout, &digest)?.call;
    row(&mut text, "Grype", 5, &programs::grype(place, &layout), &grype)?;
    let trivy = Runner::vulnerabilities(place, "trivy", &layout, &digest)?.call;
    row(&mut text, "Trivy", 5, &programs::trivy(place, &layout), &trivy)?;
    place.with_goss(&root, super::detection::GOSSFILE)?;
    let goss = Runner::goss(place, &root, &digest)?.call;
    row(&mut text, "Goss", 5, &programs::goss(&root), &goss)?;
    Ok(text)
}

fn row(text: &mut String, name: &str, runs: usize, bare: &Call, around: &Call) -> Result<()> {
    eprintln!("overhead: {name}");
    let (mut alone, mut with) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        alone.push(measure(bare)?.wall);
        with.push(measure(around)?.wall);
    }
    let (alone, with) = (median(alone), median(with));
    let over = with.as_secs_f64() - alone.as_secs_f64();
    let met = if over <= GOAL.as_secs_f64() { "" } else { ", **missed**" };
    writeln!(
        text,
        "| {name} | {:.2} s | {:.2} s | {over:+.2} s{met} | {runs} |",
        alone.as_secs_f64(),
        with.as_secs_f64()
    )?;
    Ok(())
}
