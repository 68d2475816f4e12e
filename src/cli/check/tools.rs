//! Where the scanners and their databases are on this machine. Looks only; must not start or fetch anything.

use anyhow::{Context as _, ensure};
use repave_checks::scanner::Scanner;
use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// The folders with programs, in order.
    folders: Vec<PathBuf>,
    /// What the folders are called in messages.
    named: String,
    /// The folders with databases that a person named; the scanners' own caches where there is none.
    databases: Vec<PathBuf>,
}

/// What a scan needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The folders with its programs, written as PATH is.
    pub programs: OsString,
    /// The folder with its database.
    pub database: PathBuf,
}

impl Tools {
    /// The programs of this folder only, or of the folders of PATH; the databases of these folders.
    pub fn new(folder: Option<&Path>, databases: &[PathBuf]) -> anyhow::Result<Self> {
        let databases: anyhow::Result<Vec<PathBuf>> = databases.iter().map(|path| named(path, "--database")).collect();
        let databases = databases?;
        if let Some(path) = folder {
            let folder = named(path, "--scanner-path")?;
            let named = format!("in the folder {}", path.display());
            let folders = vec![folder];
            return Ok(Self {
                folders,
                named,
                databases,
            });
        }
        let path = env::var_os("PATH").unwrap_or_default();
        // A tool runs in another folder, so a relative entry would mean another one to it.
        let folders = env::split_paths(&path).filter_map(|folder| fs::canonicalize(folder).ok());
        Ok(Self {
            folders: folders.collect(),
            named: "in PATH".to_owned(),
            databases,
        })
    }

    /// The scanner's programs and database; otherwise what is missing and what to do.
    pub fn find(&self, scanner: Scanner) -> Result<Found, String> {
        let mut needed = vec![scanner.program()];
        needed.extend(Some(scanner.lister()).filter(|lister| *lister != scanner.program()));
        let has = |folder: &Path, name: &str| is_program(&folder.join(name));
        let missing: Vec<&str> = needed
            .iter()
            .copied()
            .filter(|name| !self.folders.iter().any(|folder| has(folder, name)))
            .collect();
        if !missing.is_empty() {
            return Err(format!(
                "needs {}: {} not found {}; install it, or name the folder with --scanner-path",
                needed.join(" and "),
                missing.join(" and "),
                self.named
            ));
        }
        let folders = self.folders.iter();
        let with_one = folders.filter(|folder| needed.iter().any(|name| has(folder, name)));
        let programs = env::join_paths(with_one).map_err(|error| format!("the scanner's folder: {error}"))?;
        let database = self.database(scanner)?;
        Ok(Found { programs, database })
    }

    fn database(&self, scanner: Scanner) -> Result<PathBuf, String> {
        let own = if self.databases.is_empty() {
            cache(scanner)
        } else {
            None
        };
        let folders = self.databases.iter().chain(&own);
        let found = folders
            .filter(|folder| folder.join(scanner.database_file()).is_file())
            .find_map(|folder| fs::canonicalize(folder).ok());
        let (fetch, file) = (fetch(scanner), scanner.database_file());
        found.ok_or_else(|| {
            format!("needs a vulnerability database: run `{fetch}`, or name the folder that has {file} with --database")
        })
    }
}

/// A folder that a person named is there.
fn named(path: &Path, option: &str) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    ensure!(path.is_dir(), "{option} {shown}: expected a folder, found none");
    fs::canonicalize(path).with_context(|| format!("{option} {shown}"))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn fetch(scanner: Scanner) -> &'static str {
    match scanner {
        Scanner::Grype => "grype db update",
        Scanner::Trivy => "trivy image --download-db-only",
    }
}

/// Where a scanner keeps its database unless told otherwise.
fn cache(scanner: Scanner) -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let (own, below) = match scanner {
        Scanner::Grype => ("GRYPE_DB_CACHE_DIR", "grype/db"),
        Scanner::Trivy => ("TRIVY_CACHE_DIR", "trivy"),
    };
    let shared = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    variable(own).or_else(|| Some(shared()?.join(below)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("db/6")).unwrap();
        let tools = Tools::new(Some(folder.path()), &[at("db")]).unwrap();
        let refused = |scanner| tools.find(scanner).unwrap_err();
        let none = refused(Scanner::Grype);
        assert!(
            none.starts_with("needs grype and syft: grype and syft not found in the folder "),
            "{none}"
        );
        program(&at("grype"), 0o755);
        program(&at("syft"), 0o644);
        let one = refused(Scanner::Grype);
        assert!(
            one.starts_with("needs grype and syft: syft not found in the folder "),
            "{one}"
        );
        assert!(refused(Scanner::Trivy).starts_with("needs trivy: trivy not found"));
        program(&at("syft"), 0o755);
        assert!(refused(Scanner::Grype).contains("grype db update"));
        fs::write(at("db/6/vulnerability.db"), "").unwrap();
        let found = tools.find(Scanner::Grype).unwrap();
        assert_eq!(found.database, fs::canonicalize(at("db")).unwrap());
        program(&at("trivy"), 0o755);
        assert!(refused(Scanner::Trivy).contains("db/metadata.json"));
    }

    #[test]
    fn programs_may_be_in_different_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        program(&root.join("a/grype"), 0o755);
        program(&root.join("c/syft"), 0o755);
        fs::create_dir_all(root.join("b")).unwrap();
        fs::create_dir_all(root.join("db/6")).unwrap();
        fs::write(root.join("db/6/vulnerability.db"), "").unwrap();
        let tools = Tools {
            folders: ["a", "b", "c"].map(|name| root.join(name)).into(),
            named: "in PATH".into(),
            databases: vec![root.join("db")],
        };
        let programs = tools.find(Scanner::Grype).unwrap().programs;
        assert_eq!(programs, env::join_paths([root.join("a"), root.join("c")]).unwrap());
    }

    #[test]
    fn a_folder_that_is_not_there_is_wrong_usage() {
        let error = Tools::new(Some(Path::new("/no/such/folder")), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--scanner-path /no/such/folder: expected a folder"),
            "{error}"
        );
    }
}
