//! Which files' contents are looked at, and how: kept, searched for secrets, or hashed.
//!
//! Must keep nothing that no rule reads, and nothing above the limits.

use super::error::LayerFault;
use super::limits::{DATABASE_BYTES, FILE_BYTES, Limits};
use super::packages::database;
use super::secrets::{Secrets, basename};
use super::tar_stream::{Header, Kind, TarStream};
use super::tree::Inode;
use sha2::{Digest as _, Sha256};
use std::io::Read;

/// Files that rules read, when they exist; [`IN_FOLDERS`] come on top.
pub(super) const KEPT: &[&str] = &[
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
    "/etc/ld.so.preload",
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/apt/sources.list",
    "/etc/apt/apt.conf",
    "/etc/yum.conf",
    "/etc/dnf/dnf.conf",
    "/etc/apk/repositories",
    database::DPKG,
    database::APK[0],
    database::APK[1],
];

/// Start files and settings in which the search path of root may be set.
pub(super) const START_FILES: &[&str] = &[
    "/etc/profile",
    "/etc/environment",
    "/etc/bash.bashrc",
    "/etc/bashrc",
    "/etc/csh.cshrc",
    "/etc/csh.login",
    "/etc/login.defs",
    "/etc/zsh/zprofile",
    "/etc/zsh/zshenv",
    "/etc/zsh/zshrc",
    "/etc/zshenv",
    "/root/.bash_login",
    "/root/.bash_profile",
    "/root/.bashrc",
    "/root/.cshrc",
    "/root/.kshrc",
    "/root/.login",
    "/root/.pam_environment",
    "/root/.profile",
    "/root/.tcshrc",
    "/root/.zprofile",
    "/root/.zshenv",
    "/root/.zshrc",
];

/// Folders all of whose files with one of these endings are read.
pub(super) const IN_FOLDERS: &[(&str, &[&str])] = &[
    ("/etc/profile.d", &[".sh", ".csh"]),
    ("/etc/apt/sources.list.d", &[".list", ".sources"]),
    ("/etc/apt/apt.conf.d", &[""]),
    ("/etc/yum.repos.d", &[".repo"]),
    ("/etc/dnf/repos.d", &[".repo"]),
    (database::DPKG_PARTS, &[""]),
];

const SHELLS: &[&str] = &[
    "sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh", "busybox",
];

/// What to do with the content of one file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    pub keep: bool,
    /// Kept, although larger than other files may be.
    pub database: bool,
    pub secrets: Secrets,
    pub hash: bool,
}

impl Interest {
    /// By the file's path in the image and its mode.
    pub fn of(path: &[u8], mode: u16) -> Self {
        let database = database::is_database(path);
        Self {
            keep: database || is_kept(path),
            database,
            secrets: Secrets::sought(path),
            hash: mode & 0o6000 != 0 || is_shell(path),
        }
    }

    /// A file that a rule reads because a name that is kept leads to it.
    pub fn kept(path: &[u8]) -> Self {
        Self {
            keep: true,
            database: database::is_database(path),
            ..Self::default()
        }
    }

    pub fn any(self) -> bool {
        self.keep || self.secrets.any() || self.hash
    }

    /// What both want.
    pub fn with(self, other: Self) -> Self {
        Self {
            keep: self.keep || other.keep,
            database: self.database || other.database,
            secrets: self.secrets.with(other.secrets),
            hash: self.hash || other.hash,
        }
    }

    /// What is not yet known of this file.
    pub fn missing(self, inode: &Inode) -> Self {
        if inode.kind != Kind::File || inode.size == 0 {
            return Self::default();
        }
        let extra = inode.extra();
        Self {
            keep: self.keep && extra.is_none_or(|e| e.content.is_none()),
            database: self.database,
            secrets: self.secrets.without(extra.map_or_else(Secrets::default, |e| e.sought)),
            hash: self.hash && extra.is_none_or(|e| e.hash.is_none()),
        }
    }
}

fn is_kept(path: &[u8]) -> bool {
    let named = |list: &[&str]| list.iter().any(|k| k.as_bytes() == path);
    named(KEPT) || named(START_FILES) || IN_FOLDERS.iter().any(|(dir, ends)| is_in(dir, ends, path))
}

fn is_in(dir: &str, ends: &[&str], path: &[u8]) -> bool {
    let name = path
        .strip_prefix(dir.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"/"));
    name.is_some_and(|name| !name.contains(&b'/') && ends.iter().any(|end| name.ends_with(end.as_bytes())))
}

/// Whether this is the path of a command interpreter.
pub(super) fn is_shell(path: &[u8]) -> bool {
    let name = basename(path);
    let dir = &path[..path.len() - name.len()];
    matches!(
        dir,
        b"/bin/" | b"/usr/bin/" | b"/sbin/" | b"/usr/sbin/" | b"/usr/local/bin/"
    ) && SHELLS.iter().any(|s| s.as_bytes() == name)
}

/// Reads the data of the current entry and records what the interest asks for.
pub(super) fn capture<R: Read>(
    interest: Interest,
    header: &Header,
    tar: &mut TarStream<R>,
    inode: &mut Inode,
    kept: &mut u64,
    limits: &Limits,
) -> Result<(), LayerFault> {
    let (most, what) = if interest.database {
        (DATABASE_BYTES, "bytes of a package database")
    } else {
        (FILE_BYTES, "bytes of a configuration file")
    };
    if interest.keep && header.sparse {
        let why = "expected a plain file where rules read one, found a sparse one";
        return Err(LayerFault::Malformed(why.into()));
    }
    if interest.keep && header.size > most {
        return Err(LayerFault::limit(what, most));
    }
    let mut hash = Sha256::new();
    let mut text = Vec::new();
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        let n = tar.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        if interest.hash {
            hash.update(&buffer[..n]);
        }
        if interest.keep || interest.secrets.any() {
            let room = usize::try_from(most).unwrap_or(0).saturating_sub(text.len());
            text.extend_from_slice(&buffer[..n.min(room)]);
        }
    }
    let extra = inode.extra_mut();
    if interest.hash {
        extra.hash = Some(hash.finalize().into());
    }
    if interest.secrets.any() {
        extra.sought = extra.sought.with(interest.secrets);
        extra.held = extra.held.with(interest.secrets.held(&text));
    }
    if interest.keep {
        *kept += text.len() as u64;
        if *kept > limits.content_bytes {
            return Err(LayerFault::limit(
                "bytes of configuration files and package databases",
                limits.content_bytes,
            ));
        }
        text.shrink_to_fit();
        extra.content = Some(text);
    }
    Ok(())
}
