//! The tools whose reports are read: one row each, with all that the rest of the house needs to know of it. Pure.
//!
//! There is no other list of them. A new tool is a new row; a fact that is left out of it does not compile. Must not know
//! how a tool is called or how its output is read: `src/checks` does.

use serde::{Deserialize, Serialize};

/// What is known of a tool. No field has a default: whoever adds a tool decides on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its word in reports, arguments and labels.
    pub word: &'static str,
    /// What it is called in sentences for people.
    pub title: &'static str,
    /// Whether its checks belong to the step Scanned (otherwise Validated): they list vulnerabilities, of which more become
    /// known while the image stays as it is.
    pub scans: bool,
    /// Whose vulnerability database it judges by.
    pub database: Option<Database>,
    /// Whether what it says of one image changes with the date alone, so that a report is of its day only.
    pub changes_daily: bool,
    /// Whether code of the candidate runs.
    pub executes_candidate: bool,
    /// What a promotion attests when an enforced check of it passed, besides that the policies did.
    pub level: Option<&'static str>,
    /// Whether it runs without a cluster.
    pub laptop: Laptop,
    /// What it must find in its known-bad fixture, of each group at least one id (or alias), before anything it says
    /// counts. Empty: there is no fixture that it would have to refuse.
    pub must_find: &'static [&'static [&'static str]],
}

/// Whose database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// Grype's.
    Grype,
    /// Trivy's.
    Trivy,
}

/// Whether `repave check` runs a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Laptop {
    /// It reads the layers of the image only, and where it has one a database.
    Runs,
    /// Why not.
    NeedsCluster(&'static str),
}

/// The runner's word for: content for another operating system was refused and not taken for a pass.
pub const WRONG_OS_REFUSED: &str = "self-test.wrong-os-refused";

/// The best known vulnerability there is: every database that deserves the name has it.
const LOG4SHELL: &[&[&str]] = &[&["CVE-2021-44228", "GHSA-jfh8-c2jp-5v3q"]];

/// Makes the type, the list and the table of the same rows, so that none of them can lack one.
macro_rules! tools {
    ($($(#[doc = $about:literal])+ $tool:ident: $facts:expr,)+) => {
        /// Which tool made a report; the gate compares `name` with the check.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum ToolName {
            $($(#[doc = $about])+ $tool,)+
        }

        impl ToolName {
            /// Every tool.
            pub const ALL: &'static [Self] = &[$(Self::$tool),+];

            /// What is known of it.
            pub const fn facts(self) -> &'static Facts {
                match self {
                    $(Self::$tool => &$facts,)+
                }
            }
        }
    };
}

tools! {
    /// Our own walker of the layers.
    Native: Facts {
        word: "native",
        title: "Repave's own walker",
        scans: false,
        database: None,
        // Rules about the image's age and the end of its operating system's life.
        changes_daily: true,
        executes_candidate: false,
        level: None,
        laptop: Laptop::Runs,
        must_find: &[
            &["native.world-writable"],
            &["native.suid"],
            &["native.root-path"],
            &["native.extra-uid0"],
        ],
    },
    /// Goss, run inside the candidate.
    Goss: Facts {
        word: "goss",
        title: "Goss",
        scans: false,
        database: None,
        changes_daily: false,
        executes_candidate: true,
        level: None,
        laptop: Laptop::NeedsCluster("Goss needs a container of the image, in the cluster"),
        must_find: &[&["file:/repave-self-test/must-not-exist:exists"]],
    },
    /// OpenSCAP.
    Openscap: Facts {
        word: "openscap",
        title: "OpenSCAP",
        scans: false,
        database: None,
        changes_daily: false,
        executes_candidate: false,
        level: Some("REPAVE_OPENSCAP_PASSED"),
        laptop: Laptop::NeedsCluster("OpenSCAP needs the image mounted, in the cluster"),
        must_find: &[
            &[
                "file_permissions_etc_shadow",
                "xccdf_org.ssgproject.content_rule_file_permissions_etc_shadow",
            ],
            &[WRONG_OS_REFUSED],
        ],
    },
    /// Grype.
    Grype: Facts {
        word: "grype",
        title: "Grype",
        scans: true,
        database: Some(Database::Grype),
        changes_daily: false,
        executes_candidate: false,
        level: Some("REPAVE_VULNERABILITIES_PASSED"),
        laptop: Laptop::Runs,
        must_find: LOG4SHELL,
    },
    /// Trivy.
    Trivy: Facts {
        word: "trivy",
        title: "Trivy",
        scans: true,
        database: Some(Database::Trivy),
        changes_daily: false,
        executes_candidate: false,
        level: Some("REPAVE_VULNERABILITIES_PASSED"),
        laptop: Laptop::Runs,
        must_find: LOG4SHELL,
    },
    /// An image and command of the user's own.
    Container: Facts {
        word: "container",
        title: "an image of the policy's own",
        scans: false,
        database: None,
        changes_daily: false,
        // It sees the layers as files; what it does with them is its own affair.
        executes_candidate: false,
        level: None,
        laptop: Laptop::NeedsCluster("a check of your own image needs the cluster"),
        must_find: &[],
    },
}

impl ToolName {
    /// The tool of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|tool| tool.facts().word == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_has_one_word_everywhere_and_none_has_anothers() {
        for tool in ToolName::ALL {
            assert_eq!(serde_json::to_value(tool).unwrap(), tool.facts().word);
            assert_eq!(ToolName::of_word(tool.facts().word), Some(*tool));
        }
        assert_eq!(ToolName::of_word("Native"), None);
    }

    #[test]
    fn what_scans_has_a_database_to_scan_by_and_must_find_something() {
        for facts in ToolName::ALL.iter().map(|tool| tool.facts()) {
            assert_eq!(facts.scans, facts.database.is_some(), "{}", facts.word);
            assert!(!facts.scans || !facts.must_find.is_empty(), "{}", facts.word);
        }
    }
}
