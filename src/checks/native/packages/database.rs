//! The names of the installed packages, read straight from the database of dpkg, rpm or apk.
//!
//! No package manager is asked: distroless images have none, and a candidate's own could lie. A database that cannot be
//! read whole is an error, because half of a list makes "not installed" true.

use super::super::error::LayerFault;
use super::super::tree::Tree;
use super::super::tree_read::text;
use super::{bdb, ndb, rpm_header, sqlite};
use std::collections::BTreeSet;

type Result<T> = std::result::Result<T, LayerFault>;
type Headers = fn(&[u8], &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

/// Most packages of an image; Debian has about 65 000 in all.
const MAX_PACKAGES: usize = 100_000;

/// dpkg's list, and the directory where distroless images keep one file a package.
pub(in super::super) const DPKG: &str = "/var/lib/dpkg/status";
pub(in super::super) const DPKG_PARTS: &str = "/var/lib/dpkg/status.d";

/// apk's list, before and after the merge of `/usr`.
pub(in super::super) const APK: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// rpm's directories. What lies there besides the database is an index or a lock.
pub(in super::super) const RPM_DIRS: [&str; 3] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm"];
pub(in super::super) const RPM_FILES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];

/// Whether a rule may want this file whole, although it is larger than a configuration file.
pub(in super::super) fn is_database(path: &[u8]) -> bool {
    let in_rpm = |dir: &&str| {
        let name = path
            .strip_prefix(dir.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"/"));
        name.is_some_and(|name| RPM_FILES.iter().any(|file| file.as_bytes() == name))
    };
    path == DPKG.as_bytes() || APK.iter().any(|apk| apk.as_bytes() == path) || RPM_DIRS.iter().any(in_rpm)
}

/// The installed packages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Installed {
    /// Where they were read.
    pub databases: Vec<String>,
    pub names: BTreeSet<Vec<u8>>,
}

/// Reads all package databases of the image; `None` if it has none.
pub(in super::super) fn installed(tree: &Tree) -> Result<Option<Installed>> {
    let mut installed = Installed::default();
    if let Some(status) = text(tree, DPKG.as_bytes())? {
        installed.databases.push(DPKG.to_owned());
        dpkg(status, &mut installed.names);
    }
    for name in tree.list(DPKG_PARTS.as_bytes())? {
        let path = [DPKG_PARTS.as_bytes(), b"/", &name].concat();
        // The checksums that distroless puts beside each package.
        let is_sums = name.ends_with(b".md5sums");
        if let Some(status) = text(tree, &path)?.filter(|_| !is_sums) {
            installed.databases.push(String::from_utf8_lossy(&path).into_owned());
            dpkg(status, &mut installed.names);
        }
    }
    for path in APK {
        if let Some(list) = text(tree, path.as_bytes())? {
            installed.databases.push(path.to_owned());
            let names = list.split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(b"P:"));
            installed.names.extend(names.map(|name| name.trim_ascii().to_vec()));
        }
    }
    rpm(tree, &mut installed)?;
    if installed.names.len() > MAX_PACKAGES {
        return Err(LayerFault::limit("installed packages", MAX_PACKAGES as u64));
    }
    Ok((!installed.databases.is_empty()).then_some(installed))
}

/// Stanzas of dpkg's status: what is only configured or half removed is not installed.
fn dpkg(status: &[u8], names: &mut BTreeSet<Vec<u8>>) {
    let (mut name, mut gone) = (None, false);
    let end = std::iter::once(&b""[..]);
    for line in status.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end).chain(end) {
        if line.is_empty() {
            if let Some(name) = name.take().filter(|_| !gone) {
                names.insert(name);
            }
            gone = false;
        } else if let Some(value) = line.strip_prefix(b"Package:") {
            name = Some(value.trim_ascii().to_vec());
        } else if let Some(state) = line.strip_prefix(b"Status:") {
            let last = state.trim_ascii().rsplit(|b| *b == b' ').next();
            gone = last.is_some_and(|last| matches!(last, b"not-installed" | b"config-files"));
        }
    }
}

fn rpm(tree: &Tree, installed: &mut Installed) -> Result<()> {
    let mut seen = BTreeSet::new();
    for dir in RPM_DIRS {
        for file in RPM_FILES {
            let path = format!("{dir}/{file}");
            // One directory is often a link to another.
            let Some(id) = tree.resolve(path.as_bytes(), true)?.filter(|id| seen.insert(*id)) else {
                continue;
            };
            // A log that is not yet part of the database may add or remove packages.
            let log = tree.resolve(format!("{path}-wal").as_bytes(), true)?;
            if log.is_some_and(|log| tree.inode(log).size > 0) {
                return Err(LayerFault::Malformed(format!(
                    "expected a closed RPM database, found {path}-wal with data; end the build with `rpm --rebuilddb`"
                )));
            }
            let Some(bytes) = text(tree, path.as_bytes())?.filter(|_| tree.inode(id).size > 0) else {
                continue;
            };
            read_rpm(&path, bytes, &mut installed.names)?;
            installed.databases.push(path);
        }
    }
    Ok(())
}

fn read_rpm(path: &str, bytes: &[u8], names: &mut BTreeSet<Vec<u8>>) -> Result<()> {
    let headers: Headers = if bytes.starts_with(sqlite::MAGIC) {
        sqlite::headers
    } else if bytes.starts_with(ndb::MAGIC) {
        ndb::headers
    } else if bytes.get(12..16) == Some(bdb::MAGIC) {
        bdb::headers
    } else {
        return Err(LayerFault::Malformed(format!(
            "expected an RPM database (SQLite, ndb or Berkeley DB hash) in {path}, found another format"
        )));
    };
    let mut count = 0_usize;
    headers(bytes, &mut |header| {
        count += 1;
        if count > MAX_PACKAGES {
            return Err(LayerFault::limit("installed packages", MAX_PACKAGES as u64));
        }
        names.insert(rpm_header::name(header)?);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SQLITE: &[u8] = include_bytes!("../../testdata/native/rpmdb.sqlite");
    const NDB: &[u8] = include_bytes!("../../testdata/native/Packages.db");
    const BDB: &[u8] = include_bytes!("../../testdata/native/Packages");

    fn names(bytes: &[u8]) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        read_rpm("rpmdb", bytes, &mut names)?;
        Ok(names.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect())
    }

    #[test]
    fn all_three_formats_of_rpm_are_read() {
        insta::assert_debug_snapshot!("rpm_sqlite", names(SQLITE).unwrap());
        insta::assert_debug_snapshot!("rpm_ndb", names(NDB).unwrap());
        insta::assert_debug_snapshot!("rpm_bdb", names(BDB).unwrap());
    }

    #[test]
    fn a_cut_database_is_an_error() {
        for bytes in [SQLITE, NDB, BDB] {
            let cut = &bytes[..bytes.len() / 8192 * 4096];
            assert!(names(cut).is_err());
            assert!(names(&bytes[..100]).is_err());
        }
        assert!(
            names(b"something else")
                .unwrap_err()
                .to_string()
                .contains("another format")
        );
        assert!(names(b"").is_err());
    }

    #[test]
    fn pages_that_lead_in_a_circle_are_an_error() {
        // The right-most child of the root of Packages becomes the root itself.
        let mut bytes = SQLITE.to_vec();
        let root = bytes.chunks_exact(4096).position(|p| p[0] == 5).unwrap();
        bytes[root * 4096 + 8..root * 4096 + 12].copy_from_slice(&u32::try_from(root + 1).unwrap().to_be_bytes());
        assert!(names(&bytes).is_err());
    }

    #[test]
    fn only_installed_packages_count() {
        let status = b"Package: a\nStatus: install ok installed\nDescription: x\n Package: no\n\n\
            Package: b\nStatus: deinstall ok config-files\n\nPackage: c\nVersion: 1";
        let mut names = BTreeSet::new();
        dpkg(status, &mut names);
        assert_eq!(names, BTreeSet::from([b"a".to_vec(), b"c".to_vec()]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_spoiled_database_never_panics(which in 0_usize..3, spots in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = [SQLITE, NDB, BDB][which].to_vec();
            for (at, value) in spots {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = names(&bytes);
        }
    }
}
