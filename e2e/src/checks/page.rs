//! Puts the figures into the documentation. Must not touch what people wrote there: only the part between the marks.

use super::place::Place;
use anyhow::{Context as _, Result};
use std::{fmt::Write as _, fs};

const BEGIN: &str = "<!-- make bench-checks: begin -->\n";
const END: &str = "<!-- make bench-checks: end -->\n";

/// The parts, in the order of the page: file below `target/bench/results`, and heading.
const PARTS: [(&str, &str); 4] = [
    ("overhead", "### What the runner adds to a tool"),
    ("native", "### The native check of an image of 500 MB"),
    ("parsers", "### Reading large results"),
    (
        "summary",
        "### Planted defects\n\nAll of them are in [detection.md](detection.md).",
    ),
];

/// Keeps the result of one part, so that a part can be measured again alone.
pub fn keep(place: &Place, part: &str, text: &str) -> Result<()> {
    Ok(fs::write(place.work.join("results").join(part), text)?)
}

/// The text between the marks replaced.
fn replaced(page: &str, new: &str) -> Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .context("docs/benchmarks.md has lost its first mark")?;
    let (_, after) = rest
        .split_once(END)
        .context("docs/benchmarks.md has lost its second mark")?;
    Ok(format!("{before}{BEGIN}{new}{END}{after}"))
}

/// Writes `docs/benchmarks.md` and `docs/detection.md` from all parts.
pub fn write(place: &Place) -> Result<()> {
    let part = |name: &str| {
        let path = place.work.join("results").join(name);
        fs::read_to_string(&path).with_context(|| format!("{name} was not measured yet: run make bench-checks"))
    };
    let mut text = format!("\n{}\n", part("about")?);
    for (name, heading) in PARTS {
        writeln!(text, "{heading}\n\n{}", part(name)?)?;
    }
    let page = place.checkout.join("docs/benchmarks.md");
    fs::write(&page, replaced(&fs::read_to_string(&page)?, &text)?)?;
    let detection = format!(
        "{}\n{}\n{}",
        include_str!("detection.head.md"),
        part("about")?,
        part("detection")?
    );
    Ok(fs::write(
        place.checkout.join("docs/detection.md"),
        detection.trim_end().to_owned() + "\n",
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays() {
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        let new = replaced(&page, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}new\n{END}b\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert!(replaced("without marks", "new").is_err());
    }
}
