//! The figures, as a table on the terminal and in docs/benchmarks.md. Must not touch what people wrote there.

use anyhow::{Context as _, Result};
use std::{fmt::Write as _, fs, path::Path};

const BEGIN: &str = "<!-- make bench-scale: begin -->\n";
const END: &str = "<!-- make bench-scale: end -->\n";

/// The figures so far.
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

    /// The whole as Markdown.
    pub fn markdown(&self, about: &str) -> String {
        let mut text = format!("\n{about}\n\n| what | measured | budget |\n|---|---|---|\n");
        let _ = writeln!(text, "{}", self.rows);
        text
    }
}

/// Puts it between the marks of the page.
pub fn write(root: &Path, text: &str) -> Result<()> {
    let page = root.join("docs/benchmarks.md");
    let old = fs::read_to_string(&page)?;
    Ok(fs::write(&page, between(&old, text)?)?)
}

fn between(page: &str, text: &str) -> Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .context("docs/benchmarks.md has lost the first mark of make bench-scale")?;
    let (_, after) = rest
        .split_once(END)
        .context("docs/benchmarks.md has lost the second mark of make bench-scale")?;
    Ok(format!("{before}{BEGIN}{text}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_written() {
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(between(&page, "new\n").unwrap(), format!("a\n{BEGIN}new\n{END}b\n"));
        assert!(between("nothing", "new").is_err());
    }
}
