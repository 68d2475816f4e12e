//! The self-test of the gate: what each tool must find in our known-bad fixtures before anything it says counts. Pure.
//!
//! A scanner that finds nothing anywhere passes every image. So each (tools image, tool, database) first examines
//! fixtures that are bad on purpose; one that misses them is not believed: nothing is promoted on its word. What it must find
//! is in its row of `tool.rs`.

pub use super::tool::WRONG_OS_REFUSED;
use super::{
    digest::Digest,
    image_ref::ImageRef,
    report::{Outcome, Report, ToolName},
};

/// The check name in the reports of self-tests.
pub const CHECK: &str = "self-test";

/// Whether there is a self-test for this tool.
pub fn exists(tool: ToolName) -> bool {
    !tool.facts().must_find.is_empty()
}

/// A hash over what is tested: a new tools image or a new database is tested anew.
pub fn key(tool: ToolName, tools: &ImageRef, database: Option<&ImageRef>) -> Digest {
    let database = database.map(ImageRef::to_string).unwrap_or_default();
    Digest::of(format!("{CHECK}\n{tool:?}\n{tools}\n{database}").as_bytes())
}

/// What stands in a self-test's report for the image: there is none.
pub fn subject() -> Digest {
    Digest::of(b"repave.dev/self-test")
}

/// Whether the tool found everything that it had to.
///
/// # Errors
/// The sentence for people: what was expected and what was found.
pub fn judge(report: &Report) -> Result<(), String> {
    let tool = report.tool.name;
    match &report.outcome {
        Outcome::Completed => {}
        Outcome::Error { message } | Outcome::Unsupported { message } => {
            return Err(format!("{tool:?} could not examine its known-bad fixture: {message}"));
        }
    }
    let found = |id: &&str| {
        report
            .findings
            .iter()
            .any(|finding| finding.id == *id || finding.aliases.iter().any(|alias| alias == id))
    };
    let missed: Vec<&str> = tool
        .facts()
        .must_find
        .iter()
        .filter(|group| !group.iter().any(found))
        .filter_map(|group| group.first().copied())
        .collect();
    if missed.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{tool:?} {} does not find {} in an image that was made to have it: nothing it says is believed; change the tools image or the database back",
            report.tool.version,
            missed.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Finding, Tool};

    fn report(tool: ToolName, ids: &[&str]) -> Report {
        let tool = Tool::new(tool, "1");
        let mut report = Report::error(CHECK, &subject(), tool, "");
        report.outcome = Outcome::Completed;
        report.findings = ids
            .iter()
            .map(|id| Finding {
                id: (*id).into(),
                ..Finding::default()
            })
            .collect();
        report
    }

    #[test]
    fn a_tool_that_misses_one_planted_defect_is_not_believed() {
        let all = [
            "native.world-writable",
            "native.suid",
            "native.root-path",
            "native.extra-uid0",
        ];
        assert_eq!(judge(&report(ToolName::Native, &all)), Ok(()));
        for n in 0..all.len() {
            let mut some = all.to_vec();
            let left_out = some.remove(n);
            assert!(judge(&report(ToolName::Native, &some)).unwrap_err().contains(left_out));
        }
    }

    #[test]
    fn an_alias_counts_and_a_crash_does_not() {
        let mut found = report(ToolName::Grype, &["GHSA-x"]);
        assert!(judge(&found).is_err());
        found.findings[0].aliases = vec!["CVE-2021-44228".into()];
        assert_eq!(judge(&found), Ok(()));
        found.outcome = Outcome::Error {
            message: "killed".into(),
        };
        assert!(judge(&found).unwrap_err().contains("killed"));
    }

    #[test]
    fn another_tools_image_or_database_is_another_test() {
        let image = |tag: &str| format!("r.local:5000/x:{tag}").parse::<ImageRef>().unwrap();
        let (one, two) = (image("1"), image("2"));
        let key = |tools, database| key(ToolName::Grype, tools, database);
        assert_ne!(key(&one, None), key(&two, None));
        assert_ne!(key(&one, None), key(&one, Some(&two)));
        assert_ne!(key(&one, Some(&one)), key(&one, Some(&two)));
    }
}
