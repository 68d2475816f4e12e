//! The list of packages (CycloneDX JSON) that a scan starts from: what it is about, and how much is in it.
//!
//! Must not take an empty or foreign list for an image without vulnerabilities. Pure.

use super::ReadError;
use repave_core::{digest::Digest, purl::PackageUrl};
use serde::Deserialize;

/// Most bytes of a list that is read.
pub const MAX_SBOM: u64 = 64 * 1024 * 1024;

/// File name of the list among a report's attachments.
pub const NAME: &str = "sbom.cdx.json";

/// Its media type.
pub const MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

/// The property in which Trivy names the image: the digest of its configuration.
const IMAGE_ID: &str = "aquasecurity:trivy:ImageID";

/// What a list of packages says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The tools that wrote it, with their versions.
    pub tools: Vec<(String, String)>,
    /// The manifest digest of the image, where the writer says so (Syft).
    pub manifest: Option<Digest>,
    /// The digest of the image's configuration, where the writer says so (Trivy).
    pub config: Option<Digest>,
    /// Name and version of the operating system.
    pub os: Option<(String, String)>,
    /// Packages of the operating system.
    pub os_packages: u64,
    /// Packages of languages.
    pub language_packages: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    bom_format: String,
    metadata: Metadata,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Metadata {
    component: Subject,
    tools: Tools,
}

#[derive(Deserialize)]
struct Tools {
    components: Vec<Writer>,
}

#[derive(Deserialize)]
struct Writer {
    name: String,
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    version: String,
    #[serde(default)]
    properties: Vec<Property>,
}

#[derive(Deserialize)]
struct Property {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    purl: Option<String>,
}

/// Reads the list that `tool` wrote or shall read.
pub fn read(bytes: &[u8], tool: &'static str) -> Result<Inventory, ReadError> {
    let document: Document = super::scanner::parse(bytes, MAX_SBOM, tool, "list of packages (CycloneDX)")?;
    if document.bom_format != "CycloneDX" {
        return Err(ReadError::Untrusted {
            tool,
            why: format!(
                "expected a list of packages in CycloneDX, found {:?}",
                document.bom_format
            ),
        });
    }
    let subject = document.metadata.component;
    let config = subject.properties.iter().find(|property| property.name == IMAGE_ID);
    let mut inventory = Inventory {
        tools: document
            .metadata
            .tools
            .components
            .into_iter()
            .map(|writer| (writer.name, writer.version))
            .collect(),
        manifest: subject.version.parse().ok(),
        config: config.and_then(|property| property.value.parse().ok()),
        os: None,
        os_packages: 0,
        language_packages: 0,
    };
    for component in document.components {
        if component.kind == "operating-system" {
            inventory.os.get_or_insert((component.name, component.version));
        } else if let Some(purl) = component.purl {
            let package: PackageUrl = purl.parse().map_err(|error| ReadError::Malformed {
                tool,
                why: format!("in its list of packages: {error}"),
            })?;
            if package.is_os_package() {
                inventory.os_packages += 1;
            } else {
                inventory.language_packages += 1;
            }
        }
    }
    Ok(inventory)
}

impl Inventory {
    /// How many packages there are.
    pub fn packages(&self) -> u64 {
        self.os_packages + self.language_packages
    }

    /// Whether it can be scanned: an image without packages is one that a scanner has nothing to say about, packages
    /// without their distribution match nothing, and a distribution without packages was not read.
    pub fn scannable(&self, minimum: u64, tool: &'static str) -> Result<(), ReadError> {
        let untrusted = |why| Err(ReadError::Untrusted { tool, why });
        let unsupported = |why: &str| {
            Err(ReadError::Unsupported {
                tool,
                why: why.to_owned(),
            })
        };
        match (&self.os, self.os_packages, self.language_packages) {
            (None, 0, 0) => unsupported("it has no package and no known distribution: there is nothing to scan"),
            (None, 0, _) => {
                unsupported("it has packages of languages only and no known distribution: is /etc/os-release missing?")
            }
            (None, os, _) => untrusted(format!(
                "expected the distribution of {os} packages, found none: without /etc/os-release they match nothing"
            )),
            (Some((name, version)), 0, _) => untrusted(format!(
                "expected packages of {name} {version}, found none: an image without a readable package database cannot be scanned"
            )),
            (Some(_), _, _) if self.packages() < minimum.max(1) => untrusted(format!(
                "expected at least {minimum} packages, found {}",
                self.packages()
            )),
            (Some(_), _, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
