//! Which data stream fits a candidate, by its `os-release`; and whether a prefix scan can see the candidate at all.
//!
//! Everything in the candidate's root is hostile: links are resolved here, component by component, and never by the
//! kernel, because an absolute link in an image leads into the scanner's own files. An OS without content is
//! unsupported, never "all rules not applicable".

use super::TOOL;
use crate::ReadError;
use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

/// Where Debian's and Red Hat's packages install the data streams.
pub const DIRECTORY: &str = "/usr/share/xml/scap/ssg/content";

const MAX_OS_RELEASE: u64 = 64 * 1024;
const MAX_LINKS: usize = 16;
const MAX_ENTRIES: usize = 20_000;

/// The content that fits an OS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The data stream's file name.
    pub file: String,
    /// The platform that OpenSCAP must have recognised.
    pub platform: String,
}

/// The OS of the candidate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsRelease {
    /// `ID`.
    pub id: String,
    /// `VERSION_ID`.
    pub version: String,
}

impl OsRelease {
    /// Parses the text of an `os-release` file: `KEY=value`, optionally quoted; the last assignment counts.
    pub fn parse(text: &str) -> Self {
        let fields: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .map(|(key, value)| (key, value.trim().trim_matches(['"', '\''])))
            .collect();
        let field = |key| fields.get(key).copied().unwrap_or_default().to_owned();
        Self {
            id: field("ID"),
            version: field("VERSION_ID"),
        }
    }

    fn major(&self) -> &str {
        self.version.split('.').next().unwrap_or_default()
    }

    /// The content for this OS, if the SCAP Security Guide has any.
    pub fn content(&self) -> Option<Content> {
        let major = self.major();
        let (file, platform) = match (self.id.as_str(), major, self.version.as_str()) {
            ("debian", "11" | "12" | "13", _) => {
                (format!("debian{major}"), format!("cpe:/o:debian:debian_linux:{major}"))
            }
            ("ubuntu", _, version @ ("22.04" | "24.04")) => (
                format!("ubuntu{}", version.replace('.', "")),
                format!("cpe:/o:canonical:ubuntu_linux:{version}"),
            ),
            // UBI has no stream of its own: its os-release says rhel.
            ("rhel", "8" | "9" | "10", _) => (
                format!("rhel{major}"),
                format!("cpe:/o:redhat:enterprise_linux:{major}"),
            ),
            ("almalinux", "9", _) => ("almalinux9".into(), "cpe:/o:almalinux:almalinux:9".into()),
            ("ol", "8" | "9" | "10", _) => (format!("ol{major}"), format!("cpe:/o:oracle:linux:{major}")),
            ("amzn", "2023", _) => ("al2023".into(), "cpe:/o:amazon:amazon_linux:2023".into()),
            ("hummingbird", _, _) => ("hummingbird".into(), "cpe:/a:redhat:hummingbird".into()),
            _ => return None,
        };
        Some(Content {
            file: format!("ssg-{file}-ds.xml"),
            platform,
        })
    }
}

/// Reads the candidate's `os-release` and finds the content for it.
pub fn of(root: &Path) -> Result<Content, ReadError> {
    let unsupported = |why| ReadError::Unsupported { tool: TOOL, why };
    let file = ["etc/os-release", "usr/lib/os-release"]
        .into_iter()
        .find_map(|path| resolve(root, Path::new(path)).filter(|path| path.is_file()))
        .ok_or_else(|| unsupported("it has no os-release file".into()))?;
    let mut text = Vec::new();
    fs::File::open(&file)
        .and_then(|file| file.take(MAX_OS_RELEASE).read_to_end(&mut text))
        .map_err(|error| unsupported(format!("its os-release cannot be read: {error}")))?;
    let os = OsRelease::parse(&String::from_utf8_lossy(&text));
    os.content().ok_or_else(|| {
        let name: String = format!("{} {}", os.id, os.version).chars().take(100).collect();
        unsupported(format!("there is no benchmark content for {name:?}"))
    })
}

/// The path of `path` inside `root` with every link resolved inside `root`; none when it does not exist.
pub fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut todo: Vec<PathBuf> = reversed(path);
    let mut inside = PathBuf::new();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part.as_os_str() == ".." {
            inside.pop();
            continue;
        }
        let next = inside.join(&part);
        let meta = fs::symlink_metadata(root.join(&next)).ok()?;
        if !meta.is_symlink() {
            inside = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        let target = fs::read_link(root.join(&next)).ok()?;
        if target.is_absolute() {
            inside = PathBuf::new();
        }
        todo.extend(reversed(&target));
    }
    Some(root.join(inside))
}

/// The parts of a path, last first, without its root and its dots.
fn reversed(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

/// Folders whose files are read by rules.
const READ_BY_RULES: &[&str] = &[
    "etc",
    "etc/pam.d",
    "etc/security",
    "etc/ssh",
    "etc/profile.d",
    "etc/default",
    "etc/skel",
    "etc/sudoers.d",
];

/// Absolute links there that every distribution ships and no rule reads through.
const HARMLESS: &[&str] = &[
    "etc/localtime",
    "etc/mtab",
    "etc/rmt",
    "etc/resolv.conf",
    "etc/hostname",
    "etc/hosts",
];

/// Refuses a root in which a rule would read a file of the scanner instead of one of the candidate.
pub fn refuse_escaping_links(root: &Path) -> Result<(), ReadError> {
    let untrusted = |why| ReadError::Untrusted { tool: TOOL, why };
    if !fs::symlink_metadata(root.join("etc")).is_ok_and(|meta| meta.is_dir()) {
        return Err(untrusted(format!(
            "expected a root with a folder etc at {}, found none",
            root.display()
        )));
    }
    let mut seen = 0;
    for folder in READ_BY_RULES {
        let Ok(meta) = fs::symlink_metadata(root.join(folder)) else {
            continue;
        };
        let entries = if meta.is_dir() {
            fs::read_dir(root.join(folder))
        } else {
            continue;
        };
        let entries = entries.map_err(|error| untrusted(format!("/{folder} cannot be listed: {error}")))?;
        for entry in entries {
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(untrusted(format!(
                    "more than {MAX_ENTRIES} files in the folders that rules read"
                )));
            }
            let entry = entry.map_err(|error| untrusted(format!("/{folder} cannot be listed: {error}")))?;
            let path = Path::new(folder).join(entry.file_name());
            refuse_unreadable(root, &path)?;
            if escapes(root, &path) && !HARMLESS.iter().any(|harmless| path == Path::new(harmless)) {
                return Err(untrusted(format!(
                    "/{} is an absolute link: OpenSCAP would follow it out of the image; make it relative",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}

/// Refuses a file that a rule would read and that this process may not: to the rule it would be empty or absent.
fn refuse_unreadable(root: &Path, path: &Path) -> Result<(), ReadError> {
    let full = root.join(path);
    if !fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_file()) {
        return Ok(());
    }
    match fs::File::open(&full) {
        Ok(_) => Ok(()),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ReadError {
    ReadError::Unsupported {
        tool: TOOL,
        why: format!(
            "/{} cannot be read ({error}), and a rule would take it for empty: the check needs root with CAP_DAC_OVERRIDE",
            path.display()
        ),
    }
}

/// Whether following this link with plain path rules leaves the root.
fn escapes(root: &Path, path: &Path) -> bool {
    let Ok(target) = fs::read_link(root.join(path)) else {
        return false;
    };
    let mut depth = path.components().count() - 1;
    for part in target.components() {
        match part {
            Component::RootDir | Component::Prefix(_) => return true,
            Component::CurDir => {}
            Component::Normal(_) => depth += 1,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return true,
            },
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_content_follows_the_os_and_an_unknown_os_has_none() {
        for (text, file, platform) in [
            (
                "ID=debian\nVERSION_ID=\"12\"\n",
                "ssg-debian12-ds.xml",
                "cpe:/o:debian:debian_linux:12",
            ),
            (
                "ID=\"rhel\"\nVERSION_ID=\"9.4\"",
                "ssg-rhel9-ds.xml",
                "cpe:/o:redhat:enterprise_linux:9",
            ),
            (
                "VERSION_ID='24.04'\nID=ubuntu",
                "ssg-ubuntu2404-ds.xml",
                "cpe:/o:canonical:ubuntu_linux:24.04",
            ),
        ] {
            let content = OsRelease::parse(text).content().unwrap();
            assert_eq!((content.file.as_str(), content.platform.as_str()), (file, platform));
        }
        for text in [
            "",
            "ID=alpine\nVERSION_ID=3.20",
            "ID=rocky\nVERSION_ID=9.4",
            "ID=debian\nVERSION_ID=../../x",
            "ID=debian",
        ] {
            assert_eq!(OsRelease::parse(text).content(), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_or_missing_os_is_unsupported() {
        let unknown = root(&[("etc/os-release", "ID=alpine\nVERSION_ID=3.20\n")]);
        for root in [unknown.path(), Path::new("/nonexistent")] {
            assert!(matches!(of(root), Err(ReadError::Unsupported { .. })));
        }
    }

    #[test]
    fn os_release_is_read_through_links_that_stay_inside_whatever_they_say() {
        let root = root(&[("usr/lib/os-release", "ID=debian\nVERSION_ID=12\n"), ("etc/x", "")]);
        for target in [
            "../usr/lib/os-release",
            "/usr/lib/os-release",
            "../../../../usr/lib/os-release",
        ] {
            let link = root.path().join("etc/os-release");
            symlink(target, &link).unwrap();
            assert_eq!(of(root.path()).unwrap().file, "ssg-debian12-ds.xml");
            fs::remove_file(link).unwrap();
        }
        // A loop ends, and the second place is tried.
        symlink("os-release", root.path().join("etc/os-release")).unwrap();
        assert_eq!(of(root.path()).unwrap().file, "ssg-debian12-ds.xml");
    }

    #[test]
    fn a_root_whose_rules_would_read_the_scanner_is_refused() {
        let files = [("etc/passwd", ""), ("etc/pam.d/su", ""), ("usr/share/zoneinfo/UTC", "")];
        let root = root(&files);
        symlink("/usr/share/zoneinfo/UTC", root.path().join("etc/localtime")).unwrap();
        symlink("../usr/share/zoneinfo/UTC", root.path().join("etc/zone")).unwrap();
        refuse_escaping_links(root.path()).unwrap();
        for (link, target) in [
            ("etc/profile", "/etc/profile"),
            ("etc/pam.d/login", "../../../etc/shadow"),
        ] {
            let link = root.path().join(link);
            symlink(target, &link).unwrap();
            assert!(
                refuse_escaping_links(root.path())
                    .unwrap_err()
                    .to_string()
                    .contains("absolute link")
            );
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_is_unsupported() {
        // Root reads everything, so the refusal itself is looked at.
        let root = root(&[("etc/passwd", "")]);
        refuse_unreadable(root.path(), Path::new("etc/passwd")).unwrap();
        let error = unreadable(Path::new("etc/shadow"), &std::io::ErrorKind::PermissionDenied.into());
        assert!(matches!(error, ReadError::Unsupported { .. }));
        assert!(
            error
                .to_string()
                .contains("/etc/shadow cannot be read (permission denied)"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_root_is_refused() {
        assert!(matches!(
            refuse_escaping_links(Path::new("/nonexistent")),
            Err(ReadError::Untrusted { .. })
        ));
    }
}
