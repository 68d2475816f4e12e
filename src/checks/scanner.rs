//! The vulnerability scanners behind one interface: list the packages, judge the list, read the result.
//!
//! A scan always starts from the list (see `sbom`), so that one that is kept gives the same result with a later
//! database and without the image. Each scanner gets its list from the program that knows what it needs: Grype from
//! Syft, Trivy from Trivy, because Trivy reads no source package from a list of Syft's and then misses what is known
//! of `openssl` for `libssl3`. Must not take an exit code for a verdict. Pure.

pub use super::scan::{END_OF_LIFE, Files, MAX_OUTPUT};
use super::{Invocation, Parsed, ReadError, grype, sbom::Inventory, trivy};
use repave_core::{
    digest::Digest,
    tool::{Database, ToolName},
};
use serde::Deserialize;
use std::{io::Read, path::Path};

/// A vulnerability scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scanner {
    /// Anchore Grype, over a list by Syft.
    Grype,
    /// Aqua Trivy, over a list of its own.
    Trivy,
}

/// What the policy may set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Fewer packages than this are an error.
    pub min_packages: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { min_packages: 1 }
    }
}

impl Scanner {
    /// The scanner whose database this is.
    pub fn of(database: Database) -> Self {
        match database {
            Database::Grype => Self::Grype,
            Database::Trivy => Self::Trivy,
        }
    }

    /// Its name in reports.
    pub fn tool(self) -> ToolName {
        match self {
            Self::Grype => ToolName::Grype,
            Self::Trivy => ToolName::Trivy,
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grype => "Grype",
            Self::Trivy => "Trivy",
        }
    }

    /// Its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Grype => "grype",
            Self::Trivy => "trivy",
        }
    }

    /// The program that lists packages for it.
    pub fn lister(self) -> &'static str {
        match self {
            Self::Grype => "syft",
            Self::Trivy => "trivy",
        }
    }

    /// Where a tools image may bring its database along, when none is mounted.
    pub fn own_database(self) -> &'static str {
        match self {
            Self::Grype => "/var/lib/grype/db",
            Self::Trivy => "/var/lib/trivy",
        }
    }

    /// The database's file, below its folder; a folder without it is no database.
    pub fn database_file(self) -> &'static str {
        match self {
            Self::Grype => "6/vulnerability.db",
            Self::Trivy => trivy::METADATA,
        }
    }

    /// How the packages of an OCI layout are listed.
    pub fn list(self, layout: &Path, sbom: &Path, home: &Path) -> Invocation {
        match self {
            Self::Grype => grype::list(layout, sbom, home),
            Self::Trivy => trivy::list(layout, sbom, home),
        }
    }

    /// How a list is judged: offline, with exactly this database.
    pub fn scan(self, files: &Files<'_>) -> Invocation {
        match self {
            Self::Grype => grype::scan(files),
            Self::Trivy => trivy::scan(files),
        }
    }

    /// Reads the result while it comes, keeping the findings only. `database` is the content of
    /// [`Scanner::database_file`] where that is a text (Trivy).
    pub fn read(
        self,
        json: impl Read,
        inventory: &Inventory,
        image: &Digest,
        database: &[u8],
    ) -> Result<Parsed, ReadError> {
        match self {
            Self::Grype => grype::read(json, inventory, image),
            Self::Trivy => trivy::read(json, inventory, database),
        }
    }
}
