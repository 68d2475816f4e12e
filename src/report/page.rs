//! One self-contained web page per candidate: the verdict in words, every check, what to do, where the rest is. Pure.
//!
//! The page is `templates/page.html`; askama escapes every text in it. The same candidate gives the same bytes: times
//! come from the status only, and nothing of the promotion is in it, so that a second try after a crash writes the same
//! artifact. Must not load anything and must not run a script: its first lines forbid both to the browser.

mod section;

pub use section::{MAX_SHOWN, Section};

use super::clean;
use askama::Template;
use kube::ResourceExt as _;
use repave_api::{
    ImageCandidate,
    image_candidate::{CheckSummary, Step},
};
use repave_core::{digest::Digest, verdict::Verdict};
use std::fmt::Write as _;

pub use repave_core::page::{ARTIFACT_TYPE, MAX_PAGE, MEDIA_TYPE};

/// How every page begins. A browser obeys the policy from here on, whatever follows: no script, no request, no form.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta http-equiv=\"Content-Security-Policy\" \
    content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n";

/// How many findings of a check are tried, until the page fits.
const SHOWN: [usize; 4] = [MAX_SHOWN, 100, 20, 0];

/// Everything that a page says.
#[derive(Debug, Clone, PartialEq, Template)]
#[template(path = "page.html")]
pub struct Page {
    /// The verdict.
    pub headline: Headline,
    /// Name of the candidate.
    pub candidate: String,
    /// Its namespace.
    pub namespace: String,
    /// Name of the base image.
    pub base_image: String,
    /// `image:tag` of upstream.
    pub source: String,
    /// What upstream's tag pointed to.
    pub source_digest: Digest,
    /// The customised image.
    pub built: Option<Digest>,
    /// Where it is staged.
    pub staging: String,
    /// Where it goes when it passes.
    pub production: String,
    /// The policies, by name.
    pub policies: Vec<String>,
    /// One a check.
    pub sections: Vec<Section>,
    /// What changed since this release, if it could be compared.
    pub previous: Option<String>,
    /// The steps with their times.
    pub timeline: Vec<Row>,
    /// Which Repave wrote it.
    pub version: &'static str,
}

/// The verdict of all checks together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// `passed`, `rejected` or `unjudged`: how it is coloured.
    pub class: &'static str,
    /// In one or a few words.
    pub title: &'static str,
    /// In a sentence.
    pub text: String,
}

/// A step of the candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The step.
    pub step: &'static str,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// How long it took.
    pub took: String,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The template failed.
    #[error("the page cannot be written: {0}")]
    Template(#[from] askama::Error),
    /// Even without findings it is too large.
    #[error("expected a page of at most {MAX_PAGE} bytes, found {found} even without findings: use fewer checks")]
    TooLarge {
        /// Bytes.
        found: usize,
    },
}

impl Page {
    /// The page of a candidate whose checks are all judged; `sections` are in the order of its status, `previous` names
    /// the release that they were compared with.
    pub fn new(candidate: &ImageCandidate, sections: Vec<Section>, previous: Option<&str>) -> Self {
        let spec = &candidate.spec;
        let status = candidate.status.clone().unwrap_or_default();
        Self {
            headline: headline(&status.checks),
            candidate: candidate.name_any(),
            namespace: candidate.namespace().unwrap_or_default(),
            base_image: clean(&spec.base_image, 100),
            source: clean(&format!("{}:{}", spec.source, spec.source_tag), 400),
            source_digest: spec.source_digest.clone(),
            built: status.built_digest.clone(),
            staging: spec.staging.to_string(),
            production: clean(&spec.promote.repository, 400),
            policies: spec.policies.iter().map(|policy| clean(&policy.name, 100)).collect(),
            sections,
            previous: previous.map(|release| clean(release, 200)),
            timeline: timeline(candidate),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// The page as HTML, at most [`MAX_PAGE`] bytes.
    pub fn html(&self) -> Result<String, RenderError> {
        let mut page = self.clone();
        let mut found = 0;
        for shown in SHOWN {
            page.sections.iter_mut().for_each(|section| section.show_at_most(shown));
            let html = format!("{HEAD}{}", page.render()?);
            found = html.len();
            if found as u64 <= MAX_PAGE {
                return Ok(html);
            }
        }
        Err(RenderError::TooLarge { found })
    }
}

/// Whether these bytes begin as every page of ours does. Then a browser lets nothing run in them, even if somebody else
/// wrote the rest: this is asked before a page that came from a registry is opened.
pub fn is_harmless(html: &[u8]) -> bool {
    html.starts_with(HEAD.as_bytes())
}

/// The same rule as for the candidate's result: only findings reject; anything else could not be judged.
fn headline(checks: &[CheckSummary]) -> Headline {
    let names = |wanted: &dyn Fn(&str) -> bool| {
        let named: Vec<_> = checks
            .iter()
            .filter(|check| wanted(&check.verdict))
            .map(|check| check.name.as_str())
            .collect();
        (named.len(), named.join(", "))
    };
    let (failed, failed_names) = names(&|verdict| verdict == Verdict::Failed.as_str());
    let (passed, _) = names(&|verdict| verdict == Verdict::Passed.as_str());
    let (open, open_names) =
        names(&|verdict| verdict != Verdict::Failed.as_str() && verdict != Verdict::Passed.as_str());
    let total = checks.len();
    let mut text = String::new();
    if failed > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, "{failed} of {total} checks failed: {failed_names}. ");
    }
    if open > 0 {
        let _ = write!(text, "{open} of {total} checks could not be judged: {open_names}. ");
    }
    let (class, title) = if total > 0 && passed == total {
        text = format!("All {total} checks are complete and within what the policy tolerates.");
        ("passed", "Passed")
    } else if open == 0 && failed > 0 {
        text.push_str("Nothing of this image is promoted.");
        ("rejected", "Rejected")
    } else {
        text.push_str("A check without a trustworthy result never opens the gate: nothing of this image is promoted.");
        ("unjudged", "Could not be judged")
    };
    Headline { class, title, text }
}

/// The steps before the promotion.
fn timeline(candidate: &ImageCandidate) -> Vec<Row> {
    let entries = candidate.status.iter().flat_map(|status| &status.timeline);
    let entries = entries.filter(|entry| entry.step != Step::Promoted);
    entries
        .map(|entry| Row {
            step: entry.step.as_str(),
            started: entry.started.0.to_string(),
            finished: entry
                .finished
                .as_ref()
                .map_or_else(String::new, |time| time.0.to_string()),
            took: entry.finished.as_ref().map_or_else(String::new, |time| {
                format!("{} s", time.0.duration_since(entry.started.0).as_secs())
            }),
        })
        .collect()
}
