//! What an image has, as the template of a gossfile: packages, accounts, important files, SUID and SGID files.
//!
//! Reads the layers as the native check does and executes nothing. Must not guess: what has no readable name, owner or
//! database is left out, and a database that is not read is named.

use super::error::{LayerFault, NativeError};
use super::layers::{self, outside, text};
use super::layout::Image;
use super::limits::Limits;
use super::packages::database::{APK, DPKG, DPKG_PARTS};
use super::tar_stream::Kind;
use super::tree::{Id, Tree};
use crate::goss::template::{File, Group, Template, User};
use std::collections::BTreeSet;
use std::path::Path;

/// Largest package database that is read: Debian's grows by about 2 KB a package.
const DATABASE_BYTES: u64 = 32 << 20;
/// Most packages of one image.
const MAX_PACKAGES: usize = 50_000;

/// Files and folders whose mode and owner matter (CIS 7.1, 5.2). `/tmp` is missing: the check mounts its own there.
const IMPORTANT: &[&str] = &[
    "/etc",
    "/etc/group",
    "/etc/gshadow",
    "/etc/ld.so.preload",
    "/etc/passwd",
    "/etc/profile",
    "/etc/securetty",
    "/etc/shadow",
    "/etc/shells",
    "/etc/ssh/sshd_config",
    "/etc/sudoers",
    "/root",
    "/var/tmp",
];

const RPM: [&str; 2] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];

/// Reads the one image of an OCI layout. It blocks: call it off the async threads.
pub fn inventory(layout: &Path, limits: &Limits) -> Result<Template, NativeError> {
    let image = Image::open(layout, limits)?;
    let tree = layers::merge(&image, limits)?.tree;
    let databases = databases(&tree).map_err(|fault| outside(&fault))?;
    let contents = layers::contents(&image, &tree, &databases.files, DATABASE_BYTES, limits)?;
    let mut packages = BTreeSet::new();
    for content in &contents {
        collect(content, &mut packages).map_err(|fault| outside(&fault))?;
    }
    let mut template = facts(&tree).map_err(|fault| outside(&fault))?;
    template.packages = packages.into_iter().collect();
    template.unread_packages = databases.unread;
    Ok(template)
}

#[derive(Debug, Default)]
struct Databases {
    files: BTreeSet<Id>,
    unread: Option<String>,
}

fn databases(tree: &Tree) -> Result<Databases, LayerFault> {
    let mut found = Databases::default();
    let mut paths: Vec<Vec<u8>> = [DPKG].into_iter().chain(APK).map(Into::into).collect();
    for name in tree.list(DPKG_PARTS.as_bytes())? {
        // Besides each package stands a list of its checksums.
        if !name.ends_with(b".md5sums") {
            paths.push([DPKG_PARTS.as_bytes(), b"/", &name].concat());
        }
    }
    for path in paths {
        if let Some(id) = tree.resolve(&path, true)?
            && tree.inode(id).kind == Kind::File
        {
            found.files.insert(id);
        }
    }
    for path in RPM {
        if !tree.list(path.as_bytes())?.is_empty() {
            found.unread = Some(path.to_owned());
        }
    }
    Ok(found)
}

/// Names in dpkg's stanzas (`Package:`, installed unless a `Status:` says otherwise) and in apk's (`P:`).
fn collect(content: &[u8], packages: &mut BTreeSet<String>) -> Result<(), LayerFault> {
    let (mut name, mut installed) = (None, true);
    for line in content.split(|b| *b == b'\n').chain([&b""[..]]) {
        if let Some(found) = line.strip_prefix(b"Package:").or_else(|| line.strip_prefix(b"P:")) {
            name = std::str::from_utf8(found.trim_ascii()).ok().map(str::to_owned);
        } else if let Some(status) = line.strip_prefix(b"Status:") {
            installed = status.trim_ascii().ends_with(b" installed");
        } else if line.trim_ascii().is_empty() {
            packages.extend(name.take().filter(|name| installed && !name.is_empty()));
            installed = true;
        }
        if packages.len() > MAX_PACKAGES {
            return Err(LayerFault::limit("packages", MAX_PACKAGES as u64));
        }
    }
    Ok(())
}

fn facts(tree: &Tree) -> Result<Template, LayerFault> {
    let users = lines(text(tree, b"/etc/passwd")?, user);
    let groups = lines(text(tree, b"/etc/group")?, group);
    let mut suid = Vec::new();
    tree.walk(&mut |path, _, inode| {
        if inode.kind == Kind::File && inode.mode & 0o6000 != 0 {
            suid.push(String::from_utf8_lossy(path).into_owned());
        }
    });
    let mut files = Vec::new();
    for path in IMPORTANT.iter().copied().chain(suid.iter().map(String::as_str)) {
        files.extend(file(tree, path, &users, &groups)?);
    }
    Ok(Template {
        has_find: has(tree, "sh")? && has(tree, "find")?,
        users,
        groups,
        files,
        suid,
        ..Template::default()
    })
}

/// The entries of a file; what is not as the format demands is a finding of the native check and no fact.
fn lines<T>(content: Option<&[u8]>, entry: fn(&[&str]) -> Option<T>) -> Vec<T> {
    let content = content.unwrap_or_default().split(|b| *b == b'\n');
    let text = content.filter_map(|line| std::str::from_utf8(line).ok());
    text.filter_map(|line| entry(&line.split(':').collect::<Vec<_>>()))
        .collect()
}

fn user(fields: &[&str]) -> Option<User> {
    let [name, _, uid, gid, _, home, shell] = fields else {
        return None;
    };
    Some(User {
        name: (*name).to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: (*home).to_owned(),
        shell: (*shell).to_owned(),
    })
}

fn group(fields: &[&str]) -> Option<Group> {
    let [name, _, gid, _] = fields else {
        return None;
    };
    Some(Group {
        name: (*name).to_owned(),
        gid: gid.parse().ok()?,
    })
}

/// A file or folder, not a link: Goss does not follow the last one.
fn file(tree: &Tree, path: &str, users: &[User], groups: &[Group]) -> Result<Option<File>, LayerFault> {
    let Some(id) = tree.resolve(path.as_bytes(), false)? else {
        return Ok(None);
    };
    let inode = tree.inode(id);
    let is_folder = match inode.kind {
        Kind::Dir => true,
        Kind::File => false,
        Kind::Symlink | Kind::HardLink | Kind::Char | Kind::Block | Kind::Fifo => return Ok(None),
    };
    Ok(Some(File {
        path: path.to_owned(),
        mode: inode.mode,
        owner: users
            .iter()
            .find(|user| user.uid == inode.uid)
            .map(|user| user.name.clone()),
        group: groups
            .iter()
            .find(|group| group.gid == inode.gid)
            .map(|group| group.name.clone()),
        is_folder,
    }))
}

fn has(tree: &Tree, program: &str) -> Result<bool, LayerFault> {
    for folder in crate::PATH.split(':') {
        if tree.resolve(format!("{folder}/{program}").as_bytes(), true)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Image as Built, Layer, base};
    use super::*;
    use crate::goss::template::gossfile;

    fn of(layers: Vec<Layer>) -> Template {
        let folder = tempfile::tempdir().unwrap();
        Built::new(layers).write(folder.path());
        inventory(folder.path(), &Limits::default()).unwrap()
    }

    #[test]
    fn a_small_debian_becomes_a_gossfile() {
        let status = "Package: base-files\nStatus: install ok installed\nVersion: 12\n\nPackage: gone\n\
                      Status: deinstall ok config-files\n\nPackage: libc6\nStatus: install ok installed\n";
        let more = Layer::new()
            .file("var/lib/dpkg/status", 0o644, status)
            .file("usr/bin/find", 0o755, "ELF find")
            .symlink("usr/bin/sh", "bash");
        insta::assert_snapshot!(gossfile(&of(vec![base(), more])));
    }

    #[test]
    fn each_package_database_is_read_or_named() {
        let apk = of(vec![Layer::new().file(
            "lib/apk/db/installed",
            0o644,
            "P:musl\nV:1\n\nP:busybox\n",
        )]);
        assert_eq!(apk.packages, ["busybox", "musl"]);
        let distroless = of(vec![
            Layer::new()
                .file("var/lib/dpkg/status.d/tzdata", 0o644, "Package: tzdata\nVersion: 1\n")
                .file("var/lib/dpkg/status.d/tzdata.md5sums", 0o644, "Package: no\n"),
        ]);
        assert_eq!(
            (distroless.packages, distroless.has_find),
            (vec!["tzdata".to_owned()], false)
        );
        let rpm = of(vec![Layer::new().file("usr/lib/sysimage/rpm/rpmdb.sqlite", 0o644, "x")]);
        assert_eq!(
            (rpm.packages, rpm.unread_packages.as_deref()),
            (Vec::<String>::new(), Some("/usr/lib/sysimage/rpm"))
        );
    }

    #[test]
    fn a_database_beyond_the_bound_is_an_error_and_no_shorter_list() {
        let folder = tempfile::tempdir().unwrap();
        let large = "x".repeat(usize::try_from(DATABASE_BYTES).unwrap() + 1);
        Built::new(vec![Layer::new().file("var/lib/dpkg/status", 0o644, &large)]).write(folder.path());
        let error = inventory(folder.path(), &Limits::default()).unwrap_err();
        assert!(error.to_string().contains("package database"), "{error}");
    }
}
