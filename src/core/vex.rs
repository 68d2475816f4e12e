//! OpenVEX 0.2.0: statements that a vulnerability does not affect a product, read and written.
//!
//! Must not guess: a document of another version, an unknown status, or a `not_affected` without a reason is refused
//! whole, because half of somebody's exceptions is nobody's decision. Must not let a statement about another package
//! or image suppress a finding. Pure. Specification: <https://github.com/openvex/spec> (v0.2.0).

mod applied;

use super::{digest::Digest, purl::PackageUrl, report::Finding};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use applied::suppressions;

/// The context of the version that is read and written.
pub const CONTEXT: &str = "https://openvex.dev/ns/v0.2.0";

/// Largest document that is read, in bytes: that of a ConfigMap.
pub const MAX_DOCUMENT: usize = 1024 * 1024;

/// Most statements of one document, and most products of one statement.
pub const MAX_STATEMENTS: usize = 10_000;

/// What a statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The vulnerability does not affect the product.
    NotAffected,
    /// It does.
    Affected,
    /// The product contains the repair.
    Fixed,
    /// Nobody knows yet.
    UnderInvestigation,
}

impl Status {
    /// Whether a finding that it is about does not count.
    pub fn suppresses(self) -> bool {
        match self {
            Self::NotAffected | Self::Fixed => true,
            Self::Affected | Self::UnderInvestigation => false,
        }
    }
}

/// Why a product is not affected: the words of the specification, section "Status Justifications".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Justification {
    /// The component is not in the product.
    ComponentNotPresent,
    /// Its vulnerable part is not in the product.
    VulnerableCodeNotPresent,
    /// The vulnerable code is never executed.
    VulnerableCodeNotInExecutePath,
    /// An adversary cannot reach it.
    VulnerableCodeCannotBeControlledByAdversary,
    /// There are mitigations.
    InlineMitigationsAlreadyExist,
}

/// Why a document is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VexError {
    /// It is no OpenVEX document.
    #[error("expected an OpenVEX 0.2.0 document, found: {0}")]
    Malformed(String),
    /// It is larger than what is read.
    #[error("expected at most {limit} {what}, found {found}: split the document")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// It is of another version.
    #[error("expected the @context {CONTEXT}, found {0:?}")]
    Context(String),
    /// A statement breaks the specification.
    #[error("statement {number} ({vulnerability}): {why}")]
    Statement {
        /// Which one, from 1.
        number: usize,
        /// What it is about.
        vulnerability: String,
        /// What is missing.
        why: String,
    },
}

/// A document: who says what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    #[serde(rename = "@context")]
    context: String,
    #[serde(rename = "@id")]
    id: String,
    /// Who says it.
    pub author: String,
    timestamp: Timestamp,
    version: u32,
    /// What is said.
    pub statements: Vec<Statement>,
}

impl Document {
    /// Its own id, as its author wrote it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The vulnerability.
    pub vulnerability: Vulnerability,
    /// When it was said, where that differs from the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// What it is said about.
    pub products: Vec<Product>,
    /// What is said.
    pub status: Status,
    /// Why, in the specification's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<Justification>,
    /// Why, in the author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact_statement: Option<String>,
    /// What users shall do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_statement: Option<String>,
}

/// A vulnerability with its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vulnerability {
    /// Its main name.
    pub name: String,
    /// Its other names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// A product, and the part of it that the statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    #[serde(flatten)]
    component: Component,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subcomponents: Vec<Component>,
}

/// Something with a name: a package URL as `@id` or among its identifiers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Component {
    #[serde(rename = "@id", default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identifiers: Option<Identifiers>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Identifiers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
}

impl Component {
    fn purls(&self) -> impl Iterator<Item = PackageUrl> + '_ {
        let named = self
            .identifiers
            .as_ref()
            .and_then(|identifiers| identifiers.purl.as_ref());
        self.id.iter().chain(named).filter_map(|text| text.parse().ok())
    }

    fn is_image(&self, image: &Digest) -> bool {
        self.purls()
            .any(|purl| purl.kind == "oci" && purl.version.as_deref() == Some(image.as_str()))
    }

    fn is_package(&self, package: &PackageUrl) -> bool {
        self.purls().any(|purl| purl.covers(package))
    }
}

impl Product {
    /// About this package of this image: the package itself, or the image with the package as its part, or the whole
    /// image.
    fn covers(&self, image: &Digest, package: Option<&PackageUrl>) -> bool {
        let is_package = |component: &Component| package.is_some_and(|package| component.is_package(package));
        if self.component.is_image(image) {
            self.subcomponents.is_empty() || self.subcomponents.iter().any(is_package)
        } else {
            self.subcomponents.is_empty() && is_package(&self.component)
        }
    }
}

#[derive(Deserialize)]
struct Versioned {
    #[serde(rename = "@context", default)]
    context: String,
}

/// Reads a document.
pub fn parse(bytes: &[u8]) -> Result<Document, VexError> {
    at_most("bytes", MAX_DOCUMENT, bytes.len())?;
    let malformed = |error: serde_json::Error| VexError::Malformed(error.to_string());
    let versioned: Versioned = serde_json::from_slice(bytes).map_err(malformed)?;
    if versioned.context != CONTEXT {
        return Err(VexError::Context(versioned.context.chars().take(100).collect()));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(malformed)?;
    at_most("statements", MAX_STATEMENTS, document.statements.len())?;
    for (index, statement) in document.statements.iter().enumerate() {
        statement.complete().map_err(|why| VexError::Statement {
            number: index + 1,
            vulnerability: statement.vulnerability.name.chars().take(100).collect(),
            why,
        })?;
    }
    Ok(document)
}

fn at_most(what: &'static str, limit: usize, found: usize) -> Result<(), VexError> {
    if found > limit {
        return Err(VexError::TooLarge { what, limit, found });
    }
    Ok(())
}

impl Statement {
    /// What the specification demands of a statement.
    fn complete(&self) -> Result<(), String> {
        if self.vulnerability.name.is_empty() {
            return Err("expected the name of a vulnerability, found none".into());
        }
        if self.products.is_empty() || self.products.len() > MAX_STATEMENTS {
            return Err(format!(
                "expected 1 to {MAX_STATEMENTS} products, found {}",
                self.products.len()
            ));
        }
        let parts = self
            .products
            .iter()
            .flat_map(|product| std::iter::once(&product.component).chain(&product.subcomponents));
        for part in parts {
            let id = part.id.as_deref().unwrap_or_default();
            if part.purls().next().is_none() {
                return Err(format!(
                    "expected products named by package URLs, found {:?}",
                    id.chars().take(100).collect::<String>()
                ));
            }
        }
        let words = self
            .impact_statement
            .as_deref()
            .is_some_and(|words| !words.trim().is_empty());
        if self.status == Status::NotAffected && self.justification.is_none() && !words {
            return Err("expected a justification or an impact_statement with not_affected, found neither".into());
        }
        Ok(())
    }

    /// When it was said.
    pub fn said(&self, document: &Document) -> Timestamp {
        self.timestamp.unwrap_or(document.timestamp)
    }

    /// Whether it is about this finding in this image.
    fn is_about(&self, finding: &Finding, image: &Digest, package: Option<&PackageUrl>) -> bool {
        let names = std::iter::once(&self.vulnerability.name).chain(&self.vulnerability.aliases);
        let mut ids = names.filter(|name| **name == finding.id || finding.aliases.contains(name));
        ids.next().is_some() && self.products.iter().any(|product| product.covers(image, package))
    }

    /// The reason in one line.
    pub fn reason(&self) -> String {
        let justification = self.justification.and_then(|word| serde_json::to_value(word).ok());
        let word = justification.as_ref().and_then(serde_json::Value::as_str);
        match (word, &self.impact_statement) {
            (Some(word), Some(text)) => format!("{word}: {text}"),
            (Some(word), None) => word.to_owned(),
            (None, Some(text)) => text.clone(),
            (None, None) => match self.status {
                Status::Fixed => "fixed".to_owned(),
                Status::NotAffected | Status::Affected | Status::UnderInvestigation => String::new(),
            },
        }
    }
}

/// What the documents say last about a finding of an image: of several statements the youngest counts, and of equally
/// old ones the one that suppresses nothing.
pub fn latest<'a>(
    documents: &'a [Document],
    finding: &Finding,
    image: &Digest,
) -> Option<(&'a Document, &'a Statement)> {
    let package: Option<PackageUrl> = finding.package.as_deref().and_then(|text| text.parse().ok());
    documents
        .iter()
        .flat_map(|document| document.statements.iter().map(move |statement| (document, statement)))
        .filter(|(_, statement)| statement.is_about(finding, image, package.as_ref()))
        .max_by_key(|(document, statement)| (statement.said(document), !statement.status.suppresses()))
}

/// The statement that makes a finding not count, if there is one.
pub fn suppression<'a>(
    documents: &'a [Document],
    finding: &Finding,
    image: &Digest,
) -> Option<(&'a Document, &'a Statement)> {
    latest(documents, finding, image).filter(|(_, statement)| statement.status.suppresses())
}

/// An exception of ours for others to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The vulnerability.
    pub vulnerability: String,
    /// The package, as in [`Finding::package`]; `None` for the whole image.
    pub package: Option<String>,
    /// What is said: `not_affected` and `fixed` for what a statement of others says, `affected` for a risk that somebody
    /// took, because a waiver makes nothing harmless.
    pub status: Status,
    /// Why it does not count.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Writes exceptions of an image as OpenVEX. The same input gives the same bytes.
pub fn write(image: &Digest, author: &str, now: Timestamp, exceptions: &[Exception]) -> Document {
    let part = |purl: String| Component {
        id: Some(purl),
        identifiers: None,
    };
    let statements = exceptions
        .iter()
        .map(|exception| Statement {
            vulnerability: Vulnerability {
                name: exception.vulnerability.clone(),
                aliases: Vec::new(),
            },
            timestamp: Some(exception.since),
            products: vec![Product {
                component: part(format!("pkg:oci/image@{}", image.as_str().replace(':', "%3A"))),
                subcomponents: exception.package.iter().cloned().map(part).collect(),
            }],
            status: exception.status,
            justification: None,
            // The specification has a field for each: why it does no harm, and what is done about one that does.
            impact_statement: (exception.status == Status::NotAffected).then(|| exception.reason.clone()),
            action_statement: (exception.status == Status::Affected).then(|| exception.reason.clone()),
        })
        .collect();
    Document {
        context: CONTEXT.to_owned(),
        id: format!("urn:repave:vex:{}", image.hex()),
        author: author.to_owned(),
        timestamp: now,
        version: 1,
        statements,
    }
}

#[cfg(test)]
mod tests;
