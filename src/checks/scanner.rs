//! The vulnerability scanners behind one interface: list the packages, judge the list, read the result.
//!
//! A scan always starts from the list (see `sbom`), so that one that is kept gives the same result with a later
//! database and without the image. Each scanner gets its list from the program that knows what it needs: Grype from
//! Syft, Trivy from Trivy, because Trivy reads no source package from a list of Syft's and then misses what is known
//! of `openssl` for `libssl3`. Must not take an exit code for a verdict. Pure.

use super::{Invocation, PATH, Parsed, ReadError, grype, sbom::Inventory, trivy};
use repave_core::{
    digest::Digest,
    report::{EPSS_CERTAIN, Finding, Severity, ToolName},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, SeqAccess, Visitor},
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    io::{BufReader, Read},
    marker::PhantomData,
    path::Path,
};

/// Most of a scanner's result that is read.
pub const MAX_OUTPUT: u64 = 64 * 1024 * 1024;

/// The same from a stream, of which no more is in memory than the parser keeps.
pub(super) fn parse_stream<T: DeserializeOwned>(
    json: impl Read,
    limit: u64,
    tool: &'static str,
    what: &'static str,
) -> Result<T, ReadError> {
    // One byte more than is allowed: reaching it is what tells "too large" from "just fits".
    let mut limited = BufReader::with_capacity(64 * 1024, json.take(limit + 1));
    let parsed = serde_json::from_reader(&mut limited);
    if limited.get_ref().limit() == 0 {
        return Err(ReadError::TooLarge { tool, what, limit });
    }
    parsed.map_err(|error| ReadError::Malformed {
        tool,
        why: format!("expected its {what}, found: {error}"),
    })
}

/// The finding of an operating system that gets no security updates any more.
pub const END_OF_LIFE: &str = "os.end-of-life";

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

/// The files of one scan.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The list of packages.
    pub sbom: &'a Path,
    /// Where the result goes.
    pub json: &'a Path,
    /// A folder that may be written to.
    pub home: &'a Path,
    /// The folder with the database.
    pub database: &'a Path,
}

impl Scanner {
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

/// A call with an environment in which nothing of the image's or the tool image's settings is found.
pub(super) fn call(program: &str, args: Vec<OsString>, home: &Path, own: &[(&str, OsString)]) -> Invocation {
    let common: [(&str, OsString); 4] = [
        ("PATH", PATH.into()),
        ("HOME", home.into()),
        ("TMPDIR", home.into()),
        ("XDG_CACHE_HOME", home.join(".cache").into()),
    ];
    Invocation {
        program: program.into(),
        args,
        env: common
            .iter()
            .chain(own)
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    }
}

/// `prefix` and a path as one argument.
pub(super) fn joined(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}

/// One whole JSON document within a bound.
pub(super) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    limit: u64,
    tool: &'static str,
    what: &'static str,
) -> Result<T, ReadError> {
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { tool, what, limit });
    }
    serde_json::from_slice(bytes).map_err(|error| ReadError::Malformed {
        tool,
        why: format!("expected its {what}, found: {error}"),
    })
}

/// The finding of an operating system that gets no security updates any more.
pub(super) fn end_of_life(name: &str, version: &str, detail: &str) -> Finding {
    Finding {
        id: END_OF_LIFE.into(),
        severity: Severity::High,
        title: format!("{name} {version} gets no security updates any more{detail}"),
        subject: Some(format!("{name} {version}")),
        remedy: Some("move to a supported release".into()),
        ..Finding::default()
    }
}

/// A probability in hundredths of a percent; what is no probability is left out.
pub(super) fn hundredths(probability: f64) -> Option<u16> {
    let scaled = (probability * f64::from(EPSS_CERTAIN)).round();
    // The range is checked, so nothing is cut.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..=f64::from(EPSS_CERTAIN))
        .contains(&scaled)
        .then_some(scaled as u16)
}

/// A list of which each item is taken in while it is read: a scan's result repeats everything for every match, and as
/// a whole it takes many times what is kept of it.
pub(super) trait Gathered: Default {
    /// One item as it is written.
    type Item: DeserializeOwned;
    /// Keeps of it what is needed.
    fn take(&mut self, item: Self::Item);
}

/// Reads a list into a [`Gathered`]; for `#[serde(deserialize_with)]`.
pub(super) fn gathered<'de, G: Gathered, D: Deserializer<'de>>(deserializer: D) -> Result<G, D::Error> {
    struct Items<G>(PhantomData<G>);

    impl<'de, G: Gathered> Visitor<'de> for Items<G> {
        type Value = G;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<G, A::Error> {
            let mut gathered = G::default();
            while let Some(item) = list.next_element()? {
                gathered.take(item);
            }
            Ok(gathered)
        }
    }
    deserializer.deserialize_seq(Items(PhantomData))
}

/// One finding per vulnerability and package: the worst of its matches, with what any of them knows.
#[derive(Default)]
pub(super) struct Worst(BTreeMap<(String, String), Finding>);

impl Worst {
    pub(super) fn add(&mut self, finding: Finding) {
        let key = (finding.id.clone(), finding.subject.clone().unwrap_or_default());
        match self.0.get_mut(&key) {
            Some(known) => {
                known.known_exploited |= finding.known_exploited;
                known.epss = known.epss.max(finding.epss);
                if known.severity < finding.severity {
                    let (exploited, epss) = (known.known_exploited, known.epss);
                    *known = finding;
                    (known.known_exploited, known.epss) = (exploited, epss);
                }
            }
            None => {
                self.0.insert(key, finding);
            }
        }
    }

    pub(super) fn into_findings(self) -> impl Iterator<Item = Finding> {
        self.0.into_values()
    }
}
