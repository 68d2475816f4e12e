//! The figures, as a table on the terminal and in docs/benchmarks.md: one section a part and size, so that each can be measured
//! alone. Must not touch what people wrote there.

use anyhow::{Context as _, Result};
use std::{fmt::Write as _, fs, path::Path};

const BEGIN: &str = "<!-- make bench-scale: begin -->\n";
const END: &str = "<!-- make bench-scale: end -->\n";
const HEADING: &str = "### ";

/// The figures of one part so far.
#[derive(Debug, Default)]
pub struct Table {
    rows: String,
}

impl Table {
    /// Adds a figure and shows it at once: the whole takes its time.
    pub fn add(&mut self, what: &str, figure: &str, budget: &str) {
        let row = format!("| {what} | {figure} | {budget} |\n");
        print!("{row}");
        self.rows.push_str(&row);
    }

    /// The section of this part.
    pub fn section(&self, heading: &str, about: &str) -> Section {
        let mut text = format!("{about}\n\n| what | measured | budget |\n|---|---|---|\n");
        let _ = writeln!(text, "{}", self.rows);
        Section {
            heading: heading.to_owned(),
            text,
        }
    }
}

/// A section of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    heading: String,
    text: String,
}

/// Puts it in the place of an older one with its heading, or behind the last one.
pub fn write(root: &Path, section: Section) -> Result<()> {
    let page = root.join("docs/benchmarks.md");
    let old = fs::read_to_string(&page)?;
    Ok(fs::write(&page, with(&old, section)?)?)
}

fn with(page: &str, section: Section) -> Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .context("docs/benchmarks.md has lost the first mark of make bench-scale")?;
    let (old, after) = rest
        .split_once(END)
        .context("docs/benchmarks.md has lost the second mark of make bench-scale")?;
    let mut sections: Vec<Section> = old.split(HEADING).skip(1).filter_map(Section::read).collect();
    match sections.iter_mut().find(|one| one.heading == section.heading) {
        Some(one) => *one = section,
        None => sections.push(section),
    }
    let text: String = sections.iter().map(Section::markdown).collect();
    Ok(format!("{before}{BEGIN}\n{text}{END}{after}"))
}

impl Section {
    fn read(text: &str) -> Option<Self> {
        let (heading, text) = text.split_once("\n\n")?;
        Some(Self {
            heading: heading.to_owned(),
            text: text.to_owned(),
        })
    }

    fn markdown(&self) -> String {
        format!("{HEADING}{}\n\n{}", self.heading, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_its_older_one_and_nothing_else_is_touched() {
        let section = |heading: &str, figure: &str| {
            let mut table = Table::default();
            table.add("memory", figure, "30 MB");
            table.section(heading, "2026-01-01, 2 cores.")
        };
        let page = format!("a\n{BEGIN}{END}b\n");
        let page = with(&page, section("One", "1 MB")).unwrap();
        let page = with(&page, section("Two", "2 MB")).unwrap();
        let page = with(&page, section("One", "3 MB")).unwrap();
        let table = |figure: &str| {
            format!(
                "2026-01-01, 2 cores.\n\n| what | measured | budget |\n|---|---|---|\n| memory | {figure} | 30 MB |\n\n"
            )
        };
        assert_eq!(
            page,
            format!(
                "a\n{BEGIN}\n### One\n\n{}### Two\n\n{}{END}b\n",
                table("3 MB"),
                table("2 MB")
            )
        );
        assert!(with("nothing", section("One", "1 MB")).is_err());
    }
}
